//! What replbench asks git: which commit a word means, and in which order commits stand.

use std::path::Path;

use anyhow::{Context as _, Result, bail};

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

/// All commits of the repository of `directory`, each after its parents.
pub(super) fn commits_in_order(directory: &Path) -> Result<Vec<String>> {
    let output = process::command("git")
        .args(["rev-list", "--topo-order", "--reverse", "--all", "HEAD"])
        .current_dir(directory)
        .output()
        .context("run git")?;
    if !output.status.success() {
        bail!(
            "`{}` has no commits that git can list ({}); name the benchmarked repository with --repo",
            directory.display(),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().map(str::to_owned).collect())
}
