//! Gates on made-up runs: what is merged, what fails for want of data, and what the caller is told.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a test ends at the first thing that fails, and made-up figures are small"
)]

mod made_up;

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use made_up::{Shape, write_run};
use replbench::analyse::{Analysis, GateLine, gates, summarise};
use replbench::record::{Run, files};
use replbench::report;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A run of async and `remote_apply`, two repetitions each, with these gates.
fn gated(gates: Value) -> TempDir {
    gated_as(&Shape::tiny(), gates)
}

fn gated_as(shape: &Shape, gates: Value) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    write_run(dir.path(), shape);
    set_gates(dir.path(), gates);
    dir
}

fn set_gates(dir: &Path, gates: Value) {
    amend(dir, |manifest| manifest["profile"]["gates"] = gates);
}

fn amend(dir: &Path, change: impl FnOnce(&mut Value)) {
    let path = dir.join(files::MANIFEST);
    let mut manifest = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut manifest);
    fs::write(path, manifest.to_string()).unwrap();
}

/// Changes the column of one row of `cells.csv`.
fn set_cell(dir: &Path, cell_id: u32, column: &str, value: &str) {
    let path = dir.join(files::CELLS);
    let mut reader = csv::Reader::from_path(&path).unwrap();
    let head = reader.headers().unwrap().clone();
    let at = head.iter().position(|name| name == column).unwrap();
    let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    let mut writer = csv::Writer::from_path(&path).unwrap();
    writer.write_record(&head).unwrap();
    for row in rows {
        let is_meant = row[0] == cell_id.to_string();
        let changed = row.iter().enumerate().map(|(index, field)| match index {
            _ if is_meant && index == at => value,
            _ => field,
        });
        writer.write_record(changed).unwrap();
    }
    writer.flush().unwrap();
}

/// Adds a row of `events.csv` about the primary, or the head and a row.
fn add_event(dir: &Path, cell_id: u32, kind: &str, detail: &str) {
    let path = dir.join(files::EVENTS);
    let mut text = fs::read_to_string(&path).unwrap();
    if text.is_empty() {
        text.push_str("cell_id,t_us,node,kind,sqlstate,count,detail\n");
    }
    let row = format!("{cell_id},9000000,primary,{kind},,60,{detail}\n");
    text.push_str(&row);
    fs::write(path, text).unwrap();
}

fn lines(dir: &Path) -> Vec<GateLine> {
    gates(&Run::open(dir).unwrap())
}

/// The only line of a gate on `metric`, with what else it says.
#[track_caller]
#[allow(
    clippy::needless_pass_by_value,
    reason = "callers make the limit where they name it"
)]
fn line(dir: &Path, metric: &str, place: (&str, Option<&str>), limit: Value) -> GateLine {
    let (mode, node) = place;
    let gate = json!({"name": null, "metric": metric, "mode": mode, "node": node, "limit": limit});
    set_gates(dir, json!([gate]));
    let mut lines = lines(dir);
    assert_eq!(lines.len(), 1, "{lines:#?}");
    lines.remove(0)
}

#[track_caller]
fn fails_without_data(line: &GateLine, because: &str) {
    assert!(!line.passed && line.value.is_none(), "{line:#?}");
    let reason = line.reason.as_deref().unwrap_or_default();
    assert!(reason.contains(because), "{reason}");
}

fn seconds(max: f64) -> Value {
    json!({"max": max})
}

