//! Builds clusters of real PostgreSQL servers on this machine, switches their mode, and takes them away again.
//!
//! Owns processes, directories, ports and passwords. Refuses to know profiles and measurements: it is told a
//! topology, a schema and settings, and answers with endpoints. Nothing of it survives the process that started it,
//! SIGKILL included, unless it was asked to.

mod account;
mod binaries;
pub mod compose;
mod conf;
mod directory;
mod error;
pub mod existing;
mod failover;
mod faults;
pub mod health;
pub mod keeper;
mod link;
mod long_query;
mod lost_slot;
mod modes;
mod orders;
mod paused_replay;
mod point_in_time;
mod ports;
pub mod process;
mod provision;
mod restore;
mod server;
pub mod state;
mod tables;
mod tree;
mod workspace;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use itertools::Itertools as _;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

pub use binaries::Binaries;
pub use compose::ComposeFile;
pub use directory::{Claim, create_reachable};
pub use error::{BinariesError, ClusterError, ComposeError, ExistingError, LogTail};
pub use existing::{NamedServer, Servers};
pub use failover::{Promotion, Rejoined};
pub use link::Condition;
pub use long_query::{Conflict, LongQuery};
pub use modes::await_caught_up;
pub use paused_replay::PausedReplay;
pub use point_in_time::{RecoveryPoint, RecoveryTarget, Restored};
pub use process::StoppedProcess;
pub use restore::Restore;

use crate::mode::Mode;
use crate::pg::provisioning::{self, ServerSettings};
use crate::pg::{self, Endpoint, Failure, Session};
use crate::topology::{Node, Role, Topology, WalLevel};
use compose::Project;
use existing::Existing;
use workspace::Workspace;

/// The database that is made on every node, and the superuser's name.
pub const DATABASE: &str = "replbench";
/// What the tables are published as.
const PUBLICATION: &str = "replbench";

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
    /// Whether replicas replicate over a network that can be cut and slowed, at the cost of a proxy.
    pub has_links: bool,
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
            has_links: false,
            lifetime: Lifetime::Scratch,
            deadline: Self::DEADLINE,
        }
    }
}

/// What servers are to have that were not made for the run.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Statements run on the primary and on each subscriber.
    pub schema: &'a [String],
    /// Tables to publish, quoted and qualified.
    pub publish: &'a [String],
    /// Connections to the primary that the load opens.
    pub connections: u16,
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
    /// The same node, for sessions in another database.
    fn in_database(&self, name: &str) -> Self {
        Self {
            endpoint: self.endpoint.with_database(name),
            ..self.clone()
        }
    }

    /// Asks the server something in a session of its own. `action`: what for, in an error.
    async fn ask<T>(
        &self,
        action: &'static str,
        question: impl AsyncFnOnce(&Client) -> Result<T, Failure>,
    ) -> Result<T, ClusterError> {
        let session = admin(&self.endpoint).await?;
        let answer = question(session.client()).await;
        session.close().await;
        answer.map_err(query(self, action))
    }

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

fn of_role(nodes: &[RunningNode], role: Role) -> impl Iterator<Item = &RunningNode> + Clone {
    nodes.iter().filter(move |node| node.node.role == role)
}

/// Found by its role, not by its place in the list: the primary can change.
fn primary(nodes: &[RunningNode]) -> &RunningNode {
    let primary = of_role(nodes, Role::Primary).next();
    primary.expect("a cluster has a primary")
}

