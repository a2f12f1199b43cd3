//! The resources of a cluster that this process runs: its directory, ports, password and running servers, and the commands that build it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::RngExt as _;
use rand::distr::Alphanumeric;
use tokio::sync::Semaphore;

use super::account::Account;
use super::conf::{self, Conf, HBA};
use super::directory::{self, Layout, Lease};
use super::error::ClusterError;
use super::keeper::Ask;
use super::link::Link;
use super::orders::{KeeperOrder, Program};
use super::ports::Ports;
use super::process::Task;
use super::server::Server;
use super::state;
use super::{ClusterConfig, DATABASE, Lifetime, RunningNode};
use crate::clock;
use crate::pg::{Endpoint, Password};
use crate::topology::{Node, Role, Topology};

/// How many `initdb` and `pg_basebackup` commands run at a time. Limited so that each finishes within its deadline on a machine with two
/// cores.
const COMMANDS_AT_ONCE: usize = 4;

/// The resources of a cluster. Dropping the value ends the servers, and removes the directory if it is to be discarded.
#[derive(Debug)]
pub(super) struct Workspace {
    pub(super) config: ClusterConfig,
    pub(super) layout: Layout,
    pub(super) account: Account,
    pub(super) password: Password,
    ports: Ports,
    /// The proxies of the replication connections, by the name of the replicating node.
    links: BTreeMap<String, Link>,
    pub(super) nodes: Vec<Node>,
    /// The servers in the order of their last start: each after its upstream, until one is restarted. At most one for each node.
    servers: Mutex<Vec<Arc<Server>>>,
    commands: Semaphore,
    lease: Option<Lease>,
    /// Whether the directory is removed with the workspace.
    discard: bool,
}

impl Workspace {
    /// Checks the configuration, then reserves ports, creates the directory and generates a password.
    pub(super) fn prepare(config: ClusterConfig) -> Result<Self, ClusterError> {
        check(&config)?;
        let account = Account::for_servers();
        let nodes = config.topology.nodes().to_vec();
        // One more port, for a server that is restored from the archive.
        let restored = usize::from(config.topology.has(Role::ArchiveStandby));
        let ports = Ports::reserve(nodes.len() + restored)?;
        let mut links = BTreeMap::new();
        let replicas = nodes.iter().filter(|node| node.upstream.is_some());
        for node in replicas.filter(|_| config.has_links) {
            let link =
                Link::open().map_err(ClusterError::io("open a link in", &config.directory))?;
            links.insert(node.name.clone(), link);
        }
        let root = directory::create(&config.directory, config.own_parents, &account)?;
        let lease = Lease::share(&root).map_err(ClusterError::io("lock the marker in", &root))?;
        let discard = config.lifetime == Lifetime::Scratch;
        if discard {
            // The mark tells the keepers to remove the directory if this process ends before it can.
            directory::mark_for_discarding(&root).map_err(ClusterError::io("mark", &root))?;
        }
        let layout = Layout::new(root);
        let password: String = rand::rng()
            .sample_iter(Alphanumeric)
            .take(32)
            .map(char::from)
            .collect();
        let line = format!("127.0.0.1:*:*:{DATABASE}:{password}\n");
        directory::write(&layout.passfile(), &line, &account)?;
        if config.topology.has(Role::ArchiveStandby) {
            directory::create_inner(&layout.archive(), &account)?;
        }
        Ok(Self {
            discard,
            config,
            layout,
            account,
            password: Password::new(password),
            ports,
            links,
            nodes,
            servers: Mutex::new(Vec::new()),
            commands: Semaphore::new(COMMANDS_AT_ONCE),
            lease: Some(lease),
        })
    }

    pub(super) fn servers(&self) -> Vec<Arc<Server>> {
        self.registry().clone()
    }

    /// The current server of a node.
    pub(super) fn server(&self, node: &str) -> Option<Arc<Server>> {
        self.servers().into_iter().find(|it| it.node() == node)
    }

    /// An error if the server of the node has ended without having been asked to.
    pub(super) fn check(&self, node: &str) -> Result<(), ClusterError> {
        self.server(node).map_or(Ok(()), |server| server.check())
    }

    /// Removes the server of a node from the list. The server must have ended.
    pub(super) fn forget(&self, node: &str) {
        self.registry().retain(|it| it.node() != node);
    }

    fn registry(&self) -> MutexGuard<'_, Vec<Arc<Server>>> {
        // A panic under this lock leaves no partial change, so a poisoned lock can be used.
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the state file of a cluster that is ready.
    pub(super) fn complete(&self, nodes: &[RunningNode]) -> Result<(), ClusterError> {
        state::write(&self.layout, &self.config, nodes, &self.account, false)
    }

