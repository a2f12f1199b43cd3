//! The load by itself, against real servers that the product starts.
#![allow(
    clippy::unwrap_used,
    reason = "a helper of a test fails as the test does"
)]

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use replbench::clock;
use replbench::cluster::{Binaries, Cluster, ClusterConfig, RunningNode};
use replbench::load::{Failures, Load, Outcomes, workload};
use replbench::pg;
use replbench::plan::{Client, Length, Overrides, Plan, Table, resolve};
use replbench::profile::Profile;
use replbench::sample::Timeline;

const PROFILE: &str = r#"
    modes = ["async"]
    [load]
    rate = 200
    arrivals = "uniform"
    connections = 4
    [[transaction]]
    kind = "users-insert"
"#;

const READ_ONLY_SQL_TRANSACTION: &str = "25006";

fn plan(client: Client) -> Plan {
    let profile = Profile::parse("find.toml", PROFILE).unwrap();
    let overrides = Overrides {
        client: Some(client),
        warmup: Some(Duration::ZERO),
        measure: Some(Length::For(Duration::from_secs(3))),
        ..Overrides::default()
    };
    resolve(&profile, &overrides).unwrap()
}

async fn cluster(plan: &Plan, root: &std::path::Path) -> Cluster {
    let binaries = Binaries::find(None).expect("this test needs PostgreSQL: see scripts/test");
    let mut config = ClusterConfig::new(plan.modes[0].topology.clone(), binaries, root.join("c"));
    config.launcher = env!("CARGO_BIN_EXE_replbench").into();
    config.schema = plan.tables.iter().map(|table| table.ddl.clone()).collect();
    config.publish = plan.tables.iter().map(Table::qualified).collect();
    Cluster::start(config).await.unwrap()
}

async fn number(node: &RunningNode, query: &str) -> i64 {
    let deadline = Duration::from_secs(10);
    let session = pg::connect(&node.endpoint, "test", None, deadline)
        .await
        .unwrap();
    let row = session.client().query_one(query, &[]).await.unwrap();
    session.close().await;
    row.get(0)
}

/// Nobody tells the load of the new primary: it asks all servers, and uses the one that takes writes.
#[tokio::test]
async fn the_load_finds_the_standby_that_has_become_the_primary() {
    for client in [Client::Wire, Client::Pool] {
        let plan = plan(client);
        let root = tempfile::Builder::new()
            .prefix("replbench-test-")
            .permissions(PermissionsExt::from_mode(0o755))
            .tempdir()
            .unwrap();
        let cluster = cluster(&plan, root.path()).await;
        let old = cluster.primary();
        let deadline = Duration::from_secs(10);
        let session = pg::connect(&old.endpoint, "test", None, deadline)
            .await
            .unwrap();
        for (statement, _) in workload::reset(&plan) {
            session.client().batch_execute(&statement).await.unwrap();
        }
        session.close().await;
        cluster.prepare_failover(&plan.modes[0]).await.unwrap();

        let successors = cluster.successors().map(|it| it.endpoint.clone());
        let mut load = Load::open(
            &plan,
            &plan.cells[0],
            old.endpoint.clone(),
            successors,
            None,
        )
        .await
        .unwrap();
        load.start(Timeline::new(
            clock::now() + Duration::from_millis(20),
            Duration::ZERO,
        ));
        let (mut outcomes, mut failures) = (Outcomes::default(), Failures::default());
        let (mut promotion, mut acked_later) = (None, 0);
        while let Some(second) = load.next_second().await {
            outcomes.add(&second.all);
            failures.merge(&second.failures);
            if second.index == 0 {
                cluster.kill(&old.node.name).await.unwrap();
                promotion = Some(cluster.fail_over().await.unwrap());
            } else if second.index > 1 {
                acked_later += second.all.acked;
            }
        }
        load.join().unwrap();

        let promotion = promotion.expect("the first second has passed");
        println!("{client:?}: {outcomes:?} {failures:?}");
        assert!(acked_later > 0, "{outcomes:?} {failures:?}");
        let refused = failures
            .iter()
            .find(|it| it.sqlstate == READ_ONLY_SQL_TRANSACTION);
        assert!(
            refused.is_none(),
            "a standby was asked to write: {refused:?}"
        );
        let rows = format!("SELECT count(*) FROM {}", plan.tables[0].qualified());
        let there = number(promotion.primary(), &rows).await;
        let acked = i64::try_from(outcomes.acked).unwrap();
        let unknown = i64::try_from(outcomes.indeterminate).unwrap();
        // What the old one had not sent is lost: nothing waits for a standby here.
        assert!(there > i64::try_from(acked_later).unwrap(), "{there}");
        assert!(there <= acked + unknown, "{there}: {outcomes:?}");
        cluster.stop().await.unwrap();
    }
}
