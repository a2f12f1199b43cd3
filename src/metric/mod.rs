//! Every figure of a cell, declared once: its name, its statistics, its unit, which way it is better, how it is taken, and whether a gate
//! may be on it. The summary, the table of modes, comparisons, gates, histories and the site read this table; to add a figure is to add
//! an entry to it.
//!
//! The figures that are judged are declared beforehand, so that none is picked by its outcome.

mod figures;
mod table;

use std::collections::HashMap;
use std::fmt;
use std::sync::LazyLock;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::sample::{CellRow, Direction};
use crate::units::{
    exact_bytes, exact_duration, format_bytes, format_seconds, thousands, three_digits,
};
use table::QUANTITIES;

pub use figures::{CellFigures, OutageFigures, ReplicaFigures, SetbackFigures, Spread};

/// What is measured, with one or more statistics. Quantities live in `table` and nowhere else.
#[derive(Debug)]
pub struct Quantity {
    /// As in the column `metric` of `summary.csv`.
    pub name: &'static str,
    pub unit: Unit,
    pub direction: Direction,
    /// How its values are averaged and compared.
    pub scale: Scale,
    over: Over,
    /// A difference up to this cannot be told from none, in `unit`.
    pub floor: f64,
    /// All that `summary.csv` has, in the order of [`Stat`].
    stats: &'static [Stat],
    /// Those that comparisons and histories judge.
    judged: &'static [Stat],
    /// `None`: no gate can be on it.
    gated: Option<Gated>,
    source: Source,
}

/// What a gate needs to know of a quantity.
#[derive(Debug, Clone, Copy)]
pub struct Gated {
    pub population: Population,
    /// What became of the observations that are larger than everything recorded: `never sent`.
    pub censored: &'static str,
}

/// Of what a quantity must be whole, so that what a damaged directory has left does not pass for all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Population {
    /// Every acknowledged commit is recorded.
    Acknowledged,
    /// Every acknowledged commit is recorded or known to be censored.
    Commits,
    /// Something was offered.
    Arrivals,
    Samples,
}

/// From where a quantity is taken; this is also whether there is one a cell or one a replica of it.
#[derive(Debug, Clone, Copy)]
enum Source {
    Cell(fn(&CellRow, &CellFigures) -> Option<Reading>),
    Replica(fn(&ReplicaFigures) -> Option<Reading>),
}

/// What a cell has of a quantity, in seconds, bytes or counts.
#[derive(Debug, Clone, Copy)]
enum Reading {
    /// Quantiles of a distribution.
    Spread(Spread),
    /// One value, and the observations behind it.
    Value(f64, u64),
}

/// One statistic of a quantity, such as `response.p99`. In the order of their declaration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Metric {
    /// Its place among [`QUANTITIES`].
    quantity: usize,
    pub stat: Stat,
}

/// By metric and stat, as `summary.csv` names them.
static BY_NAME: LazyLock<HashMap<(&str, &str), Metric>> = LazyLock::new(|| {
    let names = |it: &Metric| (it.name(), it.stat.as_str());
    Metric::all().map(|it| (names(&it), it)).collect()
});

/// A figure of one cell.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// In the unit of the quantity; `None` when it falls among the censored.
    pub value: Option<f64>,
    /// Observations behind it, censored ones included.
    pub n: u64,
    pub censored: u64,
    /// The largest that was recorded: every censored one is larger.
    pub largest: Option<f64>,
}

/// A statistic of a quantity within one cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stat {
    /// The quantity has but one value.
    Value,
    P50,
    P90,
    P99,
    P999,
    Max,
}

/// Units of `summary.csv`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    PerSecond,
    Micros,
    Bytes,
    BytesPerSecond,
    Count,
    /// A part of a whole, from 0 to 1 (of processors: of one core).
    Share,
}

/// What an effect on a quantity is, and so in what way its repetitions are averaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// Head over base; means are geometric. For quantities with a natural zero that they do not reach.
    Ratio,
    /// Head less base; means are arithmetic.
    Difference,
}

/// How the figures of several repetitions become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// By their mean on the scale of the quantity.
    Mean,
    Largest,
    Sum,
}

impl Stat {
    /// As in the column `stat`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Value => "value",
            Self::P50 => "p50",
            Self::P90 => "p90",
            Self::P99 => "p99",
            Self::P999 => "p999",
            Self::Max => "max",
        }
    }
}

