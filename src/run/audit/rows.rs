//! Compares the rows of a node with the ledger, and decides for each acknowledged commit whether the node has it. Pure, except that it
//! reads its two sources.

use std::io;

use futures_util::{Stream, TryStreamExt as _};

use super::ledger::{Did, Entry, OrderedKey};
use crate::clock::Stamp;

/// A row as a node has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) key: OrderedKey,
    /// `None` if the table has no version column.
    pub(super) version: Option<i64>,
}

/// What a node has of one table, or of several together.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Account {
    /// Rows on the node.
    pub(super) rows: u64,
    /// Commits of the ledger.
    pub(super) commits: u64,
    /// The acknowledgement times of the commits that the node does not have.
    pub(super) lost: Vec<Stamp>,
    /// How many of the lost commits the server had warned about.
    pub(super) lost_warned: u64,
    /// Inserted rows that are missing, less deleted rows that are there: the node has this many fewer rows than were acknowledged.
    pub(super) fewer_rows: i64,
    /// When the latest of the commits that the node has was sent.
    pub(super) last_kept_sent: Option<Stamp>,
    /// Rows whose key another row has too.
    pub(super) duplicates: u64,
    /// What a restored server has of the commits; 0 for other servers.
    pub(super) restored: RestoredCommits,
}

/// Commits by when they were made, relative to a recovery target.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct RestoredCommits {
    /// Commits acknowledged before the target was asked for.
    pub(super) before: Part,
    /// Commits in flight while the target was taken.
    pub(super) during: Part,
    /// Commits sent after the target had been taken.
    pub(super) after: Part,
}

/// A number of commits, and how many of them the server has.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) commits: u64,
    pub(super) kept: u64,
}

impl RestoredCommits {
    pub(super) fn all(&self) -> Part {
        let parts = [self.before, self.during, self.after];
        Part {
            commits: parts.iter().map(|it| it.commits).sum(),
            kept: parts.iter().map(|it| it.kept).sum(),
        }
    }

    fn add(&mut self, other: &Self) {
        for (own, other) in [
            (&mut self.before, other.before),
            (&mut self.during, other.during),
            (&mut self.after, other.after),
        ] {
            own.commits += other.commits;
            own.kept += other.kept;
        }
    }
}

/// The time during which a recovery target was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) asked: Stamp,
    pub(super) taken: Stamp,
}

/// The point in time to which the rows of a server belong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AsOf {
    /// The server has all commits. Commits acknowledged after `until` say nothing about the order of what was lost.
    TheEnd { until: Stamp },
    /// The server was restored to a target.
    Target(Window),
}

impl Account {
    pub(super) fn add(&mut self, other: &Self) {
        self.rows += other.rows;
        self.commits += other.commits;
        self.lost.extend(&other.lost);
        self.lost_warned += other.lost_warned;
        self.fewer_rows += other.fewer_rows;
        self.last_kept_sent = self.last_kept_sent.max(other.last_kept_sent);
        self.duplicates += other.duplicates;
        self.restored.add(&other.restored);
    }

    /// Commits of the ledger that the node does not have.
    pub(super) fn not_kept(&self) -> u64 {
        let restored = self.restored.all();
        self.lost.len() as u64 + restored.commits - restored.kept
    }

    fn take(&mut self, entry: &Entry, is_kept: bool, as_of: AsOf) {
        self.commits += 1;
        let until = match as_of {
            AsOf::TheEnd { until } => until,
            AsOf::Target(window) => {
                let restored = &mut self.restored;
                let part = if entry.acked() < window.asked {
                    &mut restored.before
                } else if entry.sent() > window.taken {
                    &mut restored.after
                } else {
                    &mut restored.during
                };
                part.commits += 1;
                part.kept += u64::from(is_kept);
                return;
            }
        };
        if !is_kept {
            self.lost.push(entry.acked());
            self.lost_warned += u64::from(entry.warned());
        } else if entry.acked() <= until {
            self.last_kept_sent = self.last_kept_sent.max(Some(entry.sent()));
        }
    }

    /// Decides which of the commits on one row a restored server has.
    fn settle_restored(&mut self, commits: &mut [Entry], row: Option<Row>, window: Window) {
        let as_of = AsOf::Target(window);
        // Commits after the target should not be there, so the row is first explained by the other commits. The sort keeps the order
        // within both groups.
        commits.sort_by_key(|entry| entry.sent() > window.taken);
        let first = commits.partition_point(|entry| entry.sent() <= window.taken);
        let (earlier, later) = commits.split_at(first);
        self.settle(earlier, row, as_of);
        let inserts = |entry: &&Entry| entry.did() == Did::Insert;
        let is_explained = earlier.iter().any(|entry| inserts(&entry));
        let was_deleted = earlier.iter().any(|entry| entry.did() == Did::Delete);
        let was_there = match commits.iter().find(inserts) {
            Some(_) => {
                let mut before = earlier.iter().filter(inserts);
                before.any(|entry| entry.acked() < window.asked)
            }
            None => true,
        };
        for entry in later {
            let is_kept = match entry.did() {
                Did::Insert => {
                    let is_kept = row.is_some() && !is_explained;
                    self.fewer_rows += i64::from(!is_kept);
                    is_kept
                }
                Did::Update { version } => row
                    .and_then(|row| row.version)
                    .is_some_and(|it| it >= version),
                Did::Delete => {
                    let is_kept = row.is_none() && was_there && !was_deleted;
                    self.fewer_rows -= i64::from(!is_kept);
                    is_kept
                }
            };
            self.take(entry, is_kept, as_of);
        }
    }

