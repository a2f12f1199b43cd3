//! How ranks fall when nothing differs: the distribution behind the Mann-Whitney test and its interval. Knows numbers only.
//!
//! Exact by counting, over all ways to pick one side's ranks from the pool, what they sum to; ties keep their mid-ranks, so
//! the count is that of the permutations of the data at hand. Ranks are doubled, which makes mid-ranks whole numbers.

use statrs::distribution::{ContinuousCDF, Normal};

/// Steps of counting that take a few milliseconds: 25 against 25 values are the most with ties that are counted.
const MOST_STEPS: usize = 2_500_000;

/// Below this two probabilities are the same: 1 - 0.9 is not 0.1 in binary.
const ROUNDING: f64 = 1e-12;

/// The two-sided p of the Mann-Whitney test: twice the smaller tail.
///
/// Finite values that are equal share their mid-rank. Infinite ones (censored) are equal in name only: whichever was
/// larger is unknown, so they are put in the order that speaks most against a difference.
pub(super) fn two_sided_p(base: &[f64], head: &[f64]) -> f64 {
    let pool = Pool::of(base, head);
    let expected = head.len() * (pool.doubled.len() + 1);
    let (least, most) = pool.head;
    if least <= expected && expected <= most {
        return 1.0;
    }
    let sum = if least > expected { least } else { most };
    pool.exact_p(sum).unwrap_or_else(|| pool.normal_p(sum))
}

/// Both sides' values as doubled ranks.
struct Pool {
    /// Ascending.
    doubled: Vec<usize>,
    /// The least and the most that the ranks of head may sum to, depending on the order of the censored.
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

    /// Gives the next ranks to a group of equal values.
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
            self.head.0 += of_head * (2 * first + of_head).saturating_sub(1);
            self.head.1 += of_head * (2 * last + 1).saturating_sub(of_head);
        }
    }

    fn exact_p(&self, head_sum: usize) -> Option<f64> {
        let chosen = self.n_base.min(self.n_head);
        let unit = if self.doubled.iter().all(|rank| rank % 2 == 0) {
            2
        } else {
            1
        };
        let sum = if self.n_head == chosen {
            head_sum
        } else {
            self.doubled.iter().sum::<usize>() - head_sum
        };
        let ranks: Vec<usize> = self.doubled.iter().map(|rank| rank / unit).collect();
        let ways = ways(&ranks, chosen)?;
        let at = sum / unit;
        let total: f64 = ways.iter().sum();
        let below: f64 = ways[..=at].iter().sum();
        let above: f64 = ways[at..].iter().sum();
        Some((2.0 * below.min(above) / total).min(1.0))
    }

    /// With corrections for ties and continuity, as R's `wilcox.test(correct = TRUE)` has them.
    fn normal_p(&self, head_sum: usize) -> f64 {
        let (m, n) = (self.n_base as f64, self.n_head as f64);
        let of_pairs = (head_sum as f64 - n * (n + 1.0)) / 2.0;
        let all = m + n;
        let variance = m * n / 12.0 * (all + 1.0 - self.ties / (all * (all - 1.0)));
        let distance = ((of_pairs - m * n / 2.0).abs() - 0.5).max(0.0);
        (2.0 * Normal::standard().cdf(-distance / variance.sqrt())).min(1.0)
    }
}

/// The distribution, without ties, of the number of pairs (one value of each side) in which head is the smaller.
pub(super) struct Untied {
    sizes: (usize, usize),
    /// `None` where counting would take too long.
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

    /// How deep from either end of the ordered differences the ends of an interval lie that covers the shift with at
    /// least this confidence; `None` where even the outermost do not. With ties the coverage is higher, never lower.
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

/// In how many ways `chosen` of the `ranks` (ascending) reach each sum; `None` when counting would take too long.
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
