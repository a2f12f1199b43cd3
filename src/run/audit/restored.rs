//! What a server has that was restored to a point in time, and the promises about it.

use std::time::Duration;

use futures_util::{Stream, TryStreamExt as _};

use super::checks::{NodeAccount, Rows};
use super::ledger::{OrderedKey, SortedLedger};
use super::read::{self, Unread};
use super::rows::{Account, AsOf, RestoredCommits, Window};
use super::{DEADLINE, Known};
use crate::cluster::{RecoveryPoint, RecoveryTarget, Restored, RunningNode};
use crate::pg::recovery;
use crate::plan::{Change, Plan, Table};
use crate::sample::{AuditCheck, AuditResult, AuditRow};
use crate::units::{format_duration, thousands};

/// What the text of a row comes to.
const CONTENTS: &str = "hashtextextended(t::text, 0)";

/// What was found on a restored server.
#[derive(Debug)]
pub(in crate::run) struct Finding {
    target: RecoveryTarget,
    took: Duration,
    account: NodeAccount,
    /// Of the two known commits around the target those that are on its wrong side.
    wrong_side: u64,
    contents: Contents,
}

/// Restored rows next to those of the primary.
#[derive(Debug, Default, PartialEq, Eq)]
struct Contents {
    compared: u64,
    differing: u64,
    /// Tables of which this cannot be said.
    left_out: Vec<String>,
}

/// Reads all rows of a restored server. A sentence when it, or the primary, cannot be read.
pub(in crate::run) async fn look_at(
    plan: &Plan,
    point: &RecoveryPoint,
    (target, restored): (&RecoveryTarget, &Restored),
    primary: &RunningNode,
    ledger: &mut SortedLedger,
) -> Result<Finding, String> {
    let name = &restored.node.node.name;
    let reading = read(plan, point, &restored.node, primary, ledger);
    let read = tokio::time::timeout(DEADLINE, reading).await;
    match read {
        Ok(Ok((account, wrong_side, contents))) => Ok(Finding {
            target: target.clone(),
            took: restored.took,
            account,
            wrong_side,
            contents,
        }),
        Ok(Err(problem)) => Err(format!("`{name}` was not audited: {problem}")),
        Err(_) => Err(format!(
            "`{name}` was not audited: no end within {} s",
            DEADLINE.as_secs()
        )),
    }
}

async fn read(
    plan: &Plan,
    point: &RecoveryPoint,
    node: &RunningNode,
    primary: &RunningNode,
    ledger: &mut SortedLedger,
) -> Result<(NodeAccount, u64, Contents), Unread> {
    let RecoveryPoint {
        asked,
        taken,
        markers,
        ..
    } = *point;
    let as_of = AsOf::Target(Window { asked, taken });
    let account = read::account(plan, node, ledger, as_of).await?;
    let session = read::session(node).await?;
    let there = recovery::markers(session.client(), &markers).await?;
    let [before, after] = markers;
    let wrong_side = u64::from(!there.contains(&before)) + u64::from(there.contains(&after));
    let of_primary = read::session(primary).await?;
    let mut contents = Contents::default();
    for (index, table) in plan.tables.iter().enumerate().filter(|it| it.1.audit) {
        let restored = if only_grows(plan, index) {
            read::numbered_rows(session.client(), table, CONTENTS).await?
        } else {
            None
        };
        let rows = read::numbered_rows(of_primary.client(), table, CONTENTS).await?;
        match restored.zip(rows) {
            Some((restored, rows)) => contents.compare(restored, rows).await?,
            None => contents.left_out.push(name(table)),
        }
    }
    of_primary.close().await;
    session.close().await;
    Ok((account, wrong_side, contents))
}

fn name(table: &Table) -> String {
    format!("`{}`", table.name)
}

/// Whether no transaction changes or deletes a row of the table: then what is there at any time is there at the end.
fn only_grows(plan: &Plan, table: usize) -> bool {
    let mut statements = plan.transactions.iter().flat_map(|it| &it.statements);
    let changes = |change| change == (Change::Update, table) || change == (Change::Delete, table);
    !statements.any(|it| it.change.is_some_and(changes))
}

impl Contents {
    /// Looks for every restored row on the primary; both in the order of keys.
    async fn compare<E>(
        &mut self,
        restored: impl Stream<Item = Result<(OrderedKey, Option<i64>), E>>,
        primary: impl Stream<Item = Result<(OrderedKey, Option<i64>), E>>,
    ) -> Result<(), E> {
        let mut restored = std::pin::pin!(restored);
        let mut primary = std::pin::pin!(primary);
        let mut other = primary.try_next().await?;
        while let Some((key, contents)) = restored.try_next().await? {
            while other.is_some_and(|(other, _)| other < key) {
                other = primary.try_next().await?;
            }
            self.compared += 1;
            self.differing += u64::from(other != Some((key, contents)));
        }
        Ok(())
    }
}

