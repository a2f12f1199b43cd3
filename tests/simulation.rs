//! Does the method of comparison keep its promises? Repetitions are simulated with a known truth and go through the whole
//! chain: logarithms, shift, q-values over the table, verdict at 5 %.
//!
//! Every seed is fixed, so a figure here is a fact and not a draw; the bounds are those that a sound method meets
//! (nominal rate, give or take four standard errors of the simulation) and an unsound one misses by far.
//! `cargo test --test simulation -- --nocapture` prints the rates that METHODOLOGY.md quotes.

use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, StandardNormal};
use rand_xoshiro::Xoshiro256PlusPlus;
use replbench::analyse::{
    Evidence, Limits, Shift, Verdict, benjamini_hochberg, change_points, judge, paired, unpaired,
};
use replbench::sample::Direction;

/// Repetitions a side, metrics a table, and what a run varies by.
const REPETITIONS: usize = 6;
const METRICS: usize = 12;
const NOISE: f64 = 0.03;

const THRESHOLD: f64 = 0.05;

type Rng = Xoshiro256PlusPlus;

/// The share of `trials` with an outcome, printed.
struct Rate {
    share: f64,
    trials: usize,
}

impl Rate {
    #[expect(
        clippy::print_stdout,
        reason = "the rates are what METHODOLOGY.md quotes"
    )]
    fn of(what: &str, outcomes: impl IntoIterator<Item = bool>) -> Self {
        let (mut hits, mut trials) = (0_u32, 0);
        for hit in outcomes {
            hits += u32::from(hit);
            trials += 1;
        }
        let share = f64::from(hits) / trials as f64;
        println!("{what}: {:.2} % of {trials}", share * 100.0);
        Self { share, trials }
    }

    /// Within four standard errors of a probability that is known.
    fn is(&self, probability: f64) {
        let reach = self.reach(probability);
        let distance = (self.share - probability).abs();
        assert!(distance <= reach, "{} is not {probability}", self.share);
    }

    fn is_at_most(&self, probability: f64) {
        let most = probability + self.reach(probability);
        assert!(self.share <= most, "{} > {most}", self.share);
    }

    fn is_between(&self, low: f64, high: f64) {
        assert!(low <= self.share && self.share <= high, "{}", self.share);
    }

    fn reach(&self, probability: f64) -> f64 {
        4.0 * (probability * (1.0 - probability) / self.trials as f64).sqrt()
    }
}

fn rng(seed: u64) -> Rng {
    Rng::seed_from_u64(seed)
}

fn normal(rng: &mut Rng) -> f64 {
    StandardNormal.sample(rng)
}

/// A figure of one repetition, as a logarithm.
fn figure(rng: &mut Rng) -> f64 {
    6.0 + NOISE * normal(rng)
}

/// One in ten repetitions is disturbed and up to three times as long; the others vary by 3 %.
fn disturbed(rng: &mut Rng) -> f64 {
    let disturbance: f64 = if rng.random_bool(0.1) {
        rng.random_range(1.2..3.0)
    } else {
        1.0
    };
    figure(rng) + disturbance.ln()
}

fn side(rng: &mut Rng, draw: fn(&mut Rng) -> f64) -> Vec<f64> {
    (0..REPETITIONS).map(|_| draw(rng)).collect()
}

/// How repetitions are compared.
#[derive(Clone, Copy)]
enum Design {
    Paired,
    Unpaired,
}

impl Design {
    const BOTH: [Self; 2] = [Self::Paired, Self::Unpaired];

    fn name(self) -> &'static str {
        match self {
            Self::Paired => "paired",
            Self::Unpaired => "unpaired",
        }
    }

    /// What this test finds of nothing, at a nominal 5 %: Student's t exactly that; of 6 against 6 ranks, 38 of 924
    /// orders are extreme enough (R: `2 * pwilcox(5, 6, 6)`).
    fn exact_level(self) -> f64 {
        match self {
            Self::Paired => 0.05,
            Self::Unpaired => 38.0 / 924.0,
        }
    }

    fn compare(self, base: &[f64], head: &[f64]) -> Shift {
        match self {
            Self::Paired => {
                let pairs: Vec<_> = base.iter().copied().zip(head.iter().copied()).collect();
                paired(&pairs)
            }
            Self::Unpaired => unpaired(base, head),
        }
    }

    fn simulate(self, rng: &mut Rng, draw: fn(&mut Rng) -> f64, effect: f64) -> Shift {
        let base = side(rng, draw);
        let head: Vec<f64> = side(rng, draw).iter().map(|log| log + effect).collect();
        self.compare(&base, &head)
    }
}

