//! Which commits a physical standby has shown, by transaction id. Pure: see [`tracker`](super::tracker).

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use super::tracker::{ASKED, CommitVisibility, MEMORY, MOST};
use crate::clock::Stamp;
use crate::pg::catalog::VisibleTransactions;
use crate::sample::Commit;

/// How many of the newest transactions that the last poll saw are asked about without being acknowledged: they may still be in progress. A
/// poll tells less about transactions outside this range, but nothing wrong.
const NEWEST: u64 = 256;
/// How many transactions that may have begun since the last poll are asked about.
const AHEAD: u64 = 32;

/// The commits of one physical standby, by transaction id.
#[derive(Debug, Default)]
pub(super) struct ByTransaction {
    polls: VecDeque<Poll>,
    /// How many polls there were before the first one that is still kept.
    forgotten: u64,
    outstanding: BTreeMap<u64, Awaited>,
    /// The last question asked about all of these ids.
    newest: Range<u64>,
    /// The last question asked about the outstanding commits up to this id.
    asked_to: u64,
    /// Whether a question has been taken whose poll has not come back.
    asking: bool,
    /// The first transaction id that the new primary gives out; `None` if the primary has not changed.
    fork: Option<u64>,
    /// At least one poll saw that all transactions below this id had ended.
    ended_below: u64,
    /// Polls that saw a transaction below `ended_below` that had not ended, since [`ByTransaction::take_backwards`] was last called.
    backwards: u64,
}

#[derive(Debug, Clone, Copy)]
struct Awaited {
    commit: Commit,
    /// Number of the first poll that asked about this commit.
    known_from: u64,
}

#[derive(Debug)]
struct Poll {
    start: Stamp,
    end: Stamp,
    visible: VisibleTransactions,
    /// The poll asked about all of these ids.
    newest: Range<u64>,
    /// The poll asked about the commits known at the time, up to this id.
    asked_to: u64,
}

impl Poll {
    fn shows(&self, xid: u64) -> bool {
        xid < self.visible.xmin || self.visible.committed.contains(&xid)
    }
}

impl ByTransaction {
    /// The transactions to ask about in the next poll. Commits that come later are unknown to that poll.
    pub(super) fn question(&mut self) -> Vec<u64> {
        self.asking = true;
        let mut asked: Vec<_> = self.outstanding.keys().copied().take(ASKED).collect();
        self.asked_to = if self.outstanding.len() > ASKED {
            asked.last().copied().unwrap_or(0)
        } else {
            u64::MAX
        };
        self.newest = self.polls.back().map_or(0..0, |Poll { visible, .. }| {
            visible.xmin.max(visible.xmax.saturating_sub(NEWEST))..visible.xmax + AHEAD
        });
        asked.extend(self.newest.clone());
        asked
    }

    /// Takes a change of the primary. What the old primary committed from `next_xid` on will be seen nowhere, and the new primary gives
    /// the same ids to other transactions.
    pub(super) fn fork(&mut self, next_xid: u64) {
        self.fork = Some(next_xid);
        self.ended_below = self.ended_below.min(next_xid);
        self.outstanding.split_off(&next_xid);
    }

    /// Takes an acknowledged commit; returns it when an earlier poll has seen it already.
    pub(super) fn commit(&mut self, commit: Commit) -> Option<CommitVisibility> {
        let is_lost = |next| commit.server == 0 && commit.xid >= next;
        if self.fork.is_some_and(is_lost) {
            return None;
        }
        let awaited = Awaited {
            commit,
            known_from: self.next_number() + u64::from(self.asking),
        };
        let sent = self.polls.partition_point(|poll| poll.end < commit.sent);
        let mut since = self.polls.range(sent..);
        if let Some(first) = since.position(|poll| poll.shows(commit.xid)) {
            let first = sent + first;
            return Some(CommitVisibility::new(
                commit,
                self.missed_at(&awaited, first),
                self.polls[first].end,
            ));
        }
        self.outstanding.insert(commit.xid, awaited);
        None
    }

