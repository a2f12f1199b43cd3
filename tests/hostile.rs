//! What careless and hostile surroundings do to the commands that read results: closed and full outputs, links, pipes and
//! directories in the place of files, names made to repaint a terminal.
#![allow(
    clippy::unwrap_used,
    reason = "a test ends at the first thing that fails"
)]

#[path = "made_up/light.rs"]
mod light;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use assert_cmd::Command;
use light::{LightRun, figure};
use serde_json::json;

const VALUES: [f64; 6] = [900.0, 912.0, 905.0, 921.0, 898.0, 909.0];

/// Runs a line of the shell in `results`, in which `$REPLBENCH` is the program.
fn shell(results: &Path, line: &str) -> Output {
    let mut command = Command::new("sh");
    command
        .args(["-c", line])
        .env("REPLBENCH", env!("CARGO_BIN_EXE_replbench"))
        .current_dir(results)
        .timeout(Duration::from_mins(1));
    command.output().unwrap()
}

fn said(results: &Path, line: &str) -> (Option<i32>, String, String) {
    let output = shell(results, line);
    (
        output.status.code(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

#[test]
fn a_message_that_nobody_can_read_changes_no_exit_code() {
    let results = tempfile::tempdir().unwrap();
    LightRun::of_response("run", &VALUES).write(results.path());
    for (line, code) in [
        ("$REPLBENCH compare absent run --results . 2>/dev/full", 6),
        ("$REPLBENCH list --runs --results . >/dev/full 2>&1", 6),
        ("$REPLBENCH trend all --results . --repo / 2>/dev/full", 0),
        ("$REPLBENCH clean . >/dev/full", 0),
    ] {
        assert_eq!(said(results.path(), line).0, Some(code), "{line}");
    }
}

#[test]
fn rm_follows_no_link_however_it_is_written() {
    let results = tempfile::tempdir().unwrap();
    let run = LightRun::of_response("run", &VALUES).write(results.path());
    symlink("run", results.path().join("link")).unwrap();
    for link in ["link", "link/", "link/.", "./link//"] {
        let line = format!("$REPLBENCH rm --results . {link}");
        let (code, _, err) = said(results.path(), &line);
        assert_eq!(code, Some(2), "{link}: {err}");
        assert!(err.contains("is a link"), "{err}");
        assert!(run.join("manifest.json").exists(), "{link}");
        assert!(run.join("cells.csv").exists(), "{link}");
    }
}

#[test]
fn rm_removes_a_run_once_that_is_named_twice() {
    let results = tempfile::tempdir().unwrap();
    LightRun::of_response("run", &VALUES).write(results.path());
    let (code, out, err) = said(results.path(), "$REPLBENCH rm --results . run ./run/");
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(out.lines().count(), 1, "{out}");
}

#[test]
fn runs_are_listed_though_the_index_cannot_be_written() {
    let results = tempfile::tempdir().unwrap();
    LightRun::of_response("run", &VALUES).write(results.path());
    fs::create_dir(results.path().join("index.jsonl")).unwrap();
    let (code, out, err) = said(results.path(), "$REPLBENCH list --runs --results .");
    assert_eq!(code, Some(0), "{err}");
    assert!(out.starts_with("run "), "{out}");
    assert!(err.contains("index.jsonl"), "{err}");
}

#[test]
fn a_pipe_in_the_place_of_a_file_is_not_waited_for() {
    for file in ["cells.csv", "summary.csv", "manifest.json"] {
        let results = tempfile::tempdir().unwrap();
        LightRun::of_response("good", &VALUES).write(results.path());
        let run = LightRun::of_response("run", &VALUES).write(results.path());
        fs::remove_file(run.join(file)).unwrap();
        let line = format!("mkfifo run/{file} && exec $REPLBENCH show run --results .");
        let (code, _, err) = said(results.path(), &line);
        let expected = if file == "manifest.json" { 6 } else { 0 };
        assert_eq!(code, Some(expected), "{file}: {err}");
        let line = "exec $REPLBENCH compare good run --results . --force";
        let code = said(results.path(), line).0;
        assert_eq!(code, Some(expected), "{file}");
    }
}

#[test]
fn a_refusal_does_not_repaint_the_terminal() {
    let results = tempfile::tempdir().unwrap();
    LightRun::of_response("base", &VALUES).write(results.path());
    let mut head = LightRun::of_response("head", &VALUES);
    head.manifest["host"]["filesystem"] = json!("\u{1b}[2J\u{202e}4txe");
    head.write(results.path());
    let (code, _, err) = said(results.path(), "$REPLBENCH compare base head --results .");
    assert_eq!(code, Some(7), "{err}");
    assert!(err.contains("host.filesystem"), "{err}");
    assert!(!err.contains(['\u{1b}', '\u{202e}']), "{err}");
}

#[test]
fn a_name_of_any_length_is_no_panic() {
    let long = "x".repeat(70_000);
    let results = tempfile::tempdir().unwrap();
    for id in ["base", "head"] {
        let mut run = LightRun::new(id);
        let figures = vec![figure("response", "p50", None, &VALUES)];
        run.modes = vec![(long.clone(), figures)];
        let directory = run.write(results.path());
        let manifest = fs::read_to_string(directory.join("manifest.json")).unwrap();
        let renamed = manifest.replace(
            &format!("\"run_id\":\"{id}\""),
            &format!("\"run_id\":\"{id}{long}\""),
        );
        assert_ne!(manifest, renamed);
        fs::write(directory.join("manifest.json"), renamed).unwrap();
    }
    for line in [
        "$REPLBENCH compare base head --results .",
        "$REPLBENCH list --runs --results .",
        "$REPLBENCH trend all --results . --repo /",
    ] {
        let (code, out, err) = said(results.path(), line);
        assert_eq!(
            code,
            Some(0),
            "{line}: {}",
            &err[err.len().saturating_sub(300)..]
        );
        assert!(out.contains("xxx"), "{line}");
    }
}

#[test]
fn a_pipe_or_a_directory_in_the_place_of_the_blessings_is_told_of() {
    let results = tempfile::tempdir().unwrap();
    LightRun::of_response("run", &VALUES).write(results.path());
    for made in ["mkfifo", "mkdir"] {
        let line = format!(
            "rm -rf blessed.jsonl; {made} blessed.jsonl && exec $REPLBENCH trend all --results . --repo /"
        );
        let (code, _, err) = said(results.path(), &line);
        assert_eq!(code, Some(6), "{made}: {err}");
        assert!(err.contains("blessed.jsonl`"), "{err}");
    }
}
