//! Reads a run directory, whole or damaged. What cannot be read is left out, with a warning. Only a manifest that is missing or unreadable
//! is an error, because without it nothing says what the other files are about.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use itertools::Itertools as _;
use rayon::prelude::*;
use serde::de::DeserializeOwned;

use super::checksums::{Altered, OnMismatch, is_drawn, verify};
use super::files;
use super::hlog::{Interval, Intervals};
use super::manifest::{Manifest, SCHEMA_VERSION};
use super::packed::Packed;
use super::rows::{open_file, read_file, read_rows, warning};
use super::tags::{self, Bound, Origin};
use crate::histogram::{Histogram, SignedHistogram};
use crate::mode::Mode;
use crate::sample::{AuditRow, CellRow, EventRow, FaultRow, IntervalRow, LagRow, VisibilityRow};

/// The most bytes of a manifest. It has a few kilobytes; with settings and checksums of 20,000 cells, some megabytes.
pub(super) const MOST_MANIFEST: u64 = 8 << 20;
/// The most tags of a log: a damaged log must not use up the memory. Sixteen replicas of each kind with eight tags each stay below this
/// limit.
const MOST_TAGS: usize = 600;
/// The most seconds of response times of one cell; no phase is longer than a day.
const MOST_SECONDS: usize = 100_000;
/// The most bytes of memory for the histograms of all cells together.
const MOST_HISTOGRAM_BYTES: usize = 512 << 20;
/// If the first start in a log is later than this, in seconds, times count from the epoch. No cell lasts this long, and the epoch is longer
/// ago.
const EPOCH_BY_NOW_S: f64 = 1e8;

/// A recorded run.
#[derive(Debug)]
pub struct Run {
    pub dir: PathBuf,
    pub manifest: Manifest,
    pub cells: Vec<CellRow>,
    /// In the order of the cells' ids, as `lag` and `visibility` are.
    pub intervals: Vec<IntervalRow>,
    pub lag: Vec<LagRow>,
    pub visibility: Vec<VisibilityRow>,
    pub events: Vec<EventRow>,
    pub faults: Vec<FaultRow>,
    pub audit: Vec<AuditRow>,
    pub histograms: BTreeMap<u32, CellHistograms>,
    /// Files that are not as they were recorded. The measured ones among them are left out, unless [`OnMismatch::Use`] was given.
    pub altered: Vec<Altered>,
    /// Sentences about what could not be read.
    pub warnings: Vec<String>,
}

/// The histograms of one cell; the intervals of a tag are merged. They are kept packed, which takes a fiftieth of the memory.
#[derive(Debug, Default)]
pub struct CellHistograms {
    by_tag: BTreeMap<String, Packed>,
    /// Response times for each second.
    pub seconds: Vec<ResponseSecond>,
}

/// The response times of one interval, in coarse bins that take little memory.
#[derive(Debug, Clone, PartialEq)]
pub struct ResponseSecond {
    /// Start in seconds from the start of the measurement phase.
    pub start_s: f64,
    pub length_s: f64,
    /// Bins (see [`ResponseSecond::bin_start`]) in ascending order, and their counts.
    pub bins: Box<[(u16, u32)]>,
}

impl ResponseSecond {
    /// Number of bins per factor of ten.
    pub const PER_DECADE: u16 = 12;

    /// The start of a bin, in seconds; a bin ends where the next one begins.
    pub fn bin_start(bin: u16) -> f64 {
        1e-6 * 10_f64.powf(f64::from(bin) / f64::from(Self::PER_DECADE))
    }

    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "nanoseconds in a u64 lie below bin 160"
    )]
    fn bin(nanos: u64) -> u16 {
        ((nanos as f64 / 1e3).max(1.0).log10() * f64::from(Self::PER_DECADE)) as u16
    }

    fn new(interval: &Interval, zero_s: f64) -> Self {
        let mut bins: Vec<(u16, u32)> = Vec::new();
        for (nanos, count) in &interval.buckets {
            let count = u32::try_from(*count).unwrap_or(u32::MAX);
            match bins.last_mut() {
                Some((bin, sum)) if *bin == Self::bin(*nanos) => *sum = sum.saturating_add(count),
                _ => bins.push((Self::bin(*nanos), count)),
            }
        }
        Self {
            start_s: interval.start_s - zero_s,
            length_s: interval.length_s,
            bins: bins.into_boxed_slice(),
        }
    }

    fn bytes(&self) -> usize {
        size_of::<Self>() + size_of_val(&*self.bins)
    }
}

