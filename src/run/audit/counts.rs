//! Counts rows on every node after a cell: every inserted row must be there exactly once on every node.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::cluster::RunningNode;
use crate::pg;
use crate::plan::{Change, Plan};

const DEADLINE: Duration = Duration::from_secs(30);

/// Rows of one table on one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::run) struct RowCount {
    pub(in crate::run) node: String,
    pub(in crate::run) table: String,
    pub(in crate::run) rows: u64,
}

/// A node whose row count contradicts the acknowledged transactions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::run) struct Finding {
    pub(in crate::run) node: String,
    /// A sentence that names node, table and both counts.
    pub(in crate::run) detail: String,
}

/// The row counts of all audited tables on a node. An error is a sentence.
pub(in crate::run) async fn count(
    plan: &Plan,
    node: &RunningNode,
) -> Result<Vec<RowCount>, String> {
    let name = &node.node.name;
    let counting = async {
        let session = pg::connect(&node.endpoint, "replbench audit", None, DEADLINE)
            .await
            .map_err(|error| error.to_string())?;
        let mut counts = Vec::new();
        for table in plan.tables.iter().filter(|it| it.audit) {
            let sql = format!("SELECT count(*) FROM {}", table.qualified());
            let row = session.client().query_one(&sql, &[]).await;
            let row = row.map_err(|error| pg::describe(&error).to_string())?;
            counts.push(RowCount {
                node: name.clone(),
                table: table.name.clone(),
                rows: u64::try_from(row.get::<_, i64>(0)).unwrap_or(0),
            });
        }
        session.close().await;
        Ok(counts)
    };
    tokio::time::timeout(DEADLINE, counting)
        .await
        .unwrap_or_else(|_| {
            Err(format!(
                "`{name}` did not count its rows within {} s",
                DEADLINE.as_secs()
            ))
        })
}

/// How many rows a table may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::run) struct Bounds {
    least: u64,
    most: u64,
    /// How far the count of a replica may differ from the primary's. A commit that still waits for a standby is visible on that standby,
    /// and not yet on the primary.
    unknown: u64,
}

/// Bounds for the primary's row counts, by table: rows from before the cell and what acknowledged transactions made of them, plus or minus
/// transactions whose outcome is unknown.
pub(in crate::run) fn expected(
    plan: &Plan,
    changes: &[i64],
    unknown: u64,
) -> BTreeMap<String, Bounds> {
    let touches = |table: usize, change: Change| {
        let mut statements = plan.transactions.iter().flat_map(|it| &it.statements);
        statements.any(|it| it.change == Some((change, table)))
    };
    let tables = plan
        .tables
        .iter()
        .enumerate()
        .filter(|(_, table)| table.audit);
    tables
        .map(|(index, table)| {
            let change = changes.get(index).copied().unwrap_or(0);
            let rows = table.rows.saturating_add_signed(change);
            let may_be = |change| if touches(index, change) { unknown } else { 0 };
            let (inserted, deleted) = (may_be(Change::Insert), may_be(Change::Delete));
            let bounds = Bounds {
                least: rows.saturating_sub(deleted),
                most: rows + inserted,
                unknown: inserted.max(deleted),
            };
            (table.name.clone(), bounds)
        })
        .collect()
}

/// What is wrong with the counts. Nodes on which commits were unseen at the end of the drain are behind, not wrong.
pub(in crate::run) fn findings(
    expected: &BTreeMap<String, Bounds>,
    counts: &[RowCount],
    primary: &str,
    behind: &[&str],
) -> Vec<Finding> {
    let on_primary = |table: &str| {
        counts
            .iter()
            .find(|count| count.node == primary && count.table == table)
            .map(|count| count.rows)
    };
    counts
        .iter()
        .filter(|count| !behind.contains(&count.node.as_str()))
        .filter_map(|count| {
            let RowCount { node, table, rows } = count;
            let bounds = *expected.get(table)?;
            let (least, most) = if node == primary {
                (bounds.least, bounds.most)
            } else {
                let rows = on_primary(table)?;
                let unknown = bounds.unknown;
                let may_have_fewer = bounds.least < bounds.most - unknown;
                (
                    rows - if may_have_fewer { unknown.min(rows) } else { 0 },
                    rows + unknown,
                )
            };
            let wanted = if least == most {
                least.to_string()
            } else {
                format!("{least} to {most}")
            };
            (!(least..=most).contains(rows)).then(|| Finding {
                node: node.clone(),
                detail: format!("`{node}` has {rows} rows in `{table}` and should have {wanted}"),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(node: &str, rows: u64) -> RowCount {
        RowCount {
            node: node.into(),
            table: "users".into(),
            rows,
        }
    }

    #[test]
    fn lost_and_doubled_rows_are_found_on_every_node() {
        let bounds = Bounds {
            least: 100,
            most: 102,
            unknown: 2,
        };
        let expected = BTreeMap::from([("users".to_owned(), bounds)]);
        let check = |primary, replica, behind: &[&str]| {
            let counts = [counted("primary", primary), counted("s1", replica)];
            findings(&expected, &counts, "primary", behind).len()
        };
        assert_eq!(check(101, 101, &[]), 0);
        assert_eq!(check(99, 99, &[]), 1);
        assert_eq!(check(103, 103, &[]), 1);
        assert_eq!(check(101, 100, &[]), 1);
        assert_eq!(check(101, 100, &["s1"]), 0);
        assert_eq!(check(100, 102, &[]), 0);
        assert_eq!(check(100, 103, &[]), 1);
    }
}
