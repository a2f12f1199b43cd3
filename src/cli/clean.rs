//! `replbench clean`: removes what a killed replbench could not.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use super::ab::WORKTREE;
use super::{Exit, Stop, say};
use crate::cluster::state;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Where to look, with what is below; what `ab` has checked out in TMPDIR is looked for besides
    #[arg(default_value = ".")]
    dir: PathBuf,
}

pub(super) fn run(arguments: &Arguments) -> Result<Exit, Stop> {
    let mut cleaned = Vec::new();
    for directory in [arguments.dir.clone()].into_iter().chain(worktrees()) {
        let found = state::clean(&directory).map_err(|error| Stop::new(Exit::Results, error))?;
        cleaned.extend(found);
    }
    if cleaned.is_empty() {
        say(&format!(
            "nothing to clean under {}: no directory there bears replbench's marker",
            arguments.dir.display()
        ));
    }
    for one in cleaned {
        say(&format!("{one}"));
    }
    Ok(Exit::Fine)
}

/// What sessions of this user have checked out; git forgets one that is gone by itself.
fn worktrees() -> impl Iterator<Item = PathBuf> {
    let own = rustix::process::geteuid().as_raw();
    let entries = std::fs::read_dir(std::env::temp_dir());
    let entries = entries.into_iter().flatten().flatten();
    entries.filter_map(move |entry| {
        let name = entry.file_name();
        let is_named = name.as_encoded_bytes().starts_with(WORKTREE.as_bytes());
        let found = entry.metadata().ok().filter(|_| is_named)?;
        (found.is_dir() && found.uid() == own).then(|| entry.path())
    })
}
