//! The rows that are measured: what load and probe hand over while a cell runs, and the rows of the CSV files.
//!
//! Units stand in the column names. An `Option` that is `None` is an empty field: unknown, never zero. Times `t_us`
//! are microseconds from the start of the cell's measurement phase; negative ones belong to the warm-up.

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

/// When a cell's phases begin. Seconds count from the start of the measurement.
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

    /// From the start of the measurement, in nanoseconds.
    pub fn offset_ns(&self, at: Stamp) -> i64 {
        at.signed_since(self.measure_from)
    }

    /// The same in microseconds, as the columns `t_us` have it.
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

    /// The second in which this instant lies.
    pub fn second_at(&self, at: Stamp) -> i64 {
        self.offset_ns(at).div_euclid(1_000_000_000)
    }

    /// The second in which the warm-up begins.
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

/// An acknowledged commit, as the load tells the probes of it. Its stamps are of the machine that runs both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Commit {
    /// The primary's transaction id.
    pub xid: u64,
    /// By which a subscriber shows it; `None` where its key is of no type that can be looked for.
    pub row: Option<ChangedRow>,
    /// When the transaction (its COMMIT, if it is a message of its own) was sent.
    pub sent: Stamp,
    pub acked: Stamp,
    /// Whether the arrival fell into the measurement phase.
    pub measured: bool,
    /// By which of the servers that the load asks: 0 is the primary with which the cell began.
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

/// What identifies a row of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum RowKey {
    Number(i64),
    Uuid(u128),
}

/// What became of the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RowChange {
    Inserted,
    Updated {
        /// What the update raised the row's version to.
        version: i64,
        /// The row was there before the first transaction: where it is absent now, it has been deleted since.
        was_there: bool,
    },
    Deleted {
        /// As of an update.
        was_there: bool,
    },
}

/// Whether a row describes warm-up or measurement.
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
    /// Empty for a closed loop.
    pub offered_tps: Option<f64>,
    /// Acknowledged transactions a second of the measurement phase.
    pub achieved_tps: f64,
    /// Arrivals that were due.
    pub offered: u64,
    pub acked: u64,
    /// Acknowledged with a warning that the commit may not have been replicated.
    pub acked_with_warning: u64,
    pub failed: u64,
    /// Sent, connection lost or deadline passed before an answer.
    pub indeterminate: u64,
    /// Due but never sent.
    pub missed: u64,
    /// Most arrivals that were due and not yet sent.
    pub peak_backlog: u64,
    pub peak_in_flight: u64,
    /// How late the generator itself was. Empty for a closed loop, and in runs before this column.
    #[serde(default)]
    pub dispatch_lag_p99_us: Option<f64>,
    /// By how much the load's waits for arrivals ended early, to make up for how late the machine wakes a thread. Empty with
    /// `client = "pool"`, and in runs before this column.
    #[serde(default)]
    pub timer_early_us: Option<f64>,
    /// CPU time of the load threads, share of one core.
    pub load_cpu_share: Option<f64>,
    pub probe_cpu_share: Option<f64>,
    pub host_busy_share: Option<f64>,
    pub host_steal_share: Option<f64>,
    pub wal_bytes: Option<i64>,
    /// Run first on newly made servers, and part of no figure; `false` in runs older than this column.
    #[serde(default)]
    pub discarded: bool,
    /// Checkpoints of the primary, from the first arrival to the end of the drain.
    #[serde(default)]
    pub checkpoints: Option<u64>,
    /// Runs of autovacuum (vacuum or analyze) on the primary and on subscribers, from the start of the measurement to the end
    /// of the drain.
    #[serde(default)]
    pub autovacuums: Option<u64>,
    /// Full-page images in the primary's WAL, over the same time.
    #[serde(default)]
    pub full_page_images: Option<u64>,
    /// Whether an open loop was offered more than was answered within its phase; empty where that cannot be told (a closed loop,
    /// a cell in which replbench stood still) and in runs before this column.
    #[serde(default)]
    pub overloaded: Option<bool>,
    pub valid: bool,
    /// Why the cell is invalid, or what to know about it; sentences separated by `; `.
    pub notes: String,
}

