//! What a comparison says in one word. Pure; knows nothing of what was measured or of how it is shown.

use std::fmt;

use serde::Serialize;

use super::stats::{Interval, Shift};
use crate::sample::Direction;

/// The share of false discoveries that is put up with.
const LEVEL: f64 = 0.05;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Improved,
    Regressed,
    /// No difference that matters, and enough repetitions to say so.
    Equivalent,
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
            Self::Inconclusive => "inconclusive",
            Self::NotComparable => "not comparable",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Judges a shift against the smallest one that matters, `threshold`, above zero and on the scale of the shift.
///
/// A change must be larger than the threshold with 95 % confidence and survive the correction for the other comparisons
/// of the table. Equivalence is two one-sided tests at 5 % each (D. J. Schuirmann, *J. Pharmacokinet. Biopharm.* 15,
/// 1987), hence the 90 % interval; its errors are not those that the q-value counts.
pub fn judge(shift: &Shift, q: Option<f64>, threshold: f64, direction: Direction) -> Verdict {
    if shift.n.0 == 0 || shift.n.1 == 0 {
        return Verdict::NotComparable;
    }
    let discovered = q.is_some_and(|q| q <= LEVEL);
    match beyond(shift.interval95, threshold).filter(|_| discovered) {
        Some(side) => {
            match (direction, side) {
                (Direction::LowerIsBetter, Side::Above)
                | (Direction::HigherIsBetter, Side::Below) => Verdict::Regressed,
                (Direction::LowerIsBetter, Side::Below)
                | (Direction::HigherIsBetter, Side::Above) => Verdict::Improved,
                (Direction::Neutral, _) => Verdict::Inconclusive,
            }
        }
        None if inside(shift.interval90, threshold) => Verdict::Equivalent,
        None => Verdict::Inconclusive,
    }
}

#[derive(Clone, Copy)]
enum Side {
    Below,
    Above,
}

fn beyond(interval: Option<Interval>, threshold: f64) -> Option<Side> {
    let interval = interval?;
    if interval.lo > threshold {
        Some(Side::Above)
    } else if interval.hi < -threshold {
        Some(Side::Below)
    } else {
        None
    }
}

fn inside(interval: Option<Interval>, threshold: f64) -> bool {
    interval.is_some_and(|interval| -threshold <= interval.lo && interval.hi <= threshold)
}

#[cfg(test)]
mod tests {
    use super::super::stats::Method;
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
        assert_eq!(judge(shift, q, 0.05, direction), expected, "{shift:?}");
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
    fn words_have_spaces_for_people_and_underscores_in_files() {
        assert_eq!(
            format!("[{:>15}]", Verdict::NotComparable),
            "[ not comparable]"
        );
        let written = serde_json::to_string(&Verdict::NotComparable).unwrap();
        assert_eq!(written, "\"not_comparable\"");
    }
}
