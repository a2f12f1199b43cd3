//! Writes a run directory while the run goes: every row reaches its file within a second of being made.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::checksums::{checksum, checksums};
use super::read::MOST_MANIFEST;
use super::rows::read_file;
use super::{Manifest, files};
use crate::escape::escape_cell;
use crate::histogram::Histogram;
use crate::sample::{
    AuditRow, CellRow, EventKind, EventRow, FaultRow, IntervalRow, LagRow, VisibilityRow,
};

/// Name of a file that reserves disk space for the last manifest and the last rows.
const RESERVE: &str = ".reserve";
const RESERVE_BYTES: usize = 32 << 10;

/// A file of the run directory that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write `{path}`: {cause}; {remedy}", remedy = self.remedy())]
pub struct WriteError {
    pub path: String,
    pub cause: io::Error,
}

impl WriteError {
    fn at(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |cause| Self {
            path: path.display().to_string(),
            cause,
        }
    }

    fn remedy(&self) -> &'static str {
        match self.cause.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                "free some space, or name a directory on another disk with --results"
            }
            _ => "name a directory that can be written to with --results",
        }
    }
}

/// A CSV file that is appended to.
#[derive(Debug)]
struct Table {
    path: PathBuf,
    rows: csv::Writer<BufWriter<File>>,
}

impl Table {
    fn create(directory: &Path, name: &str) -> Result<Self, WriteError> {
        let path = directory.join(name);
        let file = File::create_new(&path).map_err(WriteError::at(&path))?;
        Ok(Self {
            rows: csv::Writer::from_writer(BufWriter::new(file)),
            path,
        })
    }

    fn append(&mut self, row: &impl Serialize) -> Result<(), WriteError> {
        self.rows
            .serialize(row)
            .map_err(|error| WriteError::at(&self.path)(csv_to_io(error)))
    }

    /// Appends to a file that is created with its first row.
    fn append_to(
        table: &mut Option<Self>,
        directory: &Path,
        name: &str,
        row: &impl Serialize,
    ) -> Result<(), WriteError> {
        let table = match table {
            Some(table) => table,
            None => table.insert(Self::create(directory, name)?),
        };
        table.append(row)
    }

    fn flush(&mut self) -> Result<(), WriteError> {
        self.rows.flush().map_err(WriteError::at(&self.path))
    }
}

fn csv_to_io(error: csv::Error) -> io::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        other => io::Error::other(format!("{other:?}")),
    }
}

/// Writes one run directory, which is named `<run-id>.partial` until [`seal`] renames it.
#[derive(Debug)]
pub struct Recorder {
    directory: PathBuf,
    manifest: Manifest,
    cells: Table,
    intervals: Table,
    lag: Table,
    visibility: Table,
    events: Table,
    /// This file and `audit` are created with their first row: most runs have no faults.
    faults: Option<Table>,
    audit: Option<Table>,
    log: Option<(u32, PathBuf, File)>,
}

