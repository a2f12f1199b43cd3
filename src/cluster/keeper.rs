//! The process between replbench and one server. It ensures that no server outlives replbench, however replbench ends.
//!
//! A keeper holds one end of a pipe, and only replbench holds the other end. When that end closes, by exit, panic or SIGKILL, the keeper
//! ends its server, even if the server is stopped, unless replbench had told it to let the server run on. If the keeper itself is killed,
//! the server's parent-death signal ends the server. A supervisor does the same for a command and all processes that the command
//! starts. This module knows one server and one directory, but neither clusters nor SQL.

use std::io::{self, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, ExitStatus};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{
    Gid, Pid, PidfdFlags, Signal, Uid, WaitOptions, getppid, kill_process, pidfd_open,
    pidfd_send_signal, set_child_subreaper, set_parent_process_death_signal, setsid, wait,
};

use super::directory::Lease;
pub use super::orders::{ExecOrder, KeeperOrder, Program};
use super::process;
use super::tree;
use crate::clock;

/// How long a server may take to end after replbench has gone, before it is sent SIGKILL. Its immediate shutdown takes some 20 ms.
const ABANDONED_GRACE: Duration = Duration::from_secs(3);
/// How long the child processes of a dead postmaster may take to end by themselves.
const ORPHAN_GRACE: Duration = Duration::from_millis(500);

/// A request from replbench to a keeper, sent as one byte through the pipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ask {
    /// Fast shutdown by SIGINT: sessions end, and a checkpoint is written.
    Fast = b'f' as isize,
    /// Immediate shutdown by SIGQUIT: the next start needs recovery.
    Immediate = b'i' as isize,
    /// SIGKILL to the server and all its processes.
    Kill = b'k' as isize,
    /// Keep the server running when the pipe closes.
    Detach = b'd' as isize,
}

impl Ask {
    pub(super) fn byte(self) -> u8 {
        self as u8
    }

    fn of(byte: u8) -> Option<Self> {
        [Self::Fast, Self::Immediate, Self::Kill, Self::Detach]
            .into_iter()
            .find(|ask| ask.byte() == byte)
    }
}

/// Changes the user, sets the parent-death signal, then executes the program. Returns only if that fails.
///
/// Must run in a process with one thread, because user and group are changed for the calling thread only.
pub fn exec(order: &ExecOrder) -> io::Error {
    fn prepare(order: &ExecOrder) -> io::Result<()> {
        if let Some((uid, gid)) = order.program.account {
            let gid = Gid::from_raw(gid);
            rustix::thread::set_thread_groups(&[gid])?;
            rustix::thread::set_thread_gid(gid)?;
            rustix::thread::set_thread_uid(Uid::from_raw(uid))?;
        }
        // Set after the change of user, which would clear it. SIGQUIT lets a server remove its shared memory.
        set_parent_process_death_signal(Some(Signal::QUIT))?;
        let parent = getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
        if i64::from(parent) != i64::from(order.parent) {
            return Err(io::Error::other(
                "the process that started this one is gone",
            ));
        }
        Ok(())
    }
    match prepare(order) {
        Ok(()) => process::replace(&order.program),
        Err(error) => error,
    }
}

/// Starts the server and watches it until it ends or replbench is gone. Returns the server's exit status as a shell reports it: the exit
/// code, or 128 + n for signal n.
pub fn keep(order: &KeeperOrder) -> io::Result<u8> {
    // A new session, so that neither the keeper nor its server receives a terminal's Ctrl-C or hang-up. The call fails only for the leader of
    // a process group, which does not receive them either.
    let _ = setsid();
    rustix::thread::set_name(c"pgkeeper")?;
    // Backends whose postmaster has died become children of the keeper, so that the keeper finds all of them.
    set_child_subreaper(Some(rustix::process::getpid()))?;
    let lease = Lease::share(&order.directory)?;
    let mut server = ServerProcess::start(order)?;
    let abandoned = server.serve_requests()?;
    if abandoned {
        server.end_tree()?;
    }
    let status = server.child.wait()?;
    reap_orphans(if abandoned {
        Duration::ZERO
    } else {
        ORPHAN_GRACE
    });
    if abandoned {
        lease.discard(&order.directory)?;
    }
    Ok(shell_status(status))
}

struct ServerProcess {
    child: Child,
    pidfd: OwnedFd,
}

