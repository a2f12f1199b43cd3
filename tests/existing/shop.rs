//! The servers of these tests: a shop's primary with two standbys, and a server that may subscribe to it.

use std::fs;
use std::path::Path;

use replbench::cluster::{Binaries, Cluster, ClusterConfig, process};
use replbench::topology::{NodeCounts, Topology, WalLevel};

use crate::support::{self, Ended, REPLBENCH, Server, TestDir, block_on};

pub(crate) const PASSWORD: &str = "canary-of-the-password";

/// A primary with two standbys and a subscriber, and a user with no more rights than a managed service gives.
pub(crate) struct Shop {
    pub(crate) cluster: Option<Cluster>,
    pub(crate) primary: Server,
}

impl Shop {
    pub(crate) fn open(dir: &TestDir) -> Self {
        let binaries = Binaries::find(None).expect("this test needs PostgreSQL: see scripts/test");
        let topology = Topology::from(NodeCounts {
            standbys: 2,
            ..NodeCounts::default()
        });
        let mut config = ClusterConfig::new(topology, binaries, dir.path().join("shop"));
        config.launcher = REPLBENCH.into();
        config.wal_level = WalLevel::Logical;
        let cluster = block_on(Cluster::start(config)).unwrap();
        let endpoint = cluster.primary().endpoint.clone();
        let primary = Server { pid: 0, endpoint };
        primary.sql("CREATE DATABASE shop");
        primary.sql(&format!(
            "CREATE ROLE app LOGIN PASSWORD '{PASSWORD}'; GRANT pg_monitor TO app; GRANT CREATE ON DATABASE shop TO app"
        ));
        block_on(cluster.await_caught_up(support::PATIENCE)).unwrap();
        Self {
            cluster: Some(cluster),
            primary,
        }
    }

    pub(crate) fn port(&self, node: &str) -> u16 {
        self.cluster
            .as_ref()
            .unwrap()
            .node(node)
            .unwrap()
            .endpoint
            .port
    }

    pub(crate) fn conninfo(&self, node: &str) -> String {
        let port = self.port(node);
        format!("host=127.0.0.1 port={port} user=app dbname=shop")
    }

    pub(crate) fn arguments(&self) -> Vec<String> {
        let (s1, s2) = (self.conninfo("s1"), self.conninfo("s2"));
        let primary = format!(
            "postgresql://app:{PASSWORD}@127.0.0.1:{}/shop",
            self.port("primary")
        );
        vec![
            "--primary".into(),
            primary,
            "--standby".into(),
            format!("s1={s1}"),
            format!("--standby={s2}"),
        ]
    }

    /// A node, as superuser and in the shop's database.
    pub(crate) fn node(&self, name: &str) -> Server {
        let cluster = self.cluster.as_ref().unwrap();
        let endpoint = cluster.node(name).unwrap().endpoint.with_database("shop");
        Server { pid: 0, endpoint }
    }

    /// Schemas of replbench's on a node.
    pub(crate) fn schemas(&self, node: &str) -> i64 {
        let server = self.node(node);
        server.number("SELECT count(*) FROM pg_namespace WHERE nspname = 'replbench'")
    }

    pub(crate) fn may_set_names(&self) {
        let function = "GRANT EXECUTE ON FUNCTION pg_reload_conf() TO app";
        self.in_shop().sql(&format!(
            "GRANT ALTER SYSTEM ON PARAMETER synchronous_standby_names TO app; {function}"
        ));
    }

    pub(crate) fn in_shop(&self) -> Server {
        self.node("primary")
    }

    pub(crate) fn close(mut self) {
        block_on(self.cluster.take().unwrap().stop()).unwrap();
    }
}

/// A subcommand, with the password in the environment alone.
pub(crate) fn replbench(dir: &Path, arguments: &[&str]) -> Ended {
    let output = process::command(REPLBENCH)
        .args(arguments)
        .current_dir(dir)
        .env("PGPASSWORD", PASSWORD)
        .env("HOME", dir)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    Ended {
        code: output.status.code().unwrap_or(-1),
        text: String::from_utf8_lossy(&text).into_owned(),
    }
}

pub(crate) const SHORT: &[&str] = &[
    "--rate",
    "200",
    "--duration",
    "2s",
    "--warmup",
    "0s",
    "--repeats",
    "1",
    "--connections",
    "4",
];

pub(crate) fn run(dir: &Path, profile: &str, servers: &[String], more: &[&str]) -> Ended {
    let mut arguments = vec!["run", profile, "--results", "results"];
    arguments.extend(SHORT);
    arguments.extend(servers.iter().map(String::as_str));
    arguments.extend(more);
    replbench(dir, &arguments)
}

/// A run that goes on, for whoever ends it before its time.
pub(crate) fn spawn(dir: &Path, profile: &str, arguments: &[&str]) -> std::process::Child {
    process::command(REPLBENCH)
        .args(["run", profile, "--results", "results", "--warmup", "0s"])
        .args(arguments)
        .current_dir(dir)
        .env("PGPASSWORD", PASSWORD)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap()
}

/// A server of its own, which can subscribe; with its connection string as superuser.
pub(crate) fn branch(dir: &TestDir) -> (Cluster, Server, String) {
    let binaries = Binaries::find(None).expect("this test needs PostgreSQL: see scripts/test");
    let counts = NodeCounts::default();
    let mut config = ClusterConfig::new(counts, binaries, dir.path().join("branch"));
    config.launcher = REPLBENCH.into();
    let cluster = block_on(Cluster::start(config)).unwrap();
    let endpoint = cluster.primary().endpoint.clone();
    let password = endpoint.password.as_ref().unwrap().reveal().to_owned();
    let conninfo = format!(
        "host=127.0.0.1 port={} user=replbench dbname=replbench password={password}",
        endpoint.port
    );
    (cluster, Server { pid: 0, endpoint }, conninfo)
}

/// The password is in no file of the results and in nothing that was printed.
pub(crate) fn assert_no_password(results: &Path, ended: &Ended) {
    assert!(!ended.text.contains(PASSWORD), "{}", ended.text);
    let mut open = vec![results.to_owned()];
    let mut files = 0;
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
                continue;
            }
            files += 1;
            let text = fs::read(&path).unwrap();
            let found = text
                .windows(PASSWORD.len())
                .any(|it| it == PASSWORD.as_bytes());
            assert!(!found, "{}", path.display());
        }
    }
    assert!(files > 5, "{files} files");
}
