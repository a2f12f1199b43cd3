//! Creates the tables on a primary or subscriber, and waits for the initial copy of a subscriber. Works in the same way whoever started
//! the servers.

use std::time::Duration;

use tokio_postgres::Client;

use super::error::ClusterError;
use super::{RunningNode, admin, query};
use crate::clock;
use crate::pg::provisioning;

/// Creates the tables. Each entry of `ddl` must finish within the deadline.
pub(super) async fn create(
    node: &RunningNode,
    ddl: &[String],
    deadline: Duration,
) -> Result<(), ClusterError> {
    let session = admin(&node.endpoint).await?;
    for (index, statements) in ddl.iter().enumerate() {
        let executed = provisioning::execute(session.client(), statements);
        let Ok(executed) = tokio::time::timeout(deadline, executed).await else {
            let awaited = format!("finish entry {} of the schema", index + 1);
            return Err(node.late(awaited, deadline));
        };
        executed.map_err(|failure| ClusterError::Schema { index, failure })?;
    }
    session.close().await;
    Ok(())
}

/// Waits until the subscription with the node's name has copied every table. `check` fails if the copy can no longer finish.
pub(super) async fn copied(
    node: &RunningNode,
    client: &Client,
    deadline: Duration,
    check: impl Fn() -> Result<(), ClusterError>,
) -> Result<(), ClusterError> {
    let ask = async || {
        let (ready, tables) = provisioning::subscribed_tables(client, &node.node.name)
            .await
            .map_err(query(node, "look at the initial copy"))?;
        if ready == tables && tables > 0 {
            return Ok(Ok(()));
        }
        check()?;
        Ok(Err(format!(
            "finish its initial copy ({ready} of {tables} tables)"
        )))
    };
    clock::wait_until(deadline, ask, |missing| node.late(missing, deadline)).await
}
