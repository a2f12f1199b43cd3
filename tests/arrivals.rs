//! What becomes of arrivals that wait for a connection or for an answer: each is sent or missed, and counted once.
//!
//! Real servers, started by the product. Without PostgreSQL every test here fails.
#![allow(clippy::unwrap_used, reason = "a test that cannot set up fails")]

mod support;

use std::time::Duration;

use replbench::sample::Phase;
use support::{Run, every_arrival_ends_once};

#[test]
fn a_fixed_count_is_sent_whole_although_its_end_found_every_connection_busy() {
    what_waits_at_the_end_is_sent("count = 600");
}

#[test]
fn what_waits_for_a_connection_when_a_timed_phase_ends_is_sent_during_the_drain() {
    what_waits_at_the_end_is_sent("duration = \"2 s\"");
}

#[track_caller]
fn what_waits_at_the_end_is_sent(length: &str) {
    let mut run = Run::of_users(
        "sync",
        1,
        "rate = 300\nconnections = 4\ntransaction_deadline = \"60 s\"\nmax_in_flight = 50",
        &format!("{length}\ndrain = \"30 s\"\n[expect]\noverload = true"),
    );
    let (primary, s1) = (run.server("primary"), run.server("s1"));
    run.has_measured(1, 0);
    let frozen = s1.freeze();
    let rows = primary.number("SELECT count(*) FROM public.users");
    // Longer than the arrivals last.
    std::thread::sleep(Duration::from_millis(2_500));
    drop(frozen);
    let ended = run.ends();
    ended.is_whole();
    let cell = run.record().unwrap().cell();
    assert_eq!(
        (cell.offered, cell.acked, cell.missed),
        (600, 600, 0),
        "{rows} at the stop: {cell:?}"
    );
    assert!(cell.notes.contains("offered 300/s, answered"), "{cell:?}");
}

/// Far more than can be sent, let alone answered: what becomes of every arrival is known all the same.
#[test]
fn arrivals_are_accounted_for_at_a_rate_beyond_all_measure() {
    let mut run = Run::of_users(
        "async",
        1,
        "rate = 100_000\nconnections = 4\nthreads = 2",
        "duration = \"2200 ms\"\ndrain = \"1 s\"",
    );
    let ended = run.ends();
    assert_eq!(ended.code, 5, "{}", ended.text);
    let record = run.record().unwrap();
    let cell = record.cell();
    every_arrival_ends_once(&cell);
    assert_eq!(cell.offered, 220_000, "{cell:?}");
    assert!(cell.achieved_tps > 0.0, "{cell:?}");
    assert!(
        cell.notes.starts_with("offered 100,000/s, answered "),
        "{}",
        cell.notes
    );
    assert!(
        !cell.notes.contains("nothing was acknowledged"),
        "{}",
        cell.notes
    );
    let rows = record.intervals();
    let (mut due, mut gone) = (0, 0);
    for row in &rows {
        due += row.offered;
        gone += row.sent + row.missed.unwrap();
        assert_eq!(due, gone + row.backlog, "{row:?}");
    }
    assert_eq!(due, 270_000, "{rows:?}");
    // 500 ms and 2,200 ms: no row is a rest of a few milliseconds.
    let lengths = |phase| -> Vec<u64> {
        let of_phase = rows.iter().filter(|row| row.phase == phase);
        of_phase.map(|row| row.length_us).collect()
    };
    assert_eq!(lengths(Phase::Warmup), [500_000]);
    assert_eq!(lengths(Phase::Measure), [1_000_000, 1_200_000]);
}

/// Most of what is in flight waits for a connection, and was never sent.
#[test]
fn arrivals_that_never_got_a_connection_are_missed_and_not_indeterminate() {
    let mut run = Run::of_users(
        "sync",
        1,
        "rate = 200\nconnections = 8\ntransaction_deadline = \"60 s\"",
        "duration = \"3 s\"\ndrain = \"1 s\"",
    );
    let (primary, s1) = (run.server("primary"), run.server("s1"));
    run.has_measured(1, 1);
    let frozen = s1.freeze();
    run.awaits("end of the drain", |_| {
        let probes =
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'replbench lag'";
        (primary.number(probes) == 0).then_some(())
    });
    drop(frozen);
    let ended = run.ends();
    assert_eq!(ended.code, 5, "{}", ended.text);
    let record = run.record().unwrap();
    let cell = record.cell();
    every_arrival_ends_once(&cell);
    assert_eq!(cell.offered, 600, "{cell:?}");
    assert_eq!(cell.indeterminate, 8, "{cell:?}");
    assert!(cell.missed > 100, "{cell:?}");
    // All that is known to be there is there; what a commit waits for may be on the standby already.
    assert!(record.events("rows_wrong").is_empty());
    assert!(
        cell.notes.contains("the servers did not keep up"),
        "{cell:?}"
    );
    let unanswered: u64 = record
        .events("indeterminate")
        .iter()
        .filter_map(|event| event.count)
        .sum();
    assert_eq!(unanswered, 8);
}
