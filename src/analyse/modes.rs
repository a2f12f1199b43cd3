//! Modes against each other: medians over repetitions, and ratios to the baseline in pairs of one block.

use std::collections::BTreeMap;

use super::cell::{CellFigures, ReplicaFigures, Spread, cell_figures};
use super::stats::{Estimate, median, paired_ratio};
use crate::record::Run;
use crate::topology::{Quorum, SyncLevel};

/// The modes of a run.
#[derive(Debug, Clone)]
pub struct ModesTable {
    /// The first mode of the plan; others are compared with it.
    pub baseline: Option<String>,
    /// In the order of the plan.
    pub modes: Vec<ModeFigures>,
    /// Cells that are in no figure.
    pub excluded: Vec<Excluded>,
}

/// A mode over its valid repetitions. Times are seconds; infinite means that a commit was not seen before the drain ended.
#[derive(Debug, Clone)]
pub struct ModeFigures {
    pub mode: String,
    /// What a commit waits for, if the manifest says.
    pub explanation: Option<String>,
    pub valid: usize,
    pub invalid: usize,
    pub achieved_tps: Option<Estimate>,
    pub service_p50: Option<Estimate>,
    pub response_p50: Option<Estimate>,
    pub response_p99: Option<Estimate>,
    /// On the replica where it is worst in each repetition.
    pub visibility_p50: Option<Estimate>,
    pub visibility_p99: Option<Estimate>,
    /// On the replica where it is best; `None` where there is one replica only.
    pub visibility_best_p50: Option<Estimate>,
    pub visibility_best_p99: Option<Estimate>,
    /// Median width of the intervals that visibility is known by, on the replica where they are widest.
    pub visibility_resolution: Option<f64>,
    /// The 99th percentile of the samples, on the worst replica.
    pub lag_p99_bytes: Option<Estimate>,
    /// The most of any sample of any repetition, and the replica.
    pub lag_peak: Option<(f64, String)>,
    pub unseen: u64,
    /// Samples in which a replica was gone.
    pub gaps: u64,
    /// Samples that a replica's upstream did not answer.
    pub unanswered: u64,
    /// `None` for the baseline itself and where no block has both.
    pub ratios: Option<Ratios>,
}

impl ModeFigures {
    /// Whether a visibility of so many seconds is no more than an upper bound, because the looks that found it lie as far apart
    /// as it is large.
    pub fn is_upper_bound(&self, seconds: f64) -> bool {
        let resolution = self.visibility_resolution;
        seconds.is_finite() && resolution.is_some_and(|resolution| resolution >= seconds.abs())
    }
}

/// Factors to the baseline, paired by block.
#[derive(Debug, Clone, Copy)]
pub struct Ratios {
    pub response_p50: Option<Estimate>,
    pub response_p99: Option<Estimate>,
    pub service_p50: Option<Estimate>,
    pub achieved_tps: Option<Estimate>,
}

/// A cell that counts for nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excluded {
    pub cell_id: u32,
    pub mode: String,
    pub rep: u32,
    pub reason: String,
}

/// The table of modes.
pub fn modes_table(run: &Run) -> ModesTable {
    from_figures(run, &cell_figures(run))
}

pub(super) fn from_figures(run: &Run, cells: &[CellFigures]) -> ModesTable {
    let names = run.mode_names();
    let baseline = names.first().cloned();
    let of_mode = |name: &str| -> Vec<&CellFigures> {
        cells
            .iter()
            .filter(|cell| cell.valid && cell.mode == name)
            .collect()
    };
    let base = baseline.as_deref().map(of_mode).unwrap_or_default();
    let modes = names
        .iter()
        .map(|name| {
            let mut figures = mode_figures(run, name, &of_mode(name));
            figures.invalid = run
                .cells
                .iter()
                .filter(|cell| !cell.valid && &cell.mode == name)
                .count();
            if baseline.as_ref() != Some(name) {
                figures.ratios = ratios(&of_mode(name), &base);
            }
            figures
        })
        .collect();
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
        baseline,
        modes,
        excluded: excluded.collect(),
    }
}