/// A row of `intervals.csv`: one second of one cell. Percentiles are of the transactions that ended in it: those that failed,
/// were never answered or never sent count as slower than all others, and a percentile among them is empty.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IntervalRow {
    pub cell_id: u32,
    pub t_us: i64,
    pub length_us: u64,
    pub phase: Phase,
    /// This and the next counts are of what happened in the interval, to arrivals of any phase: those offered up to its end are
    /// those sent, those missed and the backlog.
    pub offered: u64,
    pub sent: u64,
    pub acked: u64,
    pub failed: u64,
    /// Due, and given up before they were sent. Unknown in runs before this column.
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
    /// Most backends seen waiting for synchronous replication.
    pub syncrep_waiters: Option<i64>,
    pub host_busy_share: Option<f64>,
    pub host_steal_share: Option<f64>,
    pub host_iowait_share: Option<f64>,
    pub load_cpu_share: Option<f64>,
    pub probe_cpu_share: Option<f64>,
}

/// A row of `lag.csv`: one node at one sample. All from the upstream's view, but for the `received_*` and `replayed_*` columns,
/// which the node says itself. A node that is gone, and one whose upstream did not answer, has a row with empty figures: see
/// [`LagRow::presence`].
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct LagRow {
    pub cell_id: u32,
    pub t_us: i64,
    pub node: String,
    /// `streaming`, `catchup` ... as in `pg_stat_replication`; empty when the upstream knows no such node.
    pub state: Option<String>,
    pub sync_state: Option<String>,
    pub sent_lag_bytes: Option<i64>,
    pub write_lag_bytes: Option<i64>,
    pub flush_lag_bytes: Option<i64>,
    pub replay_lag_bytes: Option<i64>,
    pub write_lag_us: Option<i64>,
    pub flush_lag_us: Option<i64>,
    pub replay_lag_us: Option<i64>,
    /// Age of the node's last reply to its upstream.
    pub reply_age_us: Option<i64>,
    /// WAL that the node's slot holds back on its upstream.
    pub slot_retained_bytes: Option<i64>,
    pub slot_wal_status: Option<String>,
    /// Distance of the node's own receive position behind the primary's. Both are read at the same time, to the round trip, so
    /// that a node that is not behind may seem ahead by a few hundred bytes. Empty if one of the two answered late.
    pub received_lag_bytes: Option<i64>,
    /// The same of its replay position: on a subscriber the end of the last transaction it has applied, so that WAL without
    /// changes for it counts as well.
    pub replayed_lag_bytes: Option<i64>,
    /// `now() - pg_last_xact_replay_timestamp()`: grows on an idle primary, for comparison only.
    pub replay_timestamp_age_us: Option<i64>,
    /// From the sample's instant to the upstream's answer: its error in time, longer than the sampler's interval if it came late.
    /// Empty when the upstream did not answer. For an archive standby, which has none, the primary's if both have answered.
    pub sampler_rtt_us: Option<i64>,
}

/// What a lag sample says of a node, before any figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Presence {
    Present,
    /// Its upstream answered and knew no such node.
    Gone,
    /// Its upstream did not answer: whether the node was there, and how far, is unknown.
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

/// A row of `visibility.csv`: the commits acknowledged in one second of one cell, as seen by one node. Delays count from
/// the acknowledgement, may be negative, and are an interval: not seen by `lo`, seen by `hi`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VisibilityRow {
    pub cell_id: u32,
    pub t_us: i64,
    pub node: String,
    pub commits: u64,
    pub seen: u64,
    /// Not seen by the end of the drain (censored).
    pub unseen: u64,
    pub p50_lo_us: Option<f64>,
    pub p50_hi_us: Option<f64>,
    pub p99_lo_us: Option<f64>,
    pub p99_hi_us: Option<f64>,
    pub max_hi_us: Option<f64>,
    /// Median width of the intervals.
    pub resolution_us: Option<f64>,
    /// Commits of the measurement phase that were acknowledged by the end of the second and not visible by then. Empty in runs before
    /// this column.
    #[serde(default)]
    pub commits_behind: Option<u64>,
}

/// Which way a metric is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    LowerIsBetter,
    HigherIsBetter,
    /// Context: no verdict is given on it.
    Neutral,
}

/// A row of `summary.csv`: one figure of one cell. `value` is empty when the quantile falls among the censored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SummaryRow {
    pub cell_id: u32,
    pub mode: String,
    pub rep: u32,
    /// The replica that the figure is about; empty for the primary. `standby` in older runs.
    #[serde(alias = "standby")]
    pub node: Option<String>,
    pub metric: String,
    pub stat: String,
    pub value: Option<f64>,
    pub unit: String,
    pub direction: Direction,
    /// Observations behind the figure, censored ones included.
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
