//! Which commits one node has shown, by the second of their acknowledgement.

use std::collections::BTreeMap;

use super::by_transaction::ByTransaction;
use super::cadence::Pending;
use super::subscriber::SubscriberTracker;
use super::tracker::CommitVisibility;
use crate::clock::Stamp;
use crate::sample::{Commit, Fork, Timeline};

/// The interval in which one commit became visible on a node, in nanoseconds from the commit's acknowledgement; negative before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delay {
    /// When the commit was acknowledged.
    pub acked: Stamp,
    /// The last known instant at which the commit was not visible.
    pub lo: i64,
    /// The first known instant at which the commit was visible.
    pub hi: i64,
    /// Nanoseconds from the sending of the commit to the instant of `hi`.
    pub hi_from_send: u64,
}

/// The measured commits acknowledged in one second, as one node showed them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VisibilitySecond {
    pub node: String,
    /// Seconds from the start of the measurement.
    pub index: i64,
    pub commits: u64,
    /// One delay per commit that was seen. The other `commits - delays.len()` commits are censored: they were not seen.
    pub delays: Vec<Delay>,
    /// Measured commits that were acknowledged by the end of this second and not visible by then.
    pub behind: u64,
}

#[derive(Debug, Default)]
struct Bucket {
    commits: u64,
    delays: Vec<Delay>,
}

#[derive(Debug)]
pub(super) enum Tracker {
    Physical(ByTransaction),
    Logical(Box<SubscriberTracker>),
}

/// Which commits one node has shown.
#[derive(Debug)]
pub(super) struct Watch {
    node: String,
    pub(super) tracker: Tracker,
    pub(super) timeline: Timeline,
    /// Whether the node has become the primary.
    is_promoted: bool,
    buckets: BTreeMap<i64, Bucket>,
    /// For each second: how many commits were not visible at the end of the second and have been seen since.
    seen_later: BTreeMap<i64, u64>,
}

impl Watch {
    pub(super) fn new(node: String, tracker: Tracker) -> Self {
        Self {
            node,
            tracker,
            timeline: Timeline::default(),
            is_promoted: false,
            buckets: BTreeMap::new(),
            seen_later: BTreeMap::new(),
        }
    }

    /// What to look for. `is_in_flight` says whether a transaction is in flight.
    pub(super) fn pending(&self, is_in_flight: bool) -> Pending {
        match self.oldest() {
            Some(Commit { acked, .. }) => Pending::Outstanding { since: acked },
            None if is_in_flight => Pending::InFlight,
            None => Pending::Nothing,
        }
    }

    /// Takes a change of the primary. Commits that were lost are no longer awaited, and count as never seen.
    pub(super) fn fork(&mut self, fork: &Fork) {
        self.is_promoted |= self.node == fork.promoted;
        match &mut self.tracker {
            Tracker::Physical(tracker) => tracker.fork(fork.next_xid),
            Tracker::Logical(_) => {}
        }
    }

    /// Takes an acknowledged commit.
    pub(super) fn commit(&mut self, commit: Commit) {
        if self.is_promoted {
            return;
        }
        if commit.measured {
            let second = self.timeline.second_at(commit.acked);
            self.buckets.entry(second).or_default().commits += 1;
        }
        let seen = match &mut self.tracker {
            Tracker::Physical(tracker) => tracker.commit(commit),
            Tracker::Logical(tracker) => tracker.commit(commit),
        };
        self.settle(seen);
    }

    pub(super) fn outstanding(&self) -> usize {
        match &self.tracker {
            Tracker::Physical(tracker) => tracker.outstanding(),
            Tracker::Logical(tracker) => tracker.outstanding(),
        }
    }

    /// How many looks since the last call saw less than an earlier look. Always 0 for a subscriber, where this is not known.
    pub(super) fn take_backwards(&mut self) -> u64 {
        match &mut self.tracker {
            Tracker::Physical(tracker) => tracker.take_backwards(),
            Tracker::Logical(_) => 0,
        }
    }

    fn oldest(&self) -> Option<Commit> {
        match &self.tracker {
            Tracker::Physical(tracker) => tracker.oldest(),
            Tracker::Logical(tracker) => tracker.oldest(),
        }
    }

    pub(super) fn settle(&mut self, seen: impl IntoIterator<Item = CommitVisibility>) {
        for CommitVisibility { commit, lo, hi } in seen {
            if !commit.measured {
                continue;
            }
            let second = self.timeline.second_at(commit.acked);
            for late in second..self.timeline.second_at(hi) {
                *self.seen_later.entry(late).or_default() += 1;
            }
            let from_send = hi.since(commit.sent).as_nanos();
            self.buckets.entry(second).or_default().delays.push(Delay {
                acked: commit.acked,
                lo: lo.signed_since(commit.acked),
                hi: hi.signed_since(commit.acked),
                hi_from_send: u64::try_from(from_send).unwrap_or(u64::MAX),
            });
        }
    }

    /// Takes out the seconds before `before` whose commits have all been seen, or all seconds if `before` is `None`.
    pub(super) fn take_seconds(&mut self, before: Option<i64>) -> Vec<VisibilitySecond> {
        let ready: Vec<_> = self
            .buckets
            .iter()
            .filter(|(index, bucket)| {
                before.is_none_or(|before| {
                    **index < before && bucket.delays.len() as u64 == bucket.commits
                })
            })
            // Computed before any second is taken out, because it includes the commits of earlier seconds.
            .map(|(index, _)| (*index, self.behind(*index)))
            .collect();
        ready
            .into_iter()
            .filter_map(|(index, behind)| {
                let bucket = self.buckets.remove(&index)?;
                Some(VisibilitySecond {
                    node: self.node.clone(),
                    index,
                    commits: bucket.commits,
                    delays: bucket.delays,
                    behind,
                })
            })
            .collect()
    }

    /// Commits that were not visible at the end of a second: acknowledged by then, and either not seen yet or seen later.
    fn behind(&self, index: i64) -> u64 {
        let earlier = self.buckets.range(..=index).map(|(_, bucket)| bucket);
        let unseen = earlier.map(|it| it.commits.saturating_sub(it.delays.len() as u64));
        let seen_later = self.seen_later.get(&index).copied().unwrap_or(0);
        unseen.sum::<u64>() + seen_later
    }
}
