//! A restore to a point in time: what the audit says of it, next to counts of its own, and restores that have not what they should.
//!
//! Real servers, started by the product. Without PostgreSQL every test here fails.
#![allow(clippy::unwrap_used, reason = "a test that cannot set up fails")]

mod support;

use std::fs;

use replbench::sample::{AuditCheck, AuditResult, AuditRow};
use support::{Run, Server};

const TARGETS: [&str; 3] = ["restored-to-name", "restored-to-lsn", "restored-to-time"];

/// The form in which a target is written.
const TIME: &str = "'YYYY-MM-DD HH24:MI:SS.US'";

/// A run of one cell with a target after 2 s, and its primary once load is offered.
fn restoring(extra: &str) -> (Run, Server) {
    let profile = format!(
        "modes = [\"archive\"]\n[topology]\nstandbys = 1\n\
         [load]\nrate = 150\n\
         [phases]\nwarmup = \"500 ms\"\nduration = \"4 s\"\ndrain = \"8 s\"\nrepeats = 1\n\
         [settings]\ntrack_commit_timestamp = \"on\"\n\
         [[transaction]]\nkind = \"users-insert\"\n{extra}"
    );
    let mut run = Run::start(&profile, &["--fault", "pitr primary at 2s"]);
    let primary = run.server("primary");
    (run, primary)
}

fn awaits_event(run: &mut Run, kind: &str) {
    run.awaits(kind, |run| {
        let events = run.record()?.events(kind);
        (!events.is_empty()).then_some(())
    });
}

fn of(audit: &[AuditRow], node: &str, check: AuditCheck) -> AuditRow {
    let found = audit.iter().find(|it| it.node == node && it.check == check);
    found
        .unwrap_or_else(|| panic!("no {check:?} of {node}: {audit:?}"))
        .clone()
}

/// The promises that are broken, with the number of violations.
fn broken(audit: &[AuditRow]) -> Vec<(&str, AuditCheck, u64)> {
    let failed = audit.iter().filter(|it| it.result == AuditResult::Fail);
    failed
        .map(|it| (it.node.as_str(), it.check, it.violations))
        .collect()
}

#[test]
fn a_restore_has_every_commit_before_its_target_and_none_after() {
    let (mut run, primary) = restoring("");
    // The load has ended, and no commit comes any more.
    run.awaits("restore", |run| run.find(TARGETS[0]));
    let committed = primary.sql(&format!(
        "SELECT to_char(pg_xact_commit_timestamp(xmin) AT TIME ZONE 'UTC', {TIME}) FROM public.users"
    ));
    // The server itself tells how many rows it has, if it is met before it is gone.
    let mut counted = Vec::new();
    let ended = support::until(support::PATIENCE, || {
        for node in TARGETS {
            let sql = "SELECT count(*) FROM public.users HAVING NOT pg_is_in_recovery()";
            let rows = run.find(node).and_then(|server| server.try_sql(sql).ok());
            let rows = rows.and_then(|rows| rows.first()?[0].clone()?.parse::<u64>().ok());
            counted.extend(rows.map(|rows| (node, rows)));
        }
        if run.is_running() { Err(()) } else { Ok(()) }
    });
    ended.expect("the run ends");
    let ended = run.ends();
    ended.is_whole();
    let record = run.record().unwrap();
    let (cell, audit) = (record.cell(), record.audit());
    assert_eq!(broken(&audit), [], "{}", ended.text);
    let [fault] = record.faults().try_into().unwrap();
    assert_eq!(fault.fault, "pitr primary at 2 s");
    assert!((2_000_000..3_000_000).contains(&fault.began_us) && fault.ended_us.is_some());
    assert_eq!(record.events("fault_began").len(), 1);
    let acknowledged = of(&audit, "primary", AuditCheck::Present).examined;
    assert_eq!(acknowledged, committed.len() as u64);
    assert!(cell.acked > 0 && cell.indeterminate == 0, "{cell:?}");
    for node in TARGETS {
        let row = |check| of(&audit, node, check);
        let (before, after) = (row(AuditCheck::BeforeTarget), row(AuditCheck::AfterTarget));
        // 500 ms of warm-up and 2 s of 4 s are before it.
        assert!(
            before.examined > 250 && after.examined > 200,
            "{before:?} {after:?}"
        );
        let in_flight = acknowledged - before.examined - after.examined;
        assert!(in_flight <= 16, "of so many connections: {in_flight}");
        let restored = row(AuditCheck::RestoredRows).examined;
        assert!((before.examined..=before.examined + in_flight).contains(&restored));
        assert_eq!(row(AuditCheck::RestoredContents).examined, restored);
        let told = row(AuditCheck::TargetReached).detail;
        let sentence = format!(
            "{restored} of {acknowledged} acknowledged commits, all {}",
            before.examined
        );
        assert!(told.contains(&sentence), "{told}");
        let text = ended.text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            text.contains(&format!("PASS archive, cell 1: {told}")),
            "{}",
            ended.text
        );
        for (_, rows) in counted.iter().filter(|it| it.0 == node) {
            assert_eq!(*rows, restored, "{node}");
        }
    }
    assert!(!counted.is_empty(), "no restored server was met");
    let rows = |node| of(&audit, node, AuditCheck::RestoredRows).examined;
    assert_eq!(rows(TARGETS[0]), rows(TARGETS[1]));
    assert_eq!(of(&audit, TARGETS[1], AuditCheck::SameByLsn).violations, 0);
    // The primary's own commit times say how many were committed by the target.
    let told = of(&audit, TARGETS[2], AuditCheck::TargetReached).detail;
    let (_, told) = told.split_once("restored to time ").unwrap();
    let (target, _) = told.split_once("+00").unwrap();
    let times = committed.iter().map(|row| row[0].as_deref().unwrap());
    let by_then = times.filter(|time| *time <= target).count() as u64;
    // Commits may be in the WAL in another order than their times; only those in flight at once.
    let difference = by_then.abs_diff(rows(TARGETS[2]));
    assert!(
        difference <= 2,
        "{by_then} by {target}, and {}",
        rows(TARGETS[2])
    );
}

