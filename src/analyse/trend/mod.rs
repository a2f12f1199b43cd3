//! The history of every figure over the commits of what was benchmarked: one series for each combination of conditions under
//! which runs may be compared, one point a run, and where its level changed.
//!
//! Pure: the order of the commits and the blessings are given. Sees neither git nor a clock.

mod blessing;
mod conditions;
mod level;
mod order;
mod points;

use std::collections::BTreeMap;

use rayon::prelude::*;
use serde::Serialize;

pub use blessing::{BLESSED, Blessing, read_blessings};
pub use conditions::Conditions;
pub use level::Change;

use crate::metric::{Metric, Unit};
use crate::record::{RunStatus, RunSummary};
use crate::sample::Direction;
use order::{History, in_order};
use points::Identity;

/// Version of the JSON form of a trend. Rises when a reader of an older version would misread it.
pub const TREND_VERSION: u32 = 1;

/// One figure of one mode under the same conditions, from the oldest commit to the newest.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Series {
    /// A digest of everything that tells this series from others; it stays the same as runs are added.
    pub id: String,
    pub conditions: Conditions,
    /// A digest of the settings of the mode's servers, of the mode itself and of the probes.
    pub settings: String,
    pub mode: String,
    pub node: Option<String>,
    pub metric: String,
    pub stat: String,
    /// As in `summary.csv`: `us`, `B`, `1/s`.
    pub unit: String,
    pub direction: Direction,
    pub points: Vec<Point>,
    pub changes: Vec<Change>,
}

/// One run in a series.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Point {
    /// The run's place in the order of all runs that were given, of whichever series.
    pub place: usize,
    pub run_id: String,
    /// The commit that was benchmarked, with `-dirty` if the directory had changes; `null` if the directory was not a repository.
    pub commit: Option<String>,
    pub started_at: String,
    pub status: RunStatus,
    /// The figure over the valid repetitions; `null` if it falls among the censored, or if there is no valid repetition.
    pub value: Option<f64>,
    /// The 95 % interval of `value`. If only one of the two bounds is `null`, this bound is infinite.
    pub lo: Option<f64>,
    pub hi: Option<f64>,
    /// Valid repetitions.
    pub n: usize,
    /// Valid repetitions in which the figure is censored: known only to be larger than everything recorded.
    pub censored: usize,
    /// The value of which a threshold is a share, for figures that may be zero or negative: the delay from the send.
    #[serde(skip)]
    yardstick: Option<f64>,
}

impl Point {
    /// Whether the point takes part in the search for change points. The figures of an invalid run are shown, but must not be relied on.
    pub fn counts(&self) -> bool {
        self.status != RunStatus::Invalid && self.n > 0
    }

    /// The figure, infinite when censored.
    pub fn magnitude(&self) -> f64 {
        self.value.unwrap_or(f64::INFINITY)
    }
}

impl Series {
    /// The figure as `--metric` names it, such as `response.p99`.
    pub fn figure(&self) -> String {
        declared(self).map_or_else(
            || format!("{}.{}", self.metric, self.stat),
            |metric| metric.to_string(),
        )
    }

    /// Whether the series is a share that was always zero: nothing was ever lost.
    pub fn is_none_lost(&self) -> bool {
        self.unit == Unit::Share.as_str()
            && self.points.iter().all(|point| point.value == Some(0.0))
    }

    /// The newest run that can be relied on.
    pub fn newest(&self) -> Option<&Point> {
        self.points.iter().rev().find(|point| point.counts())
    }

    /// The newest change that matters; a change within the threshold does not.
    pub fn standing(&self) -> Option<&Change> {
        self.changes.iter().rev().find(|change| change.matters())
    }

    /// Whether there is a regression that nobody has accepted: since the last accepted change the level became worse, and the newest level
    /// is still worse than the level before. Half a recovery does not end a regression.
    pub fn has_regressed(&self) -> bool {
        let accepted = self.changes.iter().rposition(|change| change.blessed);
        let open = &self.changes[accepted.map_or(0, |index| index + 1)..];
        let newest = self.changes.last().map(|change| change.levels.1);
        newest.is_some_and(|newest| {
            open.iter().any(|change| {
                change.is_open_regression() && change.outlasts(newest, self.direction)
            })
        })
    }
}

fn declared(series: &Series) -> Option<Metric> {
    Metric::of(&series.metric, &series.stat)
}

/// Every series of these runs; series whose conditions have the newest run come first. `order` has the commits of the repository, each
/// after its parents.
///
/// Runs are in the order of their commits. Runs of the same commit are in order of time, and runs of its work tree with changes come after
/// them. A run whose commit is unknown or not in `order` comes after the latest commit that an earlier run measured; several such runs are
/// in order of time. A run that was found twice, such as in a folder of published copies, counts once.
pub fn trend<'a>(
    run_summaries: impl IntoIterator<Item = &'a RunSummary>,
    order: &[String],
    blessed: &[Blessing],
) -> Vec<Series> {
    trend_of(run_summaries, order, blessed, |_| true)
}

/// Like [`trend`], but only the series for which `wanted` returns true. It is called before the search for change points, which takes most
/// of the time.
pub fn trend_of<'a>(
    run_summaries: impl IntoIterator<Item = &'a RunSummary>,
    order: &[String],
    blessed: &[Blessing],
    wanted: impl Fn(&Series) -> bool,
) -> Vec<Series> {
    let history = History::of(order);
    let mut found: BTreeMap<Identity, Vec<Point>> = BTreeMap::new();
    for (place, run_summary) in in_order(run_summaries, &history).into_iter().enumerate() {
        for (identity, point) in points::of(run_summary, place) {
            found.entry(identity).or_default().push(point);
        }
    }
    let mut all: Vec<Series> = found
        .into_iter()
        .map(|(identity, points)| assembled(identity, points))
        .filter(|series| wanted(series))
        .collect();
    // The search in a long history takes a tenth of a second per series, so the processors share it.
    all.par_iter_mut()
        .for_each(|series| series.changes = level::changes(series, &history, blessed));
    newest_first(&mut all);
    all
}

fn assembled(identity: Identity, points: Vec<Point>) -> Series {
    let metric = identity.metric;
    Series {
        id: identity.id(),
        conditions: identity.conditions,
        settings: identity.settings,
        mode: identity.mode,
        node: identity.node,
        metric: metric.name().into(),
        stat: metric.stat.as_str().into(),
        unit: metric.unit().as_str().into(),
        direction: metric.direction(),
        points,
        changes: Vec::new(),
    }
}

/// Moves conditions without recent runs to the end; the order within the same conditions stays.
fn newest_first(all: &mut [Series]) {
    let mut newest: BTreeMap<Conditions, Option<jiff::Timestamp>> = BTreeMap::new();
    for series in all.iter() {
        let started = series
            .points
            .iter()
            .map(|point| point.started_at.parse().ok());
        let known = newest.entry(series.conditions.clone()).or_default();
        *known = started.max().flatten().max(*known);
    }
    all.sort_by(|a, b| {
        newest[&b.conditions]
            .cmp(&newest[&a.conditions])
            .then_with(|| a.conditions.cmp(&b.conditions))
    });
}