    /// Decides which of the commits on one row a node has. `commits` are in the order of their acknowledgement.
    fn settle(&mut self, commits: &[Entry], row: Option<Row>, as_of: AsOf) {
        let is_deleted = commits.iter().any(|it| it.did() == Did::Delete);
        for (index, entry) in commits.iter().enumerate() {
            let later = &commits[index + 1..];
            let is_kept = match entry.did() {
                Did::Insert => {
                    let is_removed = later.iter().any(|it| it.did() == Did::Delete);
                    // The key was inserted twice without a delete in between: a new primary gave out the key of a lost row again.
                    let is_replaced = !is_removed && later.iter().any(|it| it.did() == Did::Insert);
                    let is_kept = !is_replaced && (row.is_some() || is_removed);
                    self.fewer_rows += i64::from(!is_kept);
                    is_kept
                }
                Did::Update { version } => match row {
                    Some(row) => row.version.is_none_or(|it| it >= version),
                    None => is_deleted,
                },
                Did::Delete => {
                    let is_back = later.iter().any(|it| it.did() == Did::Insert);
                    let is_kept = row.is_none() || is_back;
                    self.fewer_rows -= i64::from(!is_kept);
                    is_kept
                }
            };
            self.take(entry, is_kept, as_of);
        }
    }
}

/// Compares the rows of a table with the ledger's entries for it; both are in the order of keys.
pub(super) async fn compare<E: From<io::Error>>(
    rows: impl Stream<Item = Result<Row, E>>,
    mut entries: impl Iterator<Item = io::Result<Entry>>,
    as_of: AsOf,
) -> Result<Account, E> {
    let mut account = Account::default();
    let mut next = entries.next().transpose()?;
    let mut commits = Vec::new();
    let mut rows = std::pin::pin!(rows);
    let mut row = rows.try_next().await?;
    loop {
        // No acknowledged commit has touched this row.
        if let Some(Row { key, .. }) = row
            && next.is_none_or(|entry| key < entry.key())
        {
            row = advance(&mut rows, key, &mut account).await?;
            continue;
        }
        let Some(key) = next.map(|entry| entry.key()) else {
            return Ok(account);
        };
        commits.clear();
        while let Some(entry) = next.filter(|it| it.key() == key) {
            commits.push(entry);
            next = entries.next().transpose()?;
        }
        let found = row.filter(|it| it.key == key);
        match as_of {
            AsOf::TheEnd { .. } => account.settle(&commits, found, as_of),
            AsOf::Target(window) => account.settle_restored(&mut commits, found, window),
        }
        if found.is_some() {
            row = advance(&mut rows, key, &mut account).await?;
        }
    }
}

