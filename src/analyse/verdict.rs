//! The verdict of a comparison in one word. Pure; knows nothing about what was measured or how the verdict is shown.

use std::fmt;

use serde::Serialize;

use super::stats::Shift;
use crate::sample::Direction;

/// The largest share of false discoveries that is accepted (by the q-value).
const LEVEL: f64 = 0.05;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Improved,
    Regressed,
    /// No difference that matters, and enough repetitions to say so.
    Equivalent,
    /// If there is a difference, it is smaller than the figure can tell from none.
    BelowResolution,
    /// Neither a difference nor its absence could be shown.
    Inconclusive,
    /// One side has no such figure.
    NotComparable,
}

impl Verdict {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Improved => "improved",
            Self::Regressed => "regressed",
            Self::Equivalent => "equivalent",
            Self::BelowResolution => "below what can be told",
            Self::Inconclusive => "inconclusive",
            Self::NotComparable => "not comparable",
        }
    }

    /// The verdict on a change that is shown; `is_larger` says whether the value became larger or smaller.
    pub(super) fn of_change(direction: Direction, is_larger: bool) -> Self {
        match (direction, is_larger) {
            (Direction::LowerIsBetter, true) | (Direction::HigherIsBetter, false) => {
                Self::Regressed
            }
            (Direction::LowerIsBetter, false) | (Direction::HigherIsBetter, true) => Self::Improved,
            (Direction::Neutral, _) => Self::Inconclusive,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What is known of a change: its shift and, if the figures are only bounds, the least and the most that the shift may be.
#[derive(Debug, Clone, Copy)]
pub struct Evidence {
    pub shift: Shift,
    /// The least and the most that the change may be; both are `shift` where the figures are exact.
    pub least: Shift,
    pub most: Shift,
}

impl Evidence {
    pub fn exact(shift: &Shift) -> Self {
        Self {
            shift: *shift,
            least: *shift,
            most: *shift,
        }
    }

    fn is_above(&self, threshold: f64) -> bool {
        self.least.interval95.is_some_and(|it| it.lo > threshold)
    }

    fn is_below(&self, threshold: f64) -> bool {
        self.most.interval95.is_some_and(|it| it.hi < threshold)
    }

    fn is_inside(&self, threshold: f64) -> bool {
        let (least, most) = (self.least.interval90, self.most.interval90);
        least.is_some_and(|it| -threshold <= it.lo) && most.is_some_and(|it| it.hi <= threshold)
    }
}

/// The smallest change that matters and the smallest that can be told from none, neither below zero, on the scale of the shift.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    pub matters: f64,
    /// The largest change that the figure cannot tell from none.
    pub floor: f64,
}

/// Judges a shift against the smallest one that matters.
///
/// A change must be larger than the threshold with 95 % confidence and survive the correction for the other comparisons of the table.
/// Equivalence is two one-sided tests at 5 % each (D. J. Schuirmann, *J. Pharmacokinet. Biopharm.* 15, 1987), hence the 90 % interval; the
/// q-value does not count the errors of these tests. `BelowResolution` has two cases: the change is shown to be below the floor of its
/// figure, but not to be so small that it does not matter; or the bounds of the figures leave the change open, although the shift between
/// the figures would be equivalent.
pub fn judge(evidence: &Evidence, q: Option<f64>, limits: Limits, direction: Direction) -> Verdict {
    if evidence.shift.n.0 == 0 || evidence.shift.n.1 == 0 {
        return Verdict::NotComparable;
    }
    let threshold = limits.matters.max(limits.floor);
    let is_above = evidence.is_above(threshold);
    let discovered = q.is_some_and(|q| q <= LEVEL);
    if discovered && (is_above || evidence.is_below(-threshold)) {
        return Verdict::of_change(direction, is_above);
    }
    if evidence.is_inside(limits.matters) {
        Verdict::Equivalent
    } else if evidence.is_inside(threshold) || Evidence::exact(&evidence.shift).is_inside(threshold)
    {
        Verdict::BelowResolution
    } else {
        Verdict::Inconclusive
    }
}

#[cfg(test)]
mod tests {
    use super::super::stats::{Interval, Method};
    use super::*;
    use crate::sample::Direction::{HigherIsBetter, LowerIsBetter, Neutral};

    const INF: f64 = f64::INFINITY;

    fn shift(at_95: (f64, f64), at_90: (f64, f64)) -> Shift {
        let interval = |(lo, hi)| Some(Interval { lo, hi });
        Shift {
            estimate: Some(f64::midpoint(at_90.0, at_90.1)),
            interval95: interval(at_95),
            interval90: interval(at_90),
            p: Some(0.01),
            detectable: None,
            method: Method::PairedT,
            n: (6, 6),
        }
    }

    fn check(shift: &Shift, q: Option<f64>, direction: Direction, expected: Verdict) {
        let limits = Limits {
            matters: 0.05,
            floor: 0.0,
        };
        let evidence = Evidence::exact(shift);
        let found = judge(&evidence, q, limits, direction);
        assert_eq!(found, expected, "{shift:?}");
    }

    #[test]
    fn a_change_is_beyond_the_threshold_and_survives_the_other_comparisons() {
        let slower = shift((0.06, 0.2), (0.07, 0.19));
        check(&slower, Some(0.05), LowerIsBetter, Verdict::Regressed);
        check(&slower, Some(0.05), HigherIsBetter, Verdict::Improved);
        check(&slower, Some(0.051), LowerIsBetter, Verdict::Inconclusive);
        check(&slower, None, LowerIsBetter, Verdict::Inconclusive);
        let fewer = shift((-0.2, -0.06), (-0.19, -0.07));
        check(&fewer, Some(0.0), HigherIsBetter, Verdict::Regressed);
        check(&fewer, Some(0.0), LowerIsBetter, Verdict::Improved);
        let touches = shift((0.05, 0.2), (0.06, 0.19));
        check(&touches, Some(0.0), LowerIsBetter, Verdict::Inconclusive);
    }

    #[test]
    fn censored_on_one_side_alone_is_a_change() {
        let unseen = shift((INF, INF), (INF, INF));
        check(&unseen, Some(0.01), LowerIsBetter, Verdict::Regressed);
        let mostly = shift((0.5, INF), (0.6, INF));
        check(&mostly, Some(0.01), HigherIsBetter, Verdict::Improved);
    }

    #[test]
    fn equivalent_is_shown_by_the_90_percent_interval_whatever_q() {
        let alike = shift((-0.06, 0.04), (-0.05, 0.03));
        check(&alike, Some(0.01), LowerIsBetter, Verdict::Equivalent);
        check(&alike, None, Neutral, Verdict::Equivalent);
        let wider = shift((-0.08, 0.04), (-0.051, 0.03));
        check(&wider, Some(1.0), LowerIsBetter, Verdict::Inconclusive);
    }

    #[test]
    fn a_neutral_metric_is_never_better_or_worse() {
        let moved = shift((0.06, 0.2), (0.07, 0.19));
        check(&moved, Some(0.0), Neutral, Verdict::Inconclusive);
    }

    #[test]
    fn without_intervals_nothing_is_shown_and_without_figures_nothing_compared() {
        let mut unknown = shift((0.0, 0.0), (0.0, 0.0));
        (unknown.interval95, unknown.interval90) = (None, None);
        check(&unknown, Some(0.0), LowerIsBetter, Verdict::Inconclusive);
        unknown.n = (6, 0);
        check(&unknown, Some(0.0), LowerIsBetter, Verdict::NotComparable);
    }

    #[test]
    fn what_only_the_floor_makes_small_cannot_be_told() {
        let limits = |floor| Limits {
            matters: 0.05,
            floor,
        };
        let found = |shift: &Shift, floor| {
            let evidence = Evidence::exact(shift);
            judge(&evidence, Some(0.01), limits(floor), LowerIsBetter)
        };
        let small = shift((-0.2, 0.3), (-0.1, 0.2));
        assert_eq!(found(&small, 0.0), Verdict::Inconclusive);
        assert_eq!(found(&small, 0.25), Verdict::BelowResolution);
        let none = shift((-0.05, 0.05), (-0.04, 0.04));
        assert_eq!(found(&none, 0.25), Verdict::Equivalent);
        let large = shift((0.3, 0.4), (0.31, 0.39));
        assert_eq!(found(&large, 0.25), Verdict::Regressed);
        assert_eq!(found(&large, 0.35), Verdict::Inconclusive);
    }

    #[test]
    fn a_change_between_bounds_is_told_where_both_show_it() {
        let of = |least: &Shift, most: &Shift| {
            let evidence = Evidence {
                shift: shift((0.1, 0.2), (0.12, 0.18)),
                least: *least,
                most: *most,
            };
            let limits = Limits {
                matters: 0.05,
                floor: 0.0,
            };
            judge(&evidence, Some(0.0), limits, LowerIsBetter)
        };
        let (lower, upper) = (
            shift((0.06, 0.1), (0.07, 0.09)),
            shift((0.3, 0.4), (0.3, 0.4)),
        );
        assert_eq!(of(&lower, &upper), Verdict::Regressed);
        let none = shift((-0.1, 0.1), (-0.1, 0.1));
        assert_eq!(of(&none, &upper), Verdict::Inconclusive);
    }

    #[test]
    fn bounds_that_are_far_apart_leave_no_equivalence() {
        let (small, least) = (
            shift((0.0, 0.02), (0.0, 0.02)),
            shift((-0.4, -0.3), (-0.4, -0.3)),
        );
        let most = shift((0.3, 0.4), (0.3, 0.4));
        let evidence = Evidence {
            shift: small,
            least,
            most,
        };
        let limits = Limits {
            matters: 0.05,
            floor: 0.0,
        };
        let found = judge(&evidence, Some(0.9), limits, LowerIsBetter);
        assert_eq!(found, Verdict::BelowResolution);
    }

    #[test]
    fn words_have_spaces_for_people_and_underscores_in_files() {
        assert_eq!(
            format!("[{:>15}]", Verdict::NotComparable),
            "[ not comparable]"
        );
        let written = serde_json::to_string(&Verdict::NotComparable).unwrap();
        assert_eq!(written, "\"not_comparable\"");
    }
}
