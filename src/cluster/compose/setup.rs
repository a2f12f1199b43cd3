//! Prepares a compose cluster's servers for a run: checks that they replicate, and creates a database with the tables.

use std::time::Duration;

use futures_util::future::try_join_all;

use super::Wanted;
use crate::clock;
use crate::cluster::error::{ClusterError, ComposeError};
use crate::cluster::{
    DATABASE, PUBLICATION, RunningNode, admin, existing, of_role, primary, query, tables,
};
use crate::pg::{attach, provisioning};
use crate::topology::Role;

/// The database that every server has.
pub(super) const MAINTENANCE: &str = "postgres";

/// Waits until every standby streams from the primary under its own name.
pub(super) async fn replicating(
    nodes: &[RunningNode],
    deadline: Duration,
) -> Result<(), ClusterError> {
    let primary = primary(nodes);
    let session = admin(&primary.endpoint).await?;
    for node in of_role(nodes, Role::Standby) {
        let ask = async || {
            let senders = provisioning::senders(session.client()).await;
            let senders = senders.map_err(query(primary, "look for its standbys"))?;
            let name = &node.node.name;
            let mut streaming = senders.iter().filter(|it| it.state == "streaming");
            if streaming.any(|sender| sender.application_name == *name) {
                return Ok(Ok(()));
            }
            let names: Vec<_> = senders.into_iter().map(|it| it.application_name).collect();
            let others = match names.as_slice() {
                [] => "nobody receives".into(),
                names => format!("those that receive are called {}", names.join(", ")),
            };
            Ok(Err(format!(
                "stream from the primary as `{name}` ({others}; cluster_name or application_name of a standby has to be its replbench.name)"
            )))
        };
        clock::wait_until(deadline, ask, |missing| node.late(missing, deadline)).await?;
    }
    session.close().await;
    Ok(())
}

/// Creates the database and its tables on every server that accepts writes, and the subscriptions. Returns the nodes with endpoints in that
/// database.
pub(super) async fn prepare(
    nodes: &[RunningNode],
    wanted: Wanted<'_>,
    deadline: Duration,
) -> Result<Vec<RunningNode>, ClusterError> {
    let primary = primary(nodes);
    let subscribers: Vec<_> = of_role(nodes, Role::Subscriber).collect();
    let writable = [primary].into_iter().chain(subscribers.iter().copied());
    try_join_all(writable.map(|node| create(node, wanted, deadline))).await?;
    if !subscribers.is_empty() {
        publish(primary, wanted).await?;
        try_join_all(
            subscribers
                .into_iter()
                .map(|node| subscribe(node, deadline)),
        )
        .await?;
    }
    if of_role(nodes, Role::ArchiveStandby).next().is_some() {
        primary
            .ask("end its WAL segment", provisioning::switch_wal)
            .await?;
    }
    let inside: Vec<_> = nodes.iter().map(|it| it.in_database(DATABASE)).collect();
    try_join_all(inside.iter().map(|node| present(node, deadline))).await?;
    Ok(inside)
}

async fn create(
    node: &RunningNode,
    wanted: Wanted<'_>,
    deadline: Duration,
) -> Result<(), ClusterError> {
    if node.node.role == Role::Primary {
        let identity = node.ask("ask what it is", attach::identity).await?;
        existing::check_connections(&identity, wanted.connections)?;
    }
    node.ask("create the database", async |client| {
        provisioning::create_database(client, DATABASE).await
    })
    .await?;
    tables::create(&node.in_database(DATABASE), wanted.schema, deadline).await
}

async fn publish(primary: &RunningNode, wanted: Wanted<'_>) -> Result<(), ClusterError> {
    primary
        .in_database(DATABASE)
        .ask("publish the tables", async |client| {
            provisioning::create_publication(client, PUBLICATION, wanted.publish).await?;
            // The role that a subscription connects as needs to read the tables for the initial copy; nothing else is in this database.
            let grant = format!("GRANT SELECT ON {} TO PUBLIC", wanted.publish.join(", "));
            provisioning::execute(client, &grant).await
        })
        .await
}

