//! Real servers, started by the product. One test at a time: each has up to five of them, and there may be two cores.
#![allow(
    clippy::unwrap_used,
    reason = "a helper of a test fails as the test does"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "these tests start replbench itself, and watch a clock beside it"
)]

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use replbench::cluster::{
    Binaries, Cluster, ClusterConfig, ClusterError, Lifetime, RunningNode, state,
};
use replbench::mode::{Mode, Quorum, SyncLevel, SyncSet};
use replbench::pg;
use replbench::topology::NodeCounts;
use rustix::process::{Pid, Signal, kill_process};

const REPLBENCH: &str = env!("CARGO_BIN_EXE_replbench");
const DEADLINE: Duration = Duration::from_secs(30);
const NONE: NodeCounts = NodeCounts {
    standbys: 0,
    cascading: 0,
    archive: 0,
    subscribers: 0,
};

static TURN: Mutex<()> = Mutex::new(());

fn check(test: impl AsyncFnOnce(&Path)) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    // The servers' user must get through.
    let root = tempfile::Builder::new()
        .prefix("replbench-test-")
        .permissions(PermissionsExt::from_mode(0o755))
        .tempdir()
        .unwrap();
    let _swept = Swept(root.path());
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(test(root.path()));
}

/// Ends what a failing test has left: a server that it has stopped would otherwise outlive even its directory.
struct Swept<'a>(&'a Path);

impl Drop for Swept<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The failure that is told already is worth more than this one.
            let _ = state::clean(self.0);
        }
    }
}

fn config(topology: NodeCounts, directory: PathBuf) -> ClusterConfig {
    let binaries = Binaries::find(None).expect("these tests need PostgreSQL: see scripts/test");
    let mut config = ClusterConfig::new(topology, binaries, directory);
    config.launcher = REPLBENCH.into();
    config.schema = vec!["CREATE TABLE t (id bigint PRIMARY KEY)".into()];
    config.publish = vec!["public.t".into()];
    config
}

fn pid(node: &RunningNode) -> i32 {
    node.process.as_ref().unwrap().pid
}

async fn ask(node: &RunningNode, statement: &str) -> Option<String> {
    let session = pg::connect(&node.endpoint, "test", None, DEADLINE)
        .await
        .unwrap();
    let messages = session.client().simple_query(statement).await.unwrap();
    session.close().await;
    messages.iter().find_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(ToOwned::to_owned),
        _ => None,
    })
}

#[test]
fn every_role_starts_and_replicates_a_row() {
    check(async |root| {
        let topology = NodeCounts {
            standbys: 1,
            cascading: 1,
            archive: 1,
            subscribers: 1,
        };
        let mut config = config(topology, root.join("c"));
        let own = [("work_mem".to_owned(), "9MB".to_owned())].into();
        config.topology = config
            .topology
            .with_settings(&[("c1".to_owned(), own)].into());
        let cluster = Cluster::start(config).await.unwrap();
        ask(cluster.primary(), "INSERT INTO t VALUES (42)").await;
        cluster.await_caught_up(DEADLINE).await.unwrap();
        for node in cluster.nodes() {
            let name = &node.node.name;
            assert_eq!(ask(node, "SELECT id FROM t").await.unwrap(), "42", "{name}");
            let shown = ask(node, "SHOW fsync").await.unwrap();
            assert_eq!(shown, "on", "{name}");
            let settings = cluster.settings(name).await.unwrap().settings;
            assert_eq!(settings["wal_level"], "logical", "{name}: {settings:?}");
            let has_own = settings.get("work_mem").is_some_and(|value| value == "9MB");
            assert_eq!(has_own, name == "c1", "{settings:?}");
        }
        cluster.checkpoint().await.unwrap();
        assert_eq!(cluster.exited(), []);
        assert_no_secret(&cluster);
        let directory = cluster.directory().unwrap().to_owned();
        let pids: Vec<_> = cluster.nodes().iter().map(pid).collect();
        cluster.stop().await.unwrap();
        assert!(!directory.exists());
        assert!(pids.iter().all(|pid| !is_alive(*pid)));
    });
}

