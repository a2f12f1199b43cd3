//! The sums of one cell so far: totals for its row, rows of seconds that wait for the host's share, and evidence for its validity.

use std::collections::BTreeMap;
use std::time::Duration;

use super::lag_evidence::{Expected, LagEvidence};
use super::maintenance::Maintenance;
use crate::clock::Stamp;
use crate::histogram::{Histogram, SignedHistogram};
use crate::load::{Failures, Outcomes, Second};
use crate::plan::{Length, Plan};
use crate::probe::{Delay, HostSecond, LagSample, VisibilitySecond};
use crate::sample::{IntervalRow, Phase, Timeline, VisibilityRow};
use crate::units::Lsn;

/// The three figures of a cell that a person is shown.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CellHeadline {
    pub response_p50: Option<Duration>,
    pub response_p99: Option<Duration>,
    /// 99th percentile of visibility on the worst node, from the acknowledgement; `None` also if more than 1 % of the commits were not
    /// seen in time.
    pub visibility_p99_s: Option<f64>,
}

/// Everything a cell's row and validity are made from.
#[derive(Debug, Default)]
pub(super) struct Figures {
    pub(super) cell_id: u32,
    pub(super) timeline: Timeline,
    expected: Expected,
    /// Outcomes of the arrivals of the measurement phase.
    pub(super) arrivals: Outcomes,
    pub(super) arrival_counts: ArrivalCounts,
    /// Acknowledgements that came within the measurement phase.
    pub(super) acks: u64,
    /// Why transactions after the warm-up were not committed, by SQLSTATE.
    pub(super) failures: Failures,
    /// Outcomes of the arrivals of the measurement phase, from the second on in which a fault stopped the primary.
    pub(super) after_stop: Outcomes,
    /// Arrivals of all phases that were due and had not ended at the end of the last second before a fault stopped the primary.
    pub(super) open_before_stop: Option<u64>,
    pub(super) measured: Duration,
    pub(super) peak_backlog: u64,
    pub(super) peak_in_flight: u64,
    pub(super) dispatch_lag: Histogram,
    pub(super) start_lag: Histogram,
    pub(super) service: Histogram,
    response: Histogram,
    visibility: BTreeMap<String, (SignedHistogram, u64)>,
    /// For each table: rows inserted less rows deleted, as in [`Second::row_changes`].
    pub(super) row_changes: Vec<i64>,
    pub(super) unknown: u64,
    load_cpu: Duration,
    hosts: BTreeMap<i64, HostSecond>,
    /// Seconds of the measurement phase.
    measured_seconds: Vec<i64>,
    drain_from_ns: Option<i64>,
    positions: Vec<(Stamp, Lsn)>,
    pub(super) lag: LagEvidence,
    pub(super) unseen: BTreeMap<String, u64>,
    /// `None` if a server did not answer.
    pub(super) maintenance: Option<Maintenance>,
    waiting: BTreeMap<(i64, bool), IntervalRow>,
    syncrep: BTreeMap<i64, i64>,
}

impl Figures {
    pub(super) fn new(cell_id: u32, timeline: Timeline, expected: Expected) -> Self {
        Self {
            cell_id,
            timeline,
            expected,
            ..Self::default()
        }
    }

    /// Adds one second of the load; its row waits for the host's figures.
    pub(super) fn second(&mut self, second: &Second) {
        self.row_changes
            .resize(self.row_changes.len().max(second.row_changes.len()), 0);
        for (sum, change) in self.row_changes.iter_mut().zip(&second.row_changes) {
            *sum += change;
        }
        self.unknown += second.unknown;
        self.arrival_counts.add(second);
        self.arrivals.add(&second.measured);
        let stopped = self.lag.primary_stopped_at();
        let stopped_ns = stopped.map(|at| self.timeline.offset_ns(at));
        if stopped_ns.is_some_and(|at| second.end_ns >= at) {
            self.after_stop.add(&second.measured);
        } else {
            self.open_before_stop = Some(self.arrival_counts.open);
        }
        if second.phase != Phase::Warmup {
            self.failures.merge(&second.failures);
            self.peak_backlog = self.peak_backlog.max(second.peak_backlog);
            self.peak_in_flight = self.peak_in_flight.max(second.peak_in_flight);
            self.dispatch_lag.merge(&second.dispatch_lag);
            self.start_lag.merge(&second.start_lag);
            self.service.merge(&second.service);
            self.response.merge(&second.response);
        }
        if second.phase == Phase::Measure {
            self.acks += second.all.acknowledged();
            self.load_cpu += second.cpu;
            self.measured += second.length();
            self.measured_seconds.push(second.index);
        }
        if second.phase == Phase::Drain {
            self.drain_from_ns.get_or_insert(second.start_ns);
        }
        let key = (second.index, second.phase == Phase::Drain);
        self.waiting.insert(key, self.interval_row(second));
    }

