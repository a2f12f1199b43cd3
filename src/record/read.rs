//! Reads a run directory, whole or damaged. What cannot be read is named in the warnings and left out; only a manifest that
//! is missing or unreadable is an error, because nothing says then what the other files are about.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::num::NonZero;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use super::files;
use super::hlog::{Interval, Intervals};
use super::manifest::{Manifest, SCHEMA_VERSION};
use super::tags::{self, Bound, Origin};
use crate::histogram::{Histogram, SignedHistogram};
use crate::sample::{CellRow, EventRow, IntervalRow, LagRow, VisibilityRow};
use crate::topology::Mode;

/// A manifest is a few kilobytes; this much is read of one at most.
const MOST_MANIFEST: u64 = 64 << 20;
/// Sixteen replicas of a kind with eight tags each stay below; a damaged log must not take the memory.
const MOST_TAGS: usize = 600;
/// No cell lasts so long, and the epoch is further away.
const EPOCH_BY_NOW_S: f64 = 1e8;

/// A recorded run.
#[derive(Debug)]
pub struct Run {
    pub dir: PathBuf,
    pub manifest: Manifest,
    pub cells: Vec<CellRow>,
    pub intervals: Vec<IntervalRow>,
    pub lag: Vec<LagRow>,
    pub visibility: Vec<VisibilityRow>,
    pub events: Vec<EventRow>,
    pub histograms: BTreeMap<u32, CellHistograms>,
    /// What could not be read, for a person.
    pub warnings: Vec<String>,
}

/// The histograms of one cell, all intervals of a tag merged. Kept as their recorded buckets, a tenth of the memory.
#[derive(Debug, Default)]
pub struct CellHistograms {
    by_tag: BTreeMap<String, Vec<(u64, u64)>>,
    /// Response times second by second.
    pub seconds: Vec<ResponseSecond>,
}

/// The response times of one interval, in coarse bins that take little memory.
#[derive(Debug, Clone, PartialEq)]
pub struct ResponseSecond {
    /// From the start of the measurement.
    pub start_s: f64,
    pub length_s: f64,
    /// Bin (see [`ResponseSecond::bin_start`]) and count, rising.
    pub bins: Vec<(u16, u32)>,
}

impl ResponseSecond {
    /// Bins in a factor of ten.
    pub const PER_DECADE: u16 = 12;

    /// Where a bin begins, in seconds; it ends where the next begins.
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
            bins,
        }
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
    /// Reads everything in `dir`.
    pub fn open(dir: &Path) -> Result<Self, ReadError> {
        let mut warnings = Vec::new();
        let manifest = read_manifest(&dir.join(files::MANIFEST))?;
        let cells: Vec<CellRow> = read_rows(dir, files::CELLS, &mut warnings);
        let mut run = Self {
            dir: dir.to_owned(),
            manifest,
            intervals: read_rows(dir, files::INTERVALS, &mut warnings),
            lag: read_rows(dir, files::LAG, &mut warnings),
            visibility: read_rows(dir, files::VISIBILITY, &mut warnings),
            events: read_rows(dir, files::EVENTS, &mut warnings),
            histograms: BTreeMap::new(),
            cells,
            warnings,
        };
        for (cell_id, histograms, problem) in read_all_histograms(dir, &run.cells) {
            run.histograms.insert(cell_id, histograms);
            run.warnings.extend(problem);
        }
        Ok(run)
    }

    /// The modes' names: those of the plan in its order, then any other that a cell names.
    pub fn mode_names(&self) -> Vec<String> {
        self.manifest.mode_names(&self.cells)
    }

    /// The mode of this name, if the plan in the manifest still reads as one.
    pub fn mode(&self, name: &str) -> Option<Mode> {
        self.manifest.mode(name)
    }

    /// The cells of a mode, by repetition.
    pub fn cells_of(&self, mode: &str) -> Vec<&CellRow> {
        let mut cells: Vec<_> = self.cells.iter().filter(|cell| cell.mode == mode).collect();
        cells.sort_by_key(|cell| (cell.rep, cell.order_idx));
        cells
    }
}

impl CellHistograms {
    /// The histogram of a tag of [`tags`]; `None` when the log has no such tag.
    pub fn get(&self, tag: &str) -> Option<Histogram> {
        let mut histogram = Histogram::new();
        for (nanos, count) in self.by_tag.get(tag)? {
            histogram.record_nanos_n(*nanos, *count);
        }
        Some(histogram)
    }

