//! What faults of replicas did in each mode: to reads on the replica, and to the replica until it had caught up.

use std::collections::{BTreeMap, BTreeSet};

use super::modes::{MICROS, ModeFigures, ModesTable, scaled};
use super::stats::Estimate;
use crate::record::Run;
use crate::sample::FaultRow;
use crate::units::{format_seconds, format_share_band, thousands};

/// What the faults of one replica did to it, over the valid repetitions of a mode. Times are in seconds, and infinite if they did not end
/// in some repetition.
#[derive(Debug, Clone)]
pub struct ModeSetback {
    pub mode: String,
    pub node: String,
    /// The faults as they are written in the plan.
    pub faults: Vec<String>,
    /// Commits acknowledged during the faults.
    pub commits: u64,
    /// Bounds (least, most) of the share of `commits` that a read on the replica 100 ms after the acknowledgement missed; `None` if
    /// unknown.
    pub stale: Option<(f64, f64)>,
    /// From the acknowledgement until the slowest of `commits` was visible, the largest of all repetitions.
    pub slowest: Option<Estimate>,
    /// The most commits that the replica did not show at the end of a second, from the beginning of a fault until it had caught up; the
    /// largest of all repetitions.
    pub behind: Option<Estimate>,
    /// The most bytes of WAL that the replica had yet to replay over the same time, the largest of all repetitions.
    pub lag: Option<Estimate>,
    /// From the end of a fault until the replica had caught up, the largest of all repetitions. An upper bound, because it is taken at the
    /// first lag sample in which the replica had caught up.
    pub catch_up: Option<Estimate>,
    /// Bytes of WAL per second at which the replica caught up, the mean of all repetitions; a lower bound. `None` if the replica did not
    /// catch up in one of them.
    pub rate: Option<Estimate>,
    /// The most backends waiting for synchronous replication in any lag sample during the faults.
    pub waiters: Option<i64>,
}

/// The replicas that had faults, in the order of the plan's modes.
pub(super) fn setbacks(run: &Run, table: &ModesTable) -> Vec<ModeSetback> {
    let of_mode = |mode: &ModeFigures| {
        let valid = |id: u32| {
            let mut cells = run.cells.iter();
            cells.any(|cell| cell.cell_id == id && cell.valid && cell.mode == mode.mode)
        };
        let faults = run
            .faults
            .iter()
            .filter(|it| !it.stops_primary && valid(it.cell_id));
        let mut by_node: BTreeMap<&str, Vec<&FaultRow>> = BTreeMap::new();
        for fault in faults {
            by_node.entry(&fault.node).or_default().push(fault);
        }
        let all = by_node.into_iter();
        let all = all.map(|(node, faults)| of_replica(mode, node, &faults));
        // None of this is known for the primary.
        all.filter(|it| it.lag.is_some() || it.stale.is_some())
            .collect::<Vec<_>>()
    };
    table.modes.iter().flat_map(of_mode).collect()
}

fn of_replica(mode: &ModeFigures, node: &str, faults: &[&FaultRow]) -> ModeSetback {
    let names: BTreeSet<&str> = faults.iter().map(|it| it.fault.as_str()).collect();
    let sum = |count: fn(&FaultRow) -> Option<u64>| {
        let counts = faults.iter().map(|it| count(it));
        counts.sum::<Option<u64>>()
    };
    let commits = sum(|it| it.commits).unwrap_or(0);
    let share = |count| Some(sum(count)? as f64 / commits as f64).filter(|_| commits > 0);
    let (lo, hi) = (share(|it| it.stale_lo), share(|it| it.stale_hi));
    let figure = |metric, stat, scale| scaled(mode.summary.of_node(metric, stat, node), scale);
    let catch_up = figure("catch_up", "max", MICROS);
    let caught_up = catch_up.is_some_and(|it| it.value.is_finite());
    ModeSetback {
        mode: mode.mode.clone(),
        node: node.to_owned(),
        faults: names.into_iter().map(str::to_owned).collect(),
        commits,
        stale: lo.zip(hi),
        slowest: figure("fault_visibility", "max", MICROS),
        behind: figure("fault_behind", "value", 1.0),
        lag: figure("fault_lag", "max", 1.0),
        catch_up,
        rate: figure("catch_up_rate", "value", 1.0).filter(|_| caught_up),
        waiters: faults.iter().filter_map(|it| it.syncrep_waiters).max(),
    }
}

/// A sentence for each replica about what its faults did to reads there.
pub(super) fn sentences(setbacks: &[ModeSetback]) -> impl Iterator<Item = String> {
    setbacks.iter().filter_map(|it| {
        let stale = format_share_band(it.stale?);
        let slowest = it.slowest.map_or_else(String::new, |slowest| {
            if slowest.value.is_finite() {
                format!("; the slowest was visible after {}", format_seconds(slowest.value))
            } else {
                "; some were not visible before the drain ended".into()
            }
        });
        let faults = if it.faults.len() > 1 { "faults" } else { "fault" };
        Some(format!(
            "Of {} commits acknowledged during the {faults} of {} under {}, a read there 100 ms later missed {stale}{slowest}.",
            thousands(it.commits),
            it.node,
            it.mode
        ))
    })
}