    fn interval_row(&self, second: &Second) -> IntervalRow {
        let quantile = |histogram: &Histogram, q| histogram.quantile(q).map(micros);
        let length = second.length();
        IntervalRow {
            cell_id: self.cell_id,
            t_us: second.start_ns / 1_000,
            length_us: u64::try_from(length.as_micros()).unwrap_or(u64::MAX),
            phase: second.phase,
            offered: second.all.offered,
            sent: second.all.sent,
            acked: second.all.acknowledged(),
            failed: second.all.failed + second.all.indeterminate,
            missed: Some(second.all.missed),
            backlog: second.backlog,
            in_flight: second.in_flight,
            start_lag_p50_us: quantile(&second.start_lag, 0.5),
            start_lag_p99_us: quantile(&second.start_lag, 0.99),
            pool_wait_p50_us: quantile(&second.pool_wait, 0.5),
            pool_wait_p99_us: quantile(&second.pool_wait, 0.99),
            service_p50_us: second.service_quantile(0.5).map(micros),
            service_p99_us: second.service_quantile(0.99).map(micros),
            service_max_us: second.service_quantile(1.0).map(micros),
            response_p50_us: second.response_quantile(0.5).map(micros),
            response_p99_us: second.response_quantile(0.99).map(micros),
            response_max_us: second.response_quantile(1.0).map(micros),
            wal_bytes: None,
            syncrep_waiters: None,
            host_busy_share: None,
            host_steal_share: None,
            host_iowait_share: None,
            load_cpu_share: share(second.cpu, length),
            probe_cpu_share: None,
        }
    }

    pub(super) fn host(&mut self, second: HostSecond) {
        self.hosts.insert(second.index, second);
    }

    /// The rows to which nothing can be added any more, or all rows if `all` is set.
    pub(super) fn take_intervals(&mut self, all: bool) -> Vec<IntervalRow> {
        let mut rows = Vec::new();
        while let Some(entry) = self.waiting.first_entry() {
            let index = entry.key().0;
            let host = self.hosts.get(&index);
            if !all && host.is_none() {
                break;
            }
            let mut row = entry.remove();
            let shares = host.and_then(|host| host.shares);
            row.host_busy_share = shares.map(|shares| thousandths(shares.busy));
            row.host_steal_share = shares.map(|shares| thousandths(shares.steal));
            row.host_iowait_share = shares.map(|shares| thousandths(shares.iowait));
            row.probe_cpu_share =
                host.and_then(|host| share(host.probe_cpu, Duration::from_secs(1)));
            row.syncrep_waiters = self.syncrep.get(&index).copied();
            row.wal_bytes = self.wal_between(row.t_us, row.length_us);
            rows.push(row);
        }
        rows
    }

    /// Bytes of WAL written in a span of time, between the lag samples nearest to its start and its end.
    fn wal_between(&self, t_us: i64, length_us: u64) -> Option<i64> {
        let start = self
            .timeline
            .measure_from
            .as_nanos()
            .checked_add_signed(t_us * 1_000)?;
        let position_at = |at: u64| {
            let positions = self.positions.iter();
            positions.min_by_key(|(stamp, _)| stamp.as_nanos().abs_diff(at))
        };
        let (from, first) = position_at(start)?;
        let (to, last) = position_at(start + length_us * 1_000)?;
        (to > from).then(|| last.distance_from(*first).bytes())
    }

    /// Checkpoints between the first and the last lag sample. `None` if no sample has a count, or if a fault stopped the primary: then the
    /// counts come from two servers, or from a server that was restarted.
    pub(super) fn checkpoints(&self) -> Option<u64> {
        if self.lag.primary_was_stopped() {
            return None;
        }
        let (first, last) = self.lag.checkpoints?;
        u64::try_from(last - first).ok()
    }