/// Subscribes to the tables, with the connection string of the subscription that the subscriber already has. The existing subscriptions
/// are disabled, because their walsenders would decode everything that the load writes.
async fn subscribe(node: &RunningNode, deadline: Duration) -> Result<(), ClusterError> {
    let own = node
        .ask("look for its subscriptions", provisioning::subscriptions)
        .await?;
    let Some(first) = own.first() else {
        let problem = "has no subscription: let its service make one, so that it is known how it reaches the primary";
        return Err(ComposeError::node(&node.node.name, problem).into());
    };
    for subscription in &own {
        node.in_database(&subscription.database)
            .ask("disable its own subscription", async |client| {
                provisioning::enable_subscription(client, &subscription.name, false).await
            })
            .await?;
    }
    let session = admin(&node.endpoint.with_database(DATABASE)).await?;
    let conninfo = with(&first.conninfo, "dbname", DATABASE);
    provisioning::create_subscription(session.client(), &node.node.name, &conninfo, PUBLICATION)
        .await
        .map_err(query(node, "create the subscription"))?;
    tables::copied(node, session.client(), deadline, || Ok(())).await?;
    session.close().await;
    Ok(())
}

/// Removes what [`prepare`] made, and enables the file's own subscriptions again. The endpoints of `nodes` are in the database that is
/// removed.
pub(super) async fn undo(nodes: &[RunningNode]) -> Result<(), ClusterError> {
    let subscribers = of_role(nodes, Role::Subscriber);
    for node in subscribers.clone() {
        node.ask("remove the subscription", async |client| {
            attach::drop_subscription(client, &node.node.name).await
        })
        .await?;
    }
    for node in subscribers.chain([primary(nodes)]) {
        let outside = node.in_database(MAINTENANCE);
        outside
            .ask("remove the database", async |client| {
                let drop = format!("DROP DATABASE {DATABASE} WITH (FORCE)");
                provisioning::execute(client, &drop).await
            })
            .await?;
        let own = outside
            .ask("look for its subscriptions", provisioning::subscriptions)
            .await?;
        for subscription in own {
            node.in_database(&subscription.database)
                .ask("enable its own subscription", async |client| {
                    provisioning::enable_subscription(client, &subscription.name, true).await
                })
                .await?;
        }
    }
    Ok(())
}

/// Adds a keyword with a new value to a connection string. If a keyword occurs twice, libpq takes the last value.
pub(super) fn with(conninfo: &str, keyword: &str, value: &str) -> String {
    let is_uri = ["postgresql://", "postgres://"]
        .iter()
        .any(|it| conninfo.starts_with(it));
    match (is_uri, conninfo.contains('?')) {
        (false, _) => format!("{conninfo} {keyword}={value}"),
        (true, false) => format!("{conninfo}?{keyword}={value}"),
        (true, true) => format!("{conninfo}&{keyword}={value}"),
    }
}

/// Waits until the database exists. On a standby it appears when its creation on the primary is replayed.
async fn present(node: &RunningNode, deadline: Duration) -> Result<(), ClusterError> {
    let ask = async || {
        Ok(match admin(&node.endpoint).await {
            Ok(session) => {
                session.close().await;
                Ok(())
            }
            Err(error) => {
                // Each refused connection adds a line to the server's log, so this does not retry at once.
                tokio::time::sleep(Duration::from_millis(100)).await;
                Err(format!("have the database {DATABASE} ({error})"))
            }
        })
    };
    clock::wait_until(deadline, ask, |missing| node.late(missing, deadline)).await
}

#[cfg(test)]
mod tests {
    use super::with;

    #[test]
    fn another_database_is_named_in_either_form() {
        for (conninfo, expected) in [
            ("host=p dbname=a", "host=p dbname=a dbname=b"),
            ("postgresql://p/a", "postgresql://p/a?dbname=b"),
            (
                "postgresql://p/a?sslmode=require",
                "postgresql://p/a?sslmode=require&dbname=b",
            ),
        ] {
            assert_eq!(with(conninfo, "dbname", "b"), expected);
        }
    }
}
