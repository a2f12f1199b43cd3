//! When each arrival of an open loop is due, which transaction it is and which rows it uses: pure functions of a cell's seed.
//! Nothing here depends on how many threads send or how fast the server answers.

use std::num::NonZeroU64;

use rand::{Rng, SeedableRng};
use rand_distr::{Distribution, Exp1, Zipf};
use rand_xoshiro::Xoshiro256PlusPlus;

use super::order::{Stream, below, derive};
use super::{Arrivals, KeyChoice, Transaction};
use crate::units::Rate;

const NS_PER_S: f64 = 1e9;

/// An endless iterator over the due times of slots 0, 1, 2 and so on: nanoseconds after the start, never decreasing.
#[derive(Debug, Clone)]
pub struct Schedule(Gaps);

#[derive(Debug, Clone)]
enum Gaps {
    Uniform {
        slot: u64,
        per_second: f64,
    },
    Poisson {
        due_ns: u64,
        /// The fraction of a nanosecond that rounding down left over. It is carried over, so that no error grows with time.
        fraction: f64,
        mean_ns: f64,
        rng: Xoshiro256PlusPlus,
    },
}

impl Schedule {
    pub fn new(rate: Rate, arrivals: Arrivals, seed: u64) -> Self {
        let per_second = rate.as_per_second();
        Self(match arrivals {
            Arrivals::Uniform => Gaps::Uniform {
                slot: 0,
                per_second,
            },
            Arrivals::Poisson => Gaps::Poisson {
                due_ns: 0,
                fraction: 0.0,
                mean_ns: NS_PER_S / per_second,
                rng: Xoshiro256PlusPlus::seed_from_u64(derive(seed, Stream::Arrivals, 0)),
            },
        })
    }
}

impl Iterator for Schedule {
    type Item = u64;

    #[inline]
    fn next(&mut self) -> Option<u64> {
        Some(match &mut self.0 {
            Gaps::Uniform { slot, per_second } => {
                let due = uniform_due_ns(*slot, *per_second);
                *slot += 1;
                due
            }
            Gaps::Poisson {
                due_ns,
                fraction,
                mean_ns,
                rng,
            } => {
                let gap: f64 = Exp1.sample(rng);
                let ns = gap * *mean_ns + *fraction;
                let whole = whole_ns(ns);
                *fraction = ns - whole as f64;
                *due_ns = due_ns.saturating_add(whole);
                *due_ns
            }
        })
    }
}

/// The due time of a slot, computed from its number so that no error accumulates. Two roundings of 2^-53 each give an error below 0.1 ns
/// after a day and below 1 ns after 50 days.
#[inline]
fn uniform_due_ns(slot: u64, per_second: f64) -> u64 {
    whole_ns(slot as f64 * NS_PER_S / per_second + 0.5)
}

#[inline]
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "never negative; beyond 584 years it saturates"
)]
fn whole_ns(ns: f64) -> u64 {
    ns as u64
}

/// The random number generator for everything about arrival `slot` of a cell: its transaction, keys and row contents.
#[inline]
pub fn rng(seed: u64, slot: u64) -> Xoshiro256PlusPlus {
    Xoshiro256PlusPlus::seed_from_u64(derive(seed, Stream::Rows, slot))
}

/// Chooses transactions by their weights.
#[derive(Debug, Clone)]
pub struct Mix {
    /// Running sums of the weights.
    bounds: Vec<u64>,
    total: u64,
}

impl Mix {
    /// Takes the weights of a plan's transactions, whose sum is above 0.
    pub fn new(transactions: &[Transaction]) -> Self {
        let mut total = 0;
        let bounds = transactions
            .iter()
            .map(|transaction| {
                total += u64::from(transaction.weight);
                total
            })
            .collect();
        Self { bounds, total }
    }

    /// Picks a transaction, as an index into the plan's transactions.
    #[inline]
    pub fn pick(&self, rng: &mut impl Rng) -> usize {
        let ticket = below(self.total, rng);
        self.bounds.partition_point(|bound| *bound <= ticket)
    }
}

/// Chooses among the rows that a table had before the first transaction, numbered from 1.
#[derive(Debug, Clone, Copy)]
pub struct KeyChooser {
    rows: NonZeroU64,
    zipf: Option<Zipf<f64>>,
}

impl KeyChooser {
    pub fn new(choice: KeyChoice, rows: NonZeroU64) -> Self {
        let zipf = match choice {
            KeyChoice::Uniform => None,
            KeyChoice::Zipf(exponent) => Some(
                Zipf::new(rows.get() as f64, exponent)
                    .expect("a profile's exponent is above 0 and finite"),
            ),
        };
        Self { rows, zipf }
    }

