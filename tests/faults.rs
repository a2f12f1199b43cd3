//! What is done to a run while it goes: servers stopped and killed, waits cancelled, tables broken, replbench itself interrupted
//! and killed. What was measured stays, what is unknown is said to be, and nothing outlives it.
//!
//! Real servers, started by the product. Without PostgreSQL every test here fails.
#![allow(clippy::unwrap_used, reason = "a test that cannot set up fails")]

mod support;

use std::time::Duration;

use replbench::record::RunStatus;
use replbench::sample::{EventRow, Phase, Presence};
use rustix::process::Signal;
use support::{Run, every_arrival_ends_once};

#[test]
fn a_stopped_standby_falls_behind_and_leaves_commits_unseen() {
    let mut run = Run::of_users(
        "async",
        2,
        "rate = 200",
        "duration = \"4 s\"\ndrain = \"1500 ms\"",
    );
    let (primary, s1, s2) = (run.server("primary"), run.server("s1"), run.server("s2"));
    run.has_measured(1, 1);
    let frozen = s2.freeze();
    let gone = |server: &support::Server, name: &str| {
        let query = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'replbench {name}'"
        );
        (server.number(&query) == 0).then_some(())
    };
    run.awaits("end of the load", |_| gone(&primary, "load"));
    run.awaits("end of the drain", |_| gone(&s1, "visibility"));
    // The rows of all nodes are counted next, and this one must answer for that.
    drop(frozen);
    let ended = run.ends();
    ended.is_whole();
    let record = run.record().unwrap();
    let cell = record.cell();
    assert_eq!((cell.offered, cell.acked), (800, 800), "{cell:?}");
    assert!(
        cell.notes.contains("`s2`") && !cell.notes.contains("`s1`"),
        "{}",
        cell.notes
    );
    let found = record.histograms(1);
    let counts = |node: &str| {
        let rows = record.visibility(1, node);
        assert!(
            rows.iter().all(|row| row.seen + row.unseen == row.commits),
            "{rows:?}"
        );
        let sum =
            |of: fn(&replbench::sample::VisibilityRow) -> u64| rows.iter().map(of).sum::<u64>();
        assert_eq!(sum(|row| row.commits), 800, "{node}");
        (sum(|row| row.seen), sum(|row| row.unseen))
    };
    assert_eq!(counts("s1"), (800, 0));
    let (seen, unseen) = counts("s2");
    assert!(seen > 100 && unseen > 100, "{seen} seen, {unseen} unseen");
    assert_eq!(found.visibility("s2", "hi").count(), seen);
    assert_eq!(found.visibility("s2", "lo").count(), seen);
    for row in record.visibility(1, "s2") {
        let censored = |share: f64| row.unseen as f64 > (1.0 - share) * row.commits as f64;
        for (share, values) in [
            (0.5, [row.p50_lo_us, row.p50_hi_us]),
            (0.99, [row.p99_lo_us, row.p99_hi_us]),
        ] {
            for value in values {
                assert_eq!(value.is_none(), censored(share), "{share}: {row:?}");
            }
        }
        assert_eq!(row.max_hi_us.is_none(), row.unseen > 0, "{row:?}");
    }
    let hidden: Vec<_> = record
        .lag("s2")
        .into_iter()
        .filter(|row| row.t_us > 1_000_000 && row.received_lag_bytes.is_none())
        .skip(2)
        .collect();
    assert!(hidden.len() > 10, "{hidden:?}");
    for pair in hidden.windows(2) {
        let (one, two) = (
            pair[0].replay_lag_bytes.unwrap(),
            pair[1].replay_lag_bytes.unwrap(),
        );
        assert!(one > 0 && two >= one, "{one} then {two}");
        assert!(pair[0].replayed_lag_bytes.is_none() && pair[0].replay_timestamp_age_us.is_none());
    }
    let (first, last) = (&hidden[0], hidden.last().unwrap());
    // A row of users writes at least 100 bytes of WAL; at 200 a second.
    let grown = last.replay_lag_bytes.unwrap() - first.replay_lag_bytes.unwrap();
    assert!(grown > 20_000, "{grown}");
    assert!(last.reply_age_us.unwrap() > first.reply_age_us.unwrap());
    // The other one is none the wiser.
    assert!(
        record
            .lag("s1")
            .iter()
            .all(|row| row.replay_lag_bytes.is_some_and(|lag| lag < 1_000_000))
    );
    let p50 = found.visibility("s1", "hi").quantile_of(0.5, 800).unwrap();
    assert!(p50 < 0.1, "{p50}");
}

