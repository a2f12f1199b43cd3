//! A query on a standby that holds up replay: it may still see rows that the primary removes.

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

/// Between two runs of VACUUM on the primary.
const PAUSE: Duration = Duration::from_millis(100);
/// The query would end by itself so long after the fault; as long is waited for its end.
const DEADLINE: Duration = Duration::from_secs(10);

/// A query that runs. Dropped, it ends too.
#[derive(Debug)]
pub struct LongQuery {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<Option<Conflict>, ClusterError>>,
}

/// The standby has ended the query itself, because replay had waited for it as long as `max_standby_streaming_delay` allows.
#[derive(Debug, Clone)]
pub struct Conflict {
    pub at: Stamp,
    pub failure: Failure,
}

impl Cluster {
    /// Begins a query on a physical replica that takes longer than `length`, and removes rows on the primary that it may still see.
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
    /// Ends the query; whether the standby had done so before.
    pub async fn end(self) -> Result<Option<Conflict>, ClusterError> {
        // It may have ended.
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
    /// The process that runs the query.
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
            // The table stays as long as the fault: whoever ends that wants to hear of it.
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
                    // Its answer is that it was terminated.
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

    /// Removes rows, as long as the primary is there: another fault may have ended it.
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
