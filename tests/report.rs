//! A run directory becomes a report: whole, damaged, hostile.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a test ends at the first thing that fails, and made-up figures are small"
)]

mod made_up;

use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use made_up::{Shape, write_run};
use replbench::analyse::{Analysis, summarise};
use replbench::record::{Run, files};
use replbench::report;
use replbench::sample::CellRow;

const FIXTURE: &str = "tests/fixtures/sync-vs-async-made-up";

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(FIXTURE)
}

/// A copy that may be written to.
fn copy_of_fixture() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join(files::HISTOGRAMS)).unwrap();
    for name in inputs_of(&fixture()) {
        fs::copy(fixture().join(&name), dir.path().join(&name)).unwrap();
    }
    dir
}

/// A run so small that it can be read hundreds of times.
fn tiny() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    write_run(dir.path(), &Shape::tiny());
    dir
}

/// The files of a run, relative.
fn inputs_of(dir: &Path) -> Vec<String> {
    let hist = fs::read_dir(dir.join(files::HISTOGRAMS)).unwrap();
    let hist = hist.map(|entry| {
        format!(
            "{}/{}",
            files::HISTOGRAMS,
            entry.unwrap().file_name().to_str().unwrap()
        )
    });
    let mut names: Vec<String> = hist.collect();
    names.sort();
    let rows = [
        files::MANIFEST,
        files::CELLS,
        files::INTERVALS,
        files::LAG,
        files::VISIBILITY,
        files::EVENTS,
    ];
    names.extend(rows.map(str::to_owned));
    names
}

/// Everything that reads a run, charts included.
fn digest(dir: &Path) -> Option<Run> {
    let run = Run::open(dir).ok()?;
    let analysis = Analysis::of(&run);
    let _ = report::text_table(&analysis.modes, 80);
    let _ = summarise(&run);
    Some(run)
}

#[test]
fn the_table_fits_the_terminal() {
    let run = Run::open(&fixture()).unwrap();
    for width in [40, 60, 80, 120] {
        let table = report::text_table(&Analysis::of(&run).modes, width);
        assert!(
            table
                .lines()
                .all(|line| line.chars().count() <= width.max(68)),
            "{table}"
        );
    }
    insta::assert_snapshot!(report::text_table(&Analysis::of(&run).modes, 80));
}

#[test]
fn the_headline_says_what_sync_costs_and_how_stale_reads_are() {
    let run = Run::open(&fixture()).unwrap();
    insta::assert_snapshot!(Analysis::of(&run).headline.join("\n"));
}

#[test]
fn the_summary_has_every_figure_in_long_form() {
    let run = Run::open(&fixture()).unwrap();
    let rows: Vec<String> = summarise(&run)
        .into_iter()
        .filter(|row| row.cell_id == 1)
        .map(|row| {
            let value = row
                .value
                .map_or_else(String::new, |value| format!("{value:.3}"));
            let node = row.node.unwrap_or_default();
            format!(
                "{} {node} {} {} {value} {} {:?} {}",
                row.mode, row.metric, row.stat, row.unit, row.direction, row.n
            )
        })
        .collect();
    insta::assert_snapshot!(rows.join("\n"));
}

#[test]
fn the_summary_has_no_digits_below_the_nanosecond() {
    let dir = copy_of_fixture();
    let outputs = report::write(dir.path()).unwrap();
    let mut reader = csv::Reader::from_path(outputs.summary).unwrap();
    let place = reader
        .headers()
        .unwrap()
        .iter()
        .position(|head| head == "value")
        .unwrap();
    for record in reader.records() {
        let record = record.unwrap();
        let decimals = record[place].split_once('.').map_or(0, |(_, it)| it.len());
        // One of a million arrivals is not rounded away.
        let most = if record[place - 2].ends_with("_share") {
            9
        } else {
            3
        };
        assert!(decimals <= most, "{record:?}");
    }
}

