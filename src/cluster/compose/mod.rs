//! Clusters of a compose file: docker compose starts them, replbench finds their nodes by labels, and removes everything by label.

mod engine;
mod file;
mod inside;
mod network;
mod setup;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::{ClusterError, ComposeError, LogTail};
use super::tree::ProcessId;
use super::{RunningNode, Wanted};
use crate::clock;
use crate::mode::ComposeNodes;
use crate::pg::conninfo::{Conninfo, OwnSurroundings};
use crate::pg::{self, Endpoint};
use crate::topology::{Node, Topology};
use engine::{Attachment, Container, Engine, OWNER, PROJECT};
use file::{Arrangement, Config};
pub use inside::Inside;

/// The beginning of every project's name.
const PREFIX: &str = "replbench-";
/// The time-out of `compose up`: for pulling images and creating databases.
const UP: Duration = Duration::from_mins(10);
/// The time-out of each later wait: for a server to answer, or a replica to replicate.
const READY: Duration = Duration::from_mins(2);
/// The time-out of `compose config`, which starts nothing.
const CONFIG_DEADLINE: Duration = Duration::from_secs(30);

/// A compose file whose labels say which services are nodes.
#[derive(Debug)]
pub struct ComposeFile {
    path: PathBuf,
    engine: Engine,
    /// The name of the project that is made from the file. Compose 2 puts it into the names of networks and volumes when it reads the file.
    project: String,
    config: Config,
    arrangement: Arrangement,
}

impl ComposeFile {
    /// Checks that the Docker engine answers, and reads the file through compose. Starts nothing.
    pub async fn read(path: &Path) -> Result<Self, ComposeError> {
        if !path.is_file() {
            return Err(ComposeError::File {
                file: path.to_owned(),
                problem: "is no file".into(),
                remedy: "those that come with replbench are in compose/".into(),
            });
        }
        let engine = Engine::find().await?;
        let project = format!("{PREFIX}{:08x}", rand::random::<u32>());
        let text = engine
            .compose(&project, path, &["config"], CONFIG_DEADLINE)
            .await?;
        let config = Config::read(path, &text)?;
        Ok(Self {
            path: path.to_owned(),
            engine,
            project,
            arrangement: config.arrangement(path)?,
            config,
        })
    }

    pub fn topology(&self) -> &Topology {
        &self.arrangement.topology
    }

    /// The file's nodes, and the faults that are not possible on them.
    pub fn nodes(&self) -> ComposeNodes {
        ComposeNodes {
            topology: self.arrangement.topology.clone(),
            never_cut: network::never_cut(&self.config, &self.arrangement),
            never_failed_over: network::never_failed_over(&self.config, &self.arrangement),
        }
    }
}

/// The containers, networks and volumes that were made from a compose file.
#[derive(Debug)]
pub(super) struct Project {
    engine: Engine,
    name: String,
    /// Whether the project stays after this process has ended.
    is_kept: bool,
    /// The nodes' containers, by the node's name.
    containers: BTreeMap<String, NodeContainer>,
    /// How to load the servers from inside their network; `None` if they share no network.
    inside: Option<Inside>,
}

/// A node's container as it was found after its start.
#[derive(Debug)]
struct NodeContainer {
    id: String,
    /// The compose service, whose name other containers on its networks resolve.
    service: String,
    /// The networks that the container is on, by their names.
    attachments: BTreeMap<String, Attachment>,
}

impl Project {
    /// A project whose containers have not been looked up yet.
    fn new(engine: Engine, name: &str, is_kept: bool) -> Self {
        Self {
            engine,
            name: name.to_owned(),
            is_kept,
            containers: BTreeMap::new(),
            inside: None,
        }
    }

    /// Starts the services of a file, and creates the database and tables of `wanted` there. If `cancelled` resolves first, all that was
    /// started is removed before this returns `None`. A failed start removes it as well.
    pub(super) async fn start(
        file: &ComposeFile,
        wanted: Option<Wanted<'_>>,
        is_kept: bool,
        cancelled: impl Future<Output = ()>,
    ) -> Result<Option<(Self, Vec<RunningNode>)>, ClusterError> {
        let mut project = Self::new(file.engine, &file.project, is_kept);
        let started = tokio::select! {
            biased;
            () = cancelled => None,
            started = project.bring_up(file, wanted) => Some(started),
        };
        match started {
            None => project.remove().await.map(|()| None),
            Some(Ok(nodes)) => Ok(Some((project, nodes))),
            Some(Err(cause)) => {
                let cause = project.explained(cause).await;
                project.remove().await?;
                Err(cause)
            }
        }
    }

