//! Faults of a replica that it cannot get over by itself at once: a query in the way of replay, changes that it cannot apply, a lost slot.
//! What is late, what is lost, and that the replica has everything in the end.
//!
//! Real servers, started by the product. Without PostgreSQL every test here fails.

mod support;

use replbench::sample::{AuditResult, FaultRow};
use support::{Record, Run};

const LOAD: &str = r#"
    [load]
    rate = 100
    arrivals = "uniform"
    [phases]
    warmup = "500 ms"
    duration = "5 s"
    drain = "20 s"
    repeats = 1
    [[transaction]]
    kind = "users-insert"
"#;

fn fault(record: &Record, node: &str) -> FaultRow {
    let faults = record.faults();
    let found = faults.iter().find(|it| it.node == node);
    found.unwrap_or_else(|| panic!("{faults:?}")).clone()
}

/// Every promise is kept on every node, and the rows are those of the acknowledged commits.
fn has_everything(record: &Record) {
    let audit = record.audit();
    assert!(
        !audit.is_empty() && audit.iter().all(|row| row.result == AuditResult::Pass),
        "{audit:?}"
    );
    for rows in record.events("rows") {
        assert_eq!(rows.count, Some(record.cell().acked + 50), "{rows:?}");
    }
}

#[test]
fn a_long_query_holds_up_replay_until_it_is_cancelled_and_a_lost_slot_costs_a_base_backup() {
    let profile = format!(
        r#"
        modes = ["async"]
        [topology]
        standbys = 2
        {LOAD}
        [node.s1]
        settings = {{ max_standby_streaming_delay = "1s" }}
        [[fault]]
        kind = "long-query"
        target = "s1"
        at = "500 ms"
        for = "3 s"
        [[fault]]
        kind = "slot-loss"
        target = "s2"
        at = "1 s"
        for = "1 s"
        "#
    );
    let (run, ended) = support::valid(|| Run::start(&profile, &[]));
    assert_eq!(ended.code, 0, "{}", ended.text);
    let record = run.record().expect("a record");
    let cancelled = record.events("query_cancelled");
    let [cancelled] = cancelled.as_slice() else {
        panic!("{cancelled:?}")
    };
    assert_eq!(cancelled.node.as_deref(), Some("s1"));
    assert_eq!(cancelled.sqlstate.as_deref(), Some("40001"));
    let query = fault(&record, "s1");
    let waited = cancelled.t_us - query.began_us;
    assert!((1_000_000..3_000_000).contains(&waited), "{waited}");
    // What was committed when replay had begun to wait was seen when the query had gone, and not when the fault was over.
    let slowest = query.slowest_us.expect("all were seen");
    assert!((900_000..2_900_000).contains(&slowest), "{query:?}");
    let (commits, stale) = (query.commits.expect("some"), query.stale_hi.expect("some"));
    assert!(stale > 50 && stale < commits, "{query:?}");
    assert!(query.stale_lo <= query.stale_hi, "{query:?}");
    let undone = query.ended_us.expect("it was undone");
    assert!(undone < 4_500_000, "it waited for another fault: {query:?}");
    let slot = fault(&record, "s2");
    assert!(slot.rejoin_us.is_some_and(|took| took > 0), "{slot:?}");
    // It was down for a second at least, and then was copied.
    assert!(slot.slowest_us.is_some_and(|us| us > 1_000_000), "{slot:?}");
    let cell = record.cell();
    assert!(
        cell.notes
            .contains("`s2` replicates again, by a new base backup in"),
        "{}",
        cell.notes
    );
    let behind = |node: &str| {
        let rows = record.visibility(cell.cell_id, node);
        rows.iter().filter_map(|row| row.commits_behind).max()
    };
    assert!(behind("s2") > Some(50), "{:?}", behind("s2"));
    let told = ended.text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        told.contains(
            "commits acknowledged during the fault of s2 under async, a read there 100 ms later missed"
        ),
        "{told}"
    );
    has_everything(&record);
}

#[test]
fn what_a_subscriber_cannot_apply_comes_later_and_a_lost_slot_costs_an_initial_copy() {
    let profile = format!(
        r#"
        modes = ["logical"]
        [topology]
        subscribers = 2
        {LOAD}
        [[fault]]
        kind = "apply-error"
        target = "sub1"
        at = "500 ms"
        for = "1 s"
        [[fault]]
        kind = "slot-loss"
        target = "sub2"
        at = "3 s"
        for = "1 s"
        "#
    );
    let (run, ended) = support::valid(|| Run::start(&profile, &[]));
    assert_eq!(ended.code, 0, "{}", ended.text);
    let record = run.record().expect("a record");
    let cell = record.cell();
    assert!(
        cell.notes.contains("`sub1` met ") && cell.notes.contains(" errors while applying changes"),
        "{}",
        cell.notes
    );
    assert!(
        cell.notes
            .contains("`sub2` replicates again, by a new initial copy in"),
        "{}",
        cell.notes
    );
    for node in ["sub1", "sub2"] {
        let fault = fault(&record, node);
        let slowest = fault.slowest_us.expect("all were seen");
        assert!(slowest > 900_000, "{fault:?}");
        assert_eq!(
            fault.rejoin_us.is_some(),
            node == "sub2",
            "only the one is made anew: {fault:?}"
        );
    }
    has_everything(&record);
}
