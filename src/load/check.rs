//! Checks before a run whether a server accepts the workload of a plan: every statement is prepared there, and the parameter types that the
//! server wants are compared with the values that the generators make. Changes nothing.

use std::fmt;

use tokio_postgres::error::{DbError, ErrorPosition};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error};

use super::values::extremes;
use super::workload;
use crate::escape::quote_ident;
use crate::pg::{self, Failure};
use crate::plan::{Change, Origin, Plan, Table, Transaction};
use crate::topology::Role;

/// A part of the workload that a server does not accept, its place in the profile, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    pub origin: Origin,
    pub title: String,
    pub help: String,
}

impl Mistake {
    /// The server refused the statements that create a table.
    pub fn of_ddl(table: &Table, failure: &Failure) -> Self {
        Self {
            origin: table.origin.clone(),
            title: format!("`ddl` of table `{}`: {failure}", table.name),
            help: "correct the SQL".into(),
        }
    }

    /// The statement that fills a table failed.
    pub fn of_fill(table: &Table, failure: &Failure) -> Self {
        Self {
            origin: table.fill_origin.clone(),
            title: format!("`fill` of table `{}`: {failure}", table.name),
            help: "correct the SQL".into(),
        }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}\n  help: {}", self.origin, self.title, self.help)
    }
}

/// Everything in the plan that the server does not accept; empty if it accepts the whole workload. An error means that the connection was
/// lost.
pub async fn check(client: &Client, plan: &Plan) -> Result<Vec<Mistake>, Failure> {
    let mut check = Check {
        client,
        plan,
        has_subscribers: plan
            .modes
            .iter()
            .any(|it| it.topology.has(Role::Subscriber)),
        unsound: Vec::new(),
        mistakes: Vec::new(),
    };
    for (index, table) in plan.tables.iter().enumerate() {
        let before = check.mistakes.len();
        check.columns(table).await?;
        if check.mistakes.len() > before {
            check.unsound.push(index);
        } else if check.has_subscribers && check.changes_rows_of(index) {
            check.replica_identity(table).await?;
        }
        check.fill(table).await?;
    }
    for transaction in &plan.transactions {
        check.transaction(transaction).await?;
    }
    Ok(check.mistakes)
}

struct Check<'a> {
    client: &'a Client,
    plan: &'a Plan,
    has_subscribers: bool,
    /// Tables whose key or version column is wrong, by index into the plan's tables. Their statements are prepared without the RETURNING
    /// clause that names these columns.
    unsound: Vec<usize>,
    mistakes: Vec<Mistake>,
}

