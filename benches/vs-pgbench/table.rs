//! Medians over the rounds, ratios pair by pair, and the goals.

use std::fmt::Write as _;
use std::time::Duration;

use replbench::histogram::Histogram;

use crate::scenario::Scenario;
use crate::turn::Figures;

/// What a ratio should be.
#[derive(Debug, Clone, Copy)]
enum Goal {
    AtMost(f64),
    AtLeast(f64),
}

impl Goal {
    fn is_met(self, ratio: f64) -> bool {
        match self {
            Self::AtMost(limit) => ratio <= limit,
            Self::AtLeast(limit) => ratio >= limit,
        }
    }

    fn describe(self, ratio: f64) -> String {
        let verdict = if self.is_met(ratio) { "met" } else { "not met" };
        match self {
            Self::AtMost(limit) => format!("<= {limit:.2}: {verdict}"),
            Self::AtLeast(limit) => format!(">= {limit:.2}: {verdict}"),
        }
    }
}

/// A figure of both tools. `None`: this scenario does not have it.
struct Row {
    name: &'static str,
    goal: Option<Goal>,
    decimals: usize,
    ours: fn(&Figures) -> Option<f64>,
    theirs: fn(&Figures) -> Option<f64>,
}

impl Row {
    fn both(
        name: &'static str,
        goal: Option<Goal>,
        decimals: usize,
        value: fn(&Figures) -> Option<f64>,
    ) -> Self {
        Self {
            name,
            goal,
            decimals,
            ours: value,
            theirs: value,
        }
    }
}

fn per_transaction_us(cpu: Duration, figures: &Figures) -> f64 {
    cpu.as_secs_f64() * 1e6 / figures.answered as f64
}

fn quantile_us(histogram: &Histogram, q: f64) -> Option<f64> {
    Some(histogram.quantile(q)?.as_secs_f64() * 1e6)
}

fn load_cpu(figures: &Figures) -> f64 {
    per_transaction_us(figures.load_cpu, figures)
}

fn load_and_probe_cpu(figures: &Figures) -> f64 {
    per_transaction_us(figures.load_cpu + figures.probe_cpu, figures)
}

fn process_cpu(figures: &Figures) -> f64 {
    per_transaction_us(figures.process_cpu, figures)
}

fn tps(figures: &Figures) -> f64 {
    figures.answered as f64 / figures.window.as_secs_f64()
}

fn answered_of_offered(figures: &Figures) -> Option<f64> {
    Some(figures.answered as f64 / figures.offered? as f64)
}

fn start_lag(figures: &Figures, q: f64) -> Option<f64> {
    figures.offered?;
    quantile_us(&figures.start_lag, q)
}

fn rows(scenario: Scenario) -> Vec<Row> {
    use Goal::{AtLeast, AtMost};
    let closed = scenario.rate().is_none();
    vec![
        // Paced, two Poisson processes do not have the same number of arrivals: there the share that was answered counts.
        Row::both("tps", closed.then_some(AtLeast(0.98)), 0, |it| {
            Some(tps(it))
        }),
        Row::both(
            "answered / due",
            Some(AtLeast(0.98)),
            4,
            answered_of_offered,
        ),
        Row {
            name: "CPU/tx, load threads (us)",
            goal: None,
            decimals: 2,
            ours: |it| Some(load_cpu(it)),
            theirs: |it| Some(process_cpu(it)),
        },
        Row {
            name: "CPU/tx, load + probes (us)",
            goal: Some(AtMost(1.0)),
            decimals: 2,
            ours: |it| Some(load_and_probe_cpu(it)),
            theirs: |it| Some(process_cpu(it)),
        },
        Row::both("CPU/tx, whole process (us)", None, 2, |it| {
            Some(process_cpu(it))
        }),
        Row::both("service time p50 (us)", None, 0, |it| {
            quantile_us(&it.service, 0.5)
        }),
        Row::both("service time p99 (us)", None, 0, |it| {
            quantile_us(&it.service, 0.99)
        }),
        Row::both("start lag p50 (us)", Some(AtMost(0.33)), 1, |it| {
            start_lag(it, 0.5)
        }),
        Row::both("start lag p99 (us)", Some(AtMost(1.0)), 1, |it| {
            start_lag(it, 0.99)
        }),
    ]
}

