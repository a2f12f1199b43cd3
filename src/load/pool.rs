//! The pool of one load thread: deadpool over connections that know their prepared statements and hear warnings.
//!
//! deadpool-postgres would discard the notices by which a cancelled wait for synchronous replication is known, so the
//! manager is our own; the pool itself is deadpool's.

use std::sync::Arc;
use std::time::Duration;

use deadpool::managed::{
    Manager, Metrics, Pool, PoolConfig, QueueMode, RecycleError, RecycleResult,
};
use deadpool::{Runtime, managed};
use tokio_postgres::{Error, Statement};

use super::rows::{Product, User};
use crate::clock::{self, Stamp};
use crate::pg::{self, ConnectError, Endpoint, Session, Xid8};

/// Connecting and preparing together may take so long.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);

/// What every connection of a run is opened with.
#[derive(Debug)]
pub(super) struct Connector {
    pub(super) endpoint: Endpoint,
    /// SQL by transaction of the mix.
    pub(super) statements: Arc<[Vec<String>]>,
}

/// A connection of the pool.
#[derive(Debug)]
pub(super) struct Connection {
    session: Session,
    prepared: Vec<Vec<Statement>>,
}

/// Parameters of one transaction, made before a connection is asked for.
#[derive(Debug)]
pub(super) enum Work {
    Product(Product),
    User(User),
    Stock { id: i64 },
    Order { id: i64, quantity: i32 },
}

/// What a committed transaction told.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reply {
    pub(super) xid: u64,
    pub(super) key: i64,
    /// When COMMIT was sent, if it was a message of its own.
    pub(super) commit_sent: Option<Stamp>,
    pub(super) warned: bool,
}

impl Connection {
    /// Runs one transaction of the mix. `None`: the statement met no row, so nothing was committed that could be seen.
    pub(super) async fn run(&self, index: usize, work: &Work) -> Result<Option<Reply>, Error> {
        let warnings = self.session.warnings().count();
        let statements = &self.prepared[index];
        let client = self.session.client();
        let (row, commit_sent) = match work {
            Work::Product(product) => (
                client
                    .query_opt(
                        &statements[0],
                        &[&product.name, &product.price, &product.stock],
                    )
                    .await?,
                None,
            ),
            Work::User(user) => (
                client
                    .query_opt(&statements[0], &[&user.name, &user.email])
                    .await?,
                None,
            ),
            Work::Stock { id } => (client.query_opt(&statements[0], &[id]).await?, None),
            Work::Order { id, quantity } => {
                client.batch_execute("BEGIN").await?;
                client.execute(&statements[0], &[id, quantity]).await?;
                let row = client.query_opt(&statements[1], &[id, quantity]).await?;
                let commit_sent = clock::now();
                client.batch_execute("COMMIT").await?;
                (row, Some(commit_sent))
            }
        };
        let Some(row) = row else { return Ok(None) };
        let Xid8(xid) = row.try_get(0)?;
        Ok(Some(Reply {
            xid,
            key: row.try_get(1)?,
            commit_sent,
            warned: self.session.warnings().count() > warnings,
        }))
    }

    /// Ends a transaction that failed half-way, so that the connection can serve the next one.
    pub(super) async fn roll_back(&self) -> Result<(), Error> {
        self.session.client().batch_execute("ROLLBACK").await
    }
}

/// A connection that could not be made ready.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("cannot prepare `{sql}`: {failure}")]
    Prepare { sql: String, failure: pg::Failure },
}

impl OpenError {
    pub(super) fn sqlstate(&self) -> String {
        match self {
            Self::Connect(error) => error.sqlstate(),
            Self::Prepare { failure, .. } => failure.sqlstate.as_ref(),
        }
        .map_or_else(String::new, |state| state.code().to_owned())
    }
}

impl Manager for Connector {
    type Type = Connection;
    type Error = OpenError;

    async fn create(&self) -> Result<Connection, OpenError> {
        let session = pg::connect(&self.endpoint, "replbench load", None, CONNECT_DEADLINE).await?;
        let mut prepared = Vec::with_capacity(self.statements.len());
        for transaction in self.statements.iter() {
            let mut statements = Vec::with_capacity(transaction.len());
            for sql in transaction {
                let statement = session.client().prepare(sql).await;
                statements.push(statement.map_err(|error| OpenError::Prepare {
                    sql: sql.clone(),
                    failure: pg::describe(&error),
                })?);
            }
            prepared.push(statements);
        }
        Ok(Connection { session, prepared })
    }

    async fn recycle(&self, connection: &mut Connection, _: &Metrics) -> RecycleResult<OpenError> {
        if connection.session.is_closed() {
            return Err(RecycleError::message("the connection is closed"));
        }
        Ok(())
    }
}

/// A pool of `size` connections. Waiting for one is bounded by the caller's deadline, opening one by ours.
pub(super) fn pool(connector: Connector, size: usize) -> Pool<Connector> {
    let config = PoolConfig {
        max_size: size,
        timeouts: managed::Timeouts {
            wait: None,
            create: Some(2 * CONNECT_DEADLINE),
            recycle: None,
        },
        // First in, first out: every connection is used in turn, as by applications that keep theirs warm.
        queue_mode: QueueMode::Fifo,
    };
    Pool::builder(connector)
        .config(config)
        .runtime(Runtime::Tokio1)
        .build()
        .expect("a runtime is given, which is all that time-outs need")
}
