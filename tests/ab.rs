//! Sessions through the binary: two sides measured in turns on real servers, what each of them leaves, and what is refused
//! before anything runs.
//!
//! Real servers, started by the product. Without PostgreSQL the tests that run a session fail.
#![allow(clippy::unwrap_used, reason = "a test that cannot set up fails")]

mod support;

use std::fs;
use std::path::Path;

use replbench::cluster::process;
use replbench::plan::Side;
use replbench::record::{Manifest, RunStatus};
use support::{REPLBENCH, Record, Run, TestDir};

/// Short cells of one standby.
const SHORT: [&str; 10] = [
    "--rate",
    "100",
    "--duration",
    "1s",
    "--warmup",
    "300ms",
    "--drain",
    "5s",
    "--standbys",
    "1",
];

fn launch(dir: TestDir, first: &[&str], more: &[&str]) -> Run {
    let all: Vec<_> = first.iter().chain(more).chain(&SHORT).copied().collect();
    Run::launch(dir, &all)
}

/// Base and head, which is their order by name as well.
#[track_caller]
fn both(run: &Run) -> [Record; 2] {
    let records = run.records();
    let found = records.len();
    records
        .try_into()
        .unwrap_or_else(|_| panic!("{found} run directories"))
}

#[track_caller]
fn name_one_session(base: &Manifest, head: &Manifest) {
    let (of_base, of_head) = (
        base.session.as_ref().unwrap(),
        head.session.as_ref().unwrap(),
    );
    assert_eq!(of_base.id, of_head.id);
    assert_eq!((of_base.side, of_head.side), (Side::Base, Side::Head));
    assert_eq!(
        (&of_base.other, &of_head.other),
        (&head.run_id, &base.run_id)
    );
}

/// The side and block of every cell in the order in which they were measured.
fn sequence(records: &[Record; 2]) -> Vec<(char, u32)> {
    let mut cells: Vec<_> = ['b', 'h']
        .into_iter()
        .zip(records)
        .flat_map(|(side, record)| {
            let cells = record.cells().into_iter();
            cells.map(move |cell| (cell.started_at, side, cell.block))
        })
        .collect();
    cells.sort();
    cells
        .into_iter()
        .map(|(_, side, block)| (side, block))
        .collect()
}

#[test]
fn a_setting_on_one_side_is_measured_in_turns_with_the_other() {
    let items = ["ab", "users-insert", "--head", "Wal_Compression=on"];
    let options = [
        "--modes",
        "sync",
        "--repeats",
        "2",
        "--seed",
        "2",
        "--tag",
        "who=test",
    ];
    let (run, ended) = support::valid(|| launch(TestDir::new(), &items, &options));
    assert_eq!(ended.code, 0, "{}", ended.text);
    for words in [
        "sides took turns: paired by block",
        "wal_compression",
        "MDE",
    ] {
        assert!(ended.text.contains(words), "{}", ended.text);
    }
    let records = both(&run);
    let [base, head] = records.each_ref().map(Record::manifest);
    name_one_session(&base, &head);
    let items = head.session.as_ref().unwrap().items.clone();
    assert_eq!(items, ["Wal_Compression=on"]);
    for (record, manifest) in records.iter().zip([&base, &head]) {
        assert!(!record.is_partial());
        assert_eq!(manifest.status, RunStatus::Complete, "{}", ended.text);
        assert_eq!(manifest.subject.tags["who"], "test");
        assert!(record.cells().iter().all(|cell| cell.valid));
        assert!(record.0.join("report.html").is_file());
        // Every turn had servers of its own, and they are described once.
        assert_eq!(record.events("provisioned").len(), 2);
        let nodes: Vec<_> = manifest.nodes.iter().map(|node| &node.name).collect();
        assert_eq!(nodes, ["primary", "s1"]);
    }
    // The seed lets the base go first.
    assert_eq!(sequence(&records), [('b', 1), ('h', 1), ('h', 2), ('b', 2)]);
    let offered = records
        .each_ref()
        .map(|record| record.cells().iter().map(|cell| cell.offered).collect());
    let [of_base, of_head]: [Vec<u64>; 2] = offered;
    assert_eq!(of_base, of_head, "cells of one block share their arrivals");
    let compression = |manifest: &Manifest| -> Vec<Option<String>> {
        let nodes = manifest.nodes.iter();
        nodes
            .map(|node| node.settings.get("wal_compression").cloned())
            .collect()
    };
    assert_eq!(compression(&base), [None, None]);
    assert!(compression(&head).iter().all(Option::is_some));
    assert!(!run.dir.path().join("data").join(&base.run_id).exists());
}

