//! A network between the servers that is cut and slowed, by a profile's faults.
//!
//! Real servers, started by the product. Without PostgreSQL every test here fails.
#![allow(clippy::unwrap_used, reason = "a test that cannot set up fails")]

mod support;

use replbench::sample::AuditResult;
use support::{Record, Run};

const PROFILE: &str = r#"
    [topology]
    standbys = 1
    subscribers = 1
    [load]
    rate = 100
    arrivals = "uniform"
    connections = 64
    max_in_flight = 2000
    [phases]
    warmup = "500 ms"
    duration = "7 s"
    drain = "10 s"
    repeats = 1
    [[transaction]]
    kind = "users-insert"
"#;

fn faults(node: &str) -> String {
    let fault = |kind: &str, at: u32, rest: &str| {
        format!("[[fault]]\nkind = \"{kind}\"\ntarget = \"{node}\"\nat = \"{at} s\"\n{rest}\n")
    };
    let cut = fault("partition", 1, "for = \"2 s\"");
    cut + &fault("slow-network", 5, "for = \"1 s\"\ndelay = \"60 ms\"")
}

/// The latest that commits of one second were seen on a node, in seconds from their acknowledgement.
fn slowest(record: &Record, cell: u32, node: &str, second: i64) -> f64 {
    let rows = record.visibility(cell, node).into_iter();
    let own = rows.filter(|row| row.t_us == second * 1_000_000);
    own.filter_map(|row| row.max_hi_us).fold(0.0, f64::max) / 1e6
}

#[track_caller]
fn shows_both(modes: &str, node: &str) {
    let profile = format!("modes = [{modes}]\n{PROFILE}{}", faults(node));
    let (run, ended) = support::valid(|| Run::start(&profile, &[]));
    assert_eq!(ended.code, 0, "{}", ended.text);
    let record = run.record().unwrap();
    assert!(
        record
            .audit()
            .iter()
            .all(|row| row.result == AuditResult::Pass)
    );
    for cell in record.cells() {
        let id = cell.cell_id;
        assert_eq!((cell.offered, cell.acked), (700, 700), "{cell:?}");
        let second = |index: i64| {
            let rows = record.intervals().into_iter();
            let mut own = rows.filter(|row| row.cell_id == id && row.t_us == index * 1_000_000);
            own.next().unwrap()
        };
        let response = record
            .histograms(id)
            .of("response")
            .max()
            .unwrap()
            .as_secs_f64();
        if cell.mode == "sync" {
            // A commit of the cut waits for its end, and one of the slow network for a way there and back.
            assert!((1.8..6.0).contains(&response), "{response}");
            assert!(
                second(5).service_p50_us.unwrap() > 118_000.0,
                "{:?}",
                second(5)
            );
        } else {
            assert!(response < 1.5, "{} waits for nobody: {response}", cell.mode);
            let (cut, slow, before) = (1, 5, 0);
            let seen = |second| slowest(&record, id, node, second);
            assert!((1.8..6.0).contains(&seen(cut)), "{}", seen(cut));
            assert!((0.058..1.5).contains(&seen(slow)), "{}", seen(slow));
            // The cut may have caught the last of the second before it.
            let rows = record.visibility(id, node);
            let usual = rows.iter().find(|row| row.t_us == before * 1_000_000);
            let usual = usual.and_then(|row| row.p50_hi_us);
            assert!(usual.is_some_and(|us| us < 500_000.0), "{usual:?}");
        }
        assert!(
            second(0).service_p50_us.unwrap() < 60_000.0,
            "{:?}",
            second(0)
        );
    }
}

#[test]
fn a_standby_behind_a_cut_network_shows_everything_when_it_is_back() {
    shows_both("\"async\", \"sync\"", "s1");
}

#[test]
fn a_subscriber_behind_a_cut_network_shows_everything_when_it_is_back() {
    shows_both("\"logical\"", "sub1");
}
