//! Where the level of a series changed, by how much, and whether somebody has accepted that.

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

/// Of the permutations behind every p. Fixed: the same runs give the same changes.
const SEED: u64 = 1;

/// Between two stretches of a series.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// The first of [`Series::points`] on the new level.
    pub index: usize,
    /// The last on the old one that counts.
    pub previous: usize,
    /// Medians of the stretches on both sides, up to the next change; `null` when censored.
    pub before: Option<f64>,
    pub after: Option<f64>,
    pub scale: Scale,
    /// After over before, or after less before in the unit of the series: see `scale`. `null` when one is censored.
    pub effect: Option<f64>,
    /// The share of permutations of the points that allow as good a split.
    pub p: f64,
    pub verdict: Verdict,
    /// Accepted by `replbench bless`: no longer counted as a regression.
    pub blessed: bool,
    /// Why, in the words of whoever accepted it.
    pub reason: Option<String>,
    /// Before and after; infinite when censored.
    #[serde(skip)]
    pub(super) levels: (f64, f64),
    /// The smallest shifts that matter and that can be told, on the scale of the change.
    #[serde(skip)]
    limits: Limits,
}

impl Change {
    /// Whether the level is another one by more than the threshold.
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

/// A stretch has three values at least; infinite when more than half are censored.
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

/// What a share of is meant where figures are not above zero, as in a comparison: the delay from the send, else the larger level.
fn yardstick(before: f64, after: f64, from_send: impl Iterator<Item = Option<f64>>) -> f64 {
    let from_send: Vec<f64> = from_send.flatten().collect();
    let own = before.abs().max(after.abs());
    median(&from_send).map_or(own, |estimate| estimate.value)
}

/// One word for the change of level. That there is one at all was shown by the search, unless it is of the spread alone.
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

/// Whether a blessing is of the commit that the new level begins with, or of one that came in after the last run on the old
/// level. What was measured with changes on top of a commit was not at that commit.
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
