//! What the audit of a run found, as text for a terminal: a line for each mode, one more for each promise that was violated, and one
//! for each restore.

use std::fmt::Write as _;

use super::escape_control;
use super::gates::Paint;
use crate::analyse::{Analysis, AuditLine, RestoreLine};
use crate::plan::fold;
use crate::sample::AuditResult;
use crate::units::thousands;

/// None wider than `width`.
pub fn text(analysis: &Analysis, width: usize, paint: Paint) -> String {
    const MARGIN: usize = 6;
    let mut out = String::new();
    for of_mode in analysis.audit.chunk_by(|a, b| a.mode == b.mode) {
        let restores = analysis.restores.iter();
        let restores = restores.filter(|it| of_mode.iter().any(|line| line.mode == it.mode));
        let told = sentences(of_mode).into_iter();
        for (result, sentence) in told.chain(restores.map(restored)) {
            let folded = fold(
                &escape_control(&sentence),
                width.saturating_sub(MARGIN).max(MARGIN),
            );
            for (index, part) in folded.iter().enumerate() {
                let head = match (index, result, paint) {
                    (0, AuditResult::Pass, Paint::Ansi) => "\u{1b}[32mPASS\u{1b}[0m",
                    (0, AuditResult::Permitted, Paint::Ansi) => "\u{1b}[33mLOST\u{1b}[0m",
                    (0, AuditResult::Fail, Paint::Ansi) => "\u{1b}[1;31mFAIL\u{1b}[0m",
                    (0, result, Paint::Plain) => word(result),
                    _ => "    ",
                };
                // Written to a string, which does not fail.
                let _ = writeln!(out, "{head}  {part}");
            }
        }
    }
    out
}

/// One word a result, four letters long.
pub(super) fn word(result: AuditResult) -> &'static str {
    match result {
        AuditResult::Pass => "PASS",
        AuditResult::Permitted => "LOST",
        AuditResult::Fail => "FAIL",
    }
}

fn sentences(of_mode: &[AuditLine]) -> Vec<(AuditResult, String)> {
    let Some(first) = of_mode.first() else {
        return Vec::new();
    };
    let kept: Vec<_> = of_mode
        .iter()
        .filter(|it| it.result == AuditResult::Pass && !it.check.is_of_a_restore())
        .map(|it| it.check.promise())
        .collect();
    let mut told = Vec::new();
    for line in of_mode.iter().filter(|it| it.result != AuditResult::Pass) {
        told.push((line.result, format!("{}: {}", line.mode, line.evidence)));
    }
    if !kept.is_empty() {
        let sentence = format!(
            "{}: {} ({} commits on each of {} nodes)",
            first.mode,
            kept.join(", "),
            thousands(first.examined),
            first.nodes
        );
        told.push((AuditResult::Pass, sentence));
    }
    told
}

/// What a restored server has, and in which cell it was made.
pub(super) fn restored(line: &RestoreLine) -> (AuditResult, String) {
    let RestoreLine {
        mode,
        cell_id,
        sentence,
        ..
    } = line;
    (line.result, format!("{mode}, cell {cell_id}: {sentence}"))
}
