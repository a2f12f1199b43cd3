//! Buffers what a load thread reports to the probes.

use crate::sample::{Commit, FeedSender};

/// Acknowledged commits and the change in the number of transactions in flight. The thread reports both when it has nothing else to do,
/// microseconds after the send or the acknowledgement. So everything that happened together costs at most one wake-up of the probes, which
/// is a system call.
pub(super) struct FeedBuffer {
    feed: Option<FeedSender>,
    commits: Vec<Commit>,
    /// Transactions in flight now, and the number that the probes were last told.
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

    /// Counts a transaction that is being sent to the server.
    pub(super) fn sent(&mut self) {
        self.in_flight += 1;
    }

    /// Counts the end of a transaction that was sent, with or without an acknowledged commit.
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
        // The load no longer waits for unanswered transactions.
        self.in_flight = 0;
        self.tell();
    }
}
