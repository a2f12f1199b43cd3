//! Counts rows on every node after a cell: every insert must be there exactly once, everywhere.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::cluster::RunningNode;
use crate::load::workload;
use crate::pg;
use crate::plan::Plan;

const DEADLINE: Duration = Duration::from_secs(30);

/// Rows of one table on one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RowCount {
    pub(super) node: String,
    pub(super) table: String,
    pub(super) rows: u64,
}

/// A node whose rows are not those that were acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) node: String,
    /// A sentence that names node, table and both counts.
    pub(super) detail: String,
}

/// The rows of all tables on a node; a sentence when it does not answer.
pub(super) async fn count(plan: &Plan, node: &RunningNode) -> Result<Vec<RowCount>, String> {
    let name = &node.node.name;
    let counting = async {
        let session = pg::connect(&node.endpoint, "replbench audit", None, DEADLINE)
            .await
            .map_err(|error| error.to_string())?;
        let mut counts = Vec::new();
        for table in &plan.tables {
            let sql = format!("SELECT count(*) FROM {}", workload::qualified(table));
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

/// Rows that the primary must have by table: at least the acknowledged ones, at most those and the indeterminate ones.
pub(super) fn expected(plan: &Plan, committed: &[(u64, u64)]) -> BTreeMap<String, (u64, u64)> {
    let mut bounds: BTreeMap<_, _> = plan
        .tables
        .iter()
        .map(|table| (table.name.clone(), (table.rows, table.rows)))
        .collect();
    let unknown: u64 = committed.iter().map(|(_, unknown)| unknown).sum();
    for (index, transaction) in plan.transactions.iter().enumerate() {
        let table = transaction
            .kind
            .inserts_into()
            .and_then(|kind| plan.table_of(kind));
        let sure = committed.get(index).map_or(0, |(sure, _)| *sure);
        if let Some(bound) = table.and_then(|table| bounds.get_mut(&plan.tables[table].name)) {
            bound.0 += sure;
            bound.1 += sure;
        }
    }
    for bound in bounds.values_mut() {
        bound.1 += unknown;
    }
    bounds
}

/// What is wrong with the counts. Nodes on which commits were unseen at the end of the drain are behind, not wrong.
pub(super) fn findings(
    expected: &BTreeMap<String, (u64, u64)>,
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
            let (least, most) = *expected.get(table)?;
            let (least, most) = if node == primary {
                (least, most)
            } else {
                // A commit that still waits for a standby is visible there, and not yet on the primary.
                let (rows, unknown) = (on_primary(table)?, most - least);
                (rows, rows + unknown)
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
        let expected = BTreeMap::from([("users".to_owned(), (100, 102))]);
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
