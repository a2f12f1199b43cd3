//! Whether a cell may be relied on, and what to know about it. Pure: from figures to sentences.

use super::figures::Figures;
use crate::plan::{Offered, Plan};
use crate::topology::Mode;
use crate::units::{format_duration, thousands};

/// An open loop that achieves less than this share of what was offered did not measure what was planned.
const ACHIEVED: f64 = 0.97;
/// A load thread above this share of a core is itself the bottleneck.
const GENERATOR_BUSY: f64 = 0.85;
/// Above this the host's processors shape the result.
const HOST_BUSY: f64 = 0.80;

/// What is to be said of one cell.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Verdict {
    /// Why its figures are not to be relied on.
    pub(super) invalid: Vec<String>,
    /// What a reader should know of a valid one.
    pub(super) notes: Vec<String>,
}

impl Verdict {
    pub(super) fn is_valid(&self) -> bool {
        self.invalid.is_empty()
    }

    /// All sentences for the cell's row.
    pub(super) fn text(&self) -> String {
        let all: Vec<_> = self.invalid.iter().chain(&self.notes).cloned().collect();
        all.join("; ")
    }
}

/// Judges a cell that has ended; `interrupted` if a person cut it short.
pub(super) fn judge(plan: &Plan, mode: &Mode, figures: &Figures, interrupted: bool) -> Verdict {
    let mut verdict = Verdict::default();
    if interrupted || !figures.is_whole(plan) {
        verdict.invalid.push(format!(
            "cut short: {} were measured",
            format_duration(figures.measured)
        ));
    }
    if figures.arrivals.acknowledged() == 0 {
        verdict.invalid.push("nothing was acknowledged".into());
    }
    judge_rate(plan, figures, &mut verdict);
    judge_replicas(mode, figures, &mut verdict);
    note_losses(figures, &mut verdict);
    if let Some((busy, _)) = figures.host_shares()
        && busy > HOST_BUSY
    {
        verdict.notes.push(format!(
            "the host was {:.0} % busy: the figures are about its processors as much as about replication; lower --rate",
            busy * 100.0
        ));
    }
    if let Some((first, last)) = figures.lag.checkpoints
        && last > first
    {
        verdict
            .notes
            .push(format!("{} checkpoint(s) fell into the cell", last - first));
    }
    verdict
}

fn judge_rate(plan: &Plan, figures: &Figures, verdict: &mut Verdict) {
    let Offered::Open { .. } = plan.load.offered else {
        return;
    };
    let arrivals = &figures.arrivals;
    let answered = arrivals.sent.saturating_sub(arrivals.indeterminate);
    if arrivals.offered == 0 || answered as f64 >= ACHIEVED * arrivals.offered as f64 {
        return;
    }
    let achieved = 100.0 * answered as f64 / arrivals.offered as f64;
    let threads = f64::from(plan.load.threads);
    let busy = figures.load_cpu_share().unwrap_or(0.0) / threads;
    let lag = figures.start_lag.quantile(0.5).unwrap_or_default();
    let wait = figures.pool_wait.quantile(0.5).unwrap_or_default();
    // Arrivals that wait, but not for a connection, wait for the generator.
    let late_by_itself = figures.peak_backlog == 0 && lag > 2 * wait && lag.as_millis() >= 10;
    if busy > GENERATOR_BUSY || late_by_itself {
        verdict.invalid.push(format!(
            "the generator was saturated: {achieved:.1} % of the offered arrivals were answered with a load thread at \
             {:.0} % of a core; lower --rate or raise --threads",
            busy * 100.0
        ));
    } else {
        verdict.notes.push(format!(
            "the servers did not keep up: {achieved:.1} % of the offered arrivals were answered in time"
        ));
    }
}

fn judge_replicas(mode: &Mode, figures: &Figures, verdict: &mut Verdict) {
    let lag = &figures.lag;
    if lag.samples == 0 {
        verdict
            .invalid
            .push("no lag sample was taken: whether the replicas streamed is unknown".into());
    }
    for (node, count) in &lag.not_streaming {
        verdict.invalid.push(format!(
            "`{node}` was not streaming in {count} of {} samples",
            lag.samples
        ));
    }
    if lag.too_few_sync > 0
        && let Some(set) = &mode.sync
    {
        verdict.invalid.push(format!(
            "fewer than {} synchronous nodes in {} of {} samples",
            set.quorum.count(),
            lag.too_few_sync,
            lag.samples
        ));
    }
    if lag.primary_starts.len() > 1 {
        verdict
            .invalid
            .push("the primary restarted during the cell".into());
    }
}

fn note_losses(figures: &Figures, verdict: &mut Verdict) {
    let arrivals = &figures.arrivals;
    for (count, what) in [
        (arrivals.failed, "failed"),
        (
            arrivals.indeterminate,
            "were sent and never answered (indeterminate)",
        ),
        (arrivals.missed, "were due and never sent (missed)"),
        (
            arrivals.acked_with_warning,
            "were acknowledged with a warning that they may not have been replicated",
        ),
    ] {
        if count > 0 {
            verdict
                .notes
                .push(format!("{} transactions {what}", thousands(count)));
        }
    }
    for (node, count) in figures.unseen.iter().filter(|(_, count)| **count > 0) {
        verdict.notes.push(format!(
            "{} commits were not visible on `{node}` by the end of the drain",
            thousands(*count)
        ));
    }
}