/// The upstream of a cascade stands still for longer than the samples are apart.
#[test]
fn an_upstream_that_answers_late_loses_no_sample_and_invalidates_nothing() {
    let profile = "modes = [\"cascade\"]\n[topology]\nstandbys = 2\n\
         [load]\narrivals = \"uniform\"\nrate = 100\n\
         [phases]\nwarmup = \"500 ms\"\nrepeats = 1\nduration = \"4 s\"\ndrain = \"20 s\"\n\
         [[transaction]]\nkind = \"users-insert\"\n";
    let mut run = Run::start(profile, &[]);
    let s1 = run.server("s1");
    run.has_measured(1, 1);
    let frozen = s1.freeze();
    std::thread::sleep(Duration::from_millis(700));
    drop(frozen);
    let ended = run.ends();
    ended.is_whole();
    let record = run.record().unwrap();
    let cell = record.cell();
    assert!(!cell.notes.contains("streaming"), "{}", cell.notes);
    assert!(
        cell.notes.contains("the lag of `c1` is unknown"),
        "{}",
        cell.notes
    );
    let rows = record.lag("c1");
    let mut ordered = rows.clone();
    ordered.sort_by_key(|row| row.t_us);
    assert_eq!(rows, ordered);
    // Asked before it stood still or while it did, and answered afterwards.
    let late: Vec<_> = rows
        .iter()
        .filter(|row| row.sampler_rtt_us.is_some_and(|age| age > 300_000))
        .collect();
    assert!(!late.is_empty(), "{rows:?}");
    for row in late {
        assert_eq!(row.presence(), Presence::Present, "{row:?}");
        assert!(row.replay_lag_bytes.is_some(), "{row:?}");
    }
    let count = |presence| rows.iter().filter(|row| row.presence() == presence).count();
    assert!(count(Presence::Unanswered) > 0, "{rows:?}");
    assert_eq!(count(Presence::Gone), 0, "{rows:?}");
}

#[test]
fn errors_are_counted_by_sqlstate_and_cancelled_waits_as_warned() {
    let mut run = Run::of_users(
        "sync",
        1,
        "rate = 100\nconnections = 8\ntransaction_deadline = \"30 s\"",
        "duration = \"6 s\"\ndrain = \"30 s\"\n[expect]\nfailures = \"90 %\"",
    );
    let (primary, s1) = (run.server("primary"), run.server("s1"));
    run.has_measured(1, 0);
    primary.sql("ALTER TABLE public.users ADD CONSTRAINT truth CHECK (name = '') NOT VALID");
    std::thread::sleep(Duration::from_millis(500));
    primary.sql("ALTER TABLE public.users DROP CONSTRAINT truth");
    let rows = primary.number("SELECT count(*) FROM public.users");
    run.awaits("success after the errors", |_| {
        (primary.number("SELECT count(*) FROM public.users") > rows + 10).then_some(())
    });
    let frozen = s1.freeze();
    let waiters = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND application_name = 'replbench load'";
    run.awaits("waiters", |_| {
        (primary.sql(waiters).len() == 8).then_some(())
    });
    // Materialised: as one condition among others the cancelling would be tried on every session, this one too.
    let cancel = format!(
        "WITH waiter AS MATERIALIZED ({waiters}) SELECT 1 FROM waiter WHERE pg_cancel_backend(pid)"
    );
    let cancelled = primary.sql(&cancel).len() as u64;
    // Until those answers are in: others wait in their place.
    std::thread::sleep(Duration::from_millis(300));
    drop(frozen);
    let ended = run.ends();
    ended.is_whole();
    let record = run.record().unwrap();
    let cell = record.cell();
    assert_eq!(cell.offered, 600, "{cell:?}");
    every_arrival_ends_once(&cell);
    assert!(cancelled > 0);
    assert_eq!(cell.acked_with_warning, cancelled, "{cell:?}");
    assert!(cell.failed >= 10, "{cell:?}");
    assert_eq!(cell.indeterminate, 0, "{cell:?}");
    let errors = record.events("error");
    assert!(
        errors
            .iter()
            .all(|event| event.sqlstate.as_deref() == Some("23514")),
        "{errors:?}"
    );
    assert!(
        errors.iter().all(|event| event.detail.contains("truth")),
        "{errors:?}"
    );
    assert_eq!(
        errors.iter().filter_map(|event| event.count).sum::<u64>(),
        cell.failed
    );
    // Whoever has no answer has no response time either, and a warned commit is a commit.
    let answered = cell.acked + cell.acked_with_warning;
    assert_eq!(record.histograms(1).of("response").count(), answered);
    let commits: u64 = record
        .visibility(1, "s1")
        .iter()
        .map(|row| row.commits)
        .sum();
    assert_eq!(commits, answered);
    // The stall is in the response times of those that were due meanwhile.
    assert!(record.histograms(1).of("response").max().unwrap() > Duration::from_millis(250));
    let last = record
        .intervals()
        .into_iter()
        .rfind(|row| row.phase == Phase::Measure)
        .unwrap();
    assert!(last.acked > 0, "{last:?}");
}

