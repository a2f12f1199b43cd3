//! Finds where the level of a series changed, from commit to commit. Pure; knows numbers only, not commits or metrics.
//!
//! E-divisive (D. S. Matteson and N. A. James, *A Nonparametric Approach for Multiple Change Point Analysis of Multivariate Data*, J. Am.
//! Stat. Assoc. 109, 2014) with distances to the power of 1. The series is split where the energy distance between the values left of the
//! split and some stretch right of it is largest; then the parts are split in the same way, the best split of all parts first. A split is
//! accepted if few permutations of the values within the parts have a split as good; the first split that is not accepted ends the search.
//! No distribution is assumed, and a change of spread counts in the same way as a change of level.
//!
//! With three values on each side, 2 of 20 orders are as far apart as possible, which is more than 5 %: finding a change takes about eight
//! values.

use std::ops::Range;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_xoshiro::Xoshiro256PlusPlus;

/// The smallest number of values in a segment.
const FEWEST: usize = 3;

/// Number of permutations for a p-value; the smallest possible p-value is 1 / 200.
const PERMUTATIONS: usize = 199;

/// The most permutations that may have a split as good as the data if the split is to be significant at 5 %: (9 + 1) / 200.
const MOST_AS_GOOD: usize = 9;

/// Energies (of a series scaled to 0..1) that differ by less than this are equal: they are the same sum in another order.
const ROUNDING: f64 = 1e-9;

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ChangePoint {
    /// Index of the first value of the new segment.
    pub index: usize,
    /// The share of permutations with a split as good as this one, given the splits that were found before it.
    pub p: f64,
}

/// The change points in order of index. `seed` determines the permutations.
///
/// Infinite (censored) values have no distance, so a series with one is replaced by its mid-ranks. All censored values then tie as the
/// largest: it matters that they are large, not how large. A series with a value that is not a number has no change points. Time grows with
/// the square of the length.
pub fn change_points(values: &[f64], seed: u64) -> Vec<ChangePoint> {
    let Some(series) = on_unit_scale(values) else {
        return Vec::new();
    };
    let mut scan = Scan::default();
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut segments = vec![Segment::of(0..series.len(), &series, &mut scan)];
    let mut found = Vec::new();
    while let Some((which, split)) = best_split(&segments) {
        let Some(p) = significance(&mut segments, split.energy, &mut scan, &mut rng) else {
            break;
        };
        found.push(ChangePoint { index: split.at, p });
        let Range { start, end } = segments[which].range;
        segments[which] = Segment::of(start..split.at, &series, &mut scan);
        segments.push(Segment::of(split.at..end, &series, &mut scan));
    }
    found.sort_by_key(|change| change.index);
    found
}

/// The values scaled to 0..1, or their mid-ranks scaled in the same way if the span is infinite. `None` if all values are equal or one is
/// not a number.
fn on_unit_scale(values: &[f64]) -> Option<Vec<f64>> {
    if values.iter().any(|value| value.is_nan()) {
        return None;
    }
    let lowest = values.iter().copied().reduce(f64::min)?;
    let highest = values.iter().copied().reduce(f64::max)?;
    let span = highest - lowest;
    if span.is_finite() {
        (span > 0.0).then(|| values.iter().map(|value| (value - lowest) / span).collect())
    } else {
        on_unit_scale(&mid_ranks(values))
    }
}

fn mid_ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    let mut before = 0;
    #[expect(clippy::float_cmp, reason = "a tie is the very same value")]
    for tied in order.chunk_by(|a, b| values[*a] == values[*b]) {
        for &index in tied {
            ranks[index] = before as f64 + f64::midpoint(1.0, tied.len() as f64);
        }
        before += tied.len();
    }
    ranks
}

/// A stretch of the series with no change point found in it, and where it would be split.
struct Segment {
    range: Range<usize>,
    split: Option<Split>,
    /// The segment's values, shuffled again for each permutation.
    shuffled: Vec<f64>,
    /// The energy of the best split of each permutation so far. Kept, because splitting another segment does not change these energies.
    energies: Vec<f64>,
}

#[derive(Clone, Copy)]
struct Split {
    /// Index in the series of the first value right of the split.
    at: usize,
    energy: f64,
}

impl Segment {
    fn of(range: Range<usize>, series: &[f64], scan: &mut Scan) -> Self {
        let values = &series[range.clone()];
        Self {
            split: scan.best(values).map(|split| Split {
                at: range.start + split.at,
                ..split
            }),
            shuffled: values.to_vec(),
            energies: Vec::new(),
            range,
        }
    }

    /// The energy of the best split of a permutation. Permutations must be asked for in ascending order, and may be asked for again.
    fn energy_of(
        &mut self,
        permutation: usize,
        scan: &mut Scan,
        rng: &mut Xoshiro256PlusPlus,
    ) -> f64 {
        if permutation == self.energies.len() {
            self.shuffled.shuffle(rng);
            let best = scan.best(&self.shuffled);
            self.energies
                .push(best.map_or(f64::NEG_INFINITY, |split| split.energy));
        }
        self.energies[permutation]
    }
}

