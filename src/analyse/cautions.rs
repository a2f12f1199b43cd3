//! Warnings that a reader needs before the figures of a run: that it is invalid or was cut short, that the servers were offered more than
//! they could answer, that the host was busy, that transactions failed. They come from the manifest and the counts in `cells.csv`.

use itertools::Itertools as _;

use crate::record::{Manifest, RunStatus};
use crate::sample::CellRow;
use crate::units::{format_rate, plural, thousands, with_headroom};

/// A run that does not record whether it was overloaded counts as overloaded if fewer than this share of its arrivals were answered.
const ANSWERED: f64 = 0.97;
/// If more than this share of the host's processors was busy, the host affects the result.
const HOST_BUSY: f64 = 0.80;
/// The most reasons in one sentence; the manifest has all of them.
const MOST_REASONS: usize = 2;

/// A sentence that is shown before all figures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caution {
    pub text: String,
    pub severity: Severity,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The figures must not be relied on or are incomplete, or a gate or the audit failed.
    Alarm,
    /// The figures hold, but only under the conditions that the sentence names.
    Note,
}

impl Caution {
    pub(super) fn alarm(text: String) -> Self {
        Self {
            text,
            severity: Severity::Alarm,
        }
    }

    fn note(text: String) -> Self {
        Self {
            text,
            severity: Severity::Note,
        }
    }
}

/// All cautions about a run except those about its gates and its audit: overload, status, lost transactions, busy host; the gravest first.
pub fn cautions(manifest: &Manifest, cells: &[CellRow]) -> Vec<Caution> {
    let mut out: Vec<Caution> = overload(manifest, cells).into_iter().collect();
    out.extend(status(manifest));
    out.extend(losses(cells));
    out.extend(busy_host(cells));
    out.sort_by_key(|caution| caution.severity);
    out
}

/// How a run ended, in words: `complete`, or `complete, with 12 notes`.
pub fn status_text(manifest: &Manifest, cells: &[CellRow]) -> String {
    let status = manifest.status.as_str();
    let valid = cells.iter().filter(|cell| cell.valid);
    let noted = valid.filter(|cell| !cell.notes.is_empty()).count();
    match noted + manifest.warnings.len() {
        0 => status.into(),
        count => format!("{status}, with {}", plural(count, "note")),
    }
}

/// Whether a cell in an open loop was offered more than was answered.
fn is_overloaded(cell: &CellRow) -> bool {
    // Cells that record how late the generator was also record whether they were overloaded, if that could be told.
    let is_told = match (cell.overloaded, cell.dispatch_lag_p99_us) {
        (Some(overloaded), _) => overloaded,
        (None, Some(_)) => false,
        (None, None) => is_overloaded_by_counts(cell),
    };
    is_told && cell.offered_tps.is_some()
}

/// Whether too few arrivals were answered. Transactions count as answered if they were acknowledged in the measurement phase, failed or are
/// indeterminate.
fn is_overloaded_by_counts(cell: &CellRow) -> bool {
    let a_second = |count: u64| count as f64 / cell.measured_s;
    let refused = cell.failed.saturating_add(cell.indeterminate);
    // Compared with the arrivals that were due, not with the rate: a Poisson process has more or fewer arrivals than its rate says.
    let is_measured = cell.measured_s > 0.0 && cell.offered > 0;
    is_measured && cell.achieved_tps + a_second(refused) < ANSWERED * a_second(cell.offered)
}

fn overload(manifest: &Manifest, cells: &[CellRow]) -> Option<Caution> {
    let overloaded: Vec<&CellRow> = cells.iter().filter(|it| is_overloaded(it)).collect();
    let worst = overloaded
        .iter()
        .min_by(|a, b| a.achieved_tps.total_cmp(&b.achieved_tps))?;
    let text = format!(
        "OVERLOADED in {} of {}: offered {}/s, answered {}/s{} ({}); {}. Times under overload tell how long the queue was, not what a \
         commit costs.",
        overloaded.len(),
        plural(cells.len(), "repetition"),
        format_rate(worst.offered_tps?),
        format_rate(worst.achieved_tps),
        if overloaded.len() > 1 {
            " at worst"
        } else {
            ""
        },
        worst.mode,
        with_headroom(worst.achieved_tps).map_or_else(
            || "try a rate that is far lower".into(),
            |most| format!("try at most {}/s", thousands(most)),
        ),
    );
    let is_expected = manifest.plan.expect.is_some_and(|expect| expect.overload);
    Some(if is_expected {
        Caution::note(text)
    } else {
        Caution::alarm(text)
    })
}

