//! Every run there is, read once, newest first.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::PublishError;
use super::files::{RawFile, raw_files, slug};
use crate::analyse::{ModeMedians, mode_medians, sheet};
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
    /// Reads them on all processors. A directory that is no readable run is told of and left out.
    pub(super) fn read(results: &Path) -> Result<Self, PublishError> {
        let directories = run_directories(results).map_err(|source| PublishError::Results {
            path: results.to_owned(),
            source,
        })?;
        let mut runs = Vec::new();
        let mut unreadable = Vec::new();
        for read in in_parallel(&directories, |directory| read_run(directory)) {
            match read {
                Ok(entry) => runs.push(entry),
                Err(why) => unreadable.push(why),
            }
        }
        runs.sort_by(|a, b| {
            let key = |entry: &Entry| {
                let manifest = &entry.sheet.manifest;
                (manifest.started_at.clone(), manifest.run_id.clone())
            };
            key(b).cmp(&key(a))
        });
        name_apart(&mut runs);
        Ok(Self { runs, unreadable })
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

fn read_run(directory: &Path) -> Result<Entry, String> {
    let sheet = sheet(directory).map_err(|error| {
        let source = std::error::Error::source(&error);
        source.map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
    })?;
    Ok(Entry {
        slug: slug(&directory.file_name().unwrap_or_default().to_string_lossy()),
        modes: mode_medians(&sheet),
        files: raw_files(directory, &sheet.manifest.files),
        sheet,
    })
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
pub(super) fn in_parallel<I: Sync, O: Send>(items: &[I], work: impl Fn(&I) -> O + Sync) -> Vec<O> {
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
