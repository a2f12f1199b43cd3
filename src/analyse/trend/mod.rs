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

/// Rises when a reader of an older version would misread a trend.
pub const TREND_VERSION: u32 = 1;

/// One figure of one mode under the same conditions, from the oldest commit to the newest.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Series {
    /// A digest of everything that tells this series from others; stays the same as runs are added.
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

/// A run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Point {
    /// The run's place among all runs that were given, whichever series they are of.
    pub place: usize,
    pub run_id: String,
    /// With `-dirty` when the directory had changes; `null` when it was no repository.
    pub commit: Option<String>,
    pub started_at: String,
    pub status: RunStatus,
    /// The figure over the valid repetitions; `null` when it falls among the censored, or there is no valid repetition.
    pub value: Option<f64>,
    /// Its 95 % interval; a bound that is `null` beside one that is not is unbounded.
    pub lo: Option<f64>,
    pub hi: Option<f64>,
    /// Valid repetitions.
    pub n: usize,
    /// Those of them of which nothing is known but that the figure is larger than everything recorded.
    pub censored: usize,
    /// What a share of is meant where figures are not above zero.
    #[serde(skip)]
    yardstick: Option<f64>,
}

impl Point {
    /// Whether it takes part in the search for change points: an invalid run is not to be relied on, though it is shown.
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

    /// Whether nothing was ever lost, in a history of what was.
    pub fn is_none_lost(&self) -> bool {
        self.unit == Unit::Share.as_str()
            && self.points.iter().all(|point| point.value == Some(0.0))
    }

    /// The newest run that can be relied on.
    pub fn newest(&self) -> Option<&Point> {
        self.points.iter().rev().find(|point| point.counts())
    }

    /// The newest change that matters; one within the threshold leaves the level where it was.
    pub fn standing(&self) -> Option<&Change> {
        self.changes.iter().rev().find(|change| change.matters())
    }

    /// Whether a regression stands that nobody has accepted: since the last blessed change the level became worse, and the newest
    /// is still worse than before. Half a recovery recovers nothing.
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

/// Every series of these runs; those with the newest run come first. `order` has the commits of the repository, each after its
/// parents.
///
/// Runs stand where their commit does, those of one commit by time, and those of its work tree with changes after it. A run
/// whose commit is unknown or not in `order` comes behind the latest commit of which a run had been started before it,
/// several such by time. A run that was found twice, such as in a folder of published copies, counts once.
pub fn trend<'a>(
    run_summaries: impl IntoIterator<Item = &'a RunSummary>,
    order: &[String],
    blessed: &[Blessing],
) -> Vec<Series> {
    trend_of(run_summaries, order, blessed, |_| true)
}

/// As [`trend`], for those series alone that are `wanted`, which is asked before their change points are searched: that
/// is what takes time.
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
    // A long history takes a tenth of a second a series.
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

/// Conditions without recent runs go to the end; the order within the same conditions stays.
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
