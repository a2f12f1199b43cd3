//! What faults did to each mode: how long nothing was acknowledged, what was lost, and which promises the audit found to be kept.

use std::collections::BTreeMap;

use super::modes::{MICROS, ModeFigures, ModesTable, scaled};
use super::stats::Estimate;
use crate::record::Run;
use crate::sample::{AuditCheck, AuditResult, AuditRow, FaultRow};
use crate::units::{format_bytes, format_seconds, plural, thousands};

/// What faults that stopped the primary did in a mode, over its valid repetitions. Times are in seconds.
#[derive(Debug, Clone)]
pub struct ModeOutages {
    pub mode: String,
    /// Acknowledged commits that the audit looked for in the valid repetitions.
    pub looked_for: u64,
    /// Acknowledged commits that were lost, in each valid repetition for which that is known.
    pub lost: Vec<u64>,
    /// Valid repetitions in which nothing was acknowledged after a fault.
    pub without_end: usize,
    /// From the acknowledgement of the first lost commit to the fault, the longest time of all repetitions.
    pub lost_span: Option<f64>,
    /// Bytes of WAL of the old primary that the new primary did not have: a lower bound, and the most of all repetitions.
    pub lost_wal: Option<i64>,
    pub rto: Option<Estimate>,
    pub unavailability: Option<Estimate>,
    pub rejoin: Option<Estimate>,
}

/// The audit of one promise over all cells and nodes of a mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditLine {
    pub mode: String,
    pub check: AuditCheck,
    /// The worst result of all cells and nodes.
    pub result: AuditResult,
    pub nodes: usize,
    /// Commits or rows that were examined in all cells, on the node with the most violations.
    pub examined: u64,
    /// Commits or rows that violate the promise in all cells, on the same node.
    pub violations: u64,
    /// What was found on the node and in the cell with the worst result; empty if nothing violates the promise.
    pub evidence: String,
}

/// The modes whose primary was stopped, in the order of the plan.
pub(super) fn outages(run: &Run, table: &ModesTable) -> Vec<ModeOutages> {
    let of_mode = |mode: &ModeFigures| {
        let cells = run.cells.iter();
        let cells = cells.filter(|it| it.mode == mode.mode && it.valid);
        let (mut looked_for, mut lost, mut without_end) = (0, Vec::new(), 0);
        let (mut span, mut wal) = (None, None);
        for cell in cells {
            let own = |it: &&FaultRow| it.cell_id == cell.cell_id && it.stops_primary;
            let faults: Vec<_> = run.faults.iter().filter(own).collect();
            // Each fault row of a cell has the number of commits lost in the whole cell, and each node is audited for the same commits.
            lost.extend(faults.iter().find_map(|it| it.lost));
            let present =
                |it: &&AuditRow| it.cell_id == cell.cell_id && it.check == AuditCheck::Present;
            looked_for += run.audit.iter().find(present).map_or(0, |it| it.examined);
            without_end += usize::from(faults.iter().any(|it| it.rto_us.is_none()));
            span = span.max(faults.iter().filter_map(|it| it.lost_span_us).max());
            wal = wal.max(faults.iter().filter_map(|it| it.lost_wal_bytes).max());
        }
        let figure = |name: &str| scaled(mode.summary.worst(name, "value"), MICROS);
        (!lost.is_empty() || figure("rto").is_some()).then(|| ModeOutages {
            mode: mode.mode.clone(),
            looked_for,
            lost,
            without_end,
            lost_span: span.map(|us| us as f64 / 1e6),
            lost_wal: wal,
            rto: figure("rto"),
            unavailability: figure("unavailability"),
            rejoin: figure("rejoin"),
        })
    };
    table.modes.iter().filter_map(of_mode).collect()
}

/// The audit of every promise in every mode, in the order of the plan.
pub(super) fn audit_lines(run: &Run, table: &ModesTable) -> Vec<AuditLine> {
    let mode_of: BTreeMap<u32, &str> = run
        .cells
        .iter()
        .map(|cell| (cell.cell_id, cell.mode.as_str()))
        .collect();
    let mut lines = Vec::new();
    for mode in table.modes.iter().map(|it| it.mode.as_str()) {
        let mut by_check: BTreeMap<AuditCheck, Vec<&AuditRow>> = BTreeMap::new();
        let own = |row: &&AuditRow| mode_of.get(&row.cell_id) == Some(&mode);
        for row in run.audit.iter().filter(own) {
            by_check.entry(row.check).or_default().push(row);
        }
        lines.extend(by_check.into_values().filter_map(|rows| line(mode, &rows)));
    }
    lines
}

