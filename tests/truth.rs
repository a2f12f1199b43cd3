//! Runs against truths that are known beforehand: what must come out is arithmetic or PostgreSQL's own promise.
//!
//! Real servers, started by the product. Without PostgreSQL every test here fails.
#![allow(clippy::unwrap_used, reason = "a test that cannot set up fails")]

mod support;

use std::time::Duration;

use replbench::plan::{Client, ServersMade, VisibilityMethod};
use replbench::record::RunStatus;
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
fn every_insert_is_counted_once_on_every_node_and_no_password_is_written_anywhere() {
    let mut run = Run::start(
        r#"
        modes = ["logical:2"]
        [load]
        rate = 800
        [phases]
        warmup = "0 s"
        count = 2_000
        drain = "20 s"
        repeats = 1
        [[transaction]]
        kind = "users-insert"
        "#,
        &["--tag", "purpose=truth"],
    );
    let primary = run.server("primary");
    let password = primary
        .endpoint
        .password
        .as_ref()
        .unwrap()
        .reveal()
        .to_owned();
    assert!(password.len() >= 16);
    let told: Vec<_> = procfs::process::all_processes()
        .unwrap()
        .flatten()
        .filter_map(|process| process.cmdline().ok())
        .filter(|line| line.iter().any(|word| word.contains(&password)))
        .collect();
    assert!(told.is_empty(), "{told:?}");
    let ended = run.ends();
    ended.is_whole();
    assert!(!ended.text.contains(&password));
    let record = run.record().unwrap();
    let cell = record.cell();
    assert_eq!((cell.offered, cell.acked), (2_000, 2_000), "{cell:?}");
    assert_eq!(
        cell.failed + cell.indeterminate + cell.missed + cell.acked_with_warning,
        0
    );
    let rows: Vec<_> = record
        .events("rows")
        .into_iter()
        .map(|event| (event.node.unwrap(), event.detail, event.count.unwrap()))
        .collect();
    let expected = ["primary", "sub1", "sub2"].map(|node| (node.into(), "users".into(), 2_000));
    assert_eq!(rows, expected);
    let found = record.histograms(1);
    for tag in ["start_lag", "pool_wait", "service", "response"] {
        assert_eq!(found.of(tag).count(), 2_000, "{tag}");
    }
    for node in ["sub1", "sub2"] {
        let seconds = record.visibility(1, node);
        let sum =
            |of: fn(&replbench::sample::VisibilityRow) -> u64| seconds.iter().map(of).sum::<u64>();
        assert_eq!(
            (
                sum(|row| row.commits),
                sum(|row| row.seen),
                sum(|row| row.unseen)
            ),
            (2_000, 2_000, 0)
        );
        assert_eq!(found.visibility(node, "hi").count(), 2_000);
        assert_eq!(found.visibility(node, "lo").count(), 2_000);
        assert_eq!(found.after_send(node).count(), 2_000);
    }
    let status = record.manifest().status;
    assert!(
        matches!(status, RunStatus::Complete | RunStatus::Invalid),
        "{status:?}"
    );
    assert!(!record.is_partial());
    for (path, bytes) in record.files() {
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains(&password), "{}", path.display());
    }
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

/// On a real primary every acknowledged row is there, and no standby shows a commit within a nanosecond of its acknowledgement
/// in the 99th of 100 cases under async.
#[test]
fn a_gate_that_cannot_hold_ends_the_run_with_1_and_one_that_does_passes() {
    let profile = r#"
        modes = ["async"]
        [load]
        rate = 100
        [phases]
        warmup = "0 s"
        duration = "2 s"
        repeats = 1
        [[transaction]]
        kind = "users-insert"
        [[gate]]
        name = "impossible"
        metric = "visibility.p99"
        node = "s1"
        max = "1 ns"
        [[gate]]
        name = "checkout"
        metric = "visibility.max"
        node = "primary"
        max = "0 s"
        "#;
    let (run, ended) = support::valid(|| Run::start(profile, &[]));
    assert_eq!(ended.code, 1, "{}", ended.text);
    for part in [
        "1 of 2 gates failed: impossible: visibility.p99 on s1 under async is ",
        "FAIL  impossible: ",
        "PASS  checkout: visibility.max on primary under async is 0 s",
    ] {
        assert!(
            ended.text.contains(part),
            "{part} is not in:\n{}",
            ended.text
        );
    }
    let record = run.record().unwrap();
    assert_eq!(record.manifest().status, RunStatus::Complete);
    assert!(!record.is_partial());
}

