//! The newest figures as the GitHub action `benchmark-action/github-action-benchmark` reads them with `tool:
//! customSmallerIsBetter` or `customBiggerIsBetter`: an array of entries with name, unit, value, and optionally range and extra
//! (the action's README, "Action inputs", and `extractCustomBenchmarkResult` in its src/extract.ts).

use serde::Serialize;

use super::names;
use crate::analyse::{Point, Series};
use crate::report::escape_control;
use crate::sample::Direction;

#[derive(Serialize)]
struct Entry<'a> {
    name: String,
    unit: &'a str,
    value: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    range: Option<String>,
    extra: String,
}

/// The newest figure of each series with this direction. A file holds only one direction, because the action applies one to the whole
/// file. A series whose newest figure is censored has no number and is left out.
pub fn trend_github_action_benchmark(series: &[Series], direction: Direction) -> String {
    let names = names(series, name);
    let entries = series.iter().zip(names).filter_map(|(one, name)| {
        let point = one.newest().filter(|_| one.direction == direction)?;
        Some(Entry {
            name,
            unit: &one.unit,
            value: point.value?,
            range: range(point),
            extra: extra(one, point),
        })
    });
    let entries: Vec<_> = entries.collect();
    serde_json::to_string_pretty(&entries).expect("plain data becomes JSON") + "\n"
}

/// The name of a series' entry. The action draws a chart for each name, so the name holds what must be equal for two values to be
/// comparable.
fn name(one: &Series) -> String {
    let of = &one.conditions;
    let node = one.node.as_deref().map(|node| format!(" {node}"));
    let text = format!(
        "{}/{} {}{} (PostgreSQL {})",
        of.profile,
        one.mode,
        one.figure(),
        node.unwrap_or_default(),
        of.postgresql
    );
    escape_control(&text).into_owned()
}

fn range(point: &Point) -> Option<String> {
    Some(format!("{:.3}..{:.3}", point.lo?, point.hi?))
}

fn extra(one: &Series, point: &Point) -> String {
    let commit = point.commit.as_deref().unwrap_or("unknown");
    let text = [
        format!("run: {}", escape_control(&point.run_id)),
        format!("commit: {}", escape_control(commit)),
        format!("repetitions: {}", point.n),
        format!("series: {}", one.id),
    ];
    text.join("\n")
}
