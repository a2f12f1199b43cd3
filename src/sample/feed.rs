//! What passes from the load to the probes while a cell runs: how many transactions are in flight, and every acknowledged commit.
//!
//! The receiving side looks at its nodes as long as anything is in flight, and takes commits in between. It sleeps only when
//! nothing is, and only then does the sending side have to wake it, which costs it a system call.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering, fence};

use rustix::event::{EventfdFlags, eventfd};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender, error::TryRecvError};

use super::Commit;

/// The history of transactions has parted: what a primary that died had not sent to the one that took its place is lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fork {
    /// The first transaction id that the new primary gives out, whether or not the old one had given it out as well.
    pub next_xid: u64,
    /// The node that became the primary, and is a replica no more.
    pub promoted: String,
}

/// What the sending side tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    Commit(Commit),
    Fork(Fork),
}

/// The two ends of a feed.
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
    /// The receiving side sleeps, or is about to.
    asleep: AtomicBool,
    /// Readable once it has to wake.
    wake: OwnedFd,
}

/// The load's end. When all of its clones are dropped, there are no more commits.
#[derive(Debug, Clone)]
pub struct FeedSender {
    commits: UnboundedSender<Told>,
    shared: Arc<Shared>,
}

impl FeedSender {
    /// Tells that another server is the primary. It may have acknowledged commits already.
    pub fn fork(&self, fork: Fork) {
        // As of a commit.
        let _ = self.commits.send(Told::Fork(fork));
        self.send([], 0);
    }

    /// Tells of acknowledged commits, and by how much the number of transactions in flight has changed.
    pub fn send(&self, commits: impl IntoIterator<Item = Commit>, in_flight: i64) {
        let mut wakes = in_flight > 0;
        // Commits first: what is no longer in flight is known by then.
        for commit in commits {
            // The probes may have ended already; the commit is counted all the same.
            wakes |= self.commits.send(Told::Commit(commit)).is_ok();
        }
        if in_flight != 0 {
            self.shared.in_flight.fetch_add(in_flight, Ordering::SeqCst);
        }
        // Either this side sees that the other sleeps, or that one sees what was just told: see `FeedReceiver::falls_asleep`.
        fence(Ordering::SeqCst);
        if wakes && self.shared.asleep.swap(false, Ordering::SeqCst) {
            // Fails only when it has been written to 2^64 times.
            let _ = rustix::io::write(&self.shared.wake, &1_u64.to_ne_bytes());
        }
    }
}

/// The probes' end. Its descriptor becomes readable when it was asleep and is told of something.
#[derive(Debug)]
pub struct FeedReceiver {
    commits: RefCell<UnboundedReceiver<Told>>,
    shared: Arc<Shared>,
}

impl FeedReceiver {
    /// The next that was told; `None` when all has been taken.
    pub fn take(&self) -> Option<Told> {
        self.commits.borrow_mut().try_recv().ok()
    }

    /// Whether a transaction was sent that has not ended.
    pub fn is_in_flight(&self) -> bool {
        self.shared.in_flight.load(Ordering::SeqCst) > 0
    }

    /// Whether no commit waits and none can come any more.
    pub fn is_over(&self) -> bool {
        let mut commits = self.commits.borrow_mut();
        commits.is_empty() && commits.try_recv() == Err(TryRecvError::Disconnected)
    }

    /// Has the other side wake this one from here on. `false`: there is something to do already.
    pub fn falls_asleep(&self) -> bool {
        self.shared.asleep.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        !self.is_in_flight() && self.commits.borrow().is_empty()
    }

    /// This side is awake again, and need not be woken.
    pub fn is_awake(&self) {
        self.shared.asleep.store(false, Ordering::SeqCst);
    }

    /// The descriptor was readable, and is not any more.
    pub fn was_called(&self) {
        let mut count = [0; 8];
        // Another thread may have been faster.
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
