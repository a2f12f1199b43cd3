//! A trend for people and programs: text for a terminal, JSON, CSV, and the formats of other tools. Only formats figures: `analyse` has
//! decided on the changes.

mod exports;
mod openmetrics;
mod otava;
mod sparkline;
mod table;
mod text;

pub use exports::trend_github_action_benchmark;
pub use openmetrics::trend_openmetrics;
pub use otava::trend_otava;
pub use table::{trend_csv, trend_json};
pub use text::trend_text;

use itertools::Itertools as _;

use crate::analyse::Series;

/// A name for each series. If several series have the same name, the id of each is appended to it.
fn names(series: &[Series], name: impl Fn(&Series) -> String) -> Vec<String> {
    let count = series.iter().map(&name).counts();
    let unique = |series: &Series| match name(series) {
        shared if count[&shared] > 1 => format!("{shared}_{}", series.id),
        own => own,
    };
    series.iter().map(unique).collect()
}
