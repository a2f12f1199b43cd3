//! Runs of which it is known beforehand what must be in their record: what is counted, said and kept. None measures a time, so others
//! may run beside them; those that do are in `tests/truth.rs`. Real servers, started by the product.
#![allow(clippy::unwrap_used, reason = "a test that cannot set up fails")]

mod support;

use std::time::Duration;

use replbench::plan::ServersMade;
use replbench::record::RunStatus;
use support::Run;

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
    let phases = "duration = \"1 s\"\ndrain = \"20 s\"";
    let mut run = Run::of_users("async", 1, "rate = 100", phases);
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
