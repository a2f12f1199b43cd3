//! Promotes a standby after the primary has died, and makes the former primary a standby of the new one.

use std::cmp::Reverse;
use std::time::Duration;

use futures_util::future::try_join_all;

use super::error::ClusterError;
use super::provision;
use super::workspace::Workspace;
use super::{Cluster, Kind, RunningNode, admin, of_role, query};
use crate::clock;
use crate::mode::{Mode, Quorum, SyncSet};
use crate::pg::Session;
use crate::pg::failover as sql;
use crate::pg::provisioning::{Synchronous, checkpoint, set_synchronous};
use crate::topology::{Node, Role};
use crate::units::Lsn;

/// The interval between checks whether a standby has been promoted. Short, because it adds to the measured time of a failover.
const POLL: Duration = Duration::from_millis(1);

/// The result of promoting a standby.
#[derive(Debug, Clone)]
pub struct Promotion {
    /// All nodes except the primary that died. The new primary comes first.
    pub nodes: Vec<RunningNode>,
    /// The next transaction id that the new primary assigns. The old primary may have assigned this id and later ones as well: those
    /// transactions are lost.
    pub next_xid: u64,
    /// The end of the old primary's WAL on the new primary: WAL that the old primary wrote beyond this position is lost. `None` if the
    /// standby received no WAL by streaming.
    pub parted: Option<Lsn>,
}

/// A replica that replicates again after it was rewound or copied anew.
#[derive(Debug, Clone)]
pub struct Rejoined {
    pub node: RunningNode,
    /// How the replica was brought to the primary's state: `pg_rewind`, `a new base backup` or `a new initial copy`.
    pub by: &'static str,
    pub took: Duration,
}

impl Promotion {
    pub fn primary(&self) -> &RunningNode {
        super::primary(&self.nodes)
    }
}

impl Cluster {
    /// Prepares every standby to be promoted in this mode: creates replication slots for the other nodes, and sets which standbys its commits
    /// will wait for.
    pub async fn prepare_failover(&self, mode: &Mode) -> Result<(), ClusterError> {
        let prepare = candidates(&self.nodes).map(async |node| {
            let set = mode.sync.as_ref();
            let set = set.and_then(|set| without(set, &node.node.name));
            let synchronous = Synchronous {
                standby_names: Some(set.as_ref().map(SyncSet::setting).unwrap_or_default()),
                commit: Some(mode.level.setting().to_owned()),
            };
            node.ask("set what its commits will wait for", async |client| {
                set_synchronous(client, &synchronous).await
            })
            .await?;
            let others = candidates(&self.nodes).chain([self.primary()]);
            let others = others.map(|it| it.node.name.as_str());
            node.ask("create a replication slot", async |client| {
                for standby in others.filter(|it| *it != node.node.name) {
                    sql::create_slot(client, &slot(standby)).await?;
                }
                Ok(())
            })
            .await
        });
        try_join_all(prepare).await?;
        Ok(())
    }

    /// The nodes that can be promoted.
    pub fn successors(&self) -> impl Iterator<Item = &RunningNode> {
        candidates(&self.nodes)
    }

    /// Promotes the standby that has the most WAL. To be called after the primary has been killed.
    pub async fn fail_over(&self) -> Result<Promotion, ClusterError> {
        if let Kind::Existing(_) = self.kind {
            let action = "be failed over";
            return Err(ClusterError::NotOwn { action });
        }
        let old = self.primary();
        let received = candidates(&self.nodes).map(|node| self.received(node));
        let received = try_join_all(received).await?.into_iter();
        // Several standbys may have the same position: the first of them is taken.
        let most = received.min_by_key(|(_, position)| Reverse(*position));
        let (chosen, parted) = most.ok_or(ClusterError::NoCandidate)?;
        let next_xid = self.promote(chosen).await?;
        let nodes = self.nodes.iter().filter(|it| it.node.name != old.node.name);
        let nodes = nodes.map(|it| {
            let mut node = (*it).clone();
            if it.node.name == chosen.node.name {
                (node.node.role, node.node.upstream) = (Role::Primary, None);
            } else if it.node.upstream.as_ref() == Some(&old.node.name) {
                node.node.upstream = Some(chosen.node.name.clone());
            }
            node
        });
        let mut nodes: Vec<_> = nodes.collect();
        nodes.sort_by_key(|it| it.node.role != Role::Primary);
        Ok(Promotion {
            nodes,
            next_xid,
            parted,
        })
    }

    /// Makes the other standbys stream from the new primary; does not wait until they do.
    pub async fn follow(&self, promotion: &Promotion) -> Result<(), ClusterError> {
        let primary = promotion.primary().node.name.as_str();
        let others = promotion.nodes.iter();
        let others = others.filter(|it| it.node.upstream.as_deref() == Some(primary));
        try_join_all(others.map(async |node| {
            let session = admin(&node.endpoint).await?;
            let upstream = self.upstream(primary, node, &session).await?;
            sql::follow(session.client(), &upstream)
                .await
                .map_err(query(node, "have it follow the new primary"))?;
            session.close().await;
            Ok::<_, ClusterError>(())
        }))
        .await?;
        Ok(())
    }