impl Check<'_> {
    fn refuse(&mut self, origin: Origin, title: String, help: impl Into<String>) {
        self.mistakes.push(Mistake {
            origin,
            title,
            help: help.into(),
        });
    }

    /// Prepares a statement of the profile. `None` if the server refused it; the refusal is then among the mistakes.
    async fn prepare(
        &mut self,
        what: &str,
        (origin, written): (&Origin, &str),
        sent: &str,
    ) -> Result<Option<tokio_postgres::Statement>, Failure> {
        match self.client.prepare(sent).await {
            Ok(statement) => Ok(Some(statement)),
            Err(error) => {
                let refusal = refusal(&error)?;
                let before = match refusal.position() {
                    Some(ErrorPosition::Original(position)) => {
                        (*position as usize).saturating_sub(1)
                    }
                    _ => 0,
                };
                let help = refusal.hint().unwrap_or("correct the SQL");
                let title = format!("{what}: {}", pg::describe(&error));
                self.refuse(origin.at(written, before), title, help);
                Ok(None)
            }
        }
    }

    /// Checks the statement that fills a table.
    async fn fill(&mut self, table: &Table) -> Result<(), Failure> {
        if let Some(fill) = table.fill_statement() {
            let what = format!("`fill` of table `{}`", table.name);
            let place = (&table.fill_origin, table.fill.as_str());
            self.prepare(&what, place, &fill).await?;
        }
        Ok(())
    }

    /// Checks the key and version columns of a table.
    async fn columns(&mut self, table: &Table) -> Result<(), Failure> {
        let integers = [Type::INT2, Type::INT4, Type::INT8];
        if let Some(kind) = self.column(table, "key", &table.key).await?
            && self.has_subscribers
            && kind != Type::UUID
            && !integers.contains(&kind)
        {
            self.refuse(
                table.origin.clone(),
                format!("`key` of table `{}` has type {kind}, by which a subscriber cannot be asked for a row", table.name),
                "name a column of type smallint, integer, bigint or uuid, or leave out the logical modes",
            );
        }
        if let Some(version) = &table.version
            && let Some(kind) = self.column(table, "version", version).await?
            && !integers.contains(&kind)
        {
            self.refuse(
                table.origin.clone(),
                format!("`version` of table `{}` has type {kind}", table.name),
                "name a column of type smallint, integer or bigint that every update raises",
            );
        }
        Ok(())
    }

    /// The type of a column. `None` if there is no such column, which is then among the mistakes.
    async fn column(
        &mut self,
        table: &Table,
        role: &str,
        column: &str,
    ) -> Result<Option<Type>, Failure> {
        let sql = format!("SELECT {} FROM {}", quote_ident(column), table.qualified());
        match self.client.prepare(&sql).await {
            Ok(statement) => Ok(statement.columns().first().map(|it| it.type_().clone())),
            Err(error) => {
                refusal(&error)?;
                self.refuse(
                    table.origin.clone(),
                    format!("`{role}` of table `{}`: {}", table.name, pg::describe(&error)),
                    format!("`ddl` has to make the table in schema public, with the column that `{role}` names"),
                );
                Ok(None)
            }
        }
    }

    fn changes_rows_of(&self, table: usize) -> bool {
        let statements = self.plan.transactions.iter().flat_map(|it| &it.statements);
        let mut changes = statements.filter_map(|it| it.change);
        changes.any(|(change, of)| of == table && change != Change::Insert)
    }

    /// Checks that a table has a replica identity: without one the server refuses updates and deletes once the table is published, because
    /// a subscriber could not apply them.
    async fn replica_identity(&mut self, table: &Table) -> Result<(), Failure> {
        let sql = "SELECT c.relreplident IN ('f', 'i') OR c.relreplident = 'd' AND EXISTS \
                   (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary) \
                   FROM pg_class c WHERE c.oid = to_regclass($1::text)";
        let rows = self.client.query(sql, &[&table.qualified()]).await?;
        if rows.first().is_some_and(|row| !row.get::<_, bool>(0)) {
            self.refuse(
                table.origin.clone(),
                format!("table `{}` has no replica identity, so its rows cannot be updated or deleted while it is published", table.name),
                "give it a primary key, or set REPLICA IDENTITY in `ddl`",
            );
        }
        Ok(())
    }

    async fn transaction(&mut self, transaction: &Transaction) -> Result<(), Failure> {
        let sent = workload::statements(self.plan, transaction);
        for (number, (statement, sent)) in transaction.statements.iter().zip(&sent).enumerate() {
            let what = match transaction.statements.len() {
                1 => format!("transaction `{}`", transaction.name),
                _ => format!(
                    "statement {} of transaction `{}`",
                    number + 1,
                    transaction.name
                ),
            };
            let place = (&statement.origin, statement.sql.as_str());
            let sent = if self.unsound.contains(&transaction.table) {
                &statement.sql
            } else {
                sent
            };
            let Some(prepared) = self.prepare(&what, place, sent).await? else {
                continue;
            };
            for (kind, index) in prepared.params().iter().zip(&statement.parameters) {
                let parameter = &transaction.parameters[*index];
                let values = extremes(&parameter.generator, &self.plan.tables);
                let Some(value) = values.iter().find(|value| !value.fits(kind)) else {
                    continue;
                };
                let name = &parameter.name;
                self.refuse(
                    statement.origin.clone(),
                    format!(
                        "{what}: `:{name}` is to be of type {kind}, and its generator makes {value}"
                    ),
                    format!(
                        "choose another generator, or cast it in the SQL, as in {}",
                        value.cast(name, kind)
                    ),
                );
            }
        }
        Ok(())
    }
}

/// The server's refusal; an error if the connection was lost instead.
fn refusal(error: &Error) -> Result<&DbError, Failure> {
    let failure = || pg::describe(error);
    error
        .as_db_error()
        .filter(|_| !failure().connection_lost)
        .ok_or_else(failure)
}