#[test]
fn an_interrupt_in_the_second_block_keeps_both_sides() {
    let items = ["ab", "users-insert", "--head", "mode=remote_apply"];
    let options = [
        "--base",
        "mode=sync",
        "--repeats",
        "40",
        "--seed",
        "2",
        "--quiet",
    ];
    let mut run = launch(TestDir::new(), &items, &options);
    // Base, head, head: the second cell of the head.
    run.awaits("second block", |run| {
        let records = run.records();
        let head = records.get(1)?;
        (head.try_cells()?.len() == 1 && head.0.join("hist/cell-002.hlog").is_file()).then_some(())
    });
    run.interrupt();
    let ended = run.ends();
    assert_eq!(ended.code, 4, "{}", ended.text);
    let records = both(&run);
    let [base, head] = records.each_ref().map(Record::manifest);
    name_one_session(&base, &head);
    for (record, manifest) in records.iter().zip([&base, &head]) {
        assert!(!record.is_partial());
        assert_eq!(manifest.status, RunStatus::Interrupted);
        assert!(manifest.ended_at.is_some());
        let cell = &record.cells()[0];
        assert!(!cell.notes.contains("cut short"), "{}", cell.notes);
    }
    assert_eq!(
        sequence(&records),
        [('b', 1), ('h', 1), ('h', 2)],
        "{}",
        ended.text
    );
    let modes = records
        .each_ref()
        .map(|record| record.cells()[0].mode.clone());
    assert_eq!(modes, ["sync", "remote_apply"]);
}

#[test]
fn a_setting_that_no_side_can_start_with_is_a_refusal_by_the_server() {
    let items = [
        "ab",
        "users-insert",
        "--base",
        "wal_compression=pink",
        "--head",
        "wal_compression=purple",
    ];
    let mut run = launch(
        TestDir::new(),
        &items,
        &["--modes", "async", "--repeats", "2"],
    );
    let ended = run.ends();
    assert_eq!(ended.code, 3, "{}", ended.text);
    assert!(
        ended.text.contains("nothing was measured"),
        "{}",
        ended.text
    );
    for record in both(&run) {
        assert_eq!(record.manifest().status, RunStatus::Failed);
    }
}

#[test]
fn a_server_that_does_not_start_on_one_side_ends_the_session_and_keeps_the_other_side() {
    let items = ["ab", "users-insert", "--head", "wal_compression=purple"];
    let options = ["--modes", "async", "--repeats", "2", "--seed", "2"];
    let mut run = launch(TestDir::new(), &items, &options);
    let ended = run.ends();
    assert_eq!(ended.code, 4, "{}", ended.text);
    assert!(ended.text.contains("purple"), "{}", ended.text);
    let records = both(&run);
    let [base, head] = records.each_ref().map(Record::manifest);
    assert_eq!(base.status, RunStatus::Failed);
    assert_eq!(head.status, RunStatus::Failed);
    let reason = &base.invalid_reasons[0];
    assert!(reason.contains("because head failed"), "{reason}");
    assert_eq!(sequence(&records), [('b', 1)]);
    let cell = &records[0].cells()[0];
    assert!(!cell.notes.contains("cut short"), "{}", cell.notes);
}

/// A repository in the site's directory, with one commit of the file `rate`.
fn repository(dir: &TestDir) {
    fs::write(dir.path().join("rate"), "120").unwrap();
    for arguments in [
        &["init", "--quiet"][..],
        &["add", "rate"],
        &["commit", "--quiet", "--message", "one"],
    ] {
        git(dir.path(), arguments);
    }
}

