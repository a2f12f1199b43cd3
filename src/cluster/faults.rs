//! How faults on nodes are caused and undone.

use std::path::Path;
use std::time::Duration;

use rustix::process::Pid;

use super::error::ClusterError;
use super::keeper::Ask;
use super::link::Condition;
use super::process::StoppedProcess;
use super::{Cluster, Kind};
use crate::pg::{fault, provisioning};
use crate::topology::Topology;

impl Cluster {
    /// Sends SIGKILL to the postmaster of a node and to all its processes, including stopped ones. Returns when the server has ended.
    pub async fn kill(&self, name: &str) -> Result<(), ClusterError> {
        self.node(name)?;
        if let Kind::Compose(project) = &self.kind {
            return Ok(project.kill(name).await?);
        }
        match self.workspace("be killed")?.server(name) {
            Some(server) => server.end(Ask::Kill, Duration::from_secs(10)).await,
            None => Ok(()),
        }
    }

    /// Starts a node's server again after it has ended; returns when it takes connections.
    pub async fn restart(&self, name: &str) -> Result<(), ClusterError> {
        let node = self.node(name)?;
        if let Kind::Compose(project) = &self.kind {
            return project.restart(node).await;
        }
        self.workspace("be started again")?
            .launch(&node.node)
            .await?;
        self.note_processes()
    }

    /// Records in the cluster's state file which processes run the nodes now.
    pub(super) fn note_processes(&self) -> Result<(), ClusterError> {
        let workspace = self.workspace("be started again")?;
        let mut nodes = self.nodes.clone();
        for running in &mut nodes {
            if let Some(server) = workspace.server(&running.node.name) {
                running.process = Some(server.process());
            }
        }
        workspace.complete(&nodes)
    }

    /// With `refuse`, makes a subscriber reject every new row, so that its apply worker fails and retries. Without it, undoes that.
    pub async fn refuse_rows(&self, name: &str, refuse: bool) -> Result<(), ClusterError> {
        let node = self.node(name)?;
        node.ask("have its tables refuse rows or take them", async |client| {
            for table in fault::subscribed(client, name).await? {
                provisioning::execute(client, &fault::refuse_rows(&table, refuse)).await?;
            }
            Ok(())
        })
        .await
    }

    /// Stops the walsender that streams to a node. Dropping the returned value lets the walsender continue.
    pub async fn pause_sending(&self, name: &str) -> Result<StoppedProcess, ClusterError> {
        self.workspace("have a process stopped")?;
        let node = self.node(name)?;
        let upstream = node.node.upstream.as_deref().unwrap_or(Topology::PRIMARY);
        let upstream = self.node(upstream)?;
        let pid = upstream
            .ask("look for its walsender", async |client| {
                provisioning::sender_pid(client, name).await
            })
            .await?;
        let stopped = pid.and_then(Pid::from_raw).map(StoppedProcess::stop);
        let none = || std::io::Error::other(format!("nothing is streamed to `{name}`"));
        let stopped = stopped.unwrap_or_else(|| Err(none()));
        stopped.map_err(ClusterError::io("stop the walsender of", Path::new(name)))
    }

    /// Sets the condition of the network between a node and its upstream.
    pub async fn set_network(&self, name: &str, condition: Condition) -> Result<(), ClusterError> {
        let node = self.node(name)?;
        let action = "have their network changed";
        if let Kind::Compose(project) = &self.kind {
            let upstream = node.node.upstream.as_deref().unwrap_or(Topology::PRIMARY);
            return match condition {
                Condition { is_cut: true, .. } => Ok(project.cut_off(name, upstream).await?),
                whole if whole == Condition::default() => Ok(project.reconnect(name).await?),
                _ => Err(ClusterError::NotOwn { action }),
            };
        }
        let link = self.workspace(action)?.link(name);
        link.ok_or(ClusterError::NotOwn { action })?.set(condition);
        Ok(())
    }

    /// Stops all processes of a node's server. Dropping the returned values lets processes that this process stopped continue;
    /// [`Cluster::unfreeze`] does so for a node in a container.
    pub async fn freeze(&self, name: &str) -> Result<Vec<StoppedProcess>, ClusterError> {
        self.node(name)?;
        if let Kind::Compose(project) = &self.kind {
            project.pause(name).await?;
            return Ok(Vec::new());
        }
        // The server is looked up now, because the node may have been restarted.
        let server = self.workspace("have its processes stopped")?.server(name);
        let pid = server.and_then(|server| Pid::from_raw(server.process().pid));
        let none = || std::io::Error::other("it has none");
        let stopped = pid.ok_or_else(none).and_then(StoppedProcess::stop_family);
        stopped.map_err(ClusterError::io("stop the processes of", Path::new(name)))
    }

    /// Lets a node's server continue if Docker has paused its container.
    pub async fn unfreeze(&self, name: &str) -> Result<(), ClusterError> {
        if let Kind::Compose(project) = &self.kind {
            self.node(name)?;
            project.unpause(name).await?;
        }
        Ok(())
    }

    /// Shuts a node's server down fast, as an administrator would: transactions are aborted, and standbys receive all WAL first.
    pub async fn shut_down(&self, name: &str) -> Result<(), ClusterError> {
        self.node(name)?;
        let deadline = Duration::from_secs(20);
        if let Kind::Compose(project) = &self.kind {
            return Ok(project.shut_down(name, deadline).await?);
        }
        match self.workspace("be shut down")?.server(name) {
            Some(server) => server.end(Ask::Fast, deadline).await,
            None => Ok(()),
        }
    }
}
