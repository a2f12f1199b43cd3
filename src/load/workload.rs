//! The SQL of a plan's workload: the reset of its tables, their initial rows, and the statements of each transaction. Knows no column of
//! its own: the profile names them all.

use crate::escape::quote_ident;
use crate::plan::{Plan, Table, Transaction};

/// The statements that bring the tables to the state in which every cell begins: emptied, filled with the planned rows, and vacuumed. They
/// are separate because VACUUM cannot run in a transaction block. Each comes with the table that it fills, `None` if it fills none.
pub fn reset(plan: &Plan) -> Vec<(String, Option<&Table>)> {
    let truncate = format!("TRUNCATE {} RESTART IDENTITY", names(plan));
    let fills = plan.tables.iter();
    let fills = fills.filter_map(|table| Some((table.fill_statement()?, Some(table))));
    let mut statements = vec![(truncate, None)];
    statements.extend(fills);
    statements.push((vacuum(plan), None));
    statements
}

/// The statement that freezes the rows, sets their hint bits and leaves nothing for autovacuum to do, so that no cell pays for the refill.
pub fn vacuum(plan: &Plan) -> String {
    format!("VACUUM (ANALYZE, FREEZE) {}", names(plan))
}

fn names(plan: &Plan) -> String {
    let names: Vec<_> = plan.tables.iter().map(Table::qualified).collect();
    names.join(", ")
}

/// The statements of a transaction, in order. If there are several, they run between BEGIN and COMMIT. The last one returns
/// `pg_current_xact_id()`, from which a standby can tell whether a reader sees the commit, then the key of its row, from which a subscriber
/// can tell, and the row's version if the table has one.
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
