//! Runs on servers that exist: what is refused before anything is written, what is measured, and that nothing is left.
#![allow(
    clippy::unwrap_used,
    reason = "a helper of a test fails as the test does"
)]

mod changes;
mod faults;
mod shop;
#[path = "../support/mod.rs"]
mod support;

use std::fs;
use std::time::Duration;

use replbench::pg::quote_literal;
use rustix::process::Signal;
use shop::{PASSWORD, Shop, assert_no_password, replbench, run, spawn};
use support::{TestDir, signal, until};

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
    // Of the same system, and of another primary.
    let (s1, s2) = (shop.node("s1"), shop.node("s2"));
    s2.sql("SELECT pg_promote()");
    let way = s1.sql("SHOW primary_conninfo")[0][0].clone().unwrap();
    let [from, to] = ["primary", "s2"].map(|node| shop.port(node).to_string());
    let way = quote_literal(&way.replace(&from, &to));
    for setting in [
        format!("primary_conninfo = {way}"),
        "primary_slot_name = ''".into(),
    ] {
        s1.sql(&format!("ALTER SYSTEM SET {setting}"));
    }
    s1.sql("SELECT pg_reload_conf()");
    let follows =
        "SELECT count(*) FROM pg_stat_wal_receiver WHERE status = 'streaming' AND received_tli = 2";
    let moved = until(support::PATIENCE, || match s1.number(follows) {
        0 => Err("still a standby of the first"),
        _ => Ok(()),
    });
    moved.unwrap();
    let both = [primary.clone(), standby("", "s1")];
    refused(&both, 3, &["receives timeline 2", "writes timeline 1"]);
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
        let arguments = ["--rate", "100", "--duration", "60s", &primary];
        let mut child = spawn(dir.path(), "sync-vs-async", &arguments);
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
