//! The files that a run leaves, read back.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use base64::Engine as _;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use replbench::histogram::{Histogram, SignedHistogram};
use replbench::record::{Manifest, files};
use replbench::sample::{
    AuditRow, CellRow, EventRow, FaultRow, IntervalRow, LagRow, VisibilityRow,
};
use serde::de::DeserializeOwned;

/// A run directory.
#[derive(Debug)]
pub struct Record(pub PathBuf);

impl Record {
    pub fn is_partial(&self) -> bool {
        self.0.extension().is_some_and(|it| it == "partial")
    }

    pub fn manifest(&self) -> Manifest {
        serde_json::from_slice(&fs::read(self.0.join(files::MANIFEST)).unwrap()).unwrap()
    }

    pub(super) fn try_rows<T: DeserializeOwned>(&self, name: &str) -> Option<Vec<T>> {
        // A row that is only half there yet ends the reading, and is read the next time.
        let mut reader = csv::Reader::from_path(self.0.join(name)).ok()?;
        Some(reader.deserialize().map_while(Result::ok).collect())
    }

    #[track_caller]
    fn rows<T: DeserializeOwned>(&self, name: &str) -> Vec<T> {
        let mut reader = csv::Reader::from_path(self.0.join(name)).unwrap();
        let rows: Result<_, _> = reader.deserialize().collect();
        rows.unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// The cells that have ended so far, but for the discarded ones.
    pub fn try_cells(&self) -> Option<Vec<CellRow>> {
        let mut rows: Vec<CellRow> = self.try_rows(files::CELLS)?;
        rows.retain(|cell| !cell.discarded);
        Some(rows)
    }

    #[track_caller]
    pub fn cells(&self) -> Vec<CellRow> {
        let mut rows: Vec<CellRow> = self.rows(files::CELLS);
        rows.retain(|cell| !cell.discarded);
        rows
    }

    /// The cells so far that belong to no figure.
    pub fn discarded(&self) -> Vec<CellRow> {
        let rows: Option<Vec<CellRow>> = self.try_rows(files::CELLS);
        let mut rows = rows.unwrap_or_default();
        rows.retain(|cell| cell.discarded);
        rows
    }

    /// Whether rows of this cell are of one that counts.
    fn counts(&self) -> impl Fn(u32) -> bool {
        let discarded: Vec<u32> = self.discarded().iter().map(|cell| cell.cell_id).collect();
        move |cell_id| !discarded.contains(&cell_id)
    }

    /// The only cell.
    #[track_caller]
    pub fn cell(&self) -> CellRow {
        let mut cells = self.cells();
        assert_eq!(cells.len(), 1, "{cells:?}");
        cells.remove(0)
    }

    #[track_caller]
    pub fn intervals(&self) -> Vec<IntervalRow> {
        let mut rows: Vec<IntervalRow> = self.rows(files::INTERVALS);
        let counts = self.counts();
        rows.retain(|row| counts(row.cell_id));
        rows
    }

    #[track_caller]
    pub fn lag(&self, node: &str) -> Vec<LagRow> {
        let mut rows: Vec<LagRow> = self.rows(files::LAG);
        let counts = self.counts();
        rows.retain(|row| row.node == node && counts(row.cell_id));
        rows
    }

    #[track_caller]
    pub fn visibility(&self, cell: u32, node: &str) -> Vec<VisibilityRow> {
        let mut rows: Vec<VisibilityRow> = self.rows(files::VISIBILITY);
        rows.retain(|row| row.cell_id == cell && row.node == node);
        rows
    }

    #[track_caller]
    pub fn events(&self, kind: &str) -> Vec<EventRow> {
        let mut rows: Vec<EventRow> = self.rows(files::EVENTS);
        let counts = self.counts();
        rows.retain(|row| row.kind.as_str() == kind && row.cell_id.is_none_or(&counts));
        rows
    }

    #[track_caller]
    pub fn faults(&self) -> Vec<FaultRow> {
        self.rows(files::FAULTS)
    }

    #[track_caller]
    pub fn audit(&self) -> Vec<AuditRow> {
        self.rows(files::AUDIT)
    }

    /// A cell's interval log, merged over time, by tag.
    #[track_caller]
    pub fn histograms(&self, cell: u32) -> Histograms {
        let path = self.0.join(files::HISTOGRAMS).join(files::histogram(cell));
        let log = fs::read(&path).unwrap();
        let mut merged: BTreeMap<String, Histogram> = BTreeMap::new();
        for entry in IntervalLogIterator::new(&log) {
            let LogEntry::Interval(interval) = entry.unwrap() else {
                continue;
            };
            let bytes = base64::engine::general_purpose::STANDARD
                .decode(interval.encoded_histogram())
                .unwrap();
            let hdr: hdrhistogram::Histogram<u64> = Deserializer::new()
                .deserialize(&mut bytes.as_slice())
                .unwrap();
            let buckets = hdr
                .iter_recorded()
                .map(|it| (it.value_iterated_to(), it.count_since_last_iteration()));
            let tag = interval.tag().unwrap().as_str().to_owned();
            merged
                .entry(tag)
                .or_default()
                .merge(&Histogram::from(buckets.collect::<Vec<_>>()));
        }
        Histograms(merged)
    }

    /// Every file of the directory with its bytes.
    pub fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let (mut found, mut folders) = (Vec::new(), vec![self.0.clone()]);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    found.push((path.clone(), fs::read(path).unwrap()));
                }
            }
        }
        found
    }
}

/// Histograms of one cell by tag.
#[derive(Debug)]
pub struct Histograms(BTreeMap<String, Histogram>);

impl Histograms {
    pub fn of(&self, tag: &str) -> Histogram {
        self.0.get(tag).cloned().unwrap_or_default()
    }

    /// One bound of a node's visibility from the acknowledgement, with its sign.
    pub fn visibility(&self, node: &str, bound: &str) -> SignedHistogram {
        let tag = format!("visibility.{node}.ack.{bound}");
        SignedHistogram {
            negative: self.of(&format!("{tag}.neg")),
            positive: self.of(&tag),
        }
    }

    /// The end of a node's visibility from the send.
    pub fn after_send(&self, node: &str) -> Histogram {
        self.of(&format!("visibility.{node}.send.hi"))
    }
}
