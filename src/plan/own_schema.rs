//! Moves a workload into a schema of replbench's own, on servers where the others belong to somebody else.

use super::{PlanError, Table, Transaction};
use crate::mode::Given;

/// The schema that replbench makes on servers that exist, and the only thing there that it writes into.
pub const OWN_SCHEMA: &str = "replbench";

/// Names tables in that schema, wherever SQL names them. SQL that names the usual schema itself is refused.
pub(super) fn move_to(
    given: &Given,
    tables: &mut [Table],
    transactions: &mut [Transaction],
) -> Result<(), PlanError> {
    let mut names = Vec::new();
    for table in tables.iter_mut() {
        let before = table.qualified();
        OWN_SCHEMA.clone_into(&mut table.schema);
        names.push((before, table.qualified()));
    }
    let moved = |what: String, sql: &mut String| {
        for (before, after) in &names {
            *sql = sql.replace(before, after);
        }
        if sql.to_ascii_lowercase().contains("public.") {
            return Err(PlanError::NotThere {
                what,
                servers: given.name(),
                option: given.option(),
                reason: "it names schema public, which may be somebody else's; name tables without a schema, or as `{id}`".into(),
            });
        }
        Ok(())
    };
    for table in tables {
        moved(format!("`ddl` of table `{}`", table.name), &mut table.ddl)?;
        moved(format!("`fill` of table `{}`", table.name), &mut table.fill)?;
    }
    for transaction in transactions {
        for statement in &mut transaction.statements {
            let what = format!("transaction `{}`", transaction.name);
            moved(what, &mut statement.sql)?;
        }
    }
    Ok(())
}
