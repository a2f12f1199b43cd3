//! The rows of `faults.csv` and `audit.csv`: the effects of a fault on a cell, and the checks of all acknowledged commits.

use serde::{Deserialize, Serialize};

/// A row of `faults.csv`: one fault of one cell. Points in time are microseconds from the start of the cell's measurement phase.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct FaultRow {
    pub cell_id: u32,
    /// The fault as the plan writes it: `failover primary at 4 s for 5 s`.
    pub fault: String,
    pub node: String,
    /// Whether the fault stops the primary.
    pub stops_primary: bool,
    pub began_us: i64,
    /// When the fault had been undone; empty if it was never undone.
    pub ended_us: Option<i64>,
    /// The node that became the primary; empty if none did.
    pub promoted: Option<String>,
    /// Time from the beginning of the fault to the first acknowledgement of a transaction that was sent after the primary had died. Empty
    /// for faults of other nodes, and if there was no such acknowledgement.
    pub rto_us: Option<i64>,
    /// Time from the last acknowledgement of a transaction that was sent before the primary died to the acknowledgement that ends `rto_us`.
    pub unavailable_us: Option<i64>,
    /// The number of acknowledged commits that the primary does not have after the cell, whichever node is the primary then.
    pub lost: Option<u64>,
    /// Time from the acknowledgement of the first lost commit to the beginning of the fault; 0 if no commit was lost.
    pub lost_span_us: Option<i64>,
    /// Lower limit of the WAL that the old primary had written and the new one does not have, whether or not its commits were acknowledged.
    /// The old primary's position is that of the last lag sample before it ended. Empty if no other node became the primary.
    #[serde(default)]
    pub lost_wal_bytes: Option<i64>,
    /// Time that the failed node took to replicate again, from when its return was begun.
    pub rejoin_us: Option<i64>,
    /// The most backends seen waiting for synchronous replication during the fault.
    #[serde(default)]
    pub syncrep_waiters: Option<i64>,
    /// The number of commits acknowledged during the fault. This and the following columns concern the fault's node. They are empty for
    /// faults of the primary and without `[probes] visibility`.
    #[serde(default)]
    pub commits: Option<u64>,
    /// The least number of these commits that a read on the node 100 ms after the acknowledgement misses. `stale_hi` is the greatest
    /// number.
    #[serde(default)]
    pub stale_lo: Option<u64>,
    #[serde(default)]
    pub stale_hi: Option<u64>,
    /// Time from the acknowledgement until the slowest of these commits was seen; empty if one of them was never seen.
    #[serde(default)]
    pub slowest_us: Option<i64>,
}

/// A row of `audit.csv`: one promise, checked on one node after a cell with a fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRow {
    pub cell_id: u32,
    pub node: String,
    pub check: AuditCheck,
    pub result: AuditResult,
    /// The number of commits or rows that were checked.
    pub examined: u64,
    pub violations: u64,
    pub detail: String,
}

impl AuditRow {
    /// The row of a promise that a single violation breaks.
    pub fn new(
        cell_id: u32,
        node: &str,
        check: AuditCheck,
        examined: u64,
        violations: u64,
        detail: impl Into<String>,
    ) -> Self {
        Self {
            cell_id,
            node: node.to_owned(),
            check,
            result: if violations == 0 {
                AuditResult::Pass
            } else {
                AuditResult::Fail
            },
            examined,
            violations,
            detail: detail.into(),
        }
    }
}

/// The promises that are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuditCheck {
    /// The node has every acknowledged commit.
    Present,
    /// Lost commits are the latest ones: none of them was acknowledged before a commit was sent that the node has.
    Suffix,
    /// Every row was acknowledged, or its transaction's outcome is unknown.
    NoPhantom,
    /// Every missing row was deleted by a transaction.
    NoneMissing,
    /// No two rows have the same key.
    NoDuplicate,
    /// All columns of all rows are the same as on the primary.
    SameContents,
    /// The old primary acknowledges nothing once another node is the primary, and accepts no writes when it is back.
    Fenced,
    /// No read on a replica sees less than an earlier one.
    MonotonicReads,
    /// If commits wait for a replica's replay, they are visible on the replica when they are acknowledged.
    VisibleWhenAcked,
    /// Every restore of the primary ends at its target.
    TargetReached,
    /// Every commit that was acknowledged before the target was taken is restored.
    BeforeTarget,
    /// No commit that was sent after the target had been taken is restored.
    AfterTarget,
    /// The known commit before the target is restored, and the known commit after it is not.
    KnownCommits,
    /// The number of restored rows is the number that the restored commits left.
    RestoredRows,
    /// Restored rows that no commit changed afterwards have the same contents as on the primary.
    RestoredContents,
    /// A restore to the target's LSN has the same rows as a restore to its name.
    SameByLsn,
}

impl AuditCheck {
    /// The promise as a person reads it.
    pub fn promise(self) -> &'static str {
        match self {
            Self::Present => "every acknowledged commit is there",
            Self::Suffix => "commits that were lost are later than those that are there",
            Self::NoPhantom => "every row is of a transaction that was sent",
            Self::NoneMissing => "no row is missing",
            Self::NoDuplicate => "no two rows have one key",
            Self::SameContents => "rows have the primary's contents",
            Self::Fenced => "a primary that was replaced acknowledges nothing",
            Self::MonotonicReads => "no read saw less than an earlier one",
            Self::VisibleWhenAcked => "what waits for replay was visible when it was acknowledged",
            Self::TargetReached => "every restore ends at its target",
            Self::BeforeTarget => "every commit acknowledged before the target is restored",
            Self::AfterTarget => "no commit sent after the target is restored",
            Self::KnownCommits => "of two known commits around the target the first is restored",
            Self::RestoredRows => "as many rows are restored as the restored commits left",
            Self::RestoredContents => "restored rows have the primary's contents",
            Self::SameByLsn => "a restore by LSN has the rows of the one by name",
        }
    }

    /// Whether the promise is about the rows that nodes have after a cell.
    pub fn is_of_rows(self) -> bool {
        self <= Self::SameContents
    }

    /// Whether the promise is about a server that was restored to a point in time, and not about a node.
    pub fn is_of_a_restore(self) -> bool {
        self >= Self::TargetReached
    }

    /// A description of the violations, to be printed after their number.
    pub fn violation(self) -> &'static str {
        match self {
            Self::Present => "acknowledged commits are not there",
            Self::Suffix => "lost commits were acknowledged before one was sent that is there",
            Self::NoPhantom => "rows are of no transaction that was sent",
            Self::NoneMissing => "rows are missing that no transaction deleted",
            Self::NoDuplicate => "rows have the key of another row",
            Self::SameContents => "tables have other contents than on the primary",
            Self::Fenced => "acknowledgements are of a primary that was replaced",
            Self::MonotonicReads => "reads saw less than an earlier one",
            Self::VisibleWhenAcked => "commits were not visible when they were acknowledged",
            Self::TargetReached => "restores did not end at their target",
            Self::BeforeTarget => "commits acknowledged before the target are not restored",
            Self::AfterTarget => "commits sent after the target are restored",
            Self::KnownCommits => "known commits around the target are on its wrong side",
            Self::RestoredRows => "rows are too many, missing or doubled",
            Self::RestoredContents => {
                "restored rows are not on the primary or have other contents there"
            }
            Self::SameByLsn => "tables have other rows than the restore by name",
        }
    }
}

/// Whether a promise was kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuditResult {
    Pass,
    /// Violated in a way that the mode's documentation allows.
    Permitted,
    Fail,
}
