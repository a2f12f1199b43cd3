//! The static site about many runs: the newest result, each run with its raw files, comparisons, histories, and the method.
//! The site opens from `file://` and loads nothing from the network.
//!
//! This module owns the site's directory and chooses what is compared. It knows nothing of git, clocks and servers, draws with the
//! functions of `report`, and leaves every decision about figures to `analyse`.

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
    /// The site's directory: new, empty, or a site that replbench has published.
    pub out: PathBuf,
    /// The title of the site.
    pub title: String,
    /// What to do with a run that has a file that is not as it was recorded.
    pub on_mismatch: OnMismatch,
    /// The commits of the benchmarked repository, each after its parents.
    pub order: Vec<String>,
}

/// What was published.
#[derive(Debug, Clone, Default)]
pub struct Published {
    /// Path of the first page.
    pub index: PathBuf,
    pub runs: usize,
    pub comparisons: usize,
    pub series: usize,
    pub pages: usize,
    pub largest_page: usize,
    /// Number of raw files that are hard links to the originals; `copied` is the number of those that had to be copied.
    pub linked: usize,
    pub copied: usize,
    /// Number of files of an earlier publication that this one does not have, and that were removed.
    pub removed: usize,
    /// Number of runs that were left out because a file is not as it was recorded.
    pub altered: usize,
    /// What could not be read, as text for a person.
    pub warnings: Vec<String>,
}

/// Why a site could not be published.
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

/// Reads every run and makes the whole site. Files that have not changed are not written again.
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

/// An I/O error with the path at which it occurred.
fn failed(path: &Path, source: io::Error) -> PublishError {
    PublishError::Write {
        path: path.to_owned(),
        source,
    }
}
