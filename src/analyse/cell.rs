//! The figures of one cell: quantiles over everything that was offered, and visibility and lag of each replica.
//!
//! An arrival that was never sent, was never answered or failed has a response time that is unknown and larger than any recorded one: it is
//! censored on the right. Quantiles are taken over recorded and censored arrivals together, and a quantile that falls among the censored is
//! empty. Leaving these arrivals out would make a stalled server look fast, and also a server that refuses the slow half of its
//! transactions.

use itertools::Itertools as _;

use super::setback::setback;
use crate::metric::{CellFigures, OutageFigures, ReplicaFigures, Spread};
use crate::record::tags::{self, Bound, Origin};
use crate::record::{CellHistograms, Run};
use crate::sample::{CellRow, FaultRow, LagRow, Presence, VisibilityRow};

/// The figures of all cells, in the order of `cells.csv`.
pub fn cell_figures(run: &Run) -> Vec<CellFigures> {
    let nothing = CellHistograms::default();
    run.cells
        .iter()
        .map(|cell| {
            let histograms = run.histograms.get(&cell.cell_id).unwrap_or(&nothing);
            figures(run, cell, histograms)
        })
        .collect()
}

fn figures(run: &Run, cell: &CellRow, histograms: &CellHistograms) -> CellFigures {
    let spread = |tag| {
        histograms
            .get(tag)
            .map(|found| Spread::of(&found, censored(cell, tag)))
    };
    CellFigures {
        cell_id: cell.cell_id,
        mode: cell.mode.clone(),
        valid: cell.valid,
        start_lag: spread(tags::START_LAG),
        pool_wait: spread(tags::POOL_WAIT),
        service: spread(tags::SERVICE),
        response: spread(tags::RESPONSE),
        outage: outage(run, cell),
        syncrep_waiters: most_waiters(run, cell),
        replicas: replica_names(run, cell, histograms)
            .into_iter()
            .map(|node| replica(run, cell, histograms, node))
            .collect(),
    }
}

/// The figures of the faults that stopped the primary. Whether commits were lost, and when one was acknowledged again, is known only for
/// such faults. `None` if there were none.
fn outage(run: &Run, cell: &CellRow) -> Option<OutageFigures> {
    let own = run.faults.iter().filter(|it| it.cell_id == cell.cell_id);
    let faults: Vec<&FaultRow> = own.filter(|it| it.stops_primary).collect();
    let seconds = |us: i64| us as f64 / 1e6;
    let longest = |time: fn(&FaultRow) -> Option<i64>| {
        let times = faults.iter().filter_map(|it| time(it));
        times.max().map(seconds)
    };
    // A fault after which nothing was acknowledged counts as longer than all others.
    let longest_if_ended = |time: fn(&FaultRow) -> Option<i64>| {
        let times = faults
            .iter()
            .map(|it| time(it).map_or(f64::INFINITY, seconds));
        times.fold(0.0, f64::max)
    };
    // Each fault row of a cell has the number of commits that were lost in the whole cell.
    let lost = faults.iter().filter_map(|it| it.lost).max();
    (!faults.is_empty()).then(|| OutageFigures {
        recovery: longest_if_ended(|it| it.rto_us),
        unavailable: longest_if_ended(|it| it.unavailable_us),
        rejoin: longest(|it| it.rejoin_us),
        lost,
        lost_span: longest(|it| it.lost_span_us),
        faults: faults.len() as u64,
    })
}

/// The most backends that waited for synchronous replication at the same time during a fault, and the number of faults for which that is
/// known. `None` if it is known for none.
fn most_waiters(run: &Run, cell: &CellRow) -> Option<(i64, u64)> {
    let own = run.faults.iter().filter(|it| it.cell_id == cell.cell_id);
    let waiters: Vec<_> = own.filter_map(|it| it.syncrep_waiters).collect();
    Some((*waiters.iter().max()?, waiters.len() as u64))
}

/// The number of a cell's arrivals that belong to the distribution `tag` but are not recorded in it: their values are larger than all
/// recorded ones. The service time is a distribution over the arrivals that were sent, the other distributions are over all arrivals.
pub(super) fn censored(cell: &CellRow, tag: &str) -> u64 {
    let (unsent, uncommitted) = (cell.missed, cell.indeterminate.saturating_add(cell.failed));
    match tag {
        tags::START_LAG | tags::POOL_WAIT => unsent,
        tags::SERVICE => uncommitted,
        _ => unsent.saturating_add(uncommitted),
    }
}

/// The mode's replicas in the order of the topology, then any other replica that has measurements.
fn replica_names(run: &Run, cell: &CellRow, histograms: &CellHistograms) -> Vec<String> {
    let planned = run.mode(&cell.mode).map(|mode| mode.topology.replicas());
    let planned = planned.into_iter().flatten();
    let seen = visibility_rows(run, cell).map(|row| row.node.clone());
    let sampled = lag_rows(run, cell).map(|row| row.node.clone());
    planned
        .map(|node| node.name.clone())
        .chain(histograms.nodes())
        .chain(seen)
        .chain(sampled)
        .unique()
        .collect()
}