    /// Lets the servers run on after this process. From then on `clean` leaves the cluster alone.
    pub(super) async fn detach(mut self, nodes: &[RunningNode]) -> Result<(), ClusterError> {
        for server in self.servers() {
            server.check()?;
        }
        for server in self.servers() {
            server.ask(Ask::Detach);
        }
        let root = self.layout.root();
        let written = state::write(&self.layout, &self.config, nodes, &self.account, true)
            .and_then(|()| {
                directory::unmark_for_discarding(root).map_err(ClusterError::io("mark", root))
            });
        if written.is_ok() {
            self.discard = false;
        } else {
            // The error in writing is the one to report, so an error in stopping is ignored.
            let _ = self.stop().await;
        }
        written
    }

    /// Ends all servers at once and keeps the directory so that it can be examined. Returns its path.
    pub(super) async fn abandon(mut self) -> PathBuf {
        self.discard = false;
        // An error is ignored: if the directory is gone, there is nothing to keep.
        let _ = directory::unmark_for_discarding(self.layout.root());
        self.end(Ask::Immediate, Duration::from_secs(5)).await;
        self.layout.root().to_owned()
    }

    /// Ends the servers of a cluster that is not wanted any more, and removes the directory if it is to be discarded.
    pub(super) async fn cancel(self) -> Result<(), ClusterError> {
        self.end(Ask::Immediate, Duration::from_secs(5)).await;
        self.stop().await
    }

    /// Stops all servers, replicas before the primary, so that the primary does not have to wait for replicas. Removes the directory if it is
    /// to be discarded.
    pub(super) async fn stop(mut self) -> Result<(), ClusterError> {
        if !self.end(Ask::Fast, Duration::from_secs(20)).await {
            self.end(Ask::Immediate, Duration::from_secs(5)).await;
        }
        let mut killed = Ok(());
        for server in self.servers() {
            // After an error the other servers are killed all the same.
            killed = killed.and(server.end(Ask::Kill, Duration::from_secs(5)).await);
        }
        killed?;
        if std::mem::take(&mut self.discard)
            && let Some(lease) = self.lease.take()
        {
            // The server of a cancelled start is known only to its keeper, which keeps the directory locked until the server has ended.
            let root = self.layout.root().to_owned();
            let deadline = Duration::from_secs(10);
            let discard = move || lease.discard_within(&root, deadline);
            // If the end of the runtime interrupts the removal, `replbench clean` can finish it.
            let discarded = tokio::task::spawn_blocking(discard).await;
            let root = self.layout.root();
            let is_removed = discarded.unwrap_or(Ok(true));
            if !is_removed.map_err(ClusterError::io("remove", root))? {
                return Err(ClusterError::Directory {
                    path: root.to_owned(),
                    problem: format!("is still used after {} s", deadline.as_secs()),
                    remedy: "`replbench clean` removes it".into(),
                });
            }
        }
        Ok(())
    }

    /// Asks the replicas to end, the last started first, and waits for them; then does the same with the primary. Returns whether all ended
    /// within the deadline.
    async fn end(&self, ask: Ask, deadline: Duration) -> bool {
        let servers = self.servers();
        let due = clock::now() + deadline;
        let mut all = true;
        let (primary, replicas): (Vec<_>, Vec<_>) = servers
            .iter()
            .rev()
            .partition(|server| server.node() == Topology::PRIMARY);
        for group in [replicas, primary] {
            for server in &group {
                server.ask(ask);
            }
            for server in &group {
                all &= server.ended_within(due.since(clock::now())).await;
            }
        }
        all
    }

    /// The port of a node. Any other name is a restored server, of which only one exists at a time.
    pub(super) fn port(&self, node: &str) -> u16 {
        let mut nodes = self.nodes.iter();
        let index = nodes.position(|other| other.name == node);
        let index = index.unwrap_or(self.nodes.len());
        self.ports.numbers().get(index).copied().unwrap_or(0)
    }

    fn running(&self, node: &Node, server: &Server) -> RunningNode {
        RunningNode {
            endpoint: Endpoint::on_loopback(
                &node.name,
                self.port(&node.name),
                DATABASE,
                Some(self.password.clone()),
            ),
            process: Some(server.process()),
            node: node.clone(),
        }
    }

    /// Runs a PostgreSQL program for a node.
    pub(super) async fn command(
        &self,
        node: &str,
        program: &str,
        arguments: Vec<OsString>,
    ) -> Result<(), ClusterError> {
        let program = self.config.binaries.program(program);
        self.run(node, program, arguments).await
    }

