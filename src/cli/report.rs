//! `replbench report`: everything that can be rebuilt from a run directory.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;

use super::{Exit, Stop, print};
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
    let drawn = draw(&arguments.dir)?;
    if !arguments.quiet {
        for warning in &drawn.warnings {
            anstream::eprintln!("warning: {}", clean(warning));
        }
        print(&drawn.text)?;
    }
    print(&format!("{}\n", drawn.html.display()))?;
    Ok(Exit::Fine)
}

/// A run's report on disk, and what a terminal shows of it.
pub(super) struct Drawn {
    pub(super) html: PathBuf,
    /// The headline and the table of modes.
    pub(super) text: String,
    warnings: Vec<String>,
}

/// Rebuilds summary, charts and page of a run directory.
pub(super) fn draw(directory: &Path) -> Result<Drawn, Stop> {
    let run = Run::open(directory).map_err(|error| Stop::new(Exit::Results, error))?;
    let outputs = write_run(&run).map_err(|error| Stop::new(Exit::Results, error))?;
    Ok(Drawn {
        html: outputs.html,
        text: text_of(&run),
        warnings: run.warnings,
    })
}

/// The headline and the table of modes.
pub(super) fn text_of(run: &Run) -> String {
    let mut text = String::new();
    for sentence in headline(run) {
        for line in crate::plan::fold(&clean(&sentence), WIDTH) {
            let _ = writeln!(text, "{line}");
        }
        text.push('\n');
    }
    text + &text_table(run, WIDTH)
}
