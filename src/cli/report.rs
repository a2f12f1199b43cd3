//! `replbench report`: everything that can be rebuilt from a run directory.

use std::path::PathBuf;

use clap::Args;

use super::{Exit, Stop};
use crate::analyse::headline;
use crate::record::Run;
use crate::report::{clean, text_table, write_run};

/// Without a terminal that says otherwise.
const WIDTH: usize = 80;

#[derive(Debug, Args)]
pub(super) struct ReportArguments {
    /// A run directory, such as `results/20260714T091503Z-sync-vs-async-3f2a91c`
    dir: PathBuf,
    /// Print the path of the report only
    #[arg(short, long)]
    quiet: bool,
}

pub(super) fn report(arguments: &ReportArguments) -> Result<Exit, Stop> {
    let unreadable = |error: crate::record::ReadError| Stop::new(Exit::Results, error);
    let run = Run::open(&arguments.dir).map_err(unreadable)?;
    let outputs = write_run(&run).map_err(|error| Stop::new(Exit::Results, error))?;
    if !arguments.quiet {
        for warning in &run.warnings {
            anstream::eprintln!("warning: {}", clean(warning));
        }
        for sentence in headline(&run) {
            anstream::println!("{}\n", clean(&sentence));
        }
        anstream::println!("{}", text_table(&run, WIDTH));
    }
    anstream::println!("{}", outputs.html.display());
    Ok(Exit::Fine)
}
