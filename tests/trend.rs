//! Made-up runs become a trend: in the order of commits, with the change where it was put, blessed, exported.
#![allow(
    clippy::unwrap_used,
    reason = "a test ends at the first thing that fails"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use replbench::analyse::{Blessing, Scale, Series, Verdict, trend};
use replbench::record::{
    Harness, Host, Manifest, NodeInfo, RunStatus, SCHEMA_VERSION, Session, Sheet, Side, Subject,
    files,
};
use replbench::report;
use replbench::sample::{CellRow, Direction, SummaryRow};
use serde_json::{Value, json};

/// Noise of some 1 %, the same for ever.
const NOISE: [f64; 12] = [
    1.0, 1.012, 0.991, 1.006, 0.987, 1.009, 0.995, 1.003, 0.989, 1.011, 0.998, 1.005,
];

/// A made-up run; the fields that tests change are public to them.
#[derive(Clone)]
struct Made {
    id: String,
    commit: Option<String>,
    started_at: String,
    status: RunStatus,
    modes: Vec<String>,
    /// Medians in microseconds; `None`: censored.
    response: Option<f64>,
    visibility: Option<f64>,
    invalid_cells: bool,
}

impl Made {
    fn new(number: usize, commit: &str, response: f64) -> Self {
        Self {
            id: format!("run-{number:03}"),
            commit: Some(commit.to_owned()),
            started_at: format!("2026-07-{:02}T09:15:{:02}.5Z", number / 60 + 1, number % 60),
            status: RunStatus::Complete,
            modes: vec!["async".into()],
            response: Some(response * NOISE[number % NOISE.len()]),
            visibility: Some(400.0 * NOISE[(number + 5) % NOISE.len()]),
            invalid_cells: false,
        }
    }

    fn sheet(&self) -> Sheet {
        let mut cells = Vec::new();
        let mut figures = Vec::new();
        for (index, mode) in self.modes.iter().enumerate() {
            for rep in 1..=3 {
                let cell_id = u32::try_from(index * 3).unwrap() + rep;
                cells.push(cell(cell_id, mode, rep, !self.invalid_cells));
                // The middle repetition is the median.
                let factor = 0.98 + 0.01 * f64::from(rep);
                figures.extend(self.figures(cell_id, mode, rep, factor));
            }
        }
        Sheet {
            dir: PathBuf::from(&self.id),
            manifest: self.manifest(),
            cells,
            figures: Some(figures),
            warnings: Vec::new(),
        }
    }

    fn figures(&self, cell_id: u32, mode: &str, rep: u32, factor: f64) -> Vec<SummaryRow> {
        let row =
            |standby: Option<&str>, metric: &str, stat: &str, value: Option<f64>| SummaryRow {
                cell_id,
                mode: mode.to_owned(),
                rep,
                standby: standby.map(Into::into),
                metric: metric.into(),
                stat: stat.into(),
                value: value.map(|value| (value * factor * 1e3).round() / 1e3),
                unit: if metric == "achieved_tps" {
                    "1/s"
                } else {
                    "us"
                }
                .into(),
                direction: if metric == "achieved_tps" {
                    Direction::HigherIsBetter
                } else {
                    Direction::LowerIsBetter
                },
                n: 4_000,
            };
        let rate = self.response.map(|response| 1e6 / response);
        vec![
            row(None, "achieved_tps", "value", rate),
            row(None, "response", "p99", self.response),
            row(None, "response", "p999", self.response),
            row(Some("s1"), "visibility", "p99", self.visibility),
            row(
                Some("s1"),
                "visibility_send",
                "p99",
                self.visibility.map(|it| it + 1_000.0),
            ),
        ]
    }

    fn manifest(&self) -> Manifest {
        let modes: Vec<Value> = self.modes.iter().map(|name| mode(name)).collect();
        Manifest {
            schema_version: SCHEMA_VERSION,
            run_id: self.id.clone(),
            status: self.status,
            invalid_reasons: Vec::new(),
            warnings: Vec::new(),
            started_at: self.started_at.clone(),
            ended_at: None,
            argv: Vec::new(),
            profile: json!({
                "profile": "shop",
                "modes": modes,
                "probes": {"visibility": true},
            }),
            workload_hash: "6b86b273ff34fce19d6b804eff5a3f57".into(),
            seed: 1,
            harness: Harness {
                version: "0.1.0".into(),
                git: None,
            },
            subject: Subject {
                git: self.commit.clone(),
                tags: BTreeMap::new(),
            },
            session: None,
            host: Host {
                host_id: "5d41402abc4b".into(),
                cores: 2,
                filesystem: "ext4".into(),
                ..Host::default()
            },
            nodes: vec![node("1 primary, 1 standby", "primary")],
            files: BTreeMap::new(),
        }
    }

