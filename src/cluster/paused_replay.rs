//! Pauses the replay of a physical replica. A session on the server resumes replay after a given time, even if this process has ended.

use std::time::Duration;

use tokio::task::JoinHandle;

use super::error::ClusterError;
use super::{Cluster, RunningNode, admin, query};
use crate::pg::fault as sql;
use crate::pg::provisioning::{self, execute};

/// A pause of replay. It lasts until [`PausedReplay::end`], or until the server itself resumes replay 5 s after the requested length.
#[derive(Debug)]
pub struct PausedReplay {
    node: RunningNode,
    /// The process id of the backend that resumes replay by itself.
    backend: i32,
    guard: JoinHandle<()>,
}

impl Cluster {
    /// Pauses the replay of a physical replica for about `length`; the replica still receives WAL. Returns when replay is paused.
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
            // The statement ends with an error if its backend is terminated or the server ends, so the result is ignored.
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
        // The task does not panic, and nothing aborts it.
        let _ = self.guard.await;
        Ok(())
    }
}