fn line(mode: &str, rows: &[&AuditRow]) -> Option<AuditLine> {
    let worst = rows.iter().max_by_key(|row| (row.result, row.violations))?;
    let evidence = if worst.violations == 0 {
        String::new()
    } else {
        let detail = match worst.detail.as_str() {
            "" => String::new(),
            detail => format!(": {detail}"),
        };
        format!(
            "{} of {} {} on `{}` in cell {}{detail}",
            thousands(worst.violations),
            thousands(worst.examined),
            worst.check.violation(),
            worst.node,
            worst.cell_id
        )
    };
    let mut by_node: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for row in rows {
        let (violations, examined) = by_node.entry(&row.node).or_default();
        *violations += row.violations;
        *examined += row.examined;
    }
    let (violations, examined) = by_node.values().copied().max()?;
    Some(AuditLine {
        mode: mode.into(),
        check: worst.check,
        result: worst.result,
        nodes: by_node.len(),
        examined,
        violations,
        evidence,
    })
}

/// A sentence for each broken promise, to be shown before everything else.
pub(super) fn alarms(lines: &[AuditLine]) -> impl Iterator<Item = String> {
    let broken = lines.iter().filter(|it| it.result == AuditResult::Fail);
    broken.map(|it| {
        format!(
            "Broken promise under {}: {}. But {}.",
            it.mode,
            it.check.promise(),
            it.evidence
        )
    })
}

/// A sentence for each mode about what stopping the primary cost.
pub(super) fn sentences(outages: &[ModeOutages]) -> impl Iterator<Item = String> {
    outages.iter().map(sentence)
}

fn sentence(it: &ModeOutages) -> String {
    let repetitions = plural(it.lost.len(), "repetition");
    let looked_for = thousands(it.looked_for);
    let sum: u64 = it.lost.iter().sum();
    let lost = match (it.lost.iter().min(), it.lost.iter().max()) {
        (Some(_), Some(0)) => {
            format!("none of {looked_for} acknowledged commits was lost in {repetitions}")
        }
        (Some(least), Some(most)) => {
            let each = format!("{} to {} in each", thousands(*least), thousands(*most));
            let span = it.lost_span.map(|span| {
                let span = format_seconds(span);
                format!("the first of them acknowledged up to {span} before the fault")
            });
            let each = Some(each).filter(|_| it.lost.len() > 1);
            let wal = it
                .lost_wal
                .filter(|bytes| *bytes > 0)
                .map(|bytes| format!("with at least {} of WAL", format_bytes(bytes as f64)));
            let details: Vec<_> = each.into_iter().chain(span).chain(wal).collect();
            format!(
                "{} of {looked_for} acknowledged commits were lost in {repetitions} ({})",
                thousands(sum),
                details.join(", ")
            )
        }
        _ => "it is unknown what was lost".into(),
    };
    format!(
        "When the primary was stopped under {}, {lost}; {}.",
        it.mode,
        again(it)
    )
}

/// When commits were acknowledged again, as text. If in some repetitions none was, only the median over the repetitions is known.
fn again(it: &ModeOutages) -> String {
    let found = it.rto.filter(|rto| rto.value.is_finite());
    let Some(rto) = found else {
        return "in half of the repetitions or more no commit was acknowledged after it".into();
    };
    let value = format_seconds(rto.value);
    if it.without_end > 0 {
        let ended = plural(it.without_end, "repetition");
        return format!(
            "commits were acknowledged again {value} after the fault (median), and not at all in {ended}"
        );
    }
    let interval = rto.interval.map_or_else(String::new, |interval| {
        let (lo, hi) = (format_seconds(interval.lo), format_seconds(interval.hi));
        format!(", 95 % interval {lo} to {hi}")
    });
    let mean = if rto.n > 1 { "mean" } else { "one repetition" };
    format!("commits were acknowledged again {value} after the fault ({mean}{interval})")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyse::stats::Interval;

    #[test]
    fn a_repetition_without_end_is_not_left_out() {
        let estimate = |value, interval| Estimate {
            value,
            interval,
            n: 3,
        };
        let mut outages = ModeOutages {
            mode: "async".into(),
            looked_for: 1_000,
            lost: vec![3, 0, 5],
            without_end: 0,
            lost_span: Some(0.2),
            lost_wal: Some(2_048),
            rto: Some(estimate(0.1, Some(Interval { lo: 0.08, hi: 0.12 }))),
            unavailability: None,
            rejoin: None,
        };
        assert_eq!(
            sentence(&outages),
            "When the primary was stopped under async, 8 of 1,000 acknowledged commits were lost in 3 repetitions (0 to 5 in each, \
             the first of them acknowledged up to 200 ms before the fault, with at least 2.00 kiB of WAL); commits were acknowledged again \
             100 ms after the fault (mean, 95 % interval 80.0 ms to 120 ms)."
        );
        outages.without_end = 1;
        outages.rto = Some(estimate(0.3, None));
        let text = sentence(&outages);
        assert!(
            text.ends_with("300 ms after the fault (median), and not at all in 1 repetition."),
            "{text}"
        );
        outages.rto = Some(estimate(f64::INFINITY, None));
        let text = sentence(&outages);
        assert!(
            text.ends_with("no commit was acknowledged after it."),
            "{text}"
        );
    }
}
