//! Differences in ascending order, some of which are unknown. Knows numbers only.
//!
//! The difference of two censored figures may be anything. It is neither dropped, which would flatter one side, nor given a value. For the
//! lower end of an interval an unknown difference counts as smaller than all others, for the upper end as larger, so that the interval
//! holds whatever the difference was.

use super::Interval;

#[derive(Debug)]
pub(super) struct Ordered {
    /// The known differences, in ascending order only at the places that `of` was asked for.
    known: Vec<f64>,
    unknown: usize,
}

impl Ordered {
    /// Takes at least one difference; one that is not a number is unknown. Sorts only the places that [`Self::median`] and an interval of
    /// each of the `depths` need, because sorting the million differences of 1,000 against 1,000 values would take most of the time.
    pub(super) fn of(differences: Vec<f64>, depths: &[usize]) -> Self {
        let total = differences.len();
        let mut known = differences;
        known.retain(|difference| !difference.is_nan());
        let unknown = total - known.len();
        let mut places: Vec<usize> = depths
            .iter()
            .copied()
            .chain([total / 2, total / 2 + 1])
            .flat_map(|depth| [depth.checked_sub(unknown + 1), total.checked_sub(depth)])
            .flatten()
            .filter(|place| *place < known.len())
            .collect();
        places.sort_unstable();
        places.dedup();
        put_in_place(&mut known, &places, 0);
        Self { known, unknown }
    }

    pub(super) fn len(&self) -> usize {
        self.known.len() + self.unknown
    }

    pub(super) fn unknown(&self) -> usize {
        self.unknown
    }

    pub(super) fn known(&self) -> &[f64] {
        &self.known
    }

    /// The median; `None` if it depends on the value of an unknown difference, or lies between two infinities.
    pub(super) fn median(&self) -> Option<f64> {
        let half = self.len() / 2;
        let (low, high) = if self.len() % 2 == 1 {
            (self.smallest(half + 1), self.largest(half + 1))
        } else {
            (
                f64::midpoint(self.smallest(half), self.smallest(half + 1)),
                f64::midpoint(self.largest(half), self.largest(half + 1)),
            )
        };
        // The midpoint of minus and plus infinity is NaN, which equals nothing.
        #[expect(
            clippy::float_cmp,
            reason = "the same element of the same list, or another"
        )]
        (low == high).then_some(low)
    }

    /// The interval from the `depth`-th smallest to the `depth`-th largest difference; `None` if it extends from minus to plus infinity.
    pub(super) fn interval(&self, depth: usize) -> Option<Interval> {
        let interval = Interval {
            lo: self.smallest(depth),
            hi: self.largest(depth),
        };
        let says_something = interval.lo > f64::NEG_INFINITY || interval.hi < f64::INFINITY;
        says_something.then_some(interval)
    }

    fn smallest(&self, depth: usize) -> f64 {
        depth
            .checked_sub(self.unknown + 1)
            .map_or(f64::NEG_INFINITY, |place| self.known[place])
    }

    fn largest(&self, depth: usize) -> f64 {
        *self.known.get(self.len() - depth).unwrap_or(&f64::INFINITY)
    }
}

/// Puts into each of `places` the value that a sorted list would have there. `places` are ascending and count from `first`, the place of
/// the first value.
fn put_in_place(values: &mut [f64], places: &[usize], first: usize) {
    let middle = places.len() / 2;
    let Some(place) = places.get(middle) else {
        return;
    };
    values.select_nth_unstable_by(place - first, f64::total_cmp);
    let (below, rest) = values.split_at_mut(place - first);
    put_in_place(below, &places[..middle], first);
    put_in_place(&mut rest[1..], &places[middle + 1..], place + 1);
}

#[cfg(test)]
mod tests {
    use super::*;

    const INF: f64 = f64::INFINITY;

    #[test]
    fn the_places_asked_for_are_those_of_a_sorted_list() {
        let scattered: Vec<f64> = (0..101).map(|i| f64::from(i * 37 % 101)).collect();
        for depth in 1..=50 {
            let ordered = Ordered::of(scattered.clone(), &[depth]);
            let interval = ordered.interval(depth).unwrap();
            assert_eq!(ordered.median(), Some(50.0));
            assert_eq!(
                (interval.lo, interval.hi),
                ((depth - 1) as f64, (101 - depth) as f64)
            );
        }
    }

    #[test]
    fn unknown_differences_are_small_from_below_and_large_from_above() {
        let ordered = Ordered::of(vec![3.0, f64::NAN, 1.0, 2.0, 4.0], &[1, 2]);
        assert_eq!(ordered.len(), 5);
        assert_eq!(ordered.interval(1), None);
        assert_eq!(ordered.interval(2), Some(Interval { lo: 1.0, hi: 4.0 }));
        assert_eq!(ordered.median(), None);
    }

    #[test]
    fn a_median_that_no_unknown_difference_could_change_is_known() {
        let ordered = Ordered::of(vec![2.0, 2.0, 2.0, f64::NAN, 2.0], &[]);
        assert_eq!(ordered.median(), Some(2.0));
        assert_eq!(Ordered::of(vec![INF, INF, 1.0], &[]).median(), Some(INF));
        assert_eq!(Ordered::of(vec![INF, -INF], &[]).median(), None);
        assert_eq!(Ordered::of(vec![f64::NAN], &[]).median(), None);
    }
}
