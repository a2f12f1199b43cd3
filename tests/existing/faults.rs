//! Faults of servers that exist: only where somebody says so, only over SQL, and undone even if replbench is killed.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use crate::shop::{Shop, branch, run, spawn};
use crate::support::{self, Server, TestDir, block_on, signal, subdirectory, until};

fn standby(shop: &Shop, name: &str) -> Server {
    let cluster = shop.cluster.as_ref().unwrap();
    let endpoint = cluster.node(name).unwrap().endpoint.clone();
    Server { pid: 0, endpoint }
}

fn is_paused(server: &Server) -> bool {
    server.sql("SELECT pg_is_wal_replay_paused()")[0][0].as_deref() == Some("t")
}

fn let_pause(shop: &Shop) {
    shop.in_shop()
        .sql("GRANT EXECUTE ON FUNCTION pg_wal_replay_pause(), pg_wal_replay_resume() TO app");
    let cluster = shop.cluster.as_ref().unwrap();
    block_on(cluster.await_caught_up(support::PATIENCE)).unwrap();
}

fn recorded(dir: &Path, file: &str) -> String {
    let run = subdirectory(&dir.join("results")).unwrap();
    fs::read_to_string(run.join(file)).unwrap()
}

#[test]
fn faults_go_over_sql_and_only_where_somebody_allows_them() {
    let dir = TestDir::new();
    let shop = Shop::open(&dir);
    let pause = ["--fault", "pause-replay s1 at 500ms for 1s"];
    let attempt = |more: &[&str]| run(dir.path(), "users-insert", &shop.arguments(), more);
    for (more, reason) in [
        (&pause[..], "--allow-faults"),
        (
            &["--allow-faults", "--fault", pause[1]][..],
            "GRANT EXECUTE ON FUNCTION pg_wal_replay_pause(), pg_wal_replay_resume() TO \"app\"",
        ),
        (
            &[
                "--allow-faults",
                "--fault",
                "standby-crash s1 at 500ms for 1s",
            ],
            "only pause-replay, long-query and apply-error go over SQL",
        ),
    ] {
        let refused = attempt(more);
        let told = refused
            .text
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ");
        assert!(
            refused.code == 2 && told.contains(reason),
            "{}",
            refused.text
        );
    }
    assert_eq!(shop.schemas("primary"), 0);
    let_pause(&shop);
    let query = "long-query s2 at 500ms for 1s";
    attempt(&["--allow-faults", "--fault", pause[1], "--fault", query]).is_whole();
    let events = recorded(dir.path(), "events.csv");
    assert_eq!(events.matches("fault_ended").count(), 2, "{events}");
    let faults = recorded(dir.path(), "faults.csv");
    // The slowest commit waited for the end of the pause, or of the query.
    for line in faults.lines().skip(1) {
        let slowest = line.rsplit(',').next().unwrap().parse::<i64>().unwrap();
        assert!(slowest > 700_000, "{faults}");
    }
    assert!(!is_paused(&standby(&shop, "s1")));
    assert_eq!((shop.schemas("primary"), shop.schemas("s2")), (0, 0));
    shop.close();
}

#[test]
fn a_subscriber_that_refused_rows_takes_them_again() {
    let dir = TestDir::new();
    let shop = Shop::open(&dir);
    let (cluster, subscriber, conninfo) = branch(&dir);
    shop.primary.sql("ALTER ROLE app REPLICATION");
    let servers = [
        shop.arguments(),
        vec![format!("--subscriber=eu={conninfo}")],
    ]
    .concat();
    let fault = [
        "--allow-faults",
        "--fault",
        "apply-error eu at 500ms for 1s",
    ];
    let more = [&fault[..], &["--drain", "20s"]].concat();
    run(dir.path(), "users-insert", &servers, &more).is_whole();
    let cells = recorded(dir.path(), "cells.csv");
    assert!(cells.contains("errors while applying changes"), "{cells}");
    let audit = recorded(dir.path(), "audit.csv");
    assert!(audit.contains("eu,present,pass"), "{audit}");
    assert_eq!(subscriber.number("SELECT count(*) FROM pg_subscription"), 0);
    shop.close();
    block_on(cluster.stop()).unwrap();
}

#[test]
fn a_standby_resumes_by_itself_when_replbench_is_killed() {
    let dir = TestDir::new();
    let shop = Shop::open(&dir);
    let_pause(&shop);
    let s1 = standby(&shop, "s1");
    let servers = shop.arguments();
    let servers = servers.iter().map(String::as_str);
    let fault = [
        "--allow-faults",
        "--fault",
        "pause-replay s1 at 100ms for 3s",
    ];
    let fixed = ["--rate", "50", "--duration", "30s"]
        .into_iter()
        .chain(fault);
    let arguments: Vec<_> = fixed.chain(servers).collect();
    let mut child = spawn(dir.path(), "users-insert", &arguments);
    let becomes = |paused: bool, limit| {
        until(limit, || {
            let is_so = is_paused(&s1) == paused;
            is_so
                .then_some(())
                .ok_or_else(|| format!("paused: {}", !paused))
        })
        .unwrap();
    };
    becomes(true, support::PATIENCE);
    signal(child.id().cast_signed(), Signal::KILL);
    child.wait().unwrap();
    assert!(is_paused(&s1), "nobody has resumed it yet");
    becomes(false, Duration::from_secs(12));
    shop.close();
}
