//! The load by itself, against real servers that the product starts.
#![allow(
    clippy::unwrap_used,
    reason = "a helper of a test fails as the test does"
)]

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use replbench::clock;
use replbench::cluster::{Binaries, Cluster, ClusterConfig, RunningNode};
use replbench::load::{Failures, Load, Outcomes, workload};
use replbench::pg;
use replbench::plan::{Length, Overrides, Plan, Table, resolve};
use replbench::profile::Profile;
use replbench::sample::Timeline;
use tokio::sync::watch;

const PROFILE: &str = r#"
    modes = ["logical:1"]
    [load]
    rate = 200
    arrivals = "uniform"
    connections = 4
    [[transaction]]
    kind = "users-insert"
"#;

/// Keys above this are of rows that the subscriber itself gave a key.
const OWN_KEYS: i64 = 1_000_000;

fn plan() -> Plan {
    let profile = Profile::parse("follow.toml", PROFILE).unwrap();
    let overrides = Overrides {
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

/// What a failover will ask of the load: clients move to another server in the middle of a cell.
#[tokio::test]
async fn the_load_follows_its_primary_to_another_server() {
    let plan = plan();
    let root = tempfile::Builder::new()
        .prefix("replbench-test-")
        .permissions(PermissionsExt::from_mode(0o755))
        .tempdir()
        .unwrap();
    let cluster = cluster(&plan, root.path()).await;
    let (old, new) = (cluster.primary(), &cluster.nodes()[1]);
    let deadline = Duration::from_secs(10);
    for node in [old, new] {
        let session = pg::connect(&node.endpoint, "test", None, deadline)
            .await
            .unwrap();
        for statement in workload::reset(&plan) {
            session.client().batch_execute(&statement).await.unwrap();
        }
        session.close().await;
    }
    let keys = format!(
        "SELECT setval(pg_get_serial_sequence('{}', '{}'), {OWN_KEYS})",
        plan.tables[0].qualified(),
        plan.tables[0].key
    );
    assert_eq!(number(new, &keys).await, OWN_KEYS);

    let (primary, following) = watch::channel(Arc::new(old.endpoint.clone()));
    let mut load = Load::open(&plan, &plan.cells[0], &following, None)
        .await
        .unwrap();
    load.start(Timeline::new(
        clock::now() + Duration::from_millis(20),
        Duration::ZERO,
    ));
    let (mut outcomes, mut failures) = (Outcomes::default(), Failures::default());
    while let Some(second) = load.next_second().await {
        outcomes.add(&second.all);
        failures.merge(&second.failures);
        if second.index == 0 {
            primary.send(Arc::new(new.endpoint.clone())).unwrap();
        }
    }
    load.join().unwrap();

    assert_eq!(failures, Failures::default());
    assert_eq!((outcomes.offered, outcomes.acked), (600, 600));
    let rows = format!("SELECT count(*) FROM {}", plan.tables[0].qualified());
    let before = number(old, &rows).await;
    let own = format!("{rows} WHERE {} > {OWN_KEYS}", plan.tables[0].key);
    let after = number(new, &own).await;
    println!("{before} on the old primary, {after} on the new one");
    assert_eq!(before + after, 600);
    assert!(before >= 200 && after > 0, "{before}, {after}");
    cluster.stop().await.unwrap();
}