    /// Takes what a poll saw and settles every commit that it shows.
    pub(super) fn poll(
        &mut self,
        start: Stamp,
        end: Stamp,
        visible: VisibleTransactions,
        out: &mut Vec<CommitVisibility>,
    ) {
        self.asking = false;
        self.backwards += u64::from(visible.xmin < self.ended_below);
        self.ended_below = self.ended_below.max(visible.xmin);
        let last = self.polls.len();
        let above = self.outstanding.split_off(&visible.xmin);
        let mut seen: Vec<_> = std::mem::replace(&mut self.outstanding, above)
            .into_values()
            .collect();
        seen.extend(
            visible
                .committed
                .iter()
                .filter_map(|xid| self.outstanding.remove(xid)),
        );
        out.extend(seen.iter().map(|awaited| {
            CommitVisibility::new(awaited.commit, self.missed_at(awaited, last), end)
        }));
        self.polls.push_back(Poll {
            start,
            end,
            visible,
            newest: self.newest.clone(),
            asked_to: self.asked_to,
        });
        while self.polls.len() > MOST
            || self
                .polls
                .front()
                .is_some_and(|poll| end.since(poll.end) > MEMORY)
        {
            self.polls.pop_front();
            self.forgotten += 1;
        }
    }

    /// Takes a look that the standby reported without having been asked. It says of all transactions from `newest` on whether they are
    /// visible.
    pub(super) fn told(
        &mut self,
        start: Stamp,
        end: Stamp,
        visible: VisibleTransactions,
        newest: u64,
        out: &mut Vec<CommitVisibility>,
    ) {
        self.newest = newest..visible.xmax;
        self.asked_to = 0;
        self.poll(start, end, visible, out);
    }

    /// How many polls since the last call saw less than an earlier poll.
    pub(super) fn take_backwards(&mut self) -> u64 {
        std::mem::take(&mut self.backwards)
    }

    pub(super) fn outstanding(&self) -> usize {
        self.outstanding.len()
    }

    /// Approximately the commit that has been awaited for longest: ids are handed out nearly in order.
    pub(super) fn oldest(&self) -> Option<Commit> {
        self.outstanding
            .values()
            .next()
            .map(|awaited| awaited.commit)
    }

    fn next_number(&self) -> u64 {
        self.forgotten + self.polls.len() as u64
    }

