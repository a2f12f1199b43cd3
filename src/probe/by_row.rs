//! Which commits a subscriber has shown, by the rows that the commits inserted. Pure: see [`tracker`](super::tracker).

use std::collections::{BTreeMap, HashMap};

use super::tracker::{ASKED, CommitVisibility, MEMORY, MOST};
use crate::clock::Stamp;
use crate::sample::{Commit, RowKey};

/// The commits of one subscriber, by the rows that they inserted. Row numbers are handed out before the commit, so rows do not become
/// visible in the order of their numbers. Every gap below the highest row seen is looked for until it is too old, and again once the
/// commit of its row is known.
#[derive(Debug)]
pub(super) struct ByRow {
    tables: Vec<RowsOfTable>,
    outstanding: BTreeMap<(u8, i64), Commit>,
    /// Outstanding rows that the last poll looked for and missed.
    missed: Vec<(u8, i64)>,
    /// Rows seen whose commit has not been acknowledged yet.
    unclaimed: HashMap<(u8, i64), (Option<Stamp>, Stamp)>,
    last_start: Option<Stamp>,
    last_tidied: Stamp,
}

/// Which rows to look for in one table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct RowsOfTable {
    /// The highest row seen.
    pub(super) high: i64,
    /// Rows below `high` that have not been seen.
    gaps: BTreeMap<i64, Gap>,
    /// The gaps that the current poll asks about.
    asked: Vec<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Gap {
    /// End of the poll in which the row was first passed over; the acknowledgement of its commit, if the gap had been forgotten by then.
    noticed: Stamp,
    /// Start of the last poll that looked for the row and missed it.
    missed_at: Option<Stamp>,
}

impl ByRow {
    /// `highest`: the highest row of each table before the first commit.
    pub(super) fn new(highest: impl IntoIterator<Item = i64>) -> Self {
        Self {
            tables: highest
                .into_iter()
                .map(|high| RowsOfTable {
                    high,
                    ..RowsOfTable::default()
                })
                .collect(),
            outstanding: BTreeMap::new(),
            missed: Vec::new(),
            unclaimed: HashMap::new(),
            last_start: None,
            last_tidied: Stamp::default(),
        }
    }

    /// What to look for in the next poll, by table: all rows above the given number, and the listed rows.
    pub(super) fn question(&mut self) -> Vec<(i64, Vec<i64>)> {
        let mut question = Vec::with_capacity(self.tables.len());
        for (index, table) in (0_u8..).zip(&mut self.tables) {
            table.asked.clear();
            // Rows whose commits are known come first, then the youngest gaps: old gaps mostly belong to transactions that failed.
            let awaited = (index, i64::MIN)..=(index, table.high);
            let awaited = self.outstanding.range(awaited).map(|((_, row), _)| *row);
            table.asked.extend(awaited.take(ASKED));
            let room = ASKED - table.asked.len();
            let others = table.gaps.keys().rev().copied();
            let others = others.filter(|row| !self.outstanding.contains_key(&(index, *row)));
            table.asked.extend(others.take(room));
            question.push((table.high, table.asked.clone()));
        }
        question
    }

    /// Takes an acknowledged commit that inserted this row into this table.
    pub(super) fn commit(
        &mut self,
        commit: Commit,
        index: u8,
        row: i64,
    ) -> Option<CommitVisibility> {
        if let Some((missed_at, hi)) = self.unclaimed.remove(&(index, row)) {
            return Some(CommitVisibility::new(commit, missed_at, hi));
        }
        if let Some(table) = self.tables.get_mut(usize::from(index))
            && row <= table.high
        {
            // The row has been forgotten, as a gap or as an unclaimed row: nothing is known except when its commit was sent.
            table.gaps.entry(row).or_insert(Gap {
                noticed: commit.acked,
                missed_at: None,
            });
        }
        self.outstanding.insert((index, row), commit);
        None
    }