fn is_found(shift: &Shift) -> bool {
    shift.p.is_some_and(|p| p <= 0.05)
}

fn leaves_out(shift: &Shift, truth: f64) -> bool {
    shift
        .interval95
        .is_some_and(|interval| !interval.contains(truth))
}

/// The verdicts on one table, smaller being better.
fn verdicts(shifts: &[Shift], threshold: f64) -> Vec<Verdict> {
    let p: Vec<_> = shifts.iter().map(|shift| shift.p).collect();
    shifts
        .iter()
        .zip(benjamini_hochberg(&p))
        .map(|(shift, q)| {
            let limits = Limits {
                matters: threshold,
                floor: 0.0,
            };
            judge(&Evidence::exact(shift), q, limits, Direction::LowerIsBetter)
        })
        .collect()
}

fn is_changed(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Improved | Verdict::Regressed)
}

/// Without an effect: the rates of the test itself, and of what a reader is told.
fn no_effect(noise: &str, draw: fn(&mut Rng) -> f64, check: fn(Design, &Rate)) {
    for design in Design::BOTH {
        let name = format!("{noise}, {}", design.name());
        let mut rng = rng(31);
        let mut table = || -> Vec<Shift> {
            (0..METRICS)
                .map(|_| design.simulate(&mut rng, draw, 0.0))
                .collect()
        };
        let tables: Vec<Vec<Shift>> = (0..300).map(|_| table()).collect();
        let all = || tables.iter().flatten();
        check(
            design,
            &Rate::of(&format!("{name}: p <= 0.05"), all().map(is_found)),
        );
        check(
            design,
            &Rate::of(
                &format!("{name}: the 95 % interval leaves out the truth"),
                all().map(|shift| leaves_out(shift, 0.0)),
            ),
        );
        read(&name, &tables);
    }
}

/// What a reader of tables without an effect is told.
fn read(name: &str, tables: &[Vec<Shift>]) {
    let nearly_none = tables.iter().map(|table| verdicts(table, 1e-9));
    Rate::of(
        &format!("{name}: tables of 12 with a change, threshold 0"),
        nearly_none.map(|table| table.iter().any(|verdict| is_changed(*verdict))),
    )
    .is_at_most(0.05);
    let told: Vec<Verdict> = tables
        .iter()
        .flat_map(|table| verdicts(table, THRESHOLD.ln_1p()))
        .collect();
    Rate::of(
        &format!("{name}: metrics called improved or regressed, threshold 5 %"),
        told.iter().map(|verdict| is_changed(*verdict)),
    )
    .is_at_most(0.002);
    Rate::of(
        &format!("{name}: metrics called equivalent, threshold 5 %"),
        told.iter().map(|verdict| *verdict == Verdict::Equivalent),
    );
}

#[test]
fn without_an_effect_the_tests_keep_their_level_and_verdicts_stay_away() {
    no_effect("no effect", figure, |design, rate| {
        rate.is(design.exact_level());
    });
}

#[test]
fn heavy_tails_do_not_raise_the_false_alarms() {
    no_effect("heavy tails", disturbed, |design, rate| match design {
        // t is careful with heavy tails: it finds less, never more.
        Design::Paired => rate.is_at_most(0.05),
        Design::Unpaired => rate.is(design.exact_level()),
    });
}

/// The metrics of one run rise and fall together: its percentiles are of the same commits.
#[test]
fn metrics_that_move_together_are_no_more_often_called_changed() {
    for design in Design::BOTH {
        let mut rng = rng(38);
        let mut together = || -> Vec<Vec<f64>> {
            (0..REPETITIONS)
                .map(|_| {
                    let run = 0.9 * NOISE * normal(&mut rng);
                    let own = 0.19_f64.sqrt();
                    (0..METRICS)
                        .map(|_| run + own * NOISE * normal(&mut rng))
                        .collect()
                })
                .collect()
        };
        let metric = |runs: &[Vec<f64>], metric: usize| -> Vec<f64> {
            runs.iter().map(|run| run[metric]).collect()
        };
        let tables: Vec<Vec<Shift>> = (0..300)
            .map(|_| {
                let (base, head) = (together(), together());
                (0..METRICS)
                    .map(|at| design.compare(&metric(&base, at), &metric(&head, at)))
                    .collect()
            })
            .collect();
        read(&format!("metrics correlated, {}", design.name()), &tables);
    }
}

