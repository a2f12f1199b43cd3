//! Switches a running cluster from one mode to another, and makes sure that the new mode is in effect before anything is measured.

use std::collections::BTreeMap;
use std::time::Duration;

use super::error::ClusterError;
use super::existing::Existing;
use super::restore::Restore;
use super::{RunningNode, admin, find, of_role, primary, query, replicas};
use crate::clock;
use crate::mode::{Mode, Quorum, SyncLevel, SyncSet};
use crate::pg::provisioning::Synchronous;
use crate::pg::{self, Endpoint, Session, provisioning};
use crate::topology::Role;
use crate::units::Lsn;
use futures_util::future::try_join_all;

pub(super) async fn apply<'a>(
    nodes: &'a [RunningNode],
    mode: &Mode,
    deadline: Duration,
) -> Result<Restore<'a>, ClusterError> {
    let primary = primary(nodes);
    for name in mode.sync.iter().flat_map(|set| &set.nodes) {
        find(nodes, name)?;
    }
    let before = Restore::read(nodes).await?;
    set_subscriptions(nodes, mode).await?;
    let names = mode.sync.as_ref().map(SyncSet::setting).unwrap_or_default();
    let synchronous = Synchronous {
        standby_names: Some(names.clone()),
        commit: Some(mode.level.setting().to_owned()),
    };
    let session = admin(&primary.endpoint).await?;
    provisioning::set_synchronous(session.client(), &synchronous)
        .await
        .map_err(query(primary, "set what commits wait for"))?;
    let check = ModeCheck {
        primary,
        client: &primary.endpoint,
        settings: (names, mode.level.setting().to_owned()),
        states: expected_states(nodes, mode.sync.as_ref()),
    };
    check.wait(&session, mode, deadline).await?;
    // Commits wait only after the checkpointer has read the new setting too, some milliseconds after the walsenders whose states were
    // just seen. The checkpointer handles the reload before it begins a checkpoint.
    provisioning::checkpoint(session.client())
        .await
        .map_err(query(primary, "checkpoint"))?;
    session.close().await;
    Ok(before)
}

/// Sets `synchronous_standby_names` on existing servers if that is permitted. Then waits until a session of the load has the mode's
/// settings, and the standbys have the `sync_state` that follows from the servers' settings.
pub(super) async fn enter_existing(
    nodes: &[RunningNode],
    existing: &Existing,
    mode: &Mode,
    client: &Endpoint,
    deadline: Duration,
) -> Result<(), ClusterError> {
    let (names, set) = existing.enter(mode).await?;
    let primary = primary(nodes);
    let session = admin(&primary.endpoint).await?;
    let check = ModeCheck {
        primary,
        client,
        settings: (names, mode.level.setting().to_owned()),
        states: expected_states(nodes, set.as_ref()),
    };
    check.wait(&session, mode, deadline).await?;
    session.close().await;
    Ok(())
}

/// The settings and states that show that a mode is in effect.
struct ModeCheck<'a> {
    primary: &'a RunningNode,
    /// The endpoint that a session of the load connects to.
    client: &'a Endpoint,
    /// The expected `synchronous_standby_names` and `synchronous_commit` of a session of the load.
    settings: (String, String),
    /// The expected `sync_state` of each node that streams from the primary, by the node's name.
    states: BTreeMap<String, String>,
}

impl ModeCheck<'_> {
    async fn wait(
        &self,
        session: &Session,
        mode: &Mode,
        deadline: Duration,
    ) -> Result<(), ClusterError> {
        let ask = async || {
            let seen = self.client_settings().await?;
            let mut states = states(self.primary, session.client()).await?;
            // Standbys that are not part of the cluster may stream from an existing server.
            states.retain(|name, _| self.states.contains_key(name));
            if seen == self.settings && states == self.states {
                return Ok(Ok(()));
            }
            Ok(Err(format!(
                "enter mode `{}`: sync states are {states:?} instead of {:?}, settings {seen:?} instead of {:?}; a \
                 missing node is not streaming",
                mode.name, self.states, self.settings
            )))
        };
        clock::wait_until(deadline, ask, |missing| {
            self.primary.late(missing, deadline)
        })
        .await
    }

    /// The settings that a client sees in a session without replbench's own options.
    async fn client_settings(&self) -> Result<(String, String), ClusterError> {
        let deadline = Duration::from_secs(10);
        let session = pg::connect(self.client, "replbench admin", None, deadline).await?;
        let seen = provisioning::synchronous(session.client())
            .await
            .map_err(query(self.primary, "read what commits wait for"))?;
        session.close().await;
        Ok(seen)
    }
}

