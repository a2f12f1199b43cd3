//! Faults that a profile asks for, on real servers, and what the record says of them.

mod support;

use std::fs;

use assert_cmd::Command;
use replbench::record::RunStatus;
use replbench::sample::{AuditCheck, AuditResult, EventRow};
use support::{Run, TestDir};
use tempfile::TempDir;

const PROFILE: &str = r#"
    modes = ["async", "sync:first-2"]
    [load]
    rate = 100
    arrivals = "uniform"
    connections = 64
    max_in_flight = 2000
    [phases]
    warmup = "500 ms"
    duration = "6 s"
    drain = "10 s"
    repeats = 1
    [[transaction]]
    kind = "users-insert"
    [[fault]]
    kind = "pause-replay"
    target = "s1"
    at = "1 s"
    for = "2 s"
    [[fault]]
    kind = "standby-crash"
    target = "s2"
    at = "2 s"
    for = "1 s"
"#;

const SECOND_US: i64 = 1_000_000;

fn of_cell(events: &[EventRow], cell: u32, target: &str) -> i64 {
    let mut own = events
        .iter()
        .filter(|event| event.cell_id == Some(cell) && event.node.as_deref() == Some(target));
    let found = own.next().unwrap_or_else(|| panic!("{events:?}")).t_us;
    assert!(own.next().is_none(), "{events:?}");
    found
}

#[test]
fn faults_begin_and_end_in_every_cell_and_a_standby_that_is_down_does_not_invalidate() {
    let (run, ended) = support::valid(|| Run::start(PROFILE, &[]));
    assert_eq!(ended.code, 0, "{}", ended.text);
    let record = run.record().unwrap();
    assert_eq!(record.manifest().status, RunStatus::Complete);
    let (began, over) = (record.events("fault_began"), record.events("fault_ended"));
    assert_eq!((began.len(), over.len()), (4, 4));
    for cell in record.cells() {
        let id = cell.cell_id;
        for (target, at, length) in [("s1", 1, 2), ("s2", 2, 1)] {
            let (from, until) = (of_cell(&began, id, target), of_cell(&over, id, target));
            assert!(from >= at * SECOND_US, "{target} at {from}");
            assert!(until >= (at + length) * SECOND_US, "{target} until {until}");
        }
        assert_eq!(cell.offered, 600);
        assert_eq!(cell.acked + cell.acked_with_warning, 600, "{cell:?}");
        assert!(cell.notes.contains("standby-crash s2 at 2 s for 1 s"));
        // A commit of the pause is seen when it ends, and none is lost.
        let paused = record.visibility(id, "s1");
        let slowest = paused.iter().filter_map(|row| row.max_hi_us);
        let slowest = slowest.fold(0.0, f64::max);
        if cell.mode == "async" {
            assert!((1.9e6..4e6).contains(&slowest), "{slowest}");
        }
        let unseen: u64 = ["s1", "s2"]
            .iter()
            .flat_map(|node| record.visibility(id, node))
            .map(|row| row.unseen)
            .sum();
        assert_eq!(unseen, 0, "{}", cell.mode);
        // A commit that waits for both standbys waits until the second one is back.
        let slowest = record.histograms(id).of("response").max().unwrap();
        let is_held_up = slowest.as_secs_f64() > 0.9;
        assert_eq!(is_held_up, cell.mode == "sync:first-2", "{slowest:?}");
    }
    assert!(!record.discarded()[0].notes.contains("fault"));
    let monotonic = |node: &str| {
        let audit = record.audit().into_iter();
        let own = audit.filter(|it| it.check == AuditCheck::MonotonicReads && it.node == node);
        own.map(|it| it.result).collect::<Vec<_>>()
    };
    assert_eq!(monotonic("s1"), [AuditResult::Pass; 2]);
    // After a crash it may take reads before it has replayed what it had.
    let s2 = monotonic("s2");
    assert!(s2.len() == 2 && !s2.contains(&AuditResult::Fail), "{s2:?}");
}

