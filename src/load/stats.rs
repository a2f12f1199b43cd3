//! What one load thread counts in one second, and the sum over threads.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::clock::Stamp;
use crate::histogram::Histogram;
use crate::sample::Phase;

/// How an arrival ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    Acked,
    /// The server answered success and warned that the commit may not have been replicated.
    AckedWithWarning,
    Failed(Reason),
    /// Sent, and no answer: the connection was lost, or the deadline passed.
    Indeterminate(Reason),
}

/// Why a transaction did not succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reason {
    /// SQLSTATE, or empty when the server sent none.
    pub(super) sqlstate: String,
    pub(super) message: String,
}

/// Counts of arrivals by how they ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Outcomes {
    /// Due.
    pub offered: u64,
    pub sent: u64,
    pub acked: u64,
    pub acked_with_warning: u64,
    pub failed: u64,
    pub indeterminate: u64,
    /// Due and never sent.
    pub missed: u64,
}

impl Outcomes {
    pub fn add(&mut self, other: &Self) {
        self.offered += other.offered;
        self.sent += other.sent;
        self.acked += other.acked;
        self.acked_with_warning += other.acked_with_warning;
        self.failed += other.failed;
        self.indeterminate += other.indeterminate;
        self.missed += other.missed;
    }

    /// All acknowledged, with a warning or without.
    pub fn acknowledged(&self) -> u64 {
        self.acked + self.acked_with_warning
    }
}

/// Transactions that did not succeed, all for the same reason.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FailureCount {
    pub count: u64,
    /// The first message.
    pub detail: String,
}

/// One second of the load, of one thread or merged over all of them.
#[derive(Debug, Clone)]
pub struct Second {
    /// Seconds since the start of the measurement phase; negative during warm-up.
    pub index: i64,
    pub phase: Phase,
    pub start: Stamp,
    pub end: Stamp,
    /// Arrivals of this second's phase (those of the measurement phase during the drain).
    pub arrivals: Outcomes,
    /// Acknowledgements that came in this second, whichever phase their arrival belongs to.
    pub acks: u64,
    /// Due arrivals not yet handed to the pool, at the end.
    pub backlog: u64,
    pub in_flight: u64,
    pub peak_backlog: u64,
    pub peak_in_flight: u64,
    /// Of the arrivals counted in `arrivals`.
    pub start_lag: Histogram,
    pub pool_wait: Histogram,
    pub service: Histogram,
    pub response: Histogram,
    /// By SQLSTATE and whether the outcome is unknown.
    pub failures: BTreeMap<(String, bool), FailureCount>,
    /// By transaction of the mix, of all phases: how many committed, and of how many that is unknown.
    pub committed: Vec<(u64, u64)>,
    /// CPU time of the load threads.
    pub cpu: Duration,
}

impl Second {
    pub(super) fn new(index: i64, phase: Phase, start: Stamp) -> Self {
        Self {
            index,
            phase,
            start,
            end: start,
            arrivals: Outcomes::default(),
            acks: 0,
            backlog: 0,
            in_flight: 0,
            peak_backlog: 0,
            peak_in_flight: 0,
            start_lag: Histogram::new(),
            pool_wait: Histogram::new(),
            service: Histogram::new(),
            response: Histogram::new(),
            failures: BTreeMap::new(),
            committed: Vec::new(),
            cpu: Duration::ZERO,
        }
    }

    /// The service time below which a share `q` of what was sent and ended in this second lies; `None` where it falls among
    /// those that failed or were never answered.
    pub fn service_quantile(&self, q: f64) -> Option<Duration> {
        self.service
            .quantile_of(q, self.answered_or_not(&self.service))
    }

    /// As [`Second::service_quantile`], of the response time and with what was missed.
    pub fn response_quantile(&self, q: f64) -> Option<Duration> {
        let ended = self.answered_or_not(&self.response) + self.arrivals.missed;
        self.response.quantile_of(q, ended)
    }

    fn answered_or_not(&self, recorded: &Histogram) -> u64 {
        recorded.count() + self.arrivals.failed + self.arrivals.indeterminate
    }

    pub(super) fn count_failure(&mut self, reason: Reason, indeterminate: bool) {
        let entry = self
            .failures
            .entry((reason.sqlstate, indeterminate))
            .or_default();
        if entry.count == 0 {
            entry.detail = reason.message;
        }
        entry.count += 1;
    }

    pub(super) fn committed_mut(&mut self, transaction: usize) -> &mut (u64, u64) {
        if self.committed.len() <= transaction {
            self.committed.resize(transaction + 1, (0, 0));
        }
        &mut self.committed[transaction]
    }

    /// Adds the same second of another thread.
    pub(super) fn merge(&mut self, other: &Self) {
        self.end = self.end.max(other.end);
        self.arrivals.add(&other.arrivals);
        self.acks += other.acks;
        self.backlog += other.backlog;
        self.in_flight += other.in_flight;
        self.peak_backlog += other.peak_backlog;
        self.peak_in_flight += other.peak_in_flight;
        self.start_lag.merge(&other.start_lag);
        self.pool_wait.merge(&other.pool_wait);
        self.service.merge(&other.service);
        self.response.merge(&other.response);
        for (reason, failure) in &other.failures {
            let entry = self.failures.entry(reason.clone()).or_default();
            if entry.count == 0 {
                entry.detail.clone_from(&failure.detail);
            }
            entry.count += failure.count;
        }
        for (index, (committed, unknown)) in other.committed.iter().enumerate() {
            let sum = self.committed_mut(index);
            sum.0 += committed;
            sum.1 += unknown;
        }
        self.cpu += other.cpu;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_is_slower_than_everything_that_was_answered() {
        let mut second = Second::new(0, Phase::Measure, Stamp::default());
        for _ in 0..60 {
            second.service.record(Duration::from_millis(1));
            second.response.record(Duration::from_millis(2));
        }
        second.arrivals.failed = 20;
        second.arrivals.indeterminate = 10;
        assert!(second.service_quantile(0.66).is_some());
        assert_eq!(second.service_quantile(0.67), None);
        second.arrivals.missed = 10;
        assert!(second.response_quantile(0.6).is_some());
        assert_eq!(second.response_quantile(0.61), None);
        assert_eq!(second.response_quantile(1.0), None);
    }
}
