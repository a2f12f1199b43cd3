//! Both clients of the load against real servers: the same arrivals, the same rows, the same outcomes.
#![allow(
    clippy::unwrap_used,
    reason = "a helper of a test fails as the test does"
)]

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use replbench::clock;
use replbench::cluster::{Binaries, Cluster, ClusterConfig};
use replbench::load::{Load, Outcomes, Uncommitted, workload};
use replbench::pg::{self, Session};
use replbench::plan::{Client, Length, Overrides, Plan, resolve};
use replbench::profile::Profile;
use replbench::sample::Timeline;
use replbench::topology::{NodeCounts, Topology};
use replbench::units::Rate;

/// A primary without a replica.
struct Server {
    cluster: Cluster,
    _root: tempfile::TempDir,
}

impl Server {
    async fn start() -> Self {
        let root = tempfile::Builder::new()
            .prefix("replbench-test-")
            .permissions(PermissionsExt::from_mode(0o755))
            .tempdir()
            .unwrap();
        let binaries = Binaries::find(None).expect("this test needs PostgreSQL: see scripts/test");
        let topology = Topology::from(NodeCounts::default());
        let mut config = ClusterConfig::new(topology, binaries, root.path().join("c"));
        config.launcher = env!("CARGO_BIN_EXE_replbench").into();
        let cluster = Cluster::start(config).await.unwrap();
        Self {
            cluster,
            _root: root,
        }
    }

    async fn admin(&self) -> Session {
        let endpoint = &self.cluster.primary().endpoint;
        let deadline = Duration::from_secs(10);
        pg::connect(endpoint, "test", None, deadline).await.unwrap()
    }

    /// Makes the tables of a plan anew and brings them to where every cell begins.
    async fn reset(&self, plan: &Plan) {
        let admin = self.admin().await;
        for table in &plan.tables {
            let drop = format!("DROP TABLE IF EXISTS {}", table.qualified());
            admin.client().batch_execute(&drop).await.unwrap();
            admin.client().batch_execute(&table.ddl).await.unwrap();
        }
        for (statement, _) in workload::reset(plan) {
            admin.client().batch_execute(&statement).await.unwrap();
        }
        admin.close().await;
    }

    /// Runs the one cell of a plan. `disturb` is awaited meanwhile.
    async fn measure(&self, plan: &Plan, disturb: impl AsyncFnOnce(&Server)) -> Told {
        self.reset(plan).await;
        let endpoint = self.cluster.primary().endpoint.clone();
        let mut load = Load::open(plan, &plan.cells[0], endpoint, [], None)
            .await
            .unwrap();
        let start = clock::now() + Duration::from_millis(20);
        load.start(Timeline::new(start, plan.phases.warmup));
        let collect = async {
            let mut told = Told::default();
            while let Some(second) = load.next_second().await {
                told.outcomes.add(&second.all);
                told.unknown += second.unknown;
                told.service += second.service.count();
                let failures = second.failures.iter();
                told.failures
                    .extend(failures.map(|it| (it.how, it.sqlstate.clone(), it.detail.clone())));
                let changes = second.row_changes.iter().enumerate();
                for (table, change) in changes {
                    told.rows.resize(plan.tables.len(), 0);
                    told.rows[table] += change;
                }
            }
            told
        };
        let (told, ()) = tokio::join!(collect, disturb(self));
        load.join().unwrap();
        told
    }
}

/// What the load said of a cell.
#[derive(Debug, Default, PartialEq)]
struct Told {
    outcomes: Outcomes,
    unknown: u64,
    /// Service times.
    service: u64,
    failures: Vec<(Uncommitted, String, String)>,
    rows: Vec<i64>,
}

impl Told {
    /// In which ways transactions did not commit, with the SQLSTATE, sorted.
    fn kinds(&self) -> Vec<(String, &str)> {
        let mut kinds: Vec<_> = self
            .failures
            .iter()
            .map(|(how, state, _)| (format!("{how:?}"), state.as_str()))
            .collect();
        kinds.sort();
        kinds.dedup();
        kinds
    }
}

fn plan(profile: &Profile, client: Client, measure: Length) -> Plan {
    let overrides = Overrides {
        client: Some(client),
        warmup: Some(Duration::ZERO),
        measure: Some(measure),
        seed: Some(7),
        scale: Some(0.01),
        ..Overrides::default()
    };
    let mut plan = resolve(profile, &overrides).unwrap();
    plan.phases.drain = plan.phases.drain.min(Duration::from_secs(2));
    plan
}

