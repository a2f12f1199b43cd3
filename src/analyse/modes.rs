//! The modes of a run side by side: their figures over repetitions, and how each differs from the baseline. The ratios are taken from
//! [`compare_modes`], so that a report and `compare --by mode` say the same.

use super::aggregate::{Figure, ModeSummary, mode_summaries};
use super::compare::{Bounds, Comparison, Row, Terms, compare_modes};
use super::stats::Estimate;
use super::summary::summary_of;
use crate::metric::{CellFigures, Scale};
use crate::plan::VisibilityMethod;
use crate::record::{Run, RunSummary};

/// The modes of a run.
#[derive(Debug, Clone)]
pub struct ModesTable {
    /// The first mode of the plan; the other modes are compared with it.
    pub baseline: Option<String>,
    /// In the order of the plan.
    pub modes: Vec<ModeFigures>,
    /// Cells that no figure includes.
    pub excluded: Vec<Excluded>,
    /// The comparison of every mode with the baseline; `None` if there is only one mode.
    pub comparison: Option<Comparison>,
    /// How the probes found out when standbys showed a commit; `None` if the manifest does not say.
    pub method: Option<VisibilityMethod>,
}

/// The figures of a mode over its valid repetitions. Times are in seconds; an infinite time falls among the censored observations, such as
/// commits that were not seen before the drain ended.
#[derive(Debug, Clone)]
pub struct ModeFigures {
    pub mode: String,
    /// What a commit waits for; `None` if the manifest does not say.
    pub explanation: Option<String>,
    pub valid: usize,
    pub invalid: usize,
    pub achieved_tps: Option<Estimate>,
    pub service_p50: Option<Estimate>,
    pub response_p50: Option<Estimate>,
    pub response_p99: Option<Estimate>,
    /// The visibility delay on the replica where it is largest, which [`Self::summary`] names.
    pub visibility_p50: Option<Estimate>,
    pub visibility_p99: Option<Estimate>,
    /// The visibility delay on the replica where it is smallest; `None` if there is only one replica.
    pub visibility_best_p50: Option<Estimate>,
    pub visibility_best_p99: Option<Estimate>,
    /// Median width of the intervals in which visibility delays are known to lie, in seconds, on the replica of `visibility_p99`.
    pub visibility_resolution: Option<f64>,
    /// The 99th percentile of the lag samples, in bytes, on the replica where it is largest.
    pub lag_p99_bytes: Option<Estimate>,
    /// The largest replay lag in any sample of any repetition, in bytes, and the replica.
    pub lag_peak: Option<(f64, String)>,
    pub unseen: u64,
    /// Samples in which a replica was gone.
    pub gaps: u64,
    /// Samples that a replica's upstream did not answer.
    pub unanswered: u64,
    /// `None` for the baseline itself, and if no block has both modes.
    pub ratios: Option<Ratios>,
    /// Every figure of the mode, in the units of `summary.csv`.
    pub summary: ModeSummary,
}

impl ModeFigures {
    /// Whether a visibility delay of this many seconds is only an upper bound, because the distance between the looks is as large or
    /// larger.
    pub fn is_upper_bound(&self, seconds: f64) -> bool {
        let resolution = self.visibility_resolution;
        seconds.is_finite() && resolution.is_some_and(|resolution| resolution >= seconds.abs())
    }
}

/// Ratios of a mode's figures to the baseline's, paired by block; `None` if a figure of a pair is censored.
#[derive(Debug, Clone, Copy)]
pub struct Ratios {
    pub response_p50: Option<Estimate>,
    pub response_p99: Option<Estimate>,
}

/// An invalid cell, which no figure includes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excluded {
    pub cell_id: u32,
    pub mode: String,
    pub rep: u32,
    pub reason: String,
}

/// The table of modes, from the figures of every cell.
pub(super) fn from_figures(run: &Run, cells: &[CellFigures]) -> ModesTable {
    let run_summary = RunSummary {
        dir: run.dir.clone(),
        manifest: run.manifest.clone(),
        cells: run.cells.clone(),
        figures: Some(summary_of(run, cells)),
        warnings: Vec::new(),
        altered: Vec::new(),
    };
    // The modes of an invalid run are compared as well; another sentence says that the run is invalid.
    let terms = Terms {
        force: true,
        ..Terms::default()
    };
    let comparison = compare_modes(&run_summary, &terms).ok();
    let modes = mode_summaries(&run_summary).into_iter().map(|summary| {
        let ratios = comparison.as_ref().and_then(|it| ratios(it, &summary.mode));
        mode_figures(run, cells, summary, ratios)
    });
    let excluded = run
        .cells
        .iter()
        .filter(|cell| !cell.valid)
        .map(|cell| Excluded {
            cell_id: cell.cell_id,
            mode: cell.mode.clone(),
            rep: cell.rep,
            reason: cell.notes.clone(),
        });
    ModesTable {
        baseline: run.mode_names().into_iter().next(),
        modes: modes.collect(),
        excluded: excluded.collect(),
        comparison,
        method: run.manifest.plan.probes.map(|probes| probes.method),
    }
}

