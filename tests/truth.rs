//! Runs against truths that are known beforehand: what must come out is arithmetic or PostgreSQL's own promise. They measure times, so
//! `scripts/test` runs nothing beside them.
//!
//! Real servers, started by the product. Without PostgreSQL every test here fails.
#![allow(clippy::unwrap_used, reason = "a test that cannot set up fails")]

mod support;

use std::time::Duration;

use replbench::plan::{Client, VisibilityMethod};
use replbench::sample::Phase;
use support::Run;

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// Three cells on two standbys, of which `s2` replays every commit 300 ms after its time on the primary.
#[test]
fn a_replay_delay_of_300_ms_is_found_where_it_is_and_nowhere_else() {
    for client in Client::ALL {
        for method in VisibilityMethod::ALL {
            replay_delay(client, method);
        }
    }
}

fn replay_delay(client: Client, method: VisibilityMethod) {
    const DELAY: f64 = 300.0;
    let mut run = Run::start(
        &r#"
        modes = ["async", "sync:first-2", "remote_apply:first-2"]
        [load]
        client = "CLIENT"
        rate = 100
        arrivals = "uniform"
        connections = 64
        [probes]
        visibility = "METHOD"
        [phases]
        warmup = "1500 ms"
        duration = "2 s"
        repeats = 1
        [[transaction]]
        kind = "users-insert"
        "#
        .replace("CLIENT", client.as_str())
        .replace("METHOD", method.as_str()),
        &[],
    );
    // In the warm-up of the first cell. Counted from the commit's time on the primary, not from its arrival.
    let s2 = run.server("s2");
    s2.sql("ALTER SYSTEM SET recovery_min_apply_delay = '300ms'");
    s2.sql("SELECT pg_reload_conf()");
    let ended = run.ends();
    ended.is_whole();
    let record = run.record().unwrap();
    for cell in record.cells() {
        let mode = cell.mode.as_str();
        let found = record.histograms(cell.cell_id);
        let n = cell.acked;
        assert_eq!((cell.offered, n), (200, 200), "{mode}: {cell:?}");
        for node in ["s1", "s2"] {
            let unseen: u64 = record
                .visibility(cell.cell_id, node)
                .iter()
                .map(|row| row.unseen)
                .sum();
            assert_eq!(unseen, 0, "{mode} {node}");
        }
        let commit = millis(found.of("service").quantile_of(0.5, n).unwrap());
        let at =
            |node: &str, bound| found.visibility(node, bound).quantile_of(0.5, n).unwrap() * 1e3;
        let sent = |node: &str, q| millis(found.after_send(node).quantile_of(q, n).unwrap());
        let (lo, hi) = (at("s2", "lo"), at("s2", "hi"));
        let said = format!(
            "{client}, {method:?}, {mode}: commit {commit:.2} ms, s2 {lo:.2} to {hi:.2} ms, from send {:.2} ms; s1 {:.2} ms",
            sent("s2", 0.5),
            at("s1", "hi")
        );
        // Not one commit may be shown before its time, whatever the machine does: the clock starts after the send.
        assert!(sent("s2", 0.0) >= DELAY - 0.5, "{said}");
        assert!(sent("s2", 0.5) <= DELAY + commit.min(20.0) + 10.0, "{said}");
        assert!(at("s1", "hi") < 50.0, "{said}");
        if mode == "remote_apply:first-2" {
            // Such a commit returns when s2 shows it, so nothing is left of the delay afterwards.
            assert!((DELAY - 0.5..DELAY + 20.0).contains(&commit), "{said}");
            assert!(hi < 10.0 && lo < 0.0, "{said}");
            // Known to be so from looks made before the acknowledgement, not because nobody looked between it and the send.
            for second in record.visibility(cell.cell_id, "s2") {
                let resolution = second.resolution_us.unwrap();
                assert!(resolution < 1e3 * DELAY / 4.0, "{said}: {second:?}");
            }
        } else {
            assert!(commit < 50.0, "{said}");
            // The acknowledgement comes after the commit's time by at most the whole commit.
            assert!(lo <= DELAY + 2.0 && hi >= DELAY - commit - 0.5, "{said}");
            assert!(hi <= DELAY + 10.0, "{said}");
        }
    }
    assert_eq!(record.cells().len(), 3);
}

