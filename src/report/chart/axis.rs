//! Axes: they map values to places and carry the tick marks. Every constructor accepts any values, also none, infinite ones or equal
//! ones, and returns an axis with a length above zero and labels.

use itertools::Itertools as _;

use crate::units::three_digits;

/// One axis.
#[derive(Debug, Clone)]
pub(super) struct Axis {
    pub(super) title: String,
    pub(super) ticks: Vec<Tick>,
    map: Map,
    lo: f64,
    hi: f64,
}

/// A mark on an axis. With an empty label it is only a fine line.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tick {
    pub(super) at: f64,
    pub(super) label: String,
}

#[derive(Debug, Clone, Copy)]
enum Map {
    Linear,
    Log,
    /// Linear near zero and logarithmic far from it; the transition is at about this absolute value.
    Asinh(f64),
}

impl Map {
    fn apply(self, value: f64) -> f64 {
        match self {
            Self::Linear => value,
            Self::Log => value.max(f64::MIN_POSITIVE).log10(),
            Self::Asinh(turn) => (value / turn).asinh(),
        }
    }
}

/// The largest absolute value that can have been measured. A damaged file may hold larger ones, which are ignored.
const LARGEST: f64 = 1e18;

/// The least and the greatest of the values that can have been measured; `None` if there are none.
fn range(values: impl IntoIterator<Item = f64>) -> Option<(f64, f64)> {
    let measured = values.into_iter().filter(|value| value.abs() <= LARGEST);
    measured.minmax().into_option()
}

impl Axis {
    fn new(title: &str, ticks: Vec<Tick>, map: Map, (lo, hi): (f64, f64)) -> Self {
        Self {
            title: title.into(),
            ticks,
            map,
            lo,
            hi,
        }
    }

    /// A linear axis from zero to a round number at or above the greatest value.
    pub(super) fn from_zero(title: &str, values: impl IntoIterator<Item = f64>) -> Self {
        let hi = range(values).map_or(1.0, |(_, hi)| if hi > 0.0 { hi } else { 1.0 });
        Self::linear(title, 0.0, hi)
    }

    /// A linear axis from a round number at or below `lo` to a round number at or above `hi`.
    pub(super) fn linear(title: &str, lo: f64, hi: f64) -> Self {
        let hi = if hi > lo { hi } else { lo + 1.0 };
        let step = round_step(lo, hi, 5);
        let (lo, hi) = (
            (lo / step + 1e-9).floor() * step,
            (hi / step - 1e-9).ceil() * step,
        );
        Self::new(title, round_steps(lo, hi, step), Map::Linear, (lo, hi))
    }

    /// A linear axis from zero to exactly `end` seconds, with a mark at `end`.
    pub(super) fn seconds(title: &str, end: f64) -> Self {
        let end = if end > 0.0 { end.min(LARGEST) } else { 1.0 };
        let step = round_step(0.0, end, 5);
        let mut ticks = round_steps(0.0, end, step);
        ticks.retain(|tick| tick.at <= end - 0.4 * step);
        let rounded = if end >= 10.0 { end.round() } else { end };
        ticks.push(Tick::new(end, &number(rounded)));
        Self::new(title, ticks, Map::Linear, (0.0, end))
    }

    /// An axis without marks, for rows that have names instead.
    pub(super) fn unmarked() -> Self {
        Self::new("", Vec::new(), Map::Linear, (0.0, 1.0))
    }

    /// An axis of `count` items at 0, 1, 2 and so on, with labels for some of them: the item's index and its name.
    pub(super) fn row(title: &str, count: usize, names: Vec<(usize, String)>) -> Self {
        let tick = |(at, name): (usize, String)| Tick::new(at as f64, &name);
        let ticks = names.into_iter().map(tick).collect();
        let ends = (-0.5, count.max(1) as f64 - 0.5);
        Self::new(title, ticks, Map::Linear, ends)
    }

