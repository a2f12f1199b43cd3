//! Estimates over repetitions with their intervals, and the comparison of two sides. Knows numbers only.
//!
//! - [`paired`] and [`unpaired`]: the [`Shift`] between two sides, including censored figures; [`benjamini_hochberg`]: the correction for
//!   many of them in one table. `tests/simulation.rs` checks by simulation that their error rates are as promised.
//! - [`geometric_mean`], [`arithmetic_mean`]: the mean, of logarithms or of the values, with Student's t interval. Times and rates are
//!   skewed and their effects are factors; on a logarithmic scale they become symmetric and additive. Pairs within a block cancel what
//!   drifts from block to block (simulated false alarms at a drift of 10 %: 4.8 % against 60 % when one side runs after the other).
//! - [`median`]: from 6 values on the interval between order statistics, which assumes nothing about the distribution and whose coverage is
//!   binomial (n = 6: 96.9 %). With fewer values no pair of order statistics reaches 95 %, even the extremes cover only 93.8 % at n = 5, so
//!   3 to 5 values get the t interval on logarithms, or on the values themselves if one is not above zero. One or two values get no
//!   interval: with two values, t spans a factor of 12.7 standard errors and says nothing.

mod multiple;
mod ordered;
mod ranks;
mod shift;

pub use multiple::benjamini_hochberg;
pub use shift::{Method, Shift, paired, unpaired};

use statrs::distribution::{Binomial, ContinuousCDF, DiscreteCDF, StudentsT};

/// Confidence of every interval in this file.
const CONFIDENCE: f64 = 0.95;

/// The smallest number of values with an interval.
const FEWEST: usize = 3;

/// A range that covers the true value in 95 % of repetitions of the whole experiment, or in the percentage that its name says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    pub lo: f64,
    pub hi: f64,
}

impl Interval {
    pub fn contains(self, value: f64) -> bool {
        self.lo <= value && value <= self.hi
    }

    fn map(self, change: impl Fn(f64) -> f64) -> Self {
        Self {
            lo: change(self.lo),
            hi: change(self.hi),
        }
    }
}

/// A figure over repetitions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// Infinite if it falls among censored repetitions: for a median, if at least half of the repetitions are censored.
    pub value: f64,
    /// `None` if there are too few repetitions (with a censored one, fewer than six), and for figures that have no interval.
    pub interval: Option<Interval>,
    pub n: usize,
}

impl Estimate {
    /// The estimate on another scale; `change` must be an increasing function.
    #[must_use]
    pub fn map(self, change: impl Fn(f64) -> f64) -> Self {
        Self {
            value: change(self.value),
            interval: self.interval.map(|interval| interval.map(&change)),
            n: self.n,
        }
    }
}

/// The quantile of Student's t for a two-sided 95 % interval.
fn student_t(degrees: usize) -> Option<f64> {
    t_quantile(f64::midpoint(1.0, CONFIDENCE), degrees)
}

fn t_quantile(probability: f64, degrees: usize) -> Option<f64> {
    let t = StudentsT::new(0.0, 1.0, degrees as f64).ok()?;
    Some(t.inverse_cdf(probability))
}

/// The geometric mean of positive values; `None` when there are none or one is not positive and finite.
pub fn geometric_mean(values: &[f64]) -> Option<Estimate> {
    let positive = values.iter().all(|value| value.is_finite() && *value > 0.0);
    positive.then_some(())?;
    let logs: Vec<f64> = values.iter().map(|value| value.ln()).collect();
    Some(arithmetic_mean(&logs)?.map(f64::exp))
}

/// The median; infinite values stand for censored ones. `None` when there is no value, or one is not a number.
pub fn median(values: &[f64]) -> Option<Estimate> {
    if values.is_empty() || values.iter().any(|value| value.is_nan()) {
        return None;
    }
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len();
    let value = if n % 2 == 1 {
        sorted[n / 2]
    } else {
        f64::midpoint(sorted[n / 2 - 1], sorted[n / 2])
    };
    let interval = match order_statistics(n, CONFIDENCE) {
        Some(depth) => Some(Interval {
            lo: sorted[depth - 1],
            hi: sorted[n - depth],
        }),
        None if sorted[n - 1].is_finite() => geometric_mean(&sorted)
            .or_else(|| arithmetic_mean(&sorted))
            .and_then(|estimate| estimate.interval),
        None => None,
    };
    Some(Estimate { value, interval, n })
}

