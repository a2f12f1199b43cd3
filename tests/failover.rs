//! A primary that dies, with and without another in its place: what is lost, for how long nothing is acknowledged, and what the audit
//! says of it, next to counts of its own.
//!
//! Real servers, started by the product. Without PostgreSQL every test here fails.
#![allow(clippy::unwrap_used, reason = "a test that cannot set up fails")]

mod support;

use std::time::Duration;

use replbench::sample::{AuditCheck, AuditResult, AuditRow, CellRow};
use support::{PATIENCE, Record, Run, Server};

/// For 400 ms no standby receives anything, then the primary dies for good.
const FAILOVER: &str = r#"
    [topology]
    standbys = 2
    [load]
    rate = 300
    [phases]
    warmup = "500 ms"
    duration = "5 s"
    repeats = 1
    [settings]
    wal_retrieve_retry_interval = "100ms"
    wal_log_hints = "on"
    [[fault]]
    kind = "pause-sending"
    target = "s1"
    at = "1600 ms"
    for = "1 s"
    [[fault]]
    kind = "pause-sending"
    target = "s2"
    at = "1600 ms"
    for = "1 s"
    [[fault]]
    kind = "failover"
    target = "primary"
    at = "2 s"
    for = "1 s"
    [[transaction]]
    kind = "product-insert"
    [[transaction]]
    kind = "users-insert"
"#;

fn of(rows: &[AuditRow], cell: &CellRow, node: &str, check: AuditCheck) -> Option<AuditRow> {
    let own =
        |row: &&AuditRow| row.cell_id == cell.cell_id && row.node == node && row.check == check;
    rows.iter().find(own).cloned()
}

/// What `count(*)` said of a node after a cell, which the audit does not use.
fn counted(record: &Record, cell: &CellRow, node: &str) -> u64 {
    let own = record.events("rows").into_iter();
    own.filter(|it| it.cell_id == Some(cell.cell_id) && it.node.as_deref() == Some(node))
        .map(|it| it.count.unwrap())
        .sum()
}

#[test]
fn async_loses_what_no_standby_had_and_sync_loses_nothing() {
    let profile = format!("modes = [\"async\", \"sync\", \"remote_apply\"]\n{FAILOVER}");
    let (run, ended) = support::valid(|| Run::start(&profile, &[]));
    assert_eq!(ended.code, 0, "{}", ended.text);
    let record = run.record().unwrap();
    let (audit, faults) = (record.audit(), record.faults());
    assert_eq!(record.cells().len(), 3);
    assert!(
        audit.iter().all(|row| row.result != AuditResult::Fail),
        "{audit:?}"
    );
    for cell in record.cells() {
        let mut own = faults
            .iter()
            .filter(|it| it.cell_id == cell.cell_id && it.stops_primary);
        let fault = own.next().unwrap();
        assert!(own.next().is_none());
        let lost = fault.lost.unwrap();
        assert_eq!(
            lost > 0,
            cell.mode == "async",
            "{lost} lost under {}",
            cell.mode
        );
        if lost > 0 {
            // Nothing was sent for 400 ms, less what the two pauses began one after the other.
            let span = Duration::from_micros(fault.lost_span_us.unwrap().unsigned_abs());
            assert!(
                (Duration::from_millis(200)..Duration::from_millis(450)).contains(&span),
                "{span:?}"
            );
        }
        let rto = fault.rto_us.unwrap();
        assert!((1_000..5_000_000).contains(&rto), "{rto}");
        assert!(
            fault.rejoin_us.is_some() && fault.ended_us.is_some(),
            "{fault:?}"
        );
        assert!(
            cell.notes.contains("replicates again, by pg_rewind"),
            "{}",
            cell.notes
        );
        // What was lost had been written by the last sample, 100 ms before the death at most.
        let wal = fault.lost_wal_bytes.unwrap();
        assert!(wal > 0 || lost == 0, "{wal} bytes under {}", cell.mode);
        let fenced = of(&audit, &cell, "primary", AuditCheck::Fenced);
        assert_eq!(fenced.unwrap().result, AuditResult::Pass);
        let promoted = fault.promoted.as_deref().unwrap();
        for node in ["primary", "s1", "s2"] {
            let row = |check| of(&audit, &cell, node, check);
            let present = row(AuditCheck::Present).unwrap();
            assert_eq!(present.violations, lost, "{node} under {}", cell.mode);
            assert_eq!(row(AuditCheck::Suffix).is_some(), lost > 0);
            assert_eq!(row(AuditCheck::SameContents).is_none(), node == promoted);
            // Whatever is there beyond the acknowledged is of transactions whose outcome is unknown.
            let acknowledged = present.examined - lost;
            let rows = counted(&record, &cell, node);
            assert!(
                (acknowledged..=acknowledged + cell.indeterminate).contains(&rows),
                "{rows}: {present:?}"
            );
        }
        assert!(
            cell.indeterminate > 0
                && cell.acked + cell.indeterminate + cell.failed + cell.missed == cell.offered,
            "{cell:?}"
        );
    }
    let manifest = record.manifest();
    assert_eq!(manifest.nodes.len(), 3, "all clusters are alike");
}

