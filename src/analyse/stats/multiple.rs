//! Many comparisons at once. Knows numbers only.

/// The q-values of p-values: the smallest share of false discoveries at which each would be reported (Y. Benjamini and
/// Y. Hochberg, *Controlling the false discovery rate*, J. R. Stat. Soc. B 57, 1995).
///
/// An entry without a p-value, or whose p-value is not a number, was not tested: its q-value is `None`, and it does not count among the
/// tests.
pub fn benjamini_hochberg(p_values: &[Option<f64>]) -> Vec<Option<f64>> {
    let mut tested: Vec<(usize, f64)> = p_values
        .iter()
        .enumerate()
        .filter_map(|(index, p)| p.filter(|p| !p.is_nan()).map(|p| (index, p)))
        .collect();
    tested.sort_by(|a, b| a.1.total_cmp(&b.1));
    let tests = tested.len() as f64;
    let mut adjusted = vec![None; p_values.len()];
    let mut least: f64 = 1.0;
    for (rank, (index, p)) in tested.iter().enumerate().rev() {
        // The factor is computed first: it is at least 1, so rounding cannot bring q below p.
        least = least.min(p * (tests / (rank + 1) as f64));
        adjusted[*index] = Some(least);
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn q_values_of_the_fifteen_of_1995_agree_with_r_and_scipy() {
        // Benjamini and Hochberg 1995, section 4.1 (thrombolysis): the first four p-values are discoveries at 5 %.
        let p = [
            0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262,
            0.5719, 0.6528, 0.7590, 1.000,
        ];
        // R 4.2.2: p.adjust(p, "BH"); SciPy 1.17.1: false_discovery_control(p).
        let expected = [
            0.0015,
            0.003,
            0.0095,
            0.035_625,
            0.0603,
            0.063_857_142_857_142_9,
            0.063_857_142_857_142_9,
            0.0645,
            0.0765,
            0.486,
            0.581_181_818_181_818_1,
            0.714_875,
            0.753_230_769_230_769_3,
            0.813_214_285_714_285_7,
            1.0,
        ];
        let found = benjamini_hochberg(&p.map(Some));
        for (found, expected) in found.iter().zip(expected) {
            assert!((found.unwrap() - expected).abs() < 1e-12, "{found:?}");
        }
        let discoveries = found.iter().flatten().filter(|q| **q <= 0.05).count();
        assert_eq!(discoveries, 4);
    }

    #[test]
    fn what_was_not_tested_does_not_count() {
        let q = benjamini_hochberg(&[None, Some(0.04), Some(f64::NAN), Some(0.02), None]);
        assert_eq!(q, [None, Some(0.04), None, Some(0.04), None]);
        assert_eq!(benjamini_hochberg(&[None]), [None]);
        assert!(benjamini_hochberg(&[]).is_empty());
    }

    proptest! {
        #[test]
        fn q_values_keep_the_order_of_p_values_and_are_not_below_them(
            p in proptest::collection::vec(proptest::option::of(0.0..=1.0), 0..30),
        ) {
            let q = benjamini_hochberg(&p);
            let both: Vec<(f64, f64)> = p.iter().zip(&q).filter_map(|(p, q)| Some(((*p)?, (*q)?))).collect();
            prop_assert_eq!(both.len(), p.iter().flatten().count());
            for (p, q) in &both {
                prop_assert!(p <= q && *q <= 1.0);
                prop_assert!(both.iter().all(|(other_p, other_q)| p > other_p || q <= other_q));
            }
        }
    }
}
