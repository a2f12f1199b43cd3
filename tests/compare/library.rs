//! Which run a word means, and what becomes of runs that are listed, shown, removed or damaged.

use std::fs;

use assert_cmd::Command;
use serde_json::json;

use crate::light::LightRun;
use crate::{BASE, json_of, replbench, times};

#[test]
fn a_revision_means_the_newest_run_that_was_made_of_it() {
    let repository = tempfile::tempdir().unwrap();
    let git = |arguments: &[&str]| {
        let output = Command::new("git")
            .args(["-c", "user.name=t", "-c", "user.email=t@example.invalid"])
            .args(arguments)
            .current_dir(repository.path())
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    git(&["init", "-q"]);
    let mut commits = Vec::new();
    for message in ["one", "two", "three"] {
        git(&["commit", "-q", "--allow-empty", "-m", message]);
        commits.push(git(&["rev-parse", "HEAD"]));
    }
    let runs = [
        ("1-old", 0, 3.0, ""),
        ("2-new", 0, 1.0, ""),
        ("3-dirty", 0, 9.0, "-dirty"),
        ("4", 1, 1.2, ""),
    ];
    for (id, commit, factor, suffix) in runs {
        let mut run = LightRun::of_response(id, &times(factor));
        run.manifest["subject"]["git"] = json!(format!("{}{suffix}", commits[commit]));
        run.write(repository.path());
    }
    let said = replbench(
        repository.path(),
        &["compare", "HEAD~2", "HEAD~1", "--format", "json"],
    );
    let comparison = json_of(&said);
    assert_eq!(comparison["base"]["run_id"], "2-new");
    assert_eq!(comparison["head"]["run_id"], "4");
    assert_eq!(said.code, 1);
    let unknown = replbench(repository.path(), &["compare", "HEAD", "4"]);
    assert_eq!(unknown.code, 6);
    assert!(unknown.err.contains("no run in"), "{}", unknown.err);
    let nonsense = replbench(repository.path(), &["compare", "--", "-x", "4"]);
    assert_eq!(nonsense.code, 6, "{}", nonsense.err);
    assert!(
        nonsense.err.contains("neither a run directory"),
        "{}",
        nonsense.err
    );
}

#[test]
fn damaged_and_foreign_directories_are_told_of_and_never_a_panic() {
    let results = tempfile::tempdir().unwrap();
    LightRun::of_response("good", &BASE).write(results.path());
    let cut = LightRun::of_response("cut", &times(1.0)).write(results.path());
    let cells = fs::read_to_string(cut.join("cells.csv")).unwrap();
    fs::write(cut.join("cells.csv"), &cells[..cells.len() - 30]).unwrap();
    let foreign = results.path().join("foreign");
    fs::create_dir(&foreign).unwrap();
    fs::write(
        foreign.join("manifest.json"),
        "{\"name\": \"an npm package\"}",
    )
    .unwrap();
    fs::create_dir(results.path().join("empty")).unwrap();

    let said = replbench(
        results.path(),
        &["compare", "good", "cut", "--format", "json"],
    );
    assert_eq!(said.code, 0, "{}", said.err);
    let comparison = json_of(&said);
    assert!(
        comparison["notes"].to_string().contains("cells.csv"),
        "{}",
        said.out
    );
    let rows = comparison["rows"].as_array().unwrap();
    let row = rows.iter().find(|row| row["metric"] == "response").unwrap();
    assert_eq!(row["head_n"], 5);

    for word in ["foreign", "empty", "absent"] {
        let said = replbench(results.path(), &["compare", "good", word]);
        assert_eq!(said.code, 6, "{word}: {}", said.err);
        assert!(said.err.contains(word), "{}", said.err);
    }
    let listed = replbench(results.path(), &["list", "--runs"]);
    assert_eq!(listed.code, 0);
    assert!(listed.err.contains("foreign"), "{}", listed.err);
    assert_eq!(listed.out.lines().count(), 2, "{}", listed.out);
    let index = fs::read_to_string(results.path().join("index.jsonl")).unwrap();
    assert_eq!(index.lines().count(), 2);
}

#[test]
fn a_summary_that_is_cut_short_is_not_half_used() {
    let results = tempfile::tempdir().unwrap();
    let run = LightRun::of_response("run", &BASE).write(results.path());
    LightRun::of_response("other", &BASE).write(results.path());
    let summary = fs::read_to_string(run.join("summary.csv")).unwrap();
    fs::write(run.join("summary.csv"), &summary[..summary.len() - 40]).unwrap();
    // Without distributions there is nothing to make it again from.
    let said = replbench(
        results.path(),
        &[
            "compare", "run", "other", "--format", "json", "--metric", "response",
        ],
    );
    let comparison = json_of(&said);
    assert_eq!(comparison["rows"][0]["base_n"], 0, "{}", said.out);
    assert_eq!(comparison["verdict"], "not_comparable");
}

#[test]
fn rm_takes_whole_names_of_ended_runs_only() {
    let results = tempfile::tempdir().unwrap();
    let first = LightRun::of_response("2026-a", &BASE).write(results.path());
    let second = LightRun::of_response("2026-b", &BASE).write(results.path());
    let mut running = LightRun::of_response("2026-c", &BASE);
    running.manifest["status"] = json!("running");
    let running = running.write(results.path());
    let foreign = results.path().join("foreign");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("manifest.json"), "{}").unwrap();
    for refused in [
        &["rm", "2026"][..],
        &["rm", "2026-a", "absent"],
        &["rm", "2026-a", "2026-c"],
        &["rm", "2026-a", "foreign"],
    ] {
        let said = replbench(results.path(), refused);
        assert_ne!(said.code, 0, "{refused:?}");
        assert!(
            first.exists() && second.exists() && running.exists() && foreign.exists(),
            "{refused:?}"
        );
    }
    assert_eq!(replbench(results.path(), &["rm", "2026-a"]).code, 0);
    assert!(!first.exists() && second.exists());
    assert_eq!(
        replbench(results.path(), &["rm", "2026-c", "--force"]).code,
        0
    );
    let index = fs::read_to_string(results.path().join("index.jsonl")).unwrap();
    assert_eq!(index.lines().count(), 1);
}

#[test]
fn show_says_what_a_run_was() {
    let results = tempfile::tempdir().unwrap();
    let mut run = LightRun::of_response("2026-a", &BASE);
    run.manifest["subject"]["tags"] = json!({"branch": "\u{1b}[31mred"});
    run.write(results.path());
    let said = replbench(results.path(), &["show", "2026"]);
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.out.contains("status      complete"), "{}", said.out);
    assert!(said.out.contains("branch=\\u{1b}[31mred"), "{}", said.out);
}
