//! Makes a replica lose its slot: removes WAL that the replica still needs, so that only a new copy can bring it back.

use std::time::Duration;

use tokio_postgres::Client;

use super::error::ClusterError;
use super::failover::Rejoined;
use super::{Cluster, RunningNode, admin, provision, query};
use crate::clock;
use crate::pg::attach::drop_subscription;
use crate::pg::fault as sql;
use crate::pg::provisioning::{self, checkpoint, fence, switch_wal};
use crate::pg::{Failure, Session};
use crate::topology::Role;

/// The time-out for the other replicas to advance their slots beyond the WAL that is removed, and for its removal.
const DEADLINE: Duration = Duration::from_secs(30);

impl Cluster {
    /// Kills a replica and makes the primary remove WAL that the replica's slot still needs. The slots of other replicas are not lost.
    pub async fn lose_slot(&self, name: &str) -> Result<(), ClusterError> {
        self.workspace("lose a slot")?;
        self.kill(name).await?;
        let primary = self.primary();
        let session = admin(&primary.endpoint).await?;
        let failed = query(primary, "remove WAL that a slot needs");
        fence(session.client()).await.map_err(failed)?;
        switch_wal(session.client()).await.map_err(failed)?;
        let switched = fence(session.client()).await.map_err(failed)?;
        // A logical slot advances when its subscriber has confirmed a record of running transactions, which a checkpoint writes.
        checkpoint(session.client()).await.map_err(failed)?;
        let others = async || {
            let slots = sql::slots(session.client()).await.map_err(failed)?;
            let behind = slots.iter().find(|slot| {
                slot.name != name && slot.restart.is_some_and(|restart| restart < switched)
            });
            Ok(match behind {
                Some(slot) => Err(format!(
                    "advance slot `{}`, which is not to be lost",
                    slot.name
                )),
                None => Ok(()),
            })
        };
        clock::wait_until(DEADLINE, others, |missing| primary.late(missing, DEADLINE)).await?;
        sql::keep_no_wal(session.client(), true)
            .await
            .map_err(failed)?;
        let lost = self.until_lost(&session, name).await;
        sql::keep_no_wal(session.client(), false)
            .await
            .map_err(failed)?;
        session.close().await;
        lost
    }

    async fn until_lost(&self, session: &Session, name: &str) -> Result<(), ClusterError> {
        let primary = self.primary();
        let failed = query(primary, "remove WAL that a slot needs");
        let ask = async || {
            checkpoint(session.client()).await.map_err(failed)?;
            let slots = sql::slots(session.client()).await.map_err(failed)?;
            let is_lost = slots.iter().any(|slot| slot.name == name && slot.is_lost);
            Ok(is_lost
                .then_some(())
                .ok_or_else(|| format!("lose slot `{name}`")))
        };
        clock::wait_until(DEADLINE, ask, |missing| primary.late(missing, DEADLINE)).await
    }

    /// Copies a replica again that has lost its slot. Returns when it replicates.
    pub async fn make_anew(&self, name: &str) -> Result<Rejoined, ClusterError> {
        let begun = clock::now();
        let workspace = self.workspace("make a replica anew")?;
        let (primary, node) = (self.primary(), self.node(name)?);
        let (node, by) = if node.node.role == Role::Subscriber {
            workspace.launch(&node.node).await?;
            let action = "drop the subscription that lost its slot";
            let level = node
                .ask(action, async |client| unsubscribe(client, name).await)
                .await?;
            drop_slot(primary, name, self.deadline).await?;
            provision::subscribe(workspace, primary, std::slice::from_ref(node)).await?;
            node.ask("set what its apply worker waits for", async |client| {
                provisioning::set_subscription_level(client, name, &level).await
            })
            .await?;
            (node.clone(), "a new initial copy")
        } else {
            drop_slot(primary, name, self.deadline).await?;
            let node = provision::replace(workspace, primary, &node.node).await?;
            (node, "a new base backup")
        };
        self.note_processes()?;
        Ok(Rejoined {
            node,
            by,
            took: clock::now().since(begun),
        })
    }
}

/// Drops a subscription and empties its tables. Returns the `synchronous_commit` of the subscription.
async fn unsubscribe(client: &Client, name: &str) -> Result<String, Failure> {
    let level = provisioning::subscription_level(client, name).await?;
    let tables = sql::subscribed(client, name).await?;
    drop_subscription(client, name).await?;
    let truncate = format!("TRUNCATE {}", tables.join(", "));
    provisioning::execute(client, &truncate).await?;
    Ok(level)
}

async fn drop_slot(
    primary: &RunningNode,
    name: &str,
    deadline: Duration,
) -> Result<(), ClusterError> {
    let session = admin(&primary.endpoint).await?;
    let ask = async || {
        let gone = sql::drop_slot(session.client(), name)
            .await
            .map_err(query(primary, "drop a slot that was lost"))?;
        Ok(gone
            .then_some(())
            .ok_or_else(|| format!("let go of slot `{name}`")))
    };
    clock::wait_until(deadline, ask, |missing| primary.late(missing, deadline)).await?;
    session.close().await;
    Ok(())
}