/// The row of `audit.csv` of a restore that did not end at its target.
pub(in crate::run) fn not_restored(cell_id: u32, node: &str, problem: String) -> AuditRow {
    AuditRow {
        cell_id,
        node: node.into(),
        check: AuditCheck::TargetReached,
        result: AuditResult::Fail,
        examined: 1,
        violations: 1,
        detail: problem,
    }
}

/// The rows of `audit.csv` of a restored server. `by_name` is what a restore to the name of the same point had.
pub(in crate::run) fn check(
    cell_id: u32,
    plan: &Plan,
    found: &Finding,
    by_name: Option<&Finding>,
    known: &Known<'_>,
) -> Vec<AuditRow> {
    let mut all = Account::default();
    for table in &found.account.tables {
        all.add(&table.account);
    }
    let commits = all.restored;
    let rows = Rows::of(plan, &found.account, &all, known, known.rowless);
    let wrong_rows = rows.phantom + rows.missing + all.duplicates;
    let mut checked = vec![
        (
            AuditCheck::TargetReached,
            1,
            0,
            sentence(&found.target, found.took, &commits),
        ),
        (
            AuditCheck::BeforeTarget,
            commits.before.commits,
            commits.before.commits - commits.before.kept,
            rowless(known),
        ),
        (
            AuditCheck::AfterTarget,
            commits.after.commits,
            commits.after.kept,
            String::new(),
        ),
        (AuditCheck::KnownCommits, 2, found.wrong_side, String::new()),
        (
            AuditCheck::RestoredRows,
            all.rows,
            wrong_rows,
            told(&rows, &all),
        ),
        (
            AuditCheck::RestoredContents,
            found.contents.compared,
            found.contents.differing,
            left_out(&found.contents.left_out),
        ),
    ];
    let twin = by_name.filter(|_| matches!(found.target, RecoveryTarget::Lsn(_)));
    if let Some(twin) = twin {
        let pairs = found.account.tables.iter().zip(&twin.account.tables);
        let differing = pairs.filter(|(own, other)| {
            own.contents != other.contents || own.account.rows != other.account.rows
        });
        let names: Vec<_> = differing
            .map(|(own, _)| name(&plan.tables[own.table]))
            .collect();
        let tables = found.account.tables.len() as u64;
        let count = names.len() as u64;
        checked.push((AuditCheck::SameByLsn, tables, count, names.join(", ")));
    }
    let row = |(check, examined, violations, detail)| AuditRow {
        cell_id,
        node: found.account.node.clone(),
        check,
        result: if violations == 0 {
            AuditResult::Pass
        } else {
            AuditResult::Fail
        },
        examined,
        violations,
        detail,
    };
    checked.into_iter().map(row).collect()
}

/// Exactly which commits are there.
fn sentence(target: &RecoveryTarget, took: Duration, commits: &RestoredCommits) -> String {
    let all = commits.all();
    let before = commits.before;
    let before = if before.kept == before.commits {
        format!("all {} before the target", thousands(before.commits))
    } else {
        format!(
            "{} of {} before the target",
            thousands(before.kept),
            thousands(before.commits)
        )
    };
    let part = |kept: u64, of: u64| match (kept, of) {
        (0, 0) => "none".to_owned(),
        (0, of) => format!("none of {}", thousands(of)),
        (kept, of) => format!("{} of {}", thousands(kept), thousands(of)),
    };
    format!(
        "restored to {target} in {}: {} of {} acknowledged commits, {before}, {} in flight and {} after it",
        format_duration(took),
        thousands(all.kept),
        thousands(all.commits),
        part(commits.during.kept, commits.during.commits),
        part(commits.after.kept, commits.after.commits)
    )
}

fn rowless(known: &Known<'_>) -> String {
    if known.rowless == 0 {
        return String::new();
    }
    format!(
        "{} more commits of the cell changed no row that can be looked for",
        thousands(known.rowless)
    )
}

fn told(rows: &Rows, all: &Account) -> String {
    let kinds = [
        (rows.phantom, "too many"),
        (rows.missing, "missing"),
        (all.duplicates, "doubled"),
    ];
    let found = kinds.iter().filter(|(count, _)| *count > 0);
    let found: Vec<_> = found
        .map(|(count, kind)| format!("{} {kind}", thousands(*count)))
        .collect();
    found.join(", ")
}