#[test]
fn where_topologies_are_compared_servers_live_for_one_block_and_write_the_same_into_their_wal() {
    let mut run = Run::start(
        r#"
        modes = ["async", "logical"]
        [topology]
        standbys = 1
        [load]
        rate = 100
        [phases]
        warmup = "200 ms"
        duration = "1 s"
        drain = "20 s"
        repeats = 2
        [[transaction]]
        kind = "users-insert"
        "#,
        &[],
    );
    let ended = run.ends_within(Duration::from_mins(5));
    ended.is_whole();
    let record = run.record().unwrap();
    assert_eq!(record.cells().len(), 4);
    assert_eq!(record.events("provisioned").len(), 4, "two in each block");
    let manifest = record.manifest();
    assert_eq!(manifest.servers_made(), ServersMade::EveryBlock);
    let nodes: Vec<_> = manifest
        .nodes
        .iter()
        .map(|node| (node.cluster.as_str(), node.name.as_str()))
        .collect();
    let (flat, logical) = ("1 primary, 1 standby", "1 primary, 1 subscriber");
    assert_eq!(
        nodes,
        [
            (flat, "primary"),
            (flat, "s1"),
            (logical, "primary"),
            (logical, "sub1")
        ]
    );
    for node in &manifest.nodes {
        let level = node.settings.get("wal_level").map(String::as_str);
        assert_eq!(level, Some("logical"), "{node:?}");
    }
    assert!(
        ended.text.contains("1 subscriber instead of 1 standby"),
        "{}",
        ended.text
    );
}

#[test]
fn a_cell_before_the_first_is_recorded_and_in_no_figure() {
    let mut run = Run::start(
        r#"
        modes = ["async"]
        [topology]
        standbys = 1
        [load]
        rate = 100
        [phases]
        warmup = "200 ms"
        duration = "1 s"
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
    let discarded = record.discarded();
    let [cell] = discarded.as_slice() else {
        panic!("one cluster was made: {discarded:?}");
    };
    assert_eq!(
        (cell.rep, cell.cell_id, cell.mode.as_str()),
        (0, 2, "async")
    );
    assert!(cell.acked > 0 && cell.started_at < record.cell().started_at);
    assert!(record.0.join("hist/cell-002.hlog").is_file());
    let disk = record.manifest().host.fdatasync.unwrap();
    assert!(
        disk.n > 0 && disk.p50_us > 0.0 && disk.p99_us >= disk.p50_us,
        "{disk:?}"
    );
    let report = std::fs::read_to_string(record.0.join("report.html")).unwrap();
    assert!(report.contains(&disk.to_string()), "{disk}");
    // What every reader goes through.
    let read = replbench::record::Run::open(&record.0).unwrap();
    assert_eq!(read.warnings, Vec::<String>::new());
    let ids = |rows: Vec<u32>| rows.into_iter().collect::<std::collections::BTreeSet<_>>();
    assert_eq!(
        ids(read.cells.iter().map(|row| row.cell_id).collect()),
        [1].into()
    );
    for found in [
        read.intervals.iter().map(|row| row.cell_id).collect(),
        read.lag.iter().map(|row| row.cell_id).collect(),
        read.visibility.iter().map(|row| row.cell_id).collect(),
        read.events.iter().filter_map(|row| row.cell_id).collect(),
    ] {
        assert_eq!(ids(found), [1].into());
    }
    let summary = std::fs::read_to_string(record.0.join("summary.csv")).unwrap();
    assert!(summary.lines().skip(1).all(|line| line.starts_with("1,")));
    assert!(ended.text.contains("1/1 async"), "{}", ended.text);
}

#[test]
fn what_servers_do_besides_serving_is_counted_and_noted() {
    let mut run = Run::start(
        r#"
        modes = ["logical:1"]
        [load]
        rate = 300
        [phases]
        warmup = "0 s"
        duration = "10 s"
        drain = "20 s"
        repeats = 1
        [[transaction]]
        kind = "users-insert"
        [settings]
        autovacuum_naptime = "1s"
        "#,
        &[],
    );
    let (primary, subscriber) = (run.server("primary"), run.server("sub1"));
    run.has_measured(1, 3);
    for server in [&primary, &subscriber] {
        let vacuums = "SELECT sum(vacuum_count)::bigint FROM pg_stat_user_tables";
        assert!(server.number(vacuums) > 0, "{:?}", server.endpoint.node);
    }
    primary.sql("CHECKPOINT");
    let ended = run.ends();
    ended.is_whole();
    let cell = run.record().unwrap().cell();
    assert_eq!(cell.checkpoints, Some(1), "{cell:?}");
    // The first change of a page after the checkpoint writes all of it.
    assert!(cell.full_page_images > Some(0), "{cell:?}");
    // More than the 50 new rows that make a table worth analyzing, in every second.
    assert!(cell.autovacuums > Some(0), "{cell:?}");
    for words in ["1 checkpoint(s) fell", "autovacuum ran"] {
        assert!(cell.notes.contains(words), "{}", cell.notes);
    }
}
