//! The figures of each mode of a run over its valid repetitions. How several repetitions become one figure is defined only here, for
//! everything that shows one: terminal, report, comparisons, gates, histories, index and site.

use std::collections::{BTreeMap, BTreeSet};

use super::stats::{Estimate, arithmetic_mean, geometric_mean, median};
use crate::metric::{Metric, Over, Scale};
use crate::record::RunSummary;

/// The figures of one mode of a run.
#[derive(Debug, Clone)]
pub struct ModeSummary {
    pub mode: String,
    pub valid: usize,
    pub invalid: usize,
    /// In the order in which the metrics are declared; the figures of replicas by the replica's name.
    pub figures: Vec<Figure>,
}

/// A figure of a mode.
#[derive(Debug, Clone)]
pub struct Figure {
    pub metric: Metric,
    pub node: Option<String>,
    /// The estimate over the valid repetitions, in the unit of the metric; infinite if it falls among the censored repetitions. `None` if a
    /// value is not a number.
    pub estimate: Option<Estimate>,
    /// For a visibility delay, which is an upper bound: the median distance between the looks, in the same unit. `None` for other metrics.
    pub resolution: Option<f64>,
}

impl Figure {
    /// Whether the distance between the looks is as large as the figure or larger, so that the figure is only an upper bound.
    pub fn is_unresolved(&self) -> bool {
        is_unresolved(
            self.estimate.map(|estimate| estimate.value),
            self.resolution,
        )
    }
}

impl ModeSummary {
    /// The mode's figure for this metric. If every replica has one, the figure of the replica where it is largest.
    pub fn worst(&self, metric: &str, stat: &str) -> Option<&Figure> {
        self.known(metric, stat)
            .max_by(|a, b| value(a).total_cmp(&value(b)))
    }

    /// The figure of the replica where this metric is smallest; `None` if only one replica has it.
    pub fn best(&self, metric: &str, stat: &str) -> Option<&Figure> {
        let smallest = self
            .known(metric, stat)
            .min_by(|a, b| value(a).total_cmp(&value(b)))?;
        (self.known(metric, stat).count() > 1).then_some(smallest)
    }

    /// A figure of one replica.
    pub fn of_node(&self, metric: &str, stat: &str, node: &str) -> Option<&Figure> {
        let mut figures = self.known(metric, stat);
        figures.find(|figure| figure.node.as_deref() == Some(node))
    }

    fn known(&self, metric: &str, stat: &str) -> impl Iterator<Item = &Figure> {
        let wanted = Metric::of(metric, stat);
        let of_metric = move |figure: &&Figure| Some(figure.metric) == wanted;
        let figures = self.figures.iter().filter(of_metric);
        figures.filter(|figure| figure.estimate.is_some())
    }
}

/// Whether a delay is only an upper bound, because the distance between the looks is as large as the delay or larger.
pub(super) fn is_unresolved(delay: Option<f64>, resolution: Option<f64>) -> bool {
    let known = delay.filter(|delay| delay.is_finite()).zip(resolution);
    known.is_some_and(|(delay, resolution)| resolution >= delay.abs())
}

fn value(figure: &Figure) -> f64 {
    figure.estimate.map_or(f64::NAN, |estimate| estimate.value)
}

/// Combines one metric's values of several repetitions into one figure; infinite values stand for censored ones. `None` if there are no
/// values or one is not a number.
///
/// A mean is taken on the scale of the metric, with Student's t interval: geometric for times and rates, so that the quotient of two
/// figures is the mean ratio of their repetitions, arithmetic for metrics without a natural zero. If a repetition is censored, the mean is
/// unknown, and the median is used instead. A maximum is the largest of all repetitions, and a count is their sum: neither has an interval.
pub(super) fn over_repetitions(metric: Metric, values: &[f64]) -> Option<Estimate> {
    if values.is_empty() || values.iter().any(|value| value.is_nan()) {
        return None;
    }
    let value = match metric.over() {
        Over::Largest => values.iter().copied().reduce(f64::max)?,
        Over::Sum => values.iter().sum(),
        Over::Mean if values.iter().any(|value| value.is_infinite()) => return median(values),
        Over::Mean => {
            return match metric.scale(values.iter()) {
                Scale::Ratio => geometric_mean(values),
                Scale::Difference => arithmetic_mean(values),
            };
        }
    };
    let (interval, n) = (None, values.len());
    Some(Estimate { value, interval, n })
}