impl ModesTable {
    /// Advice for a resolution that is too coarse, as a sentence after a space; empty if there is no finer method.
    pub fn finer(&self) -> &'static str {
        match self.method {
            Some(VisibilityMethod::Push) => {
                " `--visibility looks` resolves finer, and disturbs more."
            }
            Some(VisibilityMethod::Looks) | None => "",
        }
    }

    /// The row of the comparison with the baseline for a figure of the mode as a whole.
    pub(super) fn row(&self, mode: &str, metric: &str, stat: &str) -> Option<&Row> {
        row(self.comparison.as_ref()?, mode, metric, stat)
    }
}

fn row<'a>(comparison: &'a Comparison, mode: &str, metric: &str, stat: &str) -> Option<&'a Row> {
    comparison.rows.iter().find(|row| {
        let names = (row.metric.as_str(), row.stat.as_str());
        row.head_mode == mode && row.node.is_none() && names == (metric, stat)
    })
}

pub(super) const MICROS: f64 = 1e-6;

fn mode_figures(
    run: &Run,
    cells: &[CellFigures],
    summary: ModeSummary,
    ratios: Option<Ratios>,
) -> ModeFigures {
    let largest = |metric, stat, scale| scaled(summary.worst(metric, stat), scale);
    let smallest = |stat| scaled(summary.best("visibility", stat), MICROS);
    let valid = cells
        .iter()
        .filter(|cell| cell.valid && cell.mode == summary.mode);
    let replicas = || valid.clone().flat_map(|cell| &cell.replicas);
    let mode = run.mode(&summary.mode);
    ModeFigures {
        mode: summary.mode.clone(),
        explanation: mode.map(crate::mode::Mode::explain),
        valid: summary.valid,
        invalid: summary.invalid,
        achieved_tps: largest("achieved_tps", "value", 1.0),
        service_p50: largest("service", "p50", MICROS),
        response_p50: largest("response", "p50", MICROS),
        response_p99: largest("response", "p99", MICROS),
        visibility_p50: largest("visibility", "p50", MICROS),
        visibility_p99: largest("visibility", "p99", MICROS),
        visibility_best_p50: smallest("p50"),
        visibility_best_p99: smallest("p99"),
        visibility_resolution: summary
            .worst("visibility", "p99")
            .and_then(|figure| figure.resolution)
            .map(|us| us * MICROS),
        lag_p99_bytes: largest("replay_lag_bytes", "p99", 1.0),
        lag_peak: replicas()
            .filter_map(|replica| Some((replica.replay_bytes?.largest?, replica.node.clone())))
            .max_by(|a, b| a.0.total_cmp(&b.0)),
        unseen: replicas().map(|replica| replica.unseen).sum(),
        gaps: replicas().map(|replica| replica.gaps).sum(),
        unanswered: replicas().map(|replica| replica.unanswered).sum(),
        ratios,
        summary,
    }
}

pub(super) fn scaled(figure: Option<&Figure>, scale: f64) -> Option<Estimate> {
    Some(figure?.estimate?.map(|value| value * scale))
}

fn ratios(comparison: &Comparison, mode: &str) -> Option<Ratios> {
    let ratio = |metric, stat| ratio(row(comparison, mode, metric, stat)?);
    comparison
        .rows
        .iter()
        .any(|row| row.head_mode == mode && row.pairs > Some(0))
        .then(|| Ratios {
            response_p50: ratio("response", "p50"),
            response_p99: ratio("response", "p99"),
        })
}

/// The ratio in a row. A censored repetition has no ratio, and the mean of the others would flatter the mode, so the ratio is then `None`.
fn ratio(row: &Row) -> Option<Estimate> {
    let is_known = row.scale == Scale::Ratio && row.base_censored + row.head_censored == 0;
    Some(Estimate {
        value: row.effect.filter(|_| is_known)?,
        interval: row.interval.and_then(Bounds::closed),
        n: row.pairs?,
    })
}
