//! The distribution of rank sums when the two sides do not differ, which the Mann-Whitney test and its interval are derived from. Knows
//! numbers only.
//!
//! The distribution is exact: all ways to pick one side's ranks from the pool are counted by the sum of these ranks. Ties keep their
//! mid-ranks, so the counts are those of all permutations of the data. Ranks are doubled, which makes mid-ranks whole numbers.

use statrs::distribution::{ContinuousCDF, Normal};

/// The most counting steps, which take a few milliseconds. With ties, the counts for up to 25 against 25 values need no more.
const MOST_STEPS: usize = 2_500_000;

/// Probabilities that differ by less than this are equal: 1 - 0.9 is not 0.1 in binary.
const ROUNDING: f64 = 1e-12;

/// The two-sided p of the Mann-Whitney test: twice the smaller tail.
///
/// Finite values that are equal share their mid-rank. Infinite (censored) values are not ties, because it is unknown which of them was
/// larger: they are ranked in the order that speaks most against a difference.
pub(super) fn two_sided_p(base: &[f64], head: &[f64]) -> f64 {
    let pool = Pool::of(base, head);
    pool.exact_p().unwrap_or_else(|| pool.normal_p())
}

/// Both sides' values as doubled ranks.
struct Pool {
    /// The doubled ranks, ascending.
    doubled: Vec<usize>,
    /// The smallest and the largest possible sum of head's doubled ranks: it depends on the order of the censored values.
    head: (usize, usize),
    n_base: usize,
    n_head: usize,
    /// The sum of t^3 - t over groups of t tied values.
    ties: f64,
}

impl Pool {
    fn of(base: &[f64], head: &[f64]) -> Self {
        let mut all: Vec<(f64, bool)> = base
            .iter()
            .map(|value| (*value, false))
            .chain(head.iter().map(|value| (*value, true)))
            .collect();
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut pool = Self {
            doubled: Vec::with_capacity(all.len()),
            head: (0, 0),
            n_base: base.len(),
            n_head: head.len(),
            ties: 0.0,
        };
        #[expect(clippy::float_cmp, reason = "a tie is the very same value")]
        for group in all.chunk_by(|a, b| a.0 == b.0) {
            let of_head = group.iter().filter(|(_, is_head)| *is_head).count();
            pool.rank(group.len(), of_head, group[0].0.is_finite());
        }
        pool
    }

    /// Gives the next ranks to a group of equal values, `of_head` of which belong to head.
    fn rank(&mut self, size: usize, of_head: usize, finite: bool) {
        let first = self.doubled.len() + 1;
        let last = self.doubled.len() + size;
        if finite {
            self.doubled.extend(std::iter::repeat_n(first + last, size));
            self.head.0 += of_head * (first + last);
            self.head.1 += of_head * (first + last);
            let t = size as f64;
            self.ties += t.powi(3) - t;
        } else {
            self.doubled.extend((first..=last).map(|rank| 2 * rank));
            // The sum of consecutive ranks, doubled, is their number times first plus last.
            self.head.0 += of_head * (2 * first + of_head - 1);
            self.head.1 += of_head * (2 * last + 1 - of_head);
        }
    }

    /// The exact p-value, the largest over all orders of the censored values; `None` if counting would take too long.
    fn exact_p(&self) -> Option<f64> {
        let chosen = self.n_base.min(self.n_head);
        let unit = if self.doubled.iter().all(|rank| rank % 2 == 0) {
            2
        } else {
            1
        };
        let (least, most) = if self.n_head == chosen {
            self.head
        } else {
            let all: usize = self.doubled.iter().sum();
            (all - self.head.1, all - self.head.0)
        };
        let ranks: Vec<usize> = self.doubled.iter().map(|rank| rank / unit).collect();
        let ways = ways(&ranks, chosen)?;
        let (least, most) = (least / unit, most / unit);
        let mut below: f64 = ways[..least].iter().sum();
        let mut above: f64 = ways[least..].iter().sum();
        let total = below + above;
        let mut tail: f64 = 0.0;
        for count in &ways[least..=most] {
            below += count;
            tail = tail.max(below.min(above));
            above -= count;
        }
        Some((2.0 * tail / total).min(1.0))
    }

    /// The p-value of the normal approximation, with corrections for ties and continuity as in R's `wilcox.test(correct = TRUE)`.
    fn normal_p(&self) -> f64 {
        let expected = self.n_head * (self.doubled.len() + 1);
        let nearest = expected.clamp(self.head.0, self.head.1);
        if nearest == expected {
            return 1.0;
        }
        let (m, n) = (self.n_base as f64, self.n_head as f64);
        let all = m + n;
        let variance = m * n / 12.0 * (all + 1.0 - self.ties / (all * (all - 1.0)));
        // The rank sums and the continuity correction of 0.5 are doubled here.
        let distance = (nearest.abs_diff(expected) as f64 - 1.0) / 2.0;
        (2.0 * Normal::standard().cdf(-distance / variance.sqrt())).min(1.0)
    }
}

