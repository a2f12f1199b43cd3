//! A long query on a standby that conflicts with replay, because it may still see rows that the primary removes.

use std::pin::pin;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::error::ClusterError;
use super::{Cluster, RunningNode, admin, query};
use crate::clock::{self, Stamp};
use crate::pg::fault::{self as sql, DeadRows};
use crate::pg::provisioning::execute;
use crate::pg::{Failure, Session};

/// The interval between runs of VACUUM on the primary.
const PAUSE: Duration = Duration::from_millis(100);
/// How long after the requested length the query would end by itself. Also the time-out for the end of the query once it is terminated.
const DEADLINE: Duration = Duration::from_secs(10);

/// A running query. Dropping the value ends the query too.
#[derive(Debug)]
pub struct LongQuery {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<Option<Conflict>, ClusterError>>,
}

/// The standby cancelled the query because replay had waited for it as long as `max_standby_streaming_delay` allows.
#[derive(Debug, Clone)]
pub struct Conflict {
    pub at: Stamp,
    pub failure: Failure,
}

impl Cluster {
    /// Begins a query on a physical replica that takes longer than `length`, and removes rows on the primary that the query may still see.
    pub async fn begin_long_query(
        &self,
        name: &str,
        length: Duration,
    ) -> Result<LongQuery, ClusterError> {
        let (standby, primary) = (self.node(name)?.clone(), self.primary().clone());
        let session = admin(&standby.endpoint).await?;
        let backend = sql::hold_snapshot(session.client())
            .await
            .map_err(query(&standby, "begin a long query"))?;
        let vacuum = admin(&primary.endpoint).await?;
        let rows = DeadRows::statements();
        execute(vacuum.client(), &rows.create)
            .await
            .map_err(query(&primary, "make a table to vacuum"))?;
        let (stop, stopped) = oneshot::channel();
        let running = Running {
            rows,
            standby,
            session,
            backend,
            primary,
            vacuum,
        };
        let task = tokio::spawn(running.go_on(length, stopped));
        Ok(LongQuery { stop, task })
    }
}

impl LongQuery {
    /// Ends the query. Returns the conflict if the standby had cancelled the query before.
    pub async fn end(self) -> Result<Option<Conflict>, ClusterError> {
        // Sending fails only if the task has ended already.
        let _ = self.stop.send(());
        // The task does not panic, and nothing aborts it.
        self.task.await.unwrap_or(Ok(None))
    }
}

#[derive(Debug)]
struct Running {
    rows: DeadRows,
    standby: RunningNode,
    session: Session,
    /// The process id of the backend that runs the query.
    backend: i32,
    primary: RunningNode,
    vacuum: Session,
}

impl Running {
    async fn go_on(
        self,
        length: Duration,
        mut stopped: oneshot::Receiver<()>,
    ) -> Result<Option<Conflict>, ClusterError> {
        let conflict = self.until(length, &mut stopped).await?;
        if conflict.is_some() {
            // The conflict is reported when the fault is ended. The table is kept until then.
            let _ = stopped.await;
        }
        self.on_primary(&self.rows.drop).await?;
        self.session.close().await;
        self.vacuum.close().await;
        Ok(conflict)
    }

    async fn until(
        &self,
        length: Duration,
        stopped: &mut oneshot::Receiver<()>,
    ) -> Result<Option<Conflict>, ClusterError> {
        let mut slept = pin!(sql::sleep(self.session.client(), length + DEADLINE));
        loop {
            tokio::select! {
                ended = &mut slept => {
                    let at = clock::now();
                    return Ok(ended.err().map(|failure| Conflict { at, failure }));
                }
                _ = &mut *stopped => {
                    self.terminate().await?;
                    // The query fails because it was terminated, so its result is ignored.
                    let _ = tokio::time::timeout(DEADLINE, &mut slept).await;
                    return Ok(None);
                }
                () = tokio::time::sleep(PAUSE) => {
                    for statement in &self.rows.remove {
                        self.on_primary(statement).await?;
                    }
                }
            }
        }
    }

    /// Executes a statement on the primary. A lost connection is no error, because another fault may have ended the primary.
    async fn on_primary(&self, statement: &str) -> Result<(), ClusterError> {
        match execute(self.vacuum.client(), statement).await {
            Err(failure) if failure.connection_lost => Ok(()),
            done => done.map_err(query(&self.primary, "remove rows")),
        }
    }

    async fn terminate(&self) -> Result<(), ClusterError> {
        self.standby
            .ask("end the long query", async |client| {
                sql::terminate(client, self.backend).await
            })
            .await
    }
}