    /// As `record` would have written it, the distributions left out: a summary that is whole needs none.
    fn write(&self, results: &Path) {
        let dir = results.join(&self.id);
        fs::create_dir_all(&dir).unwrap();
        let sheet = self.sheet();
        let manifest = serde_json::to_vec_pretty(&sheet.manifest).unwrap();
        fs::write(dir.join(files::MANIFEST), manifest).unwrap();
        write_csv(&dir.join(files::CELLS), &sheet.cells);
        write_csv(&dir.join(files::SUMMARY), &sheet.figures.unwrap());
    }
}

fn write_csv<T: serde::Serialize>(path: &Path, rows: &[T]) {
    let mut writer = csv::Writer::from_path(path).unwrap();
    for row in rows {
        writer.serialize(row).unwrap();
    }
    writer.flush().unwrap();
}

fn mode(name: &str) -> Value {
    json!({
        "name": name,
        "level": "on",
        "sync": null,
        "topology": {"standbys": 1, "cascading": 0, "archive": 0, "subscribers": 0},
    })
}

fn node(cluster: &str, name: &str) -> NodeInfo {
    NodeInfo {
        cluster: cluster.into(),
        name: name.into(),
        role: "primary".into(),
        version: "17.2 (Debian 17.2-1)".into(),
        settings: [("fsync", "on"), ("max_wal_size", "4GB")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
    }
}

fn cell(cell_id: u32, mode: &str, rep: u32, valid: bool) -> CellRow {
    CellRow {
        cell_id,
        mode: mode.into(),
        rep,
        block: rep,
        order_idx: cell_id,
        started_at: "2026-07-14T09:15:03Z".into(),
        warmup_s: 2.0,
        measured_s: 8.0,
        offered_tps: Some(500.0),
        achieved_tps: 500.0,
        offered: 4_000,
        acked: 4_000,
        acked_with_warning: 0,
        failed: 0,
        indeterminate: 0,
        missed: 0,
        peak_backlog: 0,
        peak_in_flight: 4,
        load_cpu_share: None,
        probe_cpu_share: None,
        host_busy_share: None,
        host_steal_share: None,
        wal_bytes: None,
        valid,
        notes: String::new(),
    }
}

/// Hashes that git could have made.
fn hash(number: usize) -> String {
    format!("{number:07x}{:033x}", 0)
}

/// One run for each of `count` commits, slower by `factor` from commit `at` on.
fn step(count: usize, at: usize, factor: f64) -> (Vec<Made>, Vec<String>) {
    let order: Vec<String> = (0..count).map(hash).collect();
    let runs = (0..count).map(|number| {
        let factor = if number < at { 1.0 } else { factor };
        Made::new(number, &order[number], 1_000.0 * factor)
    });
    (runs.collect(), order)
}

fn sheets(runs: &[Made]) -> Vec<Sheet> {
    runs.iter().map(Made::sheet).collect()
}

fn response(all: Vec<Series>) -> Series {
    let mut found = all.into_iter().filter(|it| it.figure() == "response.p99");
    let series = found.next().unwrap();
    assert_eq!(found.next(), None);
    series
}

fn blessing(commit: &str) -> Blessing {
    Blessing {
        commit: commit.into(),
        metric: None,
        mode: None,
        reason: None,
        at: String::new(),
    }
}

#[test]
fn a_step_is_a_regression_of_its_commit_and_for_a_rate_too() {
    let (runs, order) = step(12, 7, 1.2);
    let all = trend(&sheets(&runs), &order, &[]);
    let figures: Vec<String> = all.iter().map(Series::figure).collect();
    assert_eq!(figures, ["achieved_tps", "response.p99", "visibility.p99"]);
    for (series, effect) in all[..2].iter().zip([1.0 / 1.2, 1.2]) {
        let [change] = series.changes.as_slice() else {
            panic!("{:?}", series.changes)
        };
        assert_eq!((change.index, change.previous), (7, 6));
        assert_eq!(change.verdict, Verdict::Regressed);
        assert!((change.effect.unwrap() / effect - 1.0).abs() < 0.01);
        assert!(change.p <= 0.05 && series.has_regressed());
    }
    assert_eq!(all[2].changes, []);
    let point = &all[1].points[0];
    assert_eq!(
        (point.value, point.n, point.censored),
        (Some(1_000.0), 3, 0)
    );
    assert!(point.lo.unwrap() < 1_000.0 && 1_000.0 < point.hi.unwrap());
}

#[test]
fn a_shift_within_the_threshold_is_shown_as_equivalent() {
    let (runs, order) = step(24, 12, 1.04);
    let series = response(trend(&sheets(&runs), &order, &[]));
    assert_eq!(series.changes.len(), 1);
    assert_eq!(series.changes[0].verdict, Verdict::Equivalent);
    assert!(series.standing().is_none() && !series.has_regressed());
}

#[test]
fn runs_stand_by_commit_then_changes_then_the_unknown() {
    let order: Vec<String> = (0..4).map(hash).collect();
    let run = |number: usize, commit: Option<String>| Made {
        commit,
        ..Made::new(number, "", 1_000.0)
    };
    let runs = [
        run(0, None),
        run(1, Some(hash(2))),
        run(2, Some(format!("{}-dirty", hash(1)))),
        run(3, Some("elsewhere".into())),
        run(4, Some(hash(1))),
        run(5, Some(hash(1))),
        run(6, Some(hash(3))),
        run(7, None),
    ];
    let series = response(trend(&sheets(&runs), &order, &[]));
    let ids: Vec<&str> = series.points.iter().map(|it| it.run_id.as_str()).collect();
    // 0 was before any known commit; 3 came after 2 had been run, however old what followed.
    let expected = [0, 4, 5, 2, 1, 3, 6, 7].map(|number| format!("run-{number:03}"));
    assert_eq!(ids, expected);
}

#[test]
fn time_is_not_text() {
    let mut runs = [Made::new(0, "a", 1.0), Made::new(1, "b", 1.0)];
    runs[0].started_at = "2026-07-01T09:15:03.105Z".into();
    runs[1].started_at = "2026-07-01T09:15:03Z".into();
    let series = response(trend(&sheets(&runs), &[], &[]));
    assert_eq!(series.points[0].run_id, "run-001");
}

#[test]
fn other_conditions_make_another_series() {
    type Change = fn(&mut Sheet);
    let apart: [(&str, Change); 9] = [
        ("host", |it| it.manifest.host.host_id = "other".into()),
        ("cores", |it| it.manifest.host.cores = 4),
        ("file system", |it| {
            it.manifest.host.filesystem = "xfs".into()
        }),
        ("workload", |it| it.manifest.workload_hash = "other".into()),
        ("profile", |it| it.manifest.profile["profile"] = "x".into()),
        ("probes", |it| {
            it.manifest.profile["probes"]["visibility"] = false.into();
        }),
        ("mode", |it| {
            it.manifest.profile["modes"][0]["level"] = "off".into();
        }),
        ("major", |it| it.manifest.nodes[0].version = "18.0".into()),
        ("setting", |it| {
            let settings = &mut it.manifest.nodes[0].settings;
            settings.insert("wal_compression".into(), "lz4".into());
        }),
    ];
    let together: [(&str, Change); 5] = [
        ("minor", |it| it.manifest.nodes[0].version = "17.5".into()),
        ("path", |it| {
            let settings = &mut it.manifest.nodes[0].settings;
            settings.insert("archive_command".into(), "cp %p '/tmp/x/%f'".into());
        }),
        ("servers of another mode", |it| {
            let other = node("1 primary, 1 subscriber", "primary");
            it.manifest.nodes.push(other);
        }),
        ("harness", |it| it.manifest.harness.version = "9".into()),
        ("seed", |it| it.manifest.seed = 2),
    ];
    let count = |change: Change| {
        let (runs, order) = step(2, 9, 1.0);
        let mut sheets = sheets(&runs);
        change(&mut sheets[1]);
        let all = trend(&sheets, &order, &[]);
        all.iter()
            .filter(|it| it.figure() == "response.p99")
            .count()
    };
    for (what, change) in apart {
        assert_eq!(count(change), 2, "{what}");
    }
    for (what, change) in together {
        assert_eq!(count(change), 1, "{what}");
    }
}

#[test]
fn other_binaries_of_a_session_are_another_series() {
    let (runs, order) = step(2, 9, 1.0);
    let mut sheets = sheets(&runs);
    let session = |side, items: &[&str]| {
        Some(Session {
            id: "session".into(),
            side,
            other: String::new(),
            items: items.iter().map(|item| (*item).to_owned()).collect(),
        })
    };
    sheets[0].manifest.session = session(Side::Base, &[]);
    sheets[1].manifest.session = session(Side::Head, &["git=v2"]);
    assert_eq!(trend(&sheets, &order, &[]).len(), 3);
    sheets[1].manifest.session = session(Side::Head, &["bindir=/opt/patched/bin"]);
    assert_eq!(trend(&sheets, &order, &[]).len(), 6);
}

#[test]
fn invalid_runs_are_shown_and_not_counted() {
    let (mut runs, order) = step(14, 7, 1.2);
    runs[3].response = Some(9_000.0);
    runs[3].status = RunStatus::Invalid;
    runs[10].invalid_cells = true;
    runs[12].status = RunStatus::Interrupted;
    let series = response(trend(&sheets(&runs), &order, &[]));
    assert_eq!(series.points.len(), 14);
    assert!(!series.points[3].counts() && series.points[3].value.is_some());
    assert!(!series.points[10].counts() && series.points[10].value.is_none());
    assert!(series.points[12].counts());
    assert_eq!(series.changes.len(), 1);
    // Places are those among all points.
    assert_eq!(
        (series.changes[0].index, series.changes[0].previous),
        (7, 6)
    );
}

#[test]
fn a_run_that_was_found_twice_counts_once() {
    let (mut runs, order) = step(8, 9, 1.0);
    runs.extend(runs.clone());
    let series = response(trend(&sheets(&runs), &order, &[]));
    assert_eq!(series.points.len(), 8);
}

#[test]
fn censored_figures_are_worse_than_all_others() {
    let (mut runs, order) = step(14, 7, 1.0);
    for run in &mut runs[7..] {
        run.visibility = None;
    }
    let all = trend(&sheets(&runs), &order, &[]);
    let series = all.iter().find(|it| it.metric == "visibility").unwrap();
    let change = &series.changes[0];
    assert_eq!((change.index, change.after, change.effect), (7, None, None));
    assert!(change.before.is_some());
    assert_eq!(change.verdict, Verdict::Regressed);
}

#[test]
fn values_that_are_not_above_zero_have_differences() {
    let (mut runs, order) = step(14, 7, 1.0);
    for (number, run) in runs.iter_mut().enumerate() {
        let delay = if number < 7 { -30.0 } else { 100.0 };
        run.visibility = Some(delay + 10.0 * NOISE[number % NOISE.len()]);
    }
    let visibility = |runs: &[Made]| {
        let all = trend(&sheets(runs), &order, &[]);
        all.into_iter()
            .find(|it| it.metric == "visibility")
            .unwrap()
    };
    let series = visibility(&runs);
    let change = &series.changes[0];
    assert_eq!((change.index, change.scale), (7, Scale::Difference));
    assert!((change.effect.unwrap() - 130.0).abs() < 1.0);
    assert_eq!(change.verdict, Verdict::Regressed);
    // From the send a commit takes 1 ms here, of which 20 µs are 2 %.
    for (number, run) in runs.iter_mut().enumerate() {
        let delay = if number < 7 { -30.0 } else { -10.0 };
        run.visibility = Some(delay + NOISE[number % NOISE.len()]);
    }
    assert_eq!(visibility(&runs).changes[0].verdict, Verdict::Equivalent);
}

#[test]
fn a_blessing_accepts_what_came_in_with_its_commit() {
    let (mut runs, order) = step(14, 8, 1.2);
    // Nobody has run commit 7: the step may be of 7 or of 8.
    runs.remove(7);
    let accepted = |blessings: &[Blessing], runs: &[Made]| {
        let series = response(trend(&sheets(runs), &order, blessings));
        assert_eq!(series.changes.len(), 1);
        assert_eq!(series.has_regressed(), !series.changes[0].blessed);
        series.changes[0].blessed
    };
    for (commit, expected) in [(8, true), (7, true), (6, false), (9, false), (99, false)] {
        assert_eq!(
            accepted(&[blessing(&hash(commit))], &runs),
            expected,
            "{commit}"
        );
    }
    let of = |metric: Option<&str>, mode: Option<&str>| Blessing {
        metric: metric.map(Into::into),
        mode: mode.map(Into::into),
        ..blessing(&hash(8))
    };
    for (metric, mode, expected) in [
        (Some("response"), None, true),
        (Some("response.p99"), Some("async"), true),
        (Some("response.p50"), None, false),
        (Some("visibility"), None, false),
        (None, Some("sync"), false),
    ] {
        let blessings = [of(metric, mode)];
        assert_eq!(accepted(&blessings, &runs), expected, "{metric:?} {mode:?}");
    }
    // A change on top of commit 6 that was never committed is not what 6 or 8 brought.
    runs[7].commit = Some(format!("{}-dirty", hash(6)));
    assert!(!accepted(&[blessing(&hash(6))], &runs));
    assert!(!accepted(&[blessing(&hash(8))], &runs));
    // Without an order only the very commit is known.
    runs[7].commit = Some(hash(8));
    let by_time = |commit| {
        let series = response(trend(&sheets(&runs), &[], &[blessing(&hash(commit))]));
        series.changes[0].blessed
    };
    assert!(by_time(8) && !by_time(7));
}

// ---- with directories, a repository and the command line

struct Lab {
    _root: tempfile::TempDir,
    repo: PathBuf,
    results: PathBuf,
}

impl Lab {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let (repo, results) = (root.path().join("repo"), root.path().join("results"));
        fs::create_dir(&repo).unwrap();
        fs::create_dir(&results).unwrap();
        let lab = Self {
            _root: root,
            repo,
            results,
        };
        lab.git(&["init", "--quiet", "--initial-branch=main"]);
        lab
    }

    fn git(&self, arguments: &[&str]) -> String {
        let output = Command::new("git")
            .args(["-c", "user.name=t", "-c", "user.email=t@example.org"])
            .args(["-c", "commit.gpgsign=false"])
            .args(arguments)
            .current_dir(&self.repo)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_AUTHOR_DATE", "2026-07-01T00:00:00Z")
            .env("GIT_COMMITTER_DATE", "2026-07-01T00:00:00Z")
            .unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn commit(&self, message: &str) -> String {
        self.git(&["commit", "--quiet", "--allow-empty", "-m", message]);
        self.git(&["rev-parse", "HEAD"])
    }

    /// Eight commits, of which two on a branch, and the merge of it that makes all that follows slower. Every commit bears the
    /// same date, and the runs were made from the newest commit to the oldest.
    fn with_a_slow_merge() -> (Self, String) {
        let lab = Self::new();
        let mut fast: Vec<String> = (0..4).map(|it| lab.commit(&format!("fast {it}"))).collect();
        lab.git(&["checkout", "--quiet", "-b", "side"]);
        fast.extend((0..2).map(|it| lab.commit(&format!("side {it}"))));
        lab.git(&["checkout", "--quiet", "main"]);
        fast.extend((4..6).map(|it| lab.commit(&format!("fast {it}"))));
        lab.git(&["merge", "--quiet", "--no-ff", "-m", "merge", "side"]);
        let merge = lab.git(&["rev-parse", "HEAD"]);
        let mut slow = vec![merge.clone()];
        slow.extend((0..5).map(|it| lab.commit(&format!("slow {it}"))));
        let all = fast
            .iter()
            .map(|it| (it, 1_000.0))
            .chain(slow.iter().map(|it| (it, 1_300.0)));
        for (number, (commit, response)) in all.rev().enumerate() {
            Made::new(number, commit, response).write(&lab.results);
        }
        (lab, merge)
    }

    fn replbench(&self, arguments: &[&str]) -> assert_cmd::assert::Assert {
        Command::cargo_bin("replbench")
            .unwrap()
            .args(arguments)
            .args(["--results", self.results.to_str().unwrap()])
            .args(["--repo", self.repo.to_str().unwrap()])
            .assert()
    }

    fn stdout(&self, arguments: &[&str]) -> String {
        let output = self.replbench(arguments).success().get_output().clone();
        String::from_utf8(output.stdout).unwrap()
    }

    fn stderr(&self, arguments: &[&str]) -> String {
        let output = self.replbench(arguments).get_output().clone();
        String::from_utf8(output.stderr).unwrap()
    }
}

#[test]
fn the_step_is_found_at_the_merge_that_brought_it() {
    let (lab, merge) = Lab::with_a_slow_merge();
    let text = lab.stdout(&["trend", "response.p99", "--format", "json"]);
    let whole: Value = serde_json::from_str(&text).unwrap();
    let series: Vec<Series> = serde_json::from_value(whole["series"].clone()).unwrap();
    let [series] = series.as_slice() else {
        panic!("{} series", series.len())
    };
    assert_eq!(series.changes.len(), 1);
    let change = &series.changes[0];
    assert_eq!(series.points[change.index].commit, Some(merge.clone()));
    assert_eq!(change.verdict, Verdict::Regressed);
    let text = lab.stdout(&["trend"]);
    assert!(text.contains(&format!("since {}", &merge[..7])), "{text}");
    assert!(text.contains("REGRESSED"), "{text}");
}

#[test]
fn strict_fails_until_the_regression_is_blessed() {
    let (lab, merge) = Lab::with_a_slow_merge();
    lab.replbench(&["trend"]).code(0);
    lab.replbench(&["trend", "--strict"]).code(1);
    lab.replbench(&["trend", "visibility", "--strict"]).code(0);
    let said = lab.stdout(&[
        "bless",
        &merge[..10],
        "--metric",
        "response.p99",
        "--reason",
        "durable at last",
    ]);
    assert!(said.starts_with(&format!("blessed {merge}, response.p99")));
    lab.replbench(&["trend", "--strict"]).code(0);
    lab.replbench(&["trend", "achieved_tps", "--strict"])
        .code(1);
    let text = lab.stdout(&["trend"]);
    assert!(text.contains("blessed: durable at last"), "{text}");
}

#[test]
fn bless_adds_a_line_and_spoils_none() {
    let (lab, merge) = Lab::with_a_slow_merge();
    let file = lab.results.join("blessed.jsonl");
    lab.stdout(&["bless", "HEAD", "--mode", "async"]);
    // Somebody edits it and leaves no line end.
    let edited = format!(
        "{}{{\"commit\":\"{merge}\"}}",
        fs::read_to_string(&file).unwrap()
    );
    fs::write(&file, &edited).unwrap();
    lab.stdout(&["bless", "HEAD~1"]);
    let known = lab.stdout(&["bless", "HEAD~1"]);
    assert!(known.starts_with("already blessed"), "{known}");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.starts_with(&edited));
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(
        lines[2]["commit"],
        lab.git(&["rev-parse", "HEAD~1"]).as_str()
    );
    assert!(lines[0]["at"].as_str().unwrap().ends_with('Z'));
    lab.replbench(&["bless", "no-such-commit"]).code(2);
    lab.replbench(&["bless", "HEAD", "--metric", "respose"])
        .code(2);
    let elsewhere = lab.results.join("elsewhere");
    fs::rename(&file, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &file).unwrap();
    lab.replbench(&["bless", "HEAD~2"]).code(6);
    assert_eq!(fs::read_to_string(&elsewhere).unwrap(), text);
}