/// The distribution, without ties, of the number of pairs (one value of each side) in which head's value is the smaller one.
pub(super) struct Untied {
    sizes: (usize, usize),
    /// The number of ways for each number of such pairs; `None` if counting would take too long.
    ways: Option<Vec<f64>>,
}

impl Untied {
    pub(super) fn new(n_base: usize, n_head: usize) -> Self {
        let chosen = n_base.min(n_head);
        let ranks: Vec<usize> = (1..=n_base + n_head).collect();
        let least = chosen * (chosen + 1) / 2;
        Self {
            sizes: (n_base, n_head),
            ways: ways(&ranks, chosen).map(|ways| ways[least..].to_vec()),
        }
    }

    /// How deep, counted from either end of the ordered differences, the ends of an interval lie that covers the shift with at least this
    /// confidence. `None` if even the outermost differences do not cover it. With ties the coverage is higher, never lower.
    pub(super) fn depth(&self, confidence: f64) -> Option<usize> {
        let tail = (1.0 - confidence) / 2.0;
        let Some(ways) = &self.ways else {
            return self.normal_depth(tail);
        };
        let total: f64 = ways.iter().sum();
        let mut cumulated = 0.0;
        let depth = ways
            .iter()
            .take_while(|count| {
                cumulated += *count / total;
                cumulated <= tail + ROUNDING
            })
            .count();
        (depth > 0).then_some(depth)
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "floored and at least 1"
    )]
    fn normal_depth(&self, tail: f64) -> Option<usize> {
        let (m, n) = (self.sizes.0 as f64, self.sizes.1 as f64);
        let deviation = (m * n * (m + n + 1.0) / 12.0).sqrt();
        let z = Normal::standard().inverse_cdf(tail);
        let depth = (m * n / 2.0 + 0.5 + z * deviation).floor();
        (depth >= 1.0).then_some(depth as usize)
    }
}

/// The number of ways in which `chosen` of the `ranks` (ascending) have each sum; `None` if counting would take too long.
fn ways(ranks: &[usize], chosen: usize) -> Option<Vec<f64>> {
    let most: usize = ranks.iter().rev().take(chosen).sum();
    let steps = ranks.len().checked_mul(chosen)?.checked_mul(most)?;
    (steps <= MOST_STEPS).then_some(())?;
    // counts[k][s]: ways to have picked k ranks of sum s.
    let mut counts = vec![vec![0.0; most + 1]; chosen + 1];
    counts[0][0] = 1.0;
    for &rank in ranks {
        for picked in (1..=chosen).rev() {
            let (fewer, more) = counts.split_at_mut(picked);
            let targets = more[0].iter_mut().skip(rank);
            for (target, source) in targets.zip(&fewer[picked - 1]) {
                *target += source;
            }
        }
    }
    counts.pop()
}

#[cfg(test)]
mod tests {
    //! Reference values: R 4.2.2 (`pwilcox`, `qwilcox`, `wilcox.test`) and `SciPy` 1.17.1 (`scipy.stats.mannwhitneyu`).

    use super::*;

    const INF: f64 = f64::INFINITY;

    fn check(base: &[f64], head: &[f64], expected: f64) {
        let found = two_sided_p(base, head);
        assert!((found - expected).abs() <= 1e-9 * expected, "{found}");
        let mirrored = two_sided_p(head, base);
        assert!((mirrored - expected).abs() <= 1e-9 * expected, "{mirrored}");
    }

    #[test]
    fn p_without_ties_agrees_with_scipy_and_r() {
        // mannwhitneyu(method="exact")
        check(
            &[1.0, 2.0, 3.0, 5.0, 9.0],
            &[4.0, 6.0, 7.0, 8.0, 10.0, 11.0, 12.0],
            0.047_979_797_979_797_98,
        );
        // M. Hollander and D. A. Wolfe, Nonparametric Statistical Methods (1973), p. 69, as in R's ?wilcox.test:
        // permeability constants of the chorioamnion at term and at 12 to 26 weeks.
        check(
            &[0.80, 0.83, 1.89, 1.04, 1.45, 1.38, 1.91, 1.64, 0.73, 1.46],
            &[1.15, 0.88, 0.90, 0.74, 1.21],
            0.254_412_254_412_254,
        );
    }