#[test]
fn commits_that_are_not_restored_are_found() {
    let (mut run, primary) = restoring("");
    run.has_measured(1, 0);
    primary.sql(
        "DELETE FROM public.users WHERE id IN (SELECT id FROM public.users ORDER BY id LIMIT 3)",
    );
    let ended = run.ends();
    assert!(matches!(ended.code, 1 | 5), "{}", ended.text);
    let audit = run.record().unwrap().audit();
    let found = broken(&audit);
    for node in TARGETS {
        assert!(
            found.contains(&(node, AuditCheck::BeforeTarget, 3)),
            "{found:?}"
        );
    }
    assert!(
        found.contains(&("primary", AuditCheck::Present, 3)),
        "{found:?}"
    );
    let promise = AuditCheck::BeforeTarget.promise();
    let text = ended.text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        text.contains(&format!("Broken promise under archive: {promise}")),
        "{text}"
    );
}

#[test]
fn rows_that_are_gone_since_are_restored_and_told() {
    let (mut run, primary) = restoring("");
    awaits_event(&mut run, "fault_ended");
    primary.sql(
        "DELETE FROM public.users WHERE id IN (SELECT id FROM public.users ORDER BY id LIMIT 3)",
    );
    let ended = run.ends();
    assert!(matches!(ended.code, 1 | 5), "{}", ended.text);
    let audit = run.record().unwrap().audit();
    let found = broken(&audit);
    assert!(
        found.contains(&("primary", AuditCheck::Present, 3)),
        "{found:?}"
    );
    for node in TARGETS {
        assert!(
            found.contains(&(node, AuditCheck::RestoredContents, 3)),
            "{found:?}"
        );
        let before = of(&audit, node, AuditCheck::BeforeTarget);
        assert_eq!(before.violations, 0, "{before:?}");
    }
}

#[test]
fn a_hole_in_the_archive_is_found() {
    let (mut run, _) = restoring("");
    run.has_measured(1, 1);
    let archive = run.cluster().unwrap().join("archive");
    let segments = fs::read_dir(archive).unwrap().map(|it| it.unwrap().path());
    // By now the standby has all but perhaps the last.
    let mut segments: Vec<_> = segments.filter(|it| it.extension().is_none()).collect();
    segments.sort();
    let hole = segments.pop().unwrap();
    awaits_event(&mut run, "fault_ended");
    fs::remove_file(hole).unwrap();
    let ended = run.ends();
    assert!(matches!(ended.code, 1 | 5), "{}", ended.text);
    let audit = run.record().unwrap().audit();
    let wanted = TARGETS.map(|node| (node, AuditCheck::TargetReached, 1));
    assert_eq!(broken(&audit), wanted, "{}", ended.text);
    let why = of(&audit, TARGETS[0], AuditCheck::TargetReached).detail;
    // Depending on which segment it was.
    let ends = [
        "recovery ended before configured recovery target was reached",
        "could not locate required checkpoint record",
    ];
    assert!(ends.iter().any(|end| why.ends_with(end)), "{why}");
}

#[test]
fn an_end_during_a_restore_leaves_nothing() {
    for is_killed in [false, true] {
        let (mut run, _) = restoring("");
        run.awaits("restore", |run| {
            run.cluster()?.join(TARGETS[0]).is_dir().then_some(())
        });
        if is_killed {
            run.kill();
            run.dir.no_process_is_left();
        } else {
            run.interrupt();
            let ended = run.ends();
            assert_eq!(ended.code, 4, "{}", ended.text);
            let notes = run.record().unwrap().cell().notes;
            assert!(
                notes.contains("not every target was restored to"),
                "{notes}"
            );
        }
        assert_eq!(support::subdirectory(&run.dir.path().join("data")), None);
    }
}

#[test]
fn a_pitr_that_cannot_be_is_refused_before_anything_runs() {
    let dir = tempfile::tempdir().unwrap();
    let check = |fault: &str, arguments: &[&str]| {
        let profile = format!(
            "modes = [\"archive\"]\n[topology]\nstandbys = 1\n[[transaction]]\nkind = \"users-insert\"\n\
             [[fault]]\nkind = \"pitr\"\ntarget = \"primary\"\nat = \"2 s\"\n{fault}"
        );
        fs::write(dir.path().join("p.toml"), profile).unwrap();
        let mut command = assert_cmd::Command::cargo_bin("replbench").unwrap();
        let output = command.args(["check", "p.toml"]).args(arguments);
        let output = output.current_dir(dir.path()).output().unwrap();
        let told = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(told).unwrap())
    };
    let (code, text) = check("", &[]);
    assert!(
        code == Some(0) && text.contains("pitr of primary"),
        "{text}"
    );
    for (fault, arguments, words) in [
        (
            "for = \"1 s\"",
            &[][..],
            "a `pitr` is an instant and lasts for no time",
        ),
        ("", &["--modes", "async"], "mode `async` archives no WAL"),
        ("", &["--duration", "2s"], "comes after the measurement"),
        ("", &["--fault", "pitr primary at 2s"], "meet on one node"),
        (
            "",
            &["--fault", "pitr a1 at 3s"],
            "its target can be primary",
        ),
    ] {
        let (code, text) = check(fault, arguments);
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(code == Some(2) && text.contains(words), "{text}");
    }
}
