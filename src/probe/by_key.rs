//! The commits of one subscriber that changed a row with a known key: inserts whose keys do not grow, updates and deletes.
//!
//! A subscriber applies transactions in the order of their commits, so the row shows which commits have been applied: an insert is visible
//! once the row is there, an update once the row's version is at least the one that the update wrote, a delete once the row is gone. A row
//! that was there before the first transaction and is gone has been deleted since, after every update of it. If a commit has been applied
//! that was sent after the acknowledgement of an earlier commit, the earlier one is visible, even if its row does not show it any more.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use super::tracker::{ASKED, CommitVisibility};
use crate::clock::Stamp;
use crate::sample::{ChangedRow, Commit, RowChange, RowKey};

/// How old a delete must be before a missing row counts as deleted. The row may also be missing because its insert has not been applied,
/// and another load thread may report the insert's acknowledgement after the delete's. Once the delete is this old, the insert has been
/// reported.
const INSERT_TOLD: Duration = Duration::from_secs(1);

type Row = (u8, RowKey);

#[derive(Debug, Default)]
pub(super) struct ByKey {
    /// Awaited commits, numbered in the order in which they were reported.
    awaited: BTreeMap<u64, Awaited>,
    /// For each row, how many awaited commits inserted it.
    inserted: HashMap<Row, u32>,
    /// How many commits have been reported; the number of the next one.
    told: u64,
    /// The rows that the current poll asks about.
    asked: HashSet<Row>,
    /// The current poll's answer counts only for commits with a lower number than this.
    asked_to: u64,
}

#[derive(Debug, Clone, Copy)]
struct Awaited {
    commit: Commit,
    row: Row,
    change: RowChange,
    /// Start of the last poll that did not show the commit.
    missed_at: Option<Stamp>,
    /// For a delete: the end of the first poll that did not find the row, if no later poll found it.
    gone_at: Option<Stamp>,
}

impl ByKey {
    /// Takes an acknowledged commit.
    pub(super) fn commit(&mut self, commit: Commit, ChangedRow { table, key, change }: ChangedRow) {
        let row = (table, key);
        if change == RowChange::Inserted {
            *self.inserted.entry(row).or_default() += 1;
        }
        let awaited = Awaited {
            commit,
            row,
            change,
            missed_at: None,
            gone_at: None,
        };
        self.awaited.insert(self.told, awaited);
        self.told += 1;
    }

    /// The keys to ask about in the next poll, by table. If there are too many, the ones that have been awaited for longest are taken.
    pub(super) fn question(&mut self, tables: usize) -> Vec<Vec<RowKey>> {
        let mut question = vec![Vec::new(); tables];
        self.asked.clear();
        for awaited in self.awaited.values() {
            if self.asked.len() == ASKED {
                break;
            }
            if self.asked.insert(awaited.row)
                && let Some(keys) = question.get_mut(usize::from(awaited.row.0))
            {
                keys.push(awaited.row.1);
            }
        }
        self.asked_to = self.told;
        question
    }

    /// Takes the rows that a poll found, with their versions, of the rows that it asked about. `is_to_come` says whether a row's insert is
    /// still awaited by [`ByRow`](super::by_row::ByRow).
    pub(super) fn poll(
        &mut self,
        start: Stamp,
        end: Stamp,
        found: &HashMap<Row, Option<i64>>,
        is_to_come: impl Fn(Row) -> bool,
        out: &mut Vec<CommitVisibility>,
    ) {
        let mut seen = Vec::new();
        for (number, awaited) in self.awaited.range_mut(..self.asked_to) {
            if !self.asked.contains(&awaited.row) {
                continue;
            }
            let row = found.get(&awaited.row);
            let is_to_come = row.is_none()
                && (self.inserted.contains_key(&awaited.row) || is_to_come(awaited.row));
            let shown_at = match awaited.change {
                RowChange::Inserted => row.map(|_| end),
                RowChange::Updated { version, was_there } => match row {
                    Some(Some(current)) => (*current >= version).then_some(end),
                    Some(None) => None,
                    None => (was_there && !is_to_come).then_some(end),
                },
                RowChange::Deleted { .. } if row.is_some() || is_to_come => {
                    awaited.gone_at = None;
                    None
                }
                RowChange::Deleted { was_there } => {
                    let gone_at = *awaited.gone_at.get_or_insert(end);
                    let is_sure = was_there || end.since(awaited.commit.acked) > INSERT_TOLD;
                    is_sure.then_some(gone_at)
                }
            };
            match shown_at {
                Some(at) => seen.push((*number, at)),
                None if awaited.gone_at.is_none() => awaited.missed_at = Some(start),
                None => {}
            }
        }
        for (number, at) in seen {
            let Some(awaited) = self.remove(number) else {
                continue;
            };
            out.push(CommitVisibility::new(awaited.commit, awaited.missed_at, at));
        }
    }

