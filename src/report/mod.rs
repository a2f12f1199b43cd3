//! Presents what `analyse` decided as a page with charts and as text for the terminal, and writes the files of a report. Makes no
//! decision about figures and connects to no server: everything comes from files, so that an old run can be drawn again.

pub mod audit;
pub(crate) mod chart;
pub(crate) mod comparison;
pub mod gates;
pub(crate) mod html;
mod index;
pub(crate) mod output;
pub(crate) mod text;
mod trend;

use std::path::{Path, PathBuf};

pub use comparison::{
    comparison_csv, comparison_json, comparison_markdown, comparison_text, noise_text,
    write_comparison,
};
pub use index::write_index;
pub use output::ReportError;
pub use text::text_table;
pub use trend::{
    trend_csv, trend_github_action_benchmark, trend_json, trend_openmetrics, trend_otava,
    trend_text,
};

pub use crate::escape::escape_control;

use crate::analyse::{Analysis, summary_of};
use crate::record::{Run, files, renew_checksums};

/// The paths of the files that were written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outputs {
    pub html: PathBuf,
    pub charts: Vec<PathBuf>,
    pub summary: PathBuf,
}

/// Rebuilds `summary.csv`, `report.html` and `charts/*.svg` from the other files of a run directory. If a measured file is not as it was
/// recorded, the summary and the checksums stay as they are.
pub fn write(dir: &Path) -> Result<Outputs, ReportError> {
    let run = Run::open(dir)?;
    write_run(&run, &Analysis::of(&run))
}

/// As [`write()`], for a run that is already read and analysed.
pub fn write_run(run: &Run, analysis: &Analysis) -> Result<Outputs, ReportError> {
    let charts = chart::charts(analysis);
    let folder = output::folder(&run.dir.join(files::CHARTS))?;
    let written = charts.iter().map(|chart| output::draw(chart, &folder));
    let written: Vec<PathBuf> = written.collect::<Result<_, _>>()?;
    let summary = run.dir.join(files::SUMMARY);
    let html = run.dir.join(files::REPORT);
    output::replace(&html, html::page(run, analysis, &charts).as_bytes())?;
    // Figures made from altered files must not replace a summary made from the recorded ones, and their files get no checksum.
    if !run.is_altered() {
        let rows = output::summary_csv(&summary_of(run, &analysis.cells))?;
        output::replace(&summary, rows.as_bytes())?;
        let drawn = written.iter().chain([&summary, &html]);
        let drawn: Vec<&Path> = drawn.map(PathBuf::as_path).collect();
        renew_checksums(&run.dir, &drawn)?;
    }
    Ok(Outputs {
        html,
        charts: written,
        summary,
    })
}
