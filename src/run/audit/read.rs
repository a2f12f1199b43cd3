//! Reads which rows of the plan's tables a server has, and compares them with the ledger.

use std::io;
use std::time::Duration;

use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::checks::{NodeAccount, TableAccount};
use super::ledger::{OrderedKey, SortedLedger};
use super::rows::{self, Account, AsOf, Row};
use crate::cluster::RunningNode;
use crate::escape::quote_ident;
use crate::pg::{self, Session};
use crate::plan::{Plan, Table};
use crate::sample::RowKey;

const CONNECT: Duration = Duration::from_secs(30);
/// The longest that reading all rows of a node may take.
const DEADLINE: Duration = Duration::from_mins(10);
/// Rows are compared as text, which must be the same on all nodes.
const OPTIONS: &str = "-c timezone=UTC -c datestyle=ISO -c synchronous_commit=local";

/// Why a node could not be read to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unread {
    #[error(transparent)]
    Connect(#[from] pg::ConnectError),
    #[error(transparent)]
    Server(#[from] pg::Failure),
    #[error("the ledger cannot be read: {0}")]
    Ledger(#[from] io::Error),
}

impl From<tokio_postgres::Error> for Unread {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Server(pg::describe(&error))
    }
}

/// Waits until all rows of the server `name` have been read. An error is a sentence: reading failed, or did not end within [`DEADLINE`].
pub(super) async fn in_time<T>(
    name: &str,
    reading: impl Future<Output = Result<T, Unread>>,
) -> Result<T, String> {
    let problem = match tokio::time::timeout(DEADLINE, reading).await {
        Ok(Ok(read)) => return Ok(read),
        Ok(Err(problem)) => problem.to_string(),
        Err(_) => format!("no end within {} s", DEADLINE.as_secs()),
    };
    Err(format!("`{name}` was not audited: {problem}"))
}

pub(super) async fn session(node: &RunningNode) -> Result<Session, Unread> {
    let session = pg::connect(&node.endpoint, "replbench audit", Some(OPTIONS), CONNECT);
    Ok(session.await?)
}

/// The account of all audited tables of a node.
pub(super) async fn account(
    plan: &Plan,
    node: &RunningNode,
    ledger: &mut SortedLedger,
    as_of: AsOf,
) -> Result<NodeAccount, Unread> {
    let session = session(node).await?;
    let mut tables = Vec::new();
    for (index, table) in plan.tables.iter().enumerate().filter(|it| it.1.audit) {
        tables.push(table_account(session.client(), index, table, ledger, as_of).await?);
    }
    session.close().await;
    Ok(NodeAccount {
        node: node.node.name.clone(),
        tables,
    })
}

async fn table_account(
    client: &Client,
    index: usize,
    table: &Table,
    ledger: &mut SortedLedger,
    as_of: AsOf,
) -> Result<TableAccount, Unread> {
    let name = table.qualified();
    let sum = format!(
        "SELECT count(*), coalesce(sum(hashtextextended(t::text, 0)), 0)::text FROM {name} AS t"
    );
    let sum = client.query_one(&sum, &[]).await?;
    let (count, contents): (i64, String) = (sum.try_get(0)?, sum.try_get(1)?);
    let version = table.version.as_deref().map(quote_ident);
    let version = version.unwrap_or_else(|| "NULL".into());
    let account = match numbered_rows(client, table, &version).await? {
        None => Account {
            rows: u64::try_from(count).unwrap_or(0),
            ..Account::default()
        },
        Some(rows) => {
            let rows = rows.map_ok(|(key, version)| Row { key, version });
            let entries = ledger.entries()?;
            let own = entries.filter(|it| it.as_ref().map_or(true, |entry| entry.table() == index));
            rows::compare(rows, own, as_of).await?
        }
    };
    Ok(TableAccount {
        table: index,
        account,
        contents,
    })
}

/// The rows in the order of their keys, each with the value of `number`, an SQL expression on the row `t`. `None` if the key is neither an
/// integer nor a uuid.
pub(super) async fn numbered_rows(
    client: &Client,
    table: &Table,
    number: &str,
) -> Result<Option<impl Stream<Item = Result<(OrderedKey, Option<i64>), Unread>>>, Unread> {
    let name = table.qualified();
    let key = quote_ident(&table.key);
    let kind = client.prepare(&format!("SELECT {key} FROM {name}")).await?;
    let kind = kind.columns().first().map(|it| it.type_().clone());
    let (is_uuid, column) = match kind {
        Some(Type::UUID) => (true, format!("uuid_send({key})")),
        Some(Type::INT2 | Type::INT4 | Type::INT8) => (false, format!("{key}::bigint")),
        _ => return Ok(None),
    };
    let sql = format!("SELECT {column}, ({number})::bigint FROM {name} AS t ORDER BY {key}");
    let none: [&(dyn tokio_postgres::types::ToSql + Sync); 0] = [];
    let found = client.query_raw(&sql, none).await?;
    let rows = found.map(move |row| {
        let row = row?;
        let key = if is_uuid {
            let bytes: &[u8] = row.try_get(0)?;
            let bytes = bytes.try_into().map_err(io::Error::other)?;
            RowKey::Uuid(u128::from_be_bytes(bytes))
        } else {
            RowKey::Number(row.try_get(0)?)
        };
        Ok((OrderedKey::from(key), row.try_get(1)?))
    });
    Ok(Some(rows))
}