#[test]
fn censored_repetitions_do_not_raise_the_false_alarms() {
    /// The slowest three in ten are not seen.
    fn censored(rng: &mut Rng) -> f64 {
        let value = figure(rng);
        if value > 6.0 + 0.524 * NOISE {
            f64::INFINITY
        } else {
            value
        }
    }
    for design in Design::BOTH {
        let mut rng = rng(39);
        let shifts: Vec<Shift> = (0..2_000)
            .map(|_| design.simulate(&mut rng, censored, 0.0))
            .collect();
        let name = format!("3 in 10 censored, {}", design.name());
        Rate::of(&format!("{name}: p <= 0.05"), shifts.iter().map(is_found)).is_at_most(0.05);
        Rate::of(
            &format!("{name}: the 95 % interval leaves out the truth"),
            shifts.iter().map(|shift| leaves_out(shift, 0.0)),
        )
        .is_at_most(0.05);
        let slower = (0..1_000).map(|_| {
            let base = side(&mut rng, figure);
            let mut head: Vec<f64> = side(&mut rng, figure).iter().map(|v| v + 0.15).collect();
            head[0] = f64::INFINITY;
            is_found(&design.compare(&base, &head))
        });
        Rate::of(
            &format!("one of head censored, {}: +16 % is found", design.name()),
            slower,
        )
        .is_between(0.9, 1.0);
    }
}

/// Repetitions of one run share servers and an hour, which two samples of repetitions know nothing of. This is what the method
/// does not hold, and why a session makes servers for every block.
#[test]
fn runs_that_differ_without_a_cause_raise_the_false_alarms_of_two_samples() {
    let mut rng = rng(40);
    let rates = [0.01, 0.02, 0.03].map(|between| {
        let shifts: Vec<Shift> = (0..2_000)
            .map(|_| {
                let differs = between * (normal(&mut rng) - normal(&mut rng));
                Design::Unpaired.simulate(&mut rng, figure, differs)
            })
            .collect();
        let name = format!("runs differ by {between}, unpaired");
        Rate::of(
            &format!("{name}: called improved or regressed, alone, threshold 5 %"),
            shifts
                .iter()
                .flat_map(|shift| verdicts(&[*shift], THRESHOLD.ln_1p()))
                .map(is_changed),
        );
        Rate::of(&format!("{name}: p <= 0.05"), shifts.iter().map(is_found))
    });
    rates[0].is_between(0.06, 0.13);
    rates[1].is_between(0.18, 0.30);
    rates[2].is_between(0.32, 0.46);
}

/// One session of twelve runs, of which the last is 10 % above the first. `order` says which are of head.
fn session(rng: &mut Rng, order: &[bool]) -> (Vec<f64>, Vec<f64>) {
    let step = 0.10_f64.ln_1p() / (order.len() - 1) as f64;
    let (mut base, mut head) = (Vec::new(), Vec::new());
    for (position, of_head) in order.iter().enumerate() {
        let value = figure(rng) + step * position as f64;
        if *of_head { &mut head } else { &mut base }.push(value);
    }
    (base, head)
}

#[test]
fn drift_cancels_in_mirrored_blocks_and_misleads_in_a_row() {
    const SESSIONS: usize = 2_000;
    let abba: Vec<bool> = [false, true, true, false].repeat(REPETITIONS / 2);
    let row: Vec<bool> = [[false; REPETITIONS], [true; REPETITIONS]].concat();
    let found = |order: &[bool], design: Design| -> Vec<bool> {
        let mut rng = rng(32);
        (0..SESSIONS)
            .map(|_| {
                let (base, head) = session(&mut rng, order);
                is_found(&design.compare(&base, &head))
            })
            .collect()
    };
    // The alternating sign of what is left of the drift within a block widens the interval a little.
    Rate::of(
        "10 % drift, ABBA paired: p <= 0.05",
        found(&abba, Design::Paired),
    )
    .is_at_most(0.05);
    Rate::of(
        "10 % drift, ABBA unpaired: p <= 0.05",
        found(&abba, Design::Unpaired),
    )
    .is_at_most(0.05);
    let mislead = Rate::of(
        "10 % drift, AAAAAABBBBBB unpaired: p <= 0.05",
        found(&row, Design::Unpaired),
    );
    mislead.is_between(0.5, 1.0);
    Rate::of(
        "10 % drift, AAAAAABBBBBB paired: p <= 0.05",
        found(&row, Design::Paired),
    )
    .is_between(0.3, 1.0);
}

#[test]
fn the_detectable_effect_is_found_four_times_in_five() {
    for design in Design::BOTH {
        let mut rng = rng(33);
        let reported: Vec<f64> = (0..500)
            .map(|_| design.simulate(&mut rng, figure, 0.0).detectable.unwrap())
            .collect();
        // The root of the mean square: that of the deviation, which alone varies, is without bias.
        let squares: f64 = reported.iter().map(|effect| effect.powi(2)).sum();
        let effect = (squares / reported.len() as f64).sqrt();
        println!(
            "{}: detectable {:.2} %",
            design.name(),
            effect.exp_m1() * 100.0
        );
        let finds = (0..1_500).map(|_| is_found(&design.simulate(&mut rng, figure, effect)));
        Rate::of(
            &format!("{}: the detectable effect is found", design.name()),
            finds,
        )
        .is_between(0.7, 0.9);
    }
}