    /// Runs any program for a node.
    pub(super) async fn run(
        &self,
        node: &str,
        program: PathBuf,
        arguments: Vec<OsString>,
    ) -> Result<(), ClusterError> {
        // The semaphore is never closed.
        let _turn = self.commands.acquire().await;
        Task {
            node,
            program: self.program(program, arguments),
            library_path: self.config.binaries.library_path(),
            launcher: &self.config.launcher,
            directory: self.layout.root(),
            log: &self.layout.log(node),
            deadline: self.config.deadline,
        }
        .run()
        .await
    }

    /// The proxy between a node and its upstream; `None` if the node replicates without one.
    pub(super) fn link(&self, node: &str) -> Option<&Link> {
        self.links.get(node)
    }

    /// The connection string with which `node` reaches `upstream`. It names the passfile and contains no password.
    pub(super) fn conninfo(&self, node: &str, upstream: &str, extra: &[(&str, &str)]) -> String {
        let mut port = self.port(upstream);
        if let Some(link) = self.link(node) {
            link.lead_to(port);
            port = link.port();
        }
        let port = port.to_string();
        let passfile = self.layout.passfile();
        let passfile = passfile.to_string_lossy();
        let mut pairs = vec![
            ("host", "127.0.0.1"),
            ("port", &port),
            ("user", DATABASE),
            ("passfile", &passfile),
            // The servers offer neither SSL nor GSSAPI encryption, so libpq need not negotiate.
            ("sslmode", "disable"),
            ("gssencmode", "disable"),
        ];
        pairs.extend(extra);
        conf::conninfo(&pairs)
    }

    pub(super) fn configure(&self, node: &Node) -> Result<(), ClusterError> {
        let text = Conf {
            node: &node.name,
            role: node.role,
            port: self.port(&node.name),
            topology: &self.config.topology,
            wal_level: self.config.wal_level.max(self.config.topology.wal_level()),
            client_connections: self.config.max_connections,
            archive: &self.layout.archive(),
            settings: [&self.config.settings, &node.settings],
        }
        .render();
        let data = self.layout.data(&node.name);
        for (name, content) in [("postgresql.conf", text.as_str()), ("pg_hba.conf", HBA)] {
            directory::write(&data.join(name), content, &self.account)?;
        }
        Ok(())
    }

    /// Starts the node's server, in place of one that has ended, and waits until it accepts connections.
    pub(super) async fn launch(&self, node: &Node) -> Result<RunningNode, ClusterError> {
        self.forget(&node.name);
        let data = self.layout.data(&node.name);
        // All settings are in the configuration files.
        let arguments = vec!["-D".into(), data.clone().into()];
        let order = KeeperOrder {
            directory: self.layout.root().to_owned(),
            log: self.layout.log(&node.name),
            program: self.program(self.config.binaries.program("postgres"), arguments),
        };
        let library_path = self.config.binaries.library_path();
        let launched = Server::launch(&node.name, &self.config.launcher, library_path, order);
        let server = Arc::new(launched.await?);
        self.registry().push(Arc::clone(&server));
        server.accepting(&data, self.config.deadline).await?;
        Ok(self.running(node, &server))
    }

    /// A program that runs as the servers' user.
    fn program(&self, path: PathBuf, arguments: Vec<OsString>) -> Program {
        Program {
            account: self.account.to_become(),
            path: path.into(),
            arguments,
        }
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        // Dropping the servers closes the keepers' pipes, so each keeper ends its server.
        self.registry().clear();
        if let Some(lease) = self.lease.take()
            && self.discard
        {
            // While servers are running, their keepers also hold the lock, so the last keeper removes the directory.
            let _ = lease.discard(self.layout.root());
        }
    }
}

fn check(config: &ClusterConfig) -> Result<(), ClusterError> {
    let topology = &config.topology;
    let refuse = |problem: &str| {
        Err(ClusterError::Unfit(format!(
            "a topology of {topology} cannot be built: {problem}"
        )))
    };
    if topology.has(Role::CascadingStandby) && !topology.has(Role::Standby) {
        return refuse("a cascading standby needs a standby to stream from; ask for one");
    }
    let nodes = topology.nodes();
    let is_known = |name: &String| nodes.iter().any(|it| it.name == *name);
    if !nodes
        .iter()
        .filter_map(|it| it.upstream.as_ref())
        .all(is_known)
    {
        return refuse(
            "a node replicates from one that is none of the cluster's; name another upstream",
        );
    }
    if topology.has(Role::Subscriber) && config.publish.is_empty() {
        return refuse("subscribers need a table that is published");
    }
    let own = nodes.iter().map(|node| &node.settings);
    std::iter::once(&config.settings)
        .chain(own)
        .try_for_each(conf::check)
}
