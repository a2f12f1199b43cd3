//! What one load thread counts in one second, and the sum over threads.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio_postgres::error::SqlState;

use crate::histogram::Histogram;
use crate::pg::Failure;
use crate::sample::{Commit, Phase};

/// In which way a transaction was not acknowledged, where there is a reason to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Uncommitted {
    /// The server refused it.
    Failed,
    /// Sent, and no answer: the connection was lost, or the deadline passed.
    Indeterminate,
    /// Never sent, because no connection could be had.
    NoConnection,
}

/// Counts of arrivals by what became of them. At any time those offered are those sent, those missed and those that wait; in the
/// end those sent are those acknowledged, failed and indeterminate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Outcomes {
    /// Due.
    pub offered: u64,
    /// Handed to a connection.
    pub sent: u64,
    pub acked: u64,
    pub acked_with_warning: u64,
    /// Sent and refused.
    pub failed: u64,
    pub indeterminate: u64,
    /// Due and never sent.
    pub missed: u64,
    /// Those of them for which no connection could be had.
    pub no_connection: u64,
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
        self.no_connection += other.no_connection;
    }

    /// All acknowledged, with a warning or without.
    pub fn acknowledged(&self) -> u64 {
        self.acked + self.acked_with_warning
    }

    pub(super) fn end_uncommitted(&mut self, kind: Uncommitted) {
        match kind {
            Uncommitted::Failed => self.failed += 1,
            Uncommitted::Indeterminate => self.indeterminate += 1,
            Uncommitted::NoConnection => {
                self.missed += 1;
                self.no_connection += 1;
            }
        }
    }

    /// Those that came to nothing for a reason of the server's: refused, unanswered, or without a connection.
    pub fn uncommitted(&self) -> u64 {
        self.failed + self.indeterminate + self.no_connection
    }
}

/// Transactions that did not succeed, all with the same SQLSTATE and in the same way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureCount {
    /// Empty when the server sent none.
    pub sqlstate: String,
    pub how: Uncommitted,
    pub count: u64,
    /// The first message.
    pub detail: String,
}

/// Why transactions did not succeed, and how many of each.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Failures(Vec<FailureCount>);

impl Failures {
    pub fn add(&mut self, failure: FailureCount) {
        let is_alike =
            |it: &&mut FailureCount| it.how == failure.how && it.sqlstate == failure.sqlstate;
        match self.0.iter_mut().find(is_alike) {
            Some(found) => found.count += failure.count,
            None => self.0.push(failure),
        }
    }