#[test]
fn the_warm_up_is_in_no_figure_of_an_open_loop() {
    let mut run = Run::start(
        r#"
        modes = ["async"]
        [topology]
        standbys = 1
        [load]
        rate = 400
        arrivals = "uniform"
        threads = 2
        [phases]
        warmup = "1500 ms"
        duration = "2500 ms"
        drain = "20 s"
        repeats = 1
        [[transaction]]
        kind = "users-insert"
        "#,
        &[],
    );
    let ended = run.ends();
    let record = run.record().unwrap();
    let cell = record.cell();
    // 400 a second for 2.5 s: an arrival at the very start counts, the one at the very end is none.
    assert_eq!(cell.offered, 1_000, "{cell:?}");
    let ends =
        cell.acked + cell.acked_with_warning + cell.failed + cell.indeterminate + cell.missed;
    assert_eq!(ends, 1_000, "{cell:?}");
    ended.is_whole();
    let found = record.histograms(1);
    assert_eq!(found.of("response").count(), cell.acked);
    assert_eq!(found.of("service").count(), cell.acked);
    assert_eq!(found.of("start_lag").count(), 1_000 - cell.missed);
    assert_eq!(found.visibility("s1", "hi").count(), cell.acked);
    let seconds = record.visibility(1, "s1");
    assert_eq!(
        seconds.iter().map(|row| row.commits).sum::<u64>(),
        cell.acked
    );
    assert!(seconds.iter().all(|row| row.t_us >= 0));
    let offered = |phase| -> u64 {
        let rows = record.intervals();
        rows.iter()
            .filter(|row| row.phase == phase)
            .map(|row| row.offered)
            .sum()
    };
    assert_eq!(offered(Phase::Warmup), 600);
    assert_eq!(offered(Phase::Measure) + offered(Phase::Drain), 1_000);
    assert!(
        record
            .intervals()
            .iter()
            .all(|row| (row.t_us < 0) == (row.phase == Phase::Warmup))
    );
    // Each whole second has its share of the host and of the probes.
    for row in record
        .intervals()
        .iter()
        .filter(|row| row.phase == Phase::Measure && row.length_us > 900_000)
    {
        assert!(
            row.host_busy_share
                .is_some_and(|share| (0.0..=1.0).contains(&share)),
            "{row:?}"
        );
        assert!(
            row.probe_cpu_share.is_some() && row.wal_bytes.is_some_and(|bytes| bytes > 0),
            "{row:?}"
        );
    }
    let rows = record.events("rows");
    // The warm-up's rows are on the disk all the same.
    assert!(
        rows.iter()
            .all(|row| row.count.unwrap() >= 600 + cell.acked),
        "{rows:?}"
    );
}

#[test]
fn a_closed_loop_counts_what_it_began_and_sees_commits_before_their_acknowledgement() {
    let mut run = Run::start(
        r#"
        modes = ["remote_apply"]
        [topology]
        standbys = 1
        [load]
        rate = "max"
        connections = 8
        threads = 2
        [phases]
        warmup = "700 ms"
        duration = "1500 ms"
        drain = "20 s"
        repeats = 1
        [[transaction]]
        kind = "users-insert"
        "#,
        &[],
    );
    let ended = run.ends();
    ended.is_whole();
    let record = run.record().unwrap();
    let cell = record.cell();
    let ends =
        cell.acked + cell.acked_with_warning + cell.failed + cell.indeterminate + cell.missed;
    assert_eq!(cell.offered, ends, "{cell:?}");
    assert!(cell.acked > 50, "{cell:?}");
    let found = record.histograms(1);
    assert_eq!(found.of("service").count(), cell.acked);
    let (lo, hi) = (found.visibility("s1", "lo"), found.visibility("s1", "hi"));
    assert_eq!((lo.count(), hi.count()), (cell.acked, cell.acked));
    // The standby had replayed each of them before the primary answered.
    assert!(
        lo.negative.count() > cell.acked * 9 / 10,
        "{} of {}",
        lo.negative.count(),
        cell.acked
    );
    assert!(lo.quantile_of(0.5, cell.acked).unwrap() < 0.0);
    let seconds = record.visibility(1, "s1");
    assert!(
        seconds
            .iter()
            .any(|row| row.p50_lo_us.is_some_and(|lo| lo < 0.0)),
        "{seconds:?}"
    );
    // Nothing is visible before it was sent: no interval reaches further back than the longest commit.
    let longest = found.of("service").max().unwrap();
    assert!(lo.negative.max().unwrap() <= longest.mul_f64(1.01));
}