    /// Picks a row, from 1 to the number of rows. Under Zipf's law row 1 is the most frequent.
    #[inline]
    pub fn pick(&self, rng: &mut impl Rng) -> u64 {
        match &self.zipf {
            None => below(self.rows.get(), rng) + 1,
            Some(zipf) => whole_ns(zipf.sample(rng)).clamp(1, self.rows.get()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::Profile;

    fn schedule(rate: f64, arrivals: Arrivals, seed: u64) -> Schedule {
        Schedule::new(Rate::per_second(rate).unwrap(), arrivals, seed)
    }

    #[test]
    fn uniform_slots_are_exact_far_out() {
        assert_eq!(uniform_due_ns(1_000_000_000, 1000.0), 1_000_000_000_000_000);
        assert_eq!(uniform_due_ns(1_000_000_000, 3000.0), 333_333_333_333_333);
        // A day at a million arrivals a second, compared with integer arithmetic.
        for slot in [1, 86_399_999_999, 86_400_000_000] {
            assert_eq!(uniform_due_ns(slot, 1e6), slot * 1000);
            let exact = u128::from(slot) * 1_000_000_000 / 700_001;
            assert!(u128::from(uniform_due_ns(slot, 700_001.0)).abs_diff(exact) <= 1);
        }
    }

    #[test]
    fn uniform_slots_start_at_once() {
        let due: Vec<_> = schedule(500.0, Arrivals::Uniform, 1).take(3).collect();
        assert_eq!(due, [0, 2_000_000, 4_000_000]);
    }

    #[test]
    fn poisson_gaps_have_the_mean_and_variance_of_the_law() {
        const N: u32 = 1_000_000;
        let due: Vec<u64> = schedule(500.0, Arrivals::Poisson, 7)
            .take(N as usize)
            .collect();
        let n = f64::from(N);
        let gaps: Vec<f64> = std::iter::once(due[0])
            .chain(due.windows(2).map(|pair| pair[1] - pair[0]))
            .map(|ns| ns as f64 / 2e6)
            .collect();
        let mean = gaps.iter().sum::<f64>() / n;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / n;
        // Five standard errors: 1/sqrt(n) of the mean, sqrt(8/n) of the variance of Exp(1).
        assert!((mean - 1.0).abs() < 5.0 / n.sqrt(), "{mean}");
        assert!(
            (variance - 1.0).abs() < 5.0 * (8.0 / n).sqrt(),
            "{variance}"
        );
        let short = gaps.iter().filter(|gap| **gap < 1.0).count() as f64 / n;
        assert!((short - (1.0 - (-1.0_f64).exp())).abs() < 0.003, "{short}");
    }

    #[test]
    fn rates_above_one_a_nanosecond_of_rounding_stay_true() {
        let last = schedule(1e7, Arrivals::Poisson, 3).nth(999_999).unwrap();
        assert!((last as f64 / 1e8 - 1.0).abs() < 0.005, "{last}");
    }

    #[test]
    fn the_slowest_rate_saturates_instead_of_wrapping() {
        for arrivals in Arrivals::ALL {
            let due: Vec<_> = schedule(1e-300, arrivals, 1).take(4).collect();
            assert!(due.is_sorted());
            assert_eq!(due[3], u64::MAX);
        }
    }

    #[test]
    fn a_seed_gives_its_own_arrivals() {
        let first = |seed| {
            schedule(500.0, Arrivals::Poisson, seed)
                .take(100)
                .collect::<Vec<_>>()
        };
        assert_eq!(first(1), first(1));
        assert_ne!(first(1), first(2));
    }

    #[test]
    fn transactions_follow_their_weights() {
        let text = "[[transaction]]\nkind = \"product-insert\"\n\
                    [[transaction]]\nkind = \"users-insert\"\nweight = 3\n";
        let mix = Mix::new(&Profile::parse("p.toml", text).unwrap().transactions);
        let n = 100_000;
        let second = (0..n)
            .map(|slot| mix.pick(&mut rng(1, slot)))
            .sum::<usize>() as f64;
        assert!((second / n as f64 - 0.75).abs() < 0.007, "{second}");
    }

    #[test]
    fn an_arrival_is_the_same_whoever_sends_it() {
        assert_eq!(rng(5, 10).next_u64(), rng(5, 10).next_u64());
        assert_ne!(rng(5, 10).next_u64(), rng(5, 11).next_u64());
        assert_ne!(rng(5, 10).next_u64(), rng(6, 10).next_u64());
    }

    #[test]
    fn keys_stay_within_the_rows() {
        for choice in [
            KeyChoice::Uniform,
            KeyChoice::Zipf(0.01),
            KeyChoice::Zipf(1.0),
            KeyChoice::Zipf(10.0),
        ] {
            for rows in [1, 2, 1000, 10_000_000_000] {
                let chooser = KeyChooser::new(choice, NonZeroU64::new(rows).unwrap());
                let mut rng = rng(1, 1);
                assert!((0..1000).all(|_| (1..=rows).contains(&chooser.pick(&mut rng))));
            }
        }
    }

    #[test]
    fn zipf_prefers_the_first_rows_and_uniform_none() {
        let share_of_first = |choice| {
            let chooser = KeyChooser::new(choice, NonZeroU64::new(100).unwrap());
            let n = 50_000;
            (0..n)
                .filter(|slot| chooser.pick(&mut rng(1, *slot)) == 1)
                .count() as f64
                / n as f64
        };
        assert!((share_of_first(KeyChoice::Uniform) - 0.01).abs() < 0.003);
        // 1 / H(100) for exponent 1.
        assert!((share_of_first(KeyChoice::Zipf(1.0)) - 0.1928).abs() < 0.01);
    }
}