/// Why the figures must not be relied on or are incomplete; `None` for a run that is complete and valid.
fn status(manifest: &Manifest) -> Option<Caution> {
    let because = because(&manifest.invalid_reasons);
    let text = match manifest.status {
        RunStatus::Invalid => format!("INVALID{because}. The figures below are not to be relied on."),
        RunStatus::Failed => format!("INCOMPLETE: the run was cut short by an error{because}. What was measured is below."),
        RunStatus::Interrupted => format!("INCOMPLETE: the run was interrupted{because}. What was measured is below."),
        RunStatus::Running => "INCOMPLETE: the run has not ended, or ended without a word. What was measured is below.".into(),
        RunStatus::Complete if !because.is_empty() => format!("INVALID{because}."),
        RunStatus::Complete => return None,
    };
    Some(Caution::alarm(text))
}

fn because(reasons: &[String]) -> String {
    if reasons.is_empty() {
        return String::new();
    }
    let told = &reasons[..reasons.len().min(MOST_REASONS)];
    let more = reasons.len() - told.len();
    let and_more = if more > 0 {
        format!("; and {} more", thousands(more as u64))
    } else {
        String::new()
    };
    format!(": {}{and_more}", told.join("; "))
}

/// A sentence for each mode with transactions that failed, were never sent, were never answered or were acknowledged with a warning. Valid
/// and invalid cells count alike.
fn losses(cells: &[CellRow]) -> Vec<Caution> {
    let modes = cells.iter().map(|cell| cell.mode.as_str()).unique();
    let of_mode = |mode| {
        let own = || cells.iter().filter(move |cell| cell.mode == mode);
        let sum = |count: fn(&CellRow) -> u64| own().map(count).fold(0, u64::saturating_add);
        let parts: Vec<String> = [
            (sum(|cell| cell.failed), "failed"),
            (sum(|cell| cell.missed), "were never sent (missed)"),
            (
                sum(|cell| cell.indeterminate),
                "were sent and never answered (indeterminate)",
            ),
            (
                sum(|cell| cell.acked_with_warning),
                "were acknowledged with a warning that they may not have been replicated",
            ),
        ]
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{} {what}", thousands(count)))
        .collect();
        (!parts.is_empty()).then(|| {
            let offered = thousands(sum(|cell| cell.offered));
            Caution::note(format!(
                "Of {offered} transactions under {mode} {}.",
                join(&parts)
            ))
        })
    };
    modes.filter_map(of_mode).collect()
}

fn busy_host(cells: &[CellRow]) -> Option<Caution> {
    let share = |cell: &CellRow| cell.host_busy_share.filter(|share| *share > HOST_BUSY);
    let busy: Vec<f64> = cells.iter().filter_map(share).collect();
    let most = busy.iter().copied().max_by(f64::total_cmp)?;
    let is_open = cells.iter().any(|cell| cell.offered_tps.is_some());
    Some(Caution::note(format!(
        "{} of {} on a busy host (above {:.0} % of its processors, at most {:.0} %): times include waiting for a processor{}.",
        busy.len(),
        plural(cells.len(), "repetition"),
        HOST_BUSY * 100.0,
        most * 100.0,
        if is_open {
            "; a lower --rate would tell more of replication"
        } else {
            ""
        },
    )))
}