/// The depth, counted from each end, of the order statistics between which the median lies with at least this confidence. `None` if even
/// the extremes do not reach the confidence, which at 95 % is below n = 6.
fn order_statistics(n: usize, confidence: f64) -> Option<usize> {
    let binomial = Binomial::new(0.5, n as u64).ok()?;
    (1..=n / 2)
        .take_while(|depth| 1.0 - 2.0 * binomial.cdf(*depth as u64 - 1) >= confidence)
        .last()
}

/// The mean with Student's t interval; `None` when there are no values or one is not finite.
pub fn arithmetic_mean(values: &[f64]) -> Option<Estimate> {
    let n = values.len();
    let usable = n > 0 && values.iter().all(|value| value.is_finite());
    usable.then_some(())?;
    let mean = values.iter().sum::<f64>() / n as f64;
    let interval = (n >= FEWEST).then(|| {
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let error = (squares / (n - 1) as f64 / n as f64).sqrt();
        student_t(n - 1).map(|t| Interval {
            lo: mean - t * error,
            hi: mean + t * error,
        })
    });
    Some(Estimate {
        value: mean,
        interval: interval.flatten(),
        n,
    })
}

#[cfg(test)]
mod tests {
    //! Reference values: `SciPy` 1.17.1, `scipy.stats` (`t.ppf`, `t.interval`, `ttest_rel`, `quantile_test`, `binom.cdf`).

    use super::*;

    const SYNC: [f64; 6] = [1.21, 1.35, 1.18, 1.42, 1.27, 1.30];

    fn close(found: f64, expected: f64) -> bool {
        (found - expected).abs() <= 1e-6 * expected.abs()
    }

    fn check(estimate: Option<Estimate>, value: f64, lo: f64, hi: f64) {
        let estimate = estimate.unwrap();
        let interval = estimate.interval.unwrap();
        assert!(
            close(estimate.value, value) && close(interval.lo, lo) && close(interval.hi, hi),
            "{estimate:?}"
        );
    }

    #[test]
    fn student_t_agrees_with_scipy() {
        for (degrees, expected) in [
            (2, 4.302_652_729_749_462),
            (3, 3.182_446_305_283_707_8),
            (5, 2.570_581_835_636_314_6),
            (9, 2.262_157_162_798_205),
            (30, 2.042_272_456_301_237_8),
        ] {
            assert!(close(student_t(degrees).unwrap(), expected), "{degrees}");
        }
    }

    #[test]
    fn the_geometric_mean_agrees_with_scipy() {
        check(
            geometric_mean(&SYNC),
            1.285_798_04,
            1.196_415_14,
            1.381_858_65,
        );
    }

    #[test]
    fn the_median_of_nine_has_the_interval_of_scipy_quantile_test() {
        check(
            median(&[3.0, 1.0, 4.0, 1.5, 9.0, 2.6, 5.0, 3.5, 8.0]),
            3.5,
            1.5,
            8.0,
        );
    }

    #[test]
    fn order_statistics_cover_95_percent_from_six_values_on() {
        // 1 - 2 * binom.cdf(depth - 1, n, 0.5) >= 0.95
        let expected = [
            (5, None),
            (6, Some(1)),
            (8, Some(1)),
            (9, Some(2)),
            (11, Some(2)),
            (12, Some(3)),
        ];
        for (n, depth) in expected {
            assert_eq!(order_statistics(n, CONFIDENCE), depth, "{n}");
        }
    }

    #[test]
    fn few_values_have_a_t_interval_and_fewer_none() {
        let four = [-0.035, 0.012, 0.020, -0.010];
        let estimate = median(&four).unwrap();
        assert!(close(estimate.value, 0.001));
        assert!(close(
            estimate.interval.unwrap().lo,
            -0.042_515_399_447_038_55
        ));
        assert!(median(&[1.0, 2.0]).unwrap().interval.is_none());
    }

    #[test]
    fn censored_repetitions_are_larger_than_all_others() {
        let inf = f64::INFINITY;
        assert!(median(&[1.0, inf, inf]).unwrap().value.is_infinite());
        let six = median(&[1.0, 2.0, 3.0, 4.0, 5.0, inf]).unwrap();
        assert!(close(six.value, 3.5) && six.interval.unwrap().hi.is_infinite());
    }

    #[test]
    fn nonsense_has_no_estimate() {
        assert!(median(&[]).is_none());
        assert!(median(&[f64::NAN, 1.0]).is_none());
        assert!(geometric_mean(&[1.0, 0.0]).is_none());
        assert!(arithmetic_mean(&[1.0, f64::INFINITY]).is_none());
    }
}