/// A directory that is not a readable run.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("cannot read `{path}`; is it a run directory?")]
    Manifest { path: PathBuf, source: io::Error },
    #[error("`{path}` is not a manifest of replbench")]
    Garbage {
        path: PathBuf,
        source: serde_json::Error,
    },
    #[error(
        "`{path}` has schema version {found}, and this replbench reads up to {SCHEMA_VERSION}; use a newer one"
    )]
    Newer { path: PathBuf, found: u64 },
}

impl Run {
    /// Reads all files in `dir` that are as they were recorded.
    pub fn open(dir: &Path) -> Result<Self, ReadError> {
        Self::open_with(dir, OnMismatch::LeaveOut)
    }

    /// Reads all files in `dir`; `on_mismatch` decides about those that are not as they were recorded.
    pub fn open_with(dir: &Path, on_mismatch: OnMismatch) -> Result<Self, ReadError> {
        let manifest = read_manifest(&dir.join(files::MANIFEST))?;
        let altered = verify(dir, &manifest);
        let mut source = Source::of(dir, &altered, on_mismatch);
        let mut cells: Vec<CellRow> = source.rows(files::CELLS);
        let mut intervals: Vec<IntervalRow> = source.rows(files::INTERVALS);
        let mut lag: Vec<LagRow> = source.rows(files::LAG);
        let mut visibility: Vec<VisibilityRow> = source.rows(files::VISIBILITY);
        let mut events: Vec<EventRow> = source.rows(files::EVENTS);
        let mut faults: Vec<FaultRow> = source.rows_if_any(files::FAULTS);
        let mut audit: Vec<AuditRow> = source.rows_if_any(files::AUDIT);
        intervals.sort_by_key(|row| row.cell_id);
        lag.sort_by_key(|row| row.cell_id);
        visibility.sort_by_key(|row| row.cell_id);
        // Discarded cells are recorded, but left out when a run is read.
        let discarded = cells.iter().filter(|cell| cell.discarded);
        let discarded: BTreeSet<u32> = discarded.map(|cell| cell.cell_id).collect();
        let counts = |cell_id: u32| !discarded.contains(&cell_id);
        cells.retain(|cell| !cell.discarded);
        intervals.retain(|row| counts(row.cell_id));
        lag.retain(|row| counts(row.cell_id));
        visibility.retain(|row| counts(row.cell_id));
        events.retain(|row| row.cell_id.is_none_or(counts));
        faults.retain(|row| counts(row.cell_id));
        audit.retain(|row| counts(row.cell_id));
        let mut histograms = BTreeMap::new();
        for (cell_id, found, problem) in read_all_histograms(&source, &cells) {
            histograms.insert(cell_id, found);
            source.warnings.extend(problem);
        }
        Ok(Self {
            dir: dir.to_owned(),
            manifest,
            cells,
            intervals,
            lag,
            visibility,
            events,
            faults,
            audit,
            histograms,
            warnings: source.warnings,
            altered,
        })
    }

    /// The rows of `intervals.csv` for a cell.
    pub fn intervals_of(&self, cell_id: u32) -> &[IntervalRow] {
        of_cell(&self.intervals, cell_id, |row| row.cell_id)
    }

    /// The lag samples of a cell.
    pub fn lag_of(&self, cell_id: u32) -> &[LagRow] {
        of_cell(&self.lag, cell_id, |row| row.cell_id)
    }

    /// The rows of `visibility.csv` for a cell.
    pub fn visibility_of(&self, cell_id: u32) -> &[VisibilityRow] {
        of_cell(&self.visibility, cell_id, |row| row.cell_id)
    }

    /// Whether a measured file is not as it was recorded. Nothing made from such a run may replace what was made from the recorded files.
    pub fn is_altered(&self) -> bool {
        self.altered.iter().any(|it| !is_drawn(&it.name))
    }

    /// The modes' names: those of the plan in its order, then any other that a cell names.
    pub fn mode_names(&self) -> Vec<String> {
        self.manifest.mode_names(&self.cells)
    }

