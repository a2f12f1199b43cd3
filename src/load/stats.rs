//! The counts of one load thread in one second, and their sum over threads.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio_postgres::error::SqlState;

use crate::histogram::Histogram;
use crate::pg::Failure;
use crate::sample::{Commit, Phase};

/// How a transaction that was not acknowledged ended, for endings with an error message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Uncommitted {
    /// The server refused the transaction.
    Failed,
    /// The transaction was sent and not answered: the connection was lost, or the deadline passed.
    Indeterminate,
    /// The transaction was never sent, because no connection could be opened.
    NoConnection,
}

/// Counts of arrivals by outcome. At any time `offered` equals `sent` plus `missed` plus the backlog. At the end `sent` equals `acked` plus
/// `acked_with_warning` plus `failed` plus `indeterminate`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Outcomes {
    /// Arrivals that became due.
    pub offered: u64,
    /// Arrivals that were handed to a connection.
    pub sent: u64,
    pub acked: u64,
    pub acked_with_warning: u64,
    /// Transactions that were sent and that the server refused.
    pub failed: u64,
    pub indeterminate: u64,
    /// Arrivals that were due and never sent.
    pub missed: u64,
    /// Missed arrivals for which no connection could be opened.
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

    /// All acknowledged transactions, with or without a warning.
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

    /// Arrivals that did not commit because of the server: refused, unanswered, or without a connection.
    pub fn uncommitted(&self) -> u64 {
        self.failed + self.indeterminate + self.no_connection
    }
}

/// A number of transactions that did not succeed, all with the same SQLSTATE and the same kind of ending.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureCount {
    /// Empty if the server sent no SQLSTATE.
    pub sqlstate: String,
    pub how: Uncommitted,
    pub count: u64,
    /// The message of the first of these failures.
    pub detail: String,
}

/// The reasons why transactions did not succeed, and the number of transactions for each.
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
    /// Nanoseconds from the start of the measurement phase, like `index`, so that the value means the same on every machine.
    pub start_ns: i64,
    pub end_ns: i64,
    /// Outcomes in this second of arrivals of the measurement phase.
    pub measured: Outcomes,
    /// Outcomes in this second of all arrivals, including those of the warm-up.
    pub all: Outcomes,
    /// Arrivals that were due and not yet sent at the end of this second.
    pub backlog: u64,
    pub in_flight: u64,
    pub peak_backlog: u64,
    pub peak_in_flight: u64,
    /// How late the generator itself was: from when an arrival was due, or `max_in_flight` left room for it, to when a connection was asked
    /// for. Empty in a closed loop, where nothing is due. This histogram and the following ones hold all arrivals in a second of the
    /// warm-up, and only arrivals of the measurement phase in later seconds.
    pub dispatch_lag: Histogram,
    pub start_lag: Histogram,
    pub pool_wait: Histogram,
    pub service: Histogram,
    pub response: Histogram,
    /// Failures of all arrivals, including those of the warm-up.
    pub failures: Failures,
    /// For each table of the plan, the rows that acknowledged transactions inserted minus the rows that they deleted, in all phases.
    pub row_changes: Vec<i64>,
    /// Transactions of all phases whose outcome is unknown: they may or may not have committed.
    pub unknown: u64,
    /// Commits of all phases that were acknowledged in this second, in no particular order. Filled only if the plan's cells are audited row
    /// by row.
    #[serde(default)]
    pub commits: Vec<Commit>,
    /// CPU time of the load threads in this second.
    pub cpu: Duration,
}

impl Second {
    /// A second in which nothing has happened yet.
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

    /// The quantile `q` (0 to 1) of the service times of transactions that were sent and ended in this second. Those that failed or were
    /// never answered count as slower than all others; `None` if the quantile falls among them.
    pub fn service_quantile(&self, q: f64) -> Option<Duration> {
        self.service
            .quantile_of(q, self.answered_or_not(&self.service))
    }

    /// The quantile `q` of the response times, as [`Second::service_quantile`], but with missed arrivals among the slowest too.
    pub fn response_quantile(&self, q: f64) -> Option<Duration> {
        let ended = self.answered_or_not(&self.response) + self.recorded_outcomes().missed;
        self.response.quantile_of(q, ended)
    }

    fn answered_or_not(&self, recorded: &Histogram) -> u64 {
        let outcomes = self.recorded_outcomes();
        recorded.count() + outcomes.failed + outcomes.indeterminate
    }

    /// The outcomes of the arrivals that this second's histograms hold.
    fn recorded_outcomes(&self) -> &Outcomes {
        match self.phase {
            Phase::Warmup => &self.all,
            Phase::Measure | Phase::Drain => &self.measured,
        }
    }

    /// Whether this second's histograms record an arrival.
    pub(super) fn records(&self, measured: bool) -> bool {
        measured || self.phase == Phase::Warmup
    }

    pub fn length(&self) -> Duration {
        Duration::from_nanos(u64::try_from(self.end_ns - self.start_ns).unwrap_or(0))
    }

    /// Counts one event of an arrival, by applying `count` to every [`Outcomes`] that includes the arrival.
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

    /// Counts rows that were inserted into a table or, if `change` is negative, deleted from it.
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

    /// Appends the second that followed, so that both become one longer second.
    pub(super) fn append(&mut self, next: &Self) {
        self.end_ns = next.end_ns;
        self.backlog = next.backlog;
        self.in_flight = next.in_flight;
        self.peak_backlog = self.peak_backlog.max(next.peak_backlog);
        self.peak_in_flight = self.peak_in_flight.max(next.peak_in_flight);
        self.add(next);
    }

    /// Adds the fields that are sums.
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