#[test]
fn a_switchover_loses_nothing_even_under_async() {
    let profile = FAILOVER.split("[[fault]]").next().unwrap();
    let profile = format!(
        "modes = [\"async\"]\n{profile}[[transaction]]\nkind = \"users-insert\"\n\
         [[fault]]\nkind = \"frozen-standby\"\ntarget = \"s2\"\nat = \"500 ms\"\nfor = \"600 ms\"\n\
         [[fault]]\nkind = \"switchover\"\ntarget = \"primary\"\nat = \"2 s\"\nfor = \"1 s\"\n"
    );
    let (run, ended) = support::valid(|| Run::start(&profile, &[]));
    assert_eq!(ended.code, 0, "{}", ended.text);
    let record = run.record().unwrap();
    let audit = record.audit();
    assert!(
        audit.len() >= 14 && audit.iter().all(|row| row.result == AuditResult::Pass),
        "{audit:?}"
    );
    let faults = record.faults();
    let [frozen, switchover] = faults.as_slice() else {
        panic!("{faults:?}")
    };
    assert_eq!((frozen.lost, frozen.rto_us), (None, None));
    assert_eq!(switchover.lost, Some(0));
    assert!(switchover.promoted.is_some() && switchover.rejoin_us.is_some());
    // What committed while it was frozen was seen there when it went on.
    let slowest = record
        .visibility(1, "s2")
        .into_iter()
        .filter_map(|row| row.max_hi_us);
    assert!(slowest.fold(0.0, f64::max) > 400_000.0);
}

/// A run in which the primary crashes and comes back, and the server to do something to.
fn crashing(mode: &str, node: &str) -> (Run, Server) {
    let profile = format!(
        "modes = [\"{mode}\"]\n[topology]\nstandbys = 1\nsubscribers = 1\n\
         [load]\nrate = 200\n\
         [phases]\nwarmup = \"500 ms\"\nduration = \"5 s\"\nrepeats = 1\n\
         [[fault]]\nkind = \"primary-crash\"\ntarget = \"primary\"\nat = \"1500 ms\"\nfor = \"500 ms\"\n\
         [[transaction]]\nkind = \"users-insert\"\n"
    );
    let mut run = Run::start(&profile, &[]);
    let server = run.server(node);
    (run, server)
}

#[test]
fn a_primary_that_crashes_and_comes_back_has_lost_nothing() {
    let (mut run, _) = crashing("async", "s1");
    let ended = run.ends();
    ended.is_whole();
    let record = run.record().unwrap();
    let (cell, audit) = (record.cell(), record.audit());
    assert!(
        audit.len() >= 9 && audit.iter().all(|row| row.result == AuditResult::Pass),
        "{audit:?}"
    );
    let [fault] = record.faults().try_into().unwrap();
    assert_eq!(
        (fault.lost, fault.promoted, fault.rejoin_us),
        (Some(0), None, None)
    );
    // It was down for as long as the fault lasted.
    assert!(
        (500_000..10_000_000).contains(&fault.unavailable_us.unwrap()),
        "{cell:?}"
    );
    let response = record.histograms(1).of("response").max().unwrap();
    assert!(
        response >= Duration::from_millis(400),
        "arrivals of the outage count: {response:?}"
    );
}

