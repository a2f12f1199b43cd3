//! The points of a run: for each of its modes and metrics, the figure over the valid repetitions.

use std::collections::{BTreeMap, HashMap};

use serde_json::json;

use super::conditions::{Conditions, digest, settings_digest};
use super::{Metric, Point};
use crate::analyse::aggregate::over_repetitions;
use crate::record::{Manifest, RunSummary};
use crate::sample::CellRow;

/// What tells a series from others. The order of the fields is the order in which series are shown.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Identity {
    pub(super) conditions: Conditions,
    pub(super) mode: String,
    pub(super) metric: Metric,
    pub(super) node: Option<String>,
    pub(super) settings: String,
}

impl Identity {
    /// A digest that names the series; it is the same whenever the series is computed.
    pub(super) fn id(&self) -> String {
        digest(&json!([
            self.conditions,
            self.settings,
            self.mode,
            self.metric,
            self.node
        ]))
    }
}

type Figure<'a> = (&'a str, Metric, Option<&'a str>);

/// A point for every figure that any cell of the run has. If all cells with the figure are invalid, the point has no value.
pub(super) fn of(run_summary: &RunSummary, place: usize) -> Vec<(Identity, Point)> {
    let cells: HashMap<u32, &CellRow> = run_summary
        .cells
        .iter()
        .map(|cell| (cell.cell_id, cell))
        .collect();
    let mut figures: BTreeMap<Figure, Vec<f64>> = BTreeMap::new();
    for row in run_summary.figures.iter().flatten() {
        let metric = Metric::of(&row.metric, &row.stat);
        let (Some(cell), Some(metric)) = (cells.get(&row.cell_id), metric) else {
            continue;
        };
        let key = (cell.mode.as_str(), metric, row.node.as_deref());
        let values = figures.entry(key).or_default();
        if cell.valid {
            values.push(row.value.unwrap_or(f64::INFINITY));
        }
    }
    let conditions = Conditions::of(&run_summary.manifest);
    let mut digests: HashMap<&str, String> = HashMap::new();
    let judged = figures.iter().filter(|((_, it, _), _)| it.is_judged());
    let points = judged.map(|(&(mode, metric, node), values)| {
        let digest = || settings_digest(&run_summary.manifest, mode);
        let identity = Identity {
            conditions: conditions.clone(),
            mode: mode.to_owned(),
            metric,
            node: node.map(Into::into),
            settings: digests.entry(mode).or_insert_with(digest).clone(),
        };
        let from_send = metric.from_send().and_then(|whole| {
            let values = figures.get(&(mode, whole, node))?;
            let whole = over_repetitions(whole, values)?.value;
            whole.is_finite().then_some(whole)
        });
        let mut point = point(&run_summary.manifest, place, metric, values);
        point.yardstick = from_send;
        (identity, point)
    });
    points.collect()
}

fn point(manifest: &Manifest, place: usize, metric: Metric, values: &[f64]) -> Point {
    let estimate = over_repetitions(metric, values);
    let interval = estimate.and_then(|estimate| estimate.interval);
    let finite = |value: f64| Some(value).filter(|value| value.is_finite());
    Point {
        place,
        run_id: manifest.run_id.clone(),
        commit: manifest.subject.git.clone(),
        started_at: manifest.started_at.clone(),
        status: manifest.status,
        value: estimate.and_then(|estimate| finite(estimate.value)),
        lo: interval.and_then(|interval| finite(interval.lo)),
        hi: interval.and_then(|interval| finite(interval.hi)),
        n: values.len(),
        censored: values.iter().filter(|value| value.is_infinite()).count(),
        yardstick: None,
    }
}
