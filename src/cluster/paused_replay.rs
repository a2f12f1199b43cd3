//! A physical replica whose replay is paused, by its own clock: if this process ends, the server resumes all the same.

use std::time::Duration;

use tokio::task::JoinHandle;

use super::error::ClusterError;
use super::{Cluster, RunningNode, admin, query};
use crate::pg::fault as sql;
use crate::pg::provisioning::{self, execute};

/// A pause that lasts until it is ended, and not much longer than it should in any case.
#[derive(Debug)]
pub struct PausedReplay {
    node: RunningNode,
    /// The server's process that will resume.
    backend: i32,
    guard: JoinHandle<()>,
}

impl Cluster {
    /// Pauses the replay of a physical replica, which receives WAL meanwhile, for about `length`. Returns when it is paused.
    pub async fn pause_replay(
        &self,
        name: &str,
        length: Duration,
    ) -> Result<PausedReplay, ClusterError> {
        let node = self.node(name)?.clone();
        let guard = admin(&node.endpoint).await?;
        let backend = sql::backend(guard.client())
            .await
            .map_err(query(&node, "pause the replay"))?;
        let guard = tokio::spawn(async move {
            // It ends when it is terminated, or with the server.
            let _ = execute(guard.client(), &sql::resume_after(length)).await;
            guard.close().await;
        });
        node.ask("pause the replay", provisioning::pause_replay)
            .await?;
        Ok(PausedReplay {
            node,
            backend,
            guard,
        })
    }
}

impl PausedReplay {
    pub async fn end(self) -> Result<(), ClusterError> {
        self.node
            .ask("resume the replay", async |client| {
                provisioning::resume_replay(client).await?;
                sql::terminate(client, self.backend).await
            })
            .await?;
        // It does not panic, and nothing aborts it.
        let _ = self.guard.await;
        Ok(())
    }
}