impl Unit {
    /// As in the column `unit`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PerSecond => "1/s",
            Self::Micros => "us",
            Self::Bytes => "B",
            Self::BytesPerSecond => "B/s",
            Self::Count | Self::Share => "1",
        }
    }

    /// How many of the unit a second, a byte or a count is.
    pub fn per_base(self) -> f64 {
        match self {
            Self::Micros => 1e6,
            _ => 1.0,
        }
    }

    /// A figure in seconds, bytes or counts as a person reads it, three significant digits.
    pub fn rounded(self, value: f64) -> String {
        match self {
            Self::Micros => format_seconds(value),
            Self::Bytes => format_bytes(value),
            Self::BytesPerSecond => format!("{}/s", format_bytes(value)),
            Self::PerSecond => format!("{}/s", three_digits(value)),
            Self::Count | Self::Share => self.exactly(value),
        }
    }

    /// A bound, in seconds, bytes or counts, as a person would have written it, nothing rounded.
    pub fn exactly(self, value: f64) -> String {
        match self {
            Self::Micros => Duration::try_from_secs_f64(value)
                .map_or_else(|_| format!("{value} s"), exact_duration),
            Self::Bytes => whole(value).map_or_else(|| format!("{value} B"), exact_bytes),
            Self::BytesPerSecond => format!("{}/s", Self::Bytes.exactly(value)),
            Self::PerSecond => format!("{value}/s"),
            Self::Count | Self::Share => whole(value).map_or_else(|| value.to_string(), thousands),
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

impl Scale {
    pub fn to(self, value: f64) -> f64 {
        match self {
            Self::Ratio => value.ln(),
            Self::Difference => value,
        }
    }

    pub fn out_of(self, value: f64) -> f64 {
        match self {
            Self::Ratio => value.exp(),
            Self::Difference => value,
        }
    }

    /// A distance on the scale as a share, or in the unit of the figure.
    pub fn share(self, distance: f64) -> f64 {
        match self {
            Self::Ratio => distance.exp_m1(),
            Self::Difference => distance,
        }
    }
}

impl Metric {
    /// Every figure of the summary, in its order: those of a cell, then those of each of its replicas.
    pub fn all() -> impl Iterator<Item = Self> {
        let quantities = QUANTITIES.iter().enumerate();
        quantities.flat_map(|(quantity, declared)| {
            let stats = declared.stats.iter();
            stats.map(move |&stat| Self { quantity, stat })
        })
    }

    fn quantity(self) -> &'static Quantity {
        &QUANTITIES[self.quantity]
    }

    /// Every figure that comparisons and histories judge.
    pub fn judged() -> Vec<Self> {
        Self::all().filter(|it| it.is_judged()).collect()
    }

    /// Those that a word of `--metric` means: `response.p99`, or `response` for all of its kind.
    pub fn named(word: &str) -> Vec<Self> {
        let means = |it: &Self| it.name() == word || it.to_string() == word;
        Self::judged().into_iter().filter(means).collect()
    }

    /// Every figure that a gate can be on.
    pub fn gateable() -> impl Iterator<Item = Self> {
        Self::all().filter(|it| it.quantity().gated.is_some())
    }

    /// What a gate on it needs to know; `None` where no gate can be.
    pub fn gated(self) -> Option<Gated> {
        self.quantity().gated
    }

    /// The figure of these names in `summary.csv`.
    pub fn of(metric: &str, stat: &str) -> Option<Self> {
        let by_name: &HashMap<(&str, &str), Self> = &BY_NAME;
        by_name.get(&(metric, stat)).copied()
    }

    pub fn is_judged(self) -> bool {
        self.quantity().judged.contains(&self.stat)
    }

    /// Whether a row of `summary.csv` is needed by what reads many runs.
    pub fn is_needed(metric: &str, stat: &str) -> bool {
        Self::of(metric, stat).is_some_and(|it| it.is_judged() || table::is_beside(it))
    }

    /// As in the column `metric`.
    pub fn name(self) -> &'static str {
        self.quantity().name
    }

    pub fn unit(self) -> Unit {
        self.quantity().unit
    }

    pub fn direction(self) -> Direction {
        self.quantity().direction
    }

    pub fn floor(self) -> f64 {
        self.quantity().floor
    }

    /// How the figures of several repetitions become one.
    pub fn over(self) -> Over {
        match self.stat {
            Stat::Max => Over::Largest,
            _ => self.quantity().over,
        }
    }

    /// Of when commits are visible to a read, counted from their acknowledgement.
    pub fn is_visibility(self) -> bool {
        self.name() == table::VISIBILITY
    }

    /// Of a delay of visibility, which is an upper bound, the figure of its lower bounds.
    pub fn lower_bound(self) -> Option<Self> {
        self.beside(table::VISIBILITY_LO)
    }

    /// Of a delay of visibility, how far apart the looks were that found it.
    pub fn resolution(self) -> Option<Self> {
        self.is_visibility()
            .then(|| Self::of("resolution", "value"))?
    }

    /// Of a delay of visibility, which counts from the acknowledgement, the whole from the send.
    pub fn from_send(self) -> Option<Self> {
        self.beside(table::VISIBILITY_SEND)
    }

    pub fn is_from_send(self) -> bool {
        self.name() == table::VISIBILITY_SEND
    }

    fn beside(self, name: &str) -> Option<Self> {
        self.is_visibility()
            .then(|| Self::of(name, self.stat.as_str()))?
    }

    /// Whether there is one for each replica.
    pub fn is_of_replica(self) -> bool {
        matches!(self.quantity().source, Source::Replica(_))
    }

    /// How these values of it are averaged and compared. A value that is not above zero has no logarithm.
    pub fn scale<'a>(self, mut values: impl Iterator<Item = &'a f64>) -> Scale {
        match self.quantity().scale {
            Scale::Ratio if values.all(|value| *value > 0.0) => Scale::Ratio,
            _ => Scale::Difference,
        }
    }

    /// The figure of a cell, if it is one of cells and was measured.
    pub fn in_cell(self, cell: &CellRow, figures: &CellFigures) -> Option<Measured> {
        match self.quantity().source {
            Source::Cell(read) => self.measured(read(cell, figures)?),
            Source::Replica(_) => None,
        }
    }

    /// The figure of a replica, if it is one of replicas and was measured.
    pub fn in_replica(self, replica: &ReplicaFigures) -> Option<Measured> {
        match self.quantity().source {
            Source::Replica(read) => self.measured(read(replica)?),
            Source::Cell(_) => None,
        }
    }

    fn measured(self, reading: Reading) -> Option<Measured> {
        let unit = |value: f64| Some(value * self.unit().per_base()).filter(|it| it.is_finite());
        let measured = match (reading, self.stat) {
            // Infinite: larger than everything that was recorded.
            (Reading::Value(value, n), _) => Measured {
                value: unit(value),
                n,
                censored: u64::from(value.is_infinite()),
                largest: None,
            },
            (Reading::Spread(spread), stat) => {
                let value = match stat {
                    Stat::P50 => spread.p50,
                    Stat::P90 => spread.p90,
                    Stat::P99 => spread.p99,
                    Stat::P999 => spread.p999,
                    Stat::Max => spread.max,
                    Stat::Value => return None,
                };
                Measured {
                    value: value.and_then(unit),
                    n: spread.n,
                    censored: spread.censored,
                    largest: spread.largest.and_then(unit),
                }
            }
        };
        Some(measured)
    }
}

