//! The order in which cells run, and the seed of each cell.
//! Pure; every choice derives from the plan's one seed.

use rand::Rng;
use rand::SeedableRng;
use rand_xoshiro::Xoshiro256PlusPlus;

use super::Cell;

/// The purposes of derived seeds. Each purpose has its own stream of seeds, so that they are unrelated.
#[derive(Debug, Clone, Copy)]
#[repr(u64)]
pub(super) enum Stream {
    Order = 1,
    Cell = 2,
    Arrivals = 3,
    Rows = 4,
    Sides = 5,
    Discarded = 6,
}

/// The seed for a stream and an index, mixed so that neighbouring indices give unrelated seeds.
pub(super) fn derive(seed: u64, stream: Stream, index: u64) -> u64 {
    mix(mix(seed ^ mix(stream as u64)).wrapping_add(index))
}

/// The output function of `SplitMix64` (Steele, Lea and Flood 2014). It is implemented here so that a seed gives the same run with every
/// version of a random number crate.
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The cells for every repetition of every mode. Blocks come in pairs: the first has the modes in random order and the second in reverse,
/// so that every mode has the same mean position and a steady drift of the host favours none.
pub(super) fn cells(modes: usize, repeats: u32, seed: u64) -> Vec<Cell> {
    let mut cells = Vec::with_capacity(modes * repeats as usize);
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(derive(seed, Stream::Order, 0));
    let mut order: Vec<usize> = (0..modes).collect();
    let mut id = 0;
    for block in 1..=repeats {
        if block % 2 == 1 {
            shuffle(&mut order, &mut rng);
        } else {
            order.reverse();
        }
        for &mode in &order {
            id += 1;
            cells.push(Cell {
                id,
                mode,
                rep: block,
                block,
                seed: derive(seed, Stream::Cell, block.into()),
            });
        }
    }
    cells
}

/// The Fisher-Yates shuffle.
fn shuffle(items: &mut [usize], rng: &mut Xoshiro256PlusPlus) {
    for last in (1..items.len()).rev() {
        let chosen = below(last as u64 + 1, rng);
        items.swap(last, usize::try_from(chosen).expect("below an index"));
    }
}

/// A number from 0 to `bound - 1` by one multiplication; its bias is below `bound / 2^64`.
#[inline]
pub(super) fn below(bound: u64, rng: &mut impl Rng) -> u64 {
    let wide = u128::from(rng.next_u64()) * u128::from(bound);
    u64::try_from(wide >> 64).expect("the upper half of 128 bits")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn orders(cells: &[Cell], modes: usize) -> Vec<Vec<usize>> {
        cells
            .chunks(modes)
            .map(|block| block.iter().map(|cell| cell.mode).collect())
            .collect()
    }

    proptest! {
        #[test]
        fn every_block_has_every_mode_once(modes in 1_usize..8, repeats in 1_u32..20, seed: u64) {
            let cells = cells(modes, repeats, seed);
            for (index, block) in orders(&cells, modes).into_iter().enumerate() {
                let mut sorted = block.clone();
                sorted.sort_unstable();
                prop_assert_eq!(sorted, (0..modes).collect::<Vec<_>>());
                prop_assert!(cells[index * modes..][..modes].iter().all(|it| it.block as usize == index + 1));
            }
            prop_assert!(cells.iter().zip(1..).all(|(cell, id)| cell.id == id));
        }

        #[test]
        fn every_second_block_mirrors_the_one_before(modes in 1_usize..8, pairs in 1_u32..10, seed: u64) {
            let cells = cells(modes, pairs * 2, seed);
            for pair in orders(&cells, modes).chunks(2) {
                let mirrored: Vec<_> = pair[1].iter().rev().copied().collect();
                prop_assert_eq!(&pair[0], &mirrored);
            }
        }

        #[test]
        fn a_linear_drift_favours_no_mode(modes in 1_usize..8, pairs in 1_u32..10, seed: u64) {
            let cells = cells(modes, pairs * 2, seed);
            let position = |mode| cells.iter().filter(|it| it.mode == mode).map(|it| it.id).sum::<u32>();
            prop_assert!((0..modes).all(|mode| position(mode) == position(0)));
        }

        #[test]
        fn cells_of_a_block_share_a_seed_and_blocks_do_not(repeats in 2_u32..20, seed: u64) {
            let cells = cells(3, repeats, seed);
            let seeds: std::collections::HashSet<_> = cells.iter().map(|it| it.seed).collect();
            prop_assert_eq!(seeds.len(), repeats as usize);
            prop_assert!(cells.chunks(3).all(|block| block.iter().all(|it| it.seed == block[0].seed)));
        }

        #[test]
        fn the_same_seed_gives_the_same_cells(seed: u64) {
            prop_assert_eq!(cells(4, 6, seed), cells(4, 6, seed));
            prop_assert_ne!(cells(4, 6, seed), cells(4, 6, seed.wrapping_add(1)));
        }
    }

    #[test]
    fn a_seed_means_the_same_order_for_ever() {
        assert_eq!(
            orders(&cells(4, 3, 1), 4),
            [[2, 0, 3, 1], [1, 3, 0, 2], [0, 3, 2, 1]]
        );
    }
}
