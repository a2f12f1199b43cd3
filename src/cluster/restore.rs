//! The settings that a change of mode has replaced on the servers, so that they can be put back.

use futures_util::future::try_join_all;

use super::error::ClusterError;
use super::{RunningNode, of_role, primary};
use crate::pg::provisioning::{self, Synchronous};
use crate::topology::Role;

/// The servers' settings before a mode was applied. The servers keep the mode until [`Restore::undo`] is called. The default value means
/// that nothing was replaced.
#[derive(Debug, Default)]
#[must_use = "undo it, or `keep` the mode"]
pub struct Restore<'a> {
    /// The primary's settings; `None` if nothing was replaced there.
    primary: Option<(&'a RunningNode, Synchronous)>,
    /// Subscribers, each with the earlier `synchronous_commit` of its subscription.
    subscribers: Vec<(&'a RunningNode, String)>,
}

impl<'a> Restore<'a> {
    /// Reads the settings that are about to be replaced.
    pub(super) async fn read(nodes: &'a [RunningNode]) -> Result<Self, ClusterError> {
        let primary = primary(nodes);
        let synchronous = primary
            .ask(
                "read what commits wait for",
                provisioning::written_synchronous,
            )
            .await?;
        let subscribers = of_role(nodes, Role::Subscriber);
        let subscribers = try_join_all(subscribers.map(async |node| {
            let level = node
                .ask("read what its apply worker waits for", async |client| {
                    provisioning::subscription_level(client, &node.node.name).await
                })
                .await?;
            Ok::<_, ClusterError>((node, level))
        }));
        Ok(Self {
            primary: Some((primary, synchronous)),
            subscribers: subscribers.await?,
        })
    }

    /// Puts all settings back. The servers apply them some milliseconds later.
    pub async fn undo(self) -> Result<(), ClusterError> {
        if let Some((primary, synchronous)) = self.primary {
            primary
                .ask("put back what commits wait for", async |client| {
                    provisioning::set_synchronous(client, &synchronous).await
                })
                .await?;
        }
        let put_back = self.subscribers.iter().map(|(node, level)| {
            node.ask("put back what its worker waits for", async |client| {
                provisioning::set_subscription_level(client, &node.node.name, level).await
            })
        });
        try_join_all(put_back).await?;
        Ok(())
    }

    /// Leaves the servers in the mode.
    pub fn keep(self) {}
}
