//! What the nodes have after a cell. Rows are counted on every node, after every cell; after a cell with faults every acknowledged
//! commit is looked for on each of them as well.

mod checks;
mod counts;
mod ledger;
mod rows;

use std::io;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use tokio_postgres::Client;
use tokio_postgres::types::Type;

pub(super) use checks::Known;
use checks::{NodeAccount, TableAccount};
pub(super) use counts::{count, expected, findings};
pub(super) use ledger::Ledger;
use ledger::{OrderedKey, SortedLedger};
use rows::{Account, Row};

use crate::clock::Stamp;
use crate::cluster::RunningNode;
use crate::escape::quote_ident;
use crate::mode::Mode;
use crate::pg;
use crate::plan::{Plan, Table};
use crate::sample::{AuditRow, RowKey};

/// Reading all rows of a node may take so long.
const DEADLINE: Duration = Duration::from_mins(10);
const CONNECT: Duration = Duration::from_secs(30);
/// Contents are compared as text, which is to be the same on all nodes.
const OPTIONS: &str = "-c timezone=UTC -c datestyle=ISO -c synchronous_commit=local";

/// What the audit of a cell has found.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) rows: Vec<AuditRow>,
    /// When each commit was acknowledged that the primary does not have.
    pub(super) lost: Vec<Stamp>,
}

impl Findings {
    /// The first and the last acknowledgement of a lost commit.
    pub(super) fn span(&self) -> Option<(Stamp, Stamp)> {
        checks::span(&self.lost)
    }
}

/// Looks for every commit of the ledger on every node; the first node is the primary. A sentence when a node cannot be read.
pub(super) async fn audit(
    cell_id: u32,
    (plan, mode): (&Plan, &Mode),
    nodes: &[RunningNode],
    ledger: Ledger,
    known: &Known<'_>,
) -> Result<Findings, String> {
    let sorted = tokio::task::spawn_blocking(move || ledger.sort()).await;
    let sorted = sorted.map_err(io::Error::other).and_then(|sorted| sorted);
    let mut ledger = sorted.map_err(|error| format!("the ledger cannot be sorted: {error}"))?;
    let until = known.primary_died.unwrap_or(Stamp::from_nanos(u64::MAX));
    let mut accounts = Vec::new();
    for node in nodes {
        let reading = account(plan, node, &mut ledger, until);
        let read = tokio::time::timeout(DEADLINE, reading).await;
        let late = || Err(format!("no end within {} s", DEADLINE.as_secs()));
        let read = read.unwrap_or_else(|_| late());
        let name = &node.node.name;
        accounts.push(read.map_err(|problem| format!("`{name}` was not audited: {problem}"))?);
    }
    let excuse = checks::excuse(mode, &plan.faults);
    let Some(primary) = accounts.first() else {
        return Ok(Findings::default());
    };
    let check = |node| checks::check(cell_id, plan, node, primary, known, excuse);
    Ok(Findings {
        rows: accounts.iter().flat_map(check).collect(),
        lost: primary
            .tables
            .iter()
            .flat_map(|it| it.account.lost.iter().copied())
            .collect(),
    })
}

/// A node that could not be read to its end.
#[derive(Debug, thiserror::Error)]
enum Unread {
    #[error("{0}")]
    Server(pg::Failure),
    #[error("the ledger cannot be read: {0}")]
    Ledger(#[from] io::Error),
}

impl From<tokio_postgres::Error> for Unread {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Server(pg::describe(&error))
    }
}

async fn account(
    plan: &Plan,
    node: &RunningNode,
    ledger: &mut SortedLedger,
    until: Stamp,
) -> Result<NodeAccount, String> {
    let session = pg::connect(&node.endpoint, "replbench audit", Some(OPTIONS), CONNECT)
        .await
        .map_err(|error| error.to_string())?;
    let mut tables = Vec::new();
    for (index, table) in plan.tables.iter().enumerate().filter(|it| it.1.audit) {
        let read = table_account(session.client(), index, table, ledger, until).await;
        tables.push(read.map_err(|problem| problem.to_string())?);
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
    until: Stamp,
) -> Result<TableAccount, Unread> {
    let name = table.qualified();
    let sum = format!(
        "SELECT count(*), coalesce(sum(hashtextextended(t::text, 0)), 0)::text FROM {name} AS t"
    );
    let sum = client.query_one(&sum, &[]).await?;
    let (count, contents): (i64, String) = (sum.try_get(0)?, sum.try_get(1)?);
    let key = quote_ident(&table.key);
    let kind = client.prepare(&format!("SELECT {key} FROM {name}")).await?;
    let kind = kind.columns().first().map(|it| it.type_().clone());
    let (is_uuid, column) = match kind {
        Some(Type::UUID) => (true, format!("uuid_send({key})")),
        Some(Type::INT2 | Type::INT4 | Type::INT8) => (false, format!("{key}::bigint")),
        _ => {
            let rows = u64::try_from(count).unwrap_or(0);
            let account = Account {
                rows,
                ..Account::default()
            };
            return Ok(TableAccount {
                table: index,
                account,
                contents,
            });
        }
    };
    let version = table.version.as_deref().map(quote_ident);
    let version = version.unwrap_or_else(|| "NULL".into());
    let sql = format!("SELECT {column}, {version}::bigint FROM {name} ORDER BY {key}");
    let none: [&(dyn tokio_postgres::types::ToSql + Sync); 0] = [];
    let found = client.query_raw(&sql, none).await?;
    let rows = found.map_err(Unread::from).and_then(async |row| {
        let key = if is_uuid {
            let bytes: &[u8] = row.try_get(0)?;
            let bytes = bytes.try_into().map_err(io::Error::other)?;
            RowKey::Uuid(u128::from_be_bytes(bytes))
        } else {
            RowKey::Number(row.try_get(0)?)
        };
        Ok(Row {
            key: OrderedKey::from(key),
            version: row.try_get(1)?,
        })
    });
    let entries = ledger.entries()?;
    let own = entries.filter(|it| it.as_ref().map_or(true, |entry| entry.table() == index));
    Ok(TableAccount {
        table: index,
        account: rows::compare(rows, own, until).await?,
        contents,
    })
}
