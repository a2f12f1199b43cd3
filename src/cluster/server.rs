//! One running server as replbench handles it: its keeper, the requests sent to the keeper, and how the server ended.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::ServerProcess;
use super::error::{ClusterError, LogTail};
use super::keeper::Ask;
use super::orders::KeeperOrder;
use super::process;
use crate::clock;

/// A server with its keeper. Dropping the value closes the keeper's pipe, which ends the server unless it is detached.
#[derive(Debug)]
pub(super) struct Server {
    node: String,
    pid: i32,
    log: PathBuf,
    keeper: Mutex<Keeper>,
}

#[derive(Debug)]
struct Keeper {
    /// The keeper's process. Requests are written to its standard input, which closes when this value is dropped.
    child: Child,
    asked: bool,
}

impl Server {
    /// Starts the server of a node. Returns when the server has a process id, long before it accepts connections.
    pub(super) async fn launch(
        node: &str,
        launcher: &Path,
        library_path: Option<&Path>,
        order: KeeperOrder,
    ) -> Result<Self, ClusterError> {
        let mut child = process::spawn_keeper(launcher, library_path, &order)?;
        let announced = child.stdout.take();
        let server = Self {
            node: node.to_owned(),
            pid: 0,
            log: order.log,
            keeper: Mutex::new(Keeper {
                child,
                asked: false,
            }),
        };
        // Either the keeper writes the line at once, or it ends and with it the read.
        let reading = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            announced
                .and_then(|out| BufReader::new(out).read_line(&mut line).ok())
                .and_then(|_| line.trim().parse().ok())
        });
        let deadline = Duration::from_secs(10);
        let pid = match tokio::time::timeout(deadline, reading).await {
            Ok(read) => read.ok().flatten(),
            Err(_) => return Err(server.late("start its keeper", deadline)),
        };
        match pid {
            Some(pid) => Ok(Self { pid, ..server }),
            None => Err(ClusterError::Ended {
                log: LogTail::read(&server.log),
                node: server.node,
                outcome: "did not start".into(),
            }),
        }
    }

    pub(super) fn node(&self) -> &str {
        &self.node
    }

    pub(super) fn process(&self) -> ServerProcess {
        ServerProcess {
            pid: self.pid,
            log: self.log.clone(),
        }
    }

    /// How the server ended, with the end of its log; `None` if it is running or was asked to end.
    pub(super) fn ended_unasked(&self) -> Option<(String, LogTail)> {
        let mut keeper = self.keeper();
        let status = keeper.status().filter(|_| !keeper.asked)?;
        // Exit code 128 + n means signal n.
        let outcome = match status.code() {
            Some(code) if code > 128 => format!("was killed by signal {}", code - 128),
            _ => process::ended(status),
        };
        Some((outcome, LogTail::read(&self.log)))
    }

    /// An error if the server has ended without having been asked to.
    pub(super) fn check(&self) -> Result<(), ClusterError> {
        match self.ended_unasked() {
            None => Ok(()),
            Some((outcome, log)) => Err(ClusterError::Ended {
                node: self.node.clone(),
                outcome,
                log,
            }),
        }
    }

    pub(super) fn late(&self, awaited: &str, deadline: Duration) -> ClusterError {
        ClusterError::Late {
            node: self.node.clone(),
            awaited: awaited.to_owned(),
            deadline,
            log: LogTail::read(&self.log),
        }
    }

    pub(super) fn ask(&self, ask: Ask) {
        let mut keeper = self.keeper();
        keeper.asked = true;
        if let Some(orders) = &mut keeper.child.stdin {
            // A keeper that is gone has already ended its server.
            let _ = orders.write_all(&[ask.byte()]);
        }
    }

    /// Asks the server to end and waits until it has ended.
    pub(super) async fn end(&self, ask: Ask, deadline: Duration) -> Result<(), ClusterError> {
        self.ask(ask);
        if self.ended_within(deadline).await {
            return Ok(());
        }
        let awaited = match ask {
            Ask::Kill => "end after SIGKILL",
            _ => "end after it was asked to",
        };
        Err(self.late(awaited, deadline))
    }

    /// Waits until the server and its keeper have ended. Returns false if the deadline passes first.
    pub(super) async fn ended_within(&self, deadline: Duration) -> bool {
        let ended = async || Ok(self.keeper().status().ok_or_else(String::new));
        clock::wait_until(deadline, ended, |_| ()).await.is_ok()
    }

    /// Waits until the server's pid file says that it accepts connections. The file may still be that of an earlier server that was killed,
    /// so its process id is compared.
    pub(super) async fn accepting(
        &self,
        data: &Path,
        deadline: Duration,
    ) -> Result<(), ClusterError> {
        let file = data.join("postmaster.pid");
        let ask = async || {
            // The eighth line is the status, as pg_ctl reads it: "starting", "ready" or "standby", padded with blanks.
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            let is_own = text
                .lines()
                .next()
                .and_then(|line| line.trim().parse().ok());
            if is_own == Some(self.pid) && text.lines().nth(7).map(str::trim) == Some("ready") {
                return Ok(Ok(()));
            }
            self.check()?;
            Ok(Err("accept connections".to_owned()))
        };
        clock::wait_until(deadline, ask, |missing| self.late(&missing, deadline)).await
    }

    fn keeper(&self) -> MutexGuard<'_, Keeper> {
        // A panic under this lock leaves no partial change, so a poisoned lock can be used.
        self.keeper.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Keeper {
    /// The keeper's exit status; `None` while it is running. May be called repeatedly.
    fn status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }
}
