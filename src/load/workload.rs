//! The SQL of a plan's workload: its tables, the rows before the first transaction, and each transaction's statements.
//! Knows no column: everything stands in the profile.

use crate::escape::quote_ident;
use crate::plan::{Plan, Table, Transaction};

/// Statements that bring the tables to the state in which every cell begins: emptied, filled with the planned rows, and
/// vacuumed. Each is a statement of its own: VACUUM runs in no transaction block. With it the table that it fills, if it fills one.
pub fn reset(plan: &Plan) -> Vec<(String, Option<&Table>)> {
    let truncate = format!("TRUNCATE {} RESTART IDENTITY", names(plan));
    let fills = plan.tables.iter();
    let fills = fills.filter_map(|table| Some((table.fill_statement()?, Some(table))));
    let mut statements = vec![(truncate, None)];
    statements.extend(fills);
    statements.push((vacuum(plan), None));
    statements
}

/// Leaves nothing for autovacuum to do, freezes the rows and sets their hint bits, so that no cell pays for the refill.
pub fn vacuum(plan: &Plan) -> String {
    format!("VACUUM (ANALYZE, FREEZE) {}", names(plan))
}

fn names(plan: &Plan) -> String {
    let names: Vec<_> = plan.tables.iter().map(Table::qualified).collect();
    names.join(", ")
}

/// The statements of a transaction, in order. More than one stand between BEGIN and COMMIT. The last returns
/// `pg_current_xact_id()`, by which a standby can tell whether a reader sees the commit, and the key of its row, by which a
/// subscriber can; of an update also the row's version, where the table has one.
pub fn statements(plan: &Plan, transaction: &Transaction) -> Vec<String> {
    let table = &plan.tables[transaction.table];
    let mut statements: Vec<_> = transaction
        .statements
        .iter()
        .map(|statement| statement.sql.clone())
        .collect();
    let last = statements.last_mut().expect("it has a statement");
    last.push_str("\nRETURNING pg_current_xact_id(), ");
    last.push_str(&quote_ident(&table.key));
    if let Some(version) = &table.version {
        last.push_str(", ");
        last.push_str(&quote_ident(version));
    }
    statements
}
