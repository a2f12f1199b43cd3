//! Queries of git: the commit of a revision, the order of commits, and the root of a repository.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::note;
use crate::cluster::process;

pub(super) fn git(directory: &Path) -> Command {
    let mut git = process::command("git");
    git.current_dir(directory);
    git
}

/// The commit that a revision names in the repository of `directory`; `None` when it names none, or there is no repository.
pub(super) fn commit_of(directory: &Path, revision: &str) -> Option<String> {
    let commit = format!("{revision}^{{commit}}");
    let arguments = ["--verify", "--quiet", "--end-of-options", &commit];
    rev_parse(directory, &arguments)
}

/// The root of the work tree that contains `directory`; `None` if there is none.
pub(super) fn top_level(directory: &Path) -> Option<PathBuf> {
    rev_parse(directory, &["--show-toplevel"]).map(PathBuf::from)
}

fn rev_parse(directory: &Path, arguments: &[&str]) -> Option<String> {
    let output = git(directory)
        .arg("rev-parse")
        .args(arguments)
        .output()
        .ok()?;
    let answer = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (output.status.success() && !answer.is_empty()).then_some(answer)
}

/// All commits of the repository of `directory`, each after its parents. Empty, with a note, if git cannot list them.
pub(super) fn commits_in_order(directory: &Path) -> Vec<String> {
    list_commits(directory).unwrap_or_else(|error| {
        note(&format!("runs stand by time: {error:#}"));
        Vec::new()
    })
}

fn list_commits(directory: &Path) -> Result<Vec<String>> {
    let output = git(directory)
        .args(["rev-list", "--topo-order", "--reverse", "--all", "HEAD"])
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
