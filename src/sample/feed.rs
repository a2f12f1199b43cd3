//! Tells the probes, while a cell runs, how many transactions of the load are in flight, and every acknowledged commit.
//!
//! The probes look at their nodes while anything is in flight, and take commits in between. They sleep only while nothing is in flight.
//! Only then does the load have to wake them, which costs the load a system call.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering, fence};

use rustix::event::{EventfdFlags, eventfd};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender, error::TryRecvError};

use super::Commit;

/// A fork in the history of transactions: commits that the failed primary had not sent to the new primary are lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fork {
    /// The first transaction id that the new primary assigns, whether or not the old one had assigned it too.
    pub next_xid: u64,
    /// The node that became the primary and is no longer a replica.
    pub promoted: String,
}

/// A message from the load to the probes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    Commit(Commit),
    Fork(Fork),
}

/// Makes a feed and returns its two ends.
pub fn feed() -> io::Result<(FeedSender, FeedReceiver)> {
    let (commits, received) = mpsc::unbounded_channel();
    let shared = Arc::new(Shared {
        in_flight: AtomicI64::new(0),
        asleep: AtomicBool::new(false),
        wake: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
    });
    let receiver = FeedReceiver {
        commits: RefCell::new(received),
        shared: shared.clone(),
    };
    Ok((FeedSender { commits, shared }, receiver))
}

#[derive(Debug)]
struct Shared {
    in_flight: AtomicI64,
    /// Whether the receiver sleeps or is about to sleep.
    asleep: AtomicBool,
    /// An eventfd that is readable once the receiver has to wake up.
    wake: OwnedFd,
}

/// The load's end. When all of its clones are dropped, there are no more commits.
#[derive(Debug, Clone)]
pub struct FeedSender {
    commits: UnboundedSender<Told>,
    shared: Arc<Shared>,
}

impl FeedSender {
    /// Tells the probes that another server is the primary. The new primary may have acknowledged commits already.
    pub fn fork(&self, fork: Fork) {
        // The probes may have ended already.
        let _ = self.commits.send(Told::Fork(fork));
        self.send([], 0);
    }

    /// Tells the probes of acknowledged commits, and of the change in the number of transactions in flight.
    pub fn send(&self, commits: impl IntoIterator<Item = Commit>, in_flight: i64) {
        let mut wakes = in_flight > 0;
        // Commits are sent first, so that the probes know of them when they are no longer in flight.
        for commit in commits {
            // The probes may have ended already; the commit is counted all the same.
            wakes |= self.commits.send(Told::Commit(commit)).is_ok();
        }
        if in_flight != 0 {
            self.shared.in_flight.fetch_add(in_flight, Ordering::SeqCst);
        }
        // Either this side sees that the receiver sleeps, or the receiver sees what was just sent: see `FeedReceiver::falls_asleep`.
        fence(Ordering::SeqCst);
        if wakes && self.shared.asleep.swap(false, Ordering::SeqCst) {
            // This fails only if the eventfd has been written to 2^64 times.
            let _ = rustix::io::write(&self.shared.wake, &1_u64.to_ne_bytes());
        }
    }
}

/// The probes' end. Its descriptor becomes readable when something is sent while the receiver is asleep.
#[derive(Debug)]
pub struct FeedReceiver {
    commits: RefCell<UnboundedReceiver<Told>>,
    shared: Arc<Shared>,
}

impl FeedReceiver {
    /// The next message; `None` if all messages have been taken.
    pub fn take(&self) -> Option<Told> {
        self.commits.borrow_mut().try_recv().ok()
    }

    /// Whether a transaction has been sent and has not ended.
    pub fn is_in_flight(&self) -> bool {
        self.shared.in_flight.load(Ordering::SeqCst) > 0
    }

    /// Whether all messages have been taken and no further one can come.
    pub fn is_over(&self) -> bool {
        let mut commits = self.commits.borrow_mut();
        commits.is_empty() && commits.try_recv() == Err(TryRecvError::Disconnected)
    }

    /// Makes the load wake the receiver from now on. `false` if there is something to do already.
    pub fn falls_asleep(&self) -> bool {
        self.shared.asleep.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        !self.is_in_flight() && self.commits.borrow().is_empty()
    }

    /// Notes that the receiver is awake again and need not be woken.
    pub fn is_awake(&self) {
        self.shared.asleep.store(false, Ordering::SeqCst);
    }

    /// Resets the descriptor after it became readable.
    pub fn was_called(&self) {
        let mut count = [0; 8];
        // This fails if another thread has read first.
        let _ = rustix::io::read(&self.shared.wake, &mut count);
    }
}

impl AsFd for FeedReceiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.wake.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use std::time::Duration;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn commit(xid: u64) -> Commit {
        Commit {
            xid,
            ..Commit::default()
        }
    }

    fn is_readable(receiver: &FeedReceiver) -> bool {
        let mut fds = [rustix::event::PollFd::new(
            receiver,
            rustix::event::PollFlags::IN,
        )];
        let none = rustix::time::Timespec::default();
        rustix::event::poll(&mut fds, Some(&none)).unwrap() == 1
    }

    #[test]
    fn a_sleeper_is_woken_by_a_transaction_in_flight_and_by_a_commit() {
        for (commits, in_flight) in [(vec![], 1), (vec![commit(7)], 0)] {
            let (sender, receiver) = feed().unwrap();
            assert!(receiver.falls_asleep());
            assert!(!is_readable(&receiver));
            let told = std::thread::spawn(move || {
                sender.send(commits, in_flight);
                sender
            });
            let woken = clock::block_until(PATIENCE, || is_readable(&receiver).then_some(()));
            assert_eq!(woken, Some(()), "it is woken");
            assert_eq!(receiver.is_in_flight(), in_flight > 0);
            receiver.is_awake();
            receiver.was_called();
            assert!(!is_readable(&receiver));
            assert!(!receiver.falls_asleep(), "there is something to do");
            let _sender = told.join().expect("it does not panic");
        }
    }

    #[test]
    fn a_transaction_that_has_ended_wakes_nobody() {
        let (sender, receiver) = feed().unwrap();
        sender.send([], 2);
        sender.send([commit(1)], -1);
        assert!(receiver.is_in_flight());
        sender.send([commit(2)], -1);
        assert!(!receiver.is_in_flight());
        let taken: Vec<_> = std::iter::from_fn(|| receiver.take()).collect();
        assert_eq!(taken, [commit(1), commit(2)].map(Told::Commit));
        assert!(receiver.falls_asleep());
        sender.send([], 0);
        sender.send([], -1);
        assert!(!is_readable(&receiver));
    }

    #[test]
    fn it_is_over_when_all_senders_are_gone_and_all_commits_taken() {
        let (sender, receiver) = feed().unwrap();
        let other = sender.clone();
        sender.send([commit(1)], 0);
        drop(sender);
        assert!(!receiver.is_over());
        drop(other);
        assert!(!receiver.is_over(), "a commit waits");
        assert_eq!(receiver.take(), Some(Told::Commit(commit(1))));
        assert!(receiver.is_over());
    }
}
