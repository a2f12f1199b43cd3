//! The figures of a run's cells, from the run's summary or, if that is missing, from what was measured.

use std::collections::BTreeSet;
use std::path::Path;

use super::summary::summarise;
use crate::metric::Metric;
use crate::record::{OnMismatch, ReadError, Run, RunSummary};
use crate::sample::SummaryRow;

/// Reads the run in `dir` with the figures that are compared. A summary that is missing, cut short or older than the cells is made again
/// from the distributions, in memory only. A summary that is not as it was recorded is not made again, unless `on_mismatch` says to use it.
pub fn run_summary(dir: &Path, on_mismatch: OnMismatch) -> Result<RunSummary, ReadError> {
    let mut run_summary = RunSummary::open(dir, on_mismatch, Metric::is_needed)?;
    let is_refused = on_mismatch == OnMismatch::LeaveOut && !run_summary.altered.is_empty();
    if !is_refused && !is_whole(&run_summary) {
        let run = Run::open_with(dir, on_mismatch)?;
        let rows = summarise(&run).into_iter();
        let needed = rows.filter(|row| Metric::is_needed(&row.metric, &row.stat));
        run_summary.figures = Some(needed.collect());
        run_summary.warnings = run.warnings;
        run_summary.altered = run.altered;
    }
    if let Some(rows) = &mut run_summary.figures {
        add_shares(rows);
    }
    Ok(run_summary)
}

/// Adds the shares to summaries of older runs, which have only the counts.
fn add_shares(rows: &mut Vec<SummaryRow>) {
    let share = |row: &SummaryRow| {
        let metric = Metric::of(&format!("{}_share", row.metric), "value")?;
        let count = row.value.filter(|_| row.n > 0)?;
        Some(SummaryRow {
            metric: metric.name().into(),
            unit: metric.unit().as_str().into(),
            value: Some(count / row.n as f64),
            ..row.clone()
        })
    };
    let known: BTreeSet<u32> = rows
        .iter()
        .filter(|row| row.metric.ends_with("_share"))
        .map(|row| row.cell_id)
        .collect();
    let old = rows.iter().filter(|row| !known.contains(&row.cell_id));
    let shares: Vec<SummaryRow> = old.filter_map(share).collect();
    rows.extend(shares);
}

/// Whether the summary has every cell, as the same repetition. Compares ids, because a mode's name may carry a guard against CSV formulas.
fn is_whole(run_summary: &RunSummary) -> bool {
    let Some(figures) = &run_summary.figures else {
        return false;
    };
    let known: BTreeSet<(u32, u32)> = figures.iter().map(|row| (row.cell_id, row.rep)).collect();
    let mut cells = run_summary.cells.iter();
    cells.all(|cell| known.contains(&(cell.cell_id, cell.rep)))
}
