//! Builds clusters of real PostgreSQL servers on this machine, switches their mode, and removes them.
//!
//! Owns processes, directories, ports and passwords. Knows nothing of profiles and measurements: callers give it a
//! topology, a schema and settings, and it returns endpoints. Servers that it starts itself end with the process, even if that is
//! killed by SIGKILL, unless the cluster was detached. A compose project that a killed process left is removed by `replbench clean`.

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

/// The name of the database on every node, and of the superuser.
pub const DATABASE: &str = "replbench";
/// The name of the publication of the tables.
const PUBLICATION: &str = "replbench";

/// How long a cluster's servers and directory last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// The cluster is stopped explicitly or ends with the process that started it, however that ends. Its directory is removed then.
    Scratch,
    /// The cluster is stopped explicitly or ends with the process that started it. Its directory stays.
    Process,
}

/// What to build, from what, and where.
#[derive(Debug, Clone)]
pub struct ClusterConfig {
    pub topology: Topology,
    pub binaries: Binaries,
    /// The cluster's directory: created if absent, and otherwise required to be empty.
    pub directory: PathBuf,
    /// The lowest `wal_level` to set; the topology may need a higher one. Set to the same value for clusters that are compared.
    pub wal_level: WalLevel,
    /// How many of the parent directories belong to this cluster alone. They are removed with the cluster's directory if they are empty.
    pub own_parents: usize,
    /// Server settings for every node, beyond replbench's own.
    pub settings: BTreeMap<String, String>,
    /// The most connections that clients open to a node.
    pub max_connections: u16,
    /// The replbench executable from which keepers are started.
    pub launcher: PathBuf,
    /// Statements run on the primary and on each subscriber, in the database [`DATABASE`].
    pub schema: Vec<String>,
    /// Tables to publish, quoted and qualified. Needed for subscribers.
    pub publish: Vec<String>,
    /// Whether replication goes through a proxy for each replica, so that the network can be cut and slowed.
    pub has_links: bool,
    pub lifetime: Lifetime,
    /// The time-out of each single wait during the start: for a server's readiness, a base backup, an initial copy.
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

/// The schema, publication and connections that a run needs on servers that were not made for it.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Statements run on the primary and on each subscriber.
    pub schema: &'a [String],
    /// Tables to publish, quoted and qualified.
    pub publish: &'a [String],
    /// Number of connections that the load opens to the primary.
    pub connections: u16,
}

/// A running server and its role in the cluster.
#[derive(Debug, Clone)]
pub struct RunningNode {
    pub node: Node,
    pub endpoint: Endpoint,
    /// `None` if this process did not start the server.
    pub process: Option<ServerProcess>,
}

/// Process id and log of a server that this process started.
#[derive(Debug, Clone)]
pub struct ServerProcess {
    /// Process id of the postmaster.
    pub pid: i32,
    pub log: PathBuf,
}

impl RunningNode {
    /// The same node, with an endpoint in another database.
    fn in_database(&self, name: &str) -> Self {
        Self {
            endpoint: self.endpoint.with_database(name),
            ..self.clone()
        }
    }

    /// Queries the server in a session opened for this query. `action` says what the query is for, in an error.
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

/// Finds the primary by its role, because its place in the list can change.
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
/// Operations over SQL are the same for every kind of cluster. The others differ by who started the servers, and some kinds
/// refuse them.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<RunningNode>,
    deadline: Duration,
    kind: Kind,
}

/// Who started the servers.
#[derive(Debug)]
enum Kind {
    /// This process started them, in a directory of its own.
    Provisioned(Workspace),
    /// They ran before this process and are not its own.
    Existing(Existing),
    /// docker compose started them for this process.
    Compose(Project),
}

impl Cluster {
    /// Builds the cluster and returns when every replica replicates: standbys stream, subscriptions have finished their
    /// initial copy, an archive standby takes connections.
    ///
    /// A failed start stops the servers that it started and keeps the directory, except if the schema was refused. If the future is
    /// dropped, the servers end and a scratch directory is removed.
    pub async fn start(config: ClusterConfig) -> Result<Self, ClusterError> {
        let started = Self::start_unless(config, std::future::pending()).await?;
        Ok(started.expect("a future that never resolves cancels nothing"))
    }

