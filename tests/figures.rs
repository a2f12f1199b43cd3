//! A figure of a run is the same number wherever it stands: summary, table, page, `show`, comparison, gates, history.
#![allow(
    clippy::unwrap_used,
    reason = "a test ends at the first thing that fails"
)]

use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use replbench::analyse::{
    Analysis, Estimate, Figure, ModeSummary, gates, mode_summaries, run_summary, trend,
};
use replbench::metric::Metric;
use replbench::record::{OnMismatch, Run, files};
use replbench::report;
use replbench::units::{format_ratio, format_seconds, three_digits};
use serde_json::{Value, json};

const FIXTURE: &str = "tests/fixtures/sync-vs-async-made-up";

/// The gates that a profile can have on figures of which a report shows a mean.
const GATED: [&str; 5] = [
    "achieved_tps",
    "service.p50",
    "response.p50",
    "response.p99",
    "visibility.p99",
];

struct Fixture {
    dir: tempfile::TempDir,
    run: PathBuf,
}

/// A copy of the fixture with gates and a report.
fn fixture() -> Fixture {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join(FIXTURE);
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("20260714T091503Z-sync-vs-async-3f2a91c");
    fs::create_dir_all(run.join(files::HISTOGRAMS)).unwrap();
    for folder in ["", files::HISTOGRAMS] {
        for entry in fs::read_dir(from.join(folder)).unwrap().flatten() {
            if entry.file_type().unwrap().is_file() {
                fs::copy(entry.path(), run.join(folder).join(entry.file_name())).unwrap();
            }
        }
    }
    let path = run.join(files::MANIFEST);
    let mut manifest: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let gate = |metric: &str| json!({"name": null, "metric": metric, "mode": null, "node": null, "limit": {"max": 1e9}});
    manifest["profile"]["gates"] = GATED.iter().map(|metric| gate(metric)).collect();
    fs::write(path, manifest.to_string()).unwrap();
    report::write(&run).unwrap();
    Fixture { dir, run }
}

impl Fixture {
    fn replbench(&self, arguments: &[&str]) -> String {
        let output = Command::cargo_bin("replbench")
            .unwrap()
            .args(arguments)
            .current_dir(self.dir.path())
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code().unwrap() < 2, "{error}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn run_word(&self) -> &str {
        self.run.to_str().unwrap()
    }
}

#[track_caller]
fn same(found: f64, expected: f64, what: &str) {
    let near = (found - expected).abs() <= 1e-9 * expected.abs().max(1.0);
    assert!(near, "{what}: {found} is not {expected}");
}

fn figure<'a>(summary: &'a ModeSummary, metric: &str, node: Option<&str>) -> &'a Figure {
    let (name, stat) = metric.split_once('.').unwrap_or((metric, "value"));
    let wanted = Metric::of(name, stat);
    let mut figures = summary.figures.iter();
    figures
        .find(|it| Some(it.metric) == wanted && it.node.as_deref() == node)
        .unwrap()
}

fn value(figure: &Figure) -> f64 {
    figure.estimate.unwrap().value
}

#[test]
fn gates_and_histories_and_the_summary_on_disk_have_the_figures_of_the_report() {
    let fixture = fixture();
    let run = Run::open(&fixture.run).unwrap();
    let table = Analysis::of(&run).modes;
    let read = run_summary(&fixture.run, OnMismatch::LeaveOut).unwrap();
    for (mode, on_disk) in table.modes.iter().zip(mode_summaries(&read)) {
        for figure in on_disk.figures.iter().filter(|it| it.metric.is_judged()) {
            let name = figure.metric.to_string();
            let own = self::figure(&mode.summary, &name, figure.node.as_deref());
            assert_eq!(own.estimate, figure.estimate, "{name} of {}", mode.mode);
        }
    }
    for line in gates(&run) {
        let metric = line.gate.as_ref().unwrap().metric.to_string();
        let mode = table
            .modes
            .iter()
            .find(|it| Some(&it.mode) == line.mode.as_ref());
        let shown = figure(&mode.unwrap().summary, &metric, line.node.as_deref());
        let unit = if metric == "achieved_tps" { 1.0 } else { 1e6 };
        same(line.value.unwrap() * unit, value(shown), &line.subject());
    }
    for series in trend(&[read], &[], &[]) {
        let mode = table
            .modes
            .iter()
            .find(|it| it.mode == series.mode)
            .unwrap();
        let shown = figure(&mode.summary, &series.figure(), series.node.as_deref());
        same(
            series.points[0].value.unwrap(),
            value(shown),
            &series.figure(),
        );
    }
}

#[test]
fn the_comparison_of_modes_has_the_figures_of_the_report() {
    let fixture = fixture();
    let run = Run::open(&fixture.run).unwrap();
    let table = Analysis::of(&run).modes;
    let by_mode = ["compare", fixture.run_word(), "--by", "mode", "--format"];
    let said = fixture.replbench(&[&by_mode[..], &["json"]].concat());
    let comparison: Value = serde_json::from_str(&said).unwrap();
    let mut seen = 0;
    for row in comparison["rows"].as_array().unwrap() {
        let text = |name: &str| row[name].as_str().unwrap().to_owned();
        let metric = match text("stat").as_str() {
            "value" => text("metric"),
            stat => format!("{}.{stat}", text("metric")),
        };
        for side in ["base", "head"] {
            let mode = text(&format!("{side}_mode"));
            let mode = table.modes.iter().find(|it| it.mode == mode).unwrap();
            // Where a repetition has no partner, the row is over the others, and says how many.
            let is_whole = row["pairs"].as_u64() == Some(mode.valid as u64);
            if let Some(found) = row[side].as_f64().filter(|_| is_whole) {
                let shown = figure(&mode.summary, &metric, row["node"].as_str());
                same(found, value(shown), &metric);
                seen += 1;
            }
        }
        let numbers = ["base", "head", "effect"].map(|name| row[name].as_f64());
        let is_censored = row["base_censored"] != 0 || row["head_censored"] != 0;
        if let [Some(base), Some(head), Some(effect)] = numbers
            && !is_censored
        {
            let between = match text("scale").as_str() {
                "ratio" => head / base,
                _ => head - base,
            };
            same(effect, between, &metric);
        }
    }
    assert!(seen > 30, "{seen}");
}