fn left_out(tables: &[String]) -> String {
    if tables.is_empty() {
        return String::new();
    }
    format!(
        "not compared: {}, whose rows transactions change, or whose key is neither an integer nor a uuid",
        tables.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::super::checks::TableAccount;
    use super::super::rows::Part;
    use super::*;
    use crate::plan::{Overrides, resolve};
    use crate::profile::Profile;
    use crate::sample::RowKey;
    use futures_util::stream;

    fn part(kept: u64, commits: u64) -> Part {
        Part { commits, kept }
    }

    /// Restored of 100 acknowledged inserts: 50 before the target, 10 in flight, 40 after.
    fn found(rows: u64, before: u64, during: u64, after: u64) -> Finding {
        let commits = RestoredCommits {
            before: part(before, 50),
            during: part(during, 10),
            after: part(after, 40),
        };
        let kept = commits.all().kept;
        Finding {
            target: RecoveryTarget::Lsn(crate::units::Lsn::new(0x300_0148)),
            took: Duration::from_millis(1_300),
            account: NodeAccount {
                node: "restored-to-lsn".into(),
                tables: vec![TableAccount {
                    table: 0,
                    account: Account {
                        rows,
                        commits: 100,
                        fewer_rows: i64::try_from(100 - kept).unwrap(),
                        restored: commits,
                        ..Account::default()
                    },
                    contents: rows.to_string(),
                }],
            },
            wrong_side: 0,
            contents: Contents::default(),
        }
    }

    fn checked(own: &Finding, by_name: Option<&Finding>) -> Vec<AuditRow> {
        let profile = Profile::load("users-insert").unwrap();
        let plan = resolve(&profile, &Overrides::default()).unwrap();
        let known = Known {
            row_changes: &[100],
            unknown: 0,
            rowless: 0,
            primary_failed: None,
            primary_died: None,
        };
        check(1, &plan, own, by_name, &known)
    }

    fn failing(own: &Finding, by_name: Option<&Finding>) -> Vec<AuditCheck> {
        let rows = checked(own, by_name).into_iter();
        let failed = rows.filter(|it| it.result == AuditResult::Fail);
        failed.map(|it| it.check).collect()
    }

    #[test]
    fn only_commits_in_flight_may_be_there_or_not() {
        for during in 0..=10 {
            assert_eq!(failing(&found(50 + during, 50, during, 0), None), []);
        }
        let check =
            |rows, before, during, after| failing(&found(rows, before, during, after), None);
        assert_eq!(check(49, 49, 0, 0), [AuditCheck::BeforeTarget]);
        assert_eq!(check(51, 50, 0, 1), [AuditCheck::AfterTarget]);
        assert_eq!(check(51, 50, 0, 0), [AuditCheck::RestoredRows]);
        assert_eq!(check(49, 50, 0, 0), [AuditCheck::RestoredRows]);
    }

    #[test]
    fn a_restore_by_lsn_has_the_rows_of_the_one_by_name() {
        let own = found(53, 50, 3, 0);
        assert_eq!(failing(&own, Some(&found(53, 50, 3, 0))), []);
        let other = found(54, 50, 4, 0);
        assert_eq!(failing(&own, Some(&other)), [AuditCheck::SameByLsn]);
    }

    #[test]
    fn the_sentence_counts_every_commit() {
        let text = |before, during, after| {
            let rows = checked(&found(before, before, during, after), None);
            rows[0].detail.clone()
        };
        assert_eq!(
            text(50, 3, 0),
            "restored to LSN 0/3000148 in 1.30 s: 53 of 100 acknowledged commits, all 50 before the target, \
             3 of 10 in flight and none of 40 after it"
        );
        let wrong = text(48, 0, 2);
        let end = "48 of 50 before the target, none of 10 in flight and 2 of 40 after it";
        assert!(wrong.ends_with(end), "{wrong}");
    }

    #[test]
    fn every_restored_row_is_looked_for_on_the_primary() {
        let rows = |rows: &[(i64, i64)]| {
            let rows = rows.iter();
            let rows = rows.map(|(key, hash)| (RowKey::Number(*key).into(), Some(*hash)));
            stream::iter(rows.map(Ok::<_, Unread>).collect::<Vec<_>>())
        };
        let compare = |restored: &[(i64, i64)]| {
            let mut contents = Contents::default();
            let primary = rows(&[(1, 10), (2, 20), (4, 40), (5, 50)]);
            let compared = contents.compare(rows(restored), primary);
            futures_util::FutureExt::now_or_never(compared)
                .expect("nothing has to be waited for")
                .unwrap();
            (contents.compared, contents.differing)
        };
        assert_eq!(compare(&[(1, 10), (4, 40)]), (2, 0));
        assert_eq!(compare(&[(1, 11), (3, 30), (5, 50), (6, 60)]), (4, 3));
    }
}