    /// An axis around the values. It spans at least a tenth of the largest magnitude, so that noise does not look like change. It is
    /// logarithmic if all values are positive and the greatest is more than eight times the least.
    pub(super) fn around(title: &str, values: &[f64]) -> Self {
        const FAR: f64 = 8.0;
        let Some((lo, hi)) = range(values.iter().copied()) else {
            return Self::linear(title, 0.0, 1.0);
        };
        if lo > 0.0 && hi / lo > FAR {
            return Self::log(title, [lo, hi]);
        }
        let length = (hi - lo).max(0.1 * hi.abs().max(lo.abs())).max(1e-9);
        let margin = (length - (hi - lo)) / 2.0 + 0.04 * length;
        let floor = if lo >= 0.0 { 0.0 } else { f64::NEG_INFINITY };
        Self::linear(title, (lo - margin).max(floor), hi + margin)
    }

    /// A logarithmic axis over the positive values, from a label at or below the least to a label at or above the greatest.
    pub(super) fn log(title: &str, values: impl IntoIterator<Item = f64>) -> Self {
        let (lo, hi) =
            range(values.into_iter().filter(|value| *value > 0.0)).unwrap_or((0.1, 10.0));
        let (lo, hi) = (lo.clamp(1e-12, 1e15) / 1.02, hi.clamp(1e-12, 1e15) * 1.02);
        let (lo, hi, ticks) = log_ticks(lo, hi);
        Self::new(title, ticks, Map::Log, (lo, hi))
    }

    /// An axis of milliseconds: logarithmic, or [`Axis::signed_ms`] if a value is at or below zero.
    pub(super) fn ms(title: &str, values: &[f64]) -> Self {
        match range(values.iter().copied()) {
            Some((lo, hi)) if lo <= 0.0 => Self::signed_ms(title, lo, hi),
            _ => Self::log(title, values.iter().copied()),
        }
    }

    /// An axis of bytes on both sides of zero: linear up to about 1 kiB, logarithmic beyond.
    pub(super) fn bytes(title: &str, values: impl IntoIterator<Item = f64>) -> Self {
        const TURN: f64 = 1024.0;
        let (lo, hi) = range(values).unwrap_or((0.0, TURN));
        let units = ["kiB", "MiB", "GiB", "TiB", "PiB"];
        let mut ticks = vec![Tick::new(0.0, "0")];
        for (power, unit) in units.into_iter().enumerate() {
            for count in [1_u32, 4, 16, 64, 256] {
                let at = f64::from(count) * 1024_f64.powf(power as f64 + 1.0);
                ticks.push(Tick::new(at, &format!("{count} {unit}")));
                ticks.push(Tick::new(-at, &format!("−{count} {unit}")));
            }
        }
        Self::between(title, ticks, Map::Asinh(TURN), lo.min(0.0), hi.max(TURN))
    }

    /// An axis of milliseconds on both sides of zero: linear up to about 0.05 ms, logarithmic beyond.
    pub(super) fn signed_ms(title: &str, lo: f64, hi: f64) -> Self {
        let (lo, hi) = (lo.clamp(-1e9, 0.0), hi.clamp(0.1, 1e9));
        let mut ticks = vec![Tick::new(0.0, "0")];
        for exponent in -1..=9 {
            for value in [10_f64.powi(exponent), 3.0 * 10_f64.powi(exponent)] {
                ticks.push(Tick::new(value, &number(value)));
                ticks.push(Tick::new(-value, &format!("−{}", number(value))));
            }
        }
        Self::between(title, ticks, Map::Asinh(0.05), lo, hi)
    }

    /// An axis from the last mark at or below `lo` to the first mark at or above `hi`. Without such a mark, the axis ends at `lo` or `hi`
    /// itself.
    fn between(title: &str, mut ticks: Vec<Tick>, map: Map, lo: f64, hi: f64) -> Self {
        ticks.sort_by(|a, b| a.at.total_cmp(&b.at));
        let places = || ticks.iter().map(|tick| tick.at);
        let lo = places().rfind(|at| *at <= lo).unwrap_or(lo);
        let hi = places().find(|at| *at >= hi).unwrap_or(hi);
        ticks.retain(|tick| (lo..=hi).contains(&tick.at));
        Self::new(title, ticks, map, (lo, hi))
    }

