//! Finds the run that a word on the command line means: a directory, a run id or its beginning, or a git revision.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use itertools::Itertools as _;
use rayon::prelude::*;

use super::{Exit, OrExit as _, Stop, git};
use crate::analyse::run_summary;
use crate::record::{
    Altered, OnMismatch, RunSummary, is_drawn, is_run, run_directories, runs_named,
};
use crate::report::escape_control;

/// The runs that a word may mean: one run for a directory or an id, or all runs of a commit, newest first, for a revision.
pub(super) fn runs_of(
    word: &str,
    results: &Path,
    on_mismatch: OnMismatch,
) -> Result<Vec<RunSummary>, Stop> {
    let path = Path::new(word);
    if is_run(path) {
        return Ok(vec![open(path, on_mismatch)?]);
    }
    let directories = directories(results)?;
    let named = runs_named(&directories, word);
    match named.as_slice() {
        [] => runs_of_commit(word, results, &directories, on_mismatch),
        [one] => Ok(vec![open(one, on_mismatch)?]),
        several => Err(Stop::usage(anyhow!(
            "`{}` is the beginning of {} runs: {}; write more of it",
            escape_control(word),
            several.len(),
            names(several)
        ))),
    }
}

/// The one run that a word means.
pub(super) fn run_of(
    word: &str,
    results: &Path,
    on_mismatch: OnMismatch,
) -> Result<RunSummary, Stop> {
    let mut runs = runs_of(word, results, on_mismatch)?;
    Ok(runs.remove(0))
}

/// Refuses a run with a file that differs from its recorded checksum, unless the user asked to use such files.
pub(super) fn refuse_altered(
    run_id: &str,
    altered: &[Altered],
    on_mismatch: OnMismatch,
) -> Result<(), Stop> {
    if on_mismatch == OnMismatch::Use || altered.is_empty() {
        return Ok(());
    }
    let remedy = if altered.iter().all(|it| is_drawn(&it.name)) {
        "`replbench report` makes it anew"
    } else {
        "restore it from a copy"
    };
    let error = anyhow!(
        "run `{run_id}` was changed after it had ended: {}; {remedy}, or --force uses it as it is",
        altered.iter().join(", ")
    );
    Err(Stop::new(Exit::Results, error))
}

/// All run directories in `results`; none if `results` does not exist.
pub(super) fn directories(results: &Path) -> Result<Vec<PathBuf>, Stop> {
    match run_directories(results) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        found => found
            .with_context(|| {
                format!(
                    "cannot read the results in `{}`; --results names the directory that holds the runs",
                    results.display()
                )
            })
            .or_exit(Exit::Results),
    }
}

/// The runs of a directory of results.
#[derive(Default)]
pub(super) struct ReadRuns {
    /// The summaries of the runs, oldest first.
    pub(super) run_summaries: Vec<RunSummary>,
    pub(super) warnings: Vec<String>,
    /// The number of runs that were left out because a file differs from its recorded checksum.
    pub(super) altered: usize,
}

/// All readable runs in `results`, and a warning for each run that cannot be read.
pub(super) fn run_summaries(results: &Path, on_mismatch: OnMismatch) -> Result<ReadRuns, Stop> {
    let directories = directories(results)?;
    let mut runs = ReadRuns::default();
    let read = |directory: &PathBuf| run_summary(directory, on_mismatch);
    let reads: Vec<_> = directories.par_iter().map(read).collect();
    for read in reads {
        match read {
            Ok(run_summary) => {
                let run = &run_summary.manifest.run_id;
                let warnings = run_summary.warnings.iter().map(|it| format!("{run}: {it}"));
                runs.warnings.extend(warnings);
                if on_mismatch == OnMismatch::LeaveOut && !run_summary.altered.is_empty() {
                    runs.altered += 1;
                    runs.warnings.push(format!("{run}: the run is left out"));
                } else {
                    runs.run_summaries.push(run_summary);
                }
            }
            Err(error) => runs
                .warnings
                .push(format!("{:#}", anyhow::Error::new(error))),
        }
    }
    Ok(runs)
}

pub(super) fn open(directory: &Path, on_mismatch: OnMismatch) -> Result<RunSummary, Stop> {
    run_summary(directory, on_mismatch).or_exit(Exit::Results)
}

/// The runs of a commit, newest first. Runs of a dirty work tree are left out, because they did not measure that commit.
fn runs_of_commit(
    word: &str,
    results: &Path,
    directories: &[PathBuf],
    on_mismatch: OnMismatch,
) -> Result<Vec<RunSummary>, Stop> {
    let stop = |text: String| Stop::new(Exit::Results, anyhow!(text));
    let Some(commit) = git::commit_of(Path::new("."), word) else {
        return Err(stop(format!(
            "`{}` is neither a run directory, nor a run in `{}`, nor a git revision here; `replbench list --runs` shows the runs",
            escape_control(word),
            results.display()
        )));
    };
    // Runs that cannot be read are skipped, because their commit is unknown.
    let readable = directories
        .iter()
        .rev()
        .filter_map(|directory| run_summary(directory, on_mismatch).ok());
    let found: Vec<RunSummary> = readable
        .filter(|run_summary| run_summary.manifest.subject.git.as_ref() == Some(&commit))
        .collect();
    if found.is_empty() {
        return Err(stop(format!(
            "no run in `{}` is of `{}` (commit {commit}); check it out and `replbench run` there",
            results.display(),
            escape_control(word)
        )));
    }
    Ok(found)
}

fn names(directories: &[PathBuf]) -> String {
    const SHOWN: usize = 4;
    let names = directories.iter().filter_map(|it| it.file_name());
    let shown = names
        .take(SHOWN)
        .map(|name| escape_control(&name.to_string_lossy()).into_owned())
        .join(", ");
    if directories.len() > SHOWN {
        shown + " and others"
    } else {
        shown
    }
}
