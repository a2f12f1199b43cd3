//! Gates: bounds that figures of a run must keep.
//! Knows which figures there are and in what unit; never a value of one.

mod read;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::mode::Mode;
use crate::topology::Topology;
use crate::units::{
    exact_bytes, exact_duration, format_bytes, format_seconds, thousands, three_digits,
};

pub(super) use read::gates;

/// One bound on one figure. A manifest carries it, so that an old run can be judged again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Gate {
    /// What a person calls it.
    pub name: Option<String>,
    pub metric: Metric,
    /// `None`: every mode of the plan.
    pub mode: Option<String>,
    /// `None`: every replica of the mode, where the metric is one of replicas.
    pub standby: Option<String>,
    pub limit: Limit,
}

impl Gate {
    /// The nodes of a mode that the gate judges by name; none when its metric is of replicas and the mode has no such one.
    pub fn nodes_in(&self, mode: &Mode) -> Vec<String> {
        let replicas = mode.topology.replicas().map(|node| node.name.clone());
        match &self.standby {
            _ if !self.metric.is_of_replicas() => Vec::new(),
            Some(name) if name == Topology::PRIMARY => vec![name.clone()],
            Some(name) => replicas.filter(|replica| replica == name).collect(),
            None => replicas.collect(),
        }
    }

    /// Whether it is about this mode.
    pub fn concerns(&self, mode: &str) -> bool {
        self.mode.as_deref().is_none_or(|own| own == mode)
    }

    /// The limit in words: `at most 50 ms`.
    pub fn wanted(&self) -> String {
        let (word, bound) = match self.limit {
            Limit::Max(bound) => ("at most", bound),
            Limit::Min(bound) => ("at least", bound),
        };
        format!("{word} {}", self.metric.unit().exactly(bound))
    }
}

/// The bound, itself allowed, in the base unit of the metric: seconds, bytes, transactions a second, or a count.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    Max(f64),
    Min(f64),
}

impl Limit {
    pub fn allows(self, value: f64) -> bool {
        match self {
            Self::Max(bound) => value <= bound,
            Self::Min(bound) => value >= bound,
        }
    }
}

/// A figure of a mode, written `visibility.p99` or `achieved_tps`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Metric {
    Of(Distribution, Stat),
    Total(Total),
}

/// What is observed many times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Distribution {
    Response,
    Service,
    StartLag,
    Visibility,
    ReplayLagBytes,
    ReplayLag,
}

/// A quantile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stat {
    P50,
    P90,
    P99,
    P999,
    Max,
}

/// What is counted over the whole measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Total {
    AchievedTps,
    Unseen,
    Failed,
    Missed,
    Indeterminate,
}

/// What a metric is measured in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Seconds,
    Bytes,
    PerSecond,
    Count,
}

impl Metric {
    /// Every metric that a gate can name.
    pub fn all() -> impl Iterator<Item = Self> {
        let of = |distribution| Stat::ALL.map(|stat| Self::Of(distribution, stat));
        let totals = Total::ALL.map(Self::Total);
        Distribution::ALL.into_iter().flat_map(of).chain(totals)
    }

    /// Whether each replica has its own figure; else the mode has one.
    pub fn is_of_replicas(self) -> bool {
        match self {
            Self::Of(distribution, _) => !matches!(
                distribution,
                Distribution::Response | Distribution::Service | Distribution::StartLag
            ),
            Self::Total(total) => total == Total::Unseen,
        }
    }

    pub fn unit(self) -> Unit {
        match self {
            Self::Of(Distribution::ReplayLagBytes, _) => Unit::Bytes,
            Self::Of(..) => Unit::Seconds,
            Self::Total(Total::AchievedTps) => Unit::PerSecond,
            Self::Total(_) => Unit::Count,
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Of(distribution, stat) => {
                write!(f, "{}.{}", distribution.as_str(), stat.as_str())
            }
            Self::Total(total) => f.write_str(total.as_str()),
        }
    }
}

/// A word that names no metric.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown metric `{0}`")]
pub struct UnknownMetric(String);

impl FromStr for Metric {
    type Err = UnknownMetric;

    fn from_str(text: &str) -> Result<Self, UnknownMetric> {
        Self::all()
            .find(|metric| metric.to_string() == text)
            .ok_or_else(|| UnknownMetric(text.into()))
    }
}