    /// Does the same as [`Cluster::start`] unless `cancelled` resolves first: then the servers are stopped and a scratch directory is
    /// removed before this returns `None`.
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
            // After an error in the schema the directory holds nothing worth examining.
            Some(Err(cause @ ClusterError::Schema { .. })) => {
                workspace.cancel().await?;
                Err(cause)
            }
            Some(Err(cause)) => Err(Self::failed(workspace, cause).await),
        }
    }

    /// Connects to servers that already run, and creates the tables there.
    pub async fn attach(servers: &Servers, wanted: Wanted<'_>) -> Result<Self, ClusterError> {
        let inspected = existing::inspect(servers).await?;
        let (existing, nodes) = Existing::take(servers, inspected, wanted).await?;
        Ok(Self {
            nodes,
            deadline: ClusterConfig::DEADLINE,
            kind: Kind::Existing(existing),
        })
    }

    /// Starts the services of a compose file, and creates the database and tables there. If `cancelled` resolves first, all that was
    /// started is removed before this returns `None`. A failed start removes it as well. With `is_kept` the project stays after the cluster
    /// is stopped or this process has ended.
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

    /// Ends servers that this process started at once, and keeps their directory with the logs, so that the cause can be investigated.
    /// Removes a compose project, and removes from existing servers what was made there.
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

    /// Lets the servers run on after this process, until `cluster down`.
    pub async fn detach(self) -> Result<(), ClusterError> {
        match self.kind {
            Kind::Provisioned(workspace) => workspace.detach(&self.nodes).await,
            Kind::Existing(_) | Kind::Compose(_) => Err(ClusterError::NotOwn {
                action: "outlive this process",
            }),
        }
    }

    /// The nodes, each after its upstream.
    pub fn nodes(&self) -> &[RunningNode] {
        &self.nodes
    }

    pub fn primary(&self) -> &RunningNode {
        primary(&self.nodes)
    }

    pub fn replicas(&self) -> impl Iterator<Item = &RunningNode> {
        replicas(&self.nodes)
    }

    /// The workspace of a cluster that this process started. For other clusters an error that says that `action` is impossible.
    fn workspace(&self, action: &'static str) -> Result<&Workspace, ClusterError> {
        self.own().ok_or(ClusterError::NotOwn { action })
    }

    /// The endpoint that the load connects to in this mode.
    pub fn load_endpoint(&self, mode: &Mode) -> Endpoint {
        let endpoint = &self.primary().endpoint;
        match &self.kind {
            // Here the server's own settings make the mode, so the session needs no option.
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

    /// The name of the compose project, if its servers stay after this process has ended.
    pub fn kept_project(&self) -> Option<&str> {
        match &self.kind {
            Kind::Compose(project) => project.kept_name(),
            _ => None,
        }
    }

    /// The workspace; `None` if this process did not start the servers itself.
    fn own(&self) -> Option<&Workspace> {
        match &self.kind {
            Kind::Provisioned(workspace) => Some(workspace),
            Kind::Existing(_) | Kind::Compose(_) => None,
        }
    }

    /// The cluster's directory; `None` if this process did not start the servers itself.
    pub fn directory(&self) -> Option<&Path> {
        self.own().map(|own| own.layout.root())
    }

    /// A file in libpq's format with the password for all nodes that this process started, for `PGPASSFILE`.
    pub fn passfile(&self) -> Option<PathBuf> {
        self.own().map(|own| own.layout.passfile())
    }

    /// The PostgreSQL installation that the servers run from; `None` if this process did not start them itself.
    pub fn binaries(&self) -> Option<&Binaries> {
        self.own().map(|own| &own.config.binaries)
    }

    /// Switches the primary to the mode. Returns when a new session has the mode's settings and every replica has the `sync_state` that
    /// follows from them.
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

    /// Makes a checkpoint or restartpoint on all nodes at once, so that no earlier changes remain to be written back.
    pub async fn checkpoint(&self) -> Result<(), ClusterError> {
        futures_util::future::try_join_all(self.nodes.iter().map(|node| async {
            let session = admin(&node.endpoint).await?;
            let done = provisioning::checkpoint(session.client()).await;
            session.close().await;
            match done {
                // A user of existing servers may lack the right to checkpoint. Their checkpoints are then left to their administrator.
                Err(failure) if self.is_refused(&failure) => Ok(()),
                done => done.map_err(query(node, "checkpoint")),
            }
        }))
        .await?;
        let Some(directory) = self.directory().map(Path::to_owned) else {
            return Ok(());
        };
        // initdb and pg_basebackup did not sync their files. Without this the kernel would write them during a cell.
        let synced = tokio::task::spawn_blocking(move || {
            let sync = || Ok(rustix::fs::syncfs(std::fs::File::open(&directory)?)?);
            sync().map_err(ClusterError::io("sync", &directory))
        });
        // The task fails only if the runtime is ending.
        synced.await.unwrap_or(Ok(()))
    }

    /// Whether an existing server refused a statement because the user lacks a right.
    fn is_refused(&self, failure: &Failure) -> bool {
        let lacks_right = failure.sqlstate.as_ref() == Some(&SqlState::INSUFFICIENT_PRIVILEGE);
        matches!(self.kind, Kind::Existing(_)) && lacks_right
    }

    /// Nodes whose server ended without having been asked to: the name, and how the server ended, with the end of its log.
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

    /// The server's version and the settings that differ from PostgreSQL's defaults. The path of the cluster's directory is replaced by
    /// `<cluster>`.
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

    /// Stops all servers, replicas first, and removes a scratch directory or a compose project that is not kept. Existing servers run on
    /// and are put back into their former state.
    pub async fn stop(self) -> Result<(), ClusterError> {
        match self.kind {
            Kind::Provisioned(workspace) => workspace.stop().await,
            Kind::Existing(existing) => existing.leave().await,
            Kind::Compose(project) => project.stop(&self.nodes).await,
        }
    }
}

/// Opens a session for replbench's own statements, whose commits never wait for a standby.
async fn admin(endpoint: &Endpoint) -> Result<Session, ClusterError> {
    Ok(pg::connect(
        endpoint,
        "replbench admin",
        Some("-c synchronous_commit=local"),
        Duration::from_secs(10),
    )
    .await?)
}

/// Makes an error from a query that failed on a node.
fn query(node: &RunningNode, action: &'static str) -> impl Fn(Failure) -> ClusterError + Copy {
    move |failure| ClusterError::Query {
        node: node.node.name.clone(),
        action,
        failure,
    }
}
