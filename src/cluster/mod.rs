//! Builds clusters of real PostgreSQL servers on this machine, switches their mode, and takes them away again.
//!
//! Owns processes, directories, ports and passwords. Refuses to know profiles and measurements: it is told a
//! topology, a schema and settings, and answers with endpoints. Nothing of it survives the process that started it,
//! SIGKILL included, unless it was asked to.

mod account;
mod binaries;
mod conf;
mod directory;
mod error;
pub mod keeper;
mod modes;
mod orders;
mod ports;
pub mod process;
mod provision;
mod restore;
mod server;
pub mod state;
mod tree;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use binaries::Binaries;
pub use directory::{Claim, create_reachable};
pub use error::{BinariesError, ClusterError, LogTail};
pub use restore::Restore;

use crate::mode::Mode;
use crate::pg::provisioning::{self, ServerSettings};
use crate::pg::{self, Endpoint, Failure, Session};
use crate::topology::{Node, Role, Topology, WalLevel};
use keeper::Ask;
use provision::Workspace;

/// The database that is made on every node, and the superuser's name.
pub const DATABASE: &str = "replbench";

/// How long a cluster lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// Until it is stopped or its process ends, however; then its directory goes as well.
    Scratch,
    /// Until it is stopped or its process ends; the directory stays.
    Process,
}

/// What to build, from what, and where.
#[derive(Debug, Clone)]
pub struct ClusterConfig {
    pub topology: Topology,
    pub binaries: Binaries,
    /// Made if absent, and empty otherwise.
    pub directory: PathBuf,
    /// At least this; more if the topology needs it. Clusters that are compared have the same.
    pub wal_level: WalLevel,
    /// How many directories above it are for it alone, and go with it when they are empty.
    pub own_parents: usize,
    /// Server settings for every node, beyond replbench's own.
    pub settings: BTreeMap<String, String>,
    /// Connections that clients will want to each node at most.
    pub max_connections: u16,
    /// The replbench executable, which keepers are run from.
    pub launcher: PathBuf,
    /// Statements run on the primary and on each subscriber, in the database [`DATABASE`].
    pub schema: Vec<String>,
    /// Tables to publish, quoted and qualified. Needed for subscribers.
    pub publish: Vec<String>,
    pub lifetime: Lifetime,
    /// For each single wait of a start: a server's readiness, a base backup, an initial copy.
    pub deadline: Duration,
}

impl ClusterConfig {
    pub const DEADLINE: Duration = Duration::from_mins(1);

    /// A scratch cluster with defaults for everything else.
    pub fn new(
        topology: impl Into<Topology>,
        binaries: Binaries,
        directory: impl Into<PathBuf>,
    ) -> Self {
        let topology = topology.into();
        Self {
            wal_level: topology.wal_level(),
            topology,
            binaries,
            directory: directory.into(),
            own_parents: 0,
            settings: BTreeMap::new(),
            max_connections: 76,
            launcher: process::OWN_EXECUTABLE.into(),
            schema: Vec::new(),
            publish: Vec::new(),
            lifetime: Lifetime::Scratch,
            deadline: Self::DEADLINE,
        }
    }
}

/// A server that runs and has its place in the cluster.
#[derive(Debug, Clone)]
pub struct RunningNode {
    pub node: Node,
    pub endpoint: Endpoint,
    /// `None` where the server is not one of this process's.
    pub process: Option<ServerProcess>,
}

/// What is known of a server that this process started.
#[derive(Debug, Clone)]
pub struct ServerProcess {
    /// The postmaster.
    pub pid: i32,
    pub log: PathBuf,
}

impl RunningNode {
    fn late(&self, awaited: String, deadline: Duration) -> ClusterError {
        ClusterError::Late {
            node: self.node.name.clone(),
            awaited,
            deadline,
            log: self
                .process
                .as_ref()
                .map_or_else(LogTail::default, |process| LogTail::read(&process.log)),
        }
    }
}

/// Found by its role, not by its place in the list: the primary can change.
fn primary(nodes: &[RunningNode]) -> &RunningNode {
    let mut nodes = nodes.iter();
    let primary = nodes.find(|node| node.node.role == Role::Primary);
    primary.expect("a cluster has a primary")
}

fn replicas(nodes: &[RunningNode]) -> impl Iterator<Item = &RunningNode> {
    nodes.iter().filter(|node| node.node.role != Role::Primary)
}