    /// Bytes of WAL written in the whole measurement phase.
    pub(super) fn wal_bytes(&self) -> Option<i64> {
        self.wal_between(0, u64::try_from(self.measured.as_micros()).ok()?)
    }

    pub(super) fn lag(&mut self, sample: &LagSample) {
        self.positions.extend(sample.position);
        let second = self.timeline.second_at(sample.at);
        if let Some(waiters) = sample.syncrep_waiters {
            let most = self.syncrep.entry(second).or_insert(0);
            *most = (*most).max(waiters);
        }
        if let Some(started) = sample.primary_started_us
            && !self.lag.primary_starts.contains(&started)
        {
            self.lag.primary_starts.push(started);
        }
        if let Some(count) = sample.checkpoints {
            let first = self.lag.checkpoints.map_or(count, |(first, _)| first);
            self.lag.checkpoints = Some((first, count));
        }
        let is_over = self
            .expected
            .measure_until
            .is_some_and(|end| sample.at >= end)
            || self
                .drain_from_ns
                .is_some_and(|end| self.timeline.offset_ns(sample.at) >= end);
        let in_phase = self.timeline.phase_at(sample.at) == Phase::Measure && !is_over;
        if in_phase {
            self.lag.add(sample, &self.expected);
        }
    }

    /// The row of one second of visibility, and the distributions of its delays.
    pub(super) fn visibility(
        &mut self,
        second: &VisibilitySecond,
    ) -> (VisibilityRow, Distributions) {
        let seen = second.delays.len() as u64;
        let unseen = second.commits.saturating_sub(seen);
        *self.unseen.entry(second.node.clone()).or_default() += unseen;
        let distributions = Distributions::of(&second.delays);
        let (merged, commits) = self.visibility.entry(second.node.clone()).or_default();
        merged.merge(&distributions.hi);
        *commits += second.commits;
        let commits = second.commits;
        let quantile = |signed: &SignedHistogram, q| {
            signed
                .quantile_of(q, commits)
                .map(|seconds| thousandths(seconds * 1e6))
        };
        let delays = second.delays.iter();
        let mut widths: Vec<_> = delays.map(|delay| delay.hi - delay.lo).collect();
        widths.sort_unstable();
        let row = VisibilityRow {
            cell_id: self.cell_id,
            t_us: second.index * 1_000_000,
            node: second.node.clone(),
            commits,
            seen,
            unseen,
            p50_lo_us: quantile(&distributions.lo, 0.5),
            p50_hi_us: quantile(&distributions.hi, 0.5),
            p99_lo_us: quantile(&distributions.lo, 0.99),
            p99_hi_us: quantile(&distributions.hi, 0.99),
            max_hi_us: (unseen == 0)
                .then(|| second.delays.iter().map(|delay| delay.hi).max())
                .flatten()
                .map(|nanos| nanos as f64 / 1e3),
            resolution_us: widths
                .get(widths.len() / 2)
                .map(|nanos| *nanos as f64 / 1e3),
            commits_behind: Some(second.behind),
        };
        (row, distributions)
    }

    /// The figures that a person is shown when the cell ends.
    pub(super) fn headline(&self) -> CellHeadline {
        let worst = self
            .visibility
            .values()
            .map(|(delays, commits)| delays.quantile_of(0.99, *commits));
        CellHeadline {
            response_p50: self.response_quantile(0.5),
            response_p99: self.response_quantile(0.99),
            // If the quantile is censored on one node, the worst one is unknown.
            visibility_p99_s: worst.reduce(|one, other| Some(one?.max(other?))).flatten(),
        }
    }

    pub(super) fn achieved_tps(&self) -> f64 {
        let seconds = self.measured.as_secs_f64();
        if seconds > 0.0 {
            thousandths(self.acks as f64 / seconds)
        } else {
            0.0
        }
    }

    pub(super) fn dispatch_lag_p99_us(&self) -> Option<f64> {
        self.dispatch_lag.quantile(0.99).map(micros)
    }

