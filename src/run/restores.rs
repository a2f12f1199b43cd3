//! Restores the primary to each point in time that the faults of a cell took, and audits what is there.

use std::time::Duration;

use super::RunError;
use super::audit::restored::{self, Finding};
use super::audit::{Known, SortedLedger};
use super::cell::CellContext;
use super::validity::Validity;
use crate::cluster::{ClusterError, RecoveryPoint, RecoveryTarget};
use crate::sample::{AuditCheck, AuditRow};

/// The longest that the archive may take to receive all WAL of a cell.
const ARCHIVE: Duration = Duration::from_mins(1);
/// The longest that a restored server may take to reach its target.
const REPLAY: Duration = Duration::from_mins(10);

/// How a restore ended.
enum Outcome {
    /// The server ended before it reached its target, or did not reach the target in time.
    NotReached(String),
    /// Something else failed, so that nothing is known about the restore.
    Unknown(String),
    Audited(Finding),
}

impl CellContext<'_> {
    /// Restores one server after the other: to the name, to the LSN and to the time of every point. Audits and removes each.
    pub(super) async fn restore(
        &mut self,
        points: &[RecoveryPoint],
        ledger: &mut SortedLedger,
        known: &Known<'_>,
        validity: &mut Validity,
    ) -> Result<(), RunError> {
        if !self.plan.is_restored() {
            return Ok(());
        }
        if points.is_empty() || self.interrupt.level() > 0 {
            let note = "nothing was restored, because the load ended early";
            validity.notes.push(note.into());
            return Ok(());
        }
        if let Err(error) = self.cluster.await_archived(ARCHIVE).await {
            let unknown = format!("whether it can be restored is unknown: {error}");
            validity.invalid.push(unknown);
            return Ok(());
        }
        for (index, point) in points.iter().enumerate() {
            let mut by_name = None;
            for target in point.targets() {
                let name = match (target.kind(), index) {
                    (kind, 0) => format!("restored-to-{kind}"),
                    (kind, index) => format!("restored-to-{kind}-{}", index + 1),
                };
                let mut interrupt = self.interrupt.clone();
                let outcome = tokio::select! {
                    outcome = self.restore_to(point, &target, &name, ledger) => Some(outcome),
                    _ = interrupt.raised() => None,
                };
                // The server is removed, however the restore ended.
                self.cluster.remove_restored(&name).await?;
                let found = match outcome {
                    None => {
                        let note =
                            "not every target was restored to, because the run was cut short";
                        validity.notes.push(note.into());
                        return Ok(());
                    }
                    Some(Outcome::Unknown(problem)) => {
                        let unknown = format!("whether it can be restored is unknown: {problem}");
                        validity.invalid.push(unknown);
                        continue;
                    }
                    Some(Outcome::NotReached(problem)) => {
                        let check = AuditCheck::TargetReached;
                        let row = AuditRow::new(self.cell.id, &name, check, 1, 1, problem);
                        self.take_audit(&[row], validity)?;
                        continue;
                    }
                    Some(Outcome::Audited(found)) => found,
                };
                let twin = by_name.as_ref();
                let rows = restored::check(self.cell.id, self.plan, &found, twin, known);
                self.take_audit(&rows, validity)?;
                if matches!(target, RecoveryTarget::Name(_)) {
                    by_name = Some(found);
                }
            }
        }
        Ok(())
    }

    async fn restore_to(
        &self,
        point: &RecoveryPoint,
        target: &RecoveryTarget,
        name: &str,
        ledger: &mut SortedLedger,
    ) -> Outcome {
        let restored = match self.cluster.restore_to(target, name, REPLAY).await {
            Ok(restored) => restored,
            Err(error @ (ClusterError::Ended { .. } | ClusterError::Late { .. })) => {
                return Outcome::NotReached(in_short(&error.to_string()));
            }
            Err(error) => return Outcome::Unknown(error.to_string()),
        };
        let subject = (target, &restored);
        let primary = self.cluster.primary();
        let found = restored::look_at(self.plan, point, subject, primary, ledger).await;
        match found {
            Ok(found) => Outcome::Audited(found),
            Err(problem) => Outcome::Unknown(problem),
        }
    }
}

/// Shortens an error: drops the end of the log, except for the last FATAL message that gives a reason. A message to a connecting client,
/// such as `the database system is in recovery mode`, gives none.
fn in_short(error: &str) -> String {
    let head = error.split("; the end of its log").next().unwrap_or(error);
    let lines = error.lines().rev();
    let mut fatal = lines.filter_map(|line| Some(line.split_once("FATAL:")?.1.trim()));
    match fatal.find(|reason| !reason.starts_with("the database system is ")) {
        Some(reason) => format!("{head}: {reason}"),
        None => head.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_log_the_last_fatal_is_kept() {
        let error = "the server of `r` exited with status 1; the end of its log /tmp/r/server.log:\n    \
                     2026 [7] LOG:  redo done\n    2026 [7] FATAL:  recovery ended before configured recovery target was reached\n    \
                     2026 [8] FATAL:  the database system is in recovery mode\n    2026 [6] LOG:  shutting down";
        assert_eq!(
            in_short(error),
            "the server of `r` exited with status 1: recovery ended before configured recovery target was reached"
        );
        assert_eq!(
            in_short("`r` did not start within 1 s"),
            "`r` did not start within 1 s"
        );
    }
}
