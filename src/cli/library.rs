//! From a word on the command line to a run: a directory, a run id or its beginning, or a git revision.

use std::path::{Path, PathBuf};

use anyhow::anyhow;

use super::{Exit, Stop, git};
use crate::analyse::sheet;
use crate::record::{ReadError, Sheet, is_run, run_directories, runs_named};
use crate::report::clean;

/// The runs that a word may mean: one for a directory or an id, all of a commit's, newest first, for a revision.
pub(super) fn runs_of(word: &str, results: &Path) -> Result<Vec<Sheet>, Stop> {
    let path = Path::new(word);
    if is_run(path) {
        return Ok(vec![open(path)?]);
    }
    let directories = directories(results)?;
    let named = runs_named(&directories, word);
    match named.as_slice() {
        [] => runs_of_commit(word, results, &directories),
        [one] => Ok(vec![open(one)?]),
        several => Err(Stop::new(
            Exit::Usage,
            anyhow!(
                "`{}` is the beginning of {} runs: {}; write more of it",
                clean(word),
                several.len(),
                names(several)
            ),
        )),
    }
}

/// The one run that a word means.
pub(super) fn run_of(word: &str, results: &Path) -> Result<Sheet, Stop> {
    let mut runs = runs_of(word, results)?;
    Ok(runs.remove(0))
}

/// Every run in `results`; none when there is no such directory.
pub(super) fn directories(results: &Path) -> Result<Vec<PathBuf>, Stop> {
    match run_directories(results) {
        Ok(found) => Ok(found),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(Stop::new(
            Exit::Results,
            anyhow::Error::new(error)
                .context(format!(
                    "cannot read the results in `{}`; --results names the directory that holds the runs",
                    results.display()
                )),
        )),
    }
}

/// Every run in `results` that reads, oldest first, and a warning for each thing that does not. Two threads read: it is mostly
/// parsing.
pub(super) fn sheets(results: &Path) -> Result<(Vec<Sheet>, Vec<String>), Stop> {
    let directories = directories(results)?;
    let (one, other) = directories.split_at(directories.len() / 2);
    let (first, second) = std::thread::scope(|scope| {
        let second = scope.spawn(|| read_all(other));
        let first = read_all(one);
        (first, second.join().expect("reading a run does not panic"))
    });
    let mut sheets = Vec::new();
    let mut warnings = Vec::new();
    for read in first.into_iter().chain(second) {
        match read {
            Ok(sheet) => {
                let run = &sheet.manifest.run_id;
                warnings.extend(sheet.warnings.iter().map(|it| format!("{run}: {it}")));
                sheets.push(sheet);
            }
            Err(error) => warnings.push(format!("{:#}", anyhow::Error::new(error))),
        }
    }
    Ok((sheets, warnings))
}

fn read_all(directories: &[PathBuf]) -> Vec<Result<Sheet, ReadError>> {
    directories
        .iter()
        .map(|directory| sheet(directory))
        .collect()
}

pub(super) fn open(directory: &Path) -> Result<Sheet, Stop> {
    sheet(directory).map_err(|error| Stop::new(Exit::Results, error))
}

/// Newest first, those of a clean work tree only: a dirty one was not at that commit.
fn runs_of_commit(word: &str, results: &Path, directories: &[PathBuf]) -> Result<Vec<Sheet>, Stop> {
    let stop = |text: String| Stop::new(Exit::Results, anyhow!(text));
    let Some(commit) = git::commit_of(Path::new("."), word) else {
        return Err(stop(format!(
            "`{}` is neither a run directory, nor a run in `{}`, nor a git revision here; `replbench list --runs` shows the runs",
            clean(word),
            results.display()
        )));
    };
    // A run that does not read is no run of that commit.
    let readable = directories
        .iter()
        .rev()
        .filter_map(|directory| sheet(directory).ok());
    let found: Vec<Sheet> = readable
        .filter(|sheet| sheet.manifest.subject.git.as_ref() == Some(&commit))
        .collect();
    if found.is_empty() {
        return Err(stop(format!(
            "no run in `{}` is of `{}` (commit {commit}); check it out and `replbench run` there",
            results.display(),
            clean(word)
        )));
    }
    Ok(found)
}

fn names(directories: &[PathBuf]) -> String {
    const SHOWN: usize = 4;
    let names = directories
        .iter()
        .filter_map(|directory| directory.file_name());
    let names: Vec<_> = names
        .take(SHOWN)
        .map(|name| clean(&name.to_string_lossy()).into_owned())
        .collect();
    let more = if directories.len() > SHOWN {
        " and others"
    } else {
        ""
    };
    names.join(", ") + more
}
