//! `HdrHistograms` of durations with fixed bounds, and a pair of them for signed durations.
//!
//! Values are nanoseconds up to one hour, exact below 2,048 ns and with three significant digits above. Larger values are recorded as one
//! hour, so a histogram is never resized while measuring. A percentile of several histograms is that of the merged histogram.

use std::time::Duration;

use hdrhistogram::Histogram as Hdr;
use serde::{Deserialize, Serialize};

/// The width of the finest buckets in nanoseconds. With a larger one, all values below 2,048 times this width would be rounded to it.
const LOWEST_NS: u64 = 1;
const HIGHEST_NS: u64 = 3_600_000_000_000;
const DIGITS: u8 = 3;

/// A distribution of durations. It is serialised as its recorded buckets: value in nanoseconds and count.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "Vec<(u64, u64)>", into = "Vec<(u64, u64)>")]
pub struct Histogram(Hdr<u64>);

impl From<Histogram> for Vec<(u64, u64)> {
    fn from(histogram: Histogram) -> Self {
        histogram.buckets().collect()
    }
}

impl From<Vec<(u64, u64)>> for Histogram {
    fn from(buckets: Vec<(u64, u64)>) -> Self {
        let mut histogram = Self::new();
        for (nanos, count) in buckets {
            histogram.record_nanos_n(nanos, count);
        }
        histogram
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

impl Histogram {
    pub fn new() -> Self {
        Self(
            Hdr::new_with_bounds(LOWEST_NS, HIGHEST_NS, DIGITS)
                .expect("the bounds and digits are constants that hdrhistogram accepts"),
        )
    }

    pub fn record(&mut self, duration: Duration) {
        self.record_nanos(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
    }

    pub fn record_nanos(&mut self, nanos: u64) {
        self.0.saturating_record(nanos);
    }

    /// Records `count` observations of one value.
    pub fn record_nanos_n(&mut self, nanos: u64, count: u64) {
        self.0.saturating_record_n(nanos, count);
    }

    /// Adds all observations of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.0
            .add(&other.0)
            .expect("all have the bounds that `new` gives them");
    }

    pub fn clear(&mut self) {
        self.0.reset();
    }

    pub fn count(&self) -> u64 {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The quantile `q` (0 to 1) of `population` observations. `population - count()` of them are censored: it is only known that they are
    /// larger than all recorded ones. `None` if nothing was recorded or the quantile falls among the censored observations.
    pub fn quantile_of(&self, q: f64, population: u64) -> Option<Duration> {
        if self.is_empty() || population == 0 {
            return None;
        }
        self.at_rank(rank(q, population))
    }

    /// The `rank`-th smallest value, counted from 1, at the upper end of its bucket; `None` beyond the largest.
    fn at_rank(&self, rank: u64) -> Option<Duration> {
        if rank == 0 || rank > self.count() {
            return None;
        }
        // The library multiplies the quantile by the count and rounds up. Half a rank is subtracted, so that rounding errors do not reach
        // the next rank.
        let quantile = (rank as f64 - 0.5) / self.count() as f64;
        Some(Duration::from_nanos(self.0.value_at_quantile(quantile)))
    }

    /// The quantile `q` (0 to 1) of the recorded values; `None` if there are none.
    pub fn quantile(&self, q: f64) -> Option<Duration> {
        self.quantile_of(q, self.count())
    }

    pub fn max(&self) -> Option<Duration> {
        (!self.is_empty()).then(|| Duration::from_nanos(self.0.max()))
    }

    pub fn mean(&self) -> Option<Duration> {
        (!self.is_empty()).then(|| Duration::from_secs_f64(self.0.mean() / 1e9))
    }

    /// The recorded buckets in ascending order: the upper value of each bucket in nanoseconds, and its count.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.0.iter_recorded().map(|bucket| {
            (
                bucket.value_iterated_to(),
                bucket.count_since_last_iteration(),
            )
        })
    }

