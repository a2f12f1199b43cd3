//! Replbench is killed, interrupted or hung up on, its program is replaced, or a umask shuts others out: it goes on, or leaves no
//! process and no file but the results.
//!
//! Real servers, started by the product. Without PostgreSQL the tests that need them fail.
#![allow(clippy::unwrap_used, reason = "a test that cannot set up fails")]

mod support;

use std::fs;
use std::process::{Child, Stdio};

use replbench::cluster::{Binaries, process};
use rustix::process::Signal;
use support::{PATIENCE, REPLBENCH, Run, TestDir, signal, until};

/// How far a start has come when one of these files of the cluster's exists: initdb, the first server, the base backup, the
/// standby.
const STATES: [&str; 4] = [
    "primary/data/PG_VERSION",
    "primary/data/postmaster.pid",
    "s1/data/PG_VERSION",
    "s1/data/postmaster.pid",
];

/// A `cluster up` that has come as far as the file.
fn up_to(dir: &TestDir, file: &str) -> Child {
    let output = fs::File::create(dir.path().join("output")).unwrap();
    let mut up = process::command(REPLBENCH)
        .args(["cluster", "up", "--data-dir", "c", "--standbys=1"])
        .arg("--subscribers=0")
        .current_dir(dir.path())
        .stdin(Stdio::null())
        .stdout(output.try_clone().unwrap())
        .stderr(output)
        .spawn()
        .unwrap();
    let awaited = dir.path().join("c").join(file);
    let came = until(PATIENCE, || match up.try_wait().unwrap() {
        None if awaited.exists() => Ok(()),
        ended => Err(ended),
    });
    assert_eq!(came, Ok(()), "{file}: {}", output_of(dir));
    up
}

fn output_of(dir: &TestDir) -> String {
    fs::read_to_string(dir.path().join("output")).unwrap()
}

#[test]
fn clean_ends_and_removes_a_cluster_whose_start_was_killed_at_any_moment() {
    let dir = TestDir::new();
    for state in STATES {
        let mut up = up_to(&dir, state);
        up.kill().unwrap();
        up.wait().unwrap();
        let clean = process::command(REPLBENCH)
            .args(["clean", "."])
            .current_dir(dir.path())
            .output()
            .unwrap();
        assert!(clean.status.success(), "{state}: {clean:?}");
        assert_eq!(dir.processes(), Vec::<String>::new(), "{state}");
        assert!(!dir.path().join("c").exists(), "{state}: {clean:?}");
    }
}

#[test]
fn an_interrupted_start_has_removed_everything_when_it_says_so() {
    let dir = TestDir::new();
    for state in STATES {
        let mut up = up_to(&dir, state);
        signal(up.id().cast_signed(), Signal::INT);
        let status = up.wait().unwrap();
        assert!(!dir.path().join("c").exists(), "{state}");
        assert_eq!(dir.processes(), Vec::<String>::new(), "{state}");
        assert_eq!(status.code(), Some(4), "{state}: {}", output_of(&dir));
        assert!(
            output_of(&dir).contains("stopped and removed"),
            "{state}: {}",
            output_of(&dir)
        );
    }
}

/// Options of a session of two short cells.
const SESSION: [&str; 14] = [
    "--modes",
    "async",
    "--repeats",
    "1",
    "--rate",
    "100",
    "--duration",
    "1s",
    "--warmup",
    "300ms",
    "--drain",
    "5s",
    "--standbys",
    "0",
];

#[test]
fn a_session_outlives_the_file_of_its_program() {
    let dir = TestDir::new();
    let program = dir.path().join("replbench");
    fs::copy(REPLBENCH, &program).unwrap();
    let mut all = vec!["ab", "--head", "work_mem=8MB"];
    all.extend(SESSION);
    let mut run = Run::launch_program(&program, dir, &all);
    run.server("primary");
    fs::remove_file(&program).unwrap();
    run.ends().is_whole();
    assert_eq!(run.records().len(), 2);
}

