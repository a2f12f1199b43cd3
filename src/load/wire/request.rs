//! The protocol messages of the mix's transactions, and how the row that a transaction returns is read.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use postgres_protocol::IsNull;
use postgres_protocol::message::frontend;
use smallvec::SmallVec;
use tokio_postgres::types::{ToSql as _, Type};

use crate::load::counters::ReturnedRow;
use crate::load::orders::Script;
use crate::load::values::Value;
use crate::pg::wire::{Answer, Broken, Opening};
use crate::pg::{self, Endpoint};
use crate::sample::RowKey;

/// Every transaction of the mix, with the types that its statements take and return.
#[derive(Debug)]
pub(super) struct Requests {
    transactions: Vec<Prepared>,
}

#[derive(Debug)]
struct Prepared {
    statements: Vec<Statement>,
    /// The types of the returned key and version columns; `None` if the statement returns no such column.
    key: Option<Type>,
    version: Option<Type>,
}

#[derive(Debug)]
struct Statement {
    /// The name under which every connection prepares the statement.
    name: String,
    sql: String,
    /// For each parameter, the index of its value among the transaction's values, and its type.
    parameters: Vec<(usize, Type)>,
}

/// The messages of one transaction. Each is sent when the one before has been answered. A request is reused, to keep its memory.
#[derive(Debug, Default)]
pub(super) struct Request {
    bytes: BytesMut,
    ends: SmallVec<[usize; 8]>,
}

impl Request {
    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    pub(super) fn steps(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn step(&self, index: usize) -> &[u8] {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start..self.ends[index]]
    }

    /// Whether the transaction runs between BEGIN and COMMIT.
    pub(super) fn is_block(&self) -> bool {
        self.steps() > 1
    }

    /// Whether a step is a statement of the workload, neither BEGIN nor COMMIT.
    pub(super) fn is_statement(&self, step: usize) -> bool {
        !self.is_block() || (step > 0 && step + 1 < self.steps())
    }

    /// Whether a step is the statement that returns the row.
    pub(super) fn is_last_statement(&self, step: usize) -> bool {
        step + 1 + usize::from(self.is_block()) == self.steps()
    }
}

impl Requests {
    /// Asks a server for the types of all statements.
    pub(super) async fn describe(
        endpoint: &Endpoint,
        scripts: &[Script],
        deadline: Duration,
    ) -> Result<Self, String> {
        let session = pg::connect(endpoint, "replbench load", None, deadline).await;
        let session = session.map_err(|error| error.to_string())?;
        let mut transactions = Vec::with_capacity(scripts.len());
        for (number, script) in scripts.iter().enumerate() {
            let mut statements = Vec::with_capacity(script.statements.len());
            let mut returned = Vec::new();
            for (index, (sql, values)) in script.statements.iter().enumerate() {
                let prepared = session.client().prepare(sql).await;
                let prepared = prepared
                    .map_err(|error| format!("cannot prepare `{sql}`: {}", pg::describe(&error)))?;
                let types = prepared.params().iter().cloned();
                statements.push(Statement {
                    name: format!("t{number}s{index}"),
                    sql: sql.clone(),
                    parameters: values.iter().copied().zip(types).collect(),
                });
                returned = prepared
                    .columns()
                    .iter()
                    .map(|it| it.type_().clone())
                    .collect();
            }
            transactions.push(Prepared {
                statements,
                key: returned.get(1).cloned(),
                version: returned.get(2).cloned(),
            });
        }
        session.close().await;
        Ok(Self { transactions })
    }

    /// How the connections of the load are opened, and the statements that they prepare.
    pub(super) fn opening(&self) -> io::Result<Opening> {
        let mut opening = Opening::new("replbench load", None).for_writes();
        for statement in self.transactions.iter().flat_map(|it| &it.statements) {
            opening.prepare(&statement.name, &statement.sql)?;
        }
        Ok(opening)
    }

    /// Writes all messages of one transaction.
    pub(super) fn write(
        &self,
        transaction: usize,
        values: &[Value],
        request: &mut Request,
    ) -> io::Result<()> {
        request.clear();
        let statements = &self.transactions[transaction].statements;
        let is_block = statements.len() > 1;
        let text = |sql, request: &mut Request| {
            frontend::query(sql, &mut request.bytes).expect("it has no NUL");
            request.ends.push(request.bytes.len());
        };
        if is_block {
            text("BEGIN", request);
        }
        for statement in statements {
            let out = &mut request.bytes;
            frontend::bind(
                "",
                &statement.name,
                [1],
                &statement.parameters,
                |(index, kind), out| values[*index].to_sql(kind, out).map(|_| IsNull::No),
                [1],
                out,
            )
            .map_err(|error| cannot_write(statement, error))?;
            frontend::execute("", 0, out).expect("an empty name has no NUL");
            frontend::sync(out);
            request.ends.push(request.bytes.len());
        }
        if is_block {
            text("COMMIT", request);
        }
        Ok(())
    }

    /// The row that the last statement of a transaction returned; `None` if the statement affected no row.
    pub(super) fn returned(
        &self,
        transaction: usize,
        answer: &Answer,
    ) -> Result<Option<ReturnedRow>, Broken> {
        let Some(row) = answer.kept::<3>().last() else {
            return Ok(None);
        };
        let [xid, key, version] = row?;
        let prepared = &self.transactions[transaction];
        let xid = xid.and_then(|bytes| bytes.try_into().ok());
        let xid = xid.ok_or_else(|| Broken::new("a transaction id that is not 8 bytes long"))?;
        Ok(Some(ReturnedRow {
            xid: u64::from_be_bytes(xid),
            key: read(prepared.key.as_ref(), key),
            version: match read(prepared.version.as_ref(), version) {
                Some(RowKey::Number(version)) => Some(version),
                _ => None,
            },
        }))
    }
}

/// The value of a key or version column. `None` if the column is absent or null, or has a type that the probes cannot look for.
fn read(kind: Option<&Type>, bytes: Option<&[u8]>) -> Option<RowKey> {
    let bytes = bytes?;
    match *kind? {
        Type::INT2 => {
            let number = i16::from_be_bytes(bytes.try_into().ok()?);
            Some(RowKey::Number(number.into()))
        }
        Type::INT4 => {
            let number = i32::from_be_bytes(bytes.try_into().ok()?);
            Some(RowKey::Number(number.into()))
        }
        Type::INT8 => Some(RowKey::Number(i64::from_be_bytes(bytes.try_into().ok()?))),
        Type::UUID => Some(RowKey::Uuid(u128::from_be_bytes(bytes.try_into().ok()?))),
        _ => None,
    }
}

/// An error for a value that cannot be encoded. Types are compared before a run, so this is a defect of replbench.
fn cannot_write(statement: &Statement, error: frontend::BindError) -> io::Error {
    let cause = match error {
        frontend::BindError::Conversion(error) => error.to_string(),
        frontend::BindError::Serialization(error) => error.to_string(),
    };
    let sql = &statement.sql;
    io::Error::other(format!("a value of `{sql}` cannot be written: {cause}"))
}
