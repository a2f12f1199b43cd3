//! The workflow in the documentation names commands that exist.
#![allow(
    clippy::unwrap_used,
    reason = "a test ends at the first thing that fails"
)]

use std::fs;

const WORKFLOW: &str = "docs/github-actions.yml";

/// The commands of replbench in it, as a shell would split them: its only quotes are double ones.
fn commands(text: &str) -> Vec<Vec<String>> {
    let lines = text.lines().map(str::trim);
    let commands = lines.filter(|line| line.starts_with("replbench "));
    commands.map(words).collect()
}

fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut is_quoted = false;
    for c in line.chars() {
        match c {
            '"' => is_quoted = !is_quoted,
            ' ' if !is_quoted => words.push(String::new()),
            _ => words.last_mut().unwrap().push(c),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

fn read(name: &str) -> String {
    fs::read_to_string(format!("{}/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

#[test]
fn every_command_of_the_workflow_parses() {
    let commands = commands(&read(WORKFLOW));
    let named: Vec<&str> = commands.iter().map(|words| words[1].as_str()).collect();
    assert_eq!(named, ["check", "ab", "publish"]);
    for words in commands {
        let parsed = replbench::cli::command().try_get_matches_from(&words);
        assert!(
            parsed.is_ok(),
            "{}: {}",
            words.join(" "),
            parsed.unwrap_err()
        );
    }
}

#[test]
fn a_command_that_does_not_exist_would_be_noticed() {
    for wrong in [
        "replbench compare",
        "replbench ab --nonsense",
        "replbench compere a b",
    ] {
        let words: Vec<&str> = wrong.split(' ').collect();
        assert!(
            replbench::cli::command()
                .try_get_matches_from(words)
                .is_err(),
            "{wrong}"
        );
    }
}

#[test]
fn the_marker_that_the_workflow_looks_for_is_the_one_that_is_written() {
    let source = read("src/report/comparison/markdown.rs");
    let line = source
        .lines()
        .find(|line| line.starts_with("const MARKER"))
        .unwrap();
    let marker = line.split('"').nth(1).unwrap();
    assert!(read(WORKFLOW).contains(marker), "{marker}");
}

#[test]
fn every_command_of_the_readme_parses() {
    let readme = read("README.md");
    let mut count = 0;
    for words in commands(&readme) {
        // Comments end a line of the shell.
        let words: Vec<&str> = words
            .iter()
            .map(String::as_str)
            .take_while(|word| !word.starts_with('#'))
            .collect();
        let parsed = replbench::cli::command().try_get_matches_from(&words);
        assert!(
            parsed.is_ok(),
            "{}: {}",
            words.join(" "),
            parsed.unwrap_err()
        );
        count += 1;
    }
    assert!(count > 5, "{count}");
}
