//! A server of a running cluster, and what a test does to it.

use std::collections::BTreeMap;
use std::time::Duration;

use replbench::pg::{self, Endpoint, Session};
use rustix::process::{Pid, Signal, kill_process};
use tokio_postgres::SimpleQueryMessage;

use super::block_on;

/// A server of a running cluster.
#[derive(Debug, Clone)]
pub struct Server {
    pub pid: i32,
    pub endpoint: Endpoint,
}

impl Server {
    /// Runs statements in a session of their own; the rows' columns as text.
    #[track_caller]
    pub fn sql(&self, statements: &str) -> Vec<Vec<Option<String>>> {
        match self.try_sql(statements) {
            Ok(rows) => rows,
            Err(error) => panic!("`{statements}` on {}: {error}", self.endpoint.node),
        }
    }

    pub fn try_sql(&self, statements: &str) -> Result<Vec<Vec<Option<String>>>, String> {
        block_on(async {
            let session = self.session().await?;
            let messages = session.client().simple_query(statements).await;
            let messages = messages.map_err(|error| pg::describe(&error).to_string())?;
            session.close().await;
            Ok(messages
                .into_iter()
                .filter_map(|message| match message {
                    SimpleQueryMessage::Row(row) => Some(
                        (0..row.len())
                            .map(|at| row.get(at).map(str::to_owned))
                            .collect(),
                    ),
                    _ => None,
                })
                .collect())
        })
    }

    /// The one number that a query answers with.
    #[track_caller]
    pub fn number(&self, query: &str) -> i64 {
        self.sql(query)[0][0].as_ref().unwrap().parse().unwrap()
    }

    pub async fn session(&self) -> Result<Session, String> {
        // What a test asks must not wait for a standby that it has stopped.
        pg::connect(
            &self.endpoint,
            "truth",
            Some("-c synchronous_commit=local"),
            Duration::from_secs(10),
        )
        .await
        .map_err(|error| error.to_string())
    }

    /// The postmaster and everything below it, the children first.
    pub fn family(&self) -> Vec<i32> {
        family(self.pid)
    }

    /// SIGSTOP to the whole server, until the guard is dropped.
    pub fn freeze(&self) -> Frozen {
        let pids = self.family();
        // The postmaster first, lest it start replacements.
        for pid in pids.iter().rev() {
            signal(*pid, Signal::STOP);
        }
        Frozen(pids)
    }
}

/// A stopped server. Dropping this lets it go on.
pub struct Frozen(Vec<i32>);

impl Drop for Frozen {
    fn drop(&mut self) {
        for pid in &self.0 {
            signal(*pid, Signal::CONT);
        }
    }
}

/// A process and its descendants, each after those below it.
fn family(root: i32) -> Vec<i32> {
    let mut below: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for process in procfs::process::all_processes().unwrap().flatten() {
        if let Ok(stat) = process.stat() {
            below.entry(stat.ppid).or_default().push(stat.pid);
        }
    }
    let (mut found, mut next) = (Vec::new(), vec![root]);
    while let Some(pid) = next.pop() {
        found.push(pid);
        next.extend(below.remove(&pid).unwrap_or_default());
    }
    found.reverse();
    found
}

/// One that has ended meanwhile takes no signal, and need not.
pub fn signal(pid: i32, signal: Signal) {
    let _ = kill_process(Pid::from_raw(pid).unwrap(), signal);
}