fn replica(run: &Run, cell: &CellRow, histograms: &CellHistograms, node: String) -> ReplicaFigures {
    let (commits, unseen) = commits_and_unseen(run, cell, &node);
    let spread = |origin, bound| {
        let delays = histograms.visibility(&node, origin, bound);
        (delays.count() > 0 || unseen > 0).then(|| Spread::of_signed(&delays, unseen))
    };
    let lag: Vec<&LagRow> = lag_rows(run, cell).filter(|row| row.node == node).collect();
    let samples = |column: fn(&LagRow) -> Option<i64>, unit: f64| {
        LagSamples::of(lag.iter().copied(), |row| {
            column(row).map(|value| value as f64 / unit)
        })
    };
    let replay_bytes = samples(|row| row.replay_lag_bytes, 1.0);
    let replay_time = samples(|row| row.replay_lag_us, 1e6);
    let retained = lag.iter().filter_map(|row| row.slot_retained_bytes);
    ReplicaFigures {
        visibility: spread(Origin::Ack, Bound::Hi),
        visibility_lo: spread(Origin::Ack, Bound::Lo),
        visibility_send: spread(Origin::Send, Bound::Hi),
        commits,
        unseen,
        resolution: resolution(run, cell, &node),
        samples: lag.len() as u64,
        gaps: replay_bytes.gone,
        unanswered: replay_bytes.unanswered,
        replay_bytes: replay_bytes.spread(),
        replay_time: replay_time.spread(),
        retained_bytes: retained.max().map(|bytes| bytes as f64),
        setback: setback(run, cell, &node).unwrap_or_default(),
        node,
    }
}

/// One column of a replica's lag samples: the values, and the number of samples without one because the replica was gone or its upstream
/// did not answer.
#[derive(Debug, Default)]
struct LagSamples {
    values: Vec<f64>,
    gone: u64,
    unanswered: u64,
}

impl LagSamples {
    /// Samples in which the replica was gone are counted, because the WAL went on without it. So are samples that its upstream did not
    /// answer: how far the replica was behind is unknown. An empty column of a replica that was there is ignored: `pg_stat_replication`
    /// empties its times when there is nothing to replay.
    fn of<'a>(
        rows: impl IntoIterator<Item = &'a LagRow>,
        column: impl Fn(&LagRow) -> Option<f64>,
    ) -> Self {
        let mut samples = Self::default();
        for row in rows {
            match (column(row), row.presence()) {
                (Some(value), _) => samples.values.push(value),
                (None, Presence::Gone) => samples.gone += 1,
                (None, Presence::Unanswered) => samples.unanswered += 1,
                (None, Presence::Present) => {}
            }
        }
        samples
    }

    fn spread(self) -> Option<Spread> {
        // Unknown values count as larger than all known ones.
        Spread::of_samples(self.values, self.gone + self.unanswered)
    }
}

/// The number of a cell's commits that a node had to show, and the number of these that it had not shown when the drain ended.
pub(super) fn commits_and_unseen(run: &Run, cell: &CellRow, node: &str) -> (u64, u64) {
    visibility_rows(run, cell)
        .filter(|row| row.node == node)
        .fold((0, 0), |(commits, unseen), row| {
            (commits + row.commits, unseen + row.unseen)
        })
}

/// The median width of a replica's visibility intervals in a cell, in seconds, over all commits seen: each commit counts with the median
/// width of its second. `None` if no commit was seen.
pub(super) fn resolution(run: &Run, cell: &CellRow, node: &str) -> Option<f64> {
    let mut seconds: Vec<(f64, u64)> = visibility_rows(run, cell)
        .filter(|row| row.node == node && row.seen > 0)
        .filter_map(|row| Some((row.resolution_us.filter(|us| us.is_finite())?, row.seen)))
        .collect();
    seconds.sort_by(|a, b| a.0.total_cmp(&b.0));
    let half = seconds
        .iter()
        .map(|(_, seen)| seen)
        .sum::<u64>()
        .div_ceil(2);
    let mut passed = 0;
    seconds.into_iter().find_map(|(us, seen)| {
        passed += seen;
        (passed >= half).then_some(us / 1e6)
    })
}

/// Visibility rows from the start of the measurement phase. Rows after its end are included: commits sent in the phase and acknowledged
/// after it belong to it.
fn visibility_rows<'a>(run: &'a Run, cell: &CellRow) -> impl Iterator<Item = &'a VisibilityRow> {
    let rows = run.visibility_of(cell.cell_id).iter();
    rows.filter(|row| row.t_us >= 0)
}

/// Lag samples of the measurement phase.
pub(super) fn lag_rows<'a>(run: &'a Run, cell: &CellRow) -> impl Iterator<Item = &'a LagRow> {
    let end_us = cell.measured_s * 1e6;
    let rows = run.lag_of(cell.cell_id).iter();
    rows.filter(move |row| row.t_us >= 0 && row.t_us as f64 <= end_us)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(answered: bool, bytes: Option<i64>) -> LagRow {
        LagRow {
            sampler_rtt_us: answered.then_some(300),
            state: bytes.map(|_| "streaming".into()),
            replay_lag_bytes: bytes,
            ..LagRow::default()
        }
    }

    #[test]
    fn samples_without_an_answer_count_as_larger_than_all_others() {
        let mut rows: Vec<_> = (1..=97).map(|bytes| row(true, Some(bytes))).collect();
        let samples = |rows: &[LagRow]| {
            LagSamples::of(rows, |row| row.replay_lag_bytes.map(|bytes| bytes as f64))
        };
        let all = samples(&rows).spread().unwrap();
        assert_eq!((all.p99, all.max, all.n), (Some(97.0), Some(97.0), 97));
        rows.extend([row(true, None), row(false, None), row(false, None)]);
        let found = samples(&rows);
        assert_eq!((found.gone, found.unanswered), (1, 2));
        let spread = found.spread().unwrap();
        assert_eq!((spread.p50, spread.p99, spread.n), (Some(50.0), None, 100));
        // The replica was there in the first 97 samples and had nothing to replay: it has no time, and none of these samples counts.
        let times = LagSamples::of(&rows, |row| row.replay_lag_us.map(|us| us as f64));
        assert_eq!((times.gone, times.unanswered), (1, 2));
    }
}
