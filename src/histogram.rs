//! `HdrHistograms` of durations with fixed bounds, and a signed pair of them.
//!
//! Values are nanoseconds between 1 µs and one hour, three significant digits; larger ones saturate, and
//! nothing is ever resized while measuring. Percentiles of several are those of the merged histogram.

use std::time::Duration;

use hdrhistogram::Histogram as Hdr;

const LOWEST_NS: u64 = 1_000;
const HIGHEST_NS: u64 = 3_600_000_000_000;
const DIGITS: u8 = 3;

/// A distribution of durations.
#[derive(Debug, Clone)]
pub struct Histogram(Hdr<u64>);

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

    /// Adds all of `other`, which may have other bounds (one read from a file): values beyond ours saturate.
    pub fn merge(&mut self, other: &Self) {
        if self.0.add(&other.0).is_err() {
            for bucket in other.0.iter_recorded() {
                self.0.saturating_record_n(
                    bucket.value_iterated_to(),
                    bucket.count_since_last_iteration(),
                );
            }
        }
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

    /// The value below which a share `q` (0 to 1) of `population` lies, where `population - count()`
    /// observations are known only to be larger than all recorded ones (censored).
    /// `None` when nothing was recorded or the quantile falls among the censored.
    pub fn quantile_of(&self, q: f64, population: u64) -> Option<Duration> {
        if self.is_empty() || population == 0 {
            return None;
        }
        let rank = rank(q, population);
        (rank <= self.count()).then(|| {
            Duration::from_nanos(self.0.value_at_quantile(rank as f64 / self.count() as f64))
        })
    }

    /// The value below which a share `q` (0 to 1) lies; `None` when empty.
    pub fn quantile(&self, q: f64) -> Option<Duration> {
        self.quantile_of(q, self.count())
    }

    pub fn max(&self) -> Option<Duration> {
        (!self.is_empty()).then(|| Duration::from_nanos(self.0.max()))
    }

    pub fn mean(&self) -> Option<Duration> {
        (!self.is_empty()).then(|| Duration::from_secs_f64(self.0.mean() / 1e9))
    }

    /// Recorded buckets in rising order: the upper value of each in nanoseconds, and its count.
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

    /// Takes a histogram read from an interval log.
    pub fn from_hdr(hdr: &Hdr<u64>) -> Self {
        let mut histogram = Self::new();
        if histogram.0.add(hdr).is_err() {
            for bucket in hdr.iter_recorded() {
                histogram.0.saturating_record_n(
                    bucket.value_iterated_to(),
                    bucket.count_since_last_iteration(),
                );
            }
        }
        histogram
    }
}

/// Which observation, counted from 1, is the quantile `q` (0 to 1) of `population` (nearest rank).
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the product lies between 1 and `population`"
)]
pub fn rank(q: f64, population: u64) -> u64 {
    ((q * population as f64).ceil().max(1.0) as u64).min(population)
}

/// A distribution of signed durations: two histograms, one each side of zero.
#[derive(Debug, Clone, Default)]
pub struct SignedHistogram {
    /// Magnitudes of the values below zero.
    pub negative: Histogram,
    /// The values from zero up.
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

    /// The quantile `q` in signed seconds, where `population - count()` observations are censored on the right.
    pub fn quantile_of(&self, q: f64, population: u64) -> Option<f64> {
        if population == 0 || self.count() == 0 {
            return None;
        }
        let rank = rank(q, population);
        let below = self.negative.count();
        if rank > self.count() {
            None
        } else if rank <= below {
            // The rank-th smallest is the (below - rank + 1)-th smallest magnitude from the far end.
            let from_zero = below - rank + 1;
            self.negative
                .quantile(from_zero as f64 / below as f64)
                .map(|value| -value.as_secs_f64())
        } else {
            let above = rank - below;
            self.positive
                .quantile(above as f64 / self.positive.count() as f64)
                .map(|value| value.as_secs_f64())
        }
    }

    /// How many values lie above `threshold` (not below zero).
    pub fn count_above(&self, threshold: Duration) -> u64 {
        let nanos = u64::try_from(threshold.as_nanos()).unwrap_or(u64::MAX);
        self.positive
            .buckets()
            .filter(|(value, _)| *value > nanos)
            .map(|(_, count)| count)
            .sum()
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
        assert_eq!(signed.count_above(Duration::from_micros(450)), 5);
    }
}
