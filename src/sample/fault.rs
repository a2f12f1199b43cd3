//! The rows of `faults.csv` and `audit.csv`: what a fault did to a cell, and what became of every acknowledged commit.

use serde::{Deserialize, Serialize};

/// A row of `faults.csv`: one fault of one cell. Times of day count from the start of the cell's measurement phase.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct FaultRow {
    pub cell_id: u32,
    /// As the plan has it: `failover primary at 4 s for 5 s`.
    pub fault: String,
    pub node: String,
    /// Whether it stops the primary.
    pub stops_primary: bool,
    pub began_us: i64,
    /// When it had been undone; empty if it never was.
    pub ended_us: Option<i64>,
    /// The node that became the primary.
    pub promoted: Option<String>,
    /// From the beginning of the fault to the first acknowledgement of a transaction that was sent after the primary had died.
    /// Empty for faults of other nodes, and if there was none.
    pub rto_us: Option<i64>,
    /// From the last acknowledgement before that one to that one.
    pub unavailable_us: Option<i64>,
    /// Acknowledged commits that the primary does not have after the cell, whichever node that is then.
    pub lost: Option<u64>,
    /// From the acknowledgement of the first lost commit to the beginning of the fault; 0 if none was lost.
    pub lost_span_us: Option<i64>,
    /// WAL that the old primary had written by the last lag sample before it ended, for commits that were acknowledged or not, and the new one does not have: at least so much.
    /// Empty where no other node became the primary.
    #[serde(default)]
    pub lost_wal_bytes: Option<i64>,
    /// How long the node that had failed took to replicate again, from the moment at which that was begun.
    pub rejoin_us: Option<i64>,
    /// Most backends seen waiting for synchronous replication during the fault.
    #[serde(default)]
    pub syncrep_waiters: Option<i64>,
    /// Commits acknowledged during the fault. This and the next columns are of the fault's node, and empty for faults of the primary and
    /// without `[probes] visibility`.
    #[serde(default)]
    pub commits: Option<u64>,
    /// Those of them that a read on the node 100 ms after the acknowledgement misses: at least, and at most.
    #[serde(default)]
    pub stale_lo: Option<u64>,
    #[serde(default)]
    pub stale_hi: Option<u64>,
    /// From the acknowledgement until the slowest of them was seen; empty if one of them never was.
    #[serde(default)]
    pub slowest_us: Option<i64>,
}

/// A row of `audit.csv`: one promise, checked on one node after a cell in which a fault had happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRow {
    pub cell_id: u32,
    pub node: String,
    pub check: AuditCheck,
    pub result: AuditResult,
    /// How many commits or rows were looked at.
    pub examined: u64,
    pub violations: u64,
    pub detail: String,
}

impl AuditRow {
    /// The row of a promise that any violation breaks.
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

/// What is promised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuditCheck {
    /// Every acknowledged commit is there.
    Present,
    /// Those that are not are the latest ones: none of them was acknowledged before one was sent that is there.
    Suffix,
    /// Every row was acknowledged, or its transaction's outcome is unknown.
    NoPhantom,
    /// No row is gone that no transaction deleted.
    NoneMissing,
    /// No key is there twice.
    NoDuplicate,
    /// All columns of all rows are as on the primary.
    SameContents,
    /// The node that had been the primary acknowledges nothing once another one is, and takes no writes when it is back.
    Fenced,
    /// No read on a replica sees less than an earlier one.
    MonotonicReads,
    /// What commits wait for the replay of has them when they are acknowledged.
    VisibleWhenAcked,
    /// A restore of the primary ends at its target.
    TargetReached,
    /// Every commit that was acknowledged before the target was taken is restored.
    BeforeTarget,
    /// None that was sent after the target had been taken is.
    AfterTarget,
    /// Of the two known commits the one before the target is restored and the other is not.
    KnownCommits,
    /// As many rows are restored as the restored commits left.
    RestoredRows,
    /// Restored rows that no commit changed afterwards are as on the primary.
    RestoredContents,
    /// A restore by LSN has the rows of the one by name.
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

    /// Of the rows that nodes have after a cell.
    pub fn is_of_rows(self) -> bool {
        self <= Self::SameContents
    }

    /// Whether it is about a server that was restored to a point in time, and not about a node.
    pub fn is_of_a_restore(self) -> bool {
        self >= Self::TargetReached
    }

    /// What violates it, after a number.
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

/// How a promise was kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuditResult {
    Pass,
    /// Violated in a way that the mode's documentation allows.
    Permitted,
    Fail,
}