/// What a table holds, whatever the order in which it came there and the keys that it got.
fn contents(plan: &Plan) -> Vec<String> {
    let tables = plan.tables.iter();
    tables
        .map(|table| {
            format!(
                "SELECT count(*), coalesce(sum(hashtextextended((to_jsonb(t) - '{}' - 'created_at' - 'CreatedAt')::text, 0)), 0)::text FROM {} AS t",
                table.key,
                table.qualified()
            )
        })
        .collect()
}

#[tokio::test]
async fn every_built_in_workload_leaves_the_same_rows_by_either_client() {
    let server = Server::start().await;
    // Many profiles send the same and differ in modes or faults.
    let mut tried = BTreeSet::new();
    for name in Profile::built_in_names() {
        let profile = Profile::load(name).unwrap();
        if !tried.insert(format!("{:?} {:?}", profile.tables, profile.transactions)) {
            continue;
        }
        for closed in [false, true] {
            let mut seen = Vec::new();
            for client in Client::ALL {
                let mut plan = plan(&profile, client, Length::Count(150));
                plan.load.offered = if closed {
                    replbench::plan::Offered::Closed
                } else {
                    replbench::plan::Offered::Open {
                        rate: Rate::per_second(600.0).unwrap(),
                        arrivals: replbench::plan::Arrivals::Poisson,
                    }
                };
                let told = server.measure(&plan, async |_| {}).await;
                let admin = server.admin().await;
                let mut tables = Vec::new();
                for sql in contents(&plan) {
                    let row = admin.client().query_one(&sql, &[]).await.unwrap();
                    tables.push((row.get::<_, i64>(0), row.get::<_, String>(1)));
                }
                admin.close().await;
                let counts = tables.iter().zip(&plan.tables).zip(&told.rows);
                for (((count, _), table), change) in counts {
                    assert_eq!(*count, table.rows.cast_signed() + change, "{name}");
                }
                seen.push((told, tables));
            }
            let (told, _) = &seen[0];
            assert_eq!(told.outcomes.acked, 150, "{name}: {told:?}");
            assert_eq!(seen[0], seen[1], "{name}");
        }
    }
    server.cluster.stop().await.unwrap();
}

const DISTURBED: &str = r#"
    modes = ["async"]
    [load]
    rate = 200
    arrivals = "uniform"
    connections = 3
    transaction_deadline = "DEADLINE"
    [topology]
    standbys = 0
    [phases]
    drain = "2 s"
    [[table]]
    name = "t"
    key = "id"
    ddl = "CREATE TABLE {t} (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v int NOT NULL)"
    fill = "INSERT INTO {t} (v) SELECT n FROM generate_series(1, :rows) AS n"
    rows = 10
    [[transaction]]
    name = "one"
    params = { v = { integer = [1, 100] } }
    sql = "INSERT INTO {t} (v) VALUES (:v)"
    [[transaction]]
    name = "three"
    params = { v = { integer = [1, 100] } }
    sql = ["SELECT count(*) FROM {t}", "INSERT INTO {t} (v) VALUES (:v)", "INSERT INTO {t} (v) VALUES (:v)"]
"#;

/// The same disturbance under both clients.
async fn disturbed(
    deadline: &str,
    seconds: u64,
    disturb: impl AsyncFn(&Server) + Copy,
) -> [Told; 2] {
    let server = Server::start().await;
    let text = DISTURBED.replace("DEADLINE", deadline);
    let profile = Profile::parse("disturbed.toml", &text).unwrap();
    let mut told = Vec::new();
    for client in Client::ALL {
        let plan = plan(&profile, client, Length::For(Duration::from_secs(seconds)));
        let one = server.measure(&plan, disturb).await;
        let Outcomes {
            offered,
            acked,
            acked_with_warning,
            failed,
            indeterminate,
            missed,
            ..
        } = one.outcomes;
        assert_eq!(offered, 200 * seconds, "{client}: {one:?}");
        let ended = acked + acked_with_warning + failed + indeterminate + missed;
        assert_eq!(ended, offered, "{client}: {one:?}");
        assert_eq!(one.service, acked + acked_with_warning, "{client}: {one:?}");
        assert_eq!(one.unknown, indeterminate, "{client}: {one:?}");
        let left = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'replbench load' AND state <> 'idle'";
        let admin = server.admin().await;
        let gone = async || {
            let row = admin.client().query_one(left, &[]).await.unwrap();
            Ok::<_, String>(if row.get::<_, i64>(0) == 0 {
                Ok(())
            } else {
                Err("leave nothing that runs".to_owned())
            })
        };
        clock::wait_until(Duration::from_secs(10), gone, |late| late)
            .await
            .unwrap();
        admin.close().await;
        told.push(one);
    }
    server.cluster.stop().await.unwrap();
    told.try_into().unwrap()
}