#[test]
fn a_gate_has_a_line_for_every_mode_and_replica() {
    let shape = Shape {
        modes: vec!["async", "logical"],
        ..Shape::tiny()
    };
    let dir = gated_as(
        &shape,
        json!([
            {"name": "browse", "metric": "visibility.p99", "mode": null, "node": null, "limit": {"max": 5.0}},
            {"name": null, "metric": "response.p99", "mode": null, "node": null, "limit": {"max": 5.0}},
            {"name": null, "metric": "unseen", "mode": null, "node": "s1", "limit": {"max": 0.0}},
        ]),
    );
    let places: Vec<_> = lines(dir.path())
        .into_iter()
        .inspect(|line| assert!(line.passed, "{line:?}"))
        .map(|line| {
            (
                line.number,
                line.mode.unwrap(),
                line.node.unwrap_or_default(),
            )
        })
        .collect();
    let expected = [
        (1, "async", "s1"),
        (1, "async", "s2"),
        (1, "logical", "sub1"),
        (2, "async", ""),
        (2, "logical", ""),
        (3, "async", "s1"),
    ];
    let expected: Vec<_> = expected
        .map(|(number, mode, node)| (number, mode.to_owned(), node.to_owned()))
        .into();
    assert_eq!(places, expected);
}

#[test]
fn a_gate_judges_the_mean_of_valid_repetitions_and_leaves_invalid_ones_out() {
    let dir = gated(json!([]));
    let place = ("async", Some("s1"));
    let judged = line(dir.path(), "visibility.p99", place, seconds(1.0));
    let run = Run::open(dir.path()).unwrap();
    let cells: Vec<_> = run.cells_of("async").into_iter().cloned().collect();
    assert_eq!(judged.n, cells.iter().map(|cell| cell.acked).sum::<u64>());
    let rows = summarise(&run);
    let p99 = |cell: u32| {
        let row = rows.iter().find(|row| {
            row.cell_id == cell
                && row.node.as_deref() == Some("s1")
                && (row.metric.as_str(), row.stat.as_str()) == ("visibility", "p99")
        });
        row.unwrap().value.unwrap() / 1e6
    };
    let expected = f64::midpoint(p99(cells[0].cell_id), p99(cells[1].cell_id));
    let found = judged.value.unwrap();
    assert!((found - expected).abs() < 1e-8, "{found} {expected}");

    set_cell(dir.path(), cells[0].cell_id, "valid", "false");
    let alone = line(dir.path(), "visibility.p99", place, seconds(1.0));
    assert_eq!(alone.n, cells[1].acked);
    let expected = p99(cells[1].cell_id);
    assert!((alone.value.unwrap() - expected).abs() < 1e-8);

    set_cell(dir.path(), cells[1].cell_id, "valid", "false");
    let none = line(dir.path(), "visibility.p99", place, seconds(1.0));
    fails_without_data(&none, "no repetition is valid");
}

#[test]
fn arrivals_that_were_never_sent_count_as_slower_than_all() {
    let dir = gated(json!([]));
    let place = ("async", None);
    let before = line(dir.path(), "response.p99", place, seconds(60.0));
    assert!(before.passed);
    let run = Run::open(dir.path()).unwrap();
    let cell = run.cells_of("async")[0].clone();
    set_cell(
        dir.path(),
        cell.cell_id,
        "missed",
        &(before.n / 20).to_string(),
    );
    let after = line(dir.path(), "response.p99", place, seconds(60.0));
    assert!(!after.passed && after.value.is_none(), "{after:?}");
    assert_eq!(after.n, before.n + before.n / 20);
    let slowest = line(dir.path(), "service.max", place, seconds(60.0))
        .value
        .unwrap();
    // At least as much as the slowest of the repetition in which it is not known.
    let beyond = after.beyond.unwrap();
    assert!(1e-6 < beyond && beyond <= slowest * 1.01, "{after:?}");
    assert!(after.found().starts_with("more than "), "{}", after.found());
    assert!(
        after
            .reason
            .unwrap()
            .contains("missed, failed or never answered")
    );
    // What is larger than the slowest on record is surely larger than 1 µs, and may be larger than 60 s.
    assert!(line(dir.path(), "response.p99", place, json!({"min": 1e-6})).passed);
    assert!(!line(dir.path(), "response.p99", place, json!({"min": 60.0})).passed);
    assert!(line(dir.path(), "response.p50", place, seconds(60.0)).passed);
    assert!(line(dir.path(), "service.p99", place, seconds(60.0)).passed);
    let start = line(dir.path(), "start_lag.p99", place, seconds(60.0));
    assert!(!start.passed, "{start:?}");
}