/// The files of a run that was cut short: readable, and what was measured is in them.
#[track_caller]
fn keeps_what_was_measured(record: &support::Record) {
    let measured: Vec<_> = record
        .intervals()
        .into_iter()
        .filter(|row| row.phase == Phase::Measure)
        .collect();
    assert!(
        measured.iter().map(|row| row.acked).sum::<u64>() > 50,
        "{measured:?}"
    );
    assert!(record.lag("s1").iter().filter(|row| row.t_us >= 0).count() > 5);
    assert!(
        record
            .visibility(1, "s1")
            .iter()
            .map(|row| row.seen)
            .sum::<u64>()
            > 50
    );
    let found = record.histograms(1);
    assert!(found.of("response").count() > 50);
    assert!(found.visibility("s1", "hi").count() > 50);
}

#[test]
fn replbench_killed_leaves_no_server_and_a_readable_record() {
    let mut run = Run::of_users("async", 1, "rate = 200", "duration = \"60 s\"");
    let data = run.dir.path().join("data");
    run.has_measured(1, 3);
    run.kill();
    run.dir.no_process_is_left();
    let record = run.record().unwrap();
    assert!(record.is_partial());
    assert_eq!(record.manifest().status, RunStatus::Running);
    keeps_what_was_measured(&record);
    assert!(record.cells().is_empty());
    // The last keeper takes the servers' data away.
    let left = support::until(Duration::from_secs(10), || {
        let runs = std::fs::read_dir(&data).unwrap().flatten();
        let left: Vec<_> = runs.map(|entry| entry.path()).collect();
        if left.is_empty() { Ok(()) } else { Err(left) }
    });
    assert_eq!(left, Ok(()));
}

#[test]
fn a_killed_primary_ends_the_run_with_its_reason_and_keeps_the_record() {
    let mut run = Run::of_users(
        "async",
        1,
        "rate = 200",
        "duration = \"5 s\"\ndrain = \"1 s\"",
    );
    let primary = run.server("primary");
    run.has_measured(1, 2);
    support::signal(primary.pid, Signal::KILL);
    let ended = run.ends();
    assert!(
        [4, 5].contains(&ended.code),
        "{}: {}",
        ended.code,
        ended.text
    );
    let record = run.record().unwrap();
    keeps_what_was_measured(&record);
    let exits = record.events("exit");
    assert_eq!(exits.len(), 1, "{exits:?}");
    assert_eq!(exits[0].node.as_deref(), Some("primary"));
    let cell = record.cell();
    every_arrival_ends_once(&cell);
    assert!(
        !cell.valid && cell.notes.contains("`primary`"),
        "{}",
        cell.notes
    );
    assert!(
        cell.failed + cell.indeterminate + cell.missed > 0,
        "{cell:?}"
    );
    let manifest = record.manifest();
    assert!([RunStatus::Invalid, RunStatus::Failed].contains(&manifest.status));
    assert!(!manifest.invalid_reasons.is_empty());
}

#[test]
fn a_killed_standby_is_told_of_once_by_each_probe() {
    let mut run = Run::of_users(
        "async",
        2,
        "rate = 100",
        "duration = \"4 s\"\ndrain = \"1 s\"",
    );
    let s1 = run.server("s1");
    run.has_measured(1, 1);
    support::signal(s1.pid, Signal::KILL);
    run.ends();
    let record = run.record().unwrap();
    let told = record.events("reconnect");
    // A connection that broke, and a server that refuses others: for 3 s, in which it was tried some 15 times.
    assert!((1..=4).contains(&told.len()), "{told:?}");
    let of_s1 = |event: &EventRow| event.node.as_deref() == Some("s1");
    assert!(told.iter().all(of_s1), "{told:?}");
    assert_eq!(record.events("exit").len(), 1);
    assert!(!record.cell().valid);
}

#[test]
fn one_interrupt_drains_and_keeps_everything() {
    let mut run = Run::of_users(
        "async",
        1,
        "rate = 200",
        "duration = \"60 s\"\ndrain = \"20 s\"",
    );
    run.has_measured(1, 2);
    run.interrupt();
    let ended = run.ends();
    assert_eq!(ended.code, 4, "{}", ended.text);
    let record = run.record().unwrap();
    keeps_what_was_measured(&record);
    let cell = record.cell();
    every_arrival_ends_once(&cell);
    assert!(!cell.valid, "{cell:?}");
    assert!(cell.measured_s < 30.0 && cell.acked > 200, "{cell:?}");
    let rows = record.visibility(1, "s1");
    assert_eq!(rows.iter().map(|row| row.seen).sum::<u64>(), cell.acked);
    let manifest = record.manifest();
    assert_eq!(manifest.status, RunStatus::Interrupted);
    assert!(manifest.ended_at.is_some());
}

