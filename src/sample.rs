//! The measured data: the messages of load and probes while a cell runs, and the rows of the CSV files.
//!
//! Column names end with their units. An `Option` that is `None` is an empty field: unknown, never zero. Times `t_us` are microseconds from
//! the start of the cell's measurement phase; negative ones belong to the warm-up.

mod event;
mod fault;
mod feed;
mod looks;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use event::{EventKind, EventRow};
pub use fault::{AuditCheck, AuditResult, AuditRow, FaultRow};
pub use feed::{FeedReceiver, FeedSender, Fork, Told, feed};
pub use looks::{LentLooks, Looks};

use crate::clock::Stamp;

/// The beginnings of a cell's warm-up and measurement phase. Seconds count from the start of the measurement phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timeline {
    pub start: Stamp,
    pub measure_from: Stamp,
}

impl Timeline {
    pub fn new(start: Stamp, warmup: Duration) -> Self {
        Self {
            start,
            measure_from: start + warmup,
        }
    }

    /// Nanoseconds from the start of the measurement phase; negative during the warm-up.
    pub fn offset_ns(&self, at: Stamp) -> i64 {
        at.signed_since(self.measure_from)
    }

    /// Microseconds from the start of the measurement phase, as in the columns `t_us`.
    pub fn t_us(&self, at: Stamp) -> i64 {
        self.offset_ns(at) / 1_000
    }

    pub fn phase_at(&self, at: Stamp) -> Phase {
        if at < self.measure_from {
            Phase::Warmup
        } else {
            Phase::Measure
        }
    }

    /// The index of the second that contains this instant.
    pub fn second_at(&self, at: Stamp) -> i64 {
        self.offset_ns(at).div_euclid(1_000_000_000)
    }

    /// The index of the second in which the warm-up begins.
    pub fn first_second(&self) -> i64 {
        self.second_at(self.start)
    }

    pub fn end_of_second(&self, index: i64) -> Stamp {
        let seconds = Duration::from_secs((index + 1).unsigned_abs());
        if index + 1 < 0 {
            self.measure_from - seconds
        } else {
            self.measure_from + seconds
        }
    }
}

/// An acknowledged commit, as the load reports it to the probes. Its stamps belong to the machine that runs both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Commit {
    /// The primary's transaction id.
    pub xid: u64,
    /// The row whose change shows the commit on a subscriber; `None` if its key has a type that the probes cannot look for, or if the
    /// probes cannot recognise the change.
    pub row: Option<ChangedRow>,
    /// When the transaction was sent or, if COMMIT is a message of its own, when COMMIT was sent.
    pub sent: Stamp,
    pub acked: Stamp,
    /// Whether the arrival belongs to the measurement phase.
    pub measured: bool,
    /// The server that acknowledged the commit, as an index into the servers that the load tries: 0 is the primary with which the cell
    /// began.
    pub server: u8,
    /// Whether the server warned that the commit may not have been replicated.
    pub warned: bool,
}

/// The row that the last statement of a transaction changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangedRow {
    /// An index into the plan's tables.
    pub table: u8,
    pub key: RowKey,
    pub change: RowChange,
}

/// The value of the key column of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum RowKey {
    Number(i64),
    Uuid(u128),
}

/// The change of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RowChange {
    Inserted,
    Updated {
        /// The row's version after the update.
        version: i64,
        /// Whether the row existed before the first transaction. If such a row is absent, it has been deleted since.
        was_there: bool,
    },
    Deleted {
        /// Whether the row existed before the first transaction.
        was_there: bool,
    },
}

/// The phase of a cell that a row describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    Warmup,
    Measure,
    Drain,
}

