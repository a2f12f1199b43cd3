//! The client's own account of a cell, kept outside the database: every acknowledged commit that can be looked for afterwards.
//!
//! The account is a file without a name, so that nothing of it remains, however the process ends. Memory is bounded: what does not fit is
//! sorted in parts.

use std::io::{self, BufReader, BufWriter, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use itertools::Itertools as _;
use zerocopy::{FromBytes, FromZeros as _, Immutable, IntoBytes};

use crate::clock::Stamp;
use crate::sample::{ChangedRow, Commit, RowChange, RowKey};

/// Entries that are sorted in memory at once: 56 MiB.
const PART: usize = 1 << 20;

/// A commit, and the row that shows it. Entries are sorted by table, key and acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(super) struct Entry {
    table: u64,
    /// The row's key, as in [`OrderedKey`].
    key: [u8; 16],
    acked: u64,
    sent: u64,
    version: i64,
    change: u32,
    warned: u32,
}

const INSERTED: u32 = 0;
const UPDATED: u32 = 1;
const DELETED: u32 = 2;

/// A key as bytes whose order is the one in which PostgreSQL sorts keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct OrderedKey([u8; 16]);

impl From<RowKey> for OrderedKey {
    fn from(key: RowKey) -> Self {
        let number = match key {
            // The least number becomes 0.
            RowKey::Number(number) => u128::from(number.cast_unsigned() ^ (1 << 63)),
            RowKey::Uuid(uuid) => uuid,
        };
        Self(number.to_be_bytes())
    }
}

/// What a commit did to its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Did {
    Insert,
    Update { version: i64 },
    Delete,
}

impl Entry {
    fn of(commit: &Commit) -> Option<Self> {
        let ChangedRow { table, key, change } = commit.row?;
        let (change, version) = match change {
            RowChange::Inserted => (INSERTED, 0),
            RowChange::Updated { version, .. } => (UPDATED, version),
            RowChange::Deleted { .. } => (DELETED, 0),
        };
        Some(Self {
            table: u64::from(table),
            key: OrderedKey::from(key).0,
            acked: commit.acked.as_nanos(),
            sent: commit.sent.as_nanos(),
            version,
            change,
            warned: u32::from(commit.warned),
        })
    }

    /// An index into the plan's tables.
    pub(super) fn table(&self) -> usize {
        usize::try_from(self.table).unwrap_or(usize::MAX)
    }

    pub(super) fn key(&self) -> OrderedKey {
        OrderedKey(self.key)
    }

    pub(super) fn did(&self) -> Did {
        match self.change {
            INSERTED => Did::Insert,
            UPDATED => Did::Update {
                version: self.version,
            },
            _ => Did::Delete,
        }
    }

    pub(super) fn sent(&self) -> Stamp {
        Stamp::from_nanos(self.sent)
    }

    pub(super) fn acked(&self) -> Stamp {
        Stamp::from_nanos(self.acked)
    }

    /// Whether the server warned that the commit may not have been replicated.
    pub(super) fn warned(&self) -> bool {
        self.warned != 0
    }
}

/// The account of a cell while it is written.
#[derive(Debug)]
pub(in crate::run) struct Ledger {
    directory: PathBuf,
    file: BufWriter<std::fs::File>,
    entries: u64,
}

impl Ledger {
    /// Creates the ledger in a directory whose file system has room for it.
    pub(in crate::run) fn create(directory: &Path) -> io::Result<Self> {
        Ok(Self {
            directory: directory.to_owned(),
            file: BufWriter::new(tempfile::tempfile_in(directory)?),
            entries: 0,
        })
    }

    pub(in crate::run) fn add(&mut self, commits: &[Commit]) -> io::Result<()> {
        for entry in commits.iter().filter_map(Entry::of) {
            self.file.write_all(entry.as_bytes())?;
            self.entries += 1;
        }
        Ok(())
    }

    /// How many commits can be looked for.
    pub(in crate::run) fn entries(&self) -> u64 {
        self.entries
    }