impl ServerProcess {
    fn start(order: &KeeperOrder) -> io::Result<Self> {
        let child = process::spawn_server(&order.program, &order.log)?;
        let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty())?;
        // An error is ignored: if the parent is gone, the first read from stdin shows that.
        let _ = writeln!(io::stdout(), "{}", child.id());
        Ok(Self { child, pidfd })
    }

    /// Carries out requests until the server has ended (returns false) or replbench is gone (returns true).
    fn serve_requests(&mut self) -> io::Result<bool> {
        let stdin = io::stdin();
        let mut listening = true;
        let mut detached = false;
        loop {
            let (ended, spoken) = wait_for(&self.pidfd, listening.then_some(&stdin), None)?;
            if ended {
                return Ok(false);
            }
            if !spoken {
                continue;
            }
            let mut bytes = [0_u8; 16];
            match rustix::io::read(&stdin, &mut bytes) {
                Ok(count @ 1..) => {
                    for ask in bytes[..count].iter().filter_map(|byte| Ask::of(*byte)) {
                        detached |= ask == Ask::Detach;
                        self.obey(ask)?;
                    }
                }
                Err(Errno::INTR | Errno::AGAIN) => {}
                Ok(0) | Err(_) if detached => listening = false,
                Ok(0) | Err(_) => return Ok(true),
            }
        }
    }

    fn obey(&self, ask: Ask) -> io::Result<()> {
        match ask {
            Ask::Fast => self.shut_down(Signal::INT),
            Ask::Immediate => self.shut_down(Signal::QUIT),
            Ask::Kill => {
                signal_descendants(Signal::KILL);
                Ok(())
            }
            Ask::Detach => Ok(()),
        }
    }

    /// Shuts the server down immediately, and sends SIGKILL to its remaining processes after `ABANDONED_GRACE`.
    fn end_tree(&self) -> io::Result<()> {
        self.shut_down(Signal::QUIT)?;
        let due = clock::now() + ABANDONED_GRACE;
        while clock::now() < due {
            // Repeated, because a process that is stopped between the listing and the signal would hold up all the others.
            let (ended, _) = wait_for(&self.pidfd, None, Some(Duration::from_millis(200)))?;
            if ended {
                return Ok(());
            }
            signal_descendants(Signal::CONT);
        }
        signal_descendants(Signal::KILL);
        Ok(())
    }

    /// Sends a shutdown signal. Stopped processes are continued first, because they would not react to it.
    fn shut_down(&self, signal: Signal) -> io::Result<()> {
        signal_descendants(Signal::CONT);
        match pidfd_send_signal(&self.pidfd, signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Waits, at most for `timeout`. Returns whether the process has ended, and whether the pipe has data or is closed.
fn wait_for(
    process: &OwnedFd,
    pipe: Option<&io::Stdin>,
    timeout: Option<Duration>,
) -> io::Result<(bool, bool)> {
    let timeout = timeout.map(|timeout| Timespec {
        tv_sec: timeout.as_secs().cast_signed(),
        tv_nsec: i64::from(timeout.subsec_nanos()),
    });
    let mut watched = vec![PollFd::new(process, PollFlags::IN)];
    if let Some(pipe) = pipe {
        watched.push(PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::IN));
    }
    match poll(&mut watched, timeout.as_ref()) {
        Ok(_) => {}
        Err(Errno::INTR) => return Ok((false, false)),
        Err(error) => return Err(error.into()),
    }
    let ready = |index: usize| {
        watched
            .get(index)
            .is_some_and(|fd| !fd.revents().is_empty())
    };
    Ok((ready(0), ready(1)))
}

/// Runs a command and returns its exit status as a shell reports it. When the command ends, or the pipe on standard input closes, kills
/// every process that the command has started, in whatever session or group.
pub fn supervise(program: &Program) -> io::Result<u8> {
    // The call fails only for the leader of a process group, which a terminal's signals do not reach either.
    let _ = setsid();
    // Under root the servers run as another user, who must be able to read what is checked out and built.
    if rustix::process::geteuid().is_root() {
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    }
    // Processes that lose their parent become children of this process, so that it finds all of them.
    set_child_subreaper(Some(rustix::process::getpid()))?;
    let mut child = process::spawn_supervised(program)?;
    let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty())?;
    let stdin = io::stdin();
    while wait_for(&pidfd, Some(&stdin), None)? == (false, false) {}
    signal_descendants(Signal::KILL);
    let status = child.wait()?;
    reap_orphans(Duration::ZERO);
    Ok(shell_status(status))
}

/// A process's exit status in one number: its exit code, or 128 + n for signal n.
fn shell_status(status: ExitStatus) -> u8 {
    let code = status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    u8::try_from(code).unwrap_or(u8::MAX)
}

fn signal_descendants(signal: Signal) {
    for pid in tree::descendants(rustix::process::getpid()) {
        // A process that has ended meanwhile needs no signal, so an error is ignored.
        let _ = kill_process(pid, signal);
    }
}

/// Waits for the processes that a dead postmaster has left, and kills them after `grace`.
///
/// Under load even SIGKILL takes a while. The keeper waits for that, so that the end of the keeper shows that no process is left.
fn reap_orphans(grace: Duration) {
    let due = clock::now() + grace;
    clock::block_until(grace + Duration::from_mins(1), || {
        // `waitpid(None)` would see only this process group, but backends lead sessions of their own.
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some(_)) | Err(Errno::INTR) => {}
                Ok(None) => break,
                Err(_no_children) => return Some(()),
            }
        }
        if clock::now() >= due {
            signal_descendants(Signal::KILL);
        }
        None
    });
}