    /// How a standby must connect to stream from another node.
    async fn upstream(
        &self,
        upstream: &str,
        node: &RunningNode,
        session: &Session,
    ) -> Result<sql::Upstream, ClusterError> {
        let name = &node.node.name;
        match &self.kind {
            Kind::Provisioned(workspace) => Ok(workspace.upstream(upstream, name)),
            Kind::Compose(project) => {
                let own = sql::conninfo(session.client()).await;
                let own = own.map_err(query(node, "ask how it reaches its upstream"))?;
                Ok(sql::Upstream {
                    conninfo: project.leading_to(upstream, &own),
                    slot: slot(name),
                })
            }
            Kind::Existing(_) => Err(ClusterError::NotOwn {
                action: "be failed over",
            }),
        }
    }

    /// The end of the WAL that a standby has received from a primary that has died. Waits until the standby no longer receives.
    async fn received<'a>(
        &self,
        node: &'a RunningNode,
    ) -> Result<(&'a RunningNode, Option<Lsn>), ClusterError> {
        let session = admin(&node.endpoint).await?;
        let ask = async || {
            let received = sql::received(session.client())
                .await
                .map_err(query(node, "ask how much WAL it has"))?;
            Ok(received.ok_or_else(|| "notice that its upstream has died".to_owned()))
        };
        let late = |missing| node.late(missing, self.deadline);
        let position = clock::wait_until(self.deadline, ask, late).await?;
        session.close().await;
        Ok((node, position))
    }

    /// Promotes the standby and waits until its recovery has ended. Returns the next transaction id that it assigns.
    async fn promote(&self, node: &RunningNode) -> Result<u64, ClusterError> {
        let session = admin(&node.endpoint).await?;
        let failed = query(node, "promote it");
        sql::promote(session.client()).await.map_err(failed)?;
        let due = clock::now() + self.deadline;
        while sql::is_in_recovery(session.client())
            .await
            .map_err(failed)?
        {
            if clock::now() >= due {
                return Err(node.late("end its recovery".into(), self.deadline));
            }
            tokio::time::sleep(POLL).await;
        }
        let next = sql::next_xid(session.client()).await.map_err(failed)?;
        session.close().await;
        Ok(next)
    }

    /// Makes the primary that died a standby of the new one, with `pg_rewind` if its settings allow that, otherwise with a new base backup.
    /// Returns when it streams.
    ///
    /// `None` for a compose cluster, where the former primary stays stopped: only another container with its volumes could rewind its
    /// data, and only the standbys know the address and password for streaming.
    pub async fn rejoin(&self, promotion: &Promotion) -> Result<Option<Rejoined>, ClusterError> {
        if let Kind::Compose(_) = self.kind {
            return Ok(None);
        }
        let begun = clock::now();
        let workspace = self.workspace("rejoin")?;
        let primary = promotion.primary();
        let node = Node {
            role: Role::Standby,
            upstream: Some(primary.node.name.clone()),
            ..self.primary().node.clone()
        };
        // Before its first checkpoint the new primary's control file still names the old timeline. pg_rewind before PostgreSQL 16 would then
        // find nothing to do.
        primary.ask("checkpoint", checkpoint).await?;
        let (node, by) = provision::rejoin(workspace, primary, &node).await?;
        Ok(Some(Rejoined {
            node,
            by,
            took: clock::now().since(begun),
        }))
    }
}

/// The name of a standby's slot. Slot names may contain only lower-case letters, digits and underscores; others become underscores.
fn slot(standby: &str) -> String {
    let fits = |it: char| it.is_ascii_lowercase() || it.is_ascii_digit();
    let lower = standby.to_ascii_lowercase();
    lower.replace(|it| !fits(it), "_")
}

/// Standbys that can become the primary.
fn candidates(nodes: &[RunningNode]) -> impl Iterator<Item = &RunningNode> {
    of_role(nodes, Role::Standby)
}

/// The set of standbys to wait for without the node `name`, for the time when that node is the primary. `None` if nobody is left.
fn without(set: &SyncSet, name: &str) -> Option<SyncSet> {
    let nodes = set.nodes.iter().filter(|node| *node != name);
    let nodes: Vec<_> = nodes.cloned().collect();
    let most = u8::try_from(nodes.len()).unwrap_or(u8::MAX);
    let quorum = match set.quorum {
        Quorum::Any(count) => Quorum::Any(count.min(most)),
        Quorum::First(count) => Quorum::First(count.min(most)),
    };
    (most > 0).then_some(SyncSet { quorum, nodes })
}

impl Workspace {
    /// How the standby `name` must connect to stream from another node.
    pub(super) fn upstream(&self, upstream: &str, name: &str) -> sql::Upstream {
        sql::Upstream {
            conninfo: self.conninfo(name, upstream, &[("application_name", name)]),
            slot: name.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_has_a_name_that_postgresql_takes() {
        assert_eq!(slot("s1"), "s1");
        assert_eq!(slot("Replica-2.eu"), "replica_2_eu");
    }

    #[test]
    fn a_new_primary_waits_for_those_that_are_left() {
        let set = SyncSet {
            quorum: Quorum::Any(2),
            nodes: vec!["s1".into(), "s2".into()],
        };
        let left = without(&set, "s1").unwrap();
        assert_eq!(left.setting(), "ANY 1 (\"s2\")");
        assert_eq!(without(&left, "s2"), None);
        assert_eq!(without(&set, "primary"), Some(set));
    }
}