    /// The mode of this name; `None` if the manifest's plan has none, or if this version cannot read it.
    pub fn mode(&self, name: &str) -> Option<&Mode> {
        self.manifest.mode(name)
    }

    /// The cells of a mode, in the order of repetitions.
    pub fn cells_of(&self, mode: &str) -> Vec<&CellRow> {
        let mut cells: Vec<_> = self.cells.iter().filter(|cell| cell.mode == mode).collect();
        cells.sort_by_key(|cell| (cell.rep, cell.order_idx));
        cells
    }
}

/// The rows of one cell, by binary search in rows that are sorted by cell. With thousands of cells, searching all rows for each of them
/// takes minutes.
fn of_cell<T>(rows: &[T], cell_id: u32, id: impl Fn(&T) -> u32) -> &[T] {
    let rest = &rows[rows.partition_point(|row| id(row) < cell_id)..];
    &rest[..rest.partition_point(|row| id(row) == cell_id)]
}

/// Reads the files of a run directory except those to be left out, and collects warnings about files that are not as they should be.
pub(super) struct Source<'a> {
    dir: &'a Path,
    left_out: Vec<&'a str>,
    pub(super) warnings: Vec<String>,
}

impl<'a> Source<'a> {
    pub(super) fn of(dir: &'a Path, altered: &'a [Altered], on_mismatch: OnMismatch) -> Self {
        let left_out = match on_mismatch {
            OnMismatch::LeaveOut => altered.iter().map(|it| it.name.as_str()).collect(),
            OnMismatch::Use => Vec::new(),
        };
        Self {
            dir,
            left_out,
            warnings: altered.iter().map(|it| told(it, on_mismatch)).collect(),
        }
    }

    /// Whether a file is left out: it is not as it was recorded, and the caller did not ask to use it.
    pub(super) fn leaves_out(&self, name: &str) -> bool {
        self.left_out.contains(&name)
    }

    pub(super) fn rows<T: DeserializeOwned>(&mut self, name: &str) -> Vec<T> {
        if self.leaves_out(name) {
            return Vec::new();
        }
        read_rows(self.dir, name, &mut self.warnings)
    }

    /// The rows of a file that is written only if there are rows; empty if there is no such file.
    fn rows_if_any<T: DeserializeOwned>(&mut self, name: &str) -> Vec<T> {
        if self.dir.join(name).exists() {
            self.rows(name)
        } else {
            Vec::new()
        }
    }
}

/// The warning about a file that is not as it was recorded.
fn told(altered: &Altered, on_mismatch: OnMismatch) -> String {
    let then = match on_mismatch {
        OnMismatch::LeaveOut if is_drawn(&altered.name) => "`replbench report` makes it anew",
        OnMismatch::LeaveOut => "it is left out; restore it from a copy, or --force uses it",
        OnMismatch::Use => "it is used all the same",
    };
    format!("{altered}; {then}")
}

impl CellHistograms {
    /// The histogram of one of the [`tags`]; `None` if the log has no such tag.
    pub fn get(&self, tag: &str) -> Option<Histogram> {
        let mut histogram = Histogram::new();
        for (nanos, count) in self.by_tag.get(tag)?.buckets() {
            histogram.record_nanos_n(nanos, count);
        }
        Some(histogram)
    }

    /// The approximate memory that the histograms take, in bytes.
    fn bytes(&self) -> usize {
        let tags = self.by_tag.iter();
        let tags = tags.map(|(tag, packed)| tag.len() + packed.bytes());
        let seconds = self.seconds.iter().map(ResponseSecond::bytes);
        tags.sum::<usize>() + seconds.sum::<usize>()
    }

    /// The nodes for which there are visibility delays.
    pub fn nodes(&self) -> Vec<String> {
        let node = |tag: &String| {
            let rest = tag.strip_prefix("visibility.")?;
            let rest = rest.strip_suffix(".neg").unwrap_or(rest);
            let rest = rest
                .strip_suffix(".hi")
                .or_else(|| rest.strip_suffix(".lo"))?;
            let node = rest
                .strip_suffix(".ack")
                .or_else(|| rest.strip_suffix(".send"))?;
            Some(node.to_owned())
        };
        self.by_tag.keys().filter_map(node).unique().collect()
    }