#[test]
fn broken_lines_are_warned_of_and_the_others_used() {
    let (lab, merge) = Lab::with_a_slow_merge();
    let lines = format!(
        "\u{feff}{{\"commit\": \"{}\"}}\r\n\nnot json \u{1b}[31m\n{{\"commit\":\"abc1234\"}}\n\
         {{\"commit\":\"{merge}\",\"metric\":\"speed\"}}\n{{\"commit\":\"{merge}\",\"note\":\"unknown keys are fine\"}}\n",
        hash(1)
    );
    let bytes = [lines.as_bytes(), b"\xff\xfe\n"].concat();
    fs::write(lab.results.join("blessed.jsonl"), bytes).unwrap();
    lab.replbench(&["trend", "--strict"]).code(0);
    let said = lab.stderr(&["trend"]);
    for line in [3, 4, 5, 7] {
        assert!(said.contains(&format!("line {line}: ")), "{said}");
    }
    assert_eq!(said.lines().count(), 4, "{said}");
    assert!(!said.contains('\u{1b}'), "{said}");
}

#[test]
fn foreign_and_broken_directories_are_warned_of_and_left_out() {
    let (lab, _) = Lab::with_a_slow_merge();
    fs::create_dir(lab.results.join("holiday-pictures")).unwrap();
    fs::write(lab.results.join("index.jsonl"), "").unwrap();
    let broken = lab.results.join("broken");
    fs::create_dir(&broken).unwrap();
    fs::write(broken.join(files::MANIFEST), "{\"run_id\":").unwrap();
    let copies = lab.results.join("published");
    let first = Made::new(0, &lab.git(&["rev-parse", "HEAD"]), 1_300.0);
    first.write(&copies);
    let text = lab.stdout(&["trend"]);
    assert!(text.contains("14 runs"), "{text}");
    let said = lab.stderr(&["trend"]);
    assert_eq!(said.matches("warning: ").count(), 1, "{said}");
    assert!(said.contains("broken"), "{said}");
}