#[test]
fn an_effect_of_15_percent_is_called_a_regression() {
    for design in Design::BOTH {
        let mut rng = rng(34);
        let effect = 0.15_f64.ln_1p();
        let mut table = |changed: usize| -> Vec<Verdict> {
            let shifts: Vec<Shift> = (0..METRICS)
                .map(|metric| {
                    let effect = if metric < changed { effect } else { 0.0 };
                    design.simulate(&mut rng, figure, effect)
                })
                .collect();
            verdicts(&shifts, THRESHOLD.ln_1p())
        };
        let regressed = |verdict: &Verdict| *verdict == Verdict::Regressed;
        let lone: Vec<Vec<Verdict>> = (0..150).map(|_| table(1)).collect();
        Rate::of(
            &format!(
                "{}: +15 % of one metric in 12 is called regressed",
                design.name()
            ),
            lone.iter().map(|table| regressed(&table[0])),
        )
        .is_between(0.7, 1.0);
        Rate::of(
            &format!("{}: the 11 others are called changed", design.name()),
            lone.iter()
                .flat_map(|table| table[1..].iter().map(|v| is_changed(*v))),
        )
        .is_at_most(0.005);
        Rate::of(
            &format!("{}: +15 % of all 12 is called regressed", design.name()),
            (0..100).flat_map(|_| table(METRICS)).map(|v| regressed(&v)),
        )
        .is_between(0.9, 1.0);
    }
}

#[test]
fn an_effect_at_the_threshold_is_seldom_called_a_regression() {
    for design in Design::BOTH {
        let mut rng = rng(35);
        let effect = THRESHOLD.ln_1p();
        let verdicts: Vec<Verdict> = (0..1_500)
            .flat_map(|_| verdicts(&[design.simulate(&mut rng, figure, effect)], effect))
            .collect();
        // One-sided: half of what the interval leaves out.
        Rate::of(
            &format!("{}: exactly +5 % is called regressed", design.name()),
            verdicts
                .iter()
                .map(|verdict| *verdict == Verdict::Regressed),
        )
        .is_at_most(0.025);
        Rate::of(
            &format!("{}: exactly +5 % is called equivalent", design.name()),
            verdicts
                .iter()
                .map(|verdict| *verdict == Verdict::Equivalent),
        )
        .is_at_most(0.05);
    }
}

/// Thirty commits, the later ones higher by `step`.
fn commits(rng: &mut Rng, step: f64, from: usize, draw: fn(&mut Rng) -> f64) -> Vec<f64> {
    (0..30)
        .map(|commit| draw(rng) + if commit >= from { step } else { 0.0 })
        .collect()
}

#[test]
fn change_points_of_noise_are_as_rare_as_the_level_says() {
    for (noise, draw) in [
        ("noise", figure as fn(&mut Rng) -> f64),
        ("heavy tails", disturbed),
    ] {
        let mut rng = rng(36);
        let alarms =
            (0..600).map(|seed| !change_points(&commits(&mut rng, 0.0, 0, draw), seed).is_empty());
        Rate::of(
            &format!("30 commits, {noise} alone: a change point"),
            alarms,
        )
        .is(0.05);
    }
}

#[test]
fn a_step_of_10_percent_is_found_where_it_is() {
    let mut rng = rng(37);
    let mut places: Vec<usize> = (5..=25).collect();
    places.shuffle(&mut rng);
    let found: Vec<(usize, Vec<usize>)> = (0..300)
        .map(|trial| {
            let from = places[trial % places.len()];
            let series = commits(&mut rng, 0.10_f64.ln_1p(), from, figure);
            let changes = change_points(&series, trial as u64);
            (from, changes.iter().map(|change| change.index).collect())
        })
        .collect();
    let near = |within: usize| {
        found
            .iter()
            .map(move |(from, at)| at.iter().any(|at| at.abs_diff(*from) <= within))
    };
    Rate::of("10 % step in 30 commits: found exactly", near(0)).is_between(0.6, 1.0);
    Rate::of("10 % step in 30 commits: found within 1", near(1)).is_between(0.9, 1.0);
    Rate::of(
        "10 % step in 30 commits: more than one change point",
        found.iter().map(|(_, at)| at.len() > 1),
    )
    .is_at_most(0.05);
}
