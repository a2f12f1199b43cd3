//! Runs every command of `docs/seeds.md`: what the tutorials do by hand is done by one command each.
#![allow(
    clippy::unwrap_used,
    reason = "a helper of a test fails as the test does"
)]

mod docker;
mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use support::TestDir;

/// The commands of the table's second column, in their order.
fn commands(page: &str) -> Vec<Vec<String>> {
    let rows = page.lines().filter(|line| line.starts_with("| "));
    let last = rows.filter_map(|row| row.trim_end_matches([' ', '|']).rsplit(" | ").next());
    let written = last.filter_map(|cell| cell.strip_prefix('`')?.strip_suffix('`'));
    let written = written.filter_map(|it| it.strip_prefix("replbench "));
    written.map(words).collect()
}

/// As a shell splits it, as far as double quotes go.
fn words(command: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (index, part) in command.split('"').enumerate() {
        if index % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(Into::into));
        }
    }
    words
}

#[test]
fn every_command_of_the_page_does_what_it_says() {
    if docker::composes().is_none() {
        return;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/seeds.md")).unwrap();
    let dir = TestDir::new();
    std::os::unix::fs::symlink(root.join("compose"), dir.path().join("compose")).unwrap();
    let ports = docker::ports();
    let mut project = None;
    let mut done = BTreeSet::new();
    let all = commands(&page);
    assert!(all.len() > 12, "{all:?}");
    for mut arguments in all {
        let is_run = arguments[0] == "run";
        if is_run {
            // Measured once: one after another they share ports.
            if !done.insert(arguments.clone()) {
                continue;
            }
            arguments.extend(["--quick", "--repeats", "1"].map(Into::into));
            if arguments[1] == "posts-10000" {
                // As many, in less time.
                arguments.extend(["--rate", "2000"].map(Into::into));
            }
        }
        for argument in &mut arguments {
            if argument == "PROJECT" {
                argument.clone_from(project.as_ref().unwrap());
            }
        }
        let other = if is_run { docker::ports() } else { ports };
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let output = docker::command(dir.path(), other, &arguments)
            .output()
            .unwrap();
        let said = docker::text(&output);
        // A run on a busy host may be INVALID, which is not the matter here.
        let is_fine = output.status.success() || is_run && output.status.code() == Some(5);
        assert!(is_fine, "{arguments:?}: {said}");
        match arguments[..2] {
            ["cluster", "up"] => {
                assert!(said.contains("replicates after"), "{said}");
                let name = said.trim().rsplit(' ').next().unwrap().to_owned();
                project = Some(name);
            }
            ["cluster", "status"] => assert!(said.contains("streaming"), "{said}"),
            ["cluster", "down"] => assert!(said.contains("removed"), "{said}"),
            _ => assert!(said.contains("report:"), "{said}"),
        }
    }
    docker::nothing_is_left();
}