#[test]
fn without_a_repository_runs_stand_by_time() {
    let (mut lab, _) = Lab::with_a_slow_merge();
    lab.repo = lab.results.clone();
    let said = lab.stderr(&["trend"]);
    assert!(said.contains("note: runs stand by time"), "{said}");
    // Made from the newest commit to the oldest, the step is one down.
    let text = lab.stdout(&["trend"]);
    assert!(text.contains("improved"), "{text}");
    lab.replbench(&["trend", "--strict"]).code(0);
    // Another repository knows none of the commits.
    let other = Lab::new();
    other.commit("unrelated");
    lab.repo = other.repo.clone();
    let said = lab.stderr(&["trend"]);
    assert!(said.contains("none of their commits"), "{said}");
}

#[test]
fn no_runs_are_no_error_and_a_mistyped_name_is_one() {
    let (mut lab, _) = Lab::with_a_slow_merge();
    lab.replbench(&["trend", "--mode", "asinc", "--strict"])
        .code(2);
    let said = lab.stderr(&["trend", "--mode", "asinc"]);
    assert!(said.contains("modes: async"), "{said}");
    lab.replbench(&["trend", "--profile", "nothing"]).code(2);
    lab.replbench(&["trend", "latency"]).code(2);
    lab.results = lab.results.join("nowhere");
    let text = lab.stdout(&["trend", "--strict"]);
    assert!(text.starts_with("no runs in `"), "{text}");
    assert!(text.contains("replbench run PROFILE"), "{text}");
    assert_eq!(lab.stdout(&["trend", "--format", "openmetrics"]), "# EOF\n");
    assert_eq!(
        lab.stdout(&["trend", "--format", "github-action-benchmark"]),
        "[]\n"
    );
    assert_eq!(
        lab.stdout(&["trend", "--format", "otava"]),
        "time,commit,run\n"
    );
    assert_eq!(lab.stdout(&["trend", "--format", "csv"]).lines().count(), 1);
}