    /// An axis of percentiles by their nines, that is -log10(1 - share): 0 is 0 %, 1 is 90 %, 2 is 99 %. It begins at 0 %.
    pub(super) fn nines(title: &str, values: impl IntoIterator<Item = f64>) -> Self {
        let hi = range(values).map_or(3.0, |(_, hi)| hi.clamp(1.0, 9.0));
        let marks = [
            (0.0, "0 %"),
            (std::f64::consts::LOG10_2, "50 %"),
            (1.0, "90 %"),
            (2.0, "99 %"),
            (3.0, "99.9 %"),
            (4.0, "99.99 %"),
            (5.0, "99.999 %"),
            (6.0, "99.9999 %"),
        ];
        let mut ticks: Vec<Tick> = marks
            .into_iter()
            .filter(|(at, _)| *at <= hi - 0.2)
            .map(|(at, label)| Tick::new(at, label))
            .collect();
        ticks.push(Tick::new(hi, &percentile(hi)));
        Self::new(title, ticks, Map::Linear, (0.0, hi))
    }

    /// A linear axis of shares from 0 to 100 %.
    pub(super) fn shares(title: &str) -> Self {
        let ticks = [0.0, 0.25, 0.5, 0.75, 1.0]
            .into_iter()
            .map(|share| Tick::new(share, &format!("{:.0} %", share * 100.0)))
            .collect();
        Self::new(title, ticks, Map::Linear, (0.0, 1.0))
    }

    /// A logarithmic axis of shares from `floor` (0.01 is 1 %) to 100 %.
    pub(super) fn log_shares(title: &str, floor: f64) -> Self {
        let lo = if floor > 0.0 {
            floor.clamp(1e-7, 0.1)
        } else {
            1e-4
        };
        let ticks = (-7..=0)
            .map(|exponent| 10_f64.powi(exponent))
            .filter(|share| *share >= lo * 0.999)
            .map(|share| Tick::new(share, &format!("{} %", number(share * 100.0))))
            .collect();
        Self::new(title, ticks, Map::Log, (lo, 1.0))
    }

    /// The place of a value: 0 is the start of the axis and 1 its end. Values beyond an end lie at that end, NaN lies at the start.
    pub(super) fn place(&self, value: f64) -> f64 {
        let (lo, hi) = (self.map.apply(self.lo), self.map.apply(self.hi));
        let share = (self.map.apply(value) - lo) / (hi - lo);
        if share.is_nan() {
            0.0
        } else {
            share.clamp(0.0, 1.0)
        }
    }

    /// The values at `count` equal steps along the axis, both ends included.
    pub(super) fn steps(&self, count: u32) -> Vec<f64> {
        let (lo, hi) = (self.map.apply(self.lo), self.map.apply(self.hi));
        (0..=count)
            .map(|step| {
                let mapped = lo + (hi - lo) * f64::from(step) / f64::from(count.max(1));
                match self.map {
                    Map::Linear => mapped,
                    Map::Log => 10_f64.powf(mapped),
                    Map::Asinh(turn) => mapped.sinh() * turn,
                }
            })
            .collect()
    }
}

impl Tick {
    fn new(at: f64, label: &str) -> Self {
        Self {
            at,
            label: label.into(),
        }
    }
}

/// A number as an axis shows it, without trailing zeros after the decimal point.
pub(super) fn number(value: f64) -> String {
    let text = if value.abs() >= 100.0 || value == 0.0 {
        format!("{value:.0}")
    } else if value.abs() >= 0.001 {
        three_digits_below_one(value)
    } else {
        let text = format!("{value:.8}");
        text.trim_end_matches('0').to_owned()
    };
    match text.parse::<u64>() {
        Ok(whole) if whole >= 10_000 => crate::units::thousands(whole),
        _ => text,
    }
}