    /// Takes the new rows that a poll found, as `(table, row)`.
    pub(super) fn poll(
        &mut self,
        start: Stamp,
        end: Stamp,
        rows: &[(u8, i64)],
        out: &mut Vec<CommitVisibility>,
    ) {
        let last_start = self.last_start.replace(start);
        for &(table, row) in rows {
            let Some(seen) = self.tables.get_mut(usize::from(table)) else {
                continue;
            };
            let missed_at = if row > seen.high {
                // If keys lie far apart, only the youngest gaps are kept.
                let room = MOST.saturating_sub(seen.gaps.len());
                for gap in (seen.high + 1..row).rev().take(room) {
                    // If a row of this poll comes out of order, its gap is removed again when its turn comes.
                    let noticed = Gap {
                        noticed: end,
                        missed_at: last_start,
                    };
                    seen.gaps.insert(gap, noticed);
                }
                seen.high = row;
                last_start
            } else if let Some(gap) = seen.gaps.remove(&row) {
                gap.missed_at
            } else {
                continue;
            };
            match self.outstanding.remove(&(table, row)) {
                Some(commit) => out.push(CommitVisibility::new(commit, missed_at, end)),
                None => {
                    self.unclaimed.insert((table, row), (missed_at, end));
                }
            }
        }
        self.missed.clear();
        for (index, table) in (0_u8..).zip(&mut self.tables) {
            // This poll missed the rows that it passed over and the rows that it asked about.
            for (_, gap) in table
                .gaps
                .iter_mut()
                .rev()
                .take_while(|(_, gap)| gap.noticed == end)
            {
                gap.missed_at = Some(start);
            }
            for row in std::mem::take(&mut table.asked) {
                if let Some(gap) = table.gaps.get_mut(&row) {
                    gap.missed_at = Some(start);
                    if self.outstanding.contains_key(&(index, row)) {
                        self.missed.push((index, row));
                    }
                }
            }
        }
        if end.since(self.last_tidied) > MEMORY / 10 {
            self.tidy(end);
        }
    }

    /// Settles rows that have been deleted again. Every commit that was acknowledged before `sent` has been applied by `end`, the end of
    /// the last poll. If rows of the table are deleted at all, a row that the poll missed was there and has been deleted since. When it
    /// became visible is unknown, so the interval begins when its commit was sent.
    pub(super) fn applied(
        &mut self,
        sent: Stamp,
        end: Stamp,
        may_be_gone: impl Fn((u8, RowKey)) -> bool,
        out: &mut Vec<CommitVisibility>,
    ) {
        for (index, row) in std::mem::take(&mut self.missed) {
            let key = (index, row);
            if let Some(commit) = self.outstanding.get(&key).copied()
                && commit.acked <= sent
                && may_be_gone((index, RowKey::Number(row)))
            {
                self.outstanding.remove(&key);
                if let Some(table) = self.tables.get_mut(usize::from(index)) {
                    table.gaps.remove(&row);
                }
                out.push(CommitVisibility::new(commit, None, end));
            }
        }
    }

    /// Forgets gaps that failed transactions left and rows that no commit claimed, but never an outstanding commit.
    fn tidy(&mut self, now: Stamp) {
        self.last_tidied = now;
        for (index, table) in (0_u8..).zip(&mut self.tables) {
            table.gaps.retain(|row, gap| {
                now.since(gap.noticed) <= MEMORY || self.outstanding.contains_key(&(index, *row))
            });
        }
        self.unclaimed
            .retain(|_, (_, seen)| now.since(*seen) <= MEMORY);
    }

    /// Whether this row's commit is known and the row has not been seen.
    pub(super) fn awaits(&self, table: u8, row: i64) -> bool {
        self.outstanding.contains_key(&(table, row))
    }

    pub(super) fn outstanding(&self) -> usize {
        self.outstanding.len()
    }

