//! All runs of a directory of results, each read once, newest first.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use itertools::Itertools as _;
use rayon::prelude::*;

use super::files::{RawFile, raw_files, slug};
use super::{Options, PublishError};
use crate::analyse::{ModeSummary, Series, mode_summaries, read_blessings, run_summary, trend};
use crate::record::{Altered, OnMismatch, RunStatus, RunSummary, Session, run_directories, verify};

/// A run that is published.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) run_summary: RunSummary,
    /// The name of the run's folder on the site.
    pub(super) slug: String,
    pub(super) modes: Vec<ModeSummary>,
    pub(super) files: Vec<RawFile>,
}

impl Entry {
    fn began(&self) -> Option<jiff::Timestamp> {
        self.run_summary.manifest.started_at.parse().ok()
    }

    /// A sort key: later runs are greater, whatever the time zone. Runs that began at the same moment are ordered by id.
    fn age(&self) -> (Option<jiff::Timestamp>, &str) {
        (self.began(), self.id())
    }

    pub(super) fn id(&self) -> &str {
        &self.run_summary.manifest.run_id
    }

    pub(super) fn session(&self) -> Option<&Session> {
        self.run_summary.manifest.session.as_ref()
    }

    pub(super) fn profile(&self) -> &str {
        let profile = self.run_summary.manifest.plan.profile.as_deref();
        profile.unwrap_or("no profile")
    }

    /// Whether the run's figures can be relied on.
    pub(super) fn is_sound(&self) -> bool {
        self.run_summary.manifest.status == RunStatus::Complete
    }

    pub(super) fn has(&self, file: &str) -> bool {
        self.files.iter().any(|known| known.name == file)
    }
}

#[derive(Debug)]
pub(super) struct RunCatalog {
    /// All published runs, newest first.
    pub(super) runs: Vec<Entry>,
    /// Number of runs that are in no history because there are enough newer ones, see [`MOST_RECENT`].
    pub(super) older: usize,
    /// What could not be read and why: directories of runs, and lines of the file of blessings.
    pub(super) unreadable: Vec<String>,
    /// Number of runs in `unreadable` that were left out because a file is not as it was recorded.
    pub(super) altered: usize,
}

impl RunCatalog {
    /// Reads all runs in parallel and finds the histories of their figures. A directory that cannot be read as a run is left out and
    /// listed in `unreadable`.
    pub(super) fn read(options: &Options) -> Result<(Self, Vec<Series>), PublishError> {
        let results = &options.results;
        let unread = |source| PublishError::Results {
            path: results.to_owned(),
            source,
        };
        let directories = run_directories(results).map_err(unread)?;
        let (blessed, mut unreadable) = read_blessings(results).map_err(unread)?;
        let mut found = Vec::new();
        let mut altered = 0;
        let read = |directory: &PathBuf| read_run(directory, options.on_mismatch);
        let reads: Vec<_> = directories.par_iter().map(read).collect();
        for read in reads {
            match read {
                Ok(run) => found.push(run),
                Err(why) => {
                    altered += usize::from(matches!(why, Unread::Altered(_)));
                    unreadable.push(why.to_string());
                }
            }
        }
        let (mut runs, older) = recent_ones(found);
        let recent = runs.iter().map(|entry| &entry.run_summary);
        let mut series = trend(recent, &options.order, &blessed);
        series.retain(|series| !series.is_none_lost());
        let left_out = older.len();
        runs.extend(older);
        runs.sort_by(|a, b| b.age().cmp(&a.age()));
        make_slugs_unique(&mut runs);
        let catalog = Self {
            runs,
            older: left_out,
            unreadable,
            altered,
        };
        Ok((catalog, series))
    }

    /// Everything that could not be read.
    pub(super) fn warnings(&self) -> Vec<String> {
        let of_runs = self.runs.iter().flat_map(|entry| {
            let warnings = entry.run_summary.warnings.iter();
            warnings.map(|warning| format!("{}: {warning}", entry.run_summary.dir.display()))
        });
        self.unreadable.iter().cloned().chain(of_runs).collect()
    }
}

/// Why a run is left out of the site.
#[derive(Debug, thiserror::Error)]
enum Unread {
    #[error("{0}")]
    Damaged(String),
    #[error("{0}; the run is left out, and --force publishes it")]
    Altered(String),
}

/// Reads a run and verifies all of its files, because all of them are published. `on_mismatch` decides what happens if a file is not as it
/// was recorded.
fn read_run(directory: &Path, on_mismatch: OnMismatch) -> Result<Entry, Unread> {
    let mut run_summary = run_summary(directory, on_mismatch).map_err(|error| {
        let source = std::error::Error::source(&error);
        Unread::Damaged(
            source.map_or_else(|| error.to_string(), |source| format!("{error}: {source}")),
        )
    })?;
    let altered = verify(directory, &run_summary.manifest);
    if !altered.is_empty() && on_mismatch == OnMismatch::LeaveOut {
        let run = &run_summary.manifest.run_id;
        let told = altered.iter().join(", ");
        return Err(Unread::Altered(format!("{run}: {told}")));
    }
    let is_news = |it: &&Altered| !run_summary.altered.contains(it);
    let news = altered.iter().filter(is_news).map(ToString::to_string);
    run_summary.warnings.extend(news);
    Ok(Entry {
        slug: slug(&directory.file_name().unwrap_or_default().to_string_lossy()),
        modes: mode_summaries(&run_summary),
        files: raw_files(directory, &run_summary.manifest.files),
        run_summary,
    })
}

/// The most runs of the same profile, workload and host in a history. A chart has no room for more dots, and the search for changes takes
/// a time that grows with the square of their number.
const MOST_RECENT: usize = 600;

/// Splits runs into the newest [`MOST_RECENT`] of each profile, workload and host, and the older ones.
fn recent_ones(mut runs: Vec<Entry>) -> (Vec<Entry>, Vec<Entry>) {
    runs.sort_by_cached_key(|entry| Reverse(entry.began()));
    let mut counts: BTreeMap<[String; 3], usize> = BTreeMap::new();
    runs.into_iter().partition(|entry| {
        let manifest = &entry.run_summary.manifest;
        let count = counts
            .entry([
                manifest.plan.profile.clone().unwrap_or_default(),
                manifest.workload_hash.clone(),
                manifest.host.host_id.clone(),
            ])
            .or_default();
        *count += 1;
        *count <= MOST_RECENT
    })
}

/// Gives every run a folder name of its own. A copy of a run (same id and folder name), such as one in a folder of published runs, is
/// dropped. A different run whose folder name is already taken gets a number.
fn make_slugs_unique(runs: &mut Vec<Entry>) {
    let mut seen = BTreeSet::new();
    runs.retain(|entry| {
        seen.insert((
            entry.run_summary.manifest.run_id.clone(),
            entry.slug.clone(),
        ))
    });
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

/// The path of a run's folder, relative to the site's root.
pub(super) fn folder_of(entry: &Entry) -> PathBuf {
    Path::new("runs").join(&entry.slug)
}
