//! What a load thread has to tell the probes, on its way there.

use crate::sample::{Commit, FeedSender};

/// Acknowledged commits and the number of transactions in flight. Both are told when the thread has nothing else to do, which
/// is microseconds after the send or the acknowledgement: so at most one wake-up of the other side, a system call, serves all
/// that happened together.
pub(super) struct FeedBuffer {
    feed: Option<FeedSender>,
    commits: Vec<Commit>,
    /// Transactions in flight now, and as the probes were last told.
    in_flight: i64,
    told: i64,
}

impl FeedBuffer {
    pub(super) fn new(feed: Option<FeedSender>) -> Self {
        Self {
            feed,
            commits: Vec::new(),
            in_flight: 0,
            told: 0,
        }
    }

    /// A transaction is on its way to the server.
    pub(super) fn sent(&mut self) {
        self.in_flight += 1;
    }

    /// One that was sent has ended, with an acknowledged commit or without.
    pub(super) fn ended(&mut self, commit: Option<Commit>) {
        self.in_flight -= 1;
        if self.feed.is_some() {
            self.commits.extend(commit);
        }
    }

    pub(super) fn tell(&mut self) {
        let Some(feed) = &self.feed else { return };
        let change = self.in_flight - self.told;
        if change != 0 || !self.commits.is_empty() {
            self.told = self.in_flight;
            feed.send(self.commits.drain(..), change);
        }
    }
}

impl Drop for FeedBuffer {
    fn drop(&mut self) {
        // Transactions that are still unanswered are not awaited any more.
        self.in_flight = 0;
        self.tell();
    }
}