    #[test]
    fn p_with_ties_is_that_of_all_permutations() {
        // mannwhitneyu(method=PermutationMethod(n_resamples=inf)); the same from a list of all combinations.
        check(
            &[1.0, 1.0, 2.0, 3.0, 3.0],
            &[2.0, 3.0, 3.0, 4.0, 5.0, 5.0],
            0.073_593_073_593_073_6,
        );
        check(
            &[10.0, 10.0, 10.0, 11.0, 12.0, 12.0],
            &[11.0, 12.0, 12.0, 12.0, 13.0, 14.0],
            0.056_277_056_277_056_28,
        );
        check(
            &[1.0, 2.0, 2.0, 2.0],
            &[2.0, 2.0, 3.0, 3.0, 3.0, 4.0, 4.0],
            0.060_606_060_606_060_61,
        );
        check(&[5.0; 3], &[5.0, 5.0, 6.0, 6.0], 0.571_428_571_428_571_4);
        check(&[1.0; 40], &[1.0; 40], 1.0);
    }

    #[test]
    fn p_of_many_values_is_the_corrected_normal_of_r() {
        // wilcox.test(exact = FALSE, correct = TRUE)
        let base: Vec<f64> = (1..=60).map(|i| f64::from(i * 37 % 101)).collect();
        let head: Vec<f64> = (1..=70).map(|i| f64::from(i * 53 % 107) + 7.5).collect();
        check(&base, &head, 5.628_713_482_964_76e-4);
        let base: Vec<f64> = (1..=60).map(|i| f64::from(i * 37 % 101 / 4)).collect();
        let head: Vec<f64> = (1..=70)
            .map(|i| (f64::from(i * 53 % 107) / 4.0 + 3.0).floor())
            .collect();
        check(&base, &head, 3.560_011_417_693_86e-5);
    }

    #[test]
    fn exact_and_normal_p_meet_where_one_takes_over() {
        let pool = |n: u32| {
            let base: Vec<f64> = (0..n).map(|i| f64::from(i * 37 % 101)).collect();
            let head: Vec<f64> = (0..n).map(|i| f64::from(i * 53 % 103) + 16.5).collect();
            Pool::of(&base, &head)
        };
        let both = pool(25);
        let (exact, normal) = (both.exact_p().unwrap(), both.normal_p());
        assert!((exact - normal).abs() < 0.003, "{exact} {normal}");
        assert!(pool(101).exact_p().is_none());
    }

    #[test]
    fn depths_are_those_of_pwilcox() {
        // The largest k with 2 * pwilcox(k - 1, m, n) <= 1 - confidence; 0 if there is none.
        for (m, n, at_95, at_90) in [
            (3, 3, 0, 1),
            (3, 4, 0, 1),
            (4, 4, 1, 2),
            (3, 5, 1, 2),
            (2, 8, 1, 2),
            (5, 5, 3, 5),
            (6, 6, 6, 8),
            (6, 8, 9, 11),
            (7, 12, 19, 22),
            (12, 20, 70, 78),
            (25, 25, 212, 228),
        ] {
            let (one, other) = (Untied::new(m, n), Untied::new(n, m));
            for (confidence, expected) in [(0.95, at_95), (0.90, at_90)] {
                assert_eq!(one.depth(confidence).unwrap_or(0), expected, "{m} {n}");
                assert_eq!(other.depth(confidence).unwrap_or(0), expected, "{n} {m}");
            }
        }
    }

    #[test]
    fn depths_of_many_values_are_within_two_of_qwilcox() {
        // qwilcox((1 - confidence) / 2, m, n)
        for (m, n, at_95, at_90) in [(30, 40, 435, 461), (100, 100, 4_198, 4_327)] {
            let untied = Untied::new(m, n);
            assert!(untied.ways.is_none());
            assert!(untied.depth(0.95).unwrap().abs_diff(at_95) <= 2);
            assert!(untied.depth(0.90).unwrap().abs_diff(at_90) <= 2);
        }
    }

    #[test]
    fn the_order_of_censored_values_is_taken_against_a_difference() {
        let base = [1.0, 2.0, 3.0, 4.0, 5.0, INF];
        // The censored value of base may have been the largest of all.
        let against = [1.0, 2.0, 3.0, 4.0, 5.0, 100.0];
        let head = [6.0, 7.0, 8.0, INF, INF, INF];
        assert_eq!(
            two_sided_p(&base, &head).to_bits(),
            two_sided_p(&against, &[6.0, 7.0, 8.0, 9.0, 10.0, 11.0]).to_bits()
        );
        check(&[INF; 6], &[INF; 6], 1.0);
        // All values of one side are censored and none of the other, so nothing is unknown. 2 of choose(12, 6) = 924 orders are as far
        // apart.
        check(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &[INF; 6], 2.0 / 924.0);
    }
}