fn best_split(segments: &[Segment]) -> Option<(usize, Split)> {
    segments
        .iter()
        .enumerate()
        .filter_map(|(which, segment)| Some((which, segment.split?)))
        .max_by(|a, b| a.1.energy.total_cmp(&b.1.energy))
}

/// The p-value of the best split; `None` as soon as it can no longer be significant. Most splits fail within some twenty permutations, and
/// a split that fails needs no p-value.
fn significance(
    segments: &mut [Segment],
    energy: f64,
    scan: &mut Scan,
    rng: &mut Xoshiro256PlusPlus,
) -> Option<f64> {
    let mut as_good = 0;
    for permutation in 0..PERMUTATIONS {
        let best = segments
            .iter_mut()
            .map(|segment| segment.energy_of(permutation, scan, rng))
            .fold(f64::NEG_INFINITY, f64::max);
        as_good += usize::from(best >= energy - ROUNDING);
        if as_good > MOST_AS_GOOD {
            return None;
        }
    }
    Some((as_good + 1) as f64 / (PERMUTATIONS + 1) as f64)
}

/// Finds the best split of a segment, and keeps the memory that it needs for that.
///
/// With S(a, b) the sum of distances within the values from a to b, m values left of a split and k up to the end
/// of the stretch right of it, n = k - m, the statistic of the paper
///
/// mn/(m+n) (2/(mn) between - 2/(m(m-1)) S(0, m) - 2/(n(n-1)) S(m, k))
///
/// is, because S(0, k) is the sum of all three,
///
/// 2 (k-1)/k (S(0, k)/(k-1) - S(0, m)/(m-1) - S(m, k)/(n-1)).
///
/// S(m, k) follows from S(m + 1, k) and the distances of value m, so that each of the n^2 / 2 pairs (m, k) takes one step.
#[derive(Default)]
struct Scan {
    /// S(0, k) / (k - 1).
    whole: Vec<f64>,
    /// S(m, k) for the current m.
    right: Vec<f64>,
    /// 2 (k - 1) / k.
    weight: Vec<f64>,
    /// 1 / (n - 1); infinite where n is too small, so that no such stretch is the best.
    inverse: Vec<f64>,
}

impl Scan {
    /// The best split of `values`; `None` when there are too few of them.
    fn best(&mut self, values: &[f64]) -> Option<Split> {
        let length = values.len();
        (length >= 2 * FEWEST).then_some(())?;
        self.prepare(values);
        let mut best = Split {
            at: 0,
            energy: f64::NEG_INFINITY,
        };
        for left in (FEWEST..length).rev() {
            let energy = self.best_right_of(left, values);
            // The earliest of several equally good splits wins.
            if energy >= best.energy {
                best = Split { at: left, energy };
            }
        }
        Some(best)
    }

    fn prepare(&mut self, values: &[f64]) {
        let length = values.len();
        for k in self.inverse.len()..=length {
            let k = k as f64;
            self.weight.push(2.0 * (k - 1.0) / k);
            self.inverse.push(if k < FEWEST as f64 {
                f64::INFINITY
            } else {
                1.0 / (k - 1.0)
            });
        }
        self.right.clear();
        self.right.resize(length + 1, 0.0);
        self.whole.clear();
        self.whole.resize(length + 1, 0.0);
        for (index, value) in values.iter().enumerate() {
            let sums = self.whole[index + 1..].iter_mut().skip(1);
            for (sum, other) in sums.zip(&values[index + 1..]) {
                *sum += (value - other).abs();
            }
        }
        let mut total = 0.0;
        for (k, sum) in self.whole.iter_mut().enumerate().skip(2) {
            total += *sum;
            *sum = total / (k - 1) as f64;
        }
    }

    /// The largest energy of a split with `left` values on its left, over all ends of the stretch right of it. Must be called for every
    /// split from the last to the first, because each call adds to the sums of the one before.
    fn best_right_of(&mut self, left: usize, values: &[f64]) -> f64 {
        let value = values[left];
        let within_left = self.whole[left];
        let mut distances = 0.0;
        let mut best = f64::NEG_INFINITY;
        let ends = self.right[left + 1..]
            .iter_mut()
            .zip(&values[left..])
            .zip(&self.whole[left + 1..])
            .zip(&self.weight[left + 1..])
            .zip(&self.inverse[1..]);
        for ((((right, other), whole), weight), inverse) in ends {
            distances += (value - other).abs();
            *right += distances;
            let energy = weight * (whole - within_left - *right * inverse);
            if energy > best {
                best = energy;
            }
        }
        best
    }
}

#[cfg(test)]
mod tests {
    //! Reference values: energies and places from the splitting code of the R package `ecp` (`cran/ecp` at 616241c, run in R 4.2.2, with
    //! the weight mn/(m+n) that it rounds down to a whole number left as it is) and from an independent brute force in Python after the
    //! paper, which agrees. Both give the same change points, with p = 0.005 for each at 199 permutations.

    use super::*;