/// Running servers that replicate.
///
/// What goes over SQL is the same whoever started them; the rest each kind does in its own way, or not at all.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<RunningNode>,
    deadline: Duration,
    kind: Kind,
}

/// Who started the servers.
#[derive(Debug)]
enum Kind {
    /// This process, in a directory of its own.
    Provisioned(Workspace),
}

impl Cluster {
    /// Builds everything and returns when every replica replicates: standbys stream, subscriptions have made their
    /// initial copy, an archive standby takes connections.
    ///
    /// A failed start stops what it had started and keeps the directory, save where the schema was refused. A dropped future leaves nothing.
    pub async fn start(config: ClusterConfig) -> Result<Self, ClusterError> {
        let started = Self::start_unless(config, std::future::pending()).await?;
        Ok(started.expect("a future that never resolves cancels nothing"))
    }

    /// As [`Cluster::start`], until `cancelled` resolves: then all that was started is stopped and removed before this
    /// returns `None`.
    pub async fn start_unless(
        config: ClusterConfig,
        cancelled: impl Future<Output = ()>,
    ) -> Result<Option<Self>, ClusterError> {
        let workspace = Workspace::prepare(config)?;
        let built = tokio::select! {
            biased;
            () = cancelled => None,
            built = provision::build(&workspace) => Some(built),
        };
        match built {
            None => workspace.cancel().await.map(|()| None),
            Some(Ok(nodes)) => {
                workspace.complete(&nodes)?;
                Ok(Some(Self {
                    nodes,
                    deadline: workspace.config.deadline,
                    kind: Kind::Provisioned(workspace),
                }))
            }
            // A mistake in the schema leaves nothing to look at.
            Some(Err(cause @ ClusterError::Schema { .. })) => {
                workspace.cancel().await?;
                Err(cause)
            }
            Some(Err(cause)) => Err(Self::failed(workspace, cause).await),
        }
    }

    /// Ends the servers at once and keeps the directory, with their logs, for whoever reads of the cause.
    pub async fn abandon(self, cause: ClusterError) -> ClusterError {
        let Kind::Provisioned(workspace) = self.kind;
        Self::failed(workspace, cause).await
    }

    async fn failed(workspace: Workspace, cause: ClusterError) -> ClusterError {
        let directory = workspace.abandon().await;
        ClusterError::Start {
            directory,
            cause: Box::new(cause),
        }
    }

    /// Lets it outlive this process, until `cluster down`.
    pub async fn detach(self) -> Result<(), ClusterError> {
        let Kind::Provisioned(workspace) = self.kind;
        workspace.detach(&self.nodes).await
    }

    /// Each node after its upstream.
    pub fn nodes(&self) -> &[RunningNode] {
        &self.nodes
    }

    pub fn primary(&self) -> &RunningNode {
        primary(&self.nodes)
    }

    pub fn replicas(&self) -> impl Iterator<Item = &RunningNode> {
        replicas(&self.nodes)
    }

    fn workspace(&self) -> &Workspace {
        let Kind::Provisioned(workspace) = &self.kind;
        workspace
    }

    pub fn node(&self, name: &str) -> Result<&RunningNode, ClusterError> {
        self.nodes
            .iter()
            .find(|running| running.node.name == name)
            .ok_or_else(|| ClusterError::NoSuchNode {
                name: name.to_owned(),
                known: self
                    .nodes
                    .iter()
                    .map(|node| node.node.name.clone())
                    .collect(),
            })
    }

    pub fn directory(&self) -> &Path {
        self.workspace().layout.root()
    }

    /// A file in libpq's format with the password for all nodes, for `PGPASSFILE`.
    pub fn passfile(&self) -> PathBuf {
        self.workspace().layout.passfile()
    }

    pub fn binaries(&self) -> &Binaries {
        &self.workspace().config.binaries
    }