    /// The wrapped histogram, for writing interval logs.
    pub fn as_hdr(&self) -> &Hdr<u64> {
        &self.0
    }
}

/// The rank, counted from 1, of the observation that is the quantile `q` (0 to 1) of `population` observations (nearest rank).
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of `PARTS` is not negative and lies below it, and the rank lies between 1 and `population`"
)]
pub fn rank(q: f64, population: u64) -> u64 {
    // Calculated in integers, because as floating-point numbers 0.07 times 100 is 7.000000000000001, whose ceiling is 8.
    const PARTS: u128 = 1_000_000_000_000;
    let parts = (q.clamp(0.0, 1.0) * PARTS as f64).round() as u128;
    let rank = (parts * u128::from(population)).div_ceil(PARTS) as u64;
    rank.max(1).min(population)
}

/// A distribution of signed durations: one histogram for each side of zero.
#[derive(Debug, Clone, Default)]
pub struct SignedHistogram {
    /// The magnitudes of negative values.
    pub negative: Histogram,
    /// The values of zero and above.
    pub positive: Histogram,
}

impl SignedHistogram {
    pub fn record(&mut self, nanos: i64) {
        if nanos < 0 {
            self.negative.record_nanos(nanos.unsigned_abs());
        } else {
            self.positive.record_nanos(nanos.unsigned_abs());
        }
    }

    pub fn merge(&mut self, other: &Self) {
        self.negative.merge(&other.negative);
        self.positive.merge(&other.positive);
    }

    pub fn clear(&mut self) {
        self.negative.clear();
        self.positive.clear();
    }

    pub fn count(&self) -> u64 {
        self.negative.count() + self.positive.count()
    }

