//! Gates: bounds that figures of a run must keep, how a profile writes them, and the mistakes in them.
//! Knows which figures there are and in what unit; never a value of one.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::error::nearest;
use super::judge::{self, Judge, Refusal};
use super::wire::{self, Value};
use crate::topology::{Mode, Topology};
use crate::units::{
    exact_bytes, exact_duration, format_bytes, format_seconds, thousands, three_digits,
};

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
        let replicas = mode.topology.replicas().into_iter().map(|node| node.name);
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

    /// Reads a bound in this unit.
    fn parse(self, value: &Value) -> Result<f64, Refusal> {
        const DAY: Duration = Duration::from_hours(24);
        // Counts above it are not whole in a floating-point number.
        const MOST: u64 = 1_000_000_000_000;
        match self {
            Self::Seconds => {
                judge::duration(Duration::ZERO..=DAY)(value).map(|it| it.as_secs_f64())
            }
            Self::Bytes => judge::bytes(value).map(|it| it as f64),
            Self::PerSecond => judge::amount(value),
            Self::Count => judge::integer::<u64>(0..=MOST)(value).map(|it| it as f64),
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

/// The gates as they are written. `modes` is `None` where the modes themselves are in doubt.
pub(super) fn gates(
    judge: &mut Judge,
    written: &[Spanned<wire::Gate>],
    modes: Option<&[Mode]>,
) -> Vec<Gate> {
    let mut found: Vec<Gate> = Vec::new();
    for entry in written {
        let Some(gate) = gate(judge, entry) else {
            continue;
        };
        if let Some(modes) = modes {
            check_place(judge, entry.get_ref(), &gate, modes);
        }
        if let Some(name) = entry.get_ref().name.as_ref()
            && found
                .iter()
                .any(|other| other.name.is_some() && other.name == gate.name)
        {
            judge.refuse(
                name.span(),
                format!("a second gate named `{}`", gate.name.unwrap_or_default()),
                "give each gate a name of its own, or none",
            );
            continue;
        }
        found.push(gate);
    }
    found
}

fn gate(judge: &mut Judge, entry: &Spanned<wire::Gate>) -> Option<Gate> {
    let fields = entry.get_ref();
    let name = judge.read("name", &fields.name, name);
    let mode = judge.read("mode", &fields.mode, judge::text);
    let standby = judge.read("standby", &fields.standby, judge::text);
    let metric = judge.required("metric", &fields.metric, entry.span(), judge::text);
    let metric = metric.and_then(|text| {
        let parsed = text.parse::<Metric>();
        let span = fields.metric.as_ref().map_or(entry.span(), Spanned::span);
        parsed
            .map_err(|error| judge.refuse(span, error.to_string(), &likely_metric(&text)))
            .ok()
    });
    let (key, bound, limit): (_, _, fn(f64) -> Limit) = match (&fields.max, &fields.min) {
        (Some(_), Some(min)) => {
            judge.refuse(
                min.span(),
                "`max` and `min` exclude each other".into(),
                "keep one; a second gate can have the other",
            );
            return None;
        }
        (None, None) => {
            judge.refuse(
                entry.span(),
                "the gate has neither `max` nor `min`".into(),
                "give it one, such as `max = \"50 ms\"`",
            );
            return None;
        }
        (Some(max), None) => ("max", max, Limit::Max),
        (None, Some(min)) => ("min", min, Limit::Min),
    };
    let metric = metric?;
    let subject = format!("`{key}` of `{metric}`");
    let bound = judge.value(&subject, bound, |value| metric.unit().parse(value))?;
    Some(Gate {
        name,
        metric,
        mode,
        standby,
        limit: limit(bound),
    })
}

/// Fit for a line of a terminal.
fn name(value: &Value) -> Result<String, Refusal> {
    const LONGEST: usize = 63;
    match value {
        Value::Text(name) if !name.trim().is_empty() && name.chars().count() <= LONGEST => {
            Ok(name.split_whitespace().collect::<Vec<_>>().join(" "))
        }
        _ => Err(Refusal::new("a name of 1 to 63 characters")),
    }
}

/// What a person may have meant by an unknown metric.
fn likely_metric(text: &str) -> String {
    let stats = Stat::ALL.map(Stat::as_str).join(", ");
    let (base, stat) = text.split_once('.').unwrap_or((text, ""));
    let known = |distribution: &Distribution| distribution.as_str() == base;
    if Distribution::ALL.iter().any(known) {
        return match nearest(stat, Stat::ALL.map(Stat::as_str)) {
            Some(near) if !stat.is_empty() => format!("did you mean `{base}.{near}`?"),
            _ => format!("a figure of `{base}` is one of {stats}, such as `{base}.p99`"),
        };
    }
    if let Some(total) = Total::ALL.into_iter().find(|total| total.as_str() == base) {
        return format!("`{}` is one number: leave out what follows", total.as_str());
    }
    let names: Vec<String> = Metric::all().map(|metric| metric.to_string()).collect();
    match nearest(text, names.iter().map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!(
            "metrics are {}, each with {stats} after a dot, and {}",
            Distribution::ALL.map(Distribution::as_str).join(", "),
            Total::ALL.map(Total::as_str).join(", ")
        ),
    }
}

/// Refuses a gate about a mode or a node that the profile does not have, since it could never pass.
fn check_place(judge: &mut Judge, written: &wire::Gate, gate: &Gate, modes: &[Mode]) {
    let concerned: Vec<&Mode> = modes.iter().filter(|it| gate.concerns(&it.name)).collect();
    if let (Some(field), Some(mode), []) = (&written.mode, &gate.mode, concerned.as_slice()) {
        let names: Vec<&str> = modes.iter().map(|mode| mode.name.as_str()).collect();
        let help = match nearest(mode, names.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("the modes here are {}", names.join(", ")),
        };
        judge.refuse(
            field.span(),
            format!("no mode `{mode}` in this profile"),
            &help,
        );
        return;
    }
    match (&written.standby, &gate.standby) {
        (Some(field), Some(standby)) => {
            if let Some((title, help)) = wrong_node(gate, standby, &concerned) {
                judge.refuse(field.span(), title, &help);
            }
        }
        _ if gate.metric.is_of_replicas() => {
            let bare = concerned.iter().find(|mode| gate.nodes_in(mode).is_empty());
            if let (Some(mode), Some(metric)) = (bare, &written.metric) {
                judge.refuse(
                    metric.span(),
                    format!(
                        "mode `{}` has no replica with a `{}`",
                        mode.name, gate.metric
                    ),
                    "name another `mode`, or add nodes under `[topology]`",
                );
            }
        }
        _ => {}
    }
}

/// Why a gate cannot be about this node, and the remedy.
fn wrong_node(gate: &Gate, standby: &str, concerned: &[&Mode]) -> Option<(String, String)> {
    let metric = gate.metric;
    if !metric.is_of_replicas() {
        let title = format!("`{metric}` is measured at the primary, not at each replica");
        return Some((title, "leave out `standby`".into()));
    }
    if standby == Topology::PRIMARY {
        return (!matches!(metric, Metric::Of(Distribution::Visibility, _))).then(|| {
            let title = format!("the primary has no `{metric}`: it follows nobody");
            (
                title,
                "name a replica, or leave out `standby` for all".into(),
            )
        });
    }
    if concerned.iter().any(|mode| !gate.nodes_in(mode).is_empty()) {
        return None;
    }
    let mut names: Vec<String> = Vec::new();
    for node in concerned.iter().flat_map(|mode| mode.topology.replicas()) {
        if !names.contains(&node.name) {
            names.push(node.name);
        }
    }
    let title = match &gate.mode {
        Some(mode) => format!("mode `{mode}` has no replica `{standby}`"),
        None => format!("no mode has a replica `{standby}`"),
    };
    let help = match names.as_slice() {
        [] => "it has none; add nodes under `[topology]`".into(),
        names => format!("there is {}", names.join(", ")),
    };
    Some((title, help))
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
