//! `replbench clean`: removes servers and directories that a killed replbench has left.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use super::ab::WORKTREE;
use super::servers;
use super::signals::interruptible;
use super::{Exit, OrExit as _, Stop, say};
use crate::cluster::{compose, existing, state};
use crate::plan::OWN_SCHEMA;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Where to look, with what is below; what `ab` has checked out in TMPDIR, and compose projects of replbench's, are looked for besides
    #[arg(default_value = ".")]
    dir: PathBuf,

    /// Instead, remove from this server the schema that a killed run on existing servers left there
    #[arg(long, value_name = "CONNINFO", conflicts_with = "dir")]
    primary: Option<String>,

    /// A subscriber of it, from which its subscription is removed as well; may be given several times
    #[arg(long, value_name = "CONNINFO", requires = "primary")]
    subscriber: Vec<String>,
}

pub(super) fn run(arguments: &Arguments) -> Result<Exit, Stop> {
    if let Some(primary) = &arguments.primary {
        return clean_servers(primary, &arguments.subscriber);
    }
    let mut cleaned = Vec::new();
    for directory in [arguments.dir.clone()].into_iter().chain(worktrees()) {
        let found = state::clean(&directory).or_exit(Exit::Results)?;
        cleaned.extend(found);
    }
    for one in &cleaned {
        say(&format!("{one}"));
    }
    let projects = interruptible(async |_| compose::clean().await.or_exit(Exit::Server))?;
    for project in &projects {
        say(&format!("{project}"));
    }
    if cleaned.is_empty() && projects.is_empty() {
        say(&format!(
            "nothing to clean under {}: no directory there bears replbench's marker",
            arguments.dir.display()
        ));
    }
    Ok(Exit::Fine)
}

fn clean_servers(primary: &str, subscribers: &[String]) -> Result<Exit, Stop> {
    let primary = servers::read(primary)?;
    let subscribers = subscribers
        .iter()
        .map(|it| servers::read(&servers::named(it).1));
    let subscribers = subscribers.collect::<Result<Vec<_>, _>>()?;
    let cleaned = interruptible(async |_| {
        let cleaned = existing::clean(&subscribers, &primary, OWN_SCHEMA).await;
        cleaned.or_exit(Exit::Server)
    })?;
    if cleaned.is_empty() {
        say("nothing to clean there: no schema replbench");
    }
    for place in cleaned {
        say(&format!(
            "removed schema replbench from {place}, with all that was in it"
        ));
    }
    Ok(Exit::Fine)
}

/// The directories of this user's worktrees in TMPDIR. Git drops the record of a removed worktree by itself.
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