/// The password is in the passfile, and nowhere else under the directory or in a command line.
fn assert_no_secret(cluster: &Cluster) {
    let password = cluster.primary().endpoint.password.clone().unwrap();
    let secret = password.reveal().as_bytes();
    let holds = |bytes: &[u8]| bytes.windows(secret.len()).any(|window| window == secret);
    let directory = cluster.directory().unwrap().to_owned();
    let passfile = directory.join("pgpass");
    let mut open = vec![directory];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(directory).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else if !path.starts_with(&passfile) && entry.metadata().unwrap().len() < 1 << 20 {
                assert!(!holds(&std::fs::read(&path).unwrap()), "{}", path.display());
            }
        }
    }
    let mode = passfile.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    for node in cluster.nodes() {
        for file in ["cmdline", "environ"] {
            let text = std::fs::read(format!("/proc/{}/{file}", pid(node))).unwrap();
            assert!(!holds(&text), "{file} of {}", node.node.name);
        }
    }
}

/// What a mode sets, as the primary and a subscriber have it.
async fn settings_of_a_mode(cluster: &Cluster) -> [Option<String>; 3] {
    let (primary, subscriber) = (cluster.primary(), cluster.node("sub1").unwrap());
    [
        ask(primary, "SHOW synchronous_standby_names").await,
        ask(primary, "SHOW synchronous_commit").await,
        ask(subscriber, "SELECT subsynccommit FROM pg_subscription").await,
    ]
}