/// Two modes, one with a hostile name; a regression, an invalid run, and a figure that is censored in the newest run.
fn colourful() -> Vec<Series> {
    let (mut runs, order) = step(10, 5, 1.25);
    for run in &mut runs {
        run.modes.push("a\"b\\c=\u{1b}[31m|\n</script>".into());
    }
    runs[2].status = RunStatus::Invalid;
    runs[9].visibility = None;
    let reason = Some("asked for".to_owned());
    let blessed = Blessing {
        mode: Some("async".into()),
        reason,
        ..blessing(&hash(5))
    };
    trend(&sheets(&runs), &order, &[blessed])
}

#[test]
fn the_text_is_as_it_was() {
    insta::assert_snapshot!(report::trend_text(&colourful(), 80));
}

#[test]
fn the_csv_has_a_row_a_point() {
    let series = colourful();
    let text = report::trend_csv(&series).unwrap();
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let columns = reader.headers().unwrap().len();
    let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    assert!(rows.iter().all(|row| row.len() == columns));
    assert_eq!(rows.len(), 60);
    let async_response: Vec<_> = text
        .lines()
        .filter(|line| line.contains(",async,,response,"))
        .collect();
    insta::assert_snapshot!(format!(
        "{}\n{}",
        text.lines().next().unwrap(),
        async_response.join("\n")
    ));
}