const HALF_A_SECOND: Duration = Duration::from_millis(500);

#[tokio::test]
async fn a_refused_statement_fails_its_transaction_and_no_other() {
    let [wire, pool] = disturbed("10 s", 3, async |server| {
        let admin = server.admin().await;
        tokio::time::sleep(HALF_A_SECOND).await;
        let add = "ALTER TABLE t ADD CONSTRAINT truth CHECK (v < 0) NOT VALID";
        admin.client().batch_execute(add).await.unwrap();
        tokio::time::sleep(HALF_A_SECOND).await;
        let drop = "ALTER TABLE t DROP CONSTRAINT truth";
        admin.client().batch_execute(drop).await.unwrap();
        admin.close().await;
    })
    .await;
    for told in [&wire, &pool] {
        assert_eq!(told.kinds(), [("Failed".to_owned(), "23514")]);
        assert!(told.outcomes.failed >= 60, "{told:?}");
        assert!(told.outcomes.acked >= 200, "{told:?}");
        assert!(told.failures[0].2.contains("truth"), "{told:?}");
    }
}

#[tokio::test]
async fn a_cancelled_wait_for_replication_is_a_warning() {
    let [wire, pool] = disturbed("10 s", 3, async |server| {
        let admin = server.admin().await;
        let set = |names: &str| format!("ALTER SYSTEM SET synchronous_standby_names = '{names}'");
        let reload = "SELECT pg_reload_conf()";
        tokio::time::sleep(HALF_A_SECOND).await;
        admin.client().batch_execute(&set("nobody")).await.unwrap();
        admin.client().batch_execute(reload).await.unwrap();
        let cancel = "WITH waiter AS MATERIALIZED (SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep') \
                      SELECT count(*) FROM waiter WHERE pg_cancel_backend(pid)";
        let waits = async || {
            let row = admin.client().query_one(cancel, &[]).await.unwrap();
            Ok::<_, String>(match row.get::<_, i64>(0) {
                0 => Err("wait".to_owned()),
                _ => Ok(()),
            })
        };
        clock::wait_until(Duration::from_secs(10), waits, |late| late)
            .await
            .unwrap();
        admin.client().batch_execute(&set("")).await.unwrap();
        admin.client().batch_execute(reload).await.unwrap();
        admin.close().await;
    })
    .await;
    for told in [&wire, &pool] {
        assert_eq!(told.kinds(), [], "{told:?}");
        assert!(told.outcomes.acked_with_warning > 0, "{told:?}");
    }
}

#[tokio::test]
async fn a_session_that_is_terminated_leaves_its_transaction_indeterminate() {
    let [wire, pool] = disturbed("10 s", 3, async |server| {
        let mut admin = server.admin().await;
        let other = server.admin().await;
        tokio::time::sleep(HALF_A_SECOND).await;
        let lock = admin.client_mut().transaction().await.unwrap();
        lock.batch_execute("LOCK TABLE t").await.unwrap();
        let terminate = "WITH blocked AS MATERIALIZED (SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock') \
                         SELECT count(*) FROM blocked WHERE pg_terminate_backend(pid)";
        let blocked = async || {
            let row = other.client().query_one(terminate, &[]).await.unwrap();
            Ok::<_, String>(match row.get::<_, i64>(0) {
                0 => Err("wait for the lock".to_owned()),
                _ => Ok(()),
            })
        };
        clock::wait_until(Duration::from_secs(10), blocked, |late| late)
            .await
            .unwrap();
        drop(lock);
        other.close().await;
        admin.close().await;
    })
    .await;
    for told in [&wire, &pool] {
        assert_eq!(told.kinds(), [("Indeterminate".to_owned(), "57P01")]);
        assert!((1..=3).contains(&told.outcomes.indeterminate), "{told:?}");
        assert_eq!(told.outcomes.missed, 0, "{told:?}");
    }
}

