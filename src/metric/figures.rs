//! What a cell has of every quantity, in base units.

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
    /// `None`: no fault stopped the primary.
    pub outage: Option<OutageFigures>,
    /// Most backends that waited for synchronous replication at a time during a fault, and the number of faults.
    pub syncrep_waiters: Option<(i64, u64)>,
    pub replicas: Vec<ReplicaFigures>,
}

/// What the faults that stopped the primary did in a cell. Times are seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OutageFigures {
    /// The longest from such a fault to the first acknowledgement of what was sent after it; infinite if there was none.
    pub recovery: f64,
    /// The longest time without an acknowledgement around such a fault; infinite in the same case.
    pub unavailable: f64,
    /// The longest until the node that had failed replicated again; `None`: it did not become a replica.
    pub rejoin: Option<f64>,
    /// Acknowledged commits that were lost; `None`: that is unknown.
    pub lost: Option<u64>,
    /// From the acknowledgement of the first of them to the fault.
    pub lost_span: Option<f64>,
    /// Such faults.
    pub faults: u64,
}

/// Quantiles of a distribution in seconds (of lag in bytes), over `n` observations; `None` falls among the censored.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    pub p50: Option<f64>,
    pub p90: Option<f64>,
    pub p99: Option<f64>,
    pub p999: Option<f64>,
    pub max: Option<f64>,
    /// Recorded and censored.
    pub n: u64,
    pub censored: u64,
    /// The largest that was recorded: every censored observation is larger.
    pub largest: Option<f64>,
}

/// What one replica showed in a cell.
#[derive(Debug, Clone)]
pub struct ReplicaFigures {
    pub node: String,
    /// From the acknowledgement to the end of the first look that saw the commit.
    pub visibility: Option<Spread>,
    /// From the acknowledgement to the start of the last look that missed it.
    pub visibility_lo: Option<Spread>,
    /// From the send to the end of the first look that saw it.
    pub visibility_send: Option<Spread>,
    pub commits: u64,
    pub unseen: u64,
    /// Median width of the intervals, seconds.
    pub resolution: Option<f64>,
    /// Bytes that the replica had yet to replay. Samples in which it was gone, or that were not answered, are larger than all
    /// others.
    pub replay_bytes: Option<Spread>,
    /// `replay_lag` of `pg_stat_replication`, seconds.
    pub replay_time: Option<Spread>,
    /// Most WAL that the replica's slot held back.
    pub retained_bytes: Option<f64>,
    pub setback: SetbackFigures,
    /// Samples of the measurement phase.
    pub samples: u64,
    /// Those of them in which the replica was gone: its upstream answered and did not know it.
    pub gaps: u64,
    /// Those of them that its upstream did not answer.
    pub unanswered: u64,
}

/// What the faults of one node did to it in a cell. Times are seconds; all are `None` where no fault befell it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct SetbackFigures {
    /// The most that it had to replay, from the beginning of a fault until it had caught up. Censored where it was gone meanwhile, or its
    /// upstream did not answer: by how much it was behind then is unknown.
    pub peak_bytes: Option<Spread>,
    /// From the end of a fault to the first sample in which it had no more to replay than before the fault, seconds. Censored where there
    /// is none.
    pub catch_up: Option<Spread>,
    /// What it had to replay when a fault ended, by the time that it took from there to catch up: bytes a second, the slowest; 0 if it did
    /// not. It had caught up at some time before the sample that says so, so the rate is this or more.
    pub catch_up_rate: Option<f64>,
    /// Most commits that it did not show at the end of a second, over the same time as `peak_bytes`.
    pub behind: Option<u64>,
    /// From the acknowledgement until the slowest commit was seen that was acknowledged during a fault, seconds. Censored where one
    /// never was.
    pub slowest: Option<Spread>,
    /// Of the commits acknowledged during the faults, and those of them that a read 100 ms later may miss.
    pub stale: Option<(u64, u64)>,
}

impl Spread {
    /// From a function that gives the value below which a share of the observations lies, censored ones included.
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

    /// Of observations of which none is known.
    pub fn unknown(censored: u64) -> Self {
        Self::read(|_| None, censored, censored, None)
    }

    /// Of the histogram and as many unknown, larger observations.
    pub fn of(histogram: &Histogram, censored: u64) -> Self {
        let n = histogram.count().saturating_add(censored);
        let at = |q| histogram.quantile_of(q, n).map(|value| value.as_secs_f64());
        let largest = histogram.max().map(|max| max.as_secs_f64());
        Self::read(at, n, censored, largest)
    }

    /// As [`Spread::of`], for delays with a sign.
    pub fn of_signed(histogram: &SignedHistogram, censored: u64) -> Self {
        let n = histogram.count().saturating_add(censored);
        let largest = histogram.quantile_of(1.0, histogram.count());
        Self::read(|q| histogram.quantile_of(q, n), n, censored, largest)
    }

    /// Of samples and as many unknown, larger ones; `None` when nothing was recorded.
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
