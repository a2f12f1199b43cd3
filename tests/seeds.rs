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
use std::sync::Mutex;

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

/// Runs a command; what it said.
fn done(dir: &Path, ports: [u16; 4], arguments: &[String]) -> String {
    let words: Vec<_> = arguments.iter().map(String::as_str).collect();
    let output = docker::command(dir, ports, &words).output().unwrap();
    let said = docker::text(&output);
    // A run on a busy host may be INVALID, which is not the matter here.
    let is_run = arguments[0] == "run";
    let is_fine = output.status.success() || is_run && output.status.code() == Some(5);
    assert!(is_fine, "{arguments:?}: {said}");
    said
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
    let all = commands(&page);
    assert!(all.len() > 12, "{all:?}");
    let (runs, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|it| it[0] == "run");
    // The same command once.
    let runs = Mutex::new(BTreeSet::from_iter(runs).into_iter());
    // A run mostly waits, so the others go on beside it.
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let next = || runs.lock().unwrap().next();
                while let Some(mut arguments) = next() {
                    let is_measured = arguments[1] != "what-replicates";
                    if is_measured {
                        arguments.extend(["--quick", "--repeats", "1"].map(Into::into));
                        // As many posts in less time; elsewhere the rate is not the matter.
                        let rate = if arguments[1] == "posts-10000" {
                            "2000"
                        } else {
                            "100"
                        };
                        arguments.extend(["--rate", rate].map(Into::into));
                    }
                    let said = done(dir.path(), docker::ports(), &arguments);
                    let expected = if is_measured { "report:" } else { "subscriber" };
                    assert!(said.contains(expected), "{said}");
                }
            });
        }
        // A cluster's file, and its project while it is up.
        let (mut file, mut project) = (String::new(), String::new());
        let mut made = BTreeSet::new();
        let mut is_new = true;
        for mut arguments in others {
            if arguments[1] == "up" {
                file.clone_from(&arguments[3]);
                // Several tutorials start the same servers.
                is_new = made.insert(file.clone());
            }
            if !is_new {
                continue;
            }
            for argument in &mut arguments {
                if argument == "PROJECT" {
                    argument.clone_from(&project);
                }
            }
            let said = done(dir.path(), docker::ports(), &arguments);
            if arguments[1] == "up" {
                project = said.trim().rsplit(' ').next().unwrap().to_owned();
            }
            let expected = match (arguments[1].as_str(), file.as_str()) {
                // WAL goes over this network alone, and all three are on it.
                ("up", "compose/sync.yaml") => &format!("--network {project}_replication"),
                ("up", _) => "replicates after",
                ("status", "compose/sync.yaml") => "s2       standby         streaming, quorum",
                ("status", _) => "streaming",
                (_, "compose/sync.yaml") => "removed 3 containers",
                _ => "removed",
            };
            assert!(said.contains(expected), "no `{expected}` in: {said}");
        }
    });
    docker::nothing_is_left();
}
