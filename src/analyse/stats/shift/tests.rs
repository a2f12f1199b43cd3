//! Reference values: R 4.2.2 (`t.test`, `wilcox.test`, `binom.test`, `qt`, `pt`), computed for these tests.

use proptest::prelude::*;

use super::*;

const INF: f64 = f64::INFINITY;

/// M. Hollander and D. A. Wolfe, Nonparametric Statistical Methods (1973), p. 29, as in R's `?wilcox.test`: Hamilton
/// depression scale factor of nine patients before and after.
#[expect(clippy::approx_constant, reason = "a score, not pi")]
const DEPRESSION: [(f64, f64); 9] = [
    (1.83, 0.878),
    (0.50, 0.647),
    (1.62, 0.598),
    (2.48, 2.05),
    (1.68, 1.06),
    (1.88, 1.29),
    (1.55, 1.06),
    (3.06, 3.14),
    (1.30, 1.29),
];

/// From the same book, p. 69: permeability of the chorioamnion at term, and at 12 to 26 weeks.
const TERM: [f64; 10] = [0.80, 0.83, 1.89, 1.04, 1.45, 1.38, 1.91, 1.64, 0.73, 1.46];
const WEEKS: [f64; 5] = [1.15, 0.88, 0.90, 0.74, 1.21];

const BASE: [f64; 6] = [6.121, 6.004, 6.310, 6.255, 5.987, 6.178];
const HEAD: [f64; 6] = [6.214, 6.391, 6.275, 6.402, 6.118, 6.349];

fn close(found: Option<f64>, expected: f64) {
    let found = found.unwrap();
    assert!(
        (found - expected).abs() <= 1e-7 * expected.abs(),
        "{found} {expected}"
    );
}

fn ends(interval: Option<Interval>, lo: f64, hi: f64) {
    close(interval.map(|interval| interval.lo), lo);
    close(interval.map(|interval| interval.hi), hi);
}

#[test]
fn paired_agrees_with_t_test() {
    let shift = paired(&DEPRESSION);
    close(shift.estimate, -0.431_888_888_888_888_9);
    ends(
        shift.interval95,
        -0.759_999_065_505_609_3,
        -0.103_778_712_272_168_5,
    );
    ends(
        shift.interval90,
        -0.696_474_986_418_813_2,
        -0.167_302_791_358_964_6,
    );
    close(shift.p, 0.016_176_627_434_908_1);
    // (qt(.975, 8) + qt(.8, 8)) * sd(d) / sqrt(9); power.t.test, through the noncentral t, has 0.455433.
    close(shift.detectable, 0.454_585_967_451_097);
    assert_eq!((shift.method, shift.n), (Method::PairedT, (9, 9)));
}

#[test]
fn small_p_values_keep_their_digits() {
    // 2 * pt(-40, 5), 2 * pt(-12.5, 3)
    close(two_sided_t(40.0, 5), 1.841_196_217_177_30e-7);
    close(two_sided_t(-12.5, 3), 1.103_631_331_096_06e-3);
}

#[test]
fn unpaired_agrees_with_wilcox_test() {
    // wilcox.test(conf.int = TRUE, exact = TRUE, conf.level = 0.95 and 0.90)
    let shift = unpaired(&TERM, &WEEKS);
    close(shift.estimate, -0.305);
    ends(shift.interval95, -0.76, 0.15);
    ends(shift.interval90, -0.72, 0.08);
    close(shift.p, 0.254_412_254_412_254);
    let shift = unpaired(&BASE, &HEAD);
    close(shift.estimate, 0.1415);
    ends(shift.interval95, -0.035, 0.345);
    ends(shift.interval90, 0.020, 0.281);
    close(shift.p, 0.093_073_593_073_593_1);
    // (qt(.975, 10) + qt(.8, 10)) * pooled deviation * sqrt(2 / 6) * sqrt(pi / 3)
    close(shift.detectable, 0.223_027_413_897_095);
    assert_eq!((shift.method, shift.n), (Method::MannWhitney, (6, 6)));
}

#[test]
fn many_values_agree_with_wilcox_test() {
    // wilcox.test(exact = TRUE, conf.int = TRUE); the p is that of exact = FALSE.
    let base: Vec<f64> = (1..=60).map(|i| f64::from(i * 37 % 101)).collect();
    let head: Vec<f64> = (1..=70).map(|i| f64::from(i * 53 % 107) + 7.5).collect();
    let shift = unpaired(&base, &head);
    close(shift.estimate, 18.5);
    ends(shift.interval95, 8.5, 29.5);
    close(shift.p, 5.628_713_482_964_76e-4);
}

#[test]
fn a_thousand_against_a_thousand_have_an_interval() {
    let base: Vec<f64> = (0..1_000).map(|i| f64::from(i * 37 % 1_009)).collect();
    let head: Vec<f64> = (0..1_000)
        .map(|i| f64::from(i * 53 % 1_013) + 40.0)
        .collect();
    let shift = unpaired(&base, &head);
    let interval = shift.interval95.unwrap();
    assert!(interval.contains(40.0) && interval.hi - interval.lo < 60.0);
    assert!(shift.p.unwrap() < 0.01);
}