#[tokio::test]
async fn what_passes_its_deadline_is_given_up_whether_it_was_sent_or_waited() {
    // A lock of the table would hold up new connections too, which prepare their statements.
    let block = "SELECT pg_advisory_lock(1);
        CREATE OR REPLACE FUNCTION block() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN NEW; END';
        CREATE TRIGGER block BEFORE INSERT ON t EXECUTE FUNCTION block()";
    let [wire, pool] = disturbed("300 ms", 3, async |server| {
        let admin = server.admin().await;
        tokio::time::sleep(HALF_A_SECOND).await;
        admin.client().batch_execute(block).await.unwrap();
        tokio::time::sleep(2 * HALF_A_SECOND).await;
        let release = "SELECT pg_advisory_unlock(1)";
        admin.client().batch_execute(release).await.unwrap();
        admin.close().await;
    })
    .await;
    for told in [&wire, &pool] {
        assert_eq!(told.kinds(), [("Indeterminate".to_owned(), "")]);
        assert!(told.outcomes.indeterminate >= 3, "{told:?}");
        // How many of them waited for a connection up to the last is a matter of how fast connections are opened again.
        let given_up = told.outcomes.indeterminate + told.outcomes.missed;
        assert!(given_up >= 100, "{told:?}");
        assert_eq!(told.failures[0].2, "no answer within 0.3 s");
        // Half a second before, and perhaps as much afterwards.
        assert!(told.outcomes.acked > 50, "{told:?}");
    }
}

#[tokio::test]
async fn while_the_server_is_gone_arrivals_have_no_connection_and_afterwards_they_do() {
    let [wire, pool] = disturbed("300 ms", 8, async |server| {
        tokio::time::sleep(HALF_A_SECOND).await;
        server.cluster.kill("primary").await.unwrap();
        tokio::time::sleep(2 * HALF_A_SECOND).await;
        server.cluster.restart("primary").await.unwrap();
    })
    .await;
    for told in [&wire, &pool] {
        assert!(told.outcomes.no_connection > 50, "{told:?}");
        let refused = ("NoConnection".to_owned(), "");
        assert!(told.kinds().contains(&refused), "{told:?}");
        let failures = told.failures.iter();
        let mut reasons = failures
            .filter(|(how, state, _)| *how == Uncommitted::NoConnection && state.is_empty());
        let (_, _, reason) = reasons.next().unwrap();
        assert!(reason.contains("`primary` at 127.0.0.1"), "{told:?}");
        // Before, and afterwards however long the server takes to start.
        assert!(told.outcomes.acked > 50, "{told:?}");
    }
}

/// A listener that is no PostgreSQL server: it says this to everyone who comes, and holds the connection.
fn impostor(says: &'static [u8]) -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for mut stream in listener.incoming().flatten() {
            // Whoever came may have gone again.
            let _ = std::io::Write::write_all(&mut stream, says);
            held.push(stream);
        }
    });
    port
}

/// While the primary is gone, the load comes to a server that is none.
#[tokio::test]
async fn a_server_that_is_none_is_an_outage_with_its_reason() {
    let server = Server::start().await;
    let text = DISTURBED.replace("DEADLINE", "300 ms");
    let profile = Profile::parse("disturbed.toml", &text).unwrap();
    let plan = plan(&profile, Client::Wire, Length::For(Duration::from_secs(4)));
    // An HTTP server, a message of a length that cannot be, an authentication that nobody knows, and silence.
    let impostors: [(&[u8], &str); 4] = [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", ""),
        (b"R\0\0\0\x01", "not PostgreSQL's protocol"),
        (b"R\0\0\0\x08\0\0\0\x63", "kind 99"),
        (b"", ""),
    ];
    for (says, reason) in impostors {
        server.reset(&plan).await;
        let real = server.cluster.primary().endpoint.clone();
        let false_one = pg::Endpoint {
            port: impostor(says),
            ..real.clone()
        };
        let mut load = Load::open(&plan, &plan.cells[0], real, [false_one], None)
            .await
            .unwrap();
        let start = clock::now() + Duration::from_millis(20);
        load.start(Timeline::new(start, Duration::ZERO));
        let lead = async {
            tokio::time::sleep(HALF_A_SECOND).await;
            server.cluster.kill("primary").await.unwrap();
            tokio::time::sleep(HALF_A_SECOND).await;
            server.cluster.restart("primary").await.unwrap();
        };
        let (mut outcomes, mut reasons) = (Outcomes::default(), Vec::new());
        let mut cpu = Duration::ZERO;
        let collect = async {
            while let Some(second) = load.next_second().await {
                outcomes.add(&second.all);
                reasons.extend(second.failures.iter().map(|it| it.detail.clone()));
                cpu = cpu.max(second.cpu);
            }
        };
        tokio::join!(lead, collect);
        load.join().unwrap();
        assert_eq!(outcomes.offered, 800, "{outcomes:?}");
        assert!(outcomes.acked > 150, "{outcomes:?}");
        assert!(outcomes.missed > 50, "{outcomes:?}");
        assert!(
            reason.is_empty() || reasons.iter().any(|it| it.contains(reason)),
            "{reasons:?}"
        );
        assert!(cpu < HALF_A_SECOND, "a thread that spins: {cpu:?}");
    }
    server.cluster.stop().await.unwrap();
}