    /// Does the same as [`ByRow::applied`](super::by_row::ByRow::applied). Leaves out deletes whose row is gone: [`ByKey::poll`] settles
    /// them with the time at which the row was first missing, see [`INSERT_TOLD`].
    pub(super) fn applied(
        &mut self,
        sent: Stamp,
        end: Stamp,
        may_be_gone: impl Fn(Row) -> bool,
        out: &mut Vec<CommitVisibility>,
    ) {
        let asked = self.awaited.range(..self.asked_to);
        let applied: Vec<_> = asked
            .filter(|(_, it)| it.commit.acked <= sent && it.gone_at.is_none())
            .filter(|(_, it)| self.asked.contains(&it.row) && may_be_gone(it.row))
            .map(|(number, _)| *number)
            .collect();
        for number in applied {
            let awaited = self.remove(number);
            out.extend(awaited.map(|it| CommitVisibility::new(it.commit, None, end)));
        }
    }

    /// Stops awaiting a commit.
    fn remove(&mut self, number: u64) -> Option<Awaited> {
        let awaited = self.awaited.remove(&number)?;
        if awaited.change == RowChange::Inserted
            && let Entry::Occupied(mut count) = self.inserted.entry(awaited.row)
        {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
        Some(awaited)
    }

    pub(super) fn outstanding(&self) -> usize {
        self.awaited.len()
    }

    /// The commit that has been awaited for longest.
    pub(super) fn oldest(&self) -> Option<Commit> {
        self.awaited.values().next().map(|awaited| awaited.commit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: Row = (0, RowKey::Uuid(7));

    fn at(micros: u64) -> Stamp {
        Stamp::from_nanos(micros * 1_000)
    }

    fn told(tracker: &mut ByKey, acked: u64, change: RowChange) {
        let row = ChangedRow {
            table: ROW.0,
            key: ROW.1,
            change,
        };
        let commit = Commit {
            xid: acked,
            row: Some(row),
            sent: at(acked - 10),
            acked: at(acked),
            measured: true,
            server: 0,
            warned: false,
        };
        tracker.commit(commit, row);
    }

    /// The commits that a poll of 10 us shows, with their intervals. A commit is named by the time of its acknowledgement.
    fn poll(tracker: &mut ByKey, start: u64, row: &[Option<i64>]) -> Vec<(u64, Stamp, Stamp)> {
        let mut out = Vec::new();
        assert!(tracker.question(1)[0].len() <= 1);
        let found = row.iter().map(|version| (ROW, *version)).collect();
        tracker.poll(at(start), at(start + 10), &found, |_| false, &mut out);
        let seen = out.iter().map(|it| (it.commit.xid, it.lo, it.hi));
        seen.collect()
    }

    fn updated(version: i64) -> RowChange {
        RowChange::Updated {
            version,
            was_there: true,
        }
    }

    #[test]
    fn an_insert_is_visible_once_its_row_is_there() {
        let mut tracker = ByKey::default();
        told(&mut tracker, 100, RowChange::Inserted);
        assert!(poll(&mut tracker, 120, &[]).is_empty());
        assert_eq!(poll(&mut tracker, 150, &[None]), [(100, at(120), at(160))]);
        assert_eq!(tracker.outstanding(), 0);
    }

    #[test]
    fn an_update_is_visible_once_the_version_is_at_least_its_own() {
        let mut tracker = ByKey::default();
        told(&mut tracker, 100, updated(3));
        told(&mut tracker, 110, updated(5));
        told(&mut tracker, 115, updated(6));
        assert!(poll(&mut tracker, 120, &[Some(2)]).is_empty());
        let seen = poll(&mut tracker, 150, &[Some(5)]);
        assert_eq!(seen, [(100, at(120), at(160)), (110, at(120), at(160))]);
        // The row has been deleted since, after every update.
        assert_eq!(poll(&mut tracker, 180, &[]), [(115, at(150), at(190))]);
    }

    #[test]
    fn a_commit_told_after_the_question_is_not_judged_by_its_answer() {
        let mut tracker = ByKey::default();
        told(&mut tracker, 100, updated(3));
        tracker.question(1);
        told(&mut tracker, 110, RowChange::Deleted { was_there: true });
        let mut out = Vec::new();
        tracker.poll(at(105), at(120), &HashMap::new(), |_| false, &mut out);
        assert_eq!((out.len(), out[0].commit.xid), (1, 100));
        assert_eq!(tracker.outstanding(), 1);
    }

    #[test]
    fn a_delete_is_visible_once_its_row_is_gone() {
        let mut tracker = ByKey::default();
        told(&mut tracker, 100, RowChange::Deleted { was_there: true });
        assert!(poll(&mut tracker, 120, &[Some(1)]).is_empty());
        assert_eq!(poll(&mut tracker, 150, &[]), [(100, at(120), at(160))]);
    }

    #[test]
    fn a_missing_row_that_has_yet_to_be_inserted_is_not_called_deleted() {
        let mut tracker = ByKey::default();
        told(&mut tracker, 100, RowChange::Deleted { was_there: false });
        assert!(poll(&mut tracker, 120, &[]).is_empty());
        // The insert was acknowledged earlier and is reported later.
        told(&mut tracker, 90, RowChange::Inserted);
        assert!(poll(&mut tracker, 2_000_000, &[]).is_empty());
        let seen = poll(&mut tracker, 2_000_100, &[None]);
        assert_eq!(seen, [(90, at(2_000_000), at(2_000_110))]);
        let seen = poll(&mut tracker, 2_000_200, &[]);
        assert_eq!(seen, [(100, at(2_000_100), at(2_000_210))]);
    }

    #[test]
    fn a_row_whose_insert_is_awaited_elsewhere_is_not_called_deleted() {
        let mut tracker = ByKey::default();
        told(&mut tracker, 100, RowChange::Deleted { was_there: false });
        let mut out = Vec::new();
        for (start, is_awaited, seen) in [(1_500_000, true, 0), (1_600_000, false, 1)] {
            tracker.question(1);
            let end = at(start + 10);
            let is_to_come = |row| is_awaited && row == ROW;
            tracker.poll(at(start), end, &HashMap::new(), is_to_come, &mut out);
            assert_eq!(out.len(), seen);
        }
        assert_eq!((out[0].lo, out[0].hi), (at(1_500_000), at(1_600_010)));
    }

    #[test]
    fn a_delete_of_a_row_of_this_run_is_dated_by_the_first_poll_without_it() {
        let mut tracker = ByKey::default();
        told(&mut tracker, 100, RowChange::Deleted { was_there: false });
        assert!(poll(&mut tracker, 120, &[None]).is_empty());
        assert!(poll(&mut tracker, 150, &[]).is_empty());
        let seen = poll(&mut tracker, 1_500_000, &[]);
        assert_eq!(seen, [(100, at(120), at(160))]);
    }

    #[test]
    fn keys_are_asked_for_in_the_order_of_their_commits() {
        let mut tracker = ByKey::default();
        for number in (0..300_i64).rev() {
            let row = ChangedRow {
                table: 1,
                key: RowKey::Number(number),
                change: RowChange::Inserted,
            };
            tracker.commit(Commit::default(), row);
        }
        let question = tracker.question(2);
        assert_eq!((question[0].len(), question[1].len()), (0, ASKED));
        assert_eq!(question[1][0], RowKey::Number(299));
    }

    #[test]
    fn what_a_later_commit_proves_is_visible_although_its_row_is_gone() {
        let mut tracker = ByKey::default();
        told(&mut tracker, 100, RowChange::Inserted);
        told(&mut tracker, 110, RowChange::Deleted { was_there: false });
        told(&mut tracker, 300, RowChange::Deleted { was_there: false });
        assert!(poll(&mut tracker, 120, &[]).is_empty());
        let mut out = Vec::new();
        // Sent at 200, after the first two commits were acknowledged.
        tracker.applied(at(200), at(130), |_| false, &mut out);
        assert_eq!(out.len(), 0, "lost, where nothing is deleted");
        tracker.applied(at(200), at(130), |_| true, &mut out);
        let seen: Vec<_> = out.iter().map(|it| (it.commit.xid, it.lo, it.hi)).collect();
        let expected = [(100, at(90), at(130)), (110, at(100), at(130))];
        assert_eq!(seen, expected, "from the send: nobody saw the row");
        assert_eq!(tracker.outstanding(), 1);
    }
}