#[test]
fn equal_differences_leave_no_doubt() {
    let shift = paired(&[(0.1, 0.3), (0.1, 0.3), (0.1, 0.3)]);
    let difference = 0.3 - 0.1;
    assert_eq!(
        shift.interval95,
        Some(Interval {
            lo: difference,
            hi: difference
        })
    );
    assert_eq!((shift.p, shift.detectable), (Some(0.0), Some(0.0)));
    let same = paired(&[(1.0, 1.0), (2.0, 2.0), (3.0, 3.0)]);
    assert_eq!((same.estimate, same.p), (Some(0.0), Some(1.0)));
    assert_eq!(same.interval90, Some(Interval { lo: 0.0, hi: 0.0 }));
}

#[test]
fn two_pairs_have_an_estimate_alone() {
    let shift = paired(&DEPRESSION[..2]);
    close(shift.estimate, -0.4025);
    assert_eq!((shift.interval95, shift.interval90), (None, None));
    assert_eq!((shift.p, shift.detectable), (None, None));
}

#[test]
fn three_against_three_never_reach_95_percent() {
    let shift = unpaired(&BASE[..3], &HEAD[..3]);
    assert_eq!((shift.interval95, shift.detectable), (None, None));
    // The outermost differences cover 1 - 2 / choose(6, 3) = 90 %.
    ends(shift.interval90, 6.214 - 6.310, 6.391 - 6.004);
    assert!(unpaired(&BASE[..4], &HEAD[..4]).interval95.is_some());
}

#[test]
fn a_censored_pair_is_an_infinite_difference() {
    let mut pairs = DEPRESSION;
    pairs[1].1 = INF;
    pairs[3].0 = INF;
    let shift = paired(&pairs);
    // -inf -1.022 -0.952 -0.62 -0.59 -0.49 -0.01 0.08 inf: the second from either end covers 96.1 %.
    close(shift.estimate, -0.59);
    ends(shift.interval95, -1.022, 0.08);
    // binom.test(7, 9): two are above 0.
    close(shift.p, 0.179_687_5);
    assert_eq!(
        (shift.method, shift.detectable),
        (Method::PairedOrder, None)
    );
}

#[test]
fn what_two_censored_figures_differ_by_is_unknown() {
    let mut pairs = vec![(1.0, 2.0); 8];
    pairs.push((INF, INF));
    let shift = paired(&pairs);
    assert_eq!(shift.estimate, Some(1.0));
    // The interval begins at the second difference from either end; the unknown one may be the first.
    ends(shift.interval95, 1.0, 1.0);
    // 2 * pbinom(1, 9, 0.5)
    close(shift.p, 0.039_062_5);
    let six = paired(&pairs[3..]);
    assert_eq!((six.estimate, six.interval95), (Some(1.0), None));
    // 2 * pbinom(1, 6, 0.5)
    close(six.p, 0.218_75);
    let all = paired(&[(INF, INF); 6]);
    assert_eq!((all.estimate, all.p), (None, Some(1.0)));
    assert_eq!((all.interval95, all.interval90), (None, None));
}

#[test]
fn few_censored_pairs_have_no_interval() {
    let mut pairs = vec![(1.0, 2.0), (1.0, 2.5), (1.0, 3.0), (1.0, 2.2), (1.0, INF)];
    let five = paired(&pairs);
    assert_eq!((five.estimate, five.interval95), (Some(1.5), None));
    assert_eq!(five.interval90, Some(Interval { lo: 1.0, hi: INF }));
    pairs.push((1.0, INF));
    let six = paired(&pairs);
    assert_eq!(six.interval95, Some(Interval { lo: 1.0, hi: INF }));
    // 2 * pbinom(0, 6, 0.5)
    close(six.p, 0.031_25);
}

#[test]
fn censored_repetitions_of_one_side_are_a_shift_without_end() {
    let shift = unpaired(&BASE, &[INF; 6]);
    assert_eq!(shift.estimate, Some(INF));
    assert_eq!(shift.interval95, Some(Interval { lo: INF, hi: INF }));
    close(shift.p, 2.0 / 924.0);
    assert_eq!(shift.detectable, None);
    let both = unpaired(&[INF; 6], &[INF; 6]);
    assert_eq!((both.estimate, both.interval95), (None, None));
    assert_eq!(both.p, Some(1.0));
}

#[test]
fn nonsense_has_nothing() {
    for shift in [
        paired(&[]),
        paired(&[(1.0, 2.0), (f64::NAN, 1.0), (1.0, 3.0)]),
        unpaired(&[], &[1.0]),
        unpaired(&[1.0], &[]),
        unpaired(&[1.0, 2.0], &[f64::NAN, 2.0]),
    ] {
        assert_eq!(shift, Shift::unknown(shift.method, shift.n));
    }
}

