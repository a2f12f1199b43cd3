//! The fast way to read a run: its manifest, its cells and their figures, without distributions. Used where hundreds of runs are read.

use std::io;
use std::path::{Path, PathBuf};

use csv::ByteRecord;

use super::checksums::{Altered, OnMismatch, altered};
use super::files;
use super::manifest::Manifest;
use super::read::{ReadError, Source, read_manifest};
use super::rows::{MOST_ROWS, add_rows, ends_with_newline, open_file, reader, warning};
use crate::sample::{CellRow, SummaryRow};

/// A run's manifest, its cells, and the figures of `summary.csv` that were asked for.
#[derive(Debug, Clone)]
pub struct RunSummary {
    pub dir: PathBuf,
    pub manifest: Manifest,
    pub cells: Vec<CellRow>,
    /// `None` if `summary.csv` is missing or damaged and must be made again from the measured files.
    pub figures: Option<Vec<SummaryRow>>,
    /// The files that are not as they were recorded, of `cells.csv` and `summary.csv`. They are left out, unless [`OnMismatch::Use`] was
    /// given.
    pub altered: Vec<Altered>,
    /// Sentences about what could not be read.
    pub warnings: Vec<String>,
}

impl RunSummary {
    /// Reads the run in `dir`, and the rows of its summary whose metric and stat are `wanted`.
    pub fn open(
        dir: &Path,
        on_mismatch: OnMismatch,
        wanted: impl Fn(&str, &str) -> bool,
    ) -> Result<Self, ReadError> {
        let manifest = read_manifest(&dir.join(files::MANIFEST))?;
        let altered = altered(dir, &manifest, &[files::CELLS, files::SUMMARY]);
        let mut source = Source::of(dir, &altered, on_mismatch);
        let mut cells: Vec<CellRow> = source.rows(files::CELLS);
        cells.retain(|cell| !cell.discarded);
        let figures = if source.leaves_out(files::SUMMARY) {
            Some(Vec::new())
        } else {
            match read_summary(&dir.join(files::SUMMARY), wanted) {
                Ok(rows) => Some(rows),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => {
                    let warning = warning(files::SUMMARY, &error.to_string());
                    source.warnings.push(warning);
                    None
                }
            }
        };
        Ok(Self {
            dir: dir.to_owned(),
            manifest,
            cells,
            figures,
            warnings: source.warnings,
            altered,
        })
    }

    /// Like [`Manifest::mode_names`].
    pub fn mode_names(&self) -> Vec<String> {
        self.manifest.mode_names(&self.cells)
    }
}

/// Reads a summary. A damaged summary is an error as a whole: it is derived, so it can be made again, and half of it is worth nothing.
fn read_summary(path: &Path, wanted: impl Fn(&str, &str) -> bool) -> io::Result<Vec<SummaryRow>> {
    let mut file = open_file(path)?;
    if file.metadata()?.len() == 0 || !ends_with_newline(&mut file)? {
        return Err(io::Error::other("is cut short"));
    }
    let mut reader = reader(file);
    let head = reader.byte_headers()?;
    let column = |name: &str| {
        let place = head.iter().position(|field| field == name.as_bytes());
        place.ok_or_else(|| io::Error::other(format!("has no column `{name}`")))
    };
    let (metric, stat) = (column("metric")?, column("stat")?);
    let wanted = |row: &ByteRecord| {
        let field = |index: usize| std::str::from_utf8(&row[index]).unwrap_or_default();
        wanted(field(metric), field(stat))
    };
    let mut rows = Vec::new();
    add_rows(reader, MOST_ROWS, wanted, &mut rows)?;
    Ok(rows)
}
