//! What is collected while a cell runs, and the cell's row that is made from it.

use std::time::{Duration, SystemTime};

use super::LiveSecond;
use super::audit::{Ledger, Reads};
use super::figures::Figures;
use super::outages::Outages;
use super::validity::Validity;
use crate::mode::Mode;
use crate::plan::{Cell, Offered, Plan};
use crate::sample::CellRow;

/// What is collected while a cell runs.
pub(super) struct CellProgress {
    pub(super) figures: Figures,
    /// Wall-clock time at the start of the measurement.
    pub(super) started: SystemTime,
    pub(super) live: LiveSecond,
    pub(super) timer_early: Option<Duration>,
    pub(super) outages: Outages,
    /// `None` if the plan has no faults.
    pub(super) ledger: Option<Ledger>,
    pub(super) reads: Reads,
}

pub(super) fn cell_row(
    plan: &Plan,
    cell: &Cell,
    mode: &Mode,
    progress: &CellProgress,
    validity: &Validity,
) -> CellRow {
    let figures = &progress.figures;
    let arrivals = &figures.arrivals;
    let shares = figures.host_shares();
    let started = jiff::Timestamp::try_from(progress.started);
    CellRow {
        cell_id: cell.id,
        mode: mode.name.clone(),
        rep: cell.rep,
        block: cell.block,
        order_idx: if cell.is_discarded() { 0 } else { cell.id },
        started_at: started.map_or_else(|_| String::new(), |at| format!("{at:.3}")),
        warmup_s: plan.phases.warmup.as_secs_f64(),
        measured_s: figures.measured.as_secs_f64(),
        offered_tps: match plan.load.offered {
            Offered::Open { rate, .. } => Some(rate.as_per_second()),
            Offered::Closed => None,
        },
        achieved_tps: figures.achieved_tps(),
        offered: arrivals.offered,
        acked: arrivals.acked,
        acked_with_warning: arrivals.acked_with_warning,
        failed: arrivals.failed,
        indeterminate: arrivals.indeterminate,
        missed: arrivals.missed,
        peak_backlog: figures.peak_backlog,
        peak_in_flight: figures.peak_in_flight,
        dispatch_lag_p99_us: figures.dispatch_lag_p99_us(),
        timer_early_us: progress.timer_early.map(|it| it.as_nanos() as f64 / 1e3),
        load_cpu_share: figures.load_cpu_share(),
        probe_cpu_share: figures.probe_cpu_share(),
        host_busy_share: shares.map(|(busy, _)| busy),
        host_steal_share: shares.map(|(_, steal)| steal),
        wal_bytes: figures.wal_bytes(),
        discarded: cell.is_discarded(),
        checkpoints: figures.checkpoints(),
        autovacuums: figures.maintenance.map(|it| it.autovacuums),
        full_page_images: figures.maintenance.map(|it| it.full_page_images),
        overloaded: validity.overloaded,
        valid: validity.is_valid(),
        notes: validity.text(),
    }
}