fn mode_figures(run: &Run, name: &str, cells: &[&CellFigures]) -> ModeFigures {
    let over = |figure: &dyn Fn(&CellFigures) -> Option<f64>| {
        let values: Vec<f64> = cells.iter().filter_map(|cell| figure(cell)).collect();
        median(&values)
    };
    let replicas = || cells.iter().flat_map(|cell| &cell.replicas);
    let mode = run.mode(name);
    ModeFigures {
        mode: name.to_owned(),
        explanation: mode.as_ref().map(crate::topology::Mode::explain),
        valid: cells.len(),
        invalid: 0,
        achieved_tps: over(&|cell| Some(cell.achieved_tps)),
        service_p50: over(&|cell| cell.service.map(p50)),
        response_p50: over(&|cell| cell.response.map(p50)),
        response_p99: over(&|cell| cell.response.map(p99)),
        visibility_p50: over(&|cell| worst(cell, |replica| replica.visibility.map(p50))),
        visibility_p99: over(&|cell| worst(cell, |replica| replica.visibility.map(p99))),
        visibility_best_p50: over(&|cell| best(cell, |replica| replica.visibility.map(p50))),
        visibility_best_p99: over(&|cell| best(cell, |replica| replica.visibility.map(p99))),
        visibility_resolution: over(&|cell| worst(cell, |replica| replica.resolution))
            .map(|resolution| resolution.value),
        lag_p99_bytes: over(&|cell| worst(cell, |replica| replica.replay_bytes.map(p99))),
        lag_peak: replicas()
            .filter_map(|replica| Some((replica.most_bytes?, replica.node.clone())))
            .max_by(|a, b| a.0.total_cmp(&b.0)),
        unseen: replicas().map(|replica| replica.unseen).sum(),
        gaps: replicas().map(|replica| replica.gaps).sum(),
        unanswered: replicas().map(|replica| replica.unanswered).sum(),
        ratios: None,
    }
}

/// The quantile, or infinity where it is censored.
fn p50(spread: Spread) -> f64 {
    spread.p50.unwrap_or(f64::INFINITY)
}

fn p99(spread: Spread) -> f64 {
    spread.p99.unwrap_or(f64::INFINITY)
}

fn worst(cell: &CellFigures, figure: impl Fn(&ReplicaFigures) -> Option<f64>) -> Option<f64> {
    cell.replicas
        .iter()
        .filter_map(figure)
        .max_by(f64::total_cmp)
}

fn best(cell: &CellFigures, figure: impl Fn(&ReplicaFigures) -> Option<f64>) -> Option<f64> {
    let figures = cell.replicas.iter().filter_map(figure);
    (cell.replicas.len() > 1)
        .then(|| figures.min_by(f64::total_cmp))
        .flatten()
}

/// The replicas that a commit always waits for until they have replayed it. A quorum of any awaits none in particular,
/// unless it is of all.
pub(super) fn awaited_replay(mode: &crate::topology::Mode) -> Vec<String> {
    match (&mode.sync, mode.level) {
        (Some(set), SyncLevel::RemoteApply) => match set.quorum {
            Quorum::First(count) => set.nodes.iter().take(count.into()).cloned().collect(),
            Quorum::Any(count) if usize::from(count) >= set.nodes.len() => set.nodes.clone(),
            Quorum::Any(_) => Vec::new(),
        },
        _ => Vec::new(),
    }
}

fn ratios(cells: &[&CellFigures], base: &[&CellFigures]) -> Option<Ratios> {
    let by_block: BTreeMap<u32, &CellFigures> =
        base.iter().map(|cell| (cell.block, *cell)).collect();
    let pairs: Vec<(&CellFigures, &CellFigures)> = cells
        .iter()
        .filter_map(|cell| Some((*cell, *by_block.get(&cell.block)?)))
        .collect();
    let ratio = |figure: &dyn Fn(&CellFigures) -> Option<f64>| {
        let values: Vec<(f64, f64)> = pairs
            .iter()
            .filter_map(|(cell, base)| Some((figure(cell)?, figure(base)?)))
            .collect();
        // A censored repetition has no ratio, and the mean of the others would flatter the mode.
        let censored = values
            .iter()
            .any(|(a, b)| a.is_infinite() || b.is_infinite());
        if censored {
            None
        } else {
            paired_ratio(&values)
        }
    };
    (!pairs.is_empty()).then(|| Ratios {
        response_p50: ratio(&|cell| cell.response.map(p50)),
        response_p99: ratio(&|cell| cell.response.map(p99)),
        service_p50: ratio(&|cell| cell.service.map(p50)),
        achieved_tps: ratio(&|cell| Some(cell.achieved_tps)),
    })
}
