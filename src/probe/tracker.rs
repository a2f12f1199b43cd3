//! Which commits a node has shown, and between which two instants each became visible. Pure: polls go in, times of visibility come out.
//!
//! A poll gives an interval, not a point: a commit was not visible at the start of the last poll that missed it, and was visible by the
//! end of the first poll that saw it. Polls are kept for a while, because a commit is often visible before its acknowledgement has told
//! which transaction to look for.

use std::time::Duration;

use crate::clock::Stamp;
use crate::sample::Commit;

/// How long polls and unclaimed rows are remembered. A commit is acknowledged sooner than this, except in a stall.
pub(super) const MEMORY: Duration = Duration::from_secs(5);
/// The most polls, unclaimed rows or gaps that are remembered.
pub(super) const MOST: usize = 65_536;
/// The most transactions, gaps of one table, or keys that one poll asks about.
pub(super) const ASKED: usize = 256;

/// A commit that was seen on a node: it was not visible at `lo`, and was visible at `hi`. The delay from the acknowledgement may be
/// negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CommitVisibility {
    pub(super) commit: Commit,
    pub(super) lo: Stamp,
    pub(super) hi: Stamp,
}

impl CommitVisibility {
    pub(super) fn new(commit: Commit, missed_at: Option<Stamp>, hi: Stamp) -> Self {
        // Nothing is visible before its COMMIT was sent.
        let lo = missed_at.map_or(commit.sent, |missed| missed.max(commit.sent));
        Self {
            commit,
            lo: lo.min(hi),
            hi,
        }
    }
}

/// Instants and commits for the tests of trackers.
#[cfg(test)]
pub(super) mod made {
    use super::{Commit, Stamp};

    pub(in crate::probe) fn at(micros: u64) -> Stamp {
        Stamp::from_nanos(micros * 1_000)
    }

    pub(in crate::probe) fn commit(xid: u64, sent: u64, acked: u64) -> Commit {
        Commit {
            xid,
            sent: at(sent),
            acked: at(acked),
            measured: true,
            ..Commit::default()
        }
    }
}