fn three_digits_below_one(value: f64) -> String {
    let text = if value.abs() < 0.995 {
        format!("{value:.4}")
    } else {
        three_digits(value)
    };
    let text = text.trim_end_matches('0').trim_end_matches('.');
    text.to_owned()
}

/// The label of a percentile given by its nines, such as `99.96 %`.
fn percentile(nines: f64) -> String {
    let percent = 100.0 * (1.0 - 10_f64.powf(-nines));
    // Enough decimals to show the distance from 100 %.
    let mut decimals = 0;
    while decimals < 9 && 10_f64.powi(-decimals) > (100.0 - percent) * 1.001 {
        decimals += 1;
    }
    let text = format!("{percent:.0$}", usize::try_from(decimals).unwrap_or(0));
    format!("{text} %")
}

fn round_step(lo: f64, hi: f64, about: u32) -> f64 {
    let raw = (hi - lo) / f64::from(about);
    let power = 10_f64.powf(raw.log10().floor());
    [1.0, 2.0, 2.5, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|step| *step >= raw * 0.999)
        .unwrap_or(raw)
}

fn round_steps(lo: f64, hi: f64, step: f64) -> Vec<Tick> {
    let first = (lo / step - 1e-6).ceil() * step;
    (0..=20)
        .map(|index| first + f64::from(index) * step)
        .take_while(|at| *at <= hi + step * 1e-6)
        .map(|at| Tick::new(at, &number(if at.abs() < step * 1e-6 { 0.0 } else { at })))
        .collect()
}

