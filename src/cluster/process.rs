//! The only module that starts processes: short commands with a deadline, keepers, and the servers under the keepers. Knows programs,
//! users and files, but not clusters.
#![allow(
    clippy::disallowed_methods,
    reason = "this module is where processes are started"
)]

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};

use super::error::{ClusterError, LogTail};
use super::orders::{ExecOrder, KeeperOrder, Program};
use super::tree;
use crate::clock;

/// The path of the running executable. It works even if a build has replaced or removed the file, and where the servers' user may not
/// read the file.
pub const OWN_EXECUTABLE: &str = "/proc/self/exe";

/// A command without the user's environment variables that begin with `PG`, such as `PGPASSWORD` and `PGOPTIONS`. They would change what
/// PostgreSQL's programs do, and would end up in a server's environment. Also used for programs other than PostgreSQL's.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"PG") {
            command.env_remove(name);
        }
    }
    // Messages are in English, so that the end of a log reads the same everywhere.
    command.env("LC_ALL", "C").stdin(Stdio::null());
    command
}

/// A process stopped by SIGSTOP. Dropping the value lets the process continue, if it still exists.
#[derive(Debug)]
pub struct StoppedProcess(OwnedFd);

impl StoppedProcess {
    pub(super) fn stop(pid: Pid) -> io::Result<Self> {
        // Signals go through a descriptor, so that they cannot reach another process that gets the same id later.
        let process = pidfd_open(pid, PidfdFlags::empty())?;
        pidfd_send_signal(&process, Signal::STOP)?;
        Ok(Self(process))
    }

    /// Stops a process and its descendants. The process itself is stopped first, so that it starts no more of them.
    pub(super) fn stop_family(pid: Pid) -> io::Result<Vec<Self>> {
        let mut stopped = vec![Self::stop(pid)?];
        for child in tree::descendants(pid) {
            // A descendant that has ended meanwhile is left out.
            stopped.extend(Self::stop(child));
        }
        Ok(stopped)
    }
}

impl Drop for StoppedProcess {
    fn drop(&mut self) {
        // A process that has ended needs no signal, so an error is ignored.
        let _ = pidfd_send_signal(&self.0, Signal::CONT);
    }
}

/// The same as [`command`], for a program whose libraries the loader would not find.
fn command_with(program: &Path, library_path: Option<&Path>) -> Command {
    let mut command = command(program);
    if let Some(path) = library_path {
        command.env("LD_LIBRARY_PATH", path);
    }
    command
}

/// Runs a short command. Returns what it prints, or a description of the failure.
pub(super) fn output(
    program: &Path,
    arguments: &[&str],
    library_path: Option<&Path>,
    deadline: Duration,
) -> Result<String, String> {
    let mut child = command_with(program, library_path)
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("it cannot be run: {error}"))?;
    // The output fits into the pipe's buffer, so the program does not block, and its end may be awaited before the output is read.
    let Some(status) = clock::block_until(deadline, || child.try_wait().transpose()) else {
        let _ = child.kill();
        let _ = child.wait();
        return Err(format!("no answer within {} s", deadline.as_secs_f64()));
    };
    let status = status.map_err(|error| error.to_string())?;
    let mut text = String::new();
    if let Some(mut stdout) = child.stdout.take() {
        stdout
            .read_to_string(&mut text)
            .map_err(|error| error.to_string())?;
    }
    if status.success() {
        Ok(text)
    } else {
        Err(format!("it {}", ended(status)))
    }
}

/// How a process ended, such as "exited with status 1" or "was killed by signal 9".
pub(super) fn ended(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with status {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => "ended".into(),
    }
}

/// A short command that helps to create one node.
pub(super) struct Task<'a> {
    pub(super) node: &'a str,
    pub(super) program: Program,
    pub(super) library_path: Option<&'a Path>,
    pub(super) launcher: &'a Path,
    /// The working directory of the command, which the servers' user can enter.
    pub(super) directory: &'a Path,
    pub(super) log: &'a Path,
    pub(super) deadline: Duration,
}

/// A command that is killed if its future is dropped or its deadline passes.
struct KillOnDrop(Child);