    /// The level rises at index 10 and falls at index 18.
    const UP_AND_DOWN: [f64; 24] = [
        10.1, 9.8, 10.3, 9.9, 10.0, 10.2, 9.7, 10.4, 10.0, 9.9, 11.9, 12.2, 11.8, 12.1, 12.0, 12.4,
        11.7, 12.3, 10.2, 9.9, 10.1, 10.5, 9.8, 10.0,
    ];

    const STEP: [f64; 20] = [
        1.00, 1.03, 0.97, 1.05, 0.99, 1.02, 0.96, 1.01, 1.04, 0.98, 1.06, 1.12, 1.09, 1.15, 1.08,
        1.11, 1.13, 1.07, 1.10, 1.14,
    ];

    const LEVEL_ONE: [f64; 14] = [
        5.2, 4.9, 5.1, 5.4, 4.8, 5.0, 5.3, 5.1, 4.7, 5.2, 5.0, 5.1, 4.9, 5.3,
    ];

    /// Annual flow of the Nile at Aswan 1871-1970 (R's `datasets::Nile`): the change of 1899 is the one that G. W. Cobb found, *The problem
    /// of the Nile*, Biometrika 65, 1978.
    const NILE: [f64; 100] = [
        1120.0, 1160.0, 963.0, 1210.0, 1160.0, 1160.0, 813.0, 1230.0, 1370.0, 1140.0, 995.0, 935.0,
        1110.0, 994.0, 1020.0, 960.0, 1180.0, 799.0, 958.0, 1140.0, 1100.0, 1210.0, 1150.0, 1250.0,
        1260.0, 1220.0, 1030.0, 1100.0, 774.0, 840.0, 874.0, 694.0, 940.0, 833.0, 701.0, 916.0,
        692.0, 1020.0, 1050.0, 969.0, 831.0, 726.0, 456.0, 824.0, 702.0, 1120.0, 1100.0, 832.0,
        764.0, 821.0, 768.0, 845.0, 864.0, 862.0, 698.0, 845.0, 744.0, 796.0, 1040.0, 759.0, 781.0,
        865.0, 845.0, 944.0, 984.0, 897.0, 822.0, 1010.0, 771.0, 676.0, 649.0, 846.0, 812.0, 742.0,
        801.0, 1040.0, 860.0, 874.0, 848.0, 890.0, 744.0, 749.0, 838.0, 1050.0, 918.0, 986.0,
        797.0, 923.0, 975.0, 815.0, 1020.0, 906.0, 901.0, 1170.0, 912.0, 746.0, 919.0, 718.0,
        714.0, 740.0,
    ];

    fn indices(values: &[f64]) -> Vec<usize> {
        let found = change_points(values, 7);
        assert!(
            found
                .iter()
                .all(|change| 0.005 <= change.p && change.p <= 0.05)
        );
        found.iter().map(|change| change.index).collect()
    }

    #[test]
    fn energies_agree_with_ecp() {
        let expected: [(&[f64], usize, f64); 4] = [
            (&UP_AND_DOWN, 10, 15.446_913_580_246_918),
            (&LEVEL_ONE, 10, -0.010_256_410_256_409_552),
            (&STEP, 10, 0.633_333_333_333_333_7),
            (&NILE, 28, 4_916.590_807_675_145),
        ];
        for (values, at, energy) in expected {
            let split = Scan::default().best(values).unwrap();
            assert_eq!(split.at, at);
            assert!((split.energy - energy).abs() < 1e-9 * energy.abs().max(1.0));
        }
    }

    #[test]
    fn change_points_agree_with_ecp() {
        assert_eq!(indices(&UP_AND_DOWN), [10, 18]);
        assert_eq!(indices(&STEP), [10]);
        assert_eq!(indices(&NILE), [28]);
        assert!(indices(&LEVEL_ONE).is_empty());
        assert!((change_points(&NILE, 1)[0].p - 0.005).abs() < 1e-12);
    }

    #[test]
    fn the_scale_does_not_matter_and_a_seed_repeats() {
        let huge = UP_AND_DOWN.map(|value| value * 1e300 - 5e300);
        assert_eq!(change_points(&huge, 3), change_points(&UP_AND_DOWN, 3));
        let falling = UP_AND_DOWN.map(|value| -value);
        assert_eq!(indices(&falling), [10, 18]);
    }

    #[test]
    fn censored_values_tie_as_the_largest() {
        let mut series = UP_AND_DOWN;
        for value in &mut series[10..18] {
            *value = f64::INFINITY;
        }
        assert_eq!(indices(&series), [10, 18]);
        assert_eq!(
            mid_ranks(&[2.0, f64::INFINITY, 1.0, f64::INFINITY]),
            [2.0, 3.5, 1.0, 3.5]
        );
    }

    #[test]
    fn short_flat_and_senseless_series_have_none() {
        assert!(indices(&[]).is_empty());
        assert!(indices(&[1.0, 1.0, 1.0, 9.0, 9.0, 9.0]).is_empty());
        assert!(indices(&[3.0; 50]).is_empty());
        assert!(indices(&[f64::INFINITY; 50]).is_empty());
        let mut series = UP_AND_DOWN;
        series[4] = f64::NAN;
        assert!(indices(&series).is_empty());
    }
}