#[test]
fn the_page_asks_nothing_of_the_network_and_names_cannot_break_out() {
    let dir = copy_of_fixture();
    let outputs = report::write(dir.path()).unwrap();
    let page = fs::read_to_string(&outputs.html).unwrap();
    for bad in [
        "</script>",
        "\u{202e}",
        "\u{1b}",
        "src=\"http",
        "href=\"http",
        "url(",
        "@import",
        "<script",
    ] {
        assert!(!page.contains(bad), "{bad}");
    }
    assert!(
        page.contains("&lt;/script&gt;"),
        "the hostile event is told, escaped"
    );
    assert_eq!(
        page.matches("<svg").count(),
        page.matches("role=\"img\"").count()
    );
    assert_eq!(
        page.matches("<svg").count(),
        page.matches("<title id=").count()
    );
    assert_eq!(outputs.charts.len(), 10);
    assert!(page.len() < 1_000_000, "{}", page.len());
}

/// A chart of a made-up run, as a picture of its own.
fn chart_of(shape: &Shape, id: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    write_run(dir.path(), shape);
    report::write(dir.path()).unwrap();
    let path = dir.path().join(files::CHARTS).join(format!("{id}.svg"));
    fs::read_to_string(path).unwrap()
}

#[test]
fn stale_reads_are_told_as_bounds_and_never_suggested_where_commits_wait() {
    let chart = chart_of(&Shape::tiny(), "staleness");
    let description = chart.split("</desc>").next().unwrap();
    assert!(
        description.contains(
            "under remote_apply on s1: 0 % by definition at once, 0 % by definition after 1 ms"
        ),
        "{description}"
    );
    let under_async = description.split("under async on s2: ").nth(1).unwrap();
    let after_1_ms = under_async.split(" after 1 ms").next().unwrap();
    assert!(
        after_1_ms.contains(" to "),
        "an upper bound alone: {after_1_ms}"
    );
    assert!(!has_label(&chart, "remote_apply s1"), "a line of what is 0");
    for words in [
        "async s1",
        "at most",
        "down to at least",
        "within the resolution",
        "reads that miss the row, at most (%)",
    ] {
        assert!(has_label(&chart, words), "{words}");
    }
}

/// Whether a text stands in a picture by itself.
fn has_label(chart: &str, text: &str) -> bool {
    chart.contains(&format!(">{text}</text>"))
}

#[test]
fn the_marks_of_the_first_chart_are_explained() {
    let chart = chart_of(&Shape::tiny(), "overview");
    for name in [
        "median",
        "99th percentile",
        "95 % interval over repetitions",
        "worst replica",
        "best replica",
    ] {
        assert!(has_label(&chart, name), "{name}");
    }
}

#[test]
fn a_time_no_longer_than_its_resolution_is_an_upper_bound_everywhere() {
    let coarse = Shape {
        resolution_us: 50_000.0,
        ..Shape::tiny()
    };
    let dir = tempfile::tempdir().unwrap();
    write_run(dir.path(), &coarse);
    let run = Run::open(dir.path()).unwrap();
    let table = report::text_table(&Analysis::of(&run).modes, 80);
    assert!(
        table.contains("≤ ") && table.contains("async 50.0, remote_apply 50.0"),
        "{table}"
    );
    let outputs = report::write(dir.path()).unwrap();
    let page = fs::read_to_string(outputs.html).unwrap();
    assert!(page.contains("<td>≤ "), "the table of modes");
    assert!(
        page.contains("visible on the worst replica after at most "),
        "the first chart"
    );
    assert!(
        page.contains("visible p99 at most "),
        "commit time against freshness"
    );
    let fine = digest(tiny().path()).unwrap();
    let table = report::text_table(&Analysis::of(&fine).modes, 80);
    assert!(!table.contains('≤'), "{table}");
}

/// Rewrites `cells.csv`.
fn amend_cells(dir: &Path, amend: impl Fn(&mut CellRow)) {
    let path = dir.join(files::CELLS);
    let mut reader = csv::Reader::from_path(&path).unwrap();
    let mut rows: Vec<CellRow> = reader.deserialize().map(Result::unwrap).collect();
    let mut writer = csv::Writer::from_path(&path).unwrap();
    for row in &mut rows {
        amend(row);
        writer.serialize(row).unwrap();
    }
    writer.flush().unwrap();
}

/// A made-up run that was offered more than it answered, on a busy host, with failures.
fn overloaded() -> tempfile::TempDir {
    let dir = tiny();
    amend_cells(dir.path(), |cell| {
        cell.achieved_tps = 40.2;
        cell.host_busy_share = Some(0.97);
        cell.failed = 3;
        cell.notes = "the servers did not keep up".into();
    });
    dir
}

