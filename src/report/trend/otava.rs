//! Runs as Apache Otava (formerly Hunter) reads them from CSV: a column with the time, one with the commit, one for each series
//! (docs/CSV.md of apache/otava). Otava turns every cell of an analysed column into a number and fails at an empty cell
//! (`CsvImporter.fetch_data` in otava/importer.py), so columns with gaps are useful to other tools only.

use std::collections::BTreeMap;

use itertools::Itertools as _;

use super::names;
use crate::analyse::{Point, Series};
use crate::report::output::{csv_text, plain};

/// A row for each valid run, in the order of the commits. Only series with the conditions of the first series are included, because runs
/// under other conditions do not belong to the same history. A run without any figure has no row, a censored figure has an empty cell.
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

/// The valid runs in their order, each with the figure of every series; runs without any figure are left out.
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

/// The name of a series' column: letters, digits and underscores only.
fn column(one: &Series) -> String {
    // The name of a rate (`achieved_tps`) contains the unit already.
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