#[test]
fn a_run_under_nohup_goes_on_when_its_terminal_hangs_up() {
    let dir = TestDir::new();
    let mut all = vec!["nohup", REPLBENCH, "run", "users-insert"];
    all.extend(SESSION);
    let mut run = Run::launch_program("/usr/bin/env".as_ref(), dir, &all);
    run.server("primary");
    signal(run.pid(), Signal::HUP);
    run.ends().is_whole();
}

#[test]
fn servers_reach_their_data_and_their_programs_under_any_umask() {
    let under_umask = |dir, more: &[&str]| {
        let mut all = vec!["sh", "-c", "umask 077; exec \"$0\" \"$@\"", REPLBENCH];
        all.extend(more);
        all.extend(SESSION);
        let mut run = Run::launch_program("/usr/bin/env".as_ref(), dir, &all);
        run.ends().is_whole();
    };
    under_umask(TestDir::new(), &["run", "users-insert"]);
    let programs = Binaries::find(None).unwrap();
    let build = format!(
        "mkdir bin && ln -s {}/* bin/",
        programs.directory().display()
    );
    let dir = TestDir::new();
    commit_profile(&dir);
    let options = [
        "ab",
        "p.toml",
        "--head",
        "git=HEAD",
        "--head",
        "bindir=bin",
        "--build",
        &build,
    ];
    under_umask(dir, &options);
}

/// A build with a child in another session, which no signal to a process group reaches.
const BUILD_WITH_DAEMON: &str = "setsid sleep 1000 & sleep 1000 & touch ../begun";

/// A repository in the site's directory with one commit of a profile.
fn commit_profile(dir: &TestDir) {
    let profile = "[[transaction]]\nkind = \"users-insert\"\n";
    fs::write(dir.path().join("p.toml"), profile).unwrap();
    for arguments in [
        &["init", "--quiet"][..],
        &["add", "p.toml"],
        &["commit", "--quiet", "--message", "one"],
    ] {
        let status = process::command("git")
            .args(["-c", "user.name=test", "-c", "user.email=test@localhost"])
            .args(arguments)
            .current_dir(dir.path())
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .status()
            .unwrap();
        assert!(status.success());
    }
}

fn build(dir: TestDir, command: &str) -> Run {
    commit_profile(&dir);
    let options = [
        "ab",
        "p.toml",
        "--head",
        "git=HEAD",
        "--head",
        "profile=p.toml",
        "--head",
        "work_mem=8MB",
        "--build",
        command,
    ];
    let all: Vec<_> = options.into_iter().chain(SESSION).collect();
    Run::launch(dir, &all)
}

fn begun(run: &Run) -> Option<()> {
    let entries = fs::read_dir(run.dir.path()).unwrap().flatten();
    let mut marks = entries.map(|entry| entry.path().join("begun"));
    marks.any(|mark| mark.exists()).then_some(())
}

fn sleepers(dir: &TestDir) -> Vec<String> {
    let mut found = dir.processes();
    found.retain(|process| process.ends_with(": sleep 1000"));
    found
}

#[test]
fn the_children_of_a_build_end_with_it_and_with_replbench() {
    for ending in [Signal::INT, Signal::KILL] {
        let mut run = build(TestDir::new(), &format!("{BUILD_WITH_DAEMON}; wait"));
        run.awaits("build", begun);
        assert_eq!(sleepers(&run.dir).len(), 2);
        signal(run.pid(), ending);
        if ending == Signal::INT {
            assert_eq!(run.ends().code, 4);
            assert_eq!(sleepers(&run.dir), Vec::<String>::new());
        }
        run.dir.no_process_is_left();
    }
    // The build is done; what it has left running would compete with what is measured.
    let mut run = build(TestDir::new(), BUILD_WITH_DAEMON);
    run.server("primary");
    assert_eq!(sleepers(&run.dir), Vec::<String>::new());
    run.ends().is_whole();
}
