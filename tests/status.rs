//! `replbench status` on a cluster to which things happen: what its servers still say of themselves is not enough for GOOD.
//!
//! Real servers, started by the product. Without PostgreSQL every test here fails.
#![allow(clippy::unwrap_used, reason = "a test that cannot set up fails")]

mod support;

use std::path::PathBuf;

use replbench::cluster::process;
use replbench::cluster::state::ClusterState;
use rustix::process::Signal;
use serde_json::Value;
use support::{REPLBENCH, Server, TestDir, signal};

struct Cluster {
    dir: TestDir,
}

impl Cluster {
    fn up() -> Self {
        let this = Self {
            dir: TestDir::new(),
        };
        let (code, said) = this.replbench(&[
            "cluster",
            "up",
            "--standbys",
            "2",
            "--subscribers",
            "1",
            "--mode",
            "sync",
        ]);
        assert_eq!(code, 0, "{said}");
        this
    }

    fn place(&self) -> PathBuf {
        self.dir.path().join("c")
    }

    fn replbench(&self, arguments: &[&str]) -> (i32, String) {
        let output = process::command(REPLBENCH)
            .args(arguments)
            .arg("--data-dir")
            .arg(self.place())
            .env("TMPDIR", self.dir.path())
            .output()
            .unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        (
            output.status.code().unwrap(),
            said + &String::from_utf8_lossy(&output.stderr),
        )
    }

    fn server(&self, name: &str) -> Server {
        let state = ClusterState::load(&self.place()).unwrap();
        let node = state.nodes.iter().find(|it| it.node.name == name).unwrap();
        Server {
            pid: node.process.pid,
            endpoint: state.endpoint(node).unwrap(),
        }
    }

    /// Exit code, verdict of a node and its reasons.
    fn status(&self, node: &str) -> (i32, String, String) {
        let (code, said) = self.replbench(&["status", "--within", "2s", "--format", "json"]);
        let health: Value = serde_json::from_str(&said).unwrap_or_else(|_| panic!("{said}"));
        let nodes = health["nodes"].as_array().unwrap();
        let own = nodes.iter().find(|it| it["node"] == node).unwrap();
        let verdict = own["verdict"].as_str().unwrap().to_owned();
        (code, verdict, own["reasons"].to_string())
    }

    #[track_caller]
    fn is_bad(&self, node: &str, words: &str) {
        let (code, verdict, reasons) = self.status(node);
        assert_eq!((code, verdict.as_str()), (3, "BAD"), "{reasons}");
        assert!(reasons.contains(words), "{reasons}");
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let (code, said) = self.replbench(&["cluster", "down"]);
        if !std::thread::panicking() {
            assert_eq!(code, 0, "{said}");
            self.dir.no_process_is_left();
        }
    }
}

#[test]
fn what_has_happened_to_a_replica_is_told_with_the_reason() {
    let cluster = Cluster::up();
    let (code, said) = cluster.replbench(&["status"]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(said.matches("GOOD").count(), 4, "{said}");
    assert!(!said.contains('\u{1b}'), "a pipe has no colours: {said:?}");
    assert!(
        said.lines().all(|line| line.chars().count() <= 80),
        "{said}"
    );

    // Its upstream and itself still call it streaming.
    let s1 = cluster.server("s1");
    let receiver = s1.number("SELECT pid FROM pg_stat_wal_receiver");
    let receiver = i32::try_from(receiver).unwrap();
    signal(receiver, Signal::STOP);
    cluster.is_bad("s1", "has not received");
    signal(receiver, Signal::CONT);

    let s2 = cluster.server("s2");
    s2.sql("SELECT pg_wal_replay_pause()");
    cluster.is_bad("s2", "its replay is paused");
    s2.sql("SELECT pg_wal_replay_resume()");

    let sub1 = cluster.server("sub1");
    sub1.sql("ALTER SUBSCRIPTION sub1 DISABLE");
    cluster.is_bad("sub1", "its subscription is disabled");
    sub1.sql("ALTER SUBSCRIPTION sub1 ENABLE");

    let primary = cluster.server("primary");
    primary.sql("SELECT pg_create_physical_replication_slot('nobody', true)");
    let (code, verdict, reasons) = cluster.status("primary");
    assert_eq!((code, verdict.as_str()), (1, "WARN"), "{reasons}");
    assert!(reasons.contains("nobody uses slot `nobody`"), "{reasons}");
    primary.sql("SELECT pg_drop_replication_slot('nobody')");

    s2.sql("SELECT pg_promote()");
    cluster.is_bad("s2", "a primary of its own");
    let (code, ..) = cluster.status("s1");
    assert_eq!(code, 3, "one that is bad is enough");
}

#[test]
fn of_replicas_whose_primary_is_gone_nothing_is_known() {
    let cluster = Cluster::up();
    let primary = cluster.server("primary");
    for pid in primary.family() {
        signal(pid, Signal::KILL);
    }
    cluster.is_bad("primary", "cannot be asked");
    cluster.is_bad("s1", "whether it replicates is unknown");
    cluster.is_bad("sub1", "whether it replicates is unknown");
}
