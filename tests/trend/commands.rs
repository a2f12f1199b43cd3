//! `replbench trend` and `replbench bless` on directories of runs and a repository.

use std::fs;
use std::path::PathBuf;

use assert_cmd::Command;
use replbench::record::files;
use serde_json::Value;

use crate::made::{Made, hash};

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
    let mut schemas = boon::Schemas::new();
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/schemas/trend-1.json");
    let schema = boon::Compiler::new().compile(file, &mut schemas).unwrap();
    schemas.validate(&whole, schema).unwrap();
    let mut broken = whole.clone();
    broken["series"][0]["points"][0]["n"] = "three".into();
    assert!(schemas.validate(&broken, schema).is_err());
    let [series] = whole["series"].as_array().unwrap().as_slice() else {
        panic!("{}", whole["series"])
    };
    let [change] = series["changes"].as_array().unwrap().as_slice() else {
        panic!("{}", series["changes"])
    };
    let index = usize::try_from(change["index"].as_u64().unwrap()).unwrap();
    assert_eq!(series["points"][index]["commit"], merge.as_str());
    assert_eq!(change["verdict"], "regressed");
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
fn no_runs_are_an_error_to_a_strict_caller_only_and_a_mistyped_name_always() {
    let (mut lab, _) = Lab::with_a_slow_merge();
    lab.replbench(&["trend", "--mode", "asinc", "--strict"])
        .code(2);
    let said = lab.stderr(&["trend", "--mode", "asinc"]);
    assert!(said.contains("modes: async"), "{said}");
    lab.replbench(&["trend", "--profile", "nothing"]).code(2);
    let text = lab.stdout(&["trend", "--node", "s1"]);
    assert!(text.contains("visibility.p99 on s1"), "{text}");
    lab.replbench(&["trend", "latency"]).code(2);
    lab.results = lab.results.join("nowhere");
    lab.replbench(&["trend", "--strict"]).code(2);
    let text = lab.stdout(&["trend"]);
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
