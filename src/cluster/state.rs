//! Clusters that another process started, as far as they are known from a file in their directory and from /proc.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

use super::account::Account;
use super::directory::{self, Layout, Lease};
use super::error::ClusterError;
use super::tree::{self, ProcessId, Worker};
use super::{ClusterConfig, DATABASE, RunningNode};
use crate::clock;
use crate::pg::{Endpoint, Password};
use crate::topology::Node;

/// How long the keepers of a dead replbench may take to end: an abandoned server is sent SIGKILL after three seconds.
const KEEPER_DEADLINE: Duration = Duration::from_secs(10);

/// The content of a cluster's state file. It does not contain the password, which is in the passfile beside it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ClusterState {
    /// The directory in which the file was found. Not part of the file.
    #[serde(skip)]
    pub directory: PathBuf,
    pub postgresql: String,
    pub detached: bool,
    pub nodes: Vec<NodeState>,
}

/// One server, as recorded by the process that started it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NodeState {
    pub node: Node,
    pub port: u16,
    /// The process of the postmaster.
    #[serde(flatten)]
    pub process: ProcessId,
}

pub(super) fn write(
    layout: &Layout,
    config: &ClusterConfig,
    nodes: &[RunningNode],
    account: &Account,
    detached: bool,
) -> Result<(), ClusterError> {
    let state = ClusterState {
        directory: PathBuf::new(),
        postgresql: config.binaries.version().to_owned(),
        detached,
        nodes: nodes
            .iter()
            .filter_map(|running| {
                Some(NodeState {
                    node: running.node.clone(),
                    port: running.endpoint.port,
                    process: ProcessId::of(running.process.as_ref()?.pid),
                })
            })
            .collect(),
    };
    // Serialising names, numbers and paths cannot fail.
    let text = serde_json::to_string_pretty(&state).unwrap_or_default();
    directory::write(&layout.state(), &(text + "\n"), account)
}

impl ClusterState {
    /// Reads the state of the cluster in a directory.
    pub fn load(path: &Path) -> Result<Self, ClusterError> {
        let refuse = |problem: String, remedy: &str| ClusterError::Directory {
            path: path.to_owned(),
            problem,
            remedy: remedy.to_owned(),
        };
        if !directory::is_marked(path) {
            return Err(refuse(
                "holds no cluster of replbench's".into(),
                "name one with --data-dir, or start one with `replbench cluster up`",
            ));
        }
        let root = path
            .canonicalize()
            .map_err(ClusterError::io("resolve", path))?;
        let state = Layout::new(root.clone()).state();
        let text = std::fs::read_to_string(&state).map_err(|error| {
            refuse(
                format!("holds a cluster that was never complete ({error})"),
                "`replbench clean` removes it",
            )
        })?;
        let mut state: Self = serde_json::from_str(&text).map_err(|error| {
            refuse(
                format!("has an unreadable cluster.json ({error})"),
                "end its servers by hand, then remove it",
            )
        })?;
        state.directory = root;
        Ok(state)
    }

    pub fn passfile(&self) -> PathBuf {
        Layout::new(self.directory.clone()).passfile()
    }

    /// The endpoint of a node, with the password from the passfile.
    pub fn endpoint(&self, node: &NodeState) -> Result<Endpoint, ClusterError> {
        let passfile = self.passfile();
        let text =
            std::fs::read_to_string(&passfile).map_err(ClusterError::io("read", &passfile))?;
        let password = text.trim_end().rsplit(':').next().unwrap_or_default();
        let password = Some(Password::new(password));
        Ok(Endpoint::on_loopback(
            &node.node.name,
            node.port,
            DATABASE,
            password,
        ))
    }

    /// Stops the servers that still run, replicas first. Returns how many were running.
    pub fn stop(&self) -> Result<usize, ClusterError> {
        let mut stopped = 0;
        for node in self.nodes.iter().rev() {
            stopped += usize::from(node.stop(&self.directory)?);
        }
        // The keepers end right after their servers.
        clock::block_until(Duration::from_secs(5), || {
            (!Lease::is_held(&self.directory)).then_some(())
        });
        Ok(stopped)
    }

    /// Removes the directory of a stopped cluster.
    pub fn remove(self) -> Result<(), ClusterError> {
        if Lease::is_held(&self.directory) {
            return Err(ClusterError::Directory {
                path: self.directory,
                problem: "is still used by a running replbench".into(),
                remedy: "end that one first".into(),
            });
        }
        directory::remove(&self.directory).map_err(ClusterError::io("remove", &self.directory))
    }
}