/// Sets the `synchronous_commit` of subscriptions. A subscriber that commits on the primary wait for must have its own commits on disk
/// before it confirms them.
async fn set_subscriptions(nodes: &[RunningNode], mode: &Mode) -> Result<(), ClusterError> {
    let subscribers = of_role(nodes, Role::Subscriber);
    try_join_all(subscribers.map(async |node| {
        let name = &node.node.name;
        let counted = mode
            .sync
            .as_ref()
            .is_some_and(|set| set.nodes.contains(name));
        let level = if counted {
            SyncLevel::Local
        } else {
            SyncLevel::Off
        };
        node.ask("set what its apply worker waits for", async |client| {
            provisioning::set_subscription_level(client, name, level.setting()).await
        })
        .await
    }))
    .await?;
    Ok(())
}

async fn states(
    primary: &RunningNode,
    client: &tokio_postgres::Client,
) -> Result<BTreeMap<String, String>, ClusterError> {
    let senders = provisioning::senders(client)
        .await
        .map_err(query(primary, "look for its replicas"))?;
    Ok(senders
        .into_iter()
        .filter(|sender| sender.state == "streaming")
        .map(|sender| (sender.application_name, sender.sync_state))
        .collect())
}

/// The `sync_state` that each node streaming from the primary must have.
fn expected_states(nodes: &[RunningNode], set: Option<&SyncSet>) -> BTreeMap<String, String> {
    nodes
        .iter()
        .filter(|node| node.node.upstream.as_ref() == Some(&primary(nodes).node.name))
        .map(|node| {
            let name = node.node.name.clone();
            let state = expected_state(&name, set).to_owned();
            (name, state)
        })
        .collect()
}

fn expected_state(name: &str, set: Option<&SyncSet>) -> &'static str {
    let Some(set) = set else { return "async" };
    let Some(priority) = set.nodes.iter().position(|other| other == name) else {
        return "async";
    };
    match set.quorum {
        Quorum::Any(_) => "quorum",
        Quorum::First(count) if priority < usize::from(count) => "sync",
        Quorum::First(_) => "potential",
    }
}

/// Waits until every replica among these nodes has replayed or applied what their primary has committed so far.
pub async fn await_caught_up(
    nodes: &[RunningNode],
    deadline: Duration,
) -> Result<(), ClusterError> {
    let primary = primary(nodes);
    let session = admin(&primary.endpoint).await?;
    let target = provisioning::fence(session.client())
        .await
        .map_err(query(primary, "mark a position in the WAL"))?;
    if of_role(nodes, Role::ArchiveStandby).next().is_some() {
        provisioning::switch_wal(session.client())
            .await
            .map_err(query(primary, "end its WAL segment"))?;
    }
    let replicas = replicas(nodes).map(|node| async {
        if node.node.role == Role::Subscriber {
            return reached(node, target, deadline, async || {
                let senders = provisioning::senders(session.client())
                    .await
                    .map_err(query(primary, "look for its replicas"))?;
                Ok(senders
                    .into_iter()
                    .find(|sender| sender.application_name == node.node.name)
                    .and_then(|sender| sender.replay_lsn))
            })
            .await;
        }
        let own = admin(&node.endpoint).await?;
        let outcome = reached(node, target, deadline, async || {
            provisioning::replay_lsn(own.client())
                .await
                .map_err(query(node, "ask how far it has replayed"))
        })
        .await;
        own.close().await;
        outcome
    });
    try_join_all(replicas).await?;
    session.close().await;
    Ok(())
}

/// Asks repeatedly until the position is at or past the target.
async fn reached(
    node: &RunningNode,
    target: Lsn,
    deadline: Duration,
    ask: impl AsyncFn() -> Result<Option<Lsn>, ClusterError>,
) -> Result<(), ClusterError> {
    let ask = async || {
        let at = ask().await?;
        if at.is_some_and(|at| at >= target) {
            return Ok(Ok(()));
        }
        let at = at.map_or_else(|| "an unknown position".to_owned(), |at| at.to_string());
        Ok(Err(format!("reach {target}, and is at {at},")))
    };
    clock::wait_until(deadline, ask, |missing| node.late(missing, deadline)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(quorum: Quorum) -> SyncSet {
        SyncSet {
            quorum,
            nodes: vec!["s2".into(), "s1".into(), "s3".into()],
        }
    }

    #[test]
    fn priority_follows_the_list_and_not_the_names() {
        let first = set(Quorum::First(2));
        let states: Vec<_> = ["s1", "s2", "s3", "sub1"]
            .map(|name| expected_state(name, Some(&first)))
            .into();
        assert_eq!(states, ["sync", "sync", "potential", "async"]);
        assert_eq!(expected_state("s3", Some(&set(Quorum::Any(1)))), "quorum");
        assert_eq!(expected_state("s1", None), "async");
    }
}
