//! What replbench asks git: which commit a word means.

use std::path::Path;

use crate::cluster::process;

/// The commit that a revision names in the repository of `directory`; `None` when it names none, or there is no repository.
pub(super) fn commit_of(directory: &Path, revision: &str) -> Option<String> {
    let arguments = ["rev-parse", "--verify", "--quiet", "--end-of-options"];
    let output = process::command("git")
        .args(arguments)
        .arg(format!("{revision}^{{commit}}"))
        .current_dir(directory)
        .output()
        .ok()?;
    let commit = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (output.status.success() && !commit.is_empty()).then_some(commit)
}