    /// The quantile `q` (0 to 1) in signed seconds. `population - count()` observations are censored: they are larger than all recorded
    /// ones.
    pub fn quantile_of(&self, q: f64, population: u64) -> Option<f64> {
        if population == 0 || self.count() == 0 {
            return None;
        }
        let rank = rank(q, population);
        let below = self.negative.count();
        if rank <= below {
            // Magnitudes are in reverse order: the rank-th smallest value has the (below - rank + 1)-th smallest magnitude.
            let magnitude = self.negative.at_rank(below - rank + 1);
            magnitude.map(|value| -value.as_secs_f64())
        } else {
            let value = self.positive.at_rank(rank - below);
            value.map(|value| value.as_secs_f64())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn micros(values: impl IntoIterator<Item = u64>) -> Histogram {
        let mut histogram = Histogram::new();
        for value in values {
            histogram.record(Duration::from_micros(value));
        }
        histogram
    }

    fn close(found: Duration, expected_us: u64) -> bool {
        let expected = Duration::from_micros(expected_us).as_secs_f64();
        (found.as_secs_f64() - expected).abs() <= expected * 0.002
    }

    #[test]
    fn quantiles_are_within_three_digits() {
        let histogram = micros(1..=1_000);
        assert!(close(histogram.quantile(0.5).unwrap(), 500));
        assert!(close(histogram.quantile(0.99).unwrap(), 990));
        assert!(micros([]).quantile(0.5).is_none());
    }

    #[test]
    fn three_digits_hold_from_a_microsecond_up() {
        for exponent in 0..=330 {
            let nanos = 10_f64.powf(3.0 + f64::from(exponent) / 50.0);
            let mut histogram = Histogram::new();
            histogram.record(Duration::from_secs_f64(nanos / 1e9));
            let found = histogram.quantile(0.5).unwrap().as_secs_f64() * 1e9;
            assert!((found - nanos).abs() <= nanos / 1e3, "{found} of {nanos}");
        }
    }

    #[test]
    fn ranks_are_exact_at_every_population() {
        for (q, parts) in [
            (0.5, 500),
            (0.9, 900),
            (0.99, 990),
            (0.999, 999),
            (0.07, 70),
        ] {
            for n in (1..=100_000).chain([999_999_000, 1_000_000_000, 123_456_789_000]) {
                assert_eq!(rank(q, n), (n * parts).div_ceil(1_000), "{q} of {n}");
            }
        }
        assert_eq!(rank(0.0, 10), 1);
        assert_eq!(rank(1.0, u64::MAX), u64::MAX);
    }

    /// Values that each have a bucket of their own, so that a rank that is off by one shows.
    fn well_separated(index: u64) -> u64 {
        (1_000 + index % 1_000) << (index / 1_000)
    }

    #[test]
    fn quantiles_are_those_of_the_sorted_values_at_every_count() {
        let mut histogram = Histogram::new();
        let (mut negative, mut positive) = (SignedHistogram::default(), SignedHistogram::default());
        for n in 1..=5_000_u64 {
            let value = well_separated(n - 1);
            histogram.record_nanos(value);
            negative.record(-value.cast_signed());
            positive.record(value.cast_signed());
            for (q, parts) in [
                (0.5, 500),
                (0.9, 900),
                (0.99, 990),
                (0.999, 999),
                (1.0, 1_000),
            ] {
                let rank = (n * parts).div_ceil(1_000);
                let near = |found: f64, index: u64| {
                    let expected = well_separated(index) as f64;
                    found >= expected && found < expected * 1.000_98
                };
                let found = histogram.quantile(q).unwrap().as_nanos() as f64;
                assert!(near(found, rank - 1), "{q} of {n}: {found}");
                if n % 11 > 0 {
                    continue;
                }
                let found = positive.quantile_of(q, n).unwrap() * 1e9;
                assert!(near(found.round(), rank - 1), "{q} of {n}: {found}");
                let found = -negative.quantile_of(q, n).unwrap() * 1e9;
                assert!(near(found.round(), n - rank), "{q} of {n}: {found}");
            }
        }
    }

    #[test]
    fn every_rank_has_its_own_value() {
        for n in [1, 2, 3, 7, 49, 99, 100, 101, 1_000, 4_999_u64] {
            let mut histogram = Histogram::new();
            (0..n).for_each(|index| histogram.record_nanos(well_separated(index)));
            for rank in 1..=n {
                let found = histogram.at_rank(rank).unwrap().as_nanos() as f64;
                let expected = well_separated(rank - 1) as f64;
                assert!(
                    found >= expected && found < expected * 1.000_98,
                    "{rank} of {n}"
                );
            }
            assert!(histogram.at_rank(0).is_none() && histogram.at_rank(n + 1).is_none());
        }
    }

    #[test]
    fn censored_observations_push_the_quantile_up_or_out() {
        let histogram = micros(1..=900);
        assert!(close(histogram.quantile_of(0.5, 1_000).unwrap(), 500));
        assert!(histogram.quantile_of(0.99, 1_000).is_none());
    }

    #[test]
    fn merged_percentiles_are_those_of_the_union() {
        let mut merged = micros(1..=500);
        merged.merge(&micros(501..=1_000));
        assert!(close(merged.quantile(0.9).unwrap(), 900));
    }

    #[test]
    fn values_beyond_the_bounds_saturate_and_are_counted() {
        let mut histogram = Histogram::new();
        histogram.record(Duration::from_hours(5));
        histogram.record_nanos(0);
        assert_eq!(histogram.count(), 2);
    }

    #[test]
    fn signed_quantiles_cross_zero() {
        let mut signed = SignedHistogram::default();
        for value in -50..50_i64 {
            signed.record(value * 10_000 + 5_000);
        }
        let p10 = signed.quantile_of(0.10, 100).unwrap();
        let p90 = signed.quantile_of(0.90, 100).unwrap();
        assert!((p10 + 405e-6).abs() < 2e-6, "{p10}");
        assert!((p90 - 395e-6).abs() < 2e-6, "{p90}");
        assert!(signed.quantile_of(0.99, 200).is_none());
    }
}