fn shown(dir: &Path, command: &str, flag: Option<&str>) -> String {
    let mut run = Command::cargo_bin("replbench").unwrap();
    let output = run.arg(command).arg(dir).args(flag).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn an_overloaded_run_says_so_first_wherever_it_is_shown() {
    let dir = overloaded();
    let page = fs::read_to_string(report::write(dir.path()).unwrap().html).unwrap();
    let first = page.find("OVERLOADED in ").unwrap();
    assert!(first < page.find("made the median commit").unwrap_or(usize::MAX));
    assert!(first < page.find("<svg").unwrap());
    for text in [
        shown(dir.path(), "show", None),
        shown(dir.path(), "report", None),
    ] {
        let said = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let told = "OVERLOADED in 4 of 4 repetitions: offered ";
        assert!(said.starts_with(told), "{text}");
        for later in [
            "try at most 32/s.",
            "4 of 4 repetitions on a busy host (above 80 % of its processors, at most 97 %)",
            "transactions under async 6 failed.",
            "the median commit",
        ] {
            assert!(said.contains(later), "{later}: {text}");
        }
    }
    assert!(shown(dir.path(), "show", None).contains("complete, with 5 notes"));
}

#[test]
fn no_page_calls_a_run_with_notes_quiet() {
    let dir = overloaded();
    let page = fs::read_to_string(report::write(dir.path()).unwrap().html).unwrap();
    assert!(!page.contains("nothing was noted"));
    assert!(page.contains("4 of 4 repetitions are valid, with notes"));
}

#[test]
fn the_host_has_a_chart_with_its_figures() {
    let chart = chart_of(&Shape::tiny(), "host");
    assert!(
        chart.contains("Under async: busy 50 % on average and at most 50 %, 0 of 4 seconds above 80 %, steal at most 0 %, iowait at most 2 %."),
        "{chart}"
    );
    for name in [
        "busy",
        "taken by other guests (steal)",
        "waiting for a disk (iowait)",
        "80 % busy",
    ] {
        assert!(has_label(&chart, name), "{name}");
    }
}

#[test]
fn every_id_on_the_page_is_there_once() {
    let dir = copy_of_fixture();
    let outputs = report::write(dir.path()).unwrap();
    let page = fs::read_to_string(&outputs.html).unwrap();
    let mut ids: Vec<&str> = page
        .split(" id=\"")
        .skip(1)
        .map(|rest| &rest[..rest.find('"').unwrap()])
        .collect();
    ids.sort_unstable();
    let before = ids.len();
    ids.dedup();
    assert_eq!(ids.len(), before);
}

#[test]
fn a_truncated_file_costs_its_tail_and_never_a_panic() {
    let dir = tiny();
    for name in inputs_of(dir.path()) {
        // One histogram log stands for all.
        if name.starts_with(files::HISTOGRAMS) && !name.ends_with("001.hlog") {
            continue;
        }
        let path = dir.path().join(&name);
        let whole = fs::read(&path).unwrap();
        let step = whole.len() / 11 + 1;
        for cut in (1..whole.len()).step_by(step) {
            fs::write(&path, &whole[..cut]).unwrap();
            let run = digest(dir.path());
            let told = run.is_none_or(|run| !run.warnings.is_empty());
            assert!(told, "{name} cut at {cut} of {}", whole.len());
        }
        fs::write(&path, whole).unwrap();
    }
}

#[test]
fn garbage_in_any_file_is_no_panic() {
    let dir = tiny();
    for name in inputs_of(dir.path()).into_iter().skip(3) {
        let path = dir.path().join(&name);
        let whole = fs::read(&path).unwrap();
        for (index, garbage) in [
            b"\0\xff\xfe".as_slice(),
            b"NaN",
            b"1e308",
            b"-9223372036854775808",
            b"\n\n,,,",
        ]
        .iter()
        .enumerate()
        {
            for part in [1, 4, 7, 10, 11] {
                let at = whole.len() * part / 12;
                let mut wrong = whole.clone();
                wrong.splice(
                    at..(at + garbage.len() + index).min(whole.len()),
                    garbage.iter().copied(),
                );
                fs::write(&path, wrong).unwrap();
                digest(dir.path());
            }
        }
        fs::write(&path, whole).unwrap();
    }
}

#[test]
fn extreme_figures_still_draw() {
    let dir = copy_of_fixture();
    let path = dir.path().join(files::CELLS);
    let cells = fs::read_to_string(&path).unwrap();
    for (from, to) in [
        (",2.0,", ",1e300,"),
        (",2.0,", ",NaN,"),
        (",2.0,", ",-1,"),
        (",250.0,", ",inf,"),
    ] {
        fs::write(&path, cells.replace(from, to)).unwrap();
        report::write(dir.path()).unwrap();
    }
}

#[test]
fn files_that_are_missing_are_named_and_the_rest_is_drawn() {
    let dir = copy_of_fixture();
    for name in [
        files::LAG,
        files::VISIBILITY,
        files::EVENTS,
        files::INTERVALS,
    ] {
        fs::remove_file(dir.path().join(name)).unwrap();
        let run = digest(dir.path()).unwrap();
        assert!(
            run.warnings.iter().any(|warning| warning.contains(name)),
            "{name}"
        );
        report::write(dir.path()).unwrap();
    }
    fs::remove_dir_all(dir.path().join(files::HISTOGRAMS)).unwrap();
    fs::remove_file(dir.path().join(files::CELLS)).unwrap();
    report::write(dir.path()).unwrap();
}

#[test]
fn without_a_manifest_the_error_names_it_and_the_exit_code_is_6() {
    let dir = copy_of_fixture();
    for content in [
        None,
        Some("{\"schema_version\":1"),
        Some("[]"),
        Some("{\"schema_version\":99}"),
    ] {
        let path = dir.path().join(files::MANIFEST);
        match content {
            Some(content) => fs::write(&path, content).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
        let output = Command::cargo_bin("replbench")
            .unwrap()
            .arg("report")
            .arg(dir.path())
            .output()
            .unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(6), "{error}");
        assert!(error.contains("manifest.json"), "{error}");
    }
}

#[test]
fn charts_behind_a_link_are_refused_with_exit_code_6() {
    let dir = copy_of_fixture();
    let outside = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(outside.path(), dir.path().join(files::CHARTS)).unwrap();
    let output = Command::cargo_bin("replbench")
        .unwrap()
        .arg("report")
        .arg(dir.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(6));
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn an_invalid_run_says_so_first() {
    let dir = copy_of_fixture();
    let path = dir.path().join(files::MANIFEST);
    let manifest = fs::read_to_string(&path).unwrap();
    let manifest = manifest
        .replace("\"status\": \"complete\"", "\"status\": \"invalid\"")
        .replace(
            "\"invalid_reasons\": []",
            "\"invalid_reasons\": [\"s1 never streamed\"]",
        );
    fs::write(&path, manifest).unwrap();
    let run = Run::open(dir.path()).unwrap();
    assert!(
        Analysis::of(&run).cautions[0]
            .text
            .starts_with("INVALID: s1 never streamed"),
        "{:?}",
        Analysis::of(&run).cautions
    );
}

/// Writes a made-up run to the directory in `REPLBENCH_MAKE_UP`, for looking at: `small` or full size by `REPLBENCH_SHAPE`.
#[test]
#[ignore = "a tool, not a test"]
fn make_up_a_run() {
    let dir = std::env::var("REPLBENCH_MAKE_UP").unwrap();
    let shape = match std::env::var("REPLBENCH_SHAPE").as_deref() {
        Ok("small") => Shape::small(),
        Ok("ladder") => Shape {
            modes: vec![
                "off",
                "local",
                "remote_write",
                "sync",
                "remote_apply",
                "sync:any-2",
                "cascade",
            ],
            standbys: 3,
            reps: 3,
            ..Shape::sync_vs_async()
        },
        Ok("large") => Shape {
            seconds: 25,
            rate: 5_000.0,
            ..Shape::sync_vs_async()
        },
        Ok("long") => Shape {
            seconds: 250,
            ..Shape::sync_vs_async()
        },
        _ => Shape::sync_vs_async(),
    };
    write_run(Path::new(&dir), &shape);
}
