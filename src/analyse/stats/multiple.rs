//! Many comparisons at once. Knows numbers only.

/// The q-values of p-values: the smallest share of false discoveries at which each would be reported (Y. Benjamini and
/// Y. Hochberg, *Controlling the false discovery rate*, J. R. Stat. Soc. B 57, 1995).
///
/// What has no p-value was not tested: it stays `None` and does not count among the tests. So does what is not a number.
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
        least = least.min(p * tests / (rank + 1) as f64);
        adjusted[*index] = Some(least);
    }
    adjusted
}
