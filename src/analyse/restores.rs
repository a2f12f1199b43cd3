//! Restores to a point in time: for each of them, a sentence about the commits that it restored.

use super::modes::ModesTable;
use super::outages::AuditLine;
use crate::record::Run;
use crate::sample::{AuditCheck, AuditResult, AuditRow};
use crate::units::plural;

/// One restore that ended at its target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreLine {
    pub mode: String,
    pub cell_id: u32,
    pub node: String,
    /// The worst result of all promises about the restore.
    pub result: AuditResult,
    /// Which commits were restored.
    pub sentence: String,
}

/// The restores in the order of the plan's modes, then of the cells.
pub(super) fn restore_lines(run: &Run, table: &ModesTable) -> Vec<RestoreLine> {
    let own = || run.audit.iter().filter(|row| row.check.is_of_a_restore());
    let worst = |row: &AuditRow| {
        let of_restore = own().filter(|it| (it.cell_id, &it.node) == (row.cell_id, &row.node));
        of_restore.map(|it| it.result).max().unwrap_or(row.result)
    };
    let mut lines = Vec::new();
    for mode in table.modes.iter().map(|it| it.mode.as_str()) {
        let cells = run.cells.iter().filter(|cell| cell.mode == mode);
        for cell in cells {
            let ended = |row: &&AuditRow| {
                row.cell_id == cell.cell_id
                    && row.check == AuditCheck::TargetReached
                    && row.violations == 0
            };
            lines.extend(own().filter(ended).map(|row| RestoreLine {
                mode: mode.into(),
                cell_id: row.cell_id,
                node: row.node.clone(),
                result: worst(row),
                sentence: row.detail.clone(),
            }));
        }
    }
    lines
}

/// A sentence for each mode in which all restores had the commits that they should have. If a restore had not, or did not reach its target,
/// an alarm says so instead.
pub(super) fn sentences(
    lines: &[RestoreLine],
    audit: &[AuditLine],
) -> impl Iterator<Item = String> {
    lines.chunk_by(|a, b| a.mode == b.mode).filter_map(|lines| {
        let first = lines.first()?;
        let mut own = audit.iter().filter(|it| it.mode == first.mode);
        let is_kept = own.all(|it| it.result == AuditResult::Pass || !it.check.is_of_a_restore());
        is_kept.then(|| {
            format!(
                "Under {} {} (to a name, an LSN or a time) had every commit acknowledged before the target and none sent after it.",
                first.mode,
                plural(lines.len(), "restore")
            )
        })
    })
}
