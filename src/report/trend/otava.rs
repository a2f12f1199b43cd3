//! Runs as Apache Otava (once Hunter) reads them from CSV: a column with the time, one with the commit, one for each series
//! (docs/CSV.md of apache/otava). It turns every cell of a column that it is told to analyse into a number and gives up at one
//! that is empty (`CsvImporter.fetch_data` in otava/importer.py), so columns with gaps are for other eyes.

use std::collections::BTreeMap;

use itertools::Itertools as _;

use super::names;
use crate::analyse::{Point, Series};
use crate::report::output::{csv_text, plain};

/// One row a valid run, in the order of the commits, for the series that share the conditions of the first: runs under other
/// ones are no history of these. A run without any figure has no row, a censored figure no value.
pub fn trend_otava(series: &[Series]) -> Result<String, csv::Error> {
    let same = |one: &&Series| one.conditions == series[0].conditions;
    let own: Vec<Series> = series.iter().filter(same).cloned().collect();
    let fixed = ["time", "commit", "run"].map(str::to_owned);
    let heads = fixed.into_iter().chain(names(&own, column)).join(",");
    let rows = rows(&own).into_iter().map(|(point, values)| {
        let values = values.iter().map(|it| it.map(|it| it.to_string()));
        (
            plain(&point.started_at),
            point.commit.as_deref().map(plain),
            plain(&point.run_id),
            values.collect::<Vec<_>>(),
        )
    });
    csv_text(&heads, rows)
}

/// The runs of any series, with their figures.
fn rows(series: &[Series]) -> Vec<(&Point, Vec<Option<f64>>)> {
    let mut rows: BTreeMap<usize, (&Point, Vec<Option<f64>>)> = BTreeMap::new();
    for (column, one) in series.iter().enumerate() {
        for point in one.points.iter().filter(|point| point.counts()) {
            let row = rows.entry(point.place);
            let (_, values) = row.or_insert_with(|| (point, vec![None; series.len()]));
            values[column] = point.value;
        }
    }
    let is_told = |(_, values): &(&Point, Vec<Option<f64>>)| values.iter().any(Option::is_some);
    rows.into_values().filter(is_told).collect()
}

/// Letters, digits and underscores only.
fn column(one: &Series) -> String {
    // The rate has its unit in its name.
    let unit = (one.unit != "1/s").then(|| one.unit.clone());
    let parts = [
        Some(one.mode.clone()),
        Some(one.figure()),
        one.node.clone(),
        unit,
    ];
    let text = parts.into_iter().flatten().join("_");
    let safe = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    text.chars().map(safe).collect()
}
