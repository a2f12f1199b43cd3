//! What the audit of a run found, as text for a terminal: a line for each mode, one more for each promise that was violated, and one
//! for each restore.

use std::fmt::Write as _;

use super::escape_control;
use super::gates::Paint;
use crate::analyse::{Analysis, AuditLine, RestoreLine};
use crate::plan::fold;
use crate::sample::{AuditCheck, AuditResult};
use crate::units::{plural, thousands};

/// None wider than `width`.
pub fn text(analysis: &Analysis, width: usize, paint: Paint) -> String {
    const MARGIN: usize = 6;
    let mut out = String::new();
    for of_mode in analysis.audit.chunk_by(|a, b| a.mode == b.mode) {
        let restores = analysis.restores.iter();
        let restores = restores.filter(|it| of_mode.iter().any(|line| line.mode == it.mode));
        let told = sentences(of_mode).into_iter();
        for (word, sentence) in told.chain(restores.map(restored)) {
            let folded = fold(
                &escape_control(&sentence),
                width.saturating_sub(MARGIN).max(MARGIN),
            );
            for (index, part) in folded.iter().enumerate() {
                let colour = match word {
                    PASS => "32",
                    FAIL => "1;31",
                    _ => "33",
                };
                // Written to a string, which does not fail.
                let _ = match (index, paint) {
                    (0, Paint::Ansi) => {
                        writeln!(out, "\u{1b}[{colour}m{word}\u{1b}[0m  {part}")
                    }
                    (0, Paint::Plain) => writeln!(out, "{word}  {part}"),
                    _ => writeln!(out, "      {part}"),
                };
            }
        }
    }
    out
}

const PASS: &str = "PASS";
const FAIL: &str = "FAIL";

/// One word a result, four letters long.
pub(super) fn word(check: AuditCheck, result: AuditResult) -> &'static str {
    match (result, check) {
        (AuditResult::Pass, _) => PASS,
        (AuditResult::Permitted, AuditCheck::Present | AuditCheck::Suffix) => "LOST",
        (AuditResult::Permitted, _) => "NOTE",
        (AuditResult::Fail, _) => FAIL,
    }
}

fn sentences(of_mode: &[AuditLine]) -> Vec<(&'static str, String)> {
    let Some(first) = of_mode.first() else {
        return Vec::new();
    };
    let kept = of_mode
        .iter()
        .filter(|it| it.result == AuditResult::Pass && !it.check.is_of_a_restore());
    let (of_rows, others): (Vec<_>, Vec<_>) = kept.partition(|it| it.check.is_of_rows());
    let of_rows: Vec<_> = of_rows.iter().map(|it| it.check.promise()).collect();
    let others = others.iter().map(|it| {
        let nodes = plural(it.nodes, "node");
        format!("{} (on {nodes})", it.check.promise())
    });
    let others: Vec<_> = others.collect();
    let mut told = Vec::new();
    for line in of_mode.iter().filter(|it| it.result != AuditResult::Pass) {
        let word = word(line.check, line.result);
        told.push((word, format!("{}: {}", line.mode, line.evidence)));
    }
    if !of_rows.is_empty() {
        let sentence = format!(
            "{}: {} ({} commits on each of {} nodes)",
            first.mode,
            of_rows.join(", "),
            thousands(first.examined),
            first.nodes
        );
        told.push((PASS, sentence));
    }
    if !others.is_empty() {
        told.push((PASS, format!("{}: {}", first.mode, others.join(", "))));
    }
    told
}

/// What a restored server has, and in which cell it was made.
pub(super) fn restored(line: &RestoreLine) -> (&'static str, String) {
    let RestoreLine {
        mode,
        cell_id,
        sentence,
        result,
        ..
    } = line;
    let word = word(AuditCheck::TargetReached, *result);
    (word, format!("{mode}, cell {cell_id}: {sentence}"))
}
