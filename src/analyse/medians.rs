//! The declared figures of each mode of a run, over its valid repetitions: what a run says in a few lines.

use std::collections::{BTreeMap, BTreeSet};

use super::metric::Metric;
use super::stats::{Estimate, median};
use crate::record::Sheet;

/// A mode of a run.
#[derive(Debug, Clone)]
pub struct ModeMedians {
    pub mode: String,
    pub valid: usize,
    pub invalid: usize,
    /// In the order of their declaration, those of replicas by name.
    pub figures: Vec<FigureMedian>,
}

/// One declared figure.
#[derive(Debug, Clone)]
pub struct FigureMedian {
    pub metric: Metric,
    pub standby: Option<String>,
    /// In the unit of the metric. Infinite when the median falls among the censored; `None` when a value is no number.
    pub median: Option<Estimate>,
}

impl ModeMedians {
    /// The median of a figure; of one that every replica has, that of the replica where it is largest, with its name.
    pub fn worst(&self, metric: &str, stat: &str) -> Option<(Estimate, Option<&str>)> {
        let of_metric = |figure: &&FigureMedian| Some(figure.metric) == Metric::of(metric, stat);
        let known = self.figures.iter().filter(of_metric);
        known
            .filter_map(|figure| Some((figure.median?, figure.standby.as_deref())))
            .max_by(|a, b| a.0.value.total_cmp(&b.0.value))
    }
}

/// The modes in the order of the plan.
pub fn mode_medians(sheet: &Sheet) -> Vec<ModeMedians> {
    let names = sheet.mode_names();
    names.into_iter().map(|mode| of_mode(sheet, mode)).collect()
}

fn of_mode(sheet: &Sheet, mode: String) -> ModeMedians {
    let cells = || sheet.cells.iter().filter(|cell| cell.mode == mode);
    let valid: BTreeSet<u32> = cells()
        .filter(|cell| cell.valid)
        .map(|cell| cell.cell_id)
        .collect();
    let mut by_figure: BTreeMap<(Metric, Option<&String>), Vec<f64>> = BTreeMap::new();
    for row in sheet.figures.iter().flatten() {
        let declared = Metric::of(&row.metric, &row.stat).filter(|metric| metric.is_judged());
        if let Some(metric) = declared.filter(|_| valid.contains(&row.cell_id)) {
            let values = by_figure.entry((metric, row.standby.as_ref())).or_default();
            values.push(row.value.unwrap_or(f64::INFINITY));
        }
    }
    let figures = by_figure
        .into_iter()
        .map(|((metric, standby), values)| FigureMedian {
            metric,
            standby: standby.cloned(),
            median: median(&values),
        });
    ModeMedians {
        figures: figures.collect(),
        invalid: cells().count() - valid.len(),
        valid: valid.len(),
        mode,
    }
}