    /// Ends the account, and sorts it by table and row.
    pub(super) fn sort(self) -> io::Result<SortedLedger> {
        let mut file = self
            .file
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?;
        let mut parts = Vec::new();
        file.rewind()?;
        let mut reader = BufReader::new(file);
        let mut left = self.entries;
        while left > 0 {
            let count = usize::try_from(left).map_or(PART, |left| left.min(PART));
            let mut part = vec![Entry::new_zeroed(); count];
            reader.read_exact(part.as_mut_bytes())?;
            part.sort_unstable();
            left -= count as u64;
            parts.push(if left == 0 && parts.is_empty() {
                Part::InMemory(part)
            } else {
                let mut file = tempfile::tempfile_in(&self.directory)?;
                file.write_all(part.as_bytes())?;
                Part::InFile(file)
            });
        }
        Ok(SortedLedger(parts))
    }
}

/// The sorted account of a cell, which can be read as often as there are nodes.
#[derive(Debug)]
pub(in crate::run) struct SortedLedger(Vec<Part>);

#[derive(Debug)]
enum Part {
    InMemory(Vec<Entry>),
    InFile(std::fs::File),
}

impl SortedLedger {
    /// All entries, sorted by table, key and acknowledgement.
    pub(super) fn entries(&mut self) -> io::Result<impl Iterator<Item = io::Result<Entry>>> {
        type Entries<'a> = Box<dyn Iterator<Item = io::Result<Entry>> + 'a>;
        let mut sources: Vec<Entries<'_>> = Vec::new();
        for part in &mut self.0 {
            sources.push(match part {
                Part::InMemory(entries) => Box::new(entries.iter().copied().map(Ok)),
                Part::InFile(file) => {
                    file.rewind()?;
                    Box::new(read(BufReader::new(&*file)))
                }
            });
        }
        // An error sorts before everything else, so that it is met at once.
        Ok(sources.into_iter().kmerge_by(|a, b| match (a, b) {
            (Ok(a), Ok(b)) => a <= b,
            (a, _) => a.is_err(),
        }))
    }
}

fn read(mut file: impl io::Read) -> impl Iterator<Item = io::Result<Entry>> {
    std::iter::from_fn(move || {
        let mut entry = Entry::new_zeroed();
        match file.read_exact(entry.as_mut_bytes()) {
            Ok(()) => Some(Ok(entry)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => None,
            Err(error) => Some(Err(error)),
        }
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A commit that was sent a nanosecond before its acknowledgement.
    pub(in super::super) fn commit(number: i64, change: RowChange, acked: u64) -> Commit {
        Commit {
            row: Some(ChangedRow {
                table: 1,
                key: RowKey::Number(number),
                change,
            }),
            sent: Stamp::from_nanos(acked - 1),
            acked: Stamp::from_nanos(acked),
            ..Commit::default()
        }
    }

    pub(in super::super) fn entries(commits: &[Commit]) -> Vec<Entry> {
        let mut entries: Vec<_> = commits.iter().filter_map(Entry::of).collect();
        entries.sort_unstable();
        entries
    }

    #[test]
    fn keys_are_in_the_order_of_postgresql() {
        let numbers = [i64::MIN, -1, 0, 1, i64::MAX].map(RowKey::Number);
        let uuids = [0, 1, 1 << 64, u128::MAX].map(RowKey::Uuid);
        assert!(numbers.map(OrderedKey::from).is_sorted());
        assert!(uuids.map(OrderedKey::from).is_sorted());
    }

    #[test]
    fn more_than_fits_into_memory_is_sorted_all_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::create(directory.path()).unwrap();
        let count = i64::try_from(PART).unwrap() * 2 + 5;
        // Every number once, in no order: the step and the count have no common divisor.
        let numbers = (0..count).map(|index| index * 7_919 % count);
        for number in numbers {
            ledger
                .add(&[commit(number - 9, RowChange::Inserted, 1)])
                .unwrap();
        }
        ledger.add(&[Commit::default()]).unwrap();
        assert_eq!(ledger.entries(), count.cast_unsigned());
        let mut sorted = ledger.sort().unwrap();
        assert_eq!(sorted.0.len(), 3);
        for _node in 0..2 {
            let entries = sorted.entries().unwrap().map(|it| it.unwrap().key());
            let wanted = (0..count).map(|number| RowKey::Number(number - 9).into());
            assert!(entries.eq(wanted));
        }
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