/// Nothing is answered any more, and the drain would wait for a minute.
#[test]
fn a_second_interrupt_does_not_wait_for_the_last_answers() {
    let mut run = Run::of_users(
        "sync",
        1,
        "rate = 200\nconnections = 8\ntransaction_deadline = \"60 s\"",
        "duration = \"60 s\"\ndrain = \"60 s\"",
    );
    let s1 = run.server("s1");
    run.has_measured(1, 2);
    let _frozen = s1.freeze();
    std::thread::sleep(Duration::from_millis(500));
    run.interrupt();
    std::thread::sleep(Duration::from_secs(1));
    run.goes_on();
    run.interrupt();
    let ended = run.ends_within(Duration::from_secs(15));
    assert_eq!(ended.code, 4, "{}", ended.text);
    let record = run.record().unwrap();
    keeps_what_was_measured(&record);
    assert_eq!(record.manifest().status, RunStatus::Interrupted);
}

#[test]
fn replbench_that_stood_still_is_told_and_no_server_is_blamed_for_it() {
    let mut run = Run::start(
        "modes = [\"async\"]\n[topology]\nstandbys = 1\n[load]\nrate = 200\narrivals = \"uniform\"\n\
         [phases]\nwarmup = \"500 ms\"\nduration = \"4 s\"\nrepeats = 2\n[[transaction]]\nkind = \"users-insert\"\n",
        &[],
    );
    for (cell, stopped) in [
        (1, Duration::from_millis(500)),
        (2, Duration::from_millis(1_500)),
    ] {
        run.has_measured(cell, 1);
        support::signal(run.pid(), Signal::STOP);
        std::thread::sleep(stopped);
        support::signal(run.pid(), Signal::CONT);
    }
    let ended = run.ends();
    assert_eq!(ended.code, 5, "{}", ended.text);
    let record = run.record().unwrap();
    let cells = record.cells();
    assert_eq!(cells.len(), 2);
    for cell in &cells {
        assert!(!cell.valid, "{cell:?}");
        every_arrival_ends_once(cell);
        assert!(
            cell.notes.starts_with("replbench itself stood still for "),
            "{}",
            cell.notes
        );
        assert!(
            !cell.notes.contains("streaming") && !cell.notes.contains("keep up"),
            "{}",
            cell.notes
        );
        // Arrivals that were due meanwhile were late, and the generator's doing.
        assert!(cell.dispatch_lag_p99_us.unwrap() > 100_000.0, "{cell:?}");
    }
    assert!(!ended.text.contains("OVERLOADED"), "{}", ended.text);
    let stalls = record.events("stall");
    assert!(
        stalls.iter().any(|stall| stall.cell_id == Some(1)),
        "{stalls:?}"
    );
    assert!(
        stalls.iter().any(|stall| stall.cell_id == Some(2)),
        "{stalls:?}"
    );
}

#[test]
fn a_table_dropped_in_the_middle_makes_the_cell_invalid_and_is_named() {
    let mut run = Run::of_users("async", 1, "rate = 200", "duration = \"3 s\"");
    let primary = run.server("primary");
    run.has_measured(1, 1);
    primary.sql("DROP TABLE public.users");
    let ended = run.ends();
    assert_eq!(ended.code, 5, "{}", ended.text);
    let record = run.record().unwrap();
    let cell = record.cell();
    every_arrival_ends_once(&cell);
    assert!(!cell.valid && cell.failed > 100, "{cell:?}");
    let told = format!("{} of 600 transactions failed", cell.failed);
    assert!(cell.notes.contains(&told), "{told}: {}", cell.notes);
    assert!(
        cell.notes
            .contains("42P01, first `relation \"public.users\" does not exist`"),
        "{}",
        cell.notes
    );
    assert!(
        cell.notes.contains("rows were not counted"),
        "{}",
        cell.notes
    );
    let reasons = record.manifest().invalid_reasons.join("\n");
    assert!(reasons.contains(&told), "{reasons}");
    // Those that failed are slower than all others: nothing is said of the slower part.
    let last = record
        .intervals()
        .into_iter()
        .rfind(|row| row.phase == Phase::Measure);
    let last = last.unwrap();
    assert!(
        last.failed > 0 && last.response_p50_us.is_none(),
        "{last:?}"
    );
}