/// The check that must fail after `sql` was run on a node behind the product's back.
#[track_caller]
fn is_found(mode: &str, node: &str, sql: &str, check: AuditCheck) {
    let (mut run, server) = crashing(mode, node);
    run.has_measured(1, 0);
    server.sql(sql);
    let ended = run.ends();
    assert!(matches!(ended.code, 1 | 5), "{}", ended.text);
    let broken = format!("Broken promise under {mode}: {}", check.promise());
    let text = ended.text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains(&broken), "{}", ended.text);
    let audit = run.record().unwrap().audit();
    let failed: Vec<_> = audit
        .iter()
        .filter(|it| it.result == AuditResult::Fail)
        .collect();
    assert!(
        failed.iter().any(|it| it.node == node && it.check == check),
        "{failed:?}"
    );
}

#[test]
fn rows_deleted_behind_its_back_are_found_missing() {
    let sql =
        "DELETE FROM public.users WHERE id IN (SELECT id FROM public.users ORDER BY id LIMIT 3)";
    is_found("async", "primary", sql, AuditCheck::Present);
}

#[test]
fn a_row_that_only_a_subscriber_has_is_found() {
    let sql =
        "INSERT INTO public.users (id, name, email) VALUES (-1, 'nobody', 'nobody@example.com')";
    is_found("logical", "sub1", sql, AuditCheck::NoPhantom);
}

#[test]
fn a_row_that_is_twice_on_a_subscriber_is_found() {
    let sql = "ALTER TABLE public.users DROP CONSTRAINT users_pkey; \
               INSERT INTO public.users SELECT * FROM public.users ORDER BY id LIMIT 1";
    is_found("logical", "sub1", sql, AuditCheck::NoDuplicate);
}

#[test]
fn a_row_that_was_changed_on_a_subscriber_is_found() {
    let sql = "UPDATE public.users SET email = 'x' WHERE id = (SELECT min(id) FROM public.users)";
    is_found("logical", "sub1", sql, AuditCheck::SameContents);
}

#[test]
fn an_interrupt_in_an_outage_keeps_what_was_measured_and_leaves_nothing() {
    let profile = format!("modes = [\"async\"]\n{FAILOVER}");
    let mut run = Run::start(&profile, &[]);
    run.awaits("failover", |run| {
        let events = run.record()?.events("promoted");
        (!events.is_empty()).then_some(())
    });
    run.interrupt();
    let ended = run.ends();
    assert_eq!(ended.code, 4, "{}", ended.text);
    let record = run.record().unwrap();
    let [cell] = record.cells().try_into().unwrap();
    assert!(cell.notes.contains("cut short"), "{}", cell.notes);
    assert!(
        record.faults().iter().all(|it| it.ended_us.is_some()),
        "all were undone"
    );
}

#[test]
fn twenty_failovers_in_a_row_leave_nothing() {
    let profile = r#"
        modes = ["async"]
        [topology]
        standbys = 1
        [load]
        rate = 100
        [phases]
        warmup = "100 ms"
        duration = "1 s"
        repeats = 20
        [settings]
        wal_log_hints = "on"
        [[fault]]
        kind = "failover"
        target = "primary"
        at = "200 ms"
        for = "300 ms"
        [[transaction]]
        kind = "users-insert"
    "#;
    let mut run = Run::start(profile, &[]);
    let ended = run.ends_within(2 * PATIENCE);
    ended.is_whole();
    assert_eq!(run.cluster(), None, "no directory of servers is left");
    let record = run.record().unwrap();
    let faults = record.faults();
    assert_eq!(faults.len(), 20);
    for fault in &faults {
        assert_eq!(fault.promoted.as_deref(), Some("s1"), "{fault:?}");
        assert!(
            fault.rto_us.is_some() && fault.rejoin_us.is_some() && fault.ended_us.is_some(),
            "{fault:?}"
        );
    }
    let mut audit = record.audit();
    audit.retain(|row| row.result == AuditResult::Fail);
    assert_eq!(audit, []);
}
