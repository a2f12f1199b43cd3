//! The static site over many runs: what was found last, each run with its raw files, comparisons, histories, the method.
//! Opens from `file://` and asks nothing of the network.
//!
//! Owns the directory that it writes and the choice of what is compared. Refuses to know git, clocks and servers; draws with what
//! `report` draws with and decides nothing that `analyse` could.

mod comparisons;
mod files;
mod frame;
mod method;
mod results;
mod run;
mod run_catalog;
mod site;
mod trend;

use std::io;
use std::path::{Path, PathBuf};

use crate::record::OnMismatch;
use crate::report::ReportError;
use frame::Frame;
use run_catalog::RunCatalog;
use site::Site;

/// What to publish, and where.
#[derive(Debug, Clone)]
pub struct Options {
    /// The directory of results.
    pub results: PathBuf,
    /// The site's directory: new, empty, or a site of ours.
    pub out: PathBuf,
    /// What the site calls itself.
    pub title: String,
    /// What becomes of a run of which a file is not as it was recorded.
    pub on_mismatch: OnMismatch,
    /// The commits of the benchmarked repository, each after its parents.
    pub order: Vec<String>,
}

/// What was published.
#[derive(Debug, Clone, Default)]
pub struct Published {
    /// The first page.
    pub index: PathBuf,
    pub runs: usize,
    pub comparisons: usize,
    pub series: usize,
    pub pages: usize,
    pub largest_page: usize,
    /// Raw files that share their content with the originals, and those that had to be copied.
    pub linked: usize,
    pub copied: usize,
    /// What an earlier publication had and this one has not.
    pub removed: usize,
    /// Runs that were left out because a file is not as it was recorded.
    pub altered: usize,
    /// What could not be read, for a person.
    pub warnings: Vec<String>,
}

/// A site that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    #[error(
        "`{0}` is not empty and no site that replbench published; name a new directory, or empty this one yourself"
    )]
    Foreign(PathBuf),
    #[error("cannot read the results in `{path}`")]
    Results { path: PathBuf, source: io::Error },
    #[error("cannot publish `{path}`; check its directory's permissions and free space")]
    Write { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Report(#[from] ReportError),
}

/// Reads every run and makes the site anew; what is as it was is left alone.
pub fn publish(options: &Options) -> Result<Published, PublishError> {
    let site = Site::open(&options.out)?;
    let (catalog, series) = RunCatalog::read(options)?;
    let frame = Frame::new(options.title.clone(), &catalog, !series.is_empty());
    let comparisons = comparisons::write(&site, &frame, &catalog)?;
    run::write_all(&site, &frame, &catalog, &comparisons)?;
    results::write(&site, &frame, &catalog, &comparisons)?;
    trend::write(&site, &frame, &catalog, &series)?;
    method::write(&site, &frame, &catalog)?;
    Ok(Published {
        index: options.out.join(frame::RESULTS),
        runs: catalog.runs.len(),
        comparisons: comparisons.len(),
        series: series.len(),
        altered: catalog.altered,
        warnings: catalog.warnings(),
        ..site.finish()?
    })
}

/// An error with the path that it is about.
fn failed(path: &Path, source: io::Error) -> PublishError {
    PublishError::Write {
        path: path.to_owned(),
        source,
    }
}
