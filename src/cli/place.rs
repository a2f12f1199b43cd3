//! The arguments for the directories of a run, its tags, and how much of it is shown, shared by `run`, `ab` and `aa`.

use std::path::PathBuf;

use clap::Args;

use super::progress::Verbosity;
use crate::run::Options;

#[derive(Debug, Args)]
#[command(next_help_heading = "Place and output")]
pub(super) struct PlaceArgs {
    /// Where run directories go
    #[arg(long, value_name = "DIR", default_value = "results")]
    pub(super) results: PathBuf,

    /// Where the servers keep their data while the run lasts; by default beside the results
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,

    /// Directory of PostgreSQL's programs
    #[arg(long, value_name = "DIR")]
    pg_bindir: Option<PathBuf>,

    /// A word to find the run by, kept in its manifest
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = parse_tag)]
    tags: Vec<(String, String)>,

    /// Print what would be done, and stop
    #[arg(long)]
    pub(super) dry_run: bool,

    /// Print the results alone
    #[arg(short, long)]
    quiet: bool,
}

fn parse_tag(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.into(), value.into())),
        _ => Err("a tag is written KEY=VALUE".into()),
    }
}

impl PlaceArgs {
    pub(super) fn verbosity(&self) -> Verbosity {
        if self.quiet {
            Verbosity::Quiet
        } else {
            Verbosity::Normal
        }
    }

    pub(super) fn options(&self) -> Options {
        Options {
            results: self.results.clone(),
            data_dir: self.data_dir.clone(),
            pg_bindir: self.pg_bindir.clone(),
            given: None,
            // An argument may be a path that is not UTF-8.
            argv: std::env::args_os()
                .map(|argument| argument.to_string_lossy().into_owned())
                .collect(),
            tags: self.tags.iter().cloned().collect(),
            subject: None,
        }
    }
}