    pub fn merge(&mut self, other: &Self) {
        for failure in &other.0 {
            self.add(failure.clone());
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = &FailureCount> {
        self.0.iter()
    }
}

/// One second of the load, of one thread or merged over all of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Second {
    /// Seconds since the start of the measurement phase; negative during warm-up.
    pub index: i64,
    pub phase: Phase,
    /// From the start of the measurement phase, as `index`: it means the same on every machine.
    pub start_ns: i64,
    pub end_ns: i64,
    /// What became in this second of arrivals of the measurement phase.
    pub measured: Outcomes,
    /// What became in it of all arrivals, those of the warm-up among them.
    pub all: Outcomes,
    /// Arrivals that were due and not yet sent, at the end.
    pub backlog: u64,
    pub in_flight: u64,
    pub peak_backlog: u64,
    pub peak_in_flight: u64,
    /// How late the generator itself was: from when an arrival was due, or `max_in_flight` left room for it, to when a connection
    /// was asked for. Empty in a closed loop, where nothing is due. This and the next are during the warm-up of its arrivals,
    /// later of those of the measurement phase.
    pub dispatch_lag: Histogram,
    pub start_lag: Histogram,
    pub pool_wait: Histogram,
    pub service: Histogram,
    pub response: Histogram,
    /// Of all arrivals.
    pub failures: Failures,
    /// By table of the plan, of all phases: rows that acknowledged transactions inserted, less those they deleted.
    pub row_changes: Vec<i64>,
    /// Transactions, of all phases, of which it is unknown whether they committed.
    pub unknown: u64,
    /// Commits that were acknowledged in it, of all phases and in no order; only of a plan whose cells are audited row by row.
    #[serde(default)]
    pub commits: Vec<Commit>,
    /// CPU time of the load threads.
    pub cpu: Duration,
}

impl Second {
    /// One in which nothing has happened yet.
    pub fn new(index: i64, phase: Phase, start_ns: i64) -> Self {
        Self {
            index,
            phase,
            start_ns,
            end_ns: start_ns,
            measured: Outcomes::default(),
            all: Outcomes::default(),
            backlog: 0,
            in_flight: 0,
            peak_backlog: 0,
            peak_in_flight: 0,
            dispatch_lag: Histogram::new(),
            start_lag: Histogram::new(),
            pool_wait: Histogram::new(),
            service: Histogram::new(),
            response: Histogram::new(),
            failures: Failures::default(),
            row_changes: Vec::new(),
            unknown: 0,
            commits: Vec::new(),
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
        let ended = self.answered_or_not(&self.response) + self.recorded_outcomes().missed;
        self.response.quantile_of(q, ended)
    }

    fn answered_or_not(&self, recorded: &Histogram) -> u64 {
        let outcomes = self.recorded_outcomes();
        recorded.count() + outcomes.failed + outcomes.indeterminate
    }

    /// The outcomes of those arrivals that enter this second's distributions.
    fn recorded_outcomes(&self) -> &Outcomes {
        match self.phase {
            Phase::Warmup => &self.all,
            Phase::Measure | Phase::Drain => &self.measured,
        }
    }

    /// Whether an arrival enters this second's distributions.
    pub(super) fn records(&self, measured: bool) -> bool {
        measured || self.phase == Phase::Warmup
    }

    pub fn length(&self) -> Duration {
        Duration::from_nanos(u64::try_from(self.end_ns - self.start_ns).unwrap_or(0))
    }

    /// Counts something that became of an arrival.
    pub(super) fn count(&mut self, measured: bool, count: impl Fn(&mut Outcomes)) {
        count(&mut self.all);
        if measured {
            count(&mut self.measured);
        }
    }

    pub(super) fn count_failure(&mut self, kind: Uncommitted, failure: Failure, count: u64) {
        let sqlstate = failure.sqlstate.as_ref().map(SqlState::code);
        self.failures.add(FailureCount {
            sqlstate: sqlstate.unwrap_or_default().to_owned(),
            how: kind,
            count,
            detail: failure.message,
        });
    }

    /// Rows were inserted into a table, or, below 0, deleted from it.
    pub(super) fn change_rows(&mut self, table: usize, change: i64) {
        if self.row_changes.len() <= table {
            self.row_changes.resize(table + 1, 0);
        }
        self.row_changes[table] += change;
    }

    /// Adds the same second of another thread.
    pub(super) fn merge(&mut self, other: &Self) {
        self.end_ns = self.end_ns.max(other.end_ns);
        self.backlog += other.backlog;
        self.in_flight += other.in_flight;
        self.peak_backlog += other.peak_backlog;
        self.peak_in_flight += other.peak_in_flight;
        self.add(other);
    }

    /// Adds what followed, so that both are one longer second.
    pub(super) fn append(&mut self, next: &Self) {
        self.end_ns = next.end_ns;
        self.backlog = next.backlog;
        self.in_flight = next.in_flight;
        self.peak_backlog = self.peak_backlog.max(next.peak_backlog);
        self.peak_in_flight = self.peak_in_flight.max(next.peak_in_flight);
        self.add(next);
    }

    /// Adds what is a sum.
    fn add(&mut self, other: &Self) {
        self.measured.add(&other.measured);
        self.all.add(&other.all);
        self.dispatch_lag.merge(&other.dispatch_lag);
        self.start_lag.merge(&other.start_lag);
        self.pool_wait.merge(&other.pool_wait);
        self.service.merge(&other.service);
        self.response.merge(&other.response);
        self.failures.merge(&other.failures);
        for (table, change) in other.row_changes.iter().enumerate() {
            self.change_rows(table, *change);
        }
        self.unknown += other.unknown;
        self.commits.extend_from_slice(&other.commits);
        self.cpu += other.cpu;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_is_slower_than_everything_that_was_answered() {
        let mut second = Second::new(0, Phase::Measure, 0);
        for _ in 0..60 {
            second.service.record(Duration::from_millis(1));
            second.response.record(Duration::from_millis(2));
        }
        second.measured.failed = 20;
        second.measured.indeterminate = 10;
        assert!(second.service_quantile(0.66).is_some());
        assert_eq!(second.service_quantile(0.67), None);
        second.measured.missed = 10;
        assert!(second.response_quantile(0.6).is_some());
        assert_eq!(second.response_quantile(0.61), None);
        assert_eq!(second.response_quantile(1.0), None);
    }

    #[test]
    fn a_second_arrives_as_it_was_sent() {
        let mut second = Second::new(-2, Phase::Warmup, -1_500_000_000);
        second.end_ns = -1_000_000_000;
        for nanos in [0, 2_047, 123_456_789, 5_000_000_000_000] {
            second.response.record_nanos_n(nanos, 3);
        }
        for sqlstate in ["40001", "40P01", "40001"] {
            let failure = Failure {
                sqlstate: Some(SqlState::from_code(sqlstate)),
                message: format!("first of {sqlstate}"),
                connection_lost: false,
            };
            second.count_failure(Uncommitted::Failed, failure, 2);
        }
        second.change_rows(1, -4);
        second.cpu = Duration::from_millis(3);
        let text = serde_json::to_string(&second).unwrap();
        let arrived: Second = serde_json::from_str(&text).unwrap();
        assert_eq!(arrived, second);
        let counts: Vec<_> = arrived.failures.iter().map(|it| it.count).collect();
        assert_eq!(counts, [4, 2]);
        assert_eq!(arrived.response.max(), second.response.max());
    }
}
