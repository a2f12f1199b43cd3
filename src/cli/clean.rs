//! `replbench clean`: removes what a killed replbench could not.

use std::path::PathBuf;

use super::{Exit, Stop, say};
use crate::cluster::kept;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Where to look, with what is below.
    #[arg(default_value = ".")]
    dir: PathBuf,
}

pub(super) fn run(arguments: &Arguments) -> Result<Exit, Stop> {
    let cleaned = kept::clean(&arguments.dir).map_err(|error| Stop::new(Exit::Results, error))?;
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