#[test]
fn transactions_that_failed_count_as_slower_than_all() {
    let dir = gated(json!([]));
    let place = ("async", None);
    let before = line(dir.path(), "response.p99", place, seconds(60.0));
    let run = Run::open(dir.path()).unwrap();
    let cell = run.cells_of("async")[0].clone();
    let failed = before.n / 20;
    set_cell(dir.path(), cell.cell_id, "failed", &failed.to_string());
    for metric in ["response.p99", "service.p99"] {
        let after = line(dir.path(), metric, place, seconds(60.0));
        assert!(!after.passed && after.value.is_none(), "{after:?}");
        assert_eq!(after.n, before.n + failed);
    }
    // They were sent all the same.
    assert!(line(dir.path(), "start_lag.p99", place, seconds(60.0)).passed);
}

#[test]
fn a_commit_that_no_read_saw_breaks_every_budget() {
    let shape = Shape {
        modes: vec!["async"],
        reps: 3,
        seconds: 2,
        ..Shape::tiny()
    };
    let dir = gated_as(&shape, json!([]));
    for (node, unseen) in [("s1", 0), ("s2", 7)] {
        let place = ("async", Some(node));
        let all = line(dir.path(), "visibility.max", place, seconds(86_400.0));
        assert_eq!(all.passed, unseen == 0, "{all:?}");
        let count = line(dir.path(), "unseen", place, seconds(6.0));
        assert_eq!(count.value.unwrap() as u64, unseen);
        assert_eq!(count.passed, unseen == 0);
        assert!(line(dir.path(), "visibility.p50", place, seconds(1.0)).passed);
        // Its WAL went on while the replica was gone.
        let lag = line(dir.path(), "replay_lag_bytes.max", place, seconds(1e12));
        assert_eq!(lag.passed, unseen == 0, "{lag:?}");
        assert_eq!(lag.beyond.is_some(), unseen > 0);
    }
}

#[test]
fn totals_are_sums_and_the_rate_is_the_mean() {
    let dir = gated(json!([]));
    let run = Run::open(dir.path()).unwrap();
    let ids: Vec<u32> = run
        .cells_of("async")
        .iter()
        .map(|cell| cell.cell_id)
        .collect();
    for (id, tps, length) in [(ids[0], "100", "2"), (ids[1], "200", "6")] {
        set_cell(dir.path(), id, "achieved_tps", tps);
        set_cell(dir.path(), id, "measured_s", length);
        set_cell(dir.path(), id, "failed", "3");
        set_cell(dir.path(), id, "indeterminate", "2");
    }
    let value = |metric| {
        line(dir.path(), metric, ("async", None), json!({"min": 0.0}))
            .value
            .unwrap()
    };
    // As every table has it: the geometric mean of the repetitions.
    assert!((value("achieved_tps") - 20_000_f64.sqrt()).abs() < 1e-9);
    assert!((value("failed") - 6.0).abs() < 1e-9);
    assert!((value("indeterminate") - 4.0).abs() < 1e-9);
    assert!(value("missed").abs() < 1e-9);
    let slow = line(
        dir.path(),
        "achieved_tps",
        ("async", None),
        json!({"min": 141.5}),
    );
    assert!(!slow.passed);
}