/// A row of `cells.csv`: one cell (mode x repetition) as a whole. Counts are of arrivals in the measurement phase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CellRow {
    pub cell_id: u32,
    pub mode: String,
    pub rep: u32,
    pub block: u32,
    pub order_idx: u32,
    /// Wall-clock time at the start of the measurement phase, RFC 3339.
    pub started_at: String,
    pub warmup_s: f64,
    pub measured_s: f64,
    /// Arrivals per second that the plan asks for; empty in a closed loop.
    pub offered_tps: Option<f64>,
    /// Acknowledged transactions per second of the measurement phase.
    pub achieved_tps: f64,
    /// Arrivals that were due.
    pub offered: u64,
    pub acked: u64,
    /// Transactions that were acknowledged with a warning that the commit may not have been replicated.
    pub acked_with_warning: u64,
    pub failed: u64,
    /// Transactions that were sent, but the connection was lost or the deadline passed before an answer.
    pub indeterminate: u64,
    /// Arrivals that were due but never sent.
    pub missed: u64,
    /// The most arrivals that were due and not yet sent at one time.
    pub peak_backlog: u64,
    pub peak_in_flight: u64,
    /// How late the generator itself was. Empty in a closed loop, and in runs from before this column.
    #[serde(default)]
    pub dispatch_lag_p99_us: Option<f64>,
    /// How long before an arrival the load's waits ended, to make up for how late the machine wakes a thread. Empty with `client = "pool"`,
    /// and in runs from before this column.
    #[serde(default)]
    pub timer_early_us: Option<f64>,
    /// CPU time of the load threads, as a share of one core.
    pub load_cpu_share: Option<f64>,
    pub probe_cpu_share: Option<f64>,
    pub host_busy_share: Option<f64>,
    pub host_steal_share: Option<f64>,
    pub wal_bytes: Option<i64>,
    /// Whether the cell only warmed up newly created servers and is part of no figure; `false` in runs from before this column.
    #[serde(default)]
    pub discarded: bool,
    /// The number of checkpoints of the primary, from the first arrival to the end of the drain.
    #[serde(default)]
    pub checkpoints: Option<u64>,
    /// The number of autovacuum runs (vacuum or analyze) on the primary and on subscribers, from the start of the measurement phase to the
    /// end of the drain.
    #[serde(default)]
    pub autovacuums: Option<u64>,
    /// The number of full-page images in the primary's WAL, from the start of the measurement phase to the end of the drain.
    #[serde(default)]
    pub full_page_images: Option<u64>,
    /// Whether an open loop was offered more than was answered within its phase. Empty if that cannot be told (in a closed loop, or if
    /// replbench itself was not running for a while) and in runs from before this column.
    #[serde(default)]
    pub overloaded: Option<bool>,
    pub valid: bool,
    /// Why the cell is invalid, or what a reader should know about it: sentences separated by `; `.
    pub notes: String,
}

/// A row of `intervals.csv`: one second of one cell. Percentiles are of the transactions that ended in this second. Transactions that
/// failed, were never answered or were never sent count as slower than all others, and a percentile that falls among them is empty.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IntervalRow {
    pub cell_id: u32,
    pub t_us: i64,
    pub length_us: u64,
    pub phase: Phase,
    /// Arrivals that became due. This and the following counts are of what happened in the interval to arrivals of any phase. Added up from
    /// the start, `offered` equals `sent` plus `missed` plus the backlog.
    pub offered: u64,
    pub sent: u64,
    pub acked: u64,
    pub failed: u64,
    /// Arrivals that were due and given up before they were sent. Empty in runs from before this column.
    #[serde(default)]
    pub missed: Option<u64>,
    /// Arrivals that were due and not yet sent at the end of the interval.
    pub backlog: u64,
    pub in_flight: u64,
    pub start_lag_p50_us: Option<f64>,
    pub start_lag_p99_us: Option<f64>,
    pub pool_wait_p50_us: Option<f64>,
    pub pool_wait_p99_us: Option<f64>,
    pub service_p50_us: Option<f64>,
    pub service_p99_us: Option<f64>,
    pub service_max_us: Option<f64>,
    pub response_p50_us: Option<f64>,
    pub response_p99_us: Option<f64>,
    pub response_max_us: Option<f64>,
    pub wal_bytes: Option<i64>,
    /// The most backends seen waiting for synchronous replication.
    pub syncrep_waiters: Option<i64>,
    pub host_busy_share: Option<f64>,
    pub host_steal_share: Option<f64>,
    pub host_iowait_share: Option<f64>,
    pub load_cpu_share: Option<f64>,
    pub probe_cpu_share: Option<f64>,
}