    /// Nodes for which there is visibility.
    pub fn nodes(&self) -> Vec<String> {
        let mut nodes = Vec::new();
        for tag in self.by_tag.keys() {
            let node = tag.strip_prefix("visibility.").and_then(|rest| {
                let rest = rest.strip_suffix(".neg").unwrap_or(rest);
                let rest = rest
                    .strip_suffix(".hi")
                    .or_else(|| rest.strip_suffix(".lo"))?;
                rest.strip_suffix(".ack")
                    .or_else(|| rest.strip_suffix(".send"))
            });
            if let Some(node) = node
                && !nodes.iter().any(|known| known == node)
            {
                nodes.push(node.to_owned());
            }
        }
        nodes
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

pub(super) fn warning(file: &str, problem: &str) -> String {
    format!("`{file}`: {problem}; what stands before is used")
}

pub(super) fn read_manifest(path: &Path) -> Result<Manifest, ReadError> {
    let garbage = |source| ReadError::Garbage {
        path: path.to_owned(),
        source,
    };
    let mut text = Vec::new();
    open_file(path)
        .and_then(|file| file.take(MOST_MANIFEST).read_to_end(&mut text))
        .map_err(|source| ReadError::Manifest {
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

/// The rows of a CSV file up to its end or to the first that does not read.
pub(super) fn read_rows<T: DeserializeOwned>(
    dir: &Path,
    name: &str,
    warnings: &mut Vec<String>,
) -> Vec<T> {
    let mut rows = Vec::new();
    // A run may pass without an event or without replicas, never without cells.
    let empty_is_damage = matches!(name, files::CELLS | files::INTERVALS);
    match read_rows_into(&dir.join(name), empty_is_damage, &mut rows) {
        Ok(None) => {}
        Ok(Some(problem)) => warnings.push(warning(name, &problem)),
        Err(error) => warnings.push(format!("`{name}` could not be read: {error}")),
    }
    rows
}

fn read_rows_into<T: DeserializeOwned>(
    path: &Path,
    empty_is_damage: bool,
    rows: &mut Vec<T>,
) -> io::Result<Option<String>> {
    let mut file = open_file(path)?;
    if file.metadata()?.len() == 0 {
        return Ok(empty_is_damage.then(|| "is empty".into()));
    }
    let torn = !ends_with_newline(&mut file)?;
    let mut reader = csv::Reader::from_reader(BufReader::new(file));
    for row in reader.deserialize() {
        match row {
            Ok(row) => rows.push(row),
            Err(error) => return Ok(Some(error.to_string())),
        }
    }
    if torn {
        // The last row may have lost digits of its last field and still read as a row.
        rows.pop();
        return Ok(Some("ends in the middle of a line".into()));
    }
    Ok(None)
}

/// Opens a file, and nothing else that may stand in its place: a pipe would be waited for, and a device has no end.
pub(crate) fn open_file(path: &Path) -> io::Result<File> {
    let without_waiting = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = File::options()
        .read(true)
        .custom_flags(without_waiting)
        .open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::other("is not a regular file"))
    }
}

pub(super) fn ends_with_newline(file: &mut File) -> io::Result<bool> {
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    file.rewind()?;
    Ok(last == [b'\n'])
}

/// The histograms of all cells with what was wrong with them, in the order of the cells. Inflating them is nearly all of the work of
/// reading a run, so that the processors share it.
fn read_all_histograms(
    dir: &Path,
    cells: &[CellRow],
) -> Vec<(u32, CellHistograms, Option<String>)> {
    let one = |cell: &CellRow| {
        let name = format!("{}/{}", files::HISTOGRAMS, files::histogram(cell.cell_id));
        let (histograms, problem) = read_histograms(&dir.join(&name));
        let problem = problem.map(|problem| warning(&name, &problem));
        (cell.cell_id, histograms, problem)
    };
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    let share = cells.len().div_ceil(threads).max(1);
    std::thread::scope(|scope| {
        let shares: Vec<_> = cells
            .chunks(share)
            .map(|cells| scope.spawn(move || cells.iter().map(one).collect::<Vec<_>>()))
            .collect();
        let read = |share: std::thread::ScopedJoinHandle<'_, Vec<_>>| {
            share
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        shares.into_iter().flat_map(read).collect()
    })
}

fn read_histograms(path: &Path) -> (CellHistograms, Option<String>) {
    let mut histograms = CellHistograms::default();
    let file = match open_file(path) {
        Ok(file) => file,
        Err(error) => return (histograms, Some(error.to_string())),
    };
    let mut merged: BTreeMap<String, Histogram> = BTreeMap::new();
    let mut zero_s = None;
    let mut problem = None;
    for interval in Intervals::new(BufReader::new(file)) {
        let interval = match interval {
            Ok(interval) => interval,
            Err(found) => {
                problem = Some(found);
                break;
            }
        };
        let Some(tag) = &interval.tag else { continue };
        if merged.len() == MOST_TAGS && !merged.contains_key(tag) {
            problem = Some(format!("has more than {MOST_TAGS} tags"));
            break;
        }
        // Times count from the log's base time; other writers, without one, count from the epoch.
        let zero_s = *zero_s.get_or_insert(if interval.start_s > EPOCH_BY_NOW_S {
            interval.start_s
        } else {
            0.0
        });
        if tag == tags::RESPONSE {
            histograms
                .seconds
                .push(ResponseSecond::new(&interval, zero_s));
        }
        let histogram = merged.entry(tag.clone()).or_default();
        for (nanos, count) in interval.buckets {
            histogram.record_nanos_n(nanos, count);
        }
    }
    if problem.is_none() && zero_s.is_none() {
        problem = Some("has no tagged interval".into());
    }
    histograms.by_tag = merged
        .into_iter()
        .map(|(tag, histogram)| (tag, histogram.buckets().collect()))
        .collect();
    (histograms, problem)
}