/// Counts the current row and its copies; returns the next row.
async fn advance<E>(
    rows: &mut (impl Stream<Item = Result<Row, E>> + Unpin),
    key: OrderedKey,
    account: &mut Account,
) -> Result<Option<Row>, E> {
    account.rows += 1;
    loop {
        let next = rows.try_next().await?;
        match next {
            Some(row) if row.key == key => {
                account.rows += 1;
                account.duplicates += 1;
            }
            next => return Ok(next),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::ledger::tests::{commit, entries};
    use super::*;
    use crate::sample::{RowChange, RowKey};
    use futures_util::stream;

    fn at(nanos: u64) -> Stamp {
        Stamp::from_nanos(nanos)
    }

    fn row(key: i64, version: i64) -> Row {
        Row {
            key: RowKey::Number(key).into(),
            version: Some(version),
        }
    }

    fn account(rows: &[Row], commits: &[(i64, RowChange, u64)]) -> Account {
        let commits = commits.iter();
        let commits: Vec<_> = commits
            .map(|(key, change, acked)| commit(*key, *change, *acked))
            .collect();
        let rows = stream::iter(rows.iter().copied().map(Ok::<_, io::Error>));
        let as_of = AsOf::TheEnd { until: at(1_000) };
        let compared = compare(rows, entries(&commits).into_iter().map(Ok), as_of);
        futures_util::FutureExt::now_or_never(compared)
            .expect("nothing has to be waited for")
            .unwrap()
    }

    const INSERT: RowChange = RowChange::Inserted;

    fn update(version: i64) -> RowChange {
        RowChange::Updated {
            version,
            was_there: true,
        }
    }

    const DELETE: RowChange = RowChange::Deleted { was_there: true };

    #[test]
    fn every_commit_is_there_or_lost() {
        let rows = [row(1, 0), row(3, 7), row(5, 0)];
        let found = account(
            &rows,
            &[
                (1, INSERT, 10),
                (2, INSERT, 20),
                (3, update(7), 30),
                (3, update(8), 40),
                (4, DELETE, 50),
                (5, DELETE, 60),
                (6, INSERT, 70),
                (6, DELETE, 80),
            ],
        );
        assert_eq!(found.rows, 3);
        assert_eq!(found.commits, 8);
        assert_eq!(found.lost, [at(20), at(40), at(60)]);
        assert_eq!(
            found.fewer_rows, 0,
            "one row is missing, one should be gone"
        );
        assert_eq!(found.last_kept_sent, Some(at(79)));
    }

    #[test]
    fn a_key_that_a_new_primary_gave_out_again_was_lost_before() {
        let found = account(&[row(1, 0)], &[(1, INSERT, 10), (1, INSERT, 90)]);
        assert_eq!(found.lost, [at(10)]);
        // With a delete in between, nothing was lost.
        let freed = [(1, INSERT, 10), (1, DELETE, 20), (1, INSERT, 90)];
        assert_eq!(account(&[row(1, 0)], &freed).lost, []);
        assert_eq!(account(&[], &freed[..2]).lost, []);
    }

    #[test]
    fn copies_and_rows_of_nobody_are_counted() {
        let rows = [row(-1, 0), row(1, 0), row(1, 0), row(9, 0)];
        let found = account(&rows, &[(1, INSERT, 10)]);
        assert_eq!((found.rows, found.duplicates, found.lost), (4, 1, vec![]));
    }

    /// What a server has after it was restored to a target that was taken between 100 and 200.
    fn restored(rows: &[Row], commits: &[(i64, RowChange, u64)]) -> Account {
        let commits = commits.iter();
        let commits: Vec<_> = commits
            .map(|(key, change, acked)| commit(*key, *change, *acked))
            .collect();
        let rows = stream::iter(rows.iter().copied().map(Ok::<_, io::Error>));
        let as_of = AsOf::Target(Window {
            asked: at(100),
            taken: at(200),
        });
        let compared = compare(rows, entries(&commits).into_iter().map(Ok), as_of);
        futures_util::FutureExt::now_or_never(compared)
            .expect("nothing has to be waited for")
            .unwrap()
    }

    #[test]
    fn commits_are_told_apart_by_the_target() {
        let inserts = [
            (1, INSERT, 50),
            (2, INSERT, 60),
            (3, INSERT, 150),
            (4, INSERT, 300),
        ];
        let found = restored(&[row(1, 0), row(3, 0)], &inserts);
        let RestoredCommits {
            before,
            during,
            after,
        } = found.restored;
        assert_eq!((before.kept, before.commits), (1, 2));
        assert_eq!((during.kept, during.commits), (1, 1));
        assert_eq!((after.kept, after.commits), (0, 1));
        assert_eq!((found.fewer_rows, found.not_kept()), (2, 2));
        let found = restored(&[row(4, 0)], &inserts[3..]);
        assert_eq!((found.restored.after.kept, found.fewer_rows), (1, 0));
    }

    #[test]
    fn what_happened_to_a_row_after_the_target_does_not_hide_it() {
        // Inserted, updated twice and deleted; the target is between the two updates.
        let all = [
            (1, INSERT, 50),
            (1, update(1), 60),
            (1, update(2), 300),
            (1, DELETE, 310),
        ];
        let kept = |rows: &[Row], commits: &[(i64, RowChange, u64)]| {
            let found = restored(rows, commits);
            let RestoredCommits { before, after, .. } = found.restored;
            (before.kept, after.kept, found.fewer_rows)
        };
        assert_eq!(kept(&[row(1, 1)], &all), (2, 0, -1));
        // The later update is there too.
        assert_eq!(kept(&[row(1, 2)], &all), (2, 1, -1));
        // Only the deletion explains that the row is gone.
        assert_eq!(kept(&[], &all), (0, 1, 1));
        // A row that was there before the cell.
        assert_eq!(kept(&[], &all[3..]), (0, 1, 0));
        assert_eq!(kept(&[row(1, 0)], &all[3..]), (0, 0, -1));
        // Inserted and deleted after the target: not there, as it should be.
        let later = [(1, INSERT, 300), (1, DELETE, 310)];
        assert_eq!(kept(&[], &later), (0, 0, 0));
        // Deleted before the target, and inserted again after it.
        let again = [(1, DELETE, 50), (1, INSERT, 300)];
        assert_eq!(kept(&[], &again), (1, 0, 1));
    }
}
