//! What a person sees of a cell while it runs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::load::Second;
use crate::plan::Plan;
use crate::probe::LagSample;
use crate::sample::{Phase, VisibilityRow};

/// The latest figures of the running cell.
#[derive(Debug, Clone)]
pub struct LiveSecond {
    pub phase: Phase,
    /// Seconds from the start of the measurement; negative during warm-up.
    pub index: i64,
    /// How long the measurement phase is planned to last, if that is known.
    pub planned: Option<Duration>,
    /// Acknowledgements in the last second.
    pub acks: u64,
    /// 99th percentile of the response time in the last second.
    pub response_p99: Option<Duration>,
    /// 99th percentile of visibility in the last finished second on the worst node, in microseconds from the acknowledgement.
    pub visibility_p99_us: Option<f64>,
    pub worst_replay_lag_bytes: Option<i64>,
    pub backlog: u64,
    /// Nodes whose server has ended.
    pub(super) exited: BTreeSet<String>,
    visibility: BTreeMap<String, f64>,
}

impl LiveSecond {
    pub(super) fn new(plan: &Plan) -> Self {
        Self {
            phase: Phase::Warmup,
            index: 0,
            planned: plan.phases.measure.duration(),
            acks: 0,
            response_p99: None,
            visibility_p99_us: None,
            worst_replay_lag_bytes: None,
            backlog: 0,
            exited: BTreeSet::new(),
            visibility: BTreeMap::new(),
        }
    }

    pub(super) fn take_second(&mut self, second: &Second) {
        self.phase = second.phase;
        self.index = second.index;
        self.acks = second.all.acknowledged();
        self.response_p99 = second.response_quantile(0.99);
        self.backlog = second.backlog;
    }

    pub(super) fn take_lag(&mut self, sample: &LagSample) {
        let lags = sample.rows.iter().filter_map(|row| row.replay_lag_bytes);
        self.worst_replay_lag_bytes = lags.max();
    }

    pub(super) fn take_visibility(&mut self, row: &VisibilityRow) {
        match row.p99_hi_us {
            Some(p99) => self.visibility.insert(row.node.clone(), p99),
            None => self.visibility.remove(&row.node),
        };
        self.visibility_p99_us = self.visibility.values().copied().reduce(f64::max);
    }
}
