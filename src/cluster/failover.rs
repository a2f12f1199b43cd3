//! Replaces a primary that has died by a standby, and takes the dead one back as a standby of the new one.

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

/// Between two questions whether a standby has become the primary: it is part of the time that a failover takes.
const POLL: Duration = Duration::from_millis(1);

/// A standby has become the primary.
#[derive(Debug, Clone)]
pub struct Promotion {
    /// The nodes that are left: the primary first, then those that stream from it.
    pub nodes: Vec<RunningNode>,
    /// The first transaction id that the new primary gives out. The old one had perhaps given it out as well: such a transaction is lost.
    pub next_xid: u64,
    /// Up to where the new primary had the WAL of the old one: what that had written beyond is lost.
    pub parted: Option<Lsn>,
}

/// The node that had been the primary is a standby.
#[derive(Debug, Clone)]
pub struct Rejoined {
    pub node: RunningNode,
    /// By what it was brought to the new primary's history: `pg_rewind` or `a new base backup`.
    pub by: &'static str,
    pub took: Duration,
}

impl Promotion {
    pub fn primary(&self) -> &RunningNode {
        super::primary(&self.nodes)
    }
}

impl Cluster {
    /// Makes every standby ready to become the primary of a mode: it has slots for the others, and knows for whom its commits will wait.
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

    /// The nodes that can become the primary.
    pub fn successors(&self) -> impl Iterator<Item = &RunningNode> {
        candidates(&self.nodes)
    }

    /// After the primary has been killed: makes the standby the primary that has most of its WAL.
    pub async fn fail_over(&self) -> Result<Promotion, ClusterError> {
        if let Kind::Existing(_) = self.kind {
            let action = "be failed over";
            return Err(ClusterError::NotOwn { action });
        }
        let old = self.primary();
        let received = candidates(&self.nodes).map(|node| self.received(node));
        let received = try_join_all(received).await?.into_iter();
        // The first of those that have the same.
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

    /// Has the other standbys stream from the new primary; does not wait until they do.
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

    /// How a standby is to stream from another node.
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

    /// Up to where a standby has the WAL of a primary that has died, once nothing more can come.
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

    /// Promotes the standby; the first transaction id that it gives out.
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

    /// Takes the primary that has died back as a standby of the new one: by `pg_rewind` where its settings allow that, else by a new base
    /// backup. Returns when it streams. `None`: it stays stopped. The data of a container can be rewound by nobody but another container
    /// with its volumes, and the way and password by which it would stream are known to its standbys alone.
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
        // Until its first checkpoint the new primary's control file names the old timeline, and pg_rewind before PostgreSQL 16 finds nothing
        // to do.
        primary.ask("checkpoint", checkpoint).await?;
        let (node, by) = provision::rejoin(workspace, primary, &node).await?;
        Ok(Some(Rejoined {
            node,
            by,
            took: clock::now().since(begun),
        }))
    }
}

/// The name of a standby's slot, which has lower-case letters, digits and underscores alone.
fn slot(standby: &str) -> String {
    let fits = |it: char| it.is_ascii_lowercase() || it.is_ascii_digit();
    let lower = standby.to_ascii_lowercase();
    lower.replace(|it| !fits(it), "_")
}

/// Standbys that can become the primary.
fn candidates(nodes: &[RunningNode]) -> impl Iterator<Item = &RunningNode> {
    of_role(nodes, Role::Standby)
}

/// What is left of a set when one of its nodes is the primary; `None`: nobody to wait for.
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
    /// How the standby `name` streams from another node.
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