#[test]
fn a_read_on_the_primary_is_as_fresh_as_the_count_of_its_rows_is_right() {
    let dir = gated(json!([]));
    let place = ("async", Some("primary"));
    let now = || line(dir.path(), "visibility.max", place, seconds(0.0));
    fails_without_data(&now(), "its rows were not counted");
    let run = Run::open(dir.path()).unwrap();
    let cells: Vec<_> = run.cells_of("async").into_iter().cloned().collect();
    add_event(dir.path(), cells[0].cell_id, "rows", "Product");
    fails_without_data(&now(), &format!("after cell {}", cells[1].cell_id));
    add_event(dir.path(), cells[1].cell_id, "rows", "Product");
    let fresh = now();
    assert!(fresh.passed, "{fresh:?}");
    assert_eq!(fresh.n, cells.iter().map(|cell| cell.acked).sum::<u64>());
    // Also when the cell that lost one is invalid for it.
    add_event(
        dir.path(),
        cells[1].cell_id,
        "rows_wrong",
        "`primary` has 59 rows",
    );
    set_cell(dir.path(), cells[1].cell_id, "valid", "false");
    fails_without_data(&now(), "`primary` has 59 rows");
}

#[test]
fn what_a_run_does_not_have_fails() {
    let dir = gated(json!([]));
    let at = |metric, mode, node| line(dir.path(), metric, (mode, node), seconds(1e9));
    fails_without_data(&at("response.p99", "sync", None), "no such mode");
    fails_without_data(&at("unseen", "async", Some("s9")), "no such replica");
    fails_without_data(
        &at("replay_lag.p99", "async", Some("sub1")),
        "no such replica",
    );
    let odd = json!([{"metric": "response.p98", "limit": {"max": 1.0}}, 5]);
    set_gates(dir.path(), odd);
    for (index, line) in lines(dir.path()).iter().enumerate() {
        assert_eq!(line.subject(), format!("gate {}", index + 1));
        fails_without_data(line, "cannot be read");
    }
    set_gates(dir.path(), json!("all"));
    fails_without_data(&lines(dir.path())[0], "cannot be read");
    set_gates(dir.path(), Value::Null);
    assert_eq!(lines(dir.path()), []);
}

#[test]
fn damaged_files_never_let_a_gate_pass() {
    let metrics = [
        ("response.p50", None),
        ("start_lag.p50", None),
        ("visibility.p50", Some("s1")),
        ("unseen", Some("s1")),
        ("replay_lag_bytes.p50", Some("s1")),
        ("replay_lag.p50", Some("s1")),
    ];
    let passed = |dir: &Path| {
        metrics.map(|(metric, node)| line(dir, metric, ("async", node), seconds(1e9)).passed)
    };
    let dir = gated(json!([]));
    assert_eq!(passed(dir.path()), [true; 6]);
    let hist = dir.path().join(files::HISTOGRAMS).join(files::histogram(1));
    let whole = fs::read(&hist).unwrap();
    // The second of two seconds is cut off.
    let text = String::from_utf8(whole.clone()).unwrap();
    let half: Vec<&str> = text
        .lines()
        .filter(|line| !line.contains(",1.000,1.000,"))
        .collect();
    assert!(half.len() < text.lines().count());
    fs::write(&hist, half.join("\n") + "\n").unwrap();
    assert_eq!(passed(dir.path()), [false, false, false, true, true, true]);
    fs::remove_file(&hist).unwrap();
    assert_eq!(passed(dir.path()), [false, false, false, true, true, true]);
    fs::write(&hist, whole).unwrap();
    fs::remove_file(dir.path().join(files::LAG)).unwrap();
    assert_eq!(passed(dir.path()), [true, true, true, true, false, false]);
    fs::remove_file(dir.path().join(files::VISIBILITY)).unwrap();
    assert!(!passed(dir.path())[3], "unseen");
    fs::remove_file(dir.path().join(files::CELLS)).unwrap();
    assert_eq!(passed(dir.path()), [false; 6]);
}

/// What `report` says, and its exit code.
fn reported(dir: &Path) -> (i32, String) {
    let output = Command::cargo_bin("replbench")
        .unwrap()
        .arg("report")
        .arg(dir)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    (output.status.code().unwrap(), text)
}

