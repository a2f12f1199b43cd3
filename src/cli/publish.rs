//! `replbench publish`: writes a static site with all runs.

use std::path::PathBuf;

use anyhow::anyhow;
use clap::Args;

use super::{Exit, Stop, git, print, warn};
use crate::publish::{Options, PublishError, Published};
use crate::record::OnMismatch;
use crate::units::{counted, thousands};

/// Make a static site of the results: runs, comparisons, histories, raw files
#[derive(Debug, Args)]
#[command(after_help = "\
The site opens from disk (file://), asks nothing of the network and can be put on any web server. Publishing again into \
the same directory replaces what changed and removes what is gone. Raw files are hard links where the file system \
allows: they take no room, and must not be edited in place. Every file is compared with its SHA-256 in the manifest; a run \
with one that is not as it was recorded is told of and left out.

Exit codes: 0 fine, 2 usage, 6 the results cannot be read or the site cannot be written, or a run was left out because \
a file of it is not as it was recorded.")]
pub(super) struct PublishArgs {
    /// The site's directory: a new or empty one, or a site that was published before
    #[arg(long, value_name = "DIR")]
    out: PathBuf,

    /// Where run directories are
    #[arg(long, value_name = "DIR", default_value = "results")]
    results: PathBuf,

    /// The repository of what was benchmarked, for the order of its commits
    #[arg(long, value_name = "DIR", default_value = ".")]
    repo: PathBuf,

    /// Publish runs with files that are not as they were recorded, too, and say so on their pages
    #[arg(long)]
    force: bool,

    /// What the site calls itself
    #[arg(long, value_name = "TEXT", default_value = "Replication benchmarks")]
    title: String,
}

pub(super) fn publish(arguments: &PublishArgs) -> Result<Exit, Stop> {
    if !arguments.results.is_dir() {
        return Err(Stop::usage(anyhow!(
            "`{}` is not a directory; --results names the one that holds the runs",
            arguments.results.display()
        )));
    }
    let options = Options {
        results: arguments.results.clone(),
        out: arguments.out.clone(),
        title: arguments.title.clone(),
        on_mismatch: OnMismatch::forced(arguments.force),
        order: git::commits_in_order(&arguments.repo),
    };
    let published = crate::publish::publish(&options).map_err(|error| {
        let exit = match error {
            PublishError::Foreign(_) => Exit::Usage,
            _ => Exit::Results,
        };
        Stop::new(exit, error)
    })?;
    for warning in &published.warnings {
        warn(warning);
    }
    print(&text(&published))?;
    Ok(if published.altered == 0 {
        Exit::Fine
    } else {
        Exit::Results
    })
}

fn text(published: &Published) -> String {
    let count = |number: usize, noun: &str| counted(number as u64, noun);
    format!(
        "{}, {}, {} series: {} (the largest has {} kB), {} linked, {} copied, {} removed\n{}\n",
        count(published.runs, "run"),
        count(published.comparisons, "comparison"),
        thousands(published.series as u64),
        count(published.pages, "page"),
        thousands(published.largest_page.div_ceil(1000) as u64),
        count(published.linked, "raw file"),
        thousands(published.copied as u64),
        thousands(published.removed as u64),
        published.index.display()
    )
}
