//! Decides from what the nodes have which promises were kept and which were broken. Pure.

use itertools::Itertools as _;

use super::rows::Account;
use crate::clock::Stamp;
use crate::mode::{Mode, SyncLevel};
use crate::plan::{Change, Fault, FaultKind, Plan};
use crate::sample::{AuditCheck, AuditResult, AuditRow};
use crate::topology::Role;
use crate::units::{format_duration, thousands};

/// What one node has of every audited table.
#[derive(Debug, Default)]
pub(super) struct NodeAccount {
    pub(super) node: String,
    pub(super) tables: Vec<TableAccount>,
}

#[derive(Debug)]
pub(super) struct TableAccount {
    /// An index into the plan's tables.
    pub(super) table: usize,
    pub(super) account: Account,
    /// A hash of all rows: the same for the same rows, whatever their order.
    pub(super) contents: String,
}

impl NodeAccount {
    /// The sum of the accounts of all tables.
    pub(super) fn total(&self) -> Account {
        let mut all = Account::default();
        for table in &self.tables {
            all.add(&table.account);
        }
        all
    }

    /// The quoted names of the tables whose rows differ from another node's.
    pub(super) fn differing(&self, other: &Self, plan: &Plan) -> Vec<String> {
        let pairs = self.tables.iter().zip(&other.tables);
        let differing = pairs.filter(|(own, other)| {
            own.contents != other.contents || own.account.rows != other.account.rows
        });
        differing
            .map(|(own, _)| format!("`{}`", plan.tables[own.table].name))
            .collect()
    }
}

/// What the load knows of a cell.
#[derive(Debug)]
pub(in crate::run) struct Known<'a> {
    /// For each table of the plan: rows that acknowledged transactions inserted, less rows that they deleted.
    pub(in crate::run) row_changes: &'a [i64],
    /// Transactions whose outcome is unknown.
    pub(in crate::run) unknown: u64,
    /// Acknowledged commits that no row shows: the row's key cannot be looked for, or the commit updated a table without a version.
    pub(in crate::run) rowless: u64,
    /// When the first fault that stopped the primary began.
    pub(in crate::run) primary_failed: Option<Stamp>,
    /// When the primary's processes had ended because of a fault.
    pub(in crate::run) primary_died: Option<Stamp>,
}

/// Why acknowledged commits may be lost in a mode with these faults; `None` if they may not be lost.
pub(super) fn excuse(mode: &Mode, faults: &[Fault]) -> Option<&'static str> {
    let has = |kind| faults.iter().any(|fault| fault.kind == kind);
    let waits_for_standby = matches!(
        mode.level,
        SyncLevel::RemoteWrite | SyncLevel::On | SyncLevel::RemoteApply
    ) && mode.sync.as_ref().is_some_and(|set| {
        let nodes = mode.topology.nodes();
        let can_be_promoted = |name: &String| {
            nodes
                .iter()
                .any(|node| node.name == *name && node.role == Role::Standby)
        };
        set.nodes.iter().all(can_be_promoted)
    });
    if has(FaultKind::Failover) && !waits_for_standby {
        return Some("its commits do not wait for a standby that can be promoted");
    }
    if has(FaultKind::PrimaryCrash) && mode.level == SyncLevel::Off {
        return Some("its commits do not wait until their WAL is on disk");
    }
    None
}

/// The rows of `audit.csv` for one node. `primary` is the account of the node that is the primary now.
pub(super) fn check(
    cell_id: u32,
    plan: &Plan,
    node: &NodeAccount,
    primary: &NodeAccount,
    known: &Known<'_>,
    excuse: Option<&str>,
) -> Vec<AuditRow> {
    let all = node.total();
    let rows = if node.node == primary.node {
        Rows::of(plan, node, &all, known, 0)
    } else {
        Rows::beside(node, primary)
    };
    let row = |check, examined, violations, detail: &str| {
        AuditRow::new(cell_id, &node.node, check, examined, violations, detail)
    };
    let lost = all.lost.len() as u64;
    let why_lost = why_lost(&all, known, excuse);
    let mut present = row(AuditCheck::Present, all.commits, lost, &why_lost);
    if lost > 0 && (excuse.is_some() || lost == all.lost_warned) {
        present.result = AuditResult::Permitted;
    }
    let mut found = vec![present];
    if lost > 0 {
        let holes = all.last_kept_sent.map_or(0, |sent| {
            all.lost.iter().filter(|acked| **acked < sent).count() as u64
        });
        found.push(row(AuditCheck::Suffix, lost, holes, ""));
    }
    let unknown = rows.detail(known);
    found.extend([
        row(AuditCheck::NoPhantom, all.rows, rows.phantom, &unknown),
        row(AuditCheck::NoneMissing, all.rows, rows.missing, ""),
        row(AuditCheck::NoDuplicate, all.rows, all.duplicates, ""),
    ]);
    if node.node != primary.node {
        let names = node.differing(primary, plan);
        let detail = match names.as_slice() {
            [] => String::new(),
            names => format!("differing: {}", names.join(", ")),
        };
        let (tables, count) = (node.tables.len() as u64, names.len() as u64);
        found.push(row(AuditCheck::SameContents, tables, count, &detail));
    }
    found
}