    /// Starts all services, waits until every node replicates, and creates the database and tables. After an error, or if the future is
    /// dropped, parts of the project may exist: see [`Project::remove`].
    async fn bring_up(
        &mut self,
        file: &ComposeFile,
        wanted: Option<Wanted<'_>>,
    ) -> Result<Vec<RunningNode>, ClusterError> {
        self.up(file).await?;
        let nodes = self.reach_all(&file.arrangement).await?;
        setup::replicating(&nodes, READY).await?;
        match wanted {
            Some(wanted) => setup::prepare(&nodes, wanted, READY).await,
            None => Ok(nodes),
        }
    }

    async fn reach_all(
        &mut self,
        arrangement: &Arrangement,
    ) -> Result<Vec<RunningNode>, ClusterError> {
        let containers = self.engine.containers(&self.name).await?;
        self.inside = Inside::of(arrangement, &containers);
        let mut nodes = Vec::new();
        for node in arrangement.topology.nodes() {
            let service = &arrangement.services[&node.name];
            let container = containers.iter().find(|it| it.service() == service);
            let container = container.ok_or_else(|| {
                let problem =
                    format!("has no container: compose has started none for service `{service}`");
                ComposeError::node(&node.name, problem)
            })?;
            let own = NodeContainer {
                id: container.id.clone(),
                service: service.clone(),
                attachments: container.networks(),
            };
            self.containers.insert(node.name.clone(), own);
            nodes.push(RunningNode {
                node: node.clone(),
                endpoint: self.reach(node, container).await?,
                process: None,
            });
        }
        Ok(nodes)
    }

    async fn up(&self, file: &ComposeFile) -> Result<(), ComposeError> {
        let mut labels = BTreeMap::from([(PROJECT, self.name.clone())]);
        if !self.is_kept {
            let owner = ProcessId::of(std::process::id().cast_signed());
            labels.insert(OWNER, serde_json::to_string(&owner).unwrap_or_default());
        }
        // The file must stay open until compose has ended.
        let (_file, labelled) = in_memory(&file.config.labelled(&labels).to_string())?;
        let arguments = ["up", "--detach", "--quiet-pull"];
        let done = file
            .engine
            .compose(&self.name, &labelled, &arguments, UP)
            .await;
        done.map(drop).map_err(|error| remedied(error, &file.path))
    }

    /// Waits until the server in a container answers, and returns its endpoint.
    async fn reach(&self, node: &Node, container: &Container) -> Result<Endpoint, ClusterError> {
        // Checked first, because a container that has ended publishes no port either.
        self.check(&node.name).await?;
        let Some((host, port)) = container.published() else {
            let problem = format!(
                "publishes no port: container {} has none for 5432/tcp; add `ports: [\"127.0.0.1:55432:5432\"]` to its service",
                container.name.trim_start_matches('/')
            );
            return Err(ComposeError::node(&node.name, problem).into());
        };
        let user = container.variable("POSTGRES_USER").unwrap_or("postgres");
        let mut pairs = vec![("host", host.as_str()), ("port", port), ("user", user)];
        pairs.extend([("dbname", setup::MAINTENANCE), ("connect_timeout", "5")]);
        if let Some(password) = container.variable("POSTGRES_PASSWORD") {
            pairs.push(("password", password));
        }
        let text = super::conf::conninfo(&pairs);
        let parsed = text.parse::<Conninfo>();
        let parameters = parsed.and_then(|it| it.complete(&OwnSurroundings));
        let parameters = parameters.map_err(|error| {
            ComposeError::node(&node.name, format!("cannot be reached: {error}"))
        })?;
        let ask = async || {
            let error = match pg::locate(&node.name, &parameters, "replbench admin").await {
                Ok((endpoint, session)) => {
                    session.close().await;
                    return Ok(Ok(endpoint));
                }
                Err(error) => error,
            };
            self.check(&node.name).await?;
            // Docker accepts connections even before the server listens, so without a pause this would retry at once.
            tokio::time::sleep(Duration::from_millis(200)).await;
            Ok(Err(format!("answer ({error})")))
        };
        let late = |awaited| ClusterError::Late {
            node: node.name.clone(),
            awaited,
            deadline: READY,
            log: LogTail::default(),
        };
        clock::wait_until(READY, ask, late).await
    }

