//! Looks for rows and commits on the nodes when a cell has ended, and records what was found.

use std::time::Duration;

use super::RunError;
use super::audit::{self, Findings, Known, Ledger};
use super::cell::CellContext;
use super::cell_row::CellProgress;
use super::faults::Script;
use super::validity::Validity;
use crate::clock;
use crate::cluster::{RunningNode, await_caught_up};
use crate::pg;
use crate::pg::catalog;
use crate::pg::failover::is_in_recovery;
use crate::sample::{AuditCheck, AuditResult, AuditRow, EventKind, EventRow};

/// Time-out for connecting to a node.
const DEADLINE: Duration = Duration::from_secs(10);
/// The longest that replicas may take to catch up with the primary after the last fault.
const CATCH_UP: Duration = Duration::from_mins(1);

impl CellContext<'_> {
    /// The ledger of all acknowledged commits; `None` if the plan has no faults.
    pub(super) fn ledger(&self) -> Result<Option<Ledger>, RunError> {
        let is_kept = self.plan.is_audited_row_by_row();
        let ledger = is_kept.then(|| Ledger::create(self.recorder.directory()));
        ledger.transpose().map_err(RunError::Ledger)
    }

    /// Counts the rows of every node. After faults, also looks for every acknowledged commit.
    pub(super) async fn audit(
        &mut self,
        progress: &mut CellProgress,
        script: &Script<'_>,
        validity: &mut Validity,
    ) -> Result<(), RunError> {
        let nodes = script.nodes();
        let found = match progress.ledger.take() {
            Some(ledger) => {
                self.look_for_commits(ledger, progress, script, validity)
                    .await?
            }
            None => None,
        };
        let is_audited = found.is_some();
        let rejoined = script.rejoined();
        let timeline = progress.figures.timeline;
        let rows = progress.outages.rows(
            self.cell.id,
            timeline,
            self.plan.probes.visibility,
            found.as_ref(),
            &rejoined,
        );
        for row in rows {
            self.recorder.fault(&row)?;
        }
        for (_, rejoined) in rejoined {
            let name = &rejoined.node.node.name;
            let took = crate::units::format_duration(rejoined.took);
            validity.notes.push(format!(
                "`{name}` replicates again, by {} in {took}",
                rejoined.by
            ));
        }
        if let Some((name, None)) = script.replaced() {
            validity.notes.push(format!(
                "`{name}` stayed stopped after the failover, since a container does not come back as a standby, and nothing was looked for on it"
            ));
        }
        self.count_rows(progress, &nodes, is_audited, validity)
            .await
    }

    /// Looks for every acknowledged commit on every node. `None` if the nodes could not be compared: then the cell is invalid.
    async fn look_for_commits(
        &mut self,
        ledger: Ledger,
        progress: &CellProgress,
        script: &Script<'_>,
        validity: &mut Validity,
    ) -> Result<Option<Findings>, RunError> {
        let nodes = script.nodes();
        let figures = &progress.figures;
        let known = Known {
            row_changes: &figures.row_changes,
            unknown: figures.unknown,
            rowless: figures.arrival_counts.acknowledged() - ledger.entries(),
            primary_failed: figures.lag.primary_stopped_at(),
            primary_died: progress.outages.primary_died(),
        };
        let looked = async {
            let mut ledger = audit::sort(ledger).await?;
            let equal = await_caught_up(&nodes, CATCH_UP).await;
            equal.map_err(|error| error.to_string())?;
            let found = audit::audit(
                self.cell.id,
                (self.plan, self.mode),
                &nodes,
                &mut ledger,
                &known,
            );
            Ok((found.await?, ledger))
        };
        let (found, mut ledger) = match looked.await {
            Ok(found) => found,
            Err(problem) => {
                let problem: String = problem;
                validity.invalid.push(format!(
                    "whether every commit is there is unknown: {problem}"
                ));
                return Ok(None);
            }
        };
        self.take_audit(&found.rows, validity)?;
        let warned = figures.arrivals.acked_with_warning > 0;
        let reads = progress
            .reads
            .rows(self.cell.id, (self.plan, self.mode), &nodes, warned);
        self.take_audit(&reads, validity)?;
        match self.fenced(script, progress).await {
            Ok(row) => self.take_audit(row.as_slice(), validity)?,
            Err(problem) => validity.invalid.push(format!(
                "whether the old primary takes writes is unknown: {problem}"
            )),
        }
        let points = script.recovery_points();
        self.restore(&points, &mut ledger, &known, validity).await?;
        Ok(Some(found))
    }

    /// Checks that the old primary was fenced: that it acknowledged nothing after another node had replaced it, and takes no writes if it
    /// is back. `None` if there was no failover, or nothing to examine.
    async fn fenced(
        &self,
        script: &Script<'_>,
        progress: &CellProgress,
    ) -> Result<Option<AuditRow>, String> {
        let Some((name, back)) = script.replaced() else {
            return Ok(None);
        };
        let (acked, by_old) = progress.outages.acked_after_replacing();
        let examined = acked + u64::from(back.is_some());
        if examined == 0 {
            return Ok(None);
        }
        let mut broken = Vec::new();
        if by_old > 0 {
            broken.push(format!(
                "{by_old} commits that were sent after it had been stopped"
            ));
        }
        let mut takes_writes = false;
        if let Some(node) = back {
            let session = pg::connect(&node.endpoint, "replbench audit", None, DEADLINE).await;
            let session = session.map_err(|error| error.to_string())?;
            let is_standby = is_in_recovery(session.client()).await;
            session.close().await;
            takes_writes = !is_standby.map_err(|failure| failure.to_string())?;
        }
        if takes_writes {
            broken.push("it is no standby".into());
        }
        Ok(Some(AuditRow::new(
            self.cell.id,
            name,
            AuditCheck::Fenced,
            examined,
            by_old + u64::from(takes_writes),
            broken.join("; "),
        )))
    }

    /// Records the promises that were checked, and notes the broken ones.
    pub(super) fn take_audit(
        &mut self,
        rows: &[AuditRow],
        validity: &mut Validity,
    ) -> Result<(), RunError> {
        for row in rows {
            self.recorder.audit(row)?;
            if row.result == AuditResult::Fail {
                let violation = row.check.violation();
                validity.notes.push(format!(
                    "broken promise: {} of {} {violation} on `{}`",
                    row.violations, row.examined, row.node
                ));
            }
        }
        Ok(())
    }

    async fn count_rows(
        &mut self,
        progress: &CellProgress,
        nodes: &[RunningNode],
        is_audited: bool,
        validity: &mut Validity,
    ) -> Result<(), RunError> {
        let mut counts = Vec::new();
        let after = progress.figures.timeline.t_us(clock::now());
        for node in nodes {
            let name = &node.node.name;
            if progress.live.exited.contains(name) {
                continue;
            }
            match audit::count(self.plan, node).await {
                Ok(rows) => counts.extend(rows),
                Err(problem) => validity.invalid.push(format!(
                    "rows were not counted, so none may be missing: {problem}"
                )),
            }
            if let Some(errors) = apply_errors(node).await
                && errors > 0
            {
                let log = node.process.as_ref().map_or_else(String::new, |process| {
                    format!(" (its log: {})", process.log.display())
                });
                let sentence = format!("`{name}` met {errors} errors while applying changes{log}");
                // After a fault this is only a note: a stopped primary is such an error, and every commit has been looked for.
                validity.add(!is_audited, sentence);
            }
        }
        for count in &counts {
            self.recorder.event(&EventRow {
                node: Some(count.node.clone()),
                count: Some(count.rows),
                ..self.event(after, EventKind::Rows, &count.table)
            })?;
        }
        if is_audited {
            // The audit has checked row by row which rows may be there and which must be.
            return Ok(());
        }
        let behind: Vec<_> = progress
            .figures
            .unseen
            .iter()
            .filter(|(_, unseen)| **unseen > 0)
            .map(|(node, _)| node.as_str())
            .collect();
        let expected = audit::expected(
            self.plan,
            &progress.figures.row_changes,
            progress.figures.unknown,
        );
        let primary = &self.cluster.primary().node.name;
        for finding in audit::findings(&expected, &counts, primary, &behind) {
            self.recorder.event(&EventRow {
                node: Some(finding.node),
                ..self.event(after, EventKind::RowsWrong, &finding.detail)
            })?;
            validity.invalid.push(finding.detail);
        }
        Ok(())
    }
}

/// Errors that a subscriber has met while applying changes since it was made. `None` for other nodes, before PostgreSQL 15, and if the
/// node does not answer.
async fn apply_errors(node: &RunningNode) -> Option<i64> {
    if node.node.role.is_physical() {
        return None;
    }
    let deadline = Duration::from_secs(5);
    let session = pg::connect(&node.endpoint, "replbench audit", None, deadline)
        .await
        .ok()?;
    let errors = tokio::time::timeout(deadline, catalog::apply_errors(session.client()))
        .await
        .ok()?
        .ok()?;
    session.close().await;
    errors
}