#[track_caller]
fn git(directory: &Path, arguments: &[&str]) -> String {
    let output = process::command("git")
        .args(["-c", "user.name=test", "-c", "user.email=test@localhost"])
        .args(arguments)
        .current_dir(directory)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .unwrap();
    assert!(output.status.success(), "git {arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Neither git nor the file system knows of a worktree any more.
#[track_caller]
fn no_worktree_is_left(dir: &TestDir) {
    let known = git(dir.path(), &["worktree", "list", "--porcelain"]);
    assert_eq!(known.matches("worktree ").count(), 1, "{known}");
    let left: Vec<_> = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("worktree"))
        .collect();
    assert_eq!(left, Vec::<String>::new());
}

#[test]
fn a_revision_is_built_in_a_worktree_and_its_profile_taken_from_there() {
    let dir = TestDir::new();
    repository(&dir);
    let old = git(dir.path(), &["rev-parse", "HEAD"]);
    fs::write(dir.path().join("rate"), "80").unwrap();
    git(
        dir.path(),
        &["commit", "--quiet", "--all", "--message", "two"],
    );
    let new = git(dir.path(), &["rev-parse", "HEAD"]);
    // Not a word of the profile is in the repository: it is the build that makes it.
    let build = "mkdir out && { cat /dev/null; printf 'description = \"At %s\"\nname = \"built\"\n[settings]\nwork_mem = \"%sMB\"\n[[transaction]]\nkind = \"users-insert\"\n' \"$(cat rate)\" \"$(cat rate)\"; } > out/p.toml";
    let options = [
        "--build",
        build,
        "--base",
        "git=HEAD~1",
        "--base",
        "profile=out/p.toml",
        "--head",
        "git=HEAD",
        "--head",
        "out/p.toml",
        "--modes",
        "async",
        "--repeats",
        "1",
    ];
    let mut run = launch(dir, &["ab"], &options);
    let ended = run.ends();
    ended.is_whole();
    let records = both(&run);
    let [base, head] = records.each_ref().map(Record::manifest);
    for (manifest, commit, work_mem) in [(&base, &old, "120MB"), (&head, &new, "80MB")] {
        assert_eq!(manifest.subject.git.as_ref(), Some(commit));
        assert!(
            manifest.run_id.ends_with(&commit[..7]),
            "{}",
            manifest.run_id
        );
        assert_eq!(manifest.nodes[0].settings["work_mem"], work_mem);
    }
    no_worktree_is_left(&run.dir);
}

#[test]
fn a_failed_build_keeps_its_log_and_makes_no_run() {
    let dir = TestDir::new();
    repository(&dir);
    let build = "echo compiling; printf 'no \\033[31mcompiler\\033[0m\\n' >&2; exit 9";
    let options = [
        "--build",
        build,
        "--head",
        "git=HEAD",
        "--head",
        "bindir=bin",
    ];
    let mut run = launch(dir, &["ab"], &options);
    let ended = run.ends();
    assert_eq!(ended.code, 3, "{}", ended.text);
    assert!(ended.text.contains("exit status: 9"), "{}", ended.text);
    assert!(
        ended.text.contains("no \\u{1b}[31mcompiler"),
        "{}",
        ended.text
    );
    assert_eq!(run.records().len(), 0);
    let entries = fs::read_dir(run.dir.path().join("results")).unwrap();
    let logs: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    assert_eq!(logs.len(), 1, "{logs:?}");
    let log = fs::read_to_string(&logs[0]).unwrap();
    assert!(log.starts_with("compiling\n"), "{log}");
    assert!(
        ended
            .text
            .contains(&*logs[0].file_name().unwrap().to_string_lossy())
    );
    no_worktree_is_left(&run.dir);
}

#[test]
fn what_a_killed_session_had_checked_out_is_cleaned_and_its_build_ends() {
    let dir = TestDir::new();
    repository(&dir);
    let build = "touch ../begun; while :; do sleep 0.1; done";
    let options = [
        "--build",
        build,
        "--head",
        "git=HEAD",
        "--head",
        "bindir=bin",
    ];
    let mut run = launch(dir, &["ab"], &options);
    run.awaits("build", |run| begun(&run.dir).then_some(()));
    run.kill();
    let clean = || {
        let mut command = assert_cmd::Command::cargo_bin("replbench").unwrap();
        command
            .arg("clean")
            .current_dir(run.dir.path())
            .env("TMPDIR", run.dir.path());
        String::from_utf8(command.assert().code(0).get_output().stdout.clone()).unwrap()
    };
    assert!(clean().contains("replbench-worktree-"));
    assert!(!begun(&run.dir));
    assert!(clean().contains("nothing to clean"));
    run.dir.no_process_is_left();
}

/// Whether a build has left its mark beside its checkout.
fn begun(dir: &TestDir) -> bool {
    let entries = fs::read_dir(dir.path()).unwrap();
    let mut paths = entries.map(|entry| entry.unwrap().path());
    paths.any(|path| path.join("begun").exists())
}

#[test]
fn an_interrupt_ends_the_build_with_all_its_processes() {
    let dir = TestDir::new();
    repository(&dir);
    let build = "sleep 1000 & sleep 1000 & touch ../begun; wait";
    let options = [
        "--build",
        build,
        "--head",
        "git=HEAD",
        "--head",
        "bindir=bin",
    ];
    let mut run = launch(dir, &["ab"], &options);
    run.awaits("build", |run| begun(&run.dir).then_some(()));
    assert!(
        run.dir
            .processes()
            .iter()
            .any(|it| it.ends_with("sleep 1000"))
    );
    run.interrupt();
    let ended = run.ends();
    assert_eq!(ended.code, 4, "{}", ended.text);
    assert_eq!(run.records().len(), 0);
    no_worktree_is_left(&run.dir);
}

/// Of a command that is refused: exit code and standard error.
fn refusal(arguments: &[&str]) -> (Option<i32>, String) {
    let results = tempfile::tempdir().unwrap();
    let output = process::command(REPLBENCH)
        .args(arguments)
        .arg("--results")
        .arg(results.path())
        .output()
        .unwrap();
    let left = fs::read_dir(results.path()).unwrap().count();
    assert_eq!(left, 0, "{arguments:?} left something in the results");
    (
        output.status.code(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

#[track_caller]
fn is_refused(arguments: &[&str], code: i32, words: &str) {
    let (exit, text) = refusal(arguments);
    assert_eq!(exit, Some(code), "{arguments:?}: {text}");
    assert!(text.starts_with("error: "), "{text}");
    assert!(text.contains(words), "{text}");
}

#[test]
fn what_could_not_be_compared_is_refused_before_anything_runs() {
    is_refused(&["ab"], 2, "replbench aa");
    is_refused(&["ab", "--head", "ecommerce"], 2, "tables");
    is_refused(
        &["ab", "--base", "mode=logical", "--head", "work_mem=8MB"],
        2,
        "no mode is on both sides (base: logical; head: async, sync)",
    );
    is_refused(
        &["ab", "--head", "mode=sync:any-9"],
        2,
        "head: mode `sync:any-9`",
    );
    is_refused(
        &["ab", "--head", "synchronous_commit=on"],
        2,
        "`mode=remote_apply`",
    );
    is_refused(&["ab", "--head", "no-such-profile"], 2, "`no-such-profile`");
    is_refused(
        &["ab", "--head", "bindir=/nonexistent"],
        3,
        "head: `/nonexistent` has no",
    );
}

#[test]
fn a_revision_without_a_build_and_a_build_without_a_revision_are_refused() {
    let of_revision = ["ab", "--head", "git=HEAD", "--head", "bindir=bin"];
    is_refused(&of_revision, 2, "--build");
    is_refused(
        &["ab", "--head", "work_mem=8MB", "--build", "make"],
        2,
        "git=REV",
    );
    is_refused(&["ab", "--head", "git=HEAD", "--build", "make"], 2, "alone");
    let unknown = [
        "ab",
        "--build",
        "true",
        "--head",
        "git=no-such-revision",
        "--head",
        "p/x.toml",
    ];
    is_refused(&unknown, 2, "git=no-such-revision");
    let dry = [
        "ab",
        "--build",
        "true",
        "--head",
        "git=HEAD",
        "--head",
        "p/x.toml",
        "--dry-run",
    ];
    is_refused(&dry, 2, "dry run");
}

#[test]
fn a_dry_run_shows_both_sides_and_the_order_of_their_turns() {
    let output = process::command(REPLBENCH)
        .args([
            "ab",
            "--head",
            "wal_compression=on",
            "--repeats",
            "4",
            "--dry-run",
        ])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    for words in [
        "base: as the profile says",
        "head: wal_compression=on",
        "setting         wal_compression = on",
        "block 4 ",
        "cells           16",
        "takes about",
    ] {
        assert!(text.contains(words), "no `{words}` in:\n{text}");
    }
    let firsts: Vec<_> = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("block "))
        .filter_map(|line| line.split_whitespace().nth(1))
        .collect();
    assert_eq!(firsts.len(), 4, "{text}");
    assert!(
        firsts.chunks(2).all(|pair| pair[0] != pair[1]),
        "{firsts:?}"
    );
}

#[test]
fn one_configuration_against_itself_is_a_session_of_two_like_sides() {
    let output = process::command(REPLBENCH)
        .args(["aa", "users-insert", "--quick", "--dry-run"])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("head: as the profile says"), "{text}");
}