/// All rounds of one scenario.
#[derive(Debug)]
pub(crate) struct Comparison {
    scenario: Scenario,
    pairs: Vec<(Figures, Figures)>,
}

/// A row in words.
struct Line {
    name: &'static str,
    ours: String,
    theirs: String,
    ratio: String,
    goal: String,
}

impl Comparison {
    pub(crate) fn new(scenario: Scenario) -> Self {
        Self {
            scenario,
            pairs: Vec::new(),
        }
    }

    /// Two neighbouring turns.
    pub(crate) fn add(&mut self, ours: Figures, theirs: Figures) {
        self.pairs.push((ours, theirs));
    }

    pub(crate) fn text(&self) -> String {
        let mut text = format!("\n{}\n", self.scenario.title());
        let _ = writeln!(
            text,
            "  {:<27} {:>10} {:>10}  {:<20} goal",
            "", "replbench", "pgbench", "ratio (min..max)"
        );
        for line in self.lines() {
            let Line {
                name,
                ours,
                theirs,
                ratio,
                goal,
            } = line;
            let _ = writeln!(
                text,
                "  {name:<27} {ours:>10} {theirs:>10}  {ratio:<20} {goal}"
            );
        }
        text + "  " + &self.footnote()
    }

    pub(crate) fn markdown(&self) -> String {
        let mut text = format!(
            "\n{}:\n\n| | replbench | pgbench | ratio (min..max) | goal |\n|---|---:|---:|---|---|\n",
            self.scenario.title()
        );
        for line in self.lines() {
            let Line {
                name,
                ours,
                theirs,
                ratio,
                goal,
            } = line;
            let _ = writeln!(text, "| {name} | {ours} | {theirs} | {ratio} | {goal} |");
        }
        text + "\n" + &self.footnote()
    }

    fn lines(&self) -> Vec<Line> {
        rows(self.scenario)
            .iter()
            .filter_map(|row| self.line(row))
            .collect()
    }

    fn line(&self, row: &Row) -> Option<Line> {
        let collect = |value: &dyn Fn(&(Figures, Figures)) -> Option<f64>| {
            self.pairs.iter().map(value).collect::<Option<Vec<_>>>()
        };
        let ours = collect(&|(ours, _)| (row.ours)(ours))?;
        let theirs = collect(&|(_, theirs)| (row.theirs)(theirs))?;
        let ratios: Vec<_> = ours
            .iter()
            .zip(&theirs)
            .map(|(ours, theirs)| ours / theirs)
            .collect();
        let ratio = median(&ratios);
        let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
        let most = ratios.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let decimals = row.decimals;
        Some(Line {
            name: row.name,
            ours: format!("{:.decimals$}", median(&ours)),
            theirs: format!("{:.decimals$}", median(&theirs)),
            ratio: format!("{ratio:.2} ({least:.2}..{most:.2})"),
            goal: row
                .goal
                .map_or_else(String::new, |goal| goal.describe(ratio)),
        })
    }

    /// Shows that visibility was recorded meanwhile.
    fn footnote(&self) -> String {
        let seen: Vec<_> = self
            .pairs
            .iter()
            .filter_map(|(ours, _)| ours.visibility.as_ref())
            .collect();
        let delays: Vec<_> = seen.iter().filter_map(|it| it.p50_us).collect();
        if delays.is_empty() {
            return "visibility was not recorded\n".into();
        }
        let commits: u64 = seen.iter().map(|it| it.commits).sum();
        let unseen: u64 = seen.iter().map(|it| it.unseen).sum();
        format!(
            "visibility of {commits} commits recorded by replbench meanwhile: p50 {:.0} us, {unseen} unseen\n",
            median(&delays)
        )
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 {
        sorted[middle]
    } else {
        f64::midpoint(sorted[middle - 1], sorted[middle])
    }
}
