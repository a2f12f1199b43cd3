//! What servers do of their own accord while a cell is measured: autovacuum and full-page images. Knows which nodes do that. The
//! statistics of a server may be up to a second late, because the server reports them late.

use std::time::Duration;

use tokio::task::JoinHandle;

use crate::clock::{self, Stamp};
use crate::cluster::{Cluster, RunningNode};
use crate::pg::catalog::{self, MaintenanceCounters};
use crate::pg::{self, Endpoint, Session};
use crate::topology::Role;

/// Time-out of a query. A query takes milliseconds, and a stopped server must not delay the end of the cell.
const DEADLINE: Duration = Duration::from_secs(5);

/// What was done from the start of the measurement to the end of the drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Maintenance {
    /// Runs of autovacuum, vacuum or analyze, on the primary and on subscribers.
    pub(super) autovacuums: u64,
    /// Full-page images in the primary's WAL.
    pub(super) full_page_images: u64,
}

/// Sessions with the nodes that vacuum by themselves, and the nodes' counters when the measurement began.
pub(super) struct Watch(JoinHandle<Option<Vec<(Session, MaintenanceCounters)>>>);

impl Watch {
    /// Connects at once, so that no session has to be opened when the measurement begins. The counters are read then.
    pub(super) fn begin(cluster: &Cluster, measure_from: Stamp) -> Self {
        let vacuums = |node: &&RunningNode| {
            // Standbys replay what the primary's vacuum did.
            matches!(node.node.role, Role::Primary | Role::Subscriber)
        };
        let nodes = cluster.nodes().iter().filter(vacuums);
        let endpoints: Vec<Endpoint> = nodes.map(|node| node.endpoint.clone()).collect();
        Self(tokio::spawn(async move {
            let mut sessions = Vec::new();
            for endpoint in &endpoints {
                let session = pg::connect(endpoint, "replbench audit", None, DEADLINE).await;
                sessions.push(session.ok()?);
            }
            tokio::time::sleep(measure_from.since(clock::now())).await;
            let mut counted = Vec::new();
            for session in sessions {
                let counters = ask(&session).await?;
                counted.push((session, counters));
            }
            Some(counted)
        }))
    }

    /// What was done since the measurement began; `None` if a node did not answer.
    pub(super) async fn end(mut self) -> Option<Maintenance> {
        // The counters are read when the measurement begins. If they have not been read by now, the measurement never began.
        if !self.0.is_finished() {
            return None;
        }
        let counted = (&mut self.0).await.ok()??;
        let mut done = Maintenance {
            autovacuums: 0,
            full_page_images: 0,
        };
        // The primary comes first in every cluster.
        for (index, (session, before)) in counted.into_iter().enumerate() {
            let after = ask(&session).await?;
            session.close().await;
            done.autovacuums += positive(after.autovacuums - before.autovacuums);
            if index == 0 {
                let images = after.full_page_images - before.full_page_images;
                done.full_page_images = positive(images);
            }
        }
        Some(done)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn ask(session: &Session) -> Option<MaintenanceCounters> {
    let asked = tokio::time::timeout(DEADLINE, catalog::maintenance(session.client())).await;
    asked.ok()?.ok()
}

fn positive(difference: i64) -> u64 {
    u64::try_from(difference).unwrap_or(0)
}
