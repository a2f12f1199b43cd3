//! What a load thread has to tell the probes, on its way there.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::sample::{Commit, FeedSender};

/// Acknowledged commits and the number of transactions in flight. Both are told when the thread has nothing else to do, which
/// is microseconds after the send or the acknowledgement: so at most one wake-up of the other side, a system call, serves all
/// that happened together.
pub(super) struct FeedBuffer {
    feed: Option<FeedSender>,
    unsent: Mutex<Unsent>,
}

#[derive(Default)]
struct Unsent {
    commits: Vec<Commit>,
    /// Transactions in flight now, and as the probes were last told.
    in_flight: i64,
    told: i64,
}

impl FeedBuffer {
    pub(super) fn new(feed: Option<FeedSender>) -> Self {
        Self {
            feed,
            unsent: Mutex::default(),
        }
    }

    /// A transaction is on its way to the server.
    pub(super) fn sent(&self) {
        if self.feed.is_some() {
            self.lock().in_flight += 1;
        }
    }

    /// One that was sent has ended, with an acknowledged commit or without.
    pub(super) fn ended(&self, commit: Option<Commit>) {
        if self.feed.is_some() {
            let mut unsent = self.lock();
            unsent.in_flight -= 1;
            unsent.commits.extend(commit);
        }
    }

    pub(super) fn tell(&self) {
        let Some(feed) = &self.feed else { return };
        let mut unsent = self.lock();
        let change = unsent.in_flight - unsent.told;
        if change != 0 || !unsent.commits.is_empty() {
            unsent.told = unsent.in_flight;
            feed.send(unsent.commits.drain(..), change);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Unsent> {
        // Nothing that holds it can panic half-way through a change.
        self.unsent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for FeedBuffer {
    fn drop(&mut self) {
        // Transactions that are still unanswered are not awaited any more.
        self.lock().in_flight = 0;
        self.tell();
    }
}
