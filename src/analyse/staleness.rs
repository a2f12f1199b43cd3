//! When commits become visible on replicas, and the chance that a read misses them.
//!
//! A commit is seen by looking again and again, so its delay is known as an interval: after the start of the last look that
//! missed it, before the end of the first that saw it. The shares here are therefore bands. P(stale) at `t` is the share of
//! commits not yet visible `t` after their acknowledgement (probabilistically bounded staleness, Bailis et al. 2012).

use std::collections::BTreeMap;

use super::cell::{commits_and_unseen, resolution};
use super::stats::median;
use crate::histogram::{SignedHistogram, rank};
use crate::record::tags::{Bound, Origin};
use crate::record::{CellHistograms, Run};

/// The visibility of a mode's commits on one replica, over all valid repetitions.
#[derive(Debug, Clone)]
pub struct ReplicaCurve {
    pub mode: String,
    pub node: String,
    /// Commits that the replica should have shown, including those not seen before the drain ended.
    pub commits: u64,
    pub unseen: u64,
    /// Median width of the intervals, in seconds: shorter times than this cannot be told apart.
    pub resolution: Option<f64>,
    /// Set if every commit waits for the replay on this replica: the number of commits that were acknowledged with a warning, because their
    /// wait was cancelled.
    cancelled_waits: Option<u64>,
    lo: Cumulative,
    hi: Cumulative,
}

/// Sorted delays in seconds, each with the number of commits up to this delay.
#[derive(Debug, Clone, Default)]
struct Cumulative(Vec<(f64, u64)>);

impl Cumulative {
    fn of(delays: &SignedHistogram) -> Self {
        let seconds = |nanos: u64| nanos as f64 / 1e9;
        let mut all: Vec<(f64, u64)> = delays
            .negative
            .buckets()
            .map(|(nanos, count)| (-seconds(nanos), count))
            .collect();
        all.reverse();
        all.extend(
            delays
                .positive
                .buckets()
                .map(|(nanos, count)| (seconds(nanos), count)),
        );
        let mut sum = 0_u64;
        for (_, count) in &mut all {
            sum = sum.saturating_add(*count);
            *count = sum;
        }
        Self(all)
    }

    fn total(&self) -> u64 {
        self.0.last().map_or(0, |(_, sum)| *sum)
    }

    fn up_to(&self, seconds: f64) -> u64 {
        let after = self.0.partition_point(|(delay, _)| *delay <= seconds);
        after.checked_sub(1).map_or(0, |last| self.0[last].1)
    }

    /// The delay in seconds by which `rank` commits had become visible.
    fn at_rank(&self, rank: u64) -> Option<f64> {
        self.0
            .iter()
            .find(|(_, sum)| *sum >= rank)
            .map(|(delay, _)| *delay)
    }
}

impl ReplicaCurve {
    /// Bounds of the share of commits that a read `seconds` after the acknowledgement misses; between 0 and 1.
    ///
    /// If commits wait for the replay on this replica, a commit is visible there when it is acknowledged, although the looks do not show
    /// it. In this case only two kinds of commits count as possibly stale: those whose wait was cancelled, and those that a look after the
    /// acknowledgement missed.
    pub fn stale(&self, seconds: f64) -> (f64, f64) {
        let (lo, hi) = self.measured_stale(seconds);
        match self.cancelled_waits {
            Some(cancelled) if seconds >= 0.0 => {
                let without_wait = cancelled as f64 / self.commits.max(1) as f64;
                (lo, hi.min(self.measured_stale(0.0).0 + without_wait))
            }
            _ => (lo, hi),
        }
    }

    /// Whether every commit of the mode waits for the replay on this replica.
    pub fn is_awaited(&self) -> bool {
        self.cancelled_waits.is_some()
    }

    /// Whether no read after an acknowledgement can miss the row, because every commit has waited for the replay on this replica.
    pub fn is_never_stale(&self) -> bool {
        self.is_awaited() && self.stale(0.0).1 <= 0.0
    }

    fn measured_stale(&self, seconds: f64) -> (f64, f64) {
        let share = |curve: &Cumulative| {
            let visible = curve.up_to(seconds) + self.missing_from(curve);
            1.0 - (visible as f64 / self.commits.max(1) as f64).min(1.0)
        };
        let (lo, hi) = (share(&self.lo), share(&self.hi));
        (lo.min(hi), hi)
    }

    /// The number of seen commits that have no entry in `curve`. In the curve of lower bounds such commits count as visible at once.
    fn missing_from(&self, curve: &Cumulative) -> u64 {
        self.hi.total().saturating_sub(curve.total())
    }

    /// Bounds of the share of commits visible `seconds` after their acknowledgement: (surely, possibly).
    pub fn visible(&self, seconds: f64) -> (f64, f64) {
        let (lo, hi) = self.stale(seconds);
        (1.0 - hi, 1.0 - lo)
    }

    /// Upper bound of the delay within which a share of all commits is visible, in seconds; `None` if it falls among the unseen commits.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        self.hi.at_rank(rank(share, self.commits))
    }

    /// Lower bound of the delay within which a share of all commits is visible, in seconds; `None` if it falls among the unseen commits, or
    /// among commits for which no look gives a lower bound.
    pub fn quantile_lo(&self, share: f64) -> Option<f64> {
        let visible = self.missing_from(&self.lo);
        let rank = rank(share, self.commits).checked_sub(visible)?;
        (rank > 0).then(|| self.lo.at_rank(rank)).flatten()
    }

    /// The smallest and the largest delay on record, in seconds.
    pub fn range(&self) -> Option<(f64, f64)> {
        let least = self.lo.0.first().or(self.hi.0.first())?;
        let greatest = self.hi.0.last()?;
        Some((least.0.min(greatest.0), greatest.0))
    }
}

