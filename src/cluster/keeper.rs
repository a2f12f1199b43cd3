//! The process between replbench and one server, so that no server outlives replbench whatever becomes of it.
//!
//! A keeper holds one end of a pipe whose other end only replbench has. When that end closes, by exit, panic or
//! SIGKILL, the keeper ends its server, stopped or not, unless it was told before to let it stay. Should the keeper
//! itself be killed, the server's parent-death signal ends it. A supervisor does the same for a command and all that
//! it starts. Knows one server and one directory; never a cluster, nor SQL.

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

/// After this an abandoned server gets SIGKILL. Its own immediate shutdown takes some 20 ms.
const ABANDONED_GRACE: Duration = Duration::from_secs(3);
/// How long the children of a dead postmaster may take to notice.
const ORPHAN_GRACE: Duration = Duration::from_millis(500);

/// What replbench asks of a keeper through its pipe; one byte each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ask {
    /// SIGINT: sessions end, a checkpoint is written.
    Fast = b'f' as isize,
    /// SIGQUIT: at once, recovery follows at the next start.
    Immediate = b'i' as isize,
    /// SIGKILL to the server and all its processes.
    Kill = b'k' as isize,
    /// The server stays when the pipe closes.
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

/// Changes user, ties its life to its parent's, becomes the program. Returns only when that fails.
///
/// Must run in a process of one thread: user and group are changed for the calling thread.
pub fn exec(order: &ExecOrder) -> io::Error {
    fn prepare(order: &ExecOrder) -> io::Result<()> {
        if let Some((uid, gid)) = order.program.account {
            let gid = Gid::from_raw(gid);
            rustix::thread::set_thread_groups(&[gid])?;
            rustix::thread::set_thread_gid(gid)?;
            rustix::thread::set_thread_uid(Uid::from_raw(uid))?;
        }
        // Only now: a change of user clears it. SIGQUIT lets a server remove its shared memory.
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

/// Starts the server, keeps it until it ends or is abandoned, returns how it ended as a shell would say it:
/// its status, or 128 and the signal.
pub fn keep(order: &KeeperOrder) -> io::Result<u8> {
    // A session of its own: neither the keeper nor its server hears a terminal's Ctrl-C or hang-up.
    // Refused only to the leader of a process group, which does not hear them either.
    let _ = setsid();
    rustix::thread::set_name(c"pgkeeper")?;
    // Backends that lose their postmaster become children of the keeper, so that none can be missed.
    set_child_subreaper(Some(rustix::process::getpid()))?;
    let lease = Lease::share(&order.directory)?;
    let mut server = ServerProcess::start(order)?;
    let abandoned = server.attend()?;
    if abandoned {
        server.end_tree()?;
    }
    let status = server.child.wait()?;
    sweep(if abandoned {
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
        // A parent that is gone already shows as the end of stdin, right below.
        let _ = writeln!(io::stdout(), "{}", child.id());
        Ok(Self { child, pidfd })
    }

    /// Passes orders on until the server has ended (false) or the orders' giver has (true).
    fn attend(&mut self) -> io::Result<bool> {
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

    /// Immediate shutdown, and SIGKILL to whatever is left of it after the grace.
    fn end_tree(&self) -> io::Result<()> {
        self.shut_down(Signal::QUIT)?;
        let due = clock::now() + ABANDONED_GRACE;
        while clock::now() < due {
            // Again and again: a process stopped between the look and the signal would hold all of them up.
            let (ended, _) = wait_for(&self.pidfd, None, Some(Duration::from_millis(200)))?;
            if ended {
                return Ok(());
            }
            signal_descendants(Signal::CONT);
        }
        signal_descendants(Signal::KILL);
        Ok(())
    }

    /// Sends a signal that asks for the end. A stopped process does not hear it.
    fn shut_down(&self, signal: Signal) -> io::Result<()> {
        signal_descendants(Signal::CONT);
        match pidfd_send_signal(&self.pidfd, signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Whether a process has ended, and whether the pipe has something to say.
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

/// Runs a command and returns its status as a shell would say it. With it, or with the pipe on standard input, ends
/// every process that it has started, in whatever session or group.
pub fn supervise(program: &Program) -> io::Result<u8> {
    // Refused only to the leader of a process group, which a terminal's signals do not reach either.
    let _ = setsid();
    // The servers' user, which is another one only under root, must reach what is checked out and built.
    if rustix::process::geteuid().is_root() {
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    }
    // Whoever loses its parent becomes a child of this process, so that none can be missed.
    set_child_subreaper(Some(rustix::process::getpid()))?;
    let mut child = process::spawn_supervised(program)?;
    let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty())?;
    let stdin = io::stdin();
    while wait_for(&pidfd, Some(&stdin), None)? == (false, false) {}
    signal_descendants(Signal::KILL);
    let status = child.wait()?;
    sweep(Duration::ZERO);
    Ok(shell_status(status))
}

/// A process's end in one number: its exit code, or 128 and the signal.
fn shell_status(status: ExitStatus) -> u8 {
    let code = status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    u8::try_from(code).unwrap_or(u8::MAX)
}

fn signal_descendants(signal: Signal) {
    for pid in tree::descendants(rustix::process::getpid()) {
        // One that has ended meanwhile needs neither to go on nor to be killed.
        let _ = kill_process(pid, signal);
    }
}

/// Waits for the processes a dead postmaster has left to the keeper, and after the grace kills them.
///
/// Even SIGKILL is not instant under load; the keeper stays meanwhile, so that its own end says that nothing is left.
fn sweep(grace: Duration) {
    let due = clock::now() + grace;
    clock::block_until(grace + Duration::from_mins(1), || {
        // Not `waitpid(None)`, which sees only the own process group: backends lead sessions of theirs.
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
