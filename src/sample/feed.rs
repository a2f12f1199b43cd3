//! What passes from the load to the probes while a cell runs: how many transactions are in flight, and every acknowledged commit.
//!
//! The receiving side looks at its nodes as long as anything is in flight, and takes commits in between. It sleeps only when
//! nothing is, and only then does the sending side have to wake it, which costs it a system call.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering, fence};

use tokio::sync::Notify;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender, error::TryRecvError};

use super::Commit;

/// The two ends of a feed.
pub fn feed() -> (FeedSender, FeedReceiver) {
    let (sender, commits) = mpsc::unbounded_channel();
    let shared = Arc::<Shared>::default();
    let receiver = FeedReceiver {
        commits: RefCell::new(commits),
        shared: shared.clone(),
    };
    let commits = sender;
    (FeedSender { commits, shared }, receiver)
}

#[derive(Debug, Default)]
struct Shared {
    in_flight: AtomicI64,
    /// Somebody on the receiving side sleeps, or is about to.
    asleep: AtomicBool,
    wake: Notify,
}

/// The load's end. When all of its clones are dropped, there are no more commits.
#[derive(Debug, Clone)]
pub struct FeedSender {
    commits: UnboundedSender<Commit>,
    shared: Arc<Shared>,
}

impl FeedSender {
    /// Tells of acknowledged commits, and by how much the number of transactions in flight has changed.
    pub fn send(&self, commits: impl IntoIterator<Item = Commit>, in_flight: i64) {
        let mut wakes = in_flight > 0;
        // Commits first: what is no longer in flight is known by then.
        for commit in commits {
            // The probes may have ended already; the commit is counted all the same.
            wakes |= self.commits.send(commit).is_ok();
        }
        if in_flight != 0 {
            self.shared.in_flight.fetch_add(in_flight, Ordering::SeqCst);
        }
        // Either this side sees that the other sleeps, or that one sees what was just told: see `FeedReceiver::activity`.
        fence(Ordering::SeqCst);
        if wakes && self.shared.asleep.swap(false, Ordering::SeqCst) {
            self.shared.wake.notify_waiters();
        }
    }
}

/// The probes' end.
#[derive(Debug)]
pub struct FeedReceiver {
    commits: RefCell<UnboundedReceiver<Commit>>,
    shared: Arc<Shared>,
}

impl FeedReceiver {
    /// The next commit that was told of; `None` when all have been taken.
    pub fn take(&self) -> Option<Commit> {
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

    /// Sleeps until a transaction is in flight or a commit waits.
    pub async fn activity(&self) {
        loop {
            // Woken by everything from here on, though it has not been awaited yet.
            let woken = self.shared.wake.notified();
            self.shared.asleep.store(true, Ordering::SeqCst);
            fence(Ordering::SeqCst);
            if self.is_in_flight() || !self.commits.borrow().is_empty() {
                return;
            }
            woken.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn commit(xid: u64) -> Commit {
        Commit {
            xid,
            ..Commit::default()
        }
    }

    #[tokio::test]
    async fn a_sleeper_is_woken_by_a_transaction_in_flight_and_by_a_commit() {
        for (commits, in_flight) in [(vec![], 1), (vec![commit(7)], 0)] {
            let (sender, receiver) = feed();
            let told = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(20));
                sender.send(commits, in_flight);
                sender
            });
            tokio::time::timeout(PATIENCE, receiver.activity())
                .await
                .expect("it is woken");
            assert_eq!(receiver.is_in_flight(), in_flight > 0);
            let _sender = told.join().expect("it does not panic");
        }
    }

    #[tokio::test]
    async fn a_transaction_that_has_ended_wakes_nobody() {
        let (sender, receiver) = feed();
        sender.send([], 2);
        sender.send([commit(1)], -1);
        assert!(receiver.is_in_flight());
        receiver.activity().await;
        sender.send([commit(2)], -1);
        assert!(!receiver.is_in_flight());
        let taken: Vec<_> = std::iter::from_fn(|| receiver.take()).collect();
        assert_eq!(taken, [commit(1), commit(2)]);
        let mut sleeping = Box::pin(receiver.activity());
        tokio::select! {
            biased;
            () = &mut sleeping => panic!("nothing is in flight"),
            () = tokio::task::yield_now() => {}
        }
        sender.send([], 0);
        tokio::select! {
            biased;
            () = &mut sleeping => panic!("nothing is in flight"),
            () = tokio::task::yield_now() => {}
        }
    }

    #[test]
    fn it_is_over_when_all_senders_are_gone_and_all_commits_taken() {
        let (sender, receiver) = feed();
        let other = sender.clone();
        sender.send([commit(1)], 0);
        drop(sender);
        assert!(!receiver.is_over());
        drop(other);
        assert!(!receiver.is_over(), "a commit waits");
        assert_eq!(receiver.take(), Some(commit(1)));
        assert!(receiver.is_over());
    }
}
