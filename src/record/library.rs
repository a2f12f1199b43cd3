//! The directory of results as a whole: which runs it holds, and which of them a name given by the user means.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::files;

/// Finds every run directory in `results`, and in those of its folders that are not runs themselves (such as `published`). Sorted by name,
/// which begins with the time. Symbolic links are not followed.
pub fn run_directories(results: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for folder in folders(results)? {
        if is_run(&folder) {
            found.push(folder);
        } else {
            // A folder that cannot be read holds no run that can be read.
            let inner = folders(&folder).unwrap_or_default();
            found.extend(inner.into_iter().filter(|inner| is_run(inner)));
        }
    }
    found.sort_by(|a, b| a.file_name().cmp(&b.file_name()));
    Ok(found)
}

/// Whether a directory holds a manifest, which may be unreadable.
pub fn is_run(directory: &Path) -> bool {
    directory.join(files::MANIFEST).is_file()
}

fn folders(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let is_hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        if entry.file_type()?.is_dir() && !is_hidden {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// The runs whose directory is named `word`; if there are none, the runs whose directory's name begins with it.
pub fn runs_named(directories: &[PathBuf], word: &str) -> Vec<PathBuf> {
    let name = |directory: &&PathBuf| directory.file_name().unwrap_or_default().to_owned();
    let exact: Vec<PathBuf> = directories
        .iter()
        .filter(|directory| name(directory) == word)
        .cloned()
        .collect();
    if !exact.is_empty() || word.is_empty() {
        return exact;
    }
    let starts = |directory: &&PathBuf| {
        let name = name(directory);
        name.as_encoded_bytes().starts_with(word.as_bytes())
    };
    directories.iter().filter(starts).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_found_in_folders_of_results_and_other_things_left_out() {
        let results = tempfile::tempdir().unwrap();
        for run in ["b", "published/a", ".data/c", "published/deep/d"] {
            let directory = results.path().join(run);
            fs::create_dir_all(&directory).unwrap();
            fs::write(directory.join(files::MANIFEST), "{}").unwrap();
        }
        fs::create_dir(results.path().join("empty")).unwrap();
        fs::write(results.path().join("index.jsonl"), "").unwrap();
        std::os::unix::fs::symlink(results.path().join("b"), results.path().join("link")).unwrap();
        let found = run_directories(results.path()).unwrap();
        let expected = ["published/a", "b"].map(|run| results.path().join(run));
        assert_eq!(found, expected);
    }

    #[test]
    fn a_whole_name_wins_over_those_that_begin_with_it() {
        let directories = ["r/2026-x", "r/2026-x-2", "r/2027"].map(PathBuf::from);
        assert_eq!(
            runs_named(&directories, "2026-x"),
            [PathBuf::from("r/2026-x")]
        );
        assert_eq!(runs_named(&directories, "2026").len(), 2);
        assert!(runs_named(&directories, "").is_empty());
    }
}
