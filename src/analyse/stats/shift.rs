//! How far one set of repetitions lies from another: estimate, intervals, p-value, and the smallest shift that could have been found. Knows
//! numbers only.
//!
//! Values may be infinite: `+inf` is a censored figure, larger than all that was seen. It stays in the population. The difference of two
//! censored figures is unknown and may be anything (`ordered.rs`); every interval holds and every p-value stays valid whatever this
//! difference was.
//!
//! Interval and p-value go together: the 95 % interval leaves out 0 if p <= 0.05 (except with ties, zeros and rounding, where the interval
//! is the more cautious of the two). A verdict needs both.

use serde::Serialize;
use statrs::distribution::{Binomial, ContinuousCDF, DiscreteCDF, StudentsT};

use super::ordered::Ordered;
use super::ranks::{self, Untied};
use super::{FEWEST, Interval, order_statistics, t_quantile};

/// The power at which an effect counts as detectable.
const POWER: f64 = 0.80;

/// How far head lies from base, on the scale that the values were given on (logarithms, where effects are factors).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shift {
    /// May be infinite; `None` when it depends on an unknown difference.
    pub estimate: Option<f64>,
    /// May be infinite at one end; `None` with too few repetitions for the confidence.
    pub interval95: Option<Interval>,
    pub interval90: Option<Interval>,
    /// The two-sided p-value.
    pub p: Option<f64>,
    /// The smallest true shift that the test finds at 5 % with a probability of 80 %, given the measured spread. `None` with censored
    /// values, or with so few values that no shift is ever found.
    pub detectable: Option<f64>,
    pub method: Method,
    /// Repetitions of base and of head.
    pub n: (usize, usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Student's t on the differences of pairs.
    PairedT,
    /// Order statistics of the differences of pairs, some of which are censored, and the sign test.
    PairedOrder,
    /// Hodges-Lehmann estimate, Mann-Whitney test.
    MannWhitney,
}

impl Shift {
    /// The shift if there are no values or one is not a number: nothing is known.
    fn unknown(method: Method, n: (usize, usize)) -> Self {
        Self {
            estimate: None,
            interval95: None,
            interval90: None,
            p: None,
            detectable: None,
            method,
            n,
        }
    }
}

/// The shift within pairs (base, head). At least three pairs are needed for an interval and a p-value.
pub fn paired(pairs: &[(f64, f64)]) -> Shift {
    let n = (pairs.len(), pairs.len());
    if pairs.is_empty()
        || pairs
            .iter()
            .any(|(base, head)| base.is_nan() || head.is_nan())
    {
        return Shift::unknown(Method::PairedT, n);
    }
    // Infinity less infinity is NaN: unknown.
    let differences: Vec<f64> = pairs.iter().map(|(base, head)| head - base).collect();
    if differences.iter().all(|difference| difference.is_finite()) {
        paired_t(&differences)
    } else {
        paired_order(&differences)
    }
}

/// If all differences are equal, they have no spread to test against. The interval is then a point and p is 0, or 1 if the differences are
/// all 0: these are the limits for a spread that goes to 0. Any other p would make a change that is the same in every pair, to the
/// resolution of the figures, less certain than a change that varies a little.
fn paired_t(differences: &[f64]) -> Shift {
    let n = differences.len();
    let mut shift = Shift::unknown(Method::PairedT, (n, n));
    let Some(sample) = Sample::of(differences) else {
        return shift;
    };
    shift.estimate = Some(sample.mean);
    if n < FEWEST {
        return shift;
    }
    let degrees = n - 1;
    let error = (sample.squares / degrees as f64 / n as f64).sqrt();
    let interval = |confidence: f64| {
        let reach = t_quantile(f64::midpoint(1.0, confidence), degrees)? * error;
        Some(Interval {
            lo: sample.mean - reach,
            hi: sample.mean + reach,
        })
    };
    shift.interval95 = interval(0.95);
    shift.interval90 = interval(0.90);
    shift.detectable = detectable(degrees, error);
    shift.p = if error > 0.0 {
        two_sided_t(sample.mean / error, degrees)
    } else {
        Some(if sample.mean == 0.0 { 1.0 } else { 0.0 })
    };
    shift
}

/// The median difference with its binomial interval, which needs six pairs for 95 % and five for 90 %.
fn paired_order(differences: &[f64]) -> Shift {
    let n = differences.len();
    let depths = [0.95, 0.90].map(|confidence| order_statistics(n, confidence));
    let (ordered, shift) = by_order(differences.to_vec(), depths, Method::PairedOrder, (n, n));
    Shift {
        p: (n >= FEWEST).then(|| sign_test(&ordered)).flatten(),
        ..shift
    }
}