impl Recorder {
    /// Creates the directory under `results`. If a run id is taken, a number is added to it.
    pub fn create(results: &Path, mut manifest: Manifest) -> Result<Self, WriteError> {
        fs::create_dir_all(results).map_err(WriteError::at(results))?;
        let wanted = manifest.run_id.clone();
        let mut attempt = 1;
        let directory = loop {
            let directory = results.join(format!("{}.partial", manifest.run_id));
            if !results.join(&manifest.run_id).exists() {
                match fs::create_dir(&directory) {
                    Ok(()) => break directory,
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                    Err(error) => return Err(WriteError::at(&directory)(error)),
                }
            }
            attempt += 1;
            manifest.run_id = format!("{wanted}-{attempt}");
        };
        let histograms = directory.join(files::HISTOGRAMS);
        fs::create_dir(&histograms).map_err(WriteError::at(&histograms))?;
        let reserve = directory.join(RESERVE);
        fs::write(&reserve, vec![0; RESERVE_BYTES]).map_err(WriteError::at(&reserve))?;
        let recorder = Self {
            cells: Table::create(&directory, files::CELLS)?,
            intervals: Table::create(&directory, files::INTERVALS)?,
            lag: Table::create(&directory, files::LAG)?,
            visibility: Table::create(&directory, files::VISIBILITY)?,
            events: Table::create(&directory, files::EVENTS)?,
            faults: None,
            audit: None,
            log: None,
            directory,
            manifest,
        };
        recorder.save_manifest()?;
        Ok(recorder)
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Changes the manifest and saves it at once.
    pub fn amend(&mut self, change: impl FnOnce(&mut Manifest)) -> Result<(), WriteError> {
        change(&mut self.manifest);
        self.save_manifest()
    }

    fn save_manifest(&self) -> Result<(), WriteError> {
        write_manifest(&self.directory, &self.manifest)
    }

    pub fn cell(&mut self, row: &CellRow) -> Result<(), WriteError> {
        self.cells.append(&CellRow {
            notes: escape_cell(&row.notes),
            ..row.clone()
        })
    }

    pub fn interval(&mut self, row: &IntervalRow) -> Result<(), WriteError> {
        self.intervals.append(row)
    }

    pub fn lag(&mut self, row: &LagRow) -> Result<(), WriteError> {
        self.lag.append(row)
    }

    pub fn visibility(&mut self, row: &VisibilityRow) -> Result<(), WriteError> {
        self.visibility.append(row)
    }

    /// The texts that come from a server are escaped: they may hold control characters, or what a spreadsheet runs as a formula.
    pub fn event(&mut self, row: &EventRow) -> Result<(), WriteError> {
        self.events.append(&EventRow {
            node: row.node.as_deref().map(escape_cell),
            kind: EventKind::from(escape_cell(row.kind.as_str())),
            sqlstate: row.sqlstate.as_deref().map(escape_cell),
            detail: escape_cell(&row.detail),
            ..*row
        })
    }

    pub fn fault(&mut self, row: &FaultRow) -> Result<(), WriteError> {
        Table::append_to(&mut self.faults, &self.directory, files::FAULTS, row)
    }

    pub fn audit(&mut self, row: &AuditRow) -> Result<(), WriteError> {
        Table::append_to(&mut self.audit, &self.directory, files::AUDIT, row)
    }

    /// Appends one interval of several tagged histograms to a cell's interval log; empty ones are left out.
    /// `start` counts from the beginning of the cell's measurement.
    pub fn histograms(
        &mut self,
        cell_id: u32,
        measured_from: SystemTime,
        start: Duration,
        length: Duration,
        tagged: &[(String, &Histogram)],
    ) -> Result<(), WriteError> {
        let is_new = self.log.as_ref().is_none_or(|(open, ..)| *open != cell_id);
        if is_new {
            let folder = self.directory.join(files::HISTOGRAMS);
            let path = folder.join(files::histogram(cell_id));
            let file = File::create_new(&path).map_err(WriteError::at(&path))?;
            self.log = Some((cell_id, path, file));
        }
        let (_, path, file) = self.log.as_mut().expect("opened just above");
        let lines = interval_lines(measured_from, start, length, tagged, is_new)
            .map_err(WriteError::at(path))?;
        file.write_all(&lines).map_err(WriteError::at(path))
    }

    /// Writes all buffered rows to the files.
    pub fn flush(&mut self) -> Result<(), WriteError> {
        let tables = [
            &mut self.cells,
            &mut self.intervals,
            &mut self.lag,
            &mut self.visibility,
            &mut self.events,
        ];
        let own = [&mut self.faults, &mut self.audit];
        for table in tables.into_iter().chain(own.into_iter().flatten()) {
            table.flush()?;
        }
        Ok(())
    }

    /// Removes the file that reserves disk space, so that the last manifest can be written even on a full disk.
    pub fn release_reserve(&self) {
        // It does not matter if the file is already gone.
        let _ = fs::remove_file(self.directory.join(RESERVE));
    }

    /// Flushes and closes the files. After this, the report can be drawn and the directory sealed (see [`seal`]).
    pub fn close(mut self) -> Result<PathBuf, WriteError> {
        self.flush()?;
        Ok(self.directory)
    }
}

/// Lines of an interval log V2. The library writes a log in one go, but replbench's logs grow, so the header is kept only in the first
/// lines.
fn interval_lines(
    measured_from: SystemTime,
    start: Duration,
    length: Duration,
    tagged: &[(String, &Histogram)],
    with_header: bool,
) -> io::Result<Vec<u8>> {
    let mut lines = Vec::new();
    let mut serializer = V2DeflateSerializer::new();
    let mut writer = IntervalLogWriterBuilder::new()
        .add_comment("replbench interval log; values in nanoseconds, Interval_Max in milliseconds")
        .with_start_time(measured_from)
        .with_base_time(measured_from)
        .with_max_value_divisor(1e6)
        .begin_log_with(&mut lines, &mut serializer)?;
    for (tag, histogram) in tagged.iter().filter(|(_, histogram)| !histogram.is_empty()) {
        writer
            .write_histogram(histogram.as_hdr(), start, length, Tag::new(tag))
            .map_err(|error| io::Error::other(format!("{error:?}")))?;
    }
    if !with_header {
        let text = String::from_utf8(lines).map_err(io::Error::other)?;
        let rows = text
            .split_inclusive('\n')
            .filter(|line| line.starts_with("Tag="));
        return Ok(rows.collect::<String>().into_bytes());
    }
    Ok(lines)
}

/// Replaces the manifest in one step: a reader sees either the old manifest or the new one.
pub fn write_manifest(directory: &Path, manifest: &Manifest) -> Result<(), WriteError> {
    let path = directory.join(files::MANIFEST);
    let text = serde_json::to_vec_pretty(manifest)
        .map_err(|error| WriteError::at(&path)(io::Error::other(error)))?;
    write_manifest_text(directory, &text)
}

fn write_manifest_text(directory: &Path, text: &[u8]) -> Result<(), WriteError> {
    let path = directory.join(files::MANIFEST);
    let temporary = directory.join(format!("{}.tmp", files::MANIFEST));
    let mut file = File::create(&temporary).map_err(WriteError::at(&temporary))?;
    file.write_all(text).map_err(WriteError::at(&temporary))?;
    file.sync_all().map_err(WriteError::at(&temporary))?;
    fs::rename(&temporary, &path).map_err(WriteError::at(&path))
}

/// Writes the checksums of all files into the manifest, renames a finished directory to its run id, and returns the new path.
pub fn seal(directory: &Path, mut manifest: Manifest) -> Result<PathBuf, WriteError> {
    manifest.files = checksums(directory).map_err(WriteError::at(directory))?;
    write_manifest(directory, &manifest)?;
    let sealed = directory.with_file_name(&manifest.run_id);
    fs::rename(directory, &sealed).map_err(WriteError::at(&sealed))?;
    Ok(sealed)
}

/// The part of a manifest that `renew_checksums` writes anew.
#[derive(Deserialize)]
struct Sums<'a> {
    #[serde(borrow)]
    files: &'a RawValue,
}

