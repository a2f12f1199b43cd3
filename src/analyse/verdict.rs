//! What a comparison says in one word. Pure; knows nothing of what was measured or of how it is shown.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::stats::{Interval, Shift};
use crate::sample::Direction;

/// The share of false discoveries that is put up with.
const LEVEL: f64 = 0.05;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
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