/// A word that names no metric on which a gate can be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown metric `{0}`")]
pub struct UnknownMetric(String);

/// A gate names a metric as it is shown.
impl TryFrom<String> for Metric {
    type Error = UnknownMetric;

    fn try_from(text: String) -> Result<Self, UnknownMetric> {
        let found = Self::gateable().find(|metric| metric.to_string() == text);
        found.ok_or(UnknownMetric(text))
    }
}

impl From<Metric> for String {
    fn from(metric: Metric) -> Self {
        metric.to_string()
    }
}

impl fmt::Display for Metric {
    /// `response.p99`; `achieved_tps` has but one value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.stat {
            Stat::Value => f.write_str(self.name()),
            stat => write!(f, "{}.{}", self.name(), stat.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_word_names_one_figure_or_a_kind() {
        assert_eq!(Metric::named("response").len(), 2);
        assert_eq!(Metric::named("response.p99").len(), 1);
        assert_eq!(Metric::named("achieved_tps")[0].to_string(), "achieved_tps");
        assert!(Metric::named("p99").is_empty());
        assert!(Metric::named("start_lag").is_empty(), "it is not judged");
    }

    #[test]
    fn every_figure_is_declared_once() {
        let names: Vec<String> = Metric::all().map(|it| it.to_string()).collect();
        let once: BTreeSet<&String> = names.iter().collect();
        assert_eq!(once.len(), names.len());
    }

    #[test]
    fn figures_are_ordered_as_they_are_declared() {
        assert!(Metric::all().is_sorted());
    }

    #[test]
    fn every_gateable_metric_is_read_back_from_its_name() {
        assert_eq!(Metric::gateable().count(), 45);
        for metric in Metric::gateable() {
            let json = serde_json::to_string(&metric).unwrap();
            assert_eq!(json, format!("\"{metric}\""));
            assert_eq!(serde_json::from_str::<Metric>(&json).unwrap(), metric);
        }
        for unknown in ["visibility", "unseen.p99", "pool_wait.p99"] {
            assert!(Metric::try_from(unknown.to_owned()).is_err(), "{unknown}");
        }
    }

    #[test]
    fn bounds_are_told_as_they_were_written() {
        for (unit, value, text) in [
            (Unit::Micros, 0.05, "50 ms"),
            (Unit::Micros, 5.0, "5 s"),
            (Unit::Micros, 0.0, "0 s"),
            (Unit::Micros, -0.5, "-0.5 s"),
            (Unit::Bytes, 1_048_576.0, "1 MiB"),
            (Unit::PerSecond, 499.5, "499.5/s"),
            (Unit::Count, 12_000.0, "12,000"),
        ] {
            assert_eq!(unit.exactly(value), text);
        }
    }

    #[test]
    fn what_is_not_above_zero_is_averaged_as_it_is() {
        let rate = Metric::named("achieved_tps")[0];
        assert_eq!(rate.scale([5.0, f64::INFINITY].iter()), Scale::Ratio);
        assert_eq!(rate.scale([5.0, 0.0].iter()), Scale::Difference);
        let delay = Metric::named("visibility.p50")[0];
        assert_eq!(delay.scale([5.0, 6.0].iter()), Scale::Difference);
    }
}
