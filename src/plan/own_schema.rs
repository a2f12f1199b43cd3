//! Moves a workload into replbench's own schema, on servers where other schemas do not belong to replbench.

use super::{PlanError, Table, Transaction};
use crate::mode::Given;

/// The schema that replbench creates on existing servers, and the only one that it writes into there.
pub const OWN_SCHEMA: &str = "replbench";

/// Replaces the tables' schema with [`OWN_SCHEMA`] wherever SQL names the tables. SQL that names schema `public` itself is refused.
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