#[test]
fn a_failed_gate_ends_a_sound_run_with_1_and_comes_first() {
    let gates = |max: f64| {
        json!([
            {"name": "cart", "metric": "response.p99", "mode": null, "node": null, "limit": {"max": max}},
            {"name": null, "metric": "achieved_tps", "mode": "async", "node": null, "limit": {"min": 1.0}},
        ])
    };
    let dir = gated(gates(5.0));
    let (code, text) = reported(dir.path());
    assert_eq!(code, 0, "{text}");
    assert!(text.starts_with("All 2 gates passed.\n"), "{text}");
    assert_eq!(text.matches("\nPASS  ").count(), 3, "{text}");

    set_gates(dir.path(), gates(1e-6));
    let (code, text) = reported(dir.path());
    assert_eq!(code, 1, "{text}");
    assert!(
        text.starts_with("1 of 2 gates failed: cart: response.p99 under async is "),
        "{text}"
    );
    assert_eq!(text.matches("\nFAIL  cart: ").count(), 2, "{text}");
    assert!(
        text.lines().all(|line| line.chars().count() <= 80),
        "{text}"
    );
    assert!(
        !text.contains('\u{1b}'),
        "a pipe takes no colours: {text:?}"
    );

    for (status, expected) in [
        ("invalid", 5),
        ("interrupted", 4),
        ("failed", 4),
        ("running", 4),
    ] {
        amend(dir.path(), |manifest| {
            manifest["status"] = json!(status);
        });
        assert_eq!(reported(dir.path()).0, expected, "{status}");
        set_gates(dir.path(), gates(5.0));
        assert_eq!(reported(dir.path()).0, expected, "{status}");
        set_gates(dir.path(), gates(1e-6));
    }
    set_gates(dir.path(), json!([]));
    assert_eq!(
        reported(dir.path()).0,
        0,
        "without gates a report is a drawing"
    );
}

#[test]
fn the_page_has_the_gates_behind_the_answer_and_hostile_names_do_nothing() {
    let name = "</script><img src=x>\u{202e}\u{1b}[31m|`";
    let dir = gated(json!([
        {"name": name, "metric": "response.p99", "mode": "async", "node": null, "limit": {"max": 1e-6}},
        {"name": null, "metric": "unseen", "mode": name, "node": name, "limit": {"max": 0.0}},
    ]));
    let page = fs::read_to_string(report::write(dir.path()).unwrap().html).unwrap();
    for bad in ["</script>", "<img", "\u{202e}", "\u{1b}"] {
        assert!(!page.contains(bad), "{bad}");
    }
    let at = |part: &str| page.find(part).unwrap_or_else(|| panic!("{part}"));
    assert!(at("class=\"bad\">2 of 2 gates failed") < at("<section id=\"gates\""));
    assert!(at("<section id=\"gates\"") < at("<section id=\"modes\""));
    assert!(page.contains("href=\"#gates\""));
    assert_eq!(page.matches(">FAIL<").count(), 2);
    let (_, text) = reported(dir.path());
    assert!(!text.contains(['\u{202e}', '\u{1b}']), "{text:?}");

    set_gates(dir.path(), json!([]));
    let page = fs::read_to_string(report::write(dir.path()).unwrap().html).unwrap();
    assert!(
        !page.contains("gates\""),
        "nothing about gates where there are none"
    );
}

#[test]
fn an_invalid_run_is_called_that_before_its_gates_are() {
    let gate = json!([{"name": null, "metric": "response.p99", "mode": null, "node": null, "limit": {"max": 1e-6}}]);
    let dir = gated(gate);
    amend(dir.path(), |manifest| {
        manifest["status"] = json!("invalid");
    });
    let said = Analysis::of(&Run::open(dir.path()).unwrap()).cautions;
    let said: Vec<&str> = said.iter().map(|caution| caution.text.as_str()).collect();
    assert!(said[0].starts_with("INVALID"), "{said:?}");
    assert!(
        said[1].starts_with("The gate failed: response.p99 under async is "),
        "{said:?}"
    );
    assert!(said[1].contains("under remote_apply"), "{said:?}");
}
