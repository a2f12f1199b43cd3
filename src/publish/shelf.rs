//! Every run there is, read once, newest first.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::PublishError;
use super::files::{RawFile, raw_files, slug};
use crate::analyse::{ModeMedians, Series, mode_medians, read_blessings, sheet, trend};
use crate::record::{RunStatus, Sheet, run_directories};

/// A run on its way to the site.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) sheet: Sheet,
    /// The name of its folder on the site.
    pub(super) slug: String,
    pub(super) modes: Vec<ModeMedians>,
    pub(super) files: Vec<RawFile>,
}

impl Entry {
    fn of(sheet: Sheet, modes: Vec<ModeMedians>, files: Vec<RawFile>) -> Self {
        let name = sheet.dir.file_name().unwrap_or_default();
        Self {
            slug: slug(&name.to_string_lossy()),
            modes,
            files,
            sheet,
        }
    }

    /// Later times are greater, whatever their zone; runs of one moment are told apart by their ids.
    fn age(&self) -> (Option<jiff::Timestamp>, &str) {
        let manifest = &self.sheet.manifest;
        (manifest.started_at.parse().ok(), &manifest.run_id)
    }

    pub(super) fn profile(&self) -> &str {
        self.sheet.manifest.profile_name().unwrap_or("no profile")
    }

    /// Whether its figures are to be relied on.
    pub(super) fn is_sound(&self) -> bool {
        self.sheet.manifest.status == RunStatus::Complete
    }

    pub(super) fn has(&self, file: &str) -> bool {
        self.files.iter().any(|known| known.name == file)
    }
}

#[derive(Debug)]
pub(super) struct Shelf {
    /// Newest first.
    pub(super) runs: Vec<Entry>,
    /// Directories that did not read, and why.
    pub(super) unreadable: Vec<String>,
}

impl Shelf {
    /// Reads them on all processors, and finds their histories. A directory that is no readable run is told of and left out.
    pub(super) fn read(
        results: &Path,
        order: &[String],
    ) -> Result<(Self, Vec<Series>), PublishError> {
        let unread = |source| PublishError::Results {
            path: results.to_owned(),
            source,
        };
        let directories = run_directories(results).map_err(unread)?;
        let (blessed, mut unreadable) = read_blessings(results).map_err(unread)?;
        let (mut sheets, mut others) = (Vec::new(), Vec::new());
        for read in in_parallel(&directories, |directory| read_run(directory)) {
            match read {
                Ok((sheet, other)) => {
                    sheets.push(sheet);
                    others.push(other);
                }
                Err(why) => unreadable.push(why),
            }
        }
        let series = trend(&sheets, order, &blessed);
        let runs = sheets.into_iter().zip(others);
        let mut runs: Vec<Entry> = runs
            .map(|(sheet, (modes, files))| Entry::of(sheet, modes, files))
            .collect();
        runs.sort_by(|a, b| b.age().cmp(&a.age()));
        name_apart(&mut runs);
        Ok((Self { runs, unreadable }, series))
    }

    /// Everything that could not be read.
    pub(super) fn warnings(&self) -> Vec<String> {
        let of_runs = self.runs.iter().flat_map(|entry| {
            let warnings = entry.sheet.warnings.iter();
            warnings.map(|warning| format!("{}: {warning}", entry.sheet.dir.display()))
        });
        self.unreadable.iter().cloned().chain(of_runs).collect()
    }
}

/// What follows from a run's sheet alone.
type Derived = (Vec<ModeMedians>, Vec<RawFile>);

fn read_run(directory: &Path) -> Result<(Sheet, Derived), String> {
    let sheet = sheet(directory).map_err(|error| {
        let source = std::error::Error::source(&error);
        source.map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
    })?;
    let derived = (
        mode_medians(&sheet),
        raw_files(directory, &sheet.manifest.files),
    );
    Ok((sheet, derived))
}

/// A copy of a run, such as in a folder of published ones, is one run; others of the same name get a number.
fn name_apart(runs: &mut Vec<Entry>) {
    let mut seen = BTreeSet::new();
    runs.retain(|entry| seen.insert((entry.sheet.manifest.run_id.clone(), entry.slug.clone())));
    let mut taken: BTreeSet<String> = BTreeSet::new();
    for entry in runs {
        let mut name = entry.slug.clone();
        let mut number = 2;
        while name.is_empty() || !taken.insert(name.to_lowercase()) {
            name = format!("{}-{number}", entry.slug);
            number += 1;
        }
        entry.slug = name;
    }
}

/// Does a piece of work for each item on as many threads as there are processors; the answers are in the items' order.
pub(super) fn in_parallel<'a, I: Sync, O: Send>(
    items: &'a [I],
    work: impl Fn(&'a I) -> O + Sync,
) -> Vec<O> {
    let threads = std::thread::available_parallelism().map_or(1, Into::into);
    let share = items.len().div_ceil(threads).max(1);
    let work = &work;
    std::thread::scope(|scope| {
        let parts: Vec<_> = items
            .chunks(share)
            .map(|part| scope.spawn(move || part.iter().map(work).collect::<Vec<O>>()))
            .collect();
        let parts = parts.into_iter().map(|part| {
            part.join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        parts.flatten().collect()
    })
}

/// Paths of a run's folder on the site.
pub(super) fn folder_of(entry: &Entry) -> PathBuf {
    Path::new("runs").join(&entry.slug)
}
