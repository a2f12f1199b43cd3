//! The figures of a cell, from which every quantity is read, in base units: seconds, bytes and counts.

use crate::histogram::{Histogram, SignedHistogram, rank};

/// The figures of a cell. Times are seconds.
#[derive(Debug, Clone)]
pub struct CellFigures {
    pub cell_id: u32,
    pub mode: String,
    pub valid: bool,
    pub start_lag: Option<Spread>,
    pub pool_wait: Option<Spread>,
    pub service: Option<Spread>,
    pub response: Option<Spread>,
    /// The outages of the cell; `None` if no fault stopped the primary.
    pub outage: Option<OutageFigures>,
    /// The most backends that waited for synchronous replication at the same time during a fault, and the number of faults.
    pub syncrep_waiters: Option<(i64, u64)>,
    pub replicas: Vec<ReplicaFigures>,
}

/// The effect of the faults of a cell that stopped the primary. Times are seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OutageFigures {
    /// The longest time from a fault to the first acknowledgement of a transaction that was sent after the fault; infinite if none was
    /// acknowledged after one of the faults.
    pub recovery: f64,
    /// The longest time without an acknowledgement around a fault; infinite if none was acknowledged after one of the faults.
    pub unavailable: f64,
    /// The longest time until the node that had failed replicated again; `None` if it did not become a replica.
    pub rejoin: Option<f64>,
    /// The number of acknowledged commits that were lost; `None` if it is unknown.
    pub lost: Option<u64>,
    /// The longest time from the acknowledgement of the first lost commit to the fault.
    pub lost_span: Option<f64>,
    /// The number of faults that stopped the primary.
    pub faults: u64,
}

/// Quantiles of a distribution of `n` observations, in seconds or, for WAL lag, bytes. A quantile is `None` if it falls among the
/// censored observations, which are larger than all recorded ones.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    pub p50: Option<f64>,
    pub p90: Option<f64>,
    pub p99: Option<f64>,
    pub p999: Option<f64>,
    pub max: Option<f64>,
    /// The number of observations, recorded and censored.
    pub n: u64,
    pub censored: u64,
    /// The largest recorded observation; every censored observation is larger.
    pub largest: Option<f64>,
}

/// The figures of one replica in a cell. Times are seconds.
#[derive(Debug, Clone)]
pub struct ReplicaFigures {
    pub node: String,
    /// Time from the acknowledgement of a commit to the end of the probe's first check that saw the commit.
    pub visibility: Option<Spread>,
    /// Time from the acknowledgement of a commit to the start of the probe's last check that did not see the commit.
    pub visibility_lo: Option<Spread>,
    /// Time from the send of a transaction to the end of the probe's first check that saw its commit.
    pub visibility_send: Option<Spread>,
    pub commits: u64,
    pub unseen: u64,
    /// Median time, in seconds, between the probe's last check that did not see a commit and its first check that did.
    pub resolution: Option<f64>,
    /// Bytes of WAL that the replica had not yet replayed. Samples in which the replica was gone, or that were not answered, count as
    /// larger than all others.
    pub replay_bytes: Option<Spread>,
    /// `replay_lag` of `pg_stat_replication`, seconds.
    pub replay_time: Option<Spread>,
    /// The most bytes of WAL that the replica's slot retained.
    pub retained_bytes: Option<f64>,
    pub setback: SetbackFigures,
    /// The number of lag samples of the measurement phase.
    pub samples: u64,
    /// The number of lag samples in which the replica was gone: its upstream server answered, but did not list the replica.
    pub gaps: u64,
    /// The number of lag samples that the replica's upstream server did not answer.
    pub unanswered: u64,
}

/// The effect of a node's faults on that node in a cell. Times are seconds; all fields are `None` if the node had no fault.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct SetbackFigures {
    /// The most bytes that the node had to replay, from the beginning of a fault until the node had caught up. Censored if the node was
    /// gone in that time or its upstream server did not answer, because its lag is then unknown.
    pub peak_bytes: Option<Spread>,
    /// Time from the end of a fault to the first lag sample in which the node had no more to replay than before the fault. Censored if
    /// there is no such sample.
    pub catch_up: Option<Spread>,
    /// The lowest rate of catching up, in bytes a second: the bytes that the node had to make up when a fault ended, divided by the time
    /// from then until it had caught up; 0 if it did not catch up. The rate is a lower bound, because the node caught up some time before
    /// the sample that shows it.
    pub catch_up_rate: Option<f64>,
    /// The most commits that the node did not show at the end of a second, over the same time as `peak_bytes`.
    pub behind: Option<u64>,
    /// The longest time from the acknowledgement of a commit during a fault until the node showed that commit. Censored if the node never
    /// showed one of these commits.
    pub slowest: Option<Spread>,
    /// The number of commits acknowledged during the faults, and the number of them that a read 100 ms later may miss.
    pub stale: Option<(u64, u64)>,
}

impl Spread {
    /// Made from a function that gives the value below which a share of the observations lies, censored ones included.
    fn read(at: impl Fn(f64) -> Option<f64>, n: u64, censored: u64, largest: Option<f64>) -> Self {
        Self {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: largest.filter(|_| censored == 0),
            n,
            censored,
            largest,
        }
    }

    /// The spread of `censored` observations, all of them unknown.
    pub fn unknown(censored: u64) -> Self {
        Self::read(|_| None, censored, censored, None)
    }

    /// The spread of a histogram and of `censored` unknown, larger observations.
    pub fn of(histogram: &Histogram, censored: u64) -> Self {
        let n = histogram.count().saturating_add(censored);
        let at = |q| histogram.quantile_of(q, n).map(|value| value.as_secs_f64());
        let largest = histogram.max().map(|max| max.as_secs_f64());
        Self::read(at, n, censored, largest)
    }

    /// Like [`Spread::of`], for delays that may be negative.
    pub fn of_signed(histogram: &SignedHistogram, censored: u64) -> Self {
        let n = histogram.count().saturating_add(censored);
        let largest = histogram.quantile_of(1.0, histogram.count());
        Self::read(|q| histogram.quantile_of(q, n), n, censored, largest)
    }

    /// The spread of samples and of `censored` unknown, larger samples; `None` if there is no finite sample.
    pub fn of_samples(mut samples: Vec<f64>, censored: u64) -> Option<Self> {
        samples.retain(|sample| sample.is_finite());
        samples.sort_by(f64::total_cmp);
        let largest = *samples.last()?;
        let n = (samples.len() as u64).saturating_add(censored);
        let at = |share| {
            let index = usize::try_from(rank(share, n)).ok()?.checked_sub(1)?;
            samples.get(index).copied()
        };
        Some(Self::read(at, n, censored, Some(largest)))
    }
}
