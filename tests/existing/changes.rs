//! What a run changes on servers beside its schema, and that it is put back.

use std::fs;
use std::time::Duration;

use replbench::cluster::Cluster;
use rustix::process::Signal;

use crate::shop::{PASSWORD, Shop, assert_no_password, branch, replbench, run, spawn};
use crate::support::{self, Server, TestDir, block_on, signal, until};

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
    let fault = "long-query s1 at 500ms for 1s";
    let more = [
        "--set-sync",
        "--modes",
        "async,sync",
        "--subscriber",
        &eu,
        "--allow-faults",
        "--fault",
        fault,
    ];
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

/// A run whose commits wait for the subscriber, ended by SIGKILL.
fn killed_while_commits_wait(dir: &TestDir, shop: &Shop, eu: &str) {
    let servers = shop.arguments();
    let servers = servers.iter().map(String::as_str);
    let fixed = [
        "--rate",
        "100",
        "--duration",
        "60s",
        "--set-sync",
        "--modes",
        "logical-sync",
        eu,
    ];
    let arguments: Vec<_> = fixed.into_iter().chain(servers).collect();
    let mut child = spawn(dir.path(), "sync-vs-async", &arguments);
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