    /// Makes sure that a node's container is running.
    async fn check(&self, node: &str) -> Result<(), ComposeError> {
        let state = self.inspect(node).await?.state;
        if state.running {
            return Ok(());
        }
        let problem = format!(
            "is not there: its container has ended with {}",
            state.exit_code
        );
        Err(ComposeError::Node {
            node: node.to_owned(),
            problem,
            log: self.engine.log(self.id(node)).await,
        })
    }

    fn id(&self, node: &str) -> &str {
        &self.containers[node].id
    }

    /// The current state of a node's container.
    async fn inspect(&self, node: &str) -> Result<Container, ComposeError> {
        let id = self.id(node);
        let containers = self.engine.containers(&self.name).await?;
        let mut own = containers.into_iter().filter(|it| it.id == id);
        let gone = || ComposeError::node(node, "is not there: its container is gone");
        own.next().ok_or_else(gone)
    }

    /// Adds the end of the container's log to an error about a node, if the container is known.
    async fn explained(&self, error: ClusterError) -> ClusterError {
        match error {
            ClusterError::Late {
                node,
                awaited,
                deadline,
                ..
            } if self.containers.contains_key(&node) => ComposeError::Node {
                problem: format!("did not {awaited} within {} s", deadline.as_secs_f64()),
                log: self.engine.log(self.id(&node)).await,
                node,
            }
            .into(),
            other => other,
        }
    }

    pub(super) fn kept_name(&self) -> Option<&str> {
        self.is_kept.then_some(self.name.as_str())
    }

    /// Sends SIGKILL to a node's container.
    pub(super) async fn kill(&self, node: &str) -> Result<(), ComposeError> {
        self.engine.order("kill", self.id(node)).await
    }

    /// Ends a node's server by its container's stop signal. An error if the server does not shut down cleanly.
    pub(super) async fn shut_down(&self, node: &str, grace: Duration) -> Result<(), ComposeError> {
        self.engine.stop(self.id(node), grace).await?;
        match self.inspect(node).await?.state.exit_code {
            0 => Ok(()),
            code => Err(ComposeError::Node {
                node: node.to_owned(),
                problem: format!(
                    "did not shut down within {} s: its container ended with {code}; give its service `stop_signal: SIGINT`, at which PostgreSQL does not wait for sessions",
                    grace.as_secs()
                ),
                log: self.engine.log(self.id(node)).await,
            }),
        }
    }

    /// A standby's connection string, changed so that it leads to another node.
    pub(super) fn leading_to(&self, node: &str, conninfo: &str) -> String {
        let conninfo = setup::with(conninfo, "host", &self.containers[node].service);
        setup::with(&conninfo, "port", "5432")
    }

    /// Pauses all processes of a node's container. Its connections stay open.
    pub(super) async fn pause(&self, node: &str) -> Result<(), ComposeError> {
        self.engine.order("pause", self.id(node)).await
    }

    /// Lets the processes of a node's container continue if they are paused.
    pub(super) async fn unpause(&self, node: &str) -> Result<(), ComposeError> {
        if self.inspect(node).await?.state.paused {
            self.engine.order("unpause", self.id(node)).await?;
        }
        Ok(())
    }

    /// Starts a node's container again. Returns when its server accepts connections.
    pub(super) async fn restart(&self, node: &RunningNode) -> Result<(), ClusterError> {
        let name = &node.node.name;
        self.engine.order("start", self.id(name)).await?;
        let container = self.inspect(name).await?;
        let endpoint = self.reach(&node.node, &container).await?;
        if endpoint.port != node.endpoint.port {
            let problem = format!(
                "came back at another port, {} instead of {}; publish a port of a fixed number",
                endpoint.port, node.endpoint.port
            );
            return Err(ComposeError::node(name, problem).into());
        }
        Ok(())
    }

    /// Removes containers, networks and volumes. If the project is kept, removes only what was created for the run.
    pub(super) async fn stop(self, nodes: &[RunningNode]) -> Result<(), ClusterError> {
        if self.is_kept {
            return setup::undo(nodes).await;
        }
        self.remove().await
    }

    /// Removes containers, networks and volumes.
    pub(super) async fn remove(self) -> Result<(), ClusterError> {
        self.engine.remove(&self.name).await?;
        Ok(())
    }
}

