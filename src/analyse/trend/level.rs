//! Where the level of a series changed, by how much, and whether somebody has accepted the change.

use serde::Serialize;

use super::blessing::Blessing;
use super::order::History;
use super::{Metric, Point, Series, declared};
use crate::analyse::change::change_points;
use crate::analyse::compare::Terms;
use crate::analyse::stats::median;
use crate::analyse::verdict::{Limits, Verdict};
use crate::metric::Scale;
use crate::sample::Direction;

/// Seed of the permutations behind every p-value. Fixed, so that the same runs give the same changes.
const SEED: u64 = 1;

/// A change of level between two stretches of a series.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// Index in [`Series::points`] of the first point on the new level.
    pub index: usize,
    /// Index of the last point on the old level that takes part in the search: see [`Point::counts`].
    pub previous: usize,
    /// Medians of the stretches before and after the change, up to the next change; `null` if censored.
    pub before: Option<f64>,
    pub after: Option<f64>,
    pub scale: Scale,
    /// After over before, or after less before in the unit of the series: see `scale`. `null` when one is censored.
    pub effect: Option<f64>,
    /// The share of permutations of the points with a split as good.
    pub p: f64,
    pub verdict: Verdict,
    /// Whether the change was accepted with `replbench bless`; an accepted change no longer counts as a regression.
    pub blessed: bool,
    /// The reason, in the words of the person who accepted the change.
    pub reason: Option<String>,
    /// Levels before and after; infinite if censored.
    #[serde(skip)]
    pub(super) levels: (f64, f64),
    /// The smallest shift that matters and the smallest that can be told from none, on the scale of the change.
    #[serde(skip)]
    limits: Limits,
}

impl Change {
    /// Whether the level changed by more than the threshold, for better or worse.
    pub fn matters(&self) -> bool {
        matches!(self.verdict, Verdict::Regressed | Verdict::Improved)
    }

    pub fn is_open_regression(&self) -> bool {
        self.verdict == Verdict::Regressed && !self.blessed
    }

    /// Whether a later level is still worse than the one before this change.
    pub(super) fn outlasts(&self, later: f64, direction: Direction) -> bool {
        let (before, _) = self.levels;
        verdict(self.scale, before, later, self.limits, direction) == Verdict::Regressed
    }
}

/// The changes of a series in its order.
pub(super) fn changes(series: &Series, history: &History, blessed: &[Blessing]) -> Vec<Change> {
    let points = &series.points;
    let used: Vec<usize> = (0..points.len())
        .filter(|index| points[*index].counts())
        .collect();
    let values: Vec<f64> = used
        .iter()
        .map(|index| points[*index].magnitude())
        .collect();
    let floor = declared(series).map_or(0.0, Metric::floor);
    let scale = declared(series).map_or(Scale::Difference, |it| it.scale(values.iter()));
    let scaled: Vec<f64> = values.iter().map(|value| scale.to(*value)).collect();
    let found = change_points(&scaled, SEED);
    let ends: Vec<usize> = [0]
        .into_iter()
        .chain(found.iter().map(|change| change.index))
        .chain([values.len()])
        .collect();
    let changes = found.iter().zip(ends.windows(3)).map(|(found, ends)| {
        let (old, new) = (ends[0]..ends[1], ends[1]..ends[2]);
        let before = level(&values[old.clone()]);
        let after = level(&values[new]);
        let matters = match scale {
            Scale::Ratio => Terms::THRESHOLD.ln_1p(),
            Scale::Difference => {
                let from_send = used[old].iter().map(|index| points[*index].yardstick);
                Terms::THRESHOLD * yardstick(before, after, from_send)
            }
        };
        let limits = Limits { matters, floor };
        let (index, previous) = (used[ends[1]], used[ends[1] - 1]);
        let blessing = blessed.iter().find(|blessing| {
            blessing.is_about(series) && accepts(blessing, points, index, previous, history)
        });
        Change {
            index,
            previous,
            before: Some(before).filter(|value| value.is_finite()),
            after: Some(after).filter(|value| value.is_finite()),
            scale,
            effect: effect(scale, before, after),
            p: found.p,
            verdict: verdict(scale, before, after, limits, series.direction),
            blessed: blessing.is_some(),
            reason: blessing.and_then(|blessing| blessing.reason.clone()),
            levels: (before, after),
            limits,
        }
    });
    changes.collect()
}

/// The median of a stretch, which has at least three values; infinite if at least half of them are censored.
fn level(values: &[f64]) -> f64 {
    median(values).map_or(f64::NAN, |estimate| estimate.value)
}

fn effect(scale: Scale, before: f64, after: f64) -> Option<f64> {
    let effect = match scale {
        Scale::Ratio => after / before,
        Scale::Difference => after - before,
    };
    (before.is_finite() && effect.is_finite()).then_some(effect)
}

/// The value of which the threshold is a share, for figures that may be zero or negative: the delay from the send if known, otherwise the
/// larger level, as in a comparison.
fn yardstick(before: f64, after: f64, from_send: impl Iterator<Item = Option<f64>>) -> f64 {
    let from_send: Vec<f64> = from_send.flatten().collect();
    let own = before.abs().max(after.abs());
    median(&from_send).map_or(own, |estimate| estimate.value)
}

/// The verdict on a change of level. The search has already shown that something changed, which may be the spread alone.
fn verdict(scale: Scale, before: f64, after: f64, limits: Limits, direction: Direction) -> Verdict {
    if before.is_infinite() && after.is_infinite() {
        return Verdict::Inconclusive;
    }
    let shift = scale.to(after) - scale.to(before);
    if shift.abs() <= limits.matters {
        return Verdict::Equivalent;
    }
    if shift.abs() <= limits.floor {
        return Verdict::BelowResolution;
    }
    Verdict::of_change(direction, shift > 0.0)
}

/// Whether a blessing accepts a change: its commit is the first one on the new level, or came in after the last run on the old level and
/// not after that first one. A run with changes on top of a commit did not measure that commit.
fn accepts(
    blessing: &Blessing,
    points: &[Point],
    index: usize,
    previous: usize,
    history: &History,
) -> bool {
    let first = points[index].commit.as_deref();
    if first == Some(blessing.commit.as_str()) {
        return true;
    }
    let place = |revision: &str| history.place(revision);
    let known = |point: &Point| point.commit.as_deref().and_then(place);
    let old = points[..=previous].iter().rev().find_map(known);
    match (old, place(&blessing.commit), first.and_then(place)) {
        (Some(old), Some(blessed), Some(new)) => old < blessed && blessed <= new,
        _ => false,
    }
}