fn find<'a>(nodes: &'a [RunningNode], name: &str) -> Result<&'a RunningNode, ClusterError> {
    let found = nodes.iter().find(|it| it.node.name == name);
    found.ok_or_else(|| {
        let known = nodes.iter().map(|it| &it.node.name).join(", ");
        ClusterError::Unfit(format!("no node is called `{name}`; there are {known}"))
    })
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
    /// Somebody else.
    Existing(Existing),
    /// docker compose, for this process.
    Compose(Project),
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

    /// Takes servers that exist, and makes the tables there.
    pub async fn attach(servers: &Servers, wanted: Wanted<'_>) -> Result<Self, ClusterError> {
        let inspected = existing::inspect(servers).await?;
        let (existing, nodes) = Existing::take(servers, inspected, wanted).await?;
        Ok(Self {
            nodes,
            deadline: ClusterConfig::DEADLINE,
            kind: Kind::Existing(existing),
        })
    }

    /// Starts what a compose file says, and makes database and tables there; until `cancelled` resolves: then all that was started
    /// is removed before this returns `None`. A failed start removes it as well. `is_kept`: its end does not.
    pub async fn compose(
        file: &ComposeFile,
        wanted: Wanted<'_>,
        is_kept: bool,
        cancelled: impl Future<Output = ()>,
    ) -> Result<Option<Self>, ClusterError> {
        let started = Project::start(file, Some(wanted), is_kept, cancelled).await?;
        Ok(started.map(|(project, nodes)| Self {
            nodes,
            deadline: ClusterConfig::DEADLINE,
            kind: Kind::Compose(project),
        }))
    }

    /// Ends the servers at once and keeps the directory, with their logs, for whoever reads of the cause.
    pub async fn abandon(self, cause: ClusterError) -> ClusterError {
        match self.kind {
            Kind::Provisioned(workspace) => Self::failed(workspace, cause).await,
            Kind::Existing(existing) => existing.leave().await.err().unwrap_or(cause),
            Kind::Compose(project) => project.remove().await.err().unwrap_or(cause),
        }
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
        match self.kind {
            Kind::Provisioned(workspace) => workspace.detach(&self.nodes).await,
            Kind::Existing(_) | Kind::Compose(_) => Err(ClusterError::NotOwn {
                action: "outlive this process",
            }),
        }
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

    /// Where this process keeps its servers; an error says what cannot be done to others.
    fn workspace(&self, action: &'static str) -> Result<&Workspace, ClusterError> {
        self.own().ok_or(ClusterError::NotOwn { action })
    }

    /// Where the load connects in a mode.
    pub fn load_endpoint(&self, mode: &Mode) -> Endpoint {
        let endpoint = &self.primary().endpoint;
        match &self.kind {
            // The mode is the server's own setting.
            Kind::Provisioned(_) | Kind::Compose(_) => endpoint.clone(),
            Kind::Existing(_) => {
                let level = mode.level.setting();
                endpoint.with_options(&format!("-c synchronous_commit={level}"))
            }
        }
    }

    pub fn node(&self, name: &str) -> Result<&RunningNode, ClusterError> {
        find(&self.nodes, name)
    }

    /// Whether the servers share this machine's processors.
    pub fn is_on_this_machine(&self) -> bool {
        self.nodes
            .iter()
            .all(|node| existing::is_local(&node.endpoint))
    }

    /// The compose project whose servers stay after this process has ended.
    pub fn kept_project(&self) -> Option<&str> {
        match &self.kind {
            Kind::Compose(project) => project.kept_name(),
            _ => None,
        }
    }

    /// `None` where the servers are somebody else's.
    fn own(&self) -> Option<&Workspace> {
        match &self.kind {
            Kind::Provisioned(workspace) => Some(workspace),
            Kind::Existing(_) | Kind::Compose(_) => None,
        }
    }

    /// Of servers that this process started.
    pub fn directory(&self) -> Option<&Path> {
        self.own().map(|own| own.layout.root())
    }

    /// A file in libpq's format with the password for all nodes that this process started, for `PGPASSFILE`.
    pub fn passfile(&self) -> Option<PathBuf> {
        self.own().map(|own| own.layout.passfile())
    }

    /// The programs from which this process started the servers.
    pub fn binaries(&self) -> Option<&Binaries> {
        self.own().map(|own| &own.config.binaries)
    }

    /// Switches the primary to the mode; returns when a fresh session has it and every replica has the
    /// `sync_state` that follows from it.
    pub async fn apply_mode(&self, mode: &Mode) -> Result<Restore<'_>, ClusterError> {
        match &self.kind {
            Kind::Provisioned(_) | Kind::Compose(_) => {
                modes::apply(&self.nodes, mode, self.deadline).await
            }
            Kind::Existing(existing) => {
                let client = self.load_endpoint(mode);
                modes::enter_existing(&self.nodes, existing, mode, &client, self.deadline).await?;
                Ok(Restore::default())
            }
        }
    }

    /// Waits until every replica has replayed or applied what the primary has committed so far.
    pub async fn await_caught_up(&self, deadline: Duration) -> Result<(), ClusterError> {
        await_caught_up(&self.nodes, deadline).await
    }

    /// A checkpoint or restartpoint on all nodes at once, after which nothing from before waits to be written back.
    pub async fn checkpoint(&self) -> Result<(), ClusterError> {
        futures_util::future::try_join_all(self.nodes.iter().map(|node| async {
            let session = admin(&node.endpoint).await?;
            let done = provisioning::checkpoint(session.client()).await;
            session.close().await;
            match done {
                // Of somebody else's servers it is their own affair.
                Err(failure) if self.is_refused(&failure) => Ok(()),
                done => done.map_err(query(node, "checkpoint")),
            }
        }))
        .await?;
        let Some(directory) = self.directory().map(Path::to_owned) else {
            return Ok(());
        };
        // initdb and pg_basebackup did not sync: without this the kernel would write their files during a cell.
        let synced = tokio::task::spawn_blocking(move || {
            let sync = || Ok(rustix::fs::syncfs(std::fs::File::open(&directory)?)?);
            sync().map_err(ClusterError::io("sync", &directory))
        });
        // The runtime ends.
        synced.await.unwrap_or(Ok(()))
    }

    /// Whether a server that is somebody else's refused for lack of a right.
    fn is_refused(&self, failure: &Failure) -> bool {
        let lacks_right = failure.sqlstate.as_ref() == Some(&SqlState::INSUFFICIENT_PRIVILEGE);
        matches!(self.kind, Kind::Existing(_)) && lacks_right
    }

    /// Nodes whose server ended without having been asked to: name, and how with the end of the log.
    pub fn exited(&self) -> Vec<(String, String)> {
        let servers = self.own().map(Workspace::servers).unwrap_or_default();
        servers
            .iter()
            .filter_map(|server| {
                let (outcome, log) = server.ended_unasked()?;
                Some((server.node().to_owned(), format!("{outcome}{log}")))
            })
            .collect()
    }

    /// The server's version and what differs from PostgreSQL's defaults. This cluster's own paths are replaced.
    pub async fn settings(&self, name: &str) -> Result<ServerSettings, ClusterError> {
        let node = self.node(name)?;
        let mut found = node
            .ask("read the settings", provisioning::settings)
            .await?;
        if let Some(own) = self.directory() {
            let own = own.to_string_lossy();
            for value in found.settings.values_mut() {
                *value = value.replace(&*own, "<cluster>");
            }
        }
        Ok(found)
    }

    /// Stops all servers, replicas first, and removes the directory if it is scratch; leaves servers that exist as they were.
    pub async fn stop(self) -> Result<(), ClusterError> {
        match self.kind {
            Kind::Provisioned(workspace) => workspace.stop().await,
            Kind::Existing(existing) => existing.leave().await,
            Kind::Compose(project) => project.stop(&self.nodes).await,
        }
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

/// Makes an error of what a server has answered.
fn query(node: &RunningNode, action: &'static str) -> impl Fn(Failure) -> ClusterError + Copy {
    move |failure| ClusterError::Query {
        node: node.node.name.clone(),
        action,
        failure,
    }
}
