//! Every figure of a cell, declared once: its name, its statistics, its unit, which direction is better, where it is read from, and
//! whether a gate may be set on it. The summary, the table of modes, comparisons, gates, histories and the site read this table; a new
//! figure needs only a new entry.
//!
//! The figures that are judged are declared before any measurement, so that none is chosen because of its result.

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

/// A measured quantity, with one or more statistics. All quantities are declared in `table`.
#[derive(Debug)]
pub struct Quantity {
    /// The name in the column `metric` of `summary.csv`.
    pub name: &'static str,
    pub unit: Unit,
    pub direction: Direction,
    /// How values of the quantity are averaged and compared.
    pub scale: Scale,
    over: Over,
    /// The largest difference, in `unit`, that cannot be told from no difference.
    pub floor: f64,
    /// All statistics that `summary.csv` has, in the order of [`Stat`].
    stats: &'static [Stat],
    /// The statistics that comparisons and histories judge.
    judged: &'static [Stat],
    /// What a gate needs to know of the quantity; `None` if no gate can be set on it.
    gated: Option<Gated>,
    source: Source,
}

/// What a gate needs to know of a quantity.
#[derive(Debug, Clone, Copy)]
pub struct Gated {
    pub population: Population,
    /// Why censored observations, which are larger than all recorded ones, have no value: for example `never sent`.
    pub censored: &'static str,
}

/// What must be complete before a gate judges a quantity, so that the part left in a damaged run directory is not taken for the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Population {
    /// Every acknowledged commit is recorded.
    Acknowledged,
    /// Every acknowledged commit is recorded or known to be censored.
    Commits,
    /// At least one arrival was offered.
    Arrivals,
    Samples,
}

/// Where a quantity is read from, and thereby whether there is one value for each cell or one for each replica.
#[derive(Debug, Clone, Copy)]
enum Source {
    Cell(fn(&CellRow, &CellFigures) -> Option<Reading>),
    Replica(fn(&ReplicaFigures) -> Option<Reading>),
}

/// What was measured of a quantity, in seconds, bytes or counts.
#[derive(Debug, Clone, Copy)]
enum Reading {
    /// Quantiles of a distribution.
    Spread(Spread),
    /// One value, and the number of observations that it is based on.
    Value(f64, u64),
}

/// One statistic of a quantity, such as `response.p99`. Metrics are ordered as they are declared in `table`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Metric {
    /// An index into [`QUANTITIES`].
    quantity: usize,
    pub stat: Stat,
}

/// All metrics by the texts of the columns `metric` and `stat` of `summary.csv`.
static BY_NAME: LazyLock<HashMap<(&str, &str), Metric>> = LazyLock::new(|| {
    let names = |it: &Metric| (it.name(), it.stat.as_str());
    Metric::all().map(|it| (names(&it), it)).collect()
});

/// A figure of one cell.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// The value in the unit of the quantity; `None` if it falls among the censored observations.
    pub value: Option<f64>,
    /// The number of observations that the value is based on, censored ones included.
    pub n: u64,
    pub censored: u64,
    /// The largest recorded observation; every censored observation is larger.
    pub largest: Option<f64>,
}

/// A statistic of a quantity within one cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stat {
    /// The value of a quantity that has only one.
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
    /// A share of a whole, from 0 to 1; a share of processor time is relative to one core.
    Share,
}

/// How an effect on a quantity is expressed, and therefore how its repetitions are averaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// The ratio of head to base; means are geometric. For quantities that have a natural zero and are always above it.
    Ratio,
    /// The difference head minus base; means are arithmetic.
    Difference,
}

/// How the figures of several repetitions become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// The mean on the scale of the quantity.
    Mean,
    Largest,
    Sum,
}

impl Stat {
    /// The text in the column `stat` of `summary.csv`.
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
    /// The text in the column `unit` of `summary.csv`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PerSecond => "1/s",
            Self::Micros => "us",
            Self::Bytes => "B",
            Self::BytesPerSecond => "B/s",
            Self::Count | Self::Share => "1",
        }
    }

    /// The factor from base units (seconds, bytes, counts) to this unit.
    pub fn per_base(self) -> f64 {
        match self {
            Self::Micros => 1e6,
            _ => 1.0,
        }
    }

    /// Formats a figure in seconds, bytes or counts for people, with three significant digits.
    pub fn rounded(self, value: f64) -> String {
        match self {
            Self::Micros => format_seconds(value),
            Self::Bytes => format_bytes(value),
            Self::BytesPerSecond => format!("{}/s", format_bytes(value)),
            Self::PerSecond => format!("{}/s", three_digits(value)),
            Self::Count | Self::Share => self.exactly(value),
        }
    }

    /// Formats a limit in seconds, bytes or counts as a person would write it, without rounding.
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

    /// Converts a distance on the scale to a relative change (0.05 is 5 %) or to a difference in the unit of the figure.
    pub fn share(self, distance: f64) -> f64 {
        match self {
            Self::Ratio => distance.exp_m1(),
            Self::Difference => distance,
        }
    }
}