/// The median difference, and its 95 % and 90 % intervals, whose ends lie at the given depths from either end of the ordered differences.
fn by_order(
    differences: Vec<f64>,
    depths: [Option<usize>; 2],
    method: Method,
    n: (usize, usize),
) -> (Ordered, Shift) {
    let wanted: Vec<usize> = depths.into_iter().flatten().collect();
    let ordered = Ordered::of(differences, &wanted);
    let [interval95, interval90] = depths.map(|depth| ordered.interval(depth?));
    let shift = Shift {
        estimate: ordered.median(),
        interval95,
        interval90,
        ..Shift::unknown(method, n)
    };
    (ordered, shift)
}

/// The p-value of the sign test: differences of 0 say nothing and are left out, unknown differences are counted with the rarer sign.
fn sign_test(ordered: &Ordered) -> Option<f64> {
    let count = |sign: fn(f64) -> bool| ordered.known().iter().filter(|d| sign(**d)).count();
    let (below, above) = (count(|d| d < 0.0), count(|d| d > 0.0));
    let n = (below + above + ordered.unknown()) as u64;
    if n == 0 {
        return Some(1.0);
    }
    let fewer = (below.min(above) + ordered.unknown()) as u64;
    let binomial = Binomial::new(0.5, n).ok()?;
    Some((2.0 * binomial.cdf(fewer.min(n / 2))).min(1.0))
}

/// The shift between independent repetitions: the median of all differences (J. L. Hodges and E. L. Lehmann, 1963), with the interval and
/// the p-value of the Mann-Whitney test, exact up to 25 against 25 values and wherever else counting is cheap. Memory grows with the
/// product of the sizes.
pub fn unpaired(base: &[f64], head: &[f64]) -> Shift {
    let n = (base.len(), head.len());
    let is_nan = |values: &[f64]| values.iter().any(|value| value.is_nan());
    if base.is_empty() || head.is_empty() || is_nan(base) || is_nan(head) {
        return Shift::unknown(Method::MannWhitney, n);
    }
    let untied = Untied::new(n.0, n.1);
    let depths = [0.95, 0.90].map(|confidence| untied.depth(confidence));
    let mut differences = Vec::with_capacity(n.0 * n.1);
    for head in head {
        differences.extend(base.iter().map(|base| head - base));
    }
    let (_, shift) = by_order(differences, depths, Method::MannWhitney, n);
    Shift {
        p: Some(ranks::two_sided_p(base, head)),
        // Where the outermost ranks do not reach 95 %, no shift is ever found.
        detectable: depths[0].and_then(|_| detectable_by_ranks(base, head)),
        ..shift
    }
}

/// The smallest detectable shift: from the pooled deviation, as for t, enlarged by the asymptotic relative efficiency of ranks, which is
/// 3/pi for normal values.
fn detectable_by_ranks(base: &[f64], head: &[f64]) -> Option<f64> {
    let (of_base, of_head) = (Sample::of(base)?, Sample::of(head)?);
    let (m, n) = (base.len(), head.len());
    let degrees = m + n - 2;
    let pooled = (of_base.squares + of_head.squares) / degrees as f64;
    let error = (pooled * (1.0 / m as f64 + 1.0 / n as f64)).sqrt();
    Some(detectable(degrees, error)? * (std::f64::consts::PI / 3.0).sqrt())
}

fn detectable(degrees: usize, error: f64) -> Option<f64> {
    Some((t_quantile(0.975, degrees)? + t_quantile(POWER, degrees)?) * error)
}

/// Mean and sum of squared deviations.
struct Sample {
    mean: f64,
    squares: f64,
}

impl Sample {
    /// `None` if a value is infinite or the sums overflow. Equal values have a deviation of exactly 0, without rounding errors.
    fn of(values: &[f64]) -> Option<Self> {
        let n = values.len() as f64;
        #[expect(clippy::float_cmp, reason = "the very same value")]
        let alike = values.windows(2).all(|two| two[0] == two[1]);
        let mean = if alike {
            *values.first()?
        } else {
            values.iter().sum::<f64>() / n
        };
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        (mean.is_finite() && squares.is_finite()).then_some(Self { mean, squares })
    }
}

fn two_sided_t(t: f64, degrees: usize) -> Option<f64> {
    let distribution = StudentsT::new(0.0, 1.0, degrees as f64).ok()?;
    Some((2.0 * distribution.cdf(-t.abs())).min(1.0))
}

#[cfg(test)]
mod tests;