/// The figures of all modes, in the order of the plan.
pub fn mode_summaries(run_summary: &RunSummary) -> Vec<ModeSummary> {
    let names = run_summary.mode_names();
    names
        .into_iter()
        .map(|mode| of_mode(run_summary, mode))
        .collect()
}

fn of_mode(run_summary: &RunSummary, mode: String) -> ModeSummary {
    let cells = || run_summary.cells.iter().filter(|cell| cell.mode == mode);
    let valid: BTreeSet<u32> = cells()
        .filter(|cell| cell.valid)
        .map(|cell| cell.cell_id)
        .collect();
    let mut by_figure: BTreeMap<(Metric, Option<&String>), Vec<f64>> = BTreeMap::new();
    for row in run_summary.figures.iter().flatten() {
        let declared = Metric::of(&row.metric, &row.stat);
        if let Some(metric) = declared.filter(|_| valid.contains(&row.cell_id)) {
            let values = by_figure.entry((metric, row.node.as_ref())).or_default();
            values.push(row.value.unwrap_or(f64::INFINITY));
        }
    }
    let estimates: BTreeMap<_, _> = by_figure
        .iter()
        .map(|(key, values)| (*key, over_repetitions(key.0, values)))
        .collect();
    let figures = estimates.iter().map(|((metric, node), estimate)| {
        let resolution = metric.resolution();
        let resolution = resolution.and_then(|it| estimates.get(&(it, *node)).copied()?);
        Figure {
            metric: *metric,
            node: node.cloned(),
            estimate: *estimate,
            resolution: resolution.map(|it| it.value),
        }
    });
    ModeSummary {
        figures: figures.collect(),
        invalid: cells().count() - valid.len(),
        valid: valid.len(),
        mode,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INF: f64 = f64::INFINITY;

    #[track_caller]
    fn check(metric: &str, values: &[f64], expected: f64) {
        let (name, stat) = metric.split_once('.').unwrap_or((metric, "value"));
        let found = over_repetitions(Metric::of(name, stat).unwrap(), values).unwrap();
        let value = found.value;
        let is_near = (value - expected).abs() < 1e-9 * expected.abs();
        let is_same = value.total_cmp(&expected).is_eq();
        assert!(is_near || is_same, "{metric}: {value}");
    }

    #[test]
    fn the_quotient_of_two_times_is_the_mean_of_their_ratios() {
        let (base, head): ([f64; 3], [f64; 3]) = ([2.0, 3.0, 7.0], [3.0, 4.0, 8.0]);
        let metric = Metric::of("response", "p50").unwrap();
        let of = |values: &[f64]| over_repetitions(metric, values).unwrap().value;
        let ratios: f64 = base.iter().zip(head).map(|(b, h)| (h / b).ln()).sum();
        let mean = (ratios / 3.0).exp();
        assert!((of(&head) / of(&base) - mean).abs() < 1e-12);
    }

    #[test]
    fn each_kind_of_figure_has_one_way_to_become_one_of_several() {
        check("response.p50", &[1.0, 4.0], 2.0);
        check("visibility.p50", &[-1.0, 4.0], 1.5);
        check("visibility.p50", &[1.0, 4.0], 2.5);
        check("response.max", &[1.0, 9.0, 4.0], 9.0);
        check("failed", &[1.0, 9.0, 4.0], 14.0);
        check("failed_share", &[0.0, 0.5], 0.25);
        check("replay_lag_bytes.p99", &[0.0, 100.0], 50.0);
    }

    #[test]
    fn a_censored_repetition_leaves_the_median() {
        check("response.p99", &[1.0, INF, 3.0], 3.0);
        check("response.p99", &[INF, INF, 3.0], INF);
        check("response.max", &[1.0, INF, 3.0], INF);
        assert!(Metric::of("response", "p50").is_some_and(|metric| {
            over_repetitions(metric, &[f64::NAN]).is_none()
                && over_repetitions(metric, &[]).is_none()
        }));
    }
}
