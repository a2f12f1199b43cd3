//! One turn of one tool: the same start for both, and a count of the rows that each claims to have written.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use replbench::cluster::Cluster;
use replbench::histogram::Histogram;
use replbench::load::workload;
use replbench::pg::{self, Session};
use replbench::plan::Plan;

use crate::scenario::{Phases, Scenario};

const CONNECT: Duration = Duration::from_secs(10);
const CATCH_UP: Duration = Duration::from_secs(30);

/// What a turn works with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Turn<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) plan: &'a Plan,
    pub(crate) scenario: Scenario,
    pub(crate) phases: Phases,
    pub(crate) seed: u64,
    pub(crate) scratch: &'a Path,
}

/// What one tool did in the measured window of its turn.
#[derive(Debug)]
pub(crate) struct Figures {
    pub(crate) window: Duration,
    /// Acknowledged within the window.
    pub(crate) answered: u64,
    /// Due within it; `None` in a closed loop.
    pub(crate) offered: Option<u64>,
    /// Of the threads that offer load: all of pgbench.
    pub(crate) load_cpu: Duration,
    /// Of replbench's probe thread.
    pub(crate) probe_cpu: Duration,
    /// Of the whole process.
    pub(crate) process_cpu: Duration,
    pub(crate) service: Histogram,
    pub(crate) start_lag: Histogram,
    /// Rows written in the whole turn, warm-up included, as the tool has it.
    pub(crate) rows: u64,
    pub(crate) visibility: Option<Visibility>,
}

/// Proof that visibility was recorded.
#[derive(Debug)]
pub(crate) struct Visibility {
    pub(crate) p50_us: Option<f64>,
    pub(crate) commits: u64,
    pub(crate) unseen: u64,
}

impl Turn<'_> {
    /// Lets a tool run between an empty table and a count of its rows.
    pub(crate) async fn of(
        &self,
        tool: &str,
        run: impl AsyncFnOnce(&Self) -> anyhow::Result<Figures>,
    ) -> anyhow::Result<Figures> {
        self.prepare().await?;
        let figures = run(self).await.with_context(|| format!("{tool}'s turn"))?;
        self.verify(tool, &figures).await?;
        Ok(figures)
    }

    /// Empty tables, a standby that has caught up, nothing left to write back.
    async fn prepare(&self) -> anyhow::Result<()> {
        let session = self.connect().await?;
        for (statement, _) in workload::reset(self.plan) {
            session.client().batch_execute(&statement).await?;
        }
        session.close().await;
        self.cluster.await_caught_up(CATCH_UP).await?;
        self.cluster.checkpoint().await?;
        ensure!(self.count().await? == 0, "the table is not empty");
        Ok(())
    }

    async fn verify(&self, tool: &str, figures: &Figures) -> anyhow::Result<()> {
        let found = self.count().await?;
        ensure!(
            found == figures.rows,
            "{tool} claims {} rows, and the table has {found}",
            figures.rows
        );
        ensure!(figures.answered > 0, "{tool} got no answer in the window");
        Ok(())
    }

    async fn count(&self) -> anyhow::Result<u64> {
        let session = self.connect().await?;
        let table = self.plan.tables[0].qualified();
        let row = session
            .client()
            .query_one(&format!("SELECT count(*) FROM {table}"), &[])
            .await?;
        session.close().await;
        Ok(row.try_get::<_, i64>(0)?.cast_unsigned())
    }

    async fn connect(&self) -> anyhow::Result<Session> {
        let endpoint = &self.cluster.primary().endpoint;
        Ok(pg::connect(endpoint, "vs-pgbench", None, CONNECT).await?)
    }
}