impl Metric {
    /// All figures of the summary, in its order: the figures of a cell, then the figures of a replica.
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

    /// All figures that comparisons and histories judge.
    pub fn judged() -> Vec<Self> {
        Self::all().filter(|it| it.is_judged()).collect()
    }

    /// The judged figures that a word of `--metric` means: `response.p99`, or `response` for all statistics of that quantity.
    pub fn named(word: &str) -> Vec<Self> {
        let means = |it: &Self| it.name() == word || it.to_string() == word;
        Self::judged().into_iter().filter(means).collect()
    }

    /// All figures that a gate can be set on.
    pub fn gateable() -> impl Iterator<Item = Self> {
        Self::all().filter(|it| it.quantity().gated.is_some())
    }

    /// What a gate needs to know of the figure; `None` if no gate can be set on it.
    pub fn gated(self) -> Option<Gated> {
        self.quantity().gated
    }

    /// The figure with these texts in the columns `metric` and `stat` of `summary.csv`.
    pub fn of(metric: &str, stat: &str) -> Option<Self> {
        let by_name: &HashMap<(&str, &str), Self> = &BY_NAME;
        by_name.get(&(metric, stat)).copied()
    }

    pub fn is_judged(self) -> bool {
        self.quantity().judged.contains(&self.stat)
    }

    /// Whether readers of many runs (comparisons and histories) need a row of `summary.csv`.
    pub fn is_needed(metric: &str, stat: &str) -> bool {
        Self::of(metric, stat).is_some_and(|it| it.is_judged() || table::is_beside(it))
    }

    /// The name in the column `metric` of `summary.csv`.
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

    /// Whether the figure is a delay from the acknowledgement of commits until a read sees them.
    pub fn is_visibility(self) -> bool {
        self.name() == table::VISIBILITY
    }

    /// For a visibility delay, which is an upper bound: the same statistic of the lower bounds.
    pub fn lower_bound(self) -> Option<Self> {
        self.beside(table::VISIBILITY_LO)
    }

    /// For a visibility delay: the figure that says how far apart the probe's checks were.
    pub fn resolution(self) -> Option<Self> {
        self.is_visibility()
            .then(|| Self::of("resolution", "value"))?
    }

    /// For a visibility delay, which counts from the acknowledgement: the same statistic of the delay from the send.
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

    /// Whether the figure is measured for each replica.
    pub fn is_of_replica(self) -> bool {
        matches!(self.quantity().source, Source::Replica(_))
    }

    /// How these values of the figure are averaged and compared. If any value is not above zero, and so has no logarithm, differences are
    /// used.
    pub fn scale<'a>(self, mut values: impl Iterator<Item = &'a f64>) -> Scale {
        match self.quantity().scale {
            Scale::Ratio if values.all(|value| *value > 0.0) => Scale::Ratio,
            _ => Scale::Difference,
        }
    }

    /// The figure's value in a cell; `None` if it is a figure of replicas or was not measured.
    pub fn in_cell(self, cell: &CellRow, figures: &CellFigures) -> Option<Measured> {
        match self.quantity().source {
            Source::Cell(read) => self.measured(read(cell, figures)?),
            Source::Replica(_) => None,
        }
    }

    /// The figure's value for a replica; `None` if it is a figure of cells or was not measured.
    pub fn in_replica(self, replica: &ReplicaFigures) -> Option<Measured> {
        match self.quantity().source {
            Source::Replica(read) => self.measured(read(replica)?),
            Source::Cell(_) => None,
        }
    }

    fn measured(self, reading: Reading) -> Option<Measured> {
        let unit = |value: f64| Some(value * self.unit().per_base()).filter(|it| it.is_finite());
        let measured = match (reading, self.stat) {
            // An infinite value is censored: it is larger than everything that was recorded.
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

/// A word that is not the name of a metric on which a gate can be set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown metric `{0}`")]
pub struct UnknownMetric(String);

/// Reads the metric of a gate, written as [`Display`](fmt::Display) shows it.
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
    /// Writes the name with the statistic, `response.p99`, or the name alone, `achieved_tps`, if the quantity has only one value.
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