    /// Start of the last poll before `index` that is known to have missed the commit.
    fn missed_at(&self, awaited: &Awaited, index: usize) -> Option<Stamp> {
        let xid = awaited.commit.xid;
        self.polls
            .iter()
            .enumerate()
            .take(index)
            .rev()
            .take_while(|(_, poll)| poll.end >= awaited.commit.sent)
            .find(|(number, poll)| {
                let knew = awaited.known_from <= self.forgotten + *number as u64;
                let asked = poll.newest.contains(&xid) || (knew && xid <= poll.asked_to);
                xid >= poll.visible.xmax || (asked && !poll.shows(xid))
            })
            .map(|(_, poll)| poll.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::tracker::made::{at, commit};

    fn visible_transactions(xmin: u64, xmax: u64, committed: &[u64]) -> VisibleTransactions {
        VisibleTransactions {
            xmin,
            xmax,
            committed: committed.to_vec(),
        }
    }

    fn poll(
        tracker: &mut ByTransaction,
        start: u64,
        visible: VisibleTransactions,
    ) -> Vec<CommitVisibility> {
        let mut out = Vec::new();
        tracker.question();
        tracker.poll(at(start), at(start + 10), visible, &mut out);
        out
    }

    #[test]
    fn a_commit_lies_between_the_poll_that_missed_it_and_the_one_that_saw_it() {
        let mut tracker = ByTransaction::default();
        poll(&mut tracker, 100, visible_transactions(5, 5, &[]));
        assert_eq!(tracker.commit(commit(5, 50, 120)), None);
        assert!(poll(&mut tracker, 130, visible_transactions(5, 5, &[])).is_empty());
        let seen = poll(&mut tracker, 160, visible_transactions(6, 6, &[]));
        assert_eq!((seen[0].lo, seen[0].hi), (at(130), at(170)));
        assert_eq!(tracker.outstanding(), 0);
    }

    #[test]
    fn a_poll_that_sees_less_than_an_earlier_one_is_counted() {
        let mut tracker = ByTransaction::default();
        for (xmin, backwards) in [(5, 0), (9, 0), (9, 0), (7, 1), (8, 1), (9, 0)] {
            poll(&mut tracker, 100, visible_transactions(xmin, 9, &[]));
            assert_eq!(tracker.take_backwards(), backwards, "{xmin}");
        }
        tracker.fork(7);
        poll(&mut tracker, 300, visible_transactions(7, 7, &[]));
        assert_eq!(
            tracker.take_backwards(),
            0,
            "another primary gives out ids again"
        );
    }

    #[test]
    fn a_commit_that_was_lost_is_not_taken_for_another_with_its_id() {
        let mut tracker = ByTransaction::default();
        poll(&mut tracker, 100, visible_transactions(5, 5, &[]));
        for xid in [5, 6] {
            assert_eq!(tracker.commit(commit(xid, 110, 120)), None);
        }
        tracker.fork(6);
        assert_eq!(tracker.outstanding(), 1);
        assert_eq!(tracker.commit(commit(7, 110, 190)), None);
        assert_eq!(tracker.outstanding(), 1);
        let of_the_new = Commit {
            server: 1,
            ..commit(6, 210, 220)
        };
        assert_eq!(tracker.commit(of_the_new), None);
        let seen = poll(&mut tracker, 230, visible_transactions(8, 8, &[]));
        let seen: Vec<_> = seen
            .iter()
            .map(|it| (it.commit.xid, it.commit.sent))
            .collect();
        assert_eq!(seen, [(5, at(110)), (6, at(210))]);
    }

    #[test]
    fn a_commit_seen_before_its_acknowledgement_has_a_negative_delay() {
        let mut tracker = ByTransaction::default();
        poll(&mut tracker, 100, visible_transactions(5, 5, &[]));
        poll(&mut tracker, 200, visible_transactions(6, 6, &[]));
        poll(&mut tracker, 300, visible_transactions(9, 9, &[]));
        let seen = tracker.commit(commit(5, 90, 400)).unwrap();
        assert_eq!((seen.lo, seen.hi), (at(100), at(210)));
    }

    #[test]
    fn one_that_is_neither_surely_seen_nor_surely_missed_is_asked_about() {
        let mut tracker = ByTransaction::default();
        // Transaction 7 has completed, 5 has not, and xmax alone would call 5 visible.
        poll(&mut tracker, 100, visible_transactions(5, 8, &[]));
        assert_eq!(tracker.commit(commit(5, 90, 105)), None);
        assert_eq!(tracker.question()[0], 5);
        assert!(poll(&mut tracker, 120, visible_transactions(5, 8, &[7])).is_empty());
        let seen = poll(&mut tracker, 140, visible_transactions(5, 8, &[5, 7]));
        // The first poll did not know of the commit; the second asked about it and did not see it.
        assert_eq!((seen[0].lo, seen[0].hi), (at(120), at(150)));
    }

    #[test]
    fn looks_made_while_it_was_in_flight_bound_a_commit_on_both_sides() {
        let mut tracker = ByTransaction::default();
        // 5 stays open all the while; 6 is in progress, then committed, and acknowledged much later.
        poll(&mut tracker, 100, visible_transactions(5, 6, &[]));
        assert_eq!(tracker.question(), (5..6 + AHEAD).collect::<Vec<_>>());
        poll(&mut tracker, 200, visible_transactions(5, 8, &[7]));
        poll(&mut tracker, 300, visible_transactions(5, 8, &[6, 7]));
        poll(&mut tracker, 400, visible_transactions(5, 9, &[6, 7, 8]));
        let seen = tracker.commit(commit(6, 90, 900)).unwrap();
        assert_eq!((seen.lo, seen.hi), (at(200), at(310)));
        assert_eq!(tracker.outstanding(), 0);
    }

    #[test]
    fn a_look_that_did_not_ask_about_a_commit_bounds_it_on_neither_side() {
        let mut tracker = ByTransaction::default();
        poll(&mut tracker, 100, visible_transactions(5, 6, &[]));
        // Far more transactions have begun than `AHEAD` allows for.
        poll(&mut tracker, 200, visible_transactions(5, 900, &[7]));
        assert_eq!(tracker.question()[0], 900 - NEWEST);
        poll(&mut tracker, 300, visible_transactions(5, 900, &[700]));
        poll(&mut tracker, 400, visible_transactions(7, 900, &[700]));
        let new = tracker.commit(commit(700, 90, 900)).unwrap();
        assert_eq!((new.lo, new.hi), (at(100), at(310)));
        let old = tracker.commit(commit(6, 90, 900)).unwrap();
        assert_eq!((old.lo, old.hi), (at(200), at(410)));
    }

    #[test]
    fn nothing_is_visible_before_it_was_sent() {
        let mut tracker = ByTransaction::default();
        tracker.commit(commit(5, 1_000, 1_100));
        let seen = poll(&mut tracker, 1_200, visible_transactions(9, 9, &[]));
        assert_eq!(seen[0].lo, at(1_000));
    }
}