impl NodeState {
    /// Stops the server by a fast shutdown, by an immediate one after ten seconds, and by SIGKILL after another three. Returns whether the
    /// server was running.
    fn stop(&self, directory: &Path) -> Result<bool, ClusterError> {
        let failed = ClusterError::io("stop the server of", directory);
        let Some(pid) = Pid::from_raw(self.process.pid) else {
            return Ok(false);
        };
        let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else {
            return Ok(false);
        };
        // Checked after the handle was opened, so that the handle is known to belong to the intended process.
        if !self.process.is_running() {
            return Ok(false);
        }
        for (signal, seconds) in [(Signal::INT, 10), (Signal::QUIT, 3), (Signal::KILL, 2)] {
            let family = tree::descendants(pid);
            for child in &family {
                // A stopped child would not react to its postmaster. A child that has ended needs no signal, so an error is ignored.
                let _ = kill_process(*child, Signal::CONT);
            }
            let _ = pidfd_send_signal(&handle, Signal::CONT);
            if pidfd_send_signal(&handle, signal).is_err() {
                return Ok(true);
            }
            let timeout = Timespec {
                tv_sec: seconds,
                tv_nsec: 0,
            };
            let mut watched = [PollFd::new(&handle, PollFlags::IN)];
            if poll(&mut watched, Some(&timeout)).map_err(|error| failed(error.into()))? > 0 {
                return Ok(true);
            }
        }
        Err(failed(io::Error::other(format!(
            "`{}` (pid {}) survived SIGKILL",
            self.node.name, self.process.pid
        ))))
    }
}

/// The result of `clean` for one directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cleaned {
    /// The directory was removed, after this number of servers was ended.
    Removed { directory: PathBuf, servers: usize },
    /// A running process uses the directory.
    InUse { directory: PathBuf },
    /// The cluster was detached so that it stays.
    Detached { directory: PathBuf },
}

impl fmt::Display for Cleaned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Removed { directory, servers } => {
                write!(f, "removed {}", directory.display())?;
                match servers {
                    0 => Ok(()),
                    1 => f.write_str(", after ending 1 server"),
                    many => write!(f, ", after ending {many} servers"),
                }
            }
            Self::InUse { directory } => {
                write!(
                    f,
                    "left {}: a running replbench uses it",
                    directory.display()
                )
            }
            Self::Detached { directory } => write!(
                f,
                "left {}: `replbench cluster down --data-dir` is for that",
                directory.display()
            ),
        }
    }
}

/// Looks for clusters that a killed replbench has left, complete or not. Searches some levels deep under `root`, and checks the
/// directories of all running servers that lie under `root` and have replbench's marker. Ends and removes the clusters that are not used.
pub fn clean(root: &Path) -> Result<Vec<Cleaned>, ClusterError> {
    const DEPTH: usize = 5;
    let root = root
        .canonicalize()
        .map_err(ClusterError::io("look for clusters in", root))?;
    let mut directories = Vec::new();
    search(&root, DEPTH, &mut directories);
    let workers = tree::workers();
    let inside = workers.iter().map(|worker| worker.directory.as_path());
    let marked = inside.filter_map(|inside| inside.ancestors().find(|it| directory::is_marked(it)));
    directories.extend(
        marked
            .filter(|it| it.starts_with(&root))
            .map(Path::to_owned),
    );
    directories.sort();
    directories.dedup();
    directories.into_iter().map(clean_one).collect()
}

fn clean_one(directory: PathBuf) -> Result<Cleaned, ClusterError> {
    let is_detached = || ClusterState::load(&directory).is_ok_and(|state| state.detached);
    let owner = directory::owner(&directory);
    if Lease::is_held(&directory) {
        if is_detached() {
            return Ok(Cleaned::Detached { directory });
        }
        if owner.is_none_or(|owner| owner.is_running()) {
            return Ok(Cleaned::InUse { directory });
        }
        // The keepers are about to end their servers, and the last keeper removes the directory.
        clock::block_until(KEEPER_DEADLINE, || {
            (!Lease::is_held(&directory)).then_some(())
        });
    } else if owner.is_some_and(|owner| owner.is_running()) {
        // The owner is about to lock the directory.
        return Ok(Cleaned::InUse { directory });
    }
    let servers = end_workers(&directory);
    if Lease::is_held(&directory) {
        return Ok(Cleaned::InUse { directory });
    }
    // A detached cluster has no keeper any more after a restart of its host, but its data are to be kept.
    if is_detached() {
        return Ok(Cleaned::Detached { directory });
    }
    let mut removed = Ok(());
    // Files that a dying process still writes make a removal fail.
    clock::block_until(Duration::from_secs(5), || {
        removed = directory::unless_gone(directory::remove(&directory));
        removed.is_ok().then_some(())
    });
    removed.map_err(ClusterError::io("remove", &directory))?;
    Ok(Cleaned::Removed { directory, servers })
}

/// Kills the cluster's processes that still work in the directory, and returns how many of them were servers. The data are not kept,
/// so there is no orderly shutdown.
fn end_workers(directory: &Path) -> usize {
    let mut servers = 0;
    clock::block_until(Duration::from_secs(10), || {
        let mut left: Vec<Worker> = tree::workers();
        left.retain(|worker| worker.directory.starts_with(directory));
        servers = servers.max(left.iter().filter(|it| it.is_postmaster).count());
        for worker in &left {
            // An error means that the process has ended already, which is the purpose.
            let _ = kill_process(worker.pid, Signal::KILL);
        }
        left.is_empty().then_some(())
    });
    servers
}

fn search(directory: &Path, depth: usize, found: &mut Vec<PathBuf>) {
    if directory::is_marked(directory) {
        found.push(directory.to_owned());
        return;
    }
    let Some(depth) = depth.checked_sub(1) else {
        return;
    };
    // A directory that cannot be read does not belong to replbench.
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            search(&entry.path(), depth, found);
        }
    }
}