#[test]
fn the_export_for_github_action_benchmark_holds_one_direction() {
    let series = colourful();
    let lower = report::trend_github_action_benchmark(&series, Direction::LowerIsBetter);
    let entries: Vec<Value> = serde_json::from_str(&lower).unwrap();
    // The newest visibility is censored: it has no number, and no older one stands for it.
    assert_eq!(entries.len(), 2, "{lower}");
    insta::assert_snapshot!(lower);
    let higher = report::trend_github_action_benchmark(&series, Direction::HigherIsBetter);
    let entries: Vec<Value> = serde_json::from_str(&higher).unwrap();
    assert_eq!(entries.len(), 2);
    assert_eq!(entries[0]["unit"], "1/s");
}

#[test]
fn series_of_one_name_get_their_id_as_well() {
    let (runs, order) = step(2, 9, 1.0);
    let mut sheets = sheets(&runs);
    sheets[1].manifest.host.host_id = "other".into();
    let series = trend(&sheets, &order, &[]);
    let text = report::trend_github_action_benchmark(&series, Direction::LowerIsBetter);
    let entries: Vec<Value> = serde_json::from_str(&text).unwrap();
    let mut names: Vec<&str> = entries
        .iter()
        .map(|it| it["name"].as_str().unwrap())
        .collect();
    assert_eq!(names.len(), 4);
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 4, "{text}");
}