/// The ends of a logarithmic axis and its marks. A range over several powers of ten has labels at the powers only, a shorter one also at
/// digits between these (2 and 5, then more), and one of less than a factor of 1.6 at round numbers.
fn log_ticks(lo: f64, hi: f64) -> (f64, f64, Vec<Tick>) {
    const NARROW: f64 = 1.6;
    if hi / lo < NARROW {
        let step = round_step(lo, hi, 3);
        let (lo, hi) = ((lo / step).floor() * step, (hi / step).ceil() * step);
        if lo > 0.0 {
            return (lo, hi, round_steps(lo, hi, step));
        }
    }
    let decades = (hi / lo).log10();
    let labelled: &[u32] = if decades < 1.0 {
        &[1, 2, 3, 4, 5, 6, 7, 8, 9]
    } else if decades < 1.6 {
        &[1, 2, 3, 5, 7]
    } else if decades < 3.2 {
        &[1, 2, 5]
    } else {
        &[1]
    };
    let mut ticks = Vec::new();
    for exponent in -13..=16 {
        let power = 10_f64.powi(exponent);
        for digit in 1..=9 {
            let at = power * f64::from(digit);
            let shown = labelled.contains(&digit);
            ticks.push(Tick::new(
                at,
                &if shown { number(at) } else { String::new() },
            ));
        }
    }
    let labels = || ticks.iter().filter(|tick| !tick.label.is_empty());
    let near = 1e-9;
    let at_lo = labels().rfind(|tick| tick.at <= lo * (1.0 + near));
    let at_hi = labels().find(|tick| tick.at >= hi * (1.0 - near));
    let (lo, hi) = (
        at_lo.map_or(lo, |tick| tick.at),
        at_hi.map_or(hi, |tick| tick.at),
    );
    ticks.retain(|tick| (lo * (1.0 - near)..=hi * (1.0 + near)).contains(&tick.at));
    (lo, hi, ticks)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(axis: &Axis) {
        assert!(axis.lo < axis.hi, "{axis:?}");
        assert!(
            axis.ticks
                .iter()
                .filter(|tick| !tick.label.is_empty())
                .count()
                >= 1,
            "{axis:?}"
        );
        for value in [
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            0.0,
            -1.0,
            1e300,
            axis.lo,
            axis.hi,
        ] {
            assert!((0.0..=1.0).contains(&axis.place(value)), "{axis:?} {value}");
        }
        assert!(axis.steps(50).iter().all(|value| value.is_finite()));
    }

    #[test]
    fn any_values_make_an_axis() {
        let cases: [&[f64]; 8] = [
            &[],
            &[f64::NAN],
            &[f64::INFINITY, f64::NEG_INFINITY],
            &[0.0],
            &[3.0],
            &[1.0, 1.000_000_1],
            &[-5.0, 1e308],
            &[1e-300, 1e300],
        ];
        for values in cases {
            let values = || values.iter().copied();
            check(&Axis::from_zero("t", values()));
            check(&Axis::log("t", values()));
            check(&Axis::bytes("t", values()));
            check(&Axis::nines("t", values()));
            check(&Axis::seconds("t", values().sum()));
        }
        check(&Axis::signed_ms("t", f64::NEG_INFINITY, f64::INFINITY));
        check(&Axis::log_shares("t", 0.0));
    }

    #[test]
    fn small_logarithmic_ranges_have_labels() {
        for (lo, hi) in [
            (1.0, 1.1),
            (0.97, 1.03),
            (11.0, 19.0),
            (4.0, 5.0),
            (0.021, 0.024),
        ] {
            let axis = Axis::log("t", [lo, hi]);
            let labels = axis
                .ticks
                .iter()
                .filter(|tick| !tick.label.is_empty())
                .count();
            assert!((2..=12).contains(&labels), "{lo} {hi} {axis:?}");
        }
    }

    /// Checks that the outermost labels stand at or beyond the data.
    fn check_ends(axis: &Axis, lo: f64, hi: f64) {
        let labelled = || axis.ticks.iter().filter(|tick| !tick.label.is_empty());
        let (first, last) = (labelled().next().unwrap(), labelled().next_back().unwrap());
        assert!(first.at <= lo + 1e-9 * lo.abs(), "{lo} {axis:?}");
        assert!(
            last.at >= hi - 1e-9 * hi.abs() || axis.place(last.at) > 0.997,
            "{hi} {axis:?}"
        );
    }

    #[test]
    fn every_axis_has_a_label_at_both_ends_of_the_data() {
        for (lo, hi) in [
            (0.127, 1.75),
            (0.53, 3.2),
            (1.02, 1.9),
            (4.0, 5.0),
            (0.018, 940.0),
            (0.97, 1.03),
        ] {
            check_ends(&Axis::log("t", [lo, hi]), lo, hi);
            check_ends(&Axis::from_zero("t", [lo, hi]), 0.0, hi);
            check_ends(&Axis::around("t", &[lo, hi]), lo, hi);
            check_ends(&Axis::linear("t", -lo, hi), -lo, hi);
            check_ends(&Axis::signed_ms("t", -lo, hi), -lo, hi);
            check_ends(
                &Axis::bytes("t", [-1e3 * lo, 1e3 * hi]),
                -1e3 * lo,
                1e3 * hi,
            );
            check_ends(&Axis::seconds("t", hi * 20.0), 0.0, hi * 20.0);
            check_ends(
                &Axis::nines("t", [hi.clamp(1.0, 9.0)]),
                0.0,
                hi.clamp(1.0, 9.0),
            );
        }
    }

    #[test]
    fn the_last_percentile_is_named_with_the_digits_it_needs() {
        for (nines, text) in [
            (1.0, "90 %"),
            (2.0, "99 %"),
            (3.0, "99.9 %"),
            (3.4, "99.96 %"),
        ] {
            assert_eq!(percentile(nines), text);
        }
    }

    #[test]
    fn numbers_have_no_idle_digits() {
        for (value, text) in [
            (0.1, "0.1"),
            (1.0, "1"),
            (2.5, "2.5"),
            (10.0, "10"),
            (1e4, "10,000"),
            (0.0001, "0.0001"),
        ] {
            assert_eq!(number(value), text);
        }
    }
}