/// Details about commits that are lost, and about commits of which it is unknown whether they are lost.
fn why_lost(all: &Account, known: &Known<'_>, excuse: Option<&str>) -> String {
    let mut details = Vec::new();
    let lost = all.lost.iter();
    if let Some((first, last)) = lost.copied().minmax().into_option() {
        if let Some(failed) = known.primary_failed {
            let ago = |at: Stamp| {
                let nanos = failed.signed_since(at);
                let length = format_duration(std::time::Duration::from_nanos(nanos.unsigned_abs()));
                if nanos < 0 {
                    format!("{length} after")
                } else {
                    format!("{length} before")
                }
            };
            details.push(format!(
                "acknowledged {} to {} the fault",
                ago(first),
                ago(last)
            ));
        }
        if all.lost_warned > 0 {
            details.push(format!(
                "{} of them with a warning that they may not have been replicated",
                thousands(all.lost_warned)
            ));
        }
        if let Some(excuse) = excuse {
            details.push(format!("the mode allows it, {excuse}"));
        }
    }
    if known.rowless > 0 {
        details.push(format!(
            "{} more commits changed no row that can be looked for",
            thousands(known.rowless)
        ));
    }
    details.join("; ")
}

/// How the row counts of a node differ from what acknowledged transactions have left.
#[derive(Debug, Default)]
pub(super) struct Rows {
    /// Rows that are more than can be accounted for.
    pub(super) phantom: u64,
    /// Rows that are fewer than there must be.
    pub(super) missing: u64,
    /// Rows that are more than were acknowledged, explained by transactions whose outcome is unknown.
    of_unknown: u64,
}

impl Rows {
    /// `hidden` is the number of acknowledged commits of which it is unknown whether the node has them.
    pub(super) fn of(
        plan: &Plan,
        node: &NodeAccount,
        all: &Account,
        known: &Known<'_>,
        hidden: u64,
    ) -> Self {
        let mut rows = Self::default();
        for TableAccount { table, account, .. } in &node.tables {
            let change = known.row_changes.get(*table).copied().unwrap_or(0);
            let acknowledged = plan.tables[*table].rows.saturating_add_signed(change);
            let wanted = acknowledged.saturating_add_signed(-account.fewer_rows);
            let more = account.rows.saturating_sub(wanted);
            let fewer = wanted.saturating_sub(account.rows);
            let (inserts, deletes) = (
                statements(plan, *table, Change::Insert),
                statements(plan, *table, Change::Delete),
            );
            // The ledger has only the row of a transaction's last statement. Rows that earlier statements of a lost transaction made are
            // lost with it.
            let lost = all.not_kept();
            let unseen = |all: Statements| lost * all.earlier;
            let may_be = |done: Statements, undone: Statements| {
                known.unknown * done.most + hidden * undone.most + unseen(undone)
            };
            let may_be_more = may_be(inserts, deletes);
            let may_be_fewer = may_be(deletes, inserts);
            rows.phantom += more.saturating_sub(may_be_more);
            rows.missing += fewer.saturating_sub(may_be_fewer);
            rows.of_unknown += more.min(may_be_more);
        }
        rows
    }

    /// Compares a replica with the primary: the replica must have exactly as many rows.
    fn beside(node: &NodeAccount, primary: &NodeAccount) -> Self {
        let mut rows = Self::default();
        for (own, other) in node.tables.iter().zip(&primary.tables) {
            let (own, other) = (own.account.rows, other.account.rows);
            rows.phantom += own.saturating_sub(other);
            rows.missing += other.saturating_sub(own);
        }
        rows
    }

    fn detail(&self, known: &Known<'_>) -> String {
        if known.unknown == 0 || self.of_unknown == 0 {
            return String::new();
        }
        format!(
            "{} rows of {} transactions whose outcome is unknown",
            thousands(self.of_unknown),
            thousands(known.unknown)
        )
    }
}

/// How many statements of one transaction change a table in one way, at most.
#[derive(Debug, Clone, Copy)]
struct Statements {
    most: u64,
    /// The same without the last statement of the transaction.
    earlier: u64,
}

