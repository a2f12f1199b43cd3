//! The result of a run's audit as text for a terminal: the promises that were kept in each mode, then a line for each promise that was
//! violated, and a line for each restore.

use itertools::Itertools as _;

use super::gates::{FAIL, PASS, verdict_line};
use crate::analyse::{Analysis, AuditLine, RestoreLine};
use crate::sample::{AuditCheck, AuditResult};
use crate::units::{plural, thousands};

/// The result of the audit. No line is wider than `width` characters.
pub fn text(analysis: &Analysis, width: usize) -> String {
    let of_modes = analysis.audit.chunk_by(|a, b| a.mode == b.mode);
    let told = of_modes.flat_map(|of_mode| {
        let restores = analysis.restores.iter();
        let restores = restores.filter(|it| it.mode == of_mode[0].mode);
        sentences(of_mode).into_iter().chain(restores.map(restored))
    });
    told.map(|(word, sentence)| verdict_line(word, &sentence, width))
        .collect()
}

/// The word for a result, four letters long.
pub(super) fn word(check: AuditCheck, result: AuditResult) -> &'static str {
    match (result, check) {
        (AuditResult::Pass, _) => PASS,
        (AuditResult::Permitted, AuditCheck::Present | AuditCheck::Suffix) => "LOST",
        (AuditResult::Permitted, _) => "NOTE",
        (AuditResult::Fail, _) => FAIL,
    }
}

/// The sentences about one mode, each with its word. `of_mode` has at least one line.
fn sentences(of_mode: &[AuditLine]) -> Vec<(&'static str, String)> {
    let AuditLine {
        mode,
        examined,
        nodes,
        ..
    } = &of_mode[0];
    let passed = |it: &&AuditLine| it.result == AuditResult::Pass;
    let (kept, broken): (Vec<_>, Vec<_>) = of_mode.iter().partition(passed);
    let broken = broken.into_iter().map(|it| {
        let word = word(it.check, it.result);
        (word, format!("{mode}: {}", it.evidence))
    });
    let mut told: Vec<_> = broken.collect();
    let kept = kept.into_iter().filter(|it| !it.check.is_of_a_restore());
    let (of_rows, others): (Vec<_>, Vec<_>) = kept.partition(|it| it.check.is_of_rows());
    if !of_rows.is_empty() {
        let promises = of_rows.iter().map(|it| it.check.promise()).join(", ");
        let examined = thousands(*examined);
        let sentence = format!("{mode}: {promises} ({examined} commits on each of {nodes} nodes)");
        told.push((PASS, sentence));
    }
    if !others.is_empty() {
        let promise = |it: &AuditLine| {
            let nodes = plural(it.nodes, "node");
            format!("{} (on {nodes})", it.check.promise())
        };
        let promises = others.into_iter().map(promise).join(", ");
        told.push((PASS, format!("{mode}: {promises}")));
    }
    told
}

/// What was found on a restored server, and the cell in which it was restored, with the word for the result.
pub(super) fn restored(line: &RestoreLine) -> (&'static str, String) {
    let RestoreLine {
        mode,
        cell_id,
        sentence,
        ..
    } = line;
    let word = word(AuditCheck::TargetReached, line.result);
    (word, format!("{mode}, cell {cell_id}: {sentence}"))
}