pub(super) fn join(parts: &[String]) -> String {
    match parts {
        [] => String::new(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(offered_tps: Option<f64>, achieved_tps: f64) -> CellRow {
        CellRow {
            cell_id: 1,
            mode: "sync".into(),
            rep: 1,
            block: 1,
            order_idx: 1,
            started_at: String::new(),
            warmup_s: 2.0,
            measured_s: 10.0,
            offered_tps,
            achieved_tps,
            offered: 60_000,
            acked: 59_000,
            acked_with_warning: 0,
            failed: 0,
            indeterminate: 0,
            missed: 0,
            peak_backlog: 0,
            peak_in_flight: 0,
            dispatch_lag_p99_us: None,
            timer_early_us: None,
            load_cpu_share: None,
            probe_cpu_share: None,
            host_busy_share: Some(0.5),
            host_steal_share: None,
            wal_bytes: None,
            checkpoints: None,
            autovacuums: None,
            full_page_images: None,
            overloaded: None,
            discarded: false,
            valid: true,
            notes: String::new(),
        }
    }

    fn manifest(expects_overload: bool) -> Manifest {
        let text = serde_json::json!({
            "schema_version": 1, "run_id": "r", "status": "complete", "invalid_reasons": [], "warnings": [], "started_at": "",
            "ended_at": null, "argv": [], "profile": {"expect": {"failures": 0.01, "overload": expects_overload}}, "seed": 1,
            "harness": {"version": "", "git": null}, "subject": {"git": null, "tags": {}},
            "host": {"host_id": "", "cpu": "", "cores": 1, "memory_bytes": 1, "kernel": "", "filesystem": "", "virtualisation": null},
            "nodes": [], "files": {},
        });
        serde_json::from_value(text).unwrap()
    }

    #[test]
    fn an_overloaded_run_is_told_what_it_answered_and_a_rate_to_try() {
        let cells = [
            cell(Some(6_000.0), 5_999.0),
            cell(Some(6_000.0), 5_021.3),
            cell(Some(6_000.0), 5_700.0),
        ];
        let told = overload(&manifest(false), &cells).unwrap();
        assert_eq!(told.severity, Severity::Alarm);
        assert!(
            told.text.starts_with(
                "OVERLOADED in 2 of 3 repetitions: offered 6,000/s, answered 5,021/s at worst (sync); try at most 4,000/s."
            ),
            "{}",
            told.text
        );
        let expected = overload(&manifest(true), &cells).unwrap();
        assert_eq!(expected.severity, Severity::Note, "the profile expects it");
    }

    #[test]
    fn who_keeps_up_refuses_or_has_no_rate_is_not_overloaded() {
        let mut refusing = cell(Some(6_000.0), 3_000.0);
        refusing.failed = 30_000;
        let closed = cell(None, 3_000.0);
        let mut stood_still = cell(Some(6_000.0), 3_000.0);
        stood_still.dispatch_lag_p99_us = Some(9e5);
        let mut judged = stood_still.clone();
        judged.overloaded = Some(true);
        let cells = [cell(Some(6_000.0), 5_900.0), refusing, closed, stood_still];
        assert!(overload(&manifest(false), &cells).is_none());
        assert!(overload(&manifest(false), &[judged]).is_some());
    }

    #[test]
    fn busy_repetitions_are_one_line_and_a_closed_loop_is_not_told_to_slow_down() {
        let busy = |offered: Option<f64>, share| CellRow {
            host_busy_share: Some(share),
            ..cell(offered, 6_000.0)
        };
        let open = busy_host(&[
            busy(Some(6e3), 0.9),
            busy(Some(6e3), 0.81),
            busy(Some(6e3), 0.8),
        ]);
        let text = open.unwrap().text;
        assert!(
            text.starts_with("2 of 3 repetitions on a busy host (above 80 %"),
            "{text}"
        );
        assert!(text.contains("--rate"), "{text}");
        let closed = busy_host(&[busy(None, 0.99)]).unwrap().text;
        assert!(!closed.contains("rate"), "{closed}");
        assert!(busy_host(&[busy(None, 0.5)]).is_none());
    }

    #[test]
    fn what_was_not_acknowledged_is_told_by_mode() {
        let mut other = cell(Some(6e3), 6e3);
        other.mode = "async".into();
        let failing = CellRow {
            failed: 382,
            missed: 12,
            acked_with_warning: 1,
            valid: false,
            ..cell(Some(6e3), 6e3)
        };
        let told = losses(&[other, failing.clone(), failing]);
        let texts: Vec<&str> = told.iter().map(|caution| caution.text.as_str()).collect();
        assert_eq!(
            texts,
            [
                "Of 120,000 transactions under sync 764 failed, 24 were never sent (missed) and 2 were acknowledged with a warning that \
              they may not have been replicated."
            ]
        );
    }

    #[test]
    fn many_reasons_are_told_by_the_first() {
        let reasons: Vec<String> = (1..=24).map(|cell| format!("cell {cell} failed")).collect();
        assert_eq!(
            because(&reasons),
            ": cell 1 failed; cell 2 failed; and 22 more"
        );
        assert_eq!(because(&[]), "");
    }
}
