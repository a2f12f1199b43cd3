//! The manifest's checksums: made when a run ends, renewed for files that are drawn anew, and compared with a file before it is read.
//!
//! A run that has not ended has no checksums, and its files are read as they are. No checksum covers the manifest itself. Runs recorded
//! before November 2026 have checksums of the measured files only, and none of `summary.csv`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Component, Path};

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::rows::open_file;
use super::{Manifest, files};

/// What to do with a file that is not as it was recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnMismatch {
    LeaveOut,
    /// Read the file nevertheless, as with `--force`.
    Use,
}

impl OnMismatch {
    /// `Use` if `--force` was given.
    pub fn forced(is_forced: bool) -> Self {
        if is_forced { Self::Use } else { Self::LeaveOut }
    }
}

/// A file that is not as it was recorded.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Altered {
    /// Relative to the run directory.
    pub name: String,
    problem: String,
}

impl fmt::Display for Altered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, problem } = self;
        write!(f, "`{name}` is not as it was recorded: {problem}")
    }
}

/// Whether a file is made from the measured files, so that `replbench report` can make it again.
pub fn is_drawn(name: &str) -> bool {
    matches!(name, files::SUMMARY | files::REPORT) || is_in(name, files::CHARTS)
}

fn is_in(name: &str, folder: &str) -> bool {
    Path::new(name).starts_with(folder)
}

/// The files among `names` that are not as the checksums in `manifest` say; none if it has no checksums at all.
pub(super) fn altered(dir: &Path, manifest: &Manifest, names: &[&str]) -> Vec<Altered> {
    let found = names.iter().map(|name| compare(dir, manifest, name));
    found.flatten().collect()
}

fn compare(dir: &Path, manifest: &Manifest, name: &str) -> Option<Altered> {
    if manifest.files.is_empty() {
        return None;
    }
    Some(Altered {
        name: name.to_owned(),
        problem: problem(dir, name, manifest.files.get(name))?,
    })
}

/// Every file of the run that is not as its manifest says. The files that have a checksum are checked, and the measured files, which must
/// have one.
pub fn verify(dir: &Path, manifest: &Manifest) -> Vec<Altered> {
    let mut names: BTreeSet<String> = manifest.files.keys().cloned().collect();
    names.extend(MEASURED.map(str::to_owned));
    let logs = fs::read_dir(dir.join(files::HISTOGRAMS));
    for log in logs.into_iter().flatten().flatten() {
        let name = log.file_name().to_string_lossy().into_owned();
        names.insert(format!("{}/{name}", files::HISTOGRAMS));
    }
    let found = names.par_iter().map(|name| compare(dir, manifest, name));
    found.flatten().collect()
}

const MEASURED: [&str; 5] = [
    files::CELLS,
    files::INTERVALS,
    files::LAG,
    files::VISIBILITY,
    files::EVENTS,
];

/// What is wrong with a file of a finished run; `None` if nothing is.
fn problem(dir: &Path, name: &str, recorded: Option<&String>) -> Option<String> {
    let mut parts = Path::new(name).components();
    if !parts.all(|part| matches!(part, Component::Normal(_))) {
        return Some("no file of a run has such a name".into());
    }
    let path = dir.join(name);
    let Some(recorded) = recorded else {
        let is_unknown = path.exists() && !is_drawn(name);
        return is_unknown.then(|| "the manifest has no checksum of it".into());
    };
    match checksum(&path) {
        Ok(found) if found == *recorded => None,
        Ok(_) => Some("its SHA-256 is not the manifest's".into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Some("it is missing".into()),
        Err(error) => Some(format!("it cannot be read ({error})")),
    }
}

/// The checksums of all files of a run directory, except those that change after the run's end: the manifest, and the files of a session's
/// comparison.
pub(super) fn checksums(dir: &Path) -> io::Result<BTreeMap<String, String>> {
    let mut names = Vec::new();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(dir.join(&folder))? {
            let entry = entry?;
            let name = format!("{folder}{}", entry.file_name().to_string_lossy());
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push(format!("{name}/"));
            } else if kind.is_file() && name != files::MANIFEST && !is_in(&name, files::COMPARISON)
            {
                names.push(name);
            }
        }
    }
    let sums = names.into_par_iter().map(|name| {
        let sum = checksum(&dir.join(&name))?;
        Ok((name, sum))
    });
    sums.collect()
}

pub(super) fn checksum(path: &Path) -> io::Result<String> {
    let mut hasher = Sha256::new();
    let mut file = open_file(path)?;
    let mut chunk = vec![0; 1 << 16];
    loop {
        match file.read(&mut chunk)? {
            0 => break,
            count => hasher.update(&chunk[..count]),
        }
    }
    Ok(hex::encode(hasher.finalize()))
}