fn statements(plan: &Plan, table: usize, change: Change) -> Statements {
    let count = |earlier: bool| {
        let of_one = plan.transactions.iter().map(|it| {
            let counted = it.statements.len() - usize::from(earlier);
            let all = it.statements.iter().take(counted);
            all.filter(|it| it.change == Some((change, table))).count() as u64
        });
        of_one.max().unwrap_or(0)
    };
    Statements {
        most: count(false),
        earlier: count(true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mode::ModeSpec;
    use crate::plan::{Overrides, resolve};
    use crate::profile::Profile;

    fn mode(name: &str) -> Mode {
        let spec: ModeSpec = name.parse().unwrap();
        spec.resolve(2, 0).unwrap()
    }

    #[test]
    fn only_a_standby_that_can_be_promoted_keeps_what_was_acknowledged() {
        let why =
            |name: &str, fault: &str| excuse(&mode(name), &[fault.parse().unwrap()]).is_some();
        let failover = "failover primary at 1s for 1s";
        for (name, may_lose) in [
            ("async", true),
            ("local", true),
            ("sync", false),
            ("remote_write", false),
            ("remote_apply:any-2", false),
            ("off", true),
        ] {
            assert_eq!(why(name, failover), may_lose, "{name}");
            assert!(!why(name, "switchover primary at 1s for 1s"), "{name}");
            let crash = "primary-crash primary at 1s for 1s";
            assert_eq!(why(name, crash), name == "off", "{name}");
        }
        // Commits of this mode wait for a cascading standby.
        let mut cascade = mode("sync");
        cascade.sync.as_mut().unwrap().nodes = vec!["c1".into()];
        assert!(excuse(&cascade, &[failover.parse().unwrap()]).is_some());
    }

    fn node(name: &str, rows: u64, lost: &[u64]) -> NodeAccount {
        let at = |nanos: &u64| Stamp::from_nanos(*nanos);
        NodeAccount {
            node: name.into(),
            tables: vec![TableAccount {
                table: 0,
                account: Account {
                    rows,
                    commits: 100,
                    lost: lost.iter().map(at).collect(),
                    fewer_rows: i64::try_from(lost.len()).unwrap(),
                    last_kept_sent: Some(Stamp::from_nanos(50)),
                    ..Account::default()
                },
                contents: rows.to_string(),
            }],
        }
    }

    /// The checks that fail for 100 acknowledged inserts and `unknown` transactions whose outcome is unknown.
    fn failing(
        own: &NodeAccount,
        primary: &NodeAccount,
        unknown: u64,
        excuse: Option<&str>,
    ) -> Vec<AuditCheck> {
        let profile = Profile::load("users-insert").unwrap();
        let plan = resolve(&profile, &Overrides::default()).unwrap();
        let known = Known {
            row_changes: &[100],
            unknown,
            rowless: 0,
            primary_failed: None,
            primary_died: None,
        };
        let found = check(1, &plan, own, primary, &known, excuse);
        let failed = found.iter().filter(|it| it.result == AuditResult::Fail);
        failed.map(|it| it.check).collect()
    }

    #[test]
    fn rows_are_accounted_for_one_by_one() {
        let primary = |rows, lost: &[u64]| node("primary", rows, lost);
        let check = |rows, lost: &[u64], unknown, excuse| {
            let own = primary(rows, lost);
            failing(&own, &own, unknown, excuse)
        };
        assert_eq!(check(100, &[], 0, None), []);
        // Two transactions have an unknown outcome: none, one or both may have left a row.
        for rows in 100..=102 {
            assert_eq!(check(rows, &[], 2, None), []);
        }
        assert_eq!(check(103, &[], 2, None), [AuditCheck::NoPhantom]);
        assert_eq!(check(99, &[], 2, None), [AuditCheck::NoneMissing]);
        assert_eq!(check(98, &[60, 70], 0, None), [AuditCheck::Present]);
        assert_eq!(check(98, &[60, 70], 0, Some("it may")), []);
        // One lost commit was acknowledged before a commit was sent that is there.
        assert_eq!(
            check(98, &[40, 70], 0, Some("it may")),
            [AuditCheck::Suffix]
        );
    }

    #[test]
    fn a_replica_has_exactly_what_the_primary_has() {
        let primary = node("primary", 101, &[]);
        let check = |rows| failing(&node("s1", rows, &[]), &primary, 2, None);
        assert_eq!(check(101), []);
        assert_eq!(
            check(102),
            [AuditCheck::NoPhantom, AuditCheck::SameContents]
        );
        assert_eq!(
            check(100),
            [AuditCheck::NoneMissing, AuditCheck::SameContents]
        );
    }
}