/// A project that stays until the user removes it.
#[derive(Debug)]
pub struct Kept {
    pub project: String,
    pub nodes: Vec<RunningNode>,
    /// How to load the servers from inside their network; `None` if they share no network.
    pub inside: Option<Inside>,
}

impl From<(Project, Vec<RunningNode>)> for Kept {
    fn from((project, nodes): (Project, Vec<RunningNode>)) -> Self {
        Self {
            project: project.name,
            nodes,
            inside: project.inside,
        }
    }
}

/// Starts the services of a file as a project that stays. If `cancelled` resolves first, what was started is removed before this returns
/// `None`.
pub async fn up(
    file: &ComposeFile,
    cancelled: impl Future<Output = ()>,
) -> Result<Option<Kept>, ClusterError> {
    let started = Project::start(file, None, true, cancelled).await?;
    Ok(started.map(Kept::from))
}

/// Finds the nodes of a project that was started earlier.
pub async fn find(project: &str) -> Result<Kept, ClusterError> {
    let engine = Engine::find().await?;
    let containers = engine.containers(project).await?;
    if containers.is_empty() {
        return Err(ComposeError::NoProject(project.to_owned()).into());
    }
    let services = containers.iter().map(|it| (it.service(), it.labels()));
    let arrangement = Arrangement::of(services, Path::new(project))?;
    let mut this = Project::new(engine, project, true);
    let nodes = this.reach_all(&arrangement).await?;
    Ok(Kept::from((this, nodes)))
}

/// Removes a project. Returns how many containers it had.
pub async fn down(project: &str) -> Result<usize, ComposeError> {
    let engine = Engine::find().await?;
    match engine.remove(project).await? {
        0 => Err(ComposeError::NoProject(project.to_owned())),
        removed => Ok(removed),
    }
}

/// A removed project, left by a replbench process that ended without removing it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    pub project: String,
    pub containers: usize,
}

impl std::fmt::Display for Removed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "removed compose project {} with {} containers",
            self.project, self.containers
        )
    }
}

/// Removes projects whose replbench process is no longer running. Without Docker there are none.
pub async fn clean() -> Result<Vec<Removed>, ComposeError> {
    let engine = match Engine::find().await {
        Err(ComposeError::NoDocker | ComposeError::NoEngine(_) | ComposeError::NoCompose) => {
            return Ok(Vec::new());
        }
        found => found?,
    };
    let mut removed = Vec::new();
    for (project, owner) in engine.projects().await? {
        // A project without an owner was started to stay.
        let owner = serde_json::from_str::<ProcessId>(&owner);
        if owner.map_or(true, |owner| owner.is_running()) {
            continue;
        }
        let containers = engine.remove(&project).await?;
        removed.push(Removed {
            project,
            containers,
        });
    }
    Ok(removed)
}

/// Creates a file in memory, which needs no removal. Also returns a path by which programs of this user can open the file.
fn in_memory(text: &str) -> Result<(File, PathBuf), ComposeError> {
    let make = || -> std::io::Result<File> {
        let file = rustix::fs::memfd_create("replbench", rustix::fs::MemfdFlags::CLOEXEC)?;
        let mut file = File::from(file);
        file.write_all(text.as_bytes())?;
        Ok(file)
    };
    let file = make().map_err(|error| ComposeError::Command {
        command: "memfd_create".into(),
        outcome: error.to_string(),
    })?;
    let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
    Ok((file, path.into()))
}

/// Adds a remedy to the usual errors that keep services from starting.
fn remedied(error: ComposeError, file: &Path) -> ComposeError {
    let ComposeError::Command { outcome, .. } = error else {
        return error;
    };
    let is_about = |words: &[&str]| words.iter().any(|it| outcome.contains(it));
    let remedy = if is_about(&["port is already allocated", "address already in use"]) {
        "\nanother program has a port that the file publishes: end it, or choose another port in the file or by its variable"
    } else if is_about(&[
        "pull access denied",
        "manifest unknown",
        "failed to resolve reference",
        "dial tcp",
        "not found: manifest",
        "no such image",
    ]) {
        "\nan image is neither here nor could it be pulled: name one in the file or, for the files that come with replbench, by REPLBENCH_PG_IMAGE"
    } else {
        ""
    };
    ComposeError::Command {
        command: format!("compose up of {}", file.display()),
        outcome: format!("{outcome}{remedy}"),
    }
}