#[test]
fn the_export_for_otava_has_a_row_a_run() {
    let text = report::trend_otava(&colourful()).unwrap();
    assert_eq!(text.lines().count(), 10);
    insta::assert_snapshot!(text);
}

#[test]
fn otava_sees_every_run_in_the_order_of_commits_whatever_its_modes() {
    let (mut runs, order) = step(6, 9, 1.0);
    runs[1].modes = vec!["sync".into()];
    runs[4].modes = vec!["sync".into(), "async".into()];
    let text = report::trend_otava(&trend(&sheets(&runs), &order, &[])).unwrap();
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    let ids: Vec<&str> = rows.iter().map(|row| &row[2]).collect();
    assert_eq!(
        ids,
        [
            "run-000", "run-001", "run-002", "run-003", "run-004", "run-005"
        ]
    );
    let filled = |row: &csv::StringRecord| row.iter().skip(3).filter(|it| !it.is_empty()).count();
    assert_eq!(
        rows.iter().map(filled).collect::<Vec<_>>(),
        [3, 3, 3, 3, 6, 3]
    );
}

#[test]
fn the_openmetrics_are_as_they_were() {
    insta::assert_snapshot!(report::trend_openmetrics(&colourful()));
}

#[test]
fn the_text_fits_the_terminal_however_long_the_history_and_its_names() {
    let (mut runs, order) = step(300, 150, 1.2);
    for run in &mut runs {
        run.modes = vec!["sync:any-2".repeat(12), "\u{202e}x y\t".repeat(9)];
    }
    runs[150].commit = None;
    runs[150].id = "a-very-long-run-id-".repeat(6);
    let reason = Some("because ".repeat(40));
    let blessed = Blessing {
        reason,
        ..blessing(&hash(151))
    };
    let series = trend(&sheets(&runs), &order, &[blessed]);
    for width in [60, 80] {
        let text = report::trend_text(&series, width);
        for line in text.lines() {
            assert!(line.chars().count() <= width, "{line}");
        }
        assert!(!text.contains('\u{202e}'));
        let lines: Vec<&str> = text.lines().collect();
        let mark = lines.iter().position(|line| line.trim() == "^").unwrap();
        let column = lines[mark].find('^').unwrap();
        let blocks: Vec<char> = lines[mark - 1].chars().collect();
        let before: Vec<char> = blocks[2..column].to_vec();
        let after: Vec<char> = blocks[column..].to_vec();
        // Higher figures have higher blocks, and the code points go up with the height.
        assert!(
            before.iter().max() < after.iter().min() || before.iter().min() > after.iter().max()
        );
    }
}
