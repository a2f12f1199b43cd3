//! The figures that are compared: declared beforehand, so that nobody picks them by how they came out.

use std::fmt;

use crate::sample::Direction;

/// One figure of a cell, as `summary.csv` names it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Metric {
    pub metric: &'static str,
    pub stat: &'static str,
    pub direction: Direction,
    pub unit: Unit,
    /// Whether there is one for each replica.
    pub of_replica: bool,
    /// Changes up to this do not matter whatever their share is, in `unit`; values up to it have no ratio worth the name.
    pub floor: f64,
}

/// Units of `summary.csv`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    PerSecond,
    Micros,
    Bytes,
}

impl Unit {
    /// As in the column `unit`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PerSecond => "1/s",
            Self::Micros => "us",
            Self::Bytes => "B",
        }
    }
}

/// Below a page of WAL lag is a matter of which record was in flight when the sample was taken: a multiple of one record's length.
const WAL_PAGE: f64 = 8192.0;

const fn time(metric: &'static str, stat: &'static str, of_replica: bool) -> Metric {
    Metric {
        metric,
        stat,
        direction: Direction::LowerIsBetter,
        unit: Unit::Micros,
        of_replica,
        floor: 0.0,
    }
}

impl Metric {
    /// Every declared figure.
    pub const ALL: [Self; 8] = [
        Self {
            metric: "achieved_tps",
            stat: "value",
            direction: Direction::HigherIsBetter,
            unit: Unit::PerSecond,
            of_replica: false,
            floor: 0.0,
        },
        time("service", "p50", false),
        time("service", "p99", false),
        time("response", "p50", false),
        time("response", "p99", false),
        time("visibility", "p50", true),
        time("visibility", "p99", true),
        Self {
            metric: "replay_lag_bytes",
            stat: "p99",
            direction: Direction::LowerIsBetter,
            unit: Unit::Bytes,
            of_replica: true,
            floor: WAL_PAGE,
        },
    ];

    /// Whether a row of `summary.csv` is needed to compare.
    pub fn is_needed(metric: &str, stat: &str) -> bool {
        let is_declared = |it: &Self| it.metric == metric && it.stat == stat;
        // The yardstick for delays that are not above zero.
        let is_yardstick = metric == Self::YARDSTICK && matches!(stat, "p50" | "p99");
        is_yardstick || Self::ALL.iter().any(is_declared)
    }

    /// From the send until the commit is seen: always above zero.
    pub(in crate::analyse) const YARDSTICK: &'static str = "visibility_send";

    /// Those that a word of `--metric` means: `response.p99`, or `response` for all of its kind.
    pub fn named(word: &str) -> Vec<Self> {
        let means = |it: &Self| it.metric == word || it.to_string() == word;
        Self::ALL.into_iter().filter(means).collect()
    }
}

impl fmt::Display for Metric {
    /// `response.p99`; `achieved_tps` has but one value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.stat {
            "value" => f.write_str(self.metric),
            stat => write!(f, "{}.{stat}", self.metric),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_names_one_figure_or_a_kind() {
        assert_eq!(Metric::named("response").len(), 2);
        assert_eq!(Metric::named("response.p99").len(), 1);
        assert_eq!(Metric::named("achieved_tps")[0].to_string(), "achieved_tps");
        assert!(Metric::named("p99").is_empty());
    }
}