/// Puts the checksums of files that were drawn anew into the manifest, and leaves every other byte of it alone, because another version of
/// replbench may have written it. A run without checksums has not ended, and gets none.
pub fn renew_checksums(directory: &Path, drawn: &[&Path]) -> Result<(), WriteError> {
    let path = directory.join(files::MANIFEST);
    let renewed = || -> io::Result<Option<String>> {
        let text = String::from_utf8(read_file(&path, MOST_MANIFEST)?).map_err(io::Error::other)?;
        let old = serde_json::from_str::<Sums<'_>>(&text)?.files.get();
        let mut sums: BTreeMap<String, String> = serde_json::from_str(old)?;
        if sums.is_empty() {
            return Ok(None);
        }
        for file in drawn {
            let name = file.strip_prefix(directory).map_err(io::Error::other)?;
            sums.insert(name.to_string_lossy().into_owned(), checksum(file)?);
        }
        let new = serde_json::to_string_pretty(&sums)?.replace('\n', "\n  ");
        // `old` is a part of `text`, so its address gives its place there.
        let start = old.as_ptr() as usize - text.as_ptr() as usize;
        let end = start + old.len();
        Ok((new != old).then(|| text[..start].to_owned() + &new + &text[end..]))
    };
    match renewed().map_err(WriteError::at(&path))? {
        Some(text) => write_manifest_text(directory, text.as_bytes()),
        None => Ok(()),
    }
}