impl Drop for KillOnDrop {
    /// Kills the command with its descendants and waits until they are gone. Otherwise the `postgres` that an initdb runs would go on
    /// filling the directory that is about to be removed. The descendants are killed first, because they are found through their parent.
    fn drop(&mut self) {
        if !matches!(self.0.try_wait(), Ok(None)) {
            return;
        }
        let own = Pid::from_child(&self.0);
        // A stopped process starts no other child between the listing and the kill.
        let _ = kill_process(own, Signal::STOP);
        let family: Vec<_> = tree::descendants(own)
            .into_iter()
            .filter_map(|pid| Some((pid, tree::started(pid.as_raw_nonzero().get())?)))
            .collect();
        for (pid, _) in &family {
            // An error means that the process has ended already, which is the purpose.
            let _ = kill_process(*pid, Signal::KILL);
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
        let alive = |(pid, started): &(Pid, u64)| {
            tree::started(pid.as_raw_nonzero().get()) == Some(*started)
        };
        clock::block_until(Duration::from_secs(2), || {
            (!family.iter().any(alive)).then_some(())
        });
    }
}

impl Task<'_> {
    pub(super) async fn run(self) -> Result<(), ClusterError> {
        let log = append(self.log)?;
        let errors = log
            .try_clone()
            .map_err(ClusterError::io("write", self.log))?;
        let mut command = command_with(self.launcher, self.library_path);
        command
            .arg0("replbench")
            .args(ExecOrder::of(self.program.clone()).to_arguments())
            .current_dir(self.directory)
            // A terminal's Ctrl-C must reach only replbench, which ends the command itself.
            .process_group(0)
            .stdout(log)
            .stderr(errors);
        let mut child = KillOnDrop(
            command
                .spawn()
                .map_err(ClusterError::io("run", self.launcher))?,
        );
        let ask = async || {
            let status = child.0.try_wait();
            let status = status.map_err(ClusterError::io("wait for", self.path()))?;
            Ok(status.ok_or_else(|| "finish".to_owned()))
        };
        let seconds = self.deadline.as_secs_f64();
        let late = |missing| self.failed(format!("did not {missing} within {seconds} s"));
        let status = clock::wait_until(self.deadline, ask, late).await?;
        if status.success() {
            Ok(())
        } else {
            Err(self.failed(ended(status)))
        }
    }

    fn path(&self) -> &Path {
        Path::new(&self.program.path)
    }

    fn failed(&self, outcome: String) -> ClusterError {
        let program = self.path().file_name().unwrap_or_default();
        ClusterError::Command {
            program: program.to_string_lossy().into_owned(),
            node: self.node.to_owned(),
            outcome,
            log: LogTail::read(self.log),
        }
    }
}

fn append(log: &Path) -> Result<File, ClusterError> {
    File::options()
        .create(true)
        .append(true)
        .open(log)
        .map_err(ClusterError::io("write", log))
}

/// Starts a keeper. It reads requests from a pipe on stdin and writes the process id of its server to stdout.
pub(super) fn spawn_keeper(
    launcher: &Path,
    library_path: Option<&Path>,
    order: &KeeperOrder,
) -> Result<Child, ClusterError> {
    command_with(launcher, library_path)
        .arg0("replbench")
        .args(order.to_arguments())
        .current_dir(&order.directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(append(&order.log)?)
        .spawn()
        .map_err(ClusterError::io("run", launcher))
}

/// A command that runs replbench as a supervisor of a program. The program and all processes that it starts end when the supervisor's
/// standard input closes.
pub fn supervisor(program: impl Into<OsString>, arguments: &[OsString]) -> Command {
    let mut command = command(OWN_EXECUTABLE);
    command
        .arg0("replbench")
        .args(["__supervise", "--"])
        .arg(program.into())
        .args(arguments)
        .stdin(Stdio::piped());
    command
}

/// A command that runs replbench to execute a program in its place, with this process's own environment.
fn exec_command(program: &Program) -> Command {
    let mut command = Command::new(OWN_EXECUTABLE);
    command
        .arg0("replbench")
        .args(ExecOrder::of(program.clone()).to_arguments())
        .stdin(Stdio::null());
    command
}

/// Starts a supervisor's command. Its output goes where the supervisor's goes.
pub(super) fn spawn_supervised(program: &Program) -> io::Result<Child> {
    exec_command(program).spawn()
}

/// Starts a keeper's server. Its output goes to a file, because a pipe could fill up, or break when its reader ends.
pub(super) fn spawn_server(program: &Program, log: &Path) -> io::Result<Child> {
    let log = File::options().create(true).append(true).open(log)?;
    let errors = log.try_clone()?;
    exec_command(program).stdout(log).stderr(errors).spawn()
}

/// Executes the program in place of this process. Returns only if that fails.
pub(super) fn replace(program: &Program) -> io::Error {
    Command::new(&program.path).args(&program.arguments).exec()
}

/// Runs an external program with this process's own environment, and returns what it printed. Its whole process group is killed when
/// the deadline passes or the future is dropped.
pub(super) async fn answer(
    program: &str,
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    deadline: Duration,
) -> io::Result<std::process::Output> {
    let mut command = Command::new(program);
    command
        .args(arguments)
        // Messages are in English, so that they can be found in the documentation.
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A terminal's Ctrl-C must reach only replbench, which ends the program itself.
        .process_group(0);
    let child = tokio::process::Command::from(command).spawn()?;
    let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    let group = group.map(KillGroupOnDrop);
    let ended = tokio::time::timeout(deadline, child.wait_with_output()).await;
    let Ok(output) = ended else {
        let message = format!("it did not end within {} s", deadline.as_secs_f64());
        return Err(io::Error::new(io::ErrorKind::TimedOut, message));
    };
    // The program has ended by itself, so its process group must not be killed: its id may belong to another process from now on.
    std::mem::forget(group);
    output
}

/// Kills a process group when dropped.
struct KillGroupOnDrop(Pid);

impl Drop for KillGroupOnDrop {
    fn drop(&mut self) {
        // An error means that all processes of the group have ended.
        let _ = rustix::process::kill_process_group(self.0, Signal::KILL);
    }
}