/// A row of `lag.csv`: one node in one sample. The columns show the upstream's view, except for the `received_*` and `replayed_*` columns,
/// which the node reports itself. A node that is gone, or whose upstream did not answer, has a row with empty figures: see
/// [`LagRow::presence`].
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct LagRow {
    pub cell_id: u32,
    pub t_us: i64,
    pub node: String,
    /// `streaming`, `catchup` and so on, as in `pg_stat_replication`; empty if the upstream knows no such node.
    pub state: Option<String>,
    pub sync_state: Option<String>,
    pub sent_lag_bytes: Option<i64>,
    pub write_lag_bytes: Option<i64>,
    pub flush_lag_bytes: Option<i64>,
    pub replay_lag_bytes: Option<i64>,
    pub write_lag_us: Option<i64>,
    pub flush_lag_us: Option<i64>,
    pub replay_lag_us: Option<i64>,
    /// The age of the node's last reply to its upstream.
    pub reply_age_us: Option<i64>,
    /// The WAL that the node's slot holds back on its upstream.
    pub slot_retained_bytes: Option<i64>,
    pub slot_wal_status: Option<String>,
    /// How far the node's own receive position is behind the primary's position. Both are read at the same time, give or take a round trip,
    /// so a node that is not behind may seem a few hundred bytes ahead. Empty if one of the two answered late.
    pub received_lag_bytes: Option<i64>,
    /// How far the node's own replay position is behind the primary's position. On a subscriber it is the end of the last transaction that
    /// the subscriber has applied, so WAL without changes for the subscriber counts as lag too.
    pub replayed_lag_bytes: Option<i64>,
    /// `now() - pg_last_xact_replay_timestamp()`, for comparison only: it grows while the primary is idle.
    pub replay_timestamp_age_us: Option<i64>,
    /// Time from the sample's instant to the upstream's answer. This is the sample's error in time; it is longer than the sampler's
    /// interval if the answer came late. Empty if the upstream did not answer. An archive standby has no upstream: its value is the
    /// primary's if both have answered.
    pub sampler_rtt_us: Option<i64>,
}

/// Whether a lag sample shows that a node was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Presence {
    Present,
    /// The node's upstream answered and did not know the node.
    Gone,
    /// The node's upstream did not answer, so it is unknown whether the node was there and how far it had come.
    Unanswered,
}

impl LagRow {
    pub fn presence(&self) -> Presence {
        if self.sampler_rtt_us.is_none() {
            Presence::Unanswered
        } else if self.state.is_none() && self.replay_lag_bytes.is_none() {
            Presence::Gone
        } else {
            Presence::Present
        }
    }
}

/// A row of `visibility.csv`: the commits acknowledged in one second of one cell, as seen by one node. Delays count from the
/// acknowledgement and may be negative. Each is an interval: the commit was not yet visible at `lo` and was visible at `hi`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VisibilityRow {
    pub cell_id: u32,
    pub t_us: i64,
    pub node: String,
    pub commits: u64,
    pub seen: u64,
    /// Commits that were not seen by the end of the drain (censored).
    pub unseen: u64,
    pub p50_lo_us: Option<f64>,
    pub p50_hi_us: Option<f64>,
    pub p99_lo_us: Option<f64>,
    pub p99_hi_us: Option<f64>,
    pub max_hi_us: Option<f64>,
    /// The median width of the intervals from `lo` to `hi`.
    pub resolution_us: Option<f64>,
    /// The number of commits of the measurement phase that were acknowledged by the end of the second and not visible by then. Empty in
    /// runs from before this column.
    #[serde(default)]
    pub commits_behind: Option<u64>,
}

/// Whether lower or higher values of a metric are better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    LowerIsBetter,
    HigherIsBetter,
    /// The metric is context only: its changes are not judged.
    Neutral,
}

/// A row of `summary.csv`: one figure of one cell. `value` is empty if the quantile falls among censored observations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SummaryRow {
    pub cell_id: u32,
    pub mode: String,
    pub rep: u32,
    /// The replica that the figure is about; empty for the primary. Older runs call the column `standby`.
    #[serde(alias = "standby")]
    pub node: Option<String>,
    pub metric: String,
    pub stat: String,
    pub value: Option<f64>,
    pub unit: String,
    pub direction: Direction,
    /// The number of observations behind the figure, including censored ones.
    pub n: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_count_from_the_start_of_the_measurement() {
        let start = Stamp::from_nanos(10_000_000_000);
        let timeline = Timeline::new(start, Duration::from_millis(1_500));
        assert_eq!(timeline.first_second(), -2);
        assert_eq!(
            timeline.end_of_second(-2),
            start + Duration::from_millis(500)
        );
        assert_eq!(timeline.end_of_second(-1), timeline.measure_from);
        assert_eq!(timeline.phase_at(start), Phase::Warmup);
        assert_eq!(timeline.phase_at(timeline.measure_from), Phase::Measure);
    }
}
