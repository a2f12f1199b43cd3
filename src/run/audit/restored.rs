//! What a server has after it was restored to a point in time, and which promises about it were kept.

use std::time::Duration;

use futures_util::{Stream, TryStreamExt as _};

use super::Known;
use super::checks::{NodeAccount, Rows};
use super::ledger::{OrderedKey, SortedLedger};
use super::read;
use super::rows::{Account, AsOf, RestoredCommits, Window};
use crate::cluster::{RecoveryPoint, RecoveryTarget, Restored, RunningNode};
use crate::pg::recovery;
use crate::plan::{Change, Plan};
use crate::sample::{AuditCheck, AuditRow};
use crate::units::{format_duration, thousands};

/// SQL expression for a hash of the text of a row.
const CONTENTS: &str = "hashtextextended(t::text, 0)";

/// What was found on a restored server.
#[derive(Debug)]
pub(in crate::run) struct Finding {
    target: RecoveryTarget,
    took: Duration,
    account: NodeAccount,
    /// How many of the two known commits around the target are on its wrong side.
    wrong_side: u64,
    contents: Contents,
}

/// How restored rows compare with the primary's rows.
#[derive(Debug, Default, PartialEq, Eq)]
struct Contents {
    compared: u64,
    differing: u64,
    /// Tables whose rows cannot be compared.
    left_out: Vec<String>,
}

/// Reads all rows of a restored server, and compares them with the primary's. An error is a sentence: one of the two could not be read.
pub(in crate::run) async fn look_at(
    plan: &Plan,
    point: &RecoveryPoint,
    (target, restored): (&RecoveryTarget, &Restored),
    primary: &RunningNode,
    ledger: &mut SortedLedger,
) -> Result<Finding, String> {
    let node = &restored.node;
    let as_of = AsOf::Target(Window {
        asked: point.asked,
        taken: point.taken,
    });
    let reading = async {
        let account = read::account(plan, node, ledger, as_of).await?;
        let session = read::session(node).await?;
        let there = recovery::markers(session.client(), &point.markers).await?;
        let [before, after] = point.markers;
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
                None => contents.left_out.push(format!("`{}`", table.name)),
            }
        }
        of_primary.close().await;
        session.close().await;
        Ok(Finding {
            target: target.clone(),
            took: restored.took,
            account,
            wrong_side,
            contents,
        })
    };
    read::in_time(&node.node.name, reading).await
}

/// Whether no transaction updates or deletes rows of the table: then every row that is there at any time is there at the end.
fn only_grows(plan: &Plan, table: usize) -> bool {
    let mut statements = plan.transactions.iter().flat_map(|it| &it.statements);
    let changes = |change| change == (Change::Update, table) || change == (Change::Delete, table);
    !statements.any(|it| it.change.is_some_and(changes))
}

impl Contents {
    /// Looks for every restored row on the primary. Both streams are in the order of keys.
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

/// The rows of `audit.csv` for a restored server. `by_name` is what was found on the server that was restored to the name of the same
/// point.
pub(in crate::run) fn check(
    cell_id: u32,
    plan: &Plan,
    found: &Finding,
    by_name: Option<&Finding>,
    known: &Known<'_>,
) -> Vec<AuditRow> {
    let account = &found.account;
    let row = |check, examined, violations, detail| {
        AuditRow::new(cell_id, &account.node, check, examined, violations, detail)
    };
    let all = account.total();
    let RestoredCommits { before, after, .. } = all.restored;
    let reached = sentence(&found.target, found.took, &all.restored);
    let not_there = before.commits - before.kept;
    let rows = Rows::of(plan, account, &all, known, known.rowless);
    let wrong_rows = rows.phantom + rows.missing + all.duplicates;
    let wrong = told(&rows, &all);
    let contents = &found.contents;
    let left_out = left_out(&contents.left_out);
    let mut checked = vec![
        row(AuditCheck::TargetReached, 1, 0, reached),
        row(
            AuditCheck::BeforeTarget,
            before.commits,
            not_there,
            rowless(known),
        ),
        row(
            AuditCheck::AfterTarget,
            after.commits,
            after.kept,
            String::new(),
        ),
        row(AuditCheck::KnownCommits, 2, found.wrong_side, String::new()),
        row(AuditCheck::RestoredRows, all.rows, wrong_rows, wrong),
        row(
            AuditCheck::RestoredContents,
            contents.compared,
            contents.differing,
            left_out,
        ),
    ];
    let twin = by_name.filter(|_| matches!(found.target, RecoveryTarget::Lsn(_)));
    if let Some(twin) = twin {
        let names = account.differing(&twin.account, plan);
        let (tables, count) = (account.tables.len() as u64, names.len() as u64);
        checked.push(row(AuditCheck::SameByLsn, tables, count, names.join(", ")));
    }
    checked
}

/// A sentence that says how many commits are there: before the target, in flight and after it.
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
    use super::super::read::Unread;
    use super::super::rows::Part;
    use super::*;
    use crate::plan::{Overrides, resolve};
    use crate::profile::Profile;
    use crate::sample::{AuditResult, RowKey};
    use futures_util::stream;

    fn part(kept: u64, commits: u64) -> Part {
        Part { commits, kept }
    }

    /// What is found on a restored server of 100 acknowledged inserts: 50 were before the target, 10 in flight and 40 after it.
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
