//! The connection pool of one load thread: deadpool over connections that keep their prepared statements and count warnings.
//!
//! deadpool-postgres would discard the notices that report a cancelled wait for synchronous replication, so the connection manager is our
//! own; the pool itself is deadpool's.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use deadpool::managed::{
    Manager, Metrics, Pool, PoolConfig, PoolError, QueueMode, RecycleError, RecycleResult,
};
use deadpool::{Runtime, managed};
use futures_util::TryStreamExt as _;
use smallvec::SmallVec;
use tokio_postgres::types::Type;
use tokio_postgres::{Error, NoTls, Row, Statement};

use crate::clock;
use crate::load::counters::{Reply, ReturnedRow};
use crate::load::orders::Script;
use crate::load::values::Value;
use crate::pg::{self, Endpoint, Failure, Session, TAKES_NO_WRITES, Uuid, Xid8};
use crate::sample::RowKey;

/// The longest that connecting and preparing all statements may take together.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);

const CANCEL_DEADLINE: Duration = Duration::from_secs(1);

/// Opens the connections of a thread.
#[derive(Debug)]
pub(super) struct Connector {
    /// The primary first, then the servers that may take its place. A connection goes to the first of them that accepts writes.
    pub(super) servers: Arc<[Arc<Endpoint>]>,
    /// One script for each transaction of the mix.
    pub(super) scripts: Arc<[Script]>,
}

/// A connection of the pool.
#[derive(Debug)]
pub(super) struct Connection {
    /// The index of the server, as in [`Commit`](crate::sample::Commit).
    server: u8,
    session: Session,
    prepared: Vec<Vec<(Statement, Vec<usize>)>>,
}

impl Connection {
    /// Runs the transaction with this index in the mix, with these values.
    pub(super) async fn run(&self, index: usize, values: &[Value]) -> Result<Reply, Error> {
        let warnings = self.session.warnings().count();
        let client = self.session.client();
        let (last, before) = self.prepared[index]
            .split_last()
            .expect("a transaction has a statement");
        let of = |indices: &[usize]| {
            indices
                .iter()
                .map(|it| &values[*it])
                .collect::<SmallVec<[_; 8]>>()
        };
        let mut affected = SmallVec::new();
        if !before.is_empty() {
            client.batch_execute("BEGIN").await?;
        }
        for (statement, indices) in before {
            affected.push(client.execute_raw(statement, of(indices)).await?);
        }
        let (statement, indices) = last;
        let mut rows = pin!(client.query_raw(statement, of(indices)).await?);
        let (mut row, mut count) = (None, 0);
        while let Some(next) = rows.try_next().await? {
            row = Some(next);
            count += 1;
        }
        affected.push(count);
        let commit_sent = if before.is_empty() {
            None
        } else {
            let sent = clock::now();
            client.batch_execute("COMMIT").await?;
            Some(sent)
        };
        let row = match &row {
            None => None,
            Some(row) => {
                let Xid8(xid) = row.try_get(0)?;
                let version = if row.len() > 2 { integer(row, 2) } else { None };
                Some(ReturnedRow {
                    xid,
                    key: key(row, 1),
                    version,
                })
            }
        };
        Ok(Reply {
            row,
            affected,
            commit_sent,
            warned: self.session.warnings().count() > warnings,
            server: self.server,
        })
    }

    /// Asks the server to cancel the statement that it runs for this connection, and closes the connection. A request that fails is
    /// ignored, because nothing else could be done.
    pub(super) fn cancel(self) -> impl Future<Output = ()> + Send + 'static {
        let token = self.session.client().cancel_token();
        async move {
            let cancel = token.cancel_query(NoTls);
            let _ = tokio::time::timeout(CANCEL_DEADLINE, cancel).await;
        }
    }

    /// Rolls back a transaction that failed part-way, so that the connection can serve the next one.
    pub(super) async fn roll_back(&self, index: usize) -> Result<(), Error> {
        if self.prepared[index].len() == 1 {
            return Ok(());
        }
        self.session.client().batch_execute("ROLLBACK").await
    }
}

/// The key of a row; `None` if it has a type that the probes cannot look for.
fn key(row: &Row, column: usize) -> Option<RowKey> {
    match *row.columns()[column].type_() {
        Type::UUID => row
            .try_get(column)
            .ok()
            .map(|Uuid(uuid)| RowKey::Uuid(uuid)),
        _ => integer(row, column).map(RowKey::Number),
    }
}

fn integer(row: &Row, column: usize) -> Option<i64> {
    match *row.columns()[column].type_() {
        Type::INT2 => row.try_get::<_, i16>(column).ok().map(i64::from),
        Type::INT4 => row.try_get::<_, i32>(column).ok().map(i64::from),
        _ => row.try_get(column).ok(),
    }
}

impl Connector {
    async fn open(&self, server: u8, endpoint: &Endpoint) -> Result<Connection, Failure> {
        let session = pg::connect(endpoint, "replbench load", None, CONNECT_DEADLINE).await?;
        if !session.takes_writes() {
            let node = &endpoint.node;
            let message = format!("`{node}` cannot be used: {TAKES_NO_WRITES}");
            return Err(Failure::lost(message));
        }
        let mut prepared = Vec::with_capacity(self.scripts.len());
        for script in self.scripts.iter() {
            let mut statements = Vec::with_capacity(script.statements.len());
            for (sql, values) in &script.statements {
                let statement = session.client().prepare(sql).await;
                let statement = statement.map_err(|error| {
                    let failure = Failure::from(error);
                    let message = format!("cannot prepare `{sql}`: {failure}");
                    Failure { message, ..failure }
                })?;
                statements.push((statement, values.clone()));
            }
            prepared.push(statements);
        }
        Ok(Connection {
            server,
            session,
            prepared,
        })
    }
}

impl Manager for Connector {
    type Type = Connection;
    type Error = Failure;

    async fn create(&self) -> Result<Connection, Failure> {
        let mut refusal = None;
        for (server, endpoint) in (0..).zip(self.servers.iter()) {
            match self.open(server, endpoint).await {
                Ok(connection) => return Ok(connection),
                Err(error) => refusal = refusal.or(Some(error)),
            }
        }
        Err(refusal.expect("there is a primary"))
    }

    async fn recycle(&self, connection: &mut Connection, _: &Metrics) -> RecycleResult<Failure> {
        if connection.session.is_closed() {
            return Err(RecycleError::message("the connection is closed"));
        }
        Ok(())
    }
}

/// A pool of `size` connections. The caller's deadline bounds the wait for a connection; the pool's own time-out bounds its opening.
pub(super) fn pool(connector: Connector, size: usize) -> Pool<Connector> {
    let config = PoolConfig {
        max_size: size,
        timeouts: managed::Timeouts {
            wait: None,
            create: Some(2 * CONNECT_DEADLINE),
            recycle: None,
        },
        // First in, first out: every connection is used in turn, as in applications that keep all their connections warm.
        queue_mode: QueueMode::Fifo,
    };
    Pool::builder(connector)
        .config(config)
        .runtime(Runtime::Tokio1)
        .build()
        .expect("a runtime is given, which is all that time-outs need")
}

pub(super) fn open_failure(error: PoolError<Failure>) -> Failure {
    match error {
        PoolError::Backend(failure) => failure,
        other => Failure::lost(format!("no connection from the pool: {other}")),
    }
}