    /// Approximately the commit that has been awaited for longest: the first by table and row.
    pub(super) fn oldest(&self) -> Option<Commit> {
        self.outstanding.values().next().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::tracker::made::{at, commit};

    fn tell(tracker: &mut ByRow, commit: Commit) -> Option<CommitVisibility> {
        tracker.commit(commit, 0, commit.xid.cast_signed())
    }

    #[test]
    fn rows_out_of_order_are_found_when_they_come() {
        let mut tracker = ByRow::new([10]);
        let mut out = Vec::new();
        tracker.poll(at(100), at(110), &[], &mut out);
        tell(&mut tracker, commit(11, 50, 60));
        tracker.poll(at(200), at(210), &[(0, 12)], &mut out);
        assert!(out.is_empty());
        assert_eq!(tracker.question(), [(12, vec![11])]);
        tracker.poll(at(300), at(310), &[(0, 11)], &mut out);
        assert_eq!((out[0].lo, out[0].hi), (at(200), at(310)));
        // Row 12 was visible before its commit was known.
        let early = tell(&mut tracker, commit(12, 150, 400)).unwrap();
        assert_eq!((early.lo, early.hi), (at(150), at(210)));
        assert_eq!(tracker.outstanding(), 0);
    }

    #[test]
    fn gaps_of_failed_transactions_are_forgotten_but_never_awaited_commits() {
        let mut tracker = ByRow::new([0]);
        let mut out = Vec::new();
        tracker.poll(at(0), at(10), &[(0, 4)], &mut out);
        tell(&mut tracker, commit(2, 1, 2));
        let late = 20_000_000;
        tracker.poll(at(late), at(late + 10), &[], &mut out);
        assert_eq!(tracker.question(), [(4, vec![2])]);
    }

    #[test]
    fn a_row_that_was_forgotten_is_looked_for_again_when_its_commit_is_known() {
        let mut tracker = ByRow::new([0]);
        let mut out = Vec::new();
        tracker.poll(at(0), at(10), &[(0, 4)], &mut out);
        let late = 20_000_000;
        tracker.poll(at(late), at(late + 10), &[], &mut out);
        assert_eq!(tracker.question(), [(4, vec![])]);
        let sent = late + 20;
        tell(&mut tracker, commit(3, sent, late + 40));
        // The current poll did not ask for the row, so its absence from the answer means nothing.
        tracker.poll(at(late + 30), at(late + 45), &[], &mut out);
        assert_eq!(tracker.question(), [(4, vec![3])]);
        tracker.poll(at(late + 50), at(late + 60), &[(0, 3)], &mut out);
        assert_eq!((out[0].lo, out[0].hi), (at(sent), at(late + 60)));
    }

    #[test]
    fn awaited_rows_are_asked_for_before_the_gaps_of_failed_transactions() {
        let mut tracker = ByRow::new([0]);
        let mut out = Vec::new();
        tracker.poll(at(0), at(10), &[(0, 3_000)], &mut out);
        tell(&mut tracker, commit(7, 1, 20));
        let (_, asked) = tracker.question().remove(0);
        assert_eq!((asked[0], asked[1], asked.len()), (7, 2_999, ASKED));
        tracker.poll(at(30), at(40), &[], &mut out);
        tracker.question();
        tracker.poll(at(50), at(60), &[(0, 7)], &mut out);
        assert_eq!((out[0].lo, out[0].hi), (at(30), at(60)));
    }

    #[test]
    fn a_row_that_is_gone_again_is_proven_by_a_later_commit() {
        let mut tracker = ByRow::new([10]);
        let mut out = Vec::new();
        assert_eq!(tell(&mut tracker, commit(11, 90, 100)), None);
        assert_eq!(tell(&mut tracker, commit(13, 190, 200)), None);
        tracker.question();
        tracker.poll(at(210), at(220), &[(0, 13)], &mut out);
        // The poll passed over row 11 without having asked for it.
        tracker.question();
        tracker.poll(at(230), at(240), &[], &mut out);
        tracker.applied(at(99), at(240), |_| true, &mut out);
        assert_eq!((out.len(), tracker.outstanding()), (1, 1), "sent before");
        tracker.question();
        tracker.poll(at(250), at(260), &[], &mut out);
        tracker.applied(at(190), at(260), |_| false, &mut out);
        assert_eq!(tracker.outstanding(), 1, "lost, where nothing is deleted");
        tracker.question();
        tracker.poll(at(250), at(260), &[], &mut out);
        tracker.applied(at(190), at(260), |_| true, &mut out);
        let seen = out[1];
        assert_eq!((seen.commit.xid, seen.lo, seen.hi), (11, at(90), at(260)));
        assert_eq!(tracker.outstanding(), 0);
    }
}