/// One curve for every mode and replica that has commits, in the order of the plan and of the topology.
pub fn replica_curves(run: &Run) -> Vec<ReplicaCurve> {
    run.mode_names()
        .iter()
        .flat_map(|mode| mode_curves(run, mode))
        .collect()
}

fn mode_curves(run: &Run, mode: &str) -> Vec<ReplicaCurve> {
    let mut order = Vec::new();
    let mut sums: BTreeMap<String, (SignedHistogram, SignedHistogram, u64)> = BTreeMap::new();
    if let Some(planned) = run.mode(mode) {
        order.extend(planned.topology.replicas().map(|node| node.name.clone()));
    }
    let cells = run.cells_of(mode);
    let valid = || cells.iter().copied().filter(|cell| cell.valid);
    for cell in valid() {
        let histograms = run.histograms.get(&cell.cell_id);
        for node in histograms.map(CellHistograms::nodes).unwrap_or_default() {
            if !order.contains(&node) {
                order.push(node);
            }
        }
        for node in &order {
            let sum = sums.entry(node.clone()).or_default();
            sum.2 = sum.2.saturating_add(commits_and_unseen(run, cell, node).1);
            if let Some(found) = histograms {
                sum.0.merge(&found.visibility(node, Origin::Ack, Bound::Lo));
                sum.1.merge(&found.visibility(node, Origin::Ack, Bound::Hi));
            }
        }
    }
    // While a fault keeps a replica from streaming, commits may wait for another replica in its place.
    let faults = &run.manifest.plan.faults;
    let mode_as_planned = run
        .mode(mode)
        .filter(|_| !faults.iter().any(|fault| fault.kind.stops_streaming()));
    let awaited = mode_as_planned
        .map(crate::mode::Mode::awaits_replay_of)
        .unwrap_or_default();
    let cancelled = valid().map(|cell| cell.acked_with_warning).sum();
    let curves = order.into_iter().filter_map(|node| {
        let (lo, hi, unseen) = sums.remove(&node)?;
        let commits = hi.count().saturating_add(unseen);
        let widths: Vec<f64> = valid()
            .filter_map(|cell| resolution(run, cell, &node))
            .collect();
        (commits > 0).then(|| ReplicaCurve {
            mode: mode.to_owned(),
            resolution: median(&widths).map(|width| width.value),
            cancelled_waits: awaited.contains(&node).then_some(cancelled),
            node,
            commits,
            unseen,
            lo: Cumulative::of(&lo),
            hi: Cumulative::of(&hi),
        })
    });
    curves.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(unseen: u64) -> ReplicaCurve {
        let mut lo = SignedHistogram::default();
        let mut hi = SignedHistogram::default();
        for micros in -20..80_i64 {
            lo.record(micros * 50_000);
            hi.record(micros * 50_000 + 50_000);
        }
        ReplicaCurve {
            mode: "async".into(),
            node: "s1".into(),
            commits: 100 + unseen,
            unseen,
            resolution: Some(5e-5),
            cancelled_waits: None,
            lo: Cumulative::of(&lo),
            hi: Cumulative::of(&hi),
        }
    }

    #[test]
    fn staleness_is_a_band_that_falls_with_time() {
        let (lo, hi) = curve(0).stale(0.002);
        assert!(
            (lo - 0.39).abs() < 0.011 && (hi - 0.40).abs() < 0.011,
            "{lo} {hi}"
        );
        assert!(curve(0).stale(1.0).1 < 1e-9);
    }

    #[test]
    fn unseen_commits_stay_stale_for_ever() {
        let (lo, hi) = curve(25).stale(3_600.0);
        assert!(
            (lo - 0.2).abs() < 1e-9 && (hi - 0.2).abs() < 1e-9,
            "{lo} {hi}"
        );
        assert!(curve(25).quantile(0.9).is_none());
    }

    #[test]
    fn a_read_on_the_replica_that_commits_await_is_never_stale() {
        let mut awaited = curve(0);
        // No look after an acknowledgement missed a commit. The looks do not show when, before its acknowledgement, each commit became
        // visible.
        awaited.lo.0.retain(|(delay, _)| *delay <= 0.0);
        assert!(awaited.stale(0.0).1 > 0.5, "{:?}", awaited.stale(0.0));
        awaited.cancelled_waits = Some(0);
        assert!(awaited.is_never_stale());
        assert_eq!(awaited.stale(0.0), (0.0, 0.0));
        awaited.cancelled_waits = Some(3);
        assert!(!awaited.is_never_stale());
        assert!((awaited.stale(0.0).1 - 0.03).abs() < 1e-9);
    }

    #[test]
    fn a_commit_that_did_not_wait_after_all_stays_in_the_band() {
        let mut awaited = curve(25);
        awaited.cancelled_waits = Some(0);
        let (lo, hi) = awaited.stale(0.0);
        assert!(
            lo >= 0.2 && hi >= lo && !awaited.is_never_stale(),
            "{lo} {hi}"
        );
        assert!((awaited.stale(3_600.0).1 - 0.2).abs() < 1e-9);
    }

    #[test]
    fn a_quantile_has_a_lower_bound_too() {
        let (lo, hi) = (curve(0).quantile_lo(0.99), curve(0).quantile(0.99));
        assert!(
            (hi.unwrap() - lo.unwrap() - 5e-5).abs() < 1e-5,
            "{lo:?} {hi:?}"
        );
        assert!(curve(25).quantile_lo(0.9).is_none());
    }
}