#[test]
fn what_waits_for_a_standby_that_is_paused_is_visible_there_when_it_is_acknowledged() {
    let profile = r#"
        modes = ["remote_apply"]
        [topology]
        standbys = 1
        [load]
        rate = 100
        arrivals = "uniform"
        [phases]
        warmup = "0 s"
        duration = "3 s"
        repeats = 1
        [[transaction]]
        kind = "users-insert"
        [[fault]]
        kind = "pause-replay"
        target = "s1"
        at = "1 s"
        for = "1 s"
    "#;
    let (run, ended) = support::valid(|| Run::start(profile, &[]));
    assert_eq!(ended.code, 0, "{}", ended.text);
    let record = run.record().expect("a record");
    let audit = record.audit();
    let row = audit
        .iter()
        .find(|it| it.check == AuditCheck::VisibleWhenAcked);
    let row = row.unwrap_or_else(|| panic!("{audit:?}"));
    let found = (row.node.as_str(), row.result, row.examined, row.violations);
    assert_eq!(found, ("s1", AuditResult::Pass, 300, 0));
    let waiters = record.faults()[0].syncrep_waiters;
    assert!(
        waiters > Some(0),
        "commits wait while it is paused: {waiters:?}"
    );
}

#[test]
fn an_interrupt_during_a_fault_undoes_it_and_leaves_nothing() {
    let profile = PROFILE.replace("for = \"2 s\"", "for = \"4 s\"");
    let mut run = Run::start(&profile, &["--modes", "async"]);
    run.server("s1");
    run.awaits("fault", |run| {
        let record = run.record()?;
        let rows: Vec<EventRow> = record.events("fault_began");
        (rows.len() == 2).then_some(())
    });
    run.interrupt();
    let ended = run.ends();
    assert_eq!(ended.code, 4, "{}", ended.text);
    let record = run.record().unwrap();
    assert_eq!(record.events("fault_ended").len(), 2);
}

fn said(arguments: &[&str]) -> String {
    let dir = TempDir::new().expect("a directory");
    fs::write(dir.path().join("p.toml"), PROFILE).expect("a file");
    let mut command = Command::cargo_bin("replbench").expect("the program");
    let output = command.args(arguments).current_dir(dir.path()).output();
    let output = output.expect("an answer");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    format!(
        "{text}{}rc {}",
        String::from_utf8_lossy(&output.stderr),
        output.status.code().unwrap_or(-1)
    )
}

#[test]
fn a_fault_that_cannot_happen_is_refused_before_anything_runs() {
    let planned = said(&["check", "p.toml", "--fault", "pause-replay s2 at 4s for 1s"]);
    assert!(planned.contains("pause-replay of s2 for 1 s"), "{planned}");
    for (arguments, words) in [
        (
            &["--modes", "logical"][..],
            "mode `logical` has no node `s1`",
        ),
        (&["--duration", "2s"], "ends after the measurement"),
        (
            &["--fault", "pause-replay s1 at 2s for 3s"],
            "meet on one node",
        ),
        (
            &["--fault", "pause-replay primary at 2s for 3s"],
            "which is a primary",
        ),
        (
            &["--fault", "unplug s1"],
            "is no fault; write KIND NODE at TIME for TIME",
        ),
    ] {
        let text = said(&[&["check", "p.toml"], arguments].concat());
        assert!(text.contains(words) && text.ends_with("rc 2"), "{text}");
    }
    let dir = TestDir::new();
    let path = dir.path().join("wrong.toml");
    let profile = PROFILE.replace("\"pause-replay\"", "\"pause-reply\"");
    fs::write(&path, profile.replace("for = \"1 s\"", "")).expect("a file");
    let text = said(&["check", path.to_str().expect("a path")]);
    assert!(text.contains("did you mean `pause-replay`?"), "{text}");
    assert!(text.contains("`for` is missing here"), "{text}");
    assert!(
        text.contains("wrong.toml:16:") && text.ends_with("rc 2"),
        "{text}"
    );
}
