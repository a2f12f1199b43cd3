//! Every figure of a cell, declared once: its name, its statistics, its unit, which way it is better, and how it is taken. The summary,
//! the table of modes, comparisons, gates, histories and the site read this table; to add a figure is to add a line to it.
//!
//! The figures that are judged are declared beforehand, so that nobody picks them by how they came out.

mod table;

use std::cmp::Ordering;
use std::collections::HashMap;
use std::fmt;
use std::sync::LazyLock;

use serde::Serialize;

use super::cell::{CellFigures, ReplicaFigures, Spread};
use crate::sample::{CellRow, Direction};
use table::QUANTITIES;

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
    /// All that `summary.csv` has.
    stats: &'static [Stat],
    /// Those that comparisons and histories judge.
    judged: &'static [Stat],
    source: Source,
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
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    quantity: &'static Quantity,
    pub stat: Stat,
    /// Among all that are declared.
    place: usize,
}

static ALL: LazyLock<Vec<Metric>> = LazyLock::new(|| {
    let stats =
        |quantity: &'static Quantity| quantity.stats.iter().map(move |stat| (quantity, *stat));
    let declared = QUANTITIES.iter().flat_map(stats).enumerate();
    let metrics = declared.map(|(place, (quantity, stat))| Metric {
        quantity,
        stat,
        place,
    });
    metrics.collect()
});

/// By metric and stat, as `summary.csv` names them.
static BY_NAME: LazyLock<HashMap<(&str, &str), Metric>> = LazyLock::new(|| {
    let names = |it: &Metric| (it.name(), it.stat.as_str());
    ALL.iter().map(|it| (names(it), *it)).collect()
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
            Self::Count | Self::Share => "1",
        }
    }

    /// How many of the unit a second, a byte or a count is.
    pub(super) fn per_base(self) -> f64 {
        match self {
            Self::Micros => 1e6,
            _ => 1.0,
        }
    }
}

impl Scale {
    pub(super) fn to(self, value: f64) -> f64 {
        match self {
            Self::Ratio => value.ln(),
            Self::Difference => value,
        }
    }

    pub(super) fn out_of(self, value: f64) -> f64 {
        match self {
            Self::Ratio => value.exp(),
            Self::Difference => value,
        }
    }

    /// A distance on the scale as a share, or in the unit of the figure.
    pub(super) fn share(self, distance: f64) -> f64 {
        match self {
            Self::Ratio => distance.exp_m1(),
            Self::Difference => distance,
        }
    }
}

impl Metric {
    /// Every figure of the summary, in its order: those of a cell, then those of each of its replicas.
    pub fn all() -> impl Iterator<Item = Self> {
        ALL.iter().copied()
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

    /// The figure of these names in `summary.csv`.
    pub fn of(metric: &str, stat: &str) -> Option<Self> {
        let by_name: &HashMap<(&str, &str), Self> = &BY_NAME;
        by_name.get(&(metric, stat)).copied()
    }

    pub fn is_judged(self) -> bool {
        self.quantity.judged.contains(&self.stat)
    }

    /// Whether a row of `summary.csv` is needed by what reads many runs.
    pub fn is_needed(metric: &str, stat: &str) -> bool {
        Self::of(metric, stat).is_some_and(|it| it.is_judged() || table::is_beside(it))
    }

    /// As in the column `metric`.
    pub fn name(self) -> &'static str {
        self.quantity.name
    }

    pub fn unit(self) -> Unit {
        self.quantity.unit
    }

    pub fn direction(self) -> Direction {
        self.quantity.direction
    }

    pub fn floor(self) -> f64 {
        self.quantity.floor
    }

    /// How the figures of several repetitions become one.
    pub fn over(self) -> Over {
        match self.stat {
            Stat::Max => Over::Largest,
            _ => self.quantity.over,
        }
    }

    /// Of a delay of visibility, which is an upper bound, the figure of its lower bounds.
    pub fn lower_bound(self) -> Option<Self> {
        self.beside(table::VISIBILITY_LO)
    }

    /// Of a delay of visibility, how far apart the looks were that found it.
    pub fn resolution(self) -> Option<Self> {
        (self.name() == table::VISIBILITY).then(|| Self::of("resolution", "value"))?
    }

    /// Of a delay of visibility, which counts from the acknowledgement, the whole from the send.
    pub fn from_send(self) -> Option<Self> {
        self.beside(table::VISIBILITY_SEND)
    }

    pub fn is_from_send(self) -> bool {
        self.name() == table::VISIBILITY_SEND
    }

    fn beside(self, name: &str) -> Option<Self> {
        let is_delay = self.name() == table::VISIBILITY;
        is_delay.then(|| Self::of(name, self.stat.as_str()))?
    }

    /// Whether there is one for each replica.
    pub fn is_of_replica(self) -> bool {
        matches!(self.quantity.source, Source::Replica(_))
    }

    /// How these values of it are averaged and compared. A value that is not above zero has no logarithm.
    pub fn scale<'a>(self, mut values: impl Iterator<Item = &'a f64>) -> Scale {
        match self.quantity.scale {
            Scale::Ratio if values.all(|value| *value > 0.0) => Scale::Ratio,
            _ => Scale::Difference,
        }
    }

    /// The figure of a cell, if it is one of cells and was measured.
    pub fn in_cell(self, cell: &CellRow, figures: &CellFigures) -> Option<Measured> {
        match self.quantity.source {
            Source::Cell(read) => self.measured(read(cell, figures)?),
            Source::Replica(_) => None,
        }
    }

    /// The figure of a replica, if it is one of replicas and was measured.
    pub fn in_replica(self, replica: &ReplicaFigures) -> Option<Measured> {
        match self.quantity.source {
            Source::Replica(read) => self.measured(read(replica)?),
            Source::Cell(_) => None,
        }
    }

    fn measured(self, reading: Reading) -> Option<Measured> {
        let unit = |value: f64| Some(value * self.unit().per_base()).filter(|it| it.is_finite());
        let measured = match (reading, self.stat) {
            (Reading::Value(value, n), _) => Measured {
                value: unit(value),
                n,
                censored: 0,
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

impl PartialEq for Metric {
    fn eq(&self, other: &Self) -> bool {
        self.place == other.place
    }
}

impl Eq for Metric {}

impl PartialOrd for Metric {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Metric {
    fn cmp(&self, other: &Self) -> Ordering {
        self.place.cmp(&other.place)
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
    use crate::plan::{GateUnit, Metric as GateMetric};

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
    fn every_gate_is_on_a_declared_figure() {
        for gate in GateMetric::all() {
            let name = gate.to_string();
            let metric = Metric::all().find(|it| it.to_string() == name);
            let metric = metric.unwrap_or_else(|| panic!("{name} is not declared"));
            assert_eq!(metric.is_of_replica(), gate.is_of_replicas(), "{name}");
            let unit = match gate.unit() {
                GateUnit::Seconds => Unit::Micros,
                GateUnit::Bytes => Unit::Bytes,
                GateUnit::PerSecond => Unit::PerSecond,
                GateUnit::Count => Unit::Count,
            };
            assert_eq!(metric.unit(), unit, "{name}");
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
