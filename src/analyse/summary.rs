//! The long form of a run's figures: the rows of `summary.csv`.

use super::cell::cell_figures;
use crate::metric::{CellFigures, Measured, Metric, Unit};
use crate::record::Run;
use crate::sample::{CellRow, SummaryRow};

/// Every figure of every cell. Times are in microseconds; a value is empty when its quantile falls among the censored, and
/// a metric that was not measured has no row.
pub fn summarise(run: &Run) -> Vec<SummaryRow> {
    summary_of(run, &cell_figures(run))
}

/// Like [`summarise`], with the figures given, one element for each cell of the run.
pub fn summary_of(run: &Run, figures: &[CellFigures]) -> Vec<SummaryRow> {
    let cells = run.cells.iter().zip(figures);
    cells
        .flat_map(|(cell, figures)| rows(cell, figures))
        .collect()
}

fn rows(cell: &CellRow, figures: &CellFigures) -> Vec<SummaryRow> {
    let of_cell = Metric::all()
        .filter_map(|metric| Some(row(cell, None, metric, metric.in_cell(cell, figures)?)));
    let of_replicas = figures.replicas.iter().flat_map(|replica| {
        Metric::all().filter_map(move |metric| {
            let measured = metric.in_replica(replica)?;
            Some(row(cell, Some(&replica.node), metric, measured))
        })
    });
    of_cell.chain(of_replicas).collect()
}

fn row(cell: &CellRow, node: Option<&String>, metric: Metric, measured: Measured) -> SummaryRow {
    SummaryRow {
        cell_id: cell.cell_id,
        mode: cell.mode.clone(),
        rep: cell.rep,
        node: node.cloned(),
        metric: metric.name().into(),
        stat: metric.stat.as_str().into(),
        value: match metric.unit() {
            // One of many arrivals must not be rounded away.
            Unit::Share => measured.value.map(|share| rounded(share, 1e9)),
            _ => measured.value.map(|value| rounded(value, 1e3)),
        },
        unit: metric.unit().as_str().into(),
        direction: metric.direction(),
        n: measured.n,
    }
}

/// Rounds to a multiple of 1 / `parts`. Times are rounded to the nanosecond, other units except shares to a thousandth: nothing is measured
/// more precisely, and a sum of binary fractions has a tail of digits.
fn rounded(value: f64, parts: f64) -> f64 {
    (value * parts).round() / parts
}