/// A figure as every table has it.
fn in_ms(estimate: Option<Estimate>) -> String {
    let ms = estimate.unwrap().value * 1e3;
    if ms < 0.995 {
        format!("{ms:.3}")
    } else {
        three_digits(ms)
    }
}

#[test]
fn terminal_page_show_and_comparison_print_the_same_digits() {
    let fixture = fixture();
    let run = Run::open(&fixture.run).unwrap();
    let analysis = Analysis::of(&run);
    let table = report::text_table(&analysis.modes, 200);
    let show = fixture.replbench(&["show", fixture.run_word()]);
    let compared = fixture.replbench(&["compare", fixture.run_word(), "--by", "mode"]);
    let page = fs::read_to_string(fixture.run.join(files::REPORT)).unwrap();
    let row_of = |page: &str, mode: &str| {
        let start = page
            .find(&format!("<th scope=\"row\">{mode}</th>"))
            .unwrap();
        page[start..][..page[start..].find("</tr>").unwrap()].to_owned()
    };
    let section = &page[page.find("id=\"modes\"").unwrap()..];
    let line_of = |text: &str, mode: &str| {
        let mut found = text.lines().rev();
        let found = found.find(|line| line.starts_with(&format!("{mode} ")));
        found.unwrap().to_owned()
    };
    for mode in &analysis.modes.modes {
        for (name, estimate) in [
            ("response p50", mode.response_p50),
            ("response p99", mode.response_p99),
            ("visibility p99", mode.visibility_p99),
        ] {
            let digits = in_ms(estimate);
            for (place, text) in [
                ("terminal", line_of(&table, &mode.mode)),
                ("show", line_of(&show, &mode.mode)),
                ("page", row_of(section, &mode.mode)),
            ] {
                assert!(text.contains(&digits), "{name} {digits} in {place}: {text}");
            }
            // The rows of the mode whose repetitions all have a partner.
            if mode.valid == 6 && mode.mode != "async" {
                let from = compared.find(&format!("async → {}", mode.mode)).unwrap();
                let group = &compared[from..];
                assert!(group.contains(&digits), "{name} {digits}: {group}");
            }
        }
    }
}

/// The least and the most, in seconds or as a factor, that is written so.
fn range_of(text: &str) -> (f64, f64) {
    let (digits, unit) = text.split_once(' ').unwrap_or((text, "s"));
    let scale = match unit {
        "µs" => 1e-6,
        "ms" => 1e-3,
        _ => 1.0,
    };
    let decimals = digits.split_once('.').map_or(0, |(_, it)| it.len());
    let half = 0.5 * 10_f64.powi(-i32::try_from(decimals).unwrap());
    let value: f64 = digits.parse().unwrap();
    ((value - half) * scale, (value + half) * scale)
}

/// Whether a person who divides the two values can come to the ratio.
#[track_caller]
fn divides(head: &str, base: &str, ratio: &str) {
    let (head, base, ratio) = (range_of(head), range_of(base), range_of(ratio));
    let quotient = (head.0 / base.1, head.1 / base.0);
    assert!(
        quotient.0 <= ratio.1 && ratio.0 <= quotient.1,
        "{head:?} over {base:?} is not {ratio:?}"
    );
}

#[test]
fn the_sentence_on_a_cost_is_the_row_of_the_comparison() {
    let fixture = fixture();
    let show = fixture.replbench(&["show", fixture.run_word()]);
    let show = show.split_whitespace().collect::<Vec<_>>().join(" ");
    let by_mode = ["compare", fixture.run_word(), "--by", "mode", "--format"];
    let said = fixture.replbench(&[&by_mode[..], &["json"]].concat());
    let comparison: Value = serde_json::from_str(&said).unwrap();
    let medians = comparison["rows"].as_array().unwrap().iter();
    let medians = medians.filter(|row| row["metric"] == "response" && row["stat"] == "p50");
    for row in medians {
        let number = |value: &Value| value.as_f64().unwrap();
        let effect = format_ratio(number(&row["effect"]));
        let interval = format!(
            "95 % interval {} to {}, {} paired repetitions",
            format_ratio(number(&row["interval"]["lo"])),
            format_ratio(number(&row["interval"]["hi"])),
            row["pairs"]
        );
        let mode = row["head_mode"].as_str().unwrap();
        let [base, head] = ["base", "head"].map(|side| format_seconds(number(&row[side]) / 1e6));
        divides(&head, &base, &effect);
        match row["verdict"].as_str().unwrap() {
            "regressed" | "improved" => {
                let sentence = format!(
                    "{effect} times as long as under async ({interval}): {head} against {base}"
                );
                assert!(show.contains(&sentence), "{sentence}: {show}");
            }
            verdict => {
                let part = format!("{mode} ({effect} times as long, {interval}");
                assert!(show.contains(&part), "{part}: {show}");
                let word = if verdict == "equivalent" {
                    "Equivalent:"
                } else {
                    "Inconclusive:"
                };
                assert!(show.contains(word), "{word} {show}");
            }
        }
    }
}
