//! Runs on servers that exist: what is refused before anything is written, what is measured, and that nothing is left.
#![allow(
    clippy::unwrap_used,
    reason = "a helper of a test fails as the test does"
)]

mod support;

use std::fs;
use std::path::Path;
use std::time::Duration;

use replbench::cluster::{Binaries, Cluster, ClusterConfig, process};
use replbench::topology::{NodeCounts, Topology, WalLevel};
use rustix::process::Signal;
use support::{Ended, REPLBENCH, Server, TestDir, block_on, signal, until};

const PASSWORD: &str = "canary-of-the-password";

/// A primary with two standbys and a subscriber, and a user with no more rights than a managed service gives.
struct Shop {
    cluster: Option<Cluster>,
    primary: Server,
}

impl Shop {
    fn open(dir: &TestDir) -> Self {
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

    fn port(&self, node: &str) -> u16 {
        self.cluster
            .as_ref()
            .unwrap()
            .node(node)
            .unwrap()
            .endpoint
            .port
    }

    fn conninfo(&self, node: &str) -> String {
        let port = self.port(node);
        format!("host=127.0.0.1 port={port} user=app dbname=shop")
    }

    fn arguments(&self) -> Vec<String> {
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

    /// Schemas of replbench's on a node.
    fn schemas(&self, node: &str) -> i64 {
        let cluster = self.cluster.as_ref().unwrap();
        let endpoint = cluster.node(node).unwrap().endpoint.with_database("shop");
        let server = Server { pid: 0, endpoint };
        server.number("SELECT count(*) FROM pg_namespace WHERE nspname = 'replbench'")
    }

    fn may_set_names(&self) {
        let function = "GRANT EXECUTE ON FUNCTION pg_reload_conf() TO app";
        self.in_shop().sql(&format!(
            "GRANT ALTER SYSTEM ON PARAMETER synchronous_standby_names TO app; {function}"
        ));
    }

    fn in_shop(&self) -> Server {
        let endpoint = self.primary.endpoint.with_database("shop");
        Server { pid: 0, endpoint }
    }

    fn close(mut self) {
        block_on(self.cluster.take().unwrap().stop()).unwrap();
    }
}

/// A subcommand, with the password in the environment alone.
fn replbench(dir: &Path, arguments: &[&str]) -> Ended {
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

const SHORT: &[&str] = &[
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

fn run(dir: &Path, profile: &str, servers: &[String], more: &[&str]) -> Ended {
    let mut arguments = vec!["run", profile, "--results", "results"];
    arguments.extend(SHORT);
    arguments.extend(servers.iter().map(String::as_str));
    arguments.extend(more);
    replbench(dir, &arguments)
}

#[test]
fn a_run_measures_what_is_there_and_leaves_nothing() {
    let dir = TestDir::new();
    let shop = Shop::open(&dir);
    let ended = run(dir.path(), "sync-vs-async", &shop.arguments(), &[]);
    ended.is_whole();
    assert!(ended.text.contains("as-is"), "{}", ended.text);
    assert_eq!((shop.schemas("primary"), shop.schemas("s2")), (0, 0));
    let results = dir.path().join("results");
    let run_dir = support::subdirectory(&results).unwrap();
    let manifest = fs::read_to_string(run_dir.join("manifest.json")).unwrap();
    for said in [
        r#""servers_made": "never""#,
        r#""name": "s2""#,
        "there before",
    ] {
        assert!(manifest.contains(said), "no {said} in {manifest}");
    }
    let summary = fs::read_to_string(run_dir.join("summary.csv")).unwrap();
    for node in ["s1", "s2"] {
        let seen = summary
            .lines()
            .find(|line| line.contains(&format!("{node},visibility,p50")));
        assert!(seen.is_some(), "{summary}");
    }
    assert_no_password(&results, &ended);
    // Synchronous standbys of the cluster's own: what a session waits for is chosen, the names stay.
    shop.primary
        .sql("ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (s1, s2)'");
    shop.primary.sql("SELECT pg_reload_conf()");
    let modes = ["--modes", "local,sync,remote_apply:any-1"];
    let ended = run(dir.path(), "sync-vs-async", &shop.arguments(), &modes);
    ended.is_whole();
    assert!(ended.text.contains("remote_apply:any-1"), "{}", ended.text);
    let names = shop.primary.sql("SHOW synchronous_standby_names");
    assert_eq!(names[0][0].as_deref(), Some("ANY 1 (s1, s2)"));
    for (modes, reason) in [
        ("sync:any-2", "ANY 1 (s1, s2)"),
        ("logical", "needs a node of role subscriber"),
        ("local,async", "the same here"),
    ] {
        let refused = run(
            dir.path(),
            "sync-vs-async",
            &shop.arguments(),
            &["--modes", modes],
        );
        assert_eq!(refused.code, 2, "{}", refused.text);
        assert!(refused.text.contains(reason), "{modes}: {}", refused.text);
    }
    shop.close();
}

#[test]
fn what_cannot_be_measured_is_refused_before_anything_is_written() {
    let dir = TestDir::new();
    let shop = Shop::open(&dir);
    let refused = |servers: &[String], code: i32, parts: &[&str]| {
        let ended = run(dir.path(), "sync-vs-async", servers, &[]);
        assert_eq!(ended.code, code, "{servers:?}: {}", ended.text);
        for part in parts {
            assert!(ended.text.contains(part), "no `{part}` in: {}", ended.text);
        }
        assert!(!ended.text.contains(PASSWORD), "{}", ended.text);
        assert_eq!(shop.schemas("primary"), 0);
        assert!(!dir.path().join("results").exists(), "{}", ended.text);
    };
    let primary = format!("--primary={}", shop.conninfo("primary"));
    let standby = |name: &str, node: &str| format!("--standby={name}{}", shop.conninfo(node));
    refused(
        &[format!("--primary={}", shop.conninfo("s1"))],
        3,
        &["in recovery", "standby"],
    );
    refused(
        &[primary.clone(), standby("", "primary")],
        3,
        &["no standby"],
    );
    refused(
        &[primary.clone(), standby("eu=", "s1")],
        3,
        &["`eu`", "--standby s1="],
    );
    refused(
        &["--primary=host=192.0.2.1 user=app".into()],
        3,
        &["192.0.2.1", "--i-own-this"],
    );
    refused(&["--primary=hots=a".into()], 2, &["`hots`"]);
    refused(&["--primary=service=none".into()], 2, &["`none`"]);
    refused(
        &["--primary=host=127.0.0.1 port=1 user=app".into()],
        3,
        &["127.0.0.1:1"],
    );
    let wrong = format!("{} password=wrong", shop.conninfo("primary"));
    refused(&[format!("--primary={wrong}")], 3, &["28P01"]);
    let absent = shop.conninfo("primary").replace("shop", "absent");
    refused(&[format!("--primary={absent}")], 3, &["3D000"]);
    shop.primary.sql("REVOKE pg_monitor FROM app");
    refused(
        std::slice::from_ref(&primary),
        3,
        &["GRANT pg_monitor TO \"app\""],
    );
    shop.primary
        .sql("GRANT pg_monitor TO app; REVOKE CREATE ON DATABASE shop FROM app");
    let grant = "GRANT CREATE ON DATABASE \"shop\" TO \"app\"";
    refused(std::slice::from_ref(&primary), 3, &[grant]);
    shop.primary.sql("GRANT CREATE ON DATABASE shop TO app");
    // A schema of that name that is somebody else's stays as it is.
    shop.in_shop()
        .sql("CREATE SCHEMA replbench; CREATE TABLE replbench.mine (i int)");
    for arguments in [
        vec!["run", "sync-vs-async", &primary],
        vec!["clean", &primary],
    ] {
        let ended = replbench(dir.path(), &arguments);
        assert_eq!(ended.code, 3, "{}", ended.text);
        assert!(ended.text.contains("is not replbench's"), "{}", ended.text);
    }
    assert_eq!(
        shop.in_shop().number("SELECT count(*) FROM replbench.mine"),
        0
    );
    shop.in_shop().sql("DROP SCHEMA replbench CASCADE");
    shop.close();
}

#[test]
fn a_run_that_is_cut_short_leaves_nothing_and_a_killed_one_is_cleaned_up() {
    let dir = TestDir::new();
    let shop = Shop::open(&dir);
    let primary = format!("--primary={}", shop.conninfo("primary"));
    for ends in [Signal::INT, Signal::KILL] {
        let mut child = process::command(REPLBENCH)
            .args([
                "run",
                "sync-vs-async",
                "--results",
                "results",
                "--rate",
                "100",
                "--duration",
                "60s",
            ])
            .args(["--warmup", "0s", &primary])
            .current_dir(dir.path())
            .env("PGPASSWORD", PASSWORD)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let loads =
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'replbench load'";
        let loaded = until(support::PATIENCE, || match shop.primary.number(loads) {
            0 => Err("no load"),
            _ => Ok(()),
        });
        loaded.unwrap();
        // One at a time.
        let second = replbench(dir.path(), &["run", "sync-vs-async", &primary]);
        assert_eq!(second.code, 3, "{}", second.text);
        assert!(second.text.contains("another replbench"), "{}", second.text);
        signal(child.id().cast_signed(), ends);
        let status = child.wait().unwrap();
        if ends == Signal::INT {
            assert_eq!(status.code(), Some(4));
            assert_eq!(shop.schemas("primary"), 0);
            continue;
        }
        assert_eq!(shop.schemas("primary"), 1);
        let cleaned = until(Duration::from_secs(20), || {
            // The server notices the end of the killed run's session a moment later.
            let ended = replbench(dir.path(), &["clean", &primary]);
            if ended.code == 0 {
                Ok(ended.text)
            } else {
                Err(ended.text)
            }
        });
        assert!(
            cleaned
                .as_ref()
                .unwrap()
                .contains("removed schema replbench from"),
            "{cleaned:?}"
        );
        assert_eq!(shop.schemas("primary"), 0);
        let again = replbench(dir.path(), &["clean", &primary]);
        assert!(again.text.contains("nothing to clean"), "{}", again.text);
    }
    shop.close();
}

/// A server of its own, which can subscribe; with its connection string as superuser.
fn branch(dir: &TestDir) -> (Cluster, Server, String) {
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

/// Nothing is left on primary and subscriber, neither in the schema nor outside it.
#[track_caller]
fn untouched(shop: &Shop, subscriber: &Server) {
    let written = "SELECT count(*) FROM pg_file_settings WHERE name = 'synchronous_standby_names' AND sourcefile LIKE '%auto.conf'";
    assert_eq!(shop.primary.number(written), 0);
    let slots = "SELECT count(*) FROM pg_replication_slots WHERE slot_type = 'logical'";
    assert_eq!(shop.primary.number(slots), 0);
    let publications = "SELECT count(*) FROM pg_publication";
    assert_eq!(shop.in_shop().number(publications), 0);
    let subscriptions = "SELECT count(*) FROM pg_subscription";
    assert_eq!(subscriber.number(subscriptions), 0);
    let schemas = "SELECT count(*) FROM pg_namespace WHERE nspname = 'replbench'";
    assert_eq!(
        (shop.schemas("primary"), subscriber.number(schemas)),
        (0, 0)
    );
}

#[test]
fn subscriptions_and_standby_names_are_for_the_run_alone() {
    let dir = TestDir::new();
    let shop = Shop::open(&dir);
    let (cluster, subscriber, conninfo) = branch(&dir);
    let servers = [
        shop.arguments(),
        vec![format!("--subscriber=eu={conninfo}")],
    ]
    .concat();
    // What the run needs besides, each missing right by itself.
    let refused = |more: &[&str], part: &str| {
        let ended = run(dir.path(), "sync-vs-async", &servers, more);
        assert_eq!(ended.code, 3, "{}", ended.text);
        assert!(ended.text.contains(part), "no `{part}` in: {}", ended.text);
    };
    let grant = "GRANT ALTER SYSTEM ON PARAMETER synchronous_standby_names TO \"app\"";
    refused(&["--set-sync"], grant);
    shop.may_set_names();
    refused(&["--modes", "logical"], "replication");
    shop.primary.sql("ALTER ROLE app REPLICATION");
    // Somebody else's slot of that name stays.
    shop.primary
        .sql("SELECT pg_create_physical_replication_slot('eu')");
    refused(
        &["--modes", "logical"],
        "has a slot or a subscription of the name `eu`",
    );
    let slot = "SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'eu'";
    assert_eq!(shop.primary.number(slot), 1);
    shop.primary.sql("SELECT pg_drop_replication_slot('eu')");
    untouched(&shop, &subscriber);

    let modes = [
        "--set-sync",
        "--modes",
        "as-is,async,sync:any-2,logical-sync",
    ];
    let ended = run(dir.path(), "sync-vs-async", &servers, &modes);
    // `as-is` is `async` there.
    assert_eq!(ended.code, 2, "{}", ended.text);
    let modes = ["--set-sync", "--modes", "async,sync:any-2,logical-sync"];
    fs::remove_dir_all(dir.path().join("results")).unwrap();
    let ended = run(dir.path(), "sync-vs-async", &servers, &modes);
    ended.is_whole();
    untouched(&shop, &subscriber);
    let results = dir.path().join("results");
    let record = support::subdirectory(&results).unwrap();
    let summary = fs::read_to_string(record.join("summary.csv")).unwrap();
    for (mode, node) in [
        ("async", "eu"),
        ("sync:any-2", "s2"),
        ("logical-sync", "eu"),
    ] {
        let seen = summary.lines().any(|line| {
            line.contains(&format!(",{mode},")) && line.contains(&format!("{node},visibility,p50"))
        });
        assert!(seen, "{mode} on {node}: {summary}");
    }
    assert_no_password(&results, &ended);
    shop.close();
    block_on(cluster.stop()).unwrap();
}

/// What a server has logged of statements that change something, on one line each.
fn logged(cluster: &Cluster) -> Vec<String> {
    let log = &cluster.primary().process.as_ref().unwrap().log;
    let text = fs::read_to_string(log).unwrap().replace("\n\t", " ");
    let statements = text.lines().filter_map(|line| {
        let (_, said) = line.split_once("LOG:  ")?;
        let (how, sql) = said.split_once(": ")?;
        let is_statement = how == "statement" || how.starts_with("execute ");
        is_statement.then(|| one_line(sql))
    });
    statements.collect()
}

/// Without what stands in comments, of which a dry run does not know everything.
fn one_line(sql: &str) -> String {
    let words = sql.split_whitespace().collect::<Vec<_>>().join(" ");
    let end = words.find(" IS '").unwrap_or(words.len());
    words[..end].to_owned()
}

#[test]
fn a_dry_run_prints_every_statement_that_changes_something() {
    let dir = TestDir::new();
    let shop = Shop::open(&dir);
    let (cluster, _, conninfo) = branch(&dir);
    shop.may_set_names();
    shop.primary.sql("ALTER ROLE app REPLICATION");
    for option in ["log_statement = 'mod'", "log_parameter_max_length = 0"] {
        shop.primary.sql(&format!("ALTER SYSTEM SET {option}"));
    }
    shop.primary.sql("SELECT pg_reload_conf()");
    let eu = format!("eu={conninfo}");
    let more = ["--set-sync", "--modes", "async,sync", "--subscriber", &eu];
    let dry = run(
        dir.path(),
        "ecommerce",
        &shop.arguments(),
        &[&more[..], &["--dry-run"]].concat(),
    );
    assert_eq!(dry.code, 0, "{}", dry.text);
    let printed = dry
        .text
        .lines()
        .map(one_line)
        .collect::<Vec<_>>()
        .join("\n");
    let own_server = logged(shop.cluster.as_ref().unwrap()).len();
    run(dir.path(), "ecommerce", &shop.arguments(), &more).is_whole();
    let statements = logged(shop.cluster.as_ref().unwrap()).split_off(own_server);
    assert!(
        statements.iter().any(|it| it.starts_with("INSERT")),
        "{statements:?}"
    );
    for statement in statements {
        // What it was before is not known to a dry run.
        let known = statement.starts_with("ALTER SYSTEM RESET") || printed.contains(&statement);
        assert!(known, "not printed: {statement}\n{}", dry.text);
    }
    assert!(!dry.text.contains(PASSWORD), "{}", dry.text);
    shop.close();
    block_on(cluster.stop()).unwrap();
}

#[test]
fn servers_in_a_file_are_those_of_the_command_line() {
    let dir = TestDir::new();
    let shop = Shop::open(&dir);
    let file = dir.path().join("servers.toml");
    let content = format!(
        "primary = \"{} password={PASSWORD}\"\n[standby]\ns1 = \"{}\"\n",
        shop.conninfo("primary"),
        shop.conninfo("s1")
    );
    fs::write(&file, &content).unwrap();
    let servers = [
        format!("--servers={}", file.display()),
        "--i-own-this".into(),
    ];
    let ended = run(dir.path(), "product-insert", &servers, &[]);
    ended.is_whole();
    assert!(
        ended.text.contains("1 primary, 1 standby"),
        "{}",
        ended.text
    );
    let unnamed = "standby s2 on the primary's host streams from the primary and is not named";
    assert!(ended.text.contains(unnamed), "{}", ended.text);
    assert_no_password(&dir.path().join("results"), &ended);
    for (wrong, problem) in [
        (
            content.replace("primary =", "primry ="),
            "line 1: unknown field `primry`",
        ),
        (
            content.replace("s1 = \"", "s1 = 3 #"),
            "`s1` in [standby] is no connection string",
        ),
        (content.replace("[standby]", "[standby"), "line 2"),
    ] {
        fs::write(&file, wrong).unwrap();
        let ended = run(dir.path(), "product-insert", &servers, &[]);
        assert_eq!(ended.code, 2, "{}", ended.text);
        assert!(ended.text.contains(problem), "{}", ended.text);
        assert!(!ended.text.contains(PASSWORD), "{}", ended.text);
    }
    shop.close();
}

/// A run whose commits wait for the subscriber, ended by SIGKILL.
fn killed_while_commits_wait(dir: &TestDir, shop: &Shop, eu: &str) {
    let mut child = process::command(REPLBENCH)
        .args([
            "run",
            "sync-vs-async",
            "--rate",
            "100",
            "--duration",
            "60s",
            "--warmup",
            "0s",
        ])
        .args(["--set-sync", "--modes", "logical-sync", eu])
        .args(shop.arguments())
        .current_dir(dir.path())
        .env("PGPASSWORD", PASSWORD)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let waits = "SELECT count(*) FROM pg_stat_replication WHERE application_name = 'eu' AND sync_state = 'sync'";
    until(support::PATIENCE, || match shop.primary.number(waits) {
        0 => Err("not synchronous"),
        _ => Ok(()),
    })
    .unwrap();
    signal(child.id().cast_signed(), Signal::KILL);
    child.wait().unwrap();
}

#[test]
fn what_a_killed_run_changed_on_primary_and_subscriber_is_put_back_by_clean() {
    let dir = TestDir::new();
    let shop = Shop::open(&dir);
    let (cluster, subscriber, conninfo) = branch(&dir);
    shop.may_set_names();
    shop.primary.sql("ALTER ROLE app REPLICATION");
    let eu = format!("--subscriber=eu={conninfo}");
    killed_while_commits_wait(&dir, &shop, &eu);
    let primary = format!("--primary={}", shop.conninfo("primary"));
    // Not before its subscriber.
    until(Duration::from_secs(20), || {
        let ended = replbench(dir.path(), &["clean", &primary]);
        let is_told = ended.text.contains("its subscriber is to be cleaned first");
        if ended.code == 3 && is_told {
            Ok(())
        } else {
            Err(ended.text)
        }
    })
    .unwrap();
    until(Duration::from_secs(20), || {
        // The servers notice the end of the killed run's sessions a moment later.
        let ended = replbench(dir.path(), &["clean", &primary, &eu]);
        if ended.code == 0 {
            Ok(())
        } else {
            Err(ended.text)
        }
    })
    .unwrap();
    untouched(&shop, &subscriber);
    // Another run puts it back as well; what it had found of the primary before that no longer holds.
    killed_while_commits_wait(&dir, &shop, &eu);
    let servers = [shop.arguments(), vec![eu]].concat();
    until(Duration::from_secs(20), || {
        let ended = run(
            dir.path(),
            "sync-vs-async",
            &servers,
            &["--set-sync", "--modes", "async"],
        );
        if ended.text.contains("it is as before now") {
            Ok(())
        } else {
            Err(ended.text)
        }
    })
    .unwrap();
    untouched(&shop, &subscriber);
    shop.close();
    block_on(cluster.stop()).unwrap();
}

/// The password is in no file of the results and in nothing that was printed.
fn assert_no_password(results: &Path, ended: &Ended) {
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
