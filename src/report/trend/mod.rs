//! A trend for people and machines: lines for a terminal, JSON, CSV, and the forms that other tools read. Words figures; decides
//! nothing.

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

/// A name for each series, the same as long as no other series has it too: then both get their id.
fn names(series: &[Series], name: impl Fn(&Series) -> String) -> Vec<String> {
    let count = series.iter().map(&name).counts();
    let unique = |series: &Series| match name(series) {
        shared if count[&shared] > 1 => format!("{shared}_{}", series.id),
        own => own,
    };
    series.iter().map(unique).collect()
}