    /// Visibility delays on a node; empty when none were recorded.
    pub fn visibility(&self, node: &str, origin: Origin, bound: Bound) -> SignedHistogram {
        let side = |negative| {
            self.get(&tags::visibility(node, origin, bound, negative))
                .unwrap_or_default()
        };
        SignedHistogram {
            negative: side(true),
            positive: side(false),
        }
    }
}

pub(super) fn read_manifest(path: &Path) -> Result<Manifest, ReadError> {
    let garbage = |source| ReadError::Garbage {
        path: path.to_owned(),
        source,
    };
    let text = read_file(path, MOST_MANIFEST).map_err(|source| ReadError::Manifest {
        path: path.to_owned(),
        source,
    })?;
    let value: serde_json::Value = serde_json::from_slice(&text).map_err(garbage)?;
    let found = value
        .get("schema_version")
        .and_then(serde_json::Value::as_u64);
    if let Some(found) = found.filter(|found| *found > u64::from(SCHEMA_VERSION)) {
        return Err(ReadError::Newer {
            path: path.to_owned(),
            found,
        });
    }
    serde_json::from_value(value).map_err(garbage)
}

/// The histograms of the cells, in the order of the cells, each with what was wrong with its log. Decompressing the logs is nearly all of
/// the work of reading a run, so the processors share it.
fn read_all_histograms(
    source: &Source<'_>,
    cells: &[CellRow],
) -> Vec<(u32, CellHistograms, Option<String>)> {
    let taken = AtomicUsize::new(0);
    let read = cells.par_iter().map(|cell| {
        let name = format!("{}/{}", files::HISTOGRAMS, files::histogram(cell.cell_id));
        if source.leaves_out(&name) {
            return (cell.cell_id, CellHistograms::default(), None);
        }
        let (mut histograms, problem) = read_histograms(&source.dir.join(&name));
        let mut problem = problem.map(|problem| warning(&name, &problem));
        let bytes = histograms.bytes();
        if taken.fetch_add(bytes, Ordering::Relaxed) + bytes > MOST_HISTOGRAM_BYTES {
            let most = MOST_HISTOGRAM_BYTES >> 20;
            histograms = CellHistograms::default();
            problem = Some(format!(
                "`{name}` is left out: the histograms of all cells take more than {most} MiB, the limit"
            ));
        }
        (cell.cell_id, histograms, problem)
    });
    read.collect()
}

/// The histograms of a log up to its end or its first error, and the error.
fn read_histograms(path: &Path) -> (CellHistograms, Option<String>) {
    let mut merged = BTreeMap::new();
    let mut seconds = Vec::new();
    let problem = merge_intervals(path, &mut merged, &mut seconds).err();
    let packed = |(tag, histogram): (String, Histogram)| (tag, Packed::of(histogram.buckets()));
    let by_tag = merged.into_iter().map(packed).collect();
    (CellHistograms { by_tag, seconds }, problem)
}

fn merge_intervals(
    path: &Path,
    merged: &mut BTreeMap<String, Histogram>,
    seconds: &mut Vec<ResponseSecond>,
) -> Result<(), String> {
    let file = open_file(path).map_err(|error| error.to_string())?;
    let mut zero_s = None;
    for interval in Intervals::new(BufReader::new(file)) {
        let interval = interval?;
        let Some(tag) = &interval.tag else { continue };
        if merged.len() == MOST_TAGS && !merged.contains_key(tag) {
            return Err(format!("has more than {MOST_TAGS} tags, the limit"));
        }
        if seconds.len() == MOST_SECONDS {
            return Err(format!("has more than {MOST_SECONDS} seconds, the limit"));
        }
        // Times count from the log's base time; other writers, without one, count from the epoch.
        let zero_s = *zero_s.get_or_insert(if interval.start_s > EPOCH_BY_NOW_S {
            interval.start_s
        } else {
            0.0
        });
        if tag == tags::RESPONSE {
            seconds.push(ResponseSecond::new(&interval, zero_s));
        }
        let histogram = merged.entry(tag.clone()).or_default();
        for (nanos, count) in interval.buckets {
            histogram.record_nanos_n(nanos, count);
        }
    }
    match zero_s {
        Some(_) => Ok(()),
        None => Err("has no tagged interval".into()),
    }
}