    /// The response time below which a share `q` of all arrivals lies; `None` if the quantile falls among the arrivals without an answer.
    pub(super) fn response_quantile(&self, q: f64) -> Option<Duration> {
        self.response.quantile_of(q, self.arrivals.offered)
    }

    /// CPU time of the load threads, in cores.
    pub(super) fn load_cpu_share(&self) -> Option<f64> {
        share(self.load_cpu, self.measured)
    }

    /// CPU time of the probes' threads, in cores.
    pub(super) fn probe_cpu_share(&self) -> Option<f64> {
        self.mean_of_hosts(|host| Some(host.probe_cpu.as_secs_f64()))
    }

    /// Mean shares of the host's processors over the measurement phase: busy and steal.
    pub(super) fn host_shares(&self) -> Option<(f64, f64)> {
        let busy = self.mean_of_hosts(|host| host.shares.map(|shares| shares.busy))?;
        let steal = self.mean_of_hosts(|host| host.shares.map(|shares| shares.steal))?;
        Some((busy, steal))
    }

    fn mean_of_hosts(&self, figure: impl Fn(&HostSecond) -> Option<f64>) -> Option<f64> {
        let seconds = self.measured_seconds.iter();
        let figures: Vec<_> = seconds
            .filter_map(|index| figure(self.hosts.get(index)?))
            .collect();
        let mean = figures.iter().sum::<f64>() / figures.len() as f64;
        (!figures.is_empty()).then(|| thousandths(mean))
    }

    /// Whether the measurement phase was as long as planned.
    pub(super) fn is_whole(&self, plan: &Plan) -> bool {
        match plan.phases.measure {
            Length::For(planned) => self.measured + Duration::from_millis(1) >= planned,
            Length::Count(count) => self.arrivals.offered >= count,
        }
    }
}

/// Counts arrivals of all phases by whether they have ended, second by second.
#[derive(Debug, Default, Clone)]
pub(super) struct ArrivalCounts {
    all: Outcomes,
    /// Arrivals that were due and had not ended at the end of the last second.
    open: u64,
    /// Arrivals that were due and had not ended when the measurement phase began.
    pub(super) open_at_start: u64,
    /// Arrivals that were due and had not ended when the measurement phase ended.
    pub(super) open_at_end: u64,
    /// The first contradiction between the counts, as a sentence.
    pub(super) error: Option<String>,
}

impl ArrivalCounts {
    /// Acknowledged arrivals of all phases.
    pub(super) fn acknowledged(&self) -> u64 {
        self.all.acknowledged()
    }

    fn add(&mut self, second: &Second) {
        self.all.add(&second.all);
        let all = &self.all;
        let ended = all.acknowledged() + all.failed + all.indeterminate + all.missed;
        if all.offered != all.sent + all.missed + second.backlog || all.offered < ended {
            self.error.get_or_insert_with(|| {
                format!(
                    "{} arrivals were due by second {}, of which {} were sent, {} missed, {} waited and {ended} had ended",
                    all.offered, second.index, all.sent, all.missed, second.backlog
                )
            });
        }
        let open = all.offered.saturating_sub(ended);
        self.open = open;
        match second.phase {
            Phase::Warmup => self.open_at_start = open,
            Phase::Measure => self.open_at_end = open,
            Phase::Drain => {}
        }
    }
}

/// Delays of visibility, as histograms.
#[derive(Debug, Default)]
pub(super) struct Distributions {
    pub(super) lo: SignedHistogram,
    pub(super) hi: SignedHistogram,
    pub(super) hi_from_send: Histogram,
}

impl Distributions {
    fn of(delays: &[Delay]) -> Self {
        let mut distributions = Self::default();
        for delay in delays {
            distributions.lo.record(delay.lo);
            distributions.hi.record(delay.hi);
            distributions.hi_from_send.record_nanos(delay.hi_from_send);
        }
        distributions
    }
}

/// Microseconds, rounded to the nanosecond.
fn micros(duration: Duration) -> f64 {
    thousandths(duration.as_secs_f64() * 1e6)
}

fn share(part: Duration, whole: Duration) -> Option<f64> {
    (!whole.is_zero()).then(|| thousandths(part.as_secs_f64() / whole.as_secs_f64()))
}

/// Rounds to three decimals, because nothing here is measured more finely.
fn thousandths(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}