impl TryFrom<String> for Metric {
    type Error = UnknownMetric;

    fn try_from(text: String) -> Result<Self, UnknownMetric> {
        text.parse()
    }
}

impl From<Metric> for String {
    fn from(metric: Metric) -> Self {
        metric.to_string()
    }
}

impl Distribution {
    pub const ALL: [Self; 6] = [
        Self::Response,
        Self::Service,
        Self::StartLag,
        Self::Visibility,
        Self::ReplayLagBytes,
        Self::ReplayLag,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Response => "response",
            Self::Service => "service",
            Self::StartLag => "start_lag",
            Self::Visibility => "visibility",
            Self::ReplayLagBytes => "replay_lag_bytes",
            Self::ReplayLag => "replay_lag",
        }
    }
}

impl Stat {
    pub const ALL: [Self; 5] = [Self::P50, Self::P90, Self::P99, Self::P999, Self::Max];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::P50 => "p50",
            Self::P90 => "p90",
            Self::P99 => "p99",
            Self::P999 => "p999",
            Self::Max => "max",
        }
    }

    /// The share of observations at or below it.
    pub fn share(self) -> f64 {
        match self {
            Self::P50 => 0.5,
            Self::P90 => 0.9,
            Self::P99 => 0.99,
            Self::P999 => 0.999,
            Self::Max => 1.0,
        }
    }
}

impl Total {
    pub const ALL: [Self; 5] = [
        Self::AchievedTps,
        Self::Unseen,
        Self::Failed,
        Self::Missed,
        Self::Indeterminate,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::AchievedTps => "achieved_tps",
            Self::Unseen => "unseen",
            Self::Failed => "failed",
            Self::Missed => "missed",
            Self::Indeterminate => "indeterminate",
        }
    }
}

impl Unit {
    /// A figure as a person reads it, three significant digits.
    pub fn rounded(self, value: f64) -> String {
        match self {
            Self::Seconds => format_seconds(value),
            Self::Bytes => format_bytes(value),
            Self::PerSecond => format!("{}/s", three_digits(value)),
            Self::Count => self.exactly(value),
        }
    }

    /// A bound as a person would have written it, nothing rounded.
    pub fn exactly(self, value: f64) -> String {
        match self {
            Self::Seconds => Duration::try_from_secs_f64(value)
                .map_or_else(|_| format!("{value} s"), exact_duration),
            Self::Bytes => whole(value).map_or_else(|| format!("{value} B"), exact_bytes),
            Self::PerSecond => format!("{value}/s"),
            Self::Count => whole(value).map_or_else(|| value.to_string(), thousands),
        }
    }
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "whole, and between 0 and 2^53"
)]
fn whole(value: f64) -> Option<u64> {
    const MOST: f64 = (1_u64 << 53) as f64;
    ((0.0..=MOST).contains(&value) && value.fract() == 0.0).then_some(value as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_read_back_from_its_name() {
        assert_eq!(Metric::all().count(), 35);
        for metric in Metric::all() {
            assert_eq!(metric.to_string().parse(), Ok(metric));
            let json = serde_json::to_string(&metric).unwrap();
            assert_eq!(serde_json::from_str::<Metric>(&json).unwrap(), metric);
        }
        assert!("visibility".parse::<Metric>().is_err());
        assert!("unseen.p99".parse::<Metric>().is_err());
    }

    #[test]
    fn a_limit_allows_itself_and_never_an_unknown() {
        assert!(Limit::Max(0.05).allows(0.05) && !Limit::Max(0.05).allows(0.051));
        assert!(Limit::Min(500.0).allows(500.0) && !Limit::Min(500.0).allows(499.0));
        assert!(!Limit::Max(1.0).allows(f64::NAN) && !Limit::Min(1.0).allows(f64::NAN));
    }

    #[test]
    fn bounds_are_told_as_they_were_written() {
        for (unit, value, text) in [
            (Unit::Seconds, 0.05, "50 ms"),
            (Unit::Seconds, 5.0, "5 s"),
            (Unit::Seconds, 0.0, "0 s"),
            (Unit::Seconds, -0.5, "-0.5 s"),
            (Unit::Bytes, 1_048_576.0, "1 MiB"),
            (Unit::PerSecond, 499.5, "499.5/s"),
            (Unit::Count, 12_000.0, "12,000"),
        ] {
            assert_eq!(unit.exactly(value), text);
        }
    }
}