#[test]
fn sync_states_follow_the_mode_and_go_back_when_it_is_undone() {
    check(async |root| {
        let topology = NodeCounts {
            standbys: 2,
            subscribers: 1,
            ..NONE
        };
        let cluster = Cluster::start(config(topology, root.join("c")))
            .await
            .unwrap();
        let all = "SELECT string_agg(application_name || '=' || sync_state, ' ' ORDER BY application_name) \
                   FROM pg_stat_replication";
        for (quorum, nodes, level, expected) in [
            (
                Some(Quorum::First(1)),
                vec!["s2", "s1"],
                SyncLevel::On,
                "s1=potential s2=sync sub1=async",
            ),
            (
                Some(Quorum::First(2)),
                vec!["s1", "s2"],
                SyncLevel::RemoteWrite,
                "s1=sync s2=sync sub1=async",
            ),
            (
                Some(Quorum::Any(1)),
                vec!["s1", "s2"],
                SyncLevel::RemoteApply,
                "s1=quorum s2=quorum sub1=async",
            ),
            (
                Some(Quorum::First(1)),
                vec!["sub1"],
                SyncLevel::On,
                "s1=async s2=async sub1=sync",
            ),
            (None, vec![], SyncLevel::Off, "s1=async s2=async sub1=async"),
        ] {
            let sync = quorum.map(|quorum| SyncSet {
                quorum,
                nodes: nodes.iter().map(ToString::to_string).collect(),
            });
            let mode = Mode {
                name: expected.into(),
                level,
                sync,
                topology: topology.into(),
            };
            let primary = cluster.primary();
            let found = settings_of_a_mode(&cluster).await;
            cluster
                .apply_mode(&mode)
                .await
                .unwrap()
                .undo()
                .await
                .unwrap();
            let due = Instant::now() + DEADLINE;
            while settings_of_a_mode(&cluster).await != found {
                assert!(Instant::now() < due, "{found:?} instead of {expected}");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            cluster.apply_mode(&mode).await.unwrap().keep();
            assert_eq!(ask(primary, all).await.unwrap(), expected);
            let commit = ask(primary, "SHOW synchronous_commit").await.unwrap();
            assert_eq!(commit, level.setting());
            ask(primary, "INSERT INTO t SELECT count(*) FROM t").await;
        }
        cluster.stop().await.unwrap();
    });
}

#[test]
fn a_killed_replbench_leaves_no_server_not_even_a_stopped_one() {
    check(async |root| {
        let directory = root.join("c");
        let mut parent = up(
            &directory,
            &["--foreground", "--standbys=1", "--subscribers=0"],
        );
        let pids = postmasters(&directory);
        assert_eq!(pids.len(), 2);
        for pid in &pids {
            signal(*pid, Signal::STOP);
        }
        let family = family(&pids);
        for pid in &family {
            signal(*pid, Signal::STOP);
        }
        parent.kill().unwrap();
        parent.wait().unwrap();
        within(Duration::from_secs(5), "all servers end", || {
            family.iter().all(|pid| !is_alive(*pid))
        });
        within(Duration::from_secs(5), "the directory goes", || {
            !directory.exists()
        });
    });
}

#[test]
fn clean_reaps_what_even_the_keepers_could_not() {
    check(async |root| {
        let directory = root.join("c");
        let mut parent = up(
            &directory,
            &["--foreground", "--standbys=0", "--subscribers=0"],
        );
        let pids = postmasters(&directory);
        let keeper = parent_of(pids[0]);
        signal(pids[0], Signal::STOP);
        signal(keeper, Signal::STOP);
        parent.kill().unwrap();
        parent.wait().unwrap();
        signal(keeper, Signal::KILL);
        within(DEADLINE, "the keeper ends", || !is_alive(keeper));
        assert!(is_alive(pids[0]), "a stopped server does not hear SIGQUIT");
        let elsewhere = root.join("elsewhere");
        std::fs::create_dir(&elsewhere).unwrap();
        assert!(replbench(&["clean", &text(&elsewhere)]).contains("nothing to clean"));
        let said = replbench(&["clean", &text(root)]);
        assert!(said.contains("after ending 1 server"), "{said}");
        within(DEADLINE, "the server ends", || !is_alive(pids[0]));
        assert!(!directory.exists());
    });
}

#[test]
fn a_cluster_that_was_put_up_stays_until_it_is_taken_down() {
    check(async |root| {
        let directory = root.join("c");
        let mut parent = up(
            &directory,
            &["--standbys=1", "--subscribers=1", "--mode=sync"],
        );
        assert!(parent.wait().unwrap().success());
        let place = format!("--data-dir={}", text(&directory));
        let status = replbench(&["cluster", "status", &place]);
        assert!(status.contains("streaming, sync"), "{status}");
        let said = replbench(&["clean", &text(root)]);
        assert!(said.contains("cluster down"), "{said}");
        let pids = postmasters(&directory);
        let down = replbench(&["cluster", "down", &place]);
        assert!(down.contains("stopped 3 servers"), "{down}");
        assert!(pids.iter().all(|pid| !is_alive(*pid)));
        assert!(!directory.exists());
    });
}

#[test]
fn a_failed_start_keeps_the_directory_and_shows_the_log() {
    check(async |root| {
        let mut wrong = config(NONE, root.join("c"));
        wrong.settings = [("shared_buffers".to_owned(), "many".to_owned())].into();
        let error = Cluster::start(wrong).await.unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains(r#"invalid value for parameter "shared_buffers""#),
            "{text}"
        );
        assert!(
            text.contains("the server of `primary` exited with status 1"),
            "{text}"
        );
        assert!(matches!(error, ClusterError::Start { .. }));
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(root.join("c/primary/server.log").exists());
    });
}

#[test]
fn a_cancelled_start_leaves_nothing() {
    check(async |root| {
        let topology = NodeCounts {
            standbys: 1,
            ..NONE
        };
        // Into initdb, into its second child, into the start, the base backup and the end.
        for millis in [100, 200, 300, 500, 600, 1_000] {
            let directory = root.join("c");
            let start = Cluster::start(config(topology, directory.clone()));
            drop(tokio::time::timeout(Duration::from_millis(millis), start).await);
            within(DEADLINE, "the directory goes", || !directory.exists());
            assert!(postmasters(&directory).is_empty());
        }
    });
}

#[test]
fn a_hostile_directory_name_is_just_a_name() {
    check(async |root| {
        let topology = NodeCounts {
            standbys: 1,
            archive: 1,
            subscribers: 1,
            ..NONE
        };
        let name = r#"-x it's "a" 100% $HOME \ & directory"#;
        let cluster = Cluster::start(config(topology, root.join(name)))
            .await
            .unwrap();
        ask(cluster.primary(), "INSERT INTO t VALUES (42)").await;
        cluster.await_caught_up(DEADLINE).await.unwrap();
        for node in cluster.nodes() {
            assert_eq!(ask(node, "SELECT id FROM t").await.unwrap(), "42");
        }
        cluster.stop().await.unwrap();
        assert!(!root.join(name).exists());
    });
}

#[test]
fn two_clusters_at_once_do_not_collide() {
    check(async |root| {
        let (one, two) = tokio::join!(
            Cluster::start(config(NONE, root.join("1"))),
            Cluster::start(config(NONE, root.join("2")))
        );
        let (one, two) = (one.unwrap(), two.unwrap());
        assert_ne!(one.primary().endpoint.port, two.primary().endpoint.port);
        let error = Cluster::start(config(NONE, root.join("1")))
            .await
            .unwrap_err();
        assert!(
            error.to_string().contains("not an empty directory"),
            "{error}"
        );
        drop(one);
        assert_eq!(ask(two.primary(), "SELECT 1").await.unwrap(), "1");
        within(DEADLINE, "the dropped one goes", || {
            !root.join("1").exists()
        });
        two.stop().await.unwrap();
    });
}

#[test]
fn a_server_that_dies_unasked_is_reported_and_one_killed_on_request_is_not() {
    check(async |root| {
        let topology = NodeCounts {
            standbys: 1,
            ..NONE
        };
        let mut kept = config(topology, root.join("c"));
        kept.lifetime = Lifetime::Process;
        let cluster = Cluster::start(kept).await.unwrap();
        let family = family(&[pid(cluster.primary())]);
        cluster.kill("primary").await.unwrap();
        let left: Vec<_> = family
            .into_iter()
            .filter(|pid| is_alive(*pid))
            .map(|pid| std::fs::read_to_string(format!("/proc/{pid}/stat")))
            .collect();
        assert!(left.is_empty(), "{left:?}");
        assert_eq!(cluster.exited(), []);
        // Stopped backends do not notice the death of their postmaster: the keeper has to.
        let standby = pid(cluster.node("s1").unwrap());
        let orphans = self::family(&[standby]);
        for pid in orphans.iter().filter(|pid| **pid != standby) {
            // Its walreceiver comes and goes, now that there is no primary.
            let _ = kill_process(Pid::from_raw(*pid).unwrap(), Signal::STOP);
        }
        signal(standby, Signal::KILL);
        within(DEADLINE, "the death is noticed", || {
            !cluster.exited().is_empty()
        });
        let (node, how) = cluster.exited().remove(0);
        assert_eq!(node, "s1");
        assert!(how.contains("was killed by signal 9"), "{how}");
        assert!(orphans.iter().all(|pid| !is_alive(*pid)));
        cluster.stop().await.unwrap();
        assert!(
            root.join("c/primary/data").exists(),
            "it was not to be scratch"
        );
    });
}

/// Runs `cluster up` until it has said everything.
fn up(directory: &Path, options: &[&str]) -> Child {
    let mut child = Command::new(REPLBENCH)
        .args(["cluster", "up", "--data-dir"])
        .arg(directory)
        .args(options)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    let last = out
        .lines()
        .map(Result::unwrap)
        .find(|line| line.contains("Ctrl-C stops it") || line.contains("cluster down"));
    assert!(last.is_some(), "cluster up did not come to its end");
    child
}

fn replbench(arguments: &[&str]) -> String {
    let output = Command::new(REPLBENCH).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// Postmasters whose data is below the directory.
fn postmasters(directory: &Path) -> Vec<i32> {
    procfs::process::all_processes()
        .unwrap()
        .flatten()
        .filter(|process| {
            process.cmdline().is_ok_and(|line| {
                line.len() == 3
                    && line[0].ends_with("/postgres")
                    && line[2].starts_with(&text(directory))
            })
        })
        .map(|process| process.pid())
        .collect()
}

/// The postmasters and their children.
fn family(postmasters: &[i32]) -> Vec<i32> {
    procfs::process::all_processes()
        .unwrap()
        .flatten()
        .filter_map(|process| process.stat().ok())
        .filter(|stat| postmasters.contains(&stat.pid) || postmasters.contains(&stat.ppid))
        .map(|stat| stat.pid)
        .collect()
}

fn parent_of(pid: i32) -> i32 {
    procfs::process::Process::new(pid)
        .unwrap()
        .stat()
        .unwrap()
        .ppid
}

fn is_alive(pid: i32) -> bool {
    procfs::process::Process::new(pid)
        .and_then(|process| process.stat())
        .is_ok_and(|stat| stat.state != 'Z')
}

fn signal(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

fn within(deadline: Duration, what: &str, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < deadline, "{what} within {deadline:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