/// Values are eighths, so that sums are exact and ties are frequent.
fn values(sizes: std::ops::Range<usize>) -> impl Strategy<Value = Vec<f64>> {
    proptest::collection::vec(
        (-40..40_i32).prop_map(|value| f64::from(value) / 8.0),
        sizes,
    )
}

fn censored(sizes: std::ops::Range<usize>) -> impl Strategy<Value = Vec<f64>> {
    let value = prop_oneof![
        3 => (-40..40_i32).prop_map(|value| f64::from(value) / 8.0),
        1 => Just(INF),
    ];
    proptest::collection::vec(value, sizes)
}

fn mirrored(interval: Option<Interval>) -> Option<Interval> {
    interval.map(|interval| Interval {
        lo: -interval.hi,
        hi: -interval.lo,
    })
}

fn moved(interval: Option<Interval>, by: f64) -> Option<Interval> {
    interval.map(|interval| Interval {
        lo: interval.lo + by,
        hi: interval.hi + by,
    })
}

fn mirrors(one: &Shift, other: &Shift) -> bool {
    one.estimate == other.estimate.map(|estimate| -estimate)
        && one.interval95 == mirrored(other.interval95)
        && one.interval90 == mirrored(other.interval90)
        && one.p.is_some() == other.p.is_some()
        && one
            .p
            .zip(other.p)
            .is_none_or(|(p, q)| (p - q).abs() < 1e-12)
}

fn is_sound(shift: &Shift) -> bool {
    let nested = shift
        .interval90
        .zip(shift.interval95)
        .is_none_or(|(narrow, wide)| wide.lo <= narrow.lo && narrow.hi <= wide.hi);
    let around = shift
        .estimate
        .zip(shift.interval90)
        .is_none_or(|(estimate, interval)| interval.contains(estimate));
    nested && around && shift.p.is_none_or(|p| (0.0..=1.0).contains(&p))
}

proptest! {
    #[test]
    fn swapping_the_sides_mirrors_the_shift(base in censored(1..12), head in censored(1..12)) {
        let shift = unpaired(&base, &head);
        prop_assert!(is_sound(&shift), "{:?}", shift);
        prop_assert!(mirrors(&shift, &unpaired(&head, &base)), "{:?}", shift);
    }

    #[test]
    fn swapping_the_members_of_pairs_mirrors_the_shift(base in censored(12..13), head in censored(1..12)) {
        let pairs: Vec<_> = base.into_iter().zip(head).collect();
        let swapped: Vec<_> = pairs.iter().map(|(base, head)| (*head, *base)).collect();
        let shift = paired(&pairs);
        prop_assert!(is_sound(&shift), "{:?}", shift);
        prop_assert!(mirrors(&shift, &paired(&swapped)), "{:?}", shift);
    }

    #[test]
    fn what_is_added_to_head_is_added_to_the_shift(
        base in values(1..12), head in values(1..12), eighths in -80..80_i32,
    ) {
        let by = f64::from(eighths) / 8.0;
        let raise = |values: &[f64]| -> Vec<f64> { values.iter().map(|value| value + by).collect() };
        let shift = unpaired(&base, &head);
        let raised = unpaired(&base, &raise(&head));
        prop_assert_eq!(raised.estimate, shift.estimate.map(|estimate| estimate + by));
        prop_assert_eq!(raised.interval95, moved(shift.interval95, by));
        prop_assert_eq!(raised.interval90, moved(shift.interval90, by));
        let both = unpaired(&raise(&base), &raise(&head));
        prop_assert_eq!(both.estimate, shift.estimate);
        prop_assert_eq!(both.p, shift.p);
    }

    #[test]
    fn whatever_the_censored_were_p_is_not_below_what_it_would_have_been(
        base in censored(1..9), head in censored(1..9), order in proptest::collection::vec(0..1_000_i32, 20),
    ) {
        let mut order = order.iter().enumerate();
        let mut resolve = |values: &[f64]| -> Vec<f64> {
            values
                .iter()
                .map(|value| {
                    if value.is_finite() {
                        return *value;
                    }
                    let (index, rank) = order.next().unwrap();
                    100.0 + f64::from(*rank) + index as f64 / 100.0
                })
                .collect()
        };
        let (seen_base, seen_head) = (resolve(&base), resolve(&head));
        let (unsure, sure) = (unpaired(&base, &head).p, unpaired(&seen_base, &seen_head).p);
        prop_assert!(unsure.unwrap() >= sure.unwrap() - 1e-12);
        let pair = |base: &[f64], head: &[f64]| {
            let pairs: Vec<_> = base.iter().copied().zip(head.iter().copied()).collect();
            paired_order(&pairs.iter().map(|(base, head)| head - base).collect::<Vec<_>>()).p
        };
        let (unsure, sure) = (pair(&base, &head), pair(&seen_base, &seen_head));
        prop_assert!(unsure.zip(sure).is_none_or(|(unsure, sure)| unsure >= sure - 1e-12));
    }
}