    /// Switches the primary to the mode; returns when a fresh session has it and every replica has the
    /// `sync_state` that follows from it.
    pub async fn apply_mode(&self, mode: &Mode) -> Result<Restore<'_>, ClusterError> {
        modes::apply(&self.nodes, mode, self.deadline).await
    }

    /// Waits until every replica has replayed or applied what the primary has committed so far.
    pub async fn await_caught_up(&self, deadline: Duration) -> Result<(), ClusterError> {
        modes::await_caught_up(&self.nodes, deadline).await
    }

    /// A checkpoint or restartpoint on all nodes at once, after which nothing from before waits to be written back.
    pub async fn checkpoint(&self) -> Result<(), ClusterError> {
        futures_util::future::try_join_all(self.nodes.iter().map(|node| async {
            let session = admin(&node.endpoint).await?;
            provisioning::checkpoint(session.client())
                .await
                .map_err(|failure| query(node, "checkpoint", failure))?;
            session.close().await;
            Ok::<_, ClusterError>(())
        }))
        .await?;
        // initdb and pg_basebackup did not sync: without this the kernel would write their files during a cell.
        let directory = self.directory().to_owned();
        let synced = tokio::task::spawn_blocking(move || {
            let directory = std::fs::File::open(directory)?;
            Ok::<_, std::io::Error>(rustix::fs::syncfs(directory)?)
        });
        match synced.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(source)) => Err(ClusterError::io("sync", self.directory(), source)),
            Err(_runtime_ends) => Ok(()),
        }
    }

    /// Nodes whose server ended without having been asked to: name, and how with the end of the log.
    pub fn exited(&self) -> Vec<(String, String)> {
        self.workspace()
            .servers()
            .iter()
            .filter_map(|(node, server)| {
                let (outcome, log) = server.ended_unasked()?;
                Some((node.clone(), format!("{outcome}{log}")))
            })
            .collect()
    }

    /// SIGKILL to the postmaster of a node and to all its processes, stopped ones too.
    pub async fn kill(&self, name: &str) -> Result<(), ClusterError> {
        self.node(name)?;
        for (_, server) in self
            .workspace()
            .servers()
            .iter()
            .filter(|(node, _)| node == name)
        {
            server.ask(Ask::Kill);
            let deadline = Duration::from_secs(10);
            if !server.ended_within(deadline).await {
                return Err(server.late("end after SIGKILL", deadline));
            }
        }
        Ok(())
    }

    /// Starts a node's server again after it has ended; returns when it takes connections.
    pub async fn restart(&self, name: &str) -> Result<(), ClusterError> {
        let node = self.node(name)?;
        self.workspace().relaunch(&node.node).await?;
        let mut nodes = self.nodes.clone();
        for (name, server) in self.workspace().servers() {
            for running in nodes.iter_mut().filter(|it| it.node.name == name) {
                running.process = Some(server.process());
            }
        }
        self.workspace().complete(&nodes)
    }

    /// Stops or resumes the replay of a physical replica, which receives WAL meanwhile.
    pub async fn pause_replay(&self, name: &str, pause: bool) -> Result<(), ClusterError> {
        let node = self.node(name)?;
        let session = admin(&node.endpoint).await?;
        let done = provisioning::pause_replay(session.client(), pause).await;
        done.map_err(|failure| query(node, "pause or resume the replay", failure))?;
        session.close().await;
        Ok(())
    }

    /// The server's version and what differs from PostgreSQL's defaults. This cluster's own paths are replaced.
    pub async fn settings(&self, name: &str) -> Result<ServerSettings, ClusterError> {
        let node = self.node(name)?;
        let session = admin(&node.endpoint).await?;
        let mut found = provisioning::settings(session.client())
            .await
            .map_err(|failure| query(node, "read the settings", failure))?;
        session.close().await;
        let own = self.directory().to_string_lossy();
        for value in found.settings.values_mut() {
            *value = value.replace(&*own, "<cluster>");
        }
        Ok(found)
    }

    /// Stops all servers, replicas first, and removes the directory if it is scratch.
    pub async fn stop(self) -> Result<(), ClusterError> {
        let Kind::Provisioned(workspace) = self.kind;
        workspace.stop().await
    }
}

/// A session for replbench's own statements, which never wait for a standby.
async fn admin(endpoint: &Endpoint) -> Result<Session, ClusterError> {
    Ok(pg::connect(
        endpoint,
        "replbench admin",
        Some("-c synchronous_commit=local"),
        Duration::from_secs(10),
    )
    .await?)
}

fn query(node: &RunningNode, action: &'static str, failure: Failure) -> ClusterError {
    ClusterError::Query {
        node: node.node.name.clone(),
        action,
        failure,
    }
}
