//! The declarations. Their order is that of `summary.csv`.

use super::Scale::{Difference, Ratio};
use super::Stat::{Max, P50, P90, P99, P999, Value};
use super::{
    CellFigures, Gated, Metric, OutageFigures, Over, Population, Quantity, Reading, ReplicaFigures,
    Source, Stat, Unit,
};
use crate::sample::CellRow;
use crate::sample::Direction::{HigherIsBetter, LowerIsBetter, Neutral};

/// Below a page of WAL lag is a matter of which record was in flight when the sample was taken: a multiple of one record's length.
const WAL_PAGE: f64 = 8192.0;

/// From the acknowledgement to the end of the first look that saw the commit: the delay, or less.
pub(super) const VISIBILITY: &str = "visibility";
/// From the acknowledgement to the start of the last look that missed it: the delay, or more.
pub(super) const VISIBILITY_LO: &str = "visibility_lo";
/// From the send until it is seen: always above zero.
pub(super) const VISIBILITY_SEND: &str = "visibility_send";

const QUANTILES: &[Stat] = &[P50, P90, P99, P999, Max];

/// What most quantities are.
const CONTEXT: Quantity = Quantity {
    name: "",
    unit: Unit::Count,
    direction: Neutral,
    scale: Difference,
    over: Over::Mean,
    floor: 0.0,
    stats: &[Value],
    judged: &[],
    gated: None,
    source: Source::Cell(|_, _| None),
};

/// What a gate on a count or rate of arrivals asks for: that there were any.
const OFFERED: Option<Gated> = Some(Gated {
    population: Population::Arrivals,
    censored: "",
});

const UNSEEN: Option<Gated> = Some(Gated {
    population: Population::Commits,
    censored: "not seen before the drain ended",
});

const GONE: Option<Gated> = Some(Gated {
    population: Population::Samples,
    censored: "taken while the replica was gone or its upstream did not answer",
});

/// What a gate on a figure of a fault asks for: that there was one.
const OF_FAULT: Option<Gated> = Some(Gated {
    population: Population::Samples,
    censored: "",
});

/// How often something happened.
const COUNT: Quantity = Quantity {
    direction: LowerIsBetter,
    over: Over::Sum,
    ..CONTEXT
};

/// A part of what was to be done that came to nothing.
const LOSS: Quantity = Quantity {
    unit: Unit::Share,
    direction: LowerIsBetter,
    judged: &[Value],
    ..CONTEXT
};

/// A time of the load, from histograms.
const LOAD_TIME: Quantity = Quantity {
    unit: Unit::Micros,
    scale: Ratio,
    stats: QUANTILES,
    ..CONTEXT
};

/// A time around a fault that stopped the primary.
const OUTAGE: Quantity = Quantity {
    unit: Unit::Micros,
    direction: LowerIsBetter,
    ..CONTEXT
};

/// A delay of visibility. It counts from the acknowledgement, which is no natural zero: it may be negative, and has no ratio.
const DELAY: Quantity = Quantity {
    unit: Unit::Micros,
    stats: QUANTILES,
    ..CONTEXT
};

/// The worst that a fault did to a replica.
const WORST_OF_FAULT: Quantity = Quantity {
    direction: LowerIsBetter,
    over: Over::Largest,
    stats: &[Max],
    judged: &[Max],
    ..CONTEXT
};

pub(super) static QUANTITIES: [Quantity; 41] = [
    Quantity {
        name: "achieved_tps",
        gated: OFFERED,
        unit: Unit::PerSecond,
        direction: HigherIsBetter,
        scale: Ratio,
        judged: &[Value],
        source: Source::Cell(|cell, _| Some(of_arrivals(cell, cell.achieved_tps))),
        ..CONTEXT
    },
    Quantity {
        name: "offered_tps",
        unit: Unit::PerSecond,
        source: Source::Cell(|cell, _| Some(of_arrivals(cell, cell.offered_tps?))),
        ..CONTEXT
    },
    Quantity {
        name: "failed",
        gated: OFFERED,
        source: Source::Cell(|cell, _| Some(of_arrivals(cell, cell.failed as f64))),
        ..COUNT
    },
    Quantity {
        name: "indeterminate",
        gated: OFFERED,
        source: Source::Cell(|cell, _| Some(of_arrivals(cell, cell.indeterminate as f64))),
        ..COUNT
    },
    Quantity {
        name: "missed",
        gated: OFFERED,
        source: Source::Cell(|cell, _| Some(of_arrivals(cell, cell.missed as f64))),
        ..COUNT
    },
    Quantity {
        name: "acked_with_warning",
        source: Source::Cell(|cell, _| Some(of_arrivals(cell, cell.acked_with_warning as f64))),
        ..COUNT
    },
    Quantity {
        name: "peak_backlog",
        over: Over::Largest,
        source: Source::Cell(|cell, _| Some(of_arrivals(cell, cell.peak_backlog as f64))),
        ..CONTEXT
    },
    Quantity {
        name: "host_busy_share",
        unit: Unit::Share,
        source: Source::Cell(|cell, _| Some(of_arrivals(cell, cell.host_busy_share?))),
        ..CONTEXT
    },
    Quantity {
        name: "load_cpu_share",
        unit: Unit::Share,
        source: Source::Cell(|cell, _| Some(of_arrivals(cell, cell.load_cpu_share?))),
        ..CONTEXT
    },
    Quantity {
        name: "probe_cpu_share",
        unit: Unit::Share,
        source: Source::Cell(|cell, _| Some(of_arrivals(cell, cell.probe_cpu_share?))),
        ..CONTEXT
    },
    Quantity {
        name: "wal_per_commit",
        unit: Unit::Bytes,
        source: Source::Cell(|cell, _| {
            let bytes = cell.wal_bytes.filter(|_| cell.acked > 0)?;
            Some(Reading::Value(bytes as f64 / cell.acked as f64, cell.acked))
        }),
        ..CONTEXT
    },
    Quantity {
        name: "start_lag",
        gated: Some(Gated {
            population: Population::Acknowledged,
            censored: "never sent",
        }),
        source: Source::Cell(|_, figures| figures.start_lag.map(Reading::Spread)),
        ..LOAD_TIME
    },
    Quantity {
        name: "pool_wait",
        source: Source::Cell(|_, figures| figures.pool_wait.map(Reading::Spread)),
        ..LOAD_TIME
    },
    Quantity {
        name: "service",
        gated: Some(Gated {
            population: Population::Acknowledged,
            censored: "failed or never answered",
        }),
        direction: LowerIsBetter,
        judged: &[P50, P99],
        source: Source::Cell(|_, figures| figures.service.map(Reading::Spread)),
        ..LOAD_TIME
    },
    Quantity {
        name: "response",
        gated: Some(Gated {
            population: Population::Acknowledged,
            censored: "missed, failed or never answered",
        }),
        direction: LowerIsBetter,
        judged: &[P50, P99],
        source: Source::Cell(|_, figures| figures.response.map(Reading::Spread)),
        ..LOAD_TIME
    },
    Quantity {
        name: "failed_share",
        source: Source::Cell(|cell, _| share_of_arrivals(cell, cell.failed)),
        ..LOSS
    },
    Quantity {
        name: "indeterminate_share",
        source: Source::Cell(|cell, _| share_of_arrivals(cell, cell.indeterminate)),
        ..LOSS
    },
    Quantity {
        name: "missed_share",
        source: Source::Cell(|cell, _| share_of_arrivals(cell, cell.missed)),
        ..LOSS
    },
    Quantity {
        name: "lost",
        gated: OFFERED,
        judged: &[Value],
        source: Source::Cell(|cell, figures| {
            let lost = figures.outage?.lost?;
            let acknowledged = cell.acked + cell.acked_with_warning;
            Some(Reading::Value(lost as f64, acknowledged))
        }),
        ..COUNT
    },
    Quantity {
        name: "lost_span",
        over: Over::Largest,
        source: Source::Cell(|_, figures| of_outage(figures, |it| it.lost_span)),
        ..OUTAGE
    },
    Quantity {
        name: "rto",
        gated: OFFERED,
        scale: Ratio,
        judged: &[Value],
        source: Source::Cell(|_, figures| of_outage(figures, |it| Some(it.recovery))),
        ..OUTAGE
    },
    Quantity {
        name: "unavailability",
        gated: OFFERED,
        scale: Ratio,
        judged: &[Value],
        source: Source::Cell(|_, figures| of_outage(figures, |it| Some(it.unavailable))),
        ..OUTAGE
    },
    Quantity {
        name: "rejoin",
        scale: Ratio,
        direction: Neutral,
        source: Source::Cell(|_, figures| of_outage(figures, |it| it.rejoin)),
        ..OUTAGE
    },
    Quantity {
        name: "fault_waiters",
        gated: OF_FAULT,
        over: Over::Largest,
        source: Source::Cell(|_, figures| {
            let (waiters, faults) = figures.syncrep_waiters?;
            Some(Reading::Value(waiters as f64, faults))
        }),
        ..CONTEXT
    },
    Quantity {
        name: VISIBILITY,
        gated: UNSEEN,
        direction: LowerIsBetter,
        judged: &[P50, P99],
        source: Source::Replica(|replica| replica.visibility.map(Reading::Spread)),
        ..DELAY
    },
    Quantity {
        name: VISIBILITY_LO,
        source: Source::Replica(|replica| replica.visibility_lo.map(Reading::Spread)),
        ..DELAY
    },
    Quantity {
        name: VISIBILITY_SEND,
        source: Source::Replica(|replica| replica.visibility_send.map(Reading::Spread)),
        ..DELAY
    },
    Quantity {
        name: "unseen",
        gated: UNSEEN,
        source: Source::Replica(|replica| of_commits(replica, replica.unseen as f64)),
        ..COUNT
    },
    Quantity {
        name: "unseen_share",
        source: Source::Replica(|replica| {
            of_commits(replica, replica.unseen as f64 / replica.commits as f64)
        }),
        ..LOSS
    },
    Quantity {
        name: "resolution",
        unit: Unit::Micros,
        source: Source::Replica(|replica| of_commits(replica, replica.resolution?)),
        ..CONTEXT
    },
    Quantity {
        name: "replay_lag_bytes",
        gated: GONE,
        unit: Unit::Bytes,
        direction: LowerIsBetter,
        floor: WAL_PAGE,
        stats: QUANTILES,
        judged: &[P99],
        source: Source::Replica(|replica| replica.replay_bytes.map(Reading::Spread)),
        ..CONTEXT
    },
    Quantity {
        name: "replay_lag",
        gated: GONE,
        unit: Unit::Micros,
        direction: LowerIsBetter,
        stats: QUANTILES,
        source: Source::Replica(|replica| replica.replay_time.map(Reading::Spread)),
        ..CONTEXT
    },
    Quantity {
        name: "lag_gaps",
        source: Source::Replica(|replica| of_samples(replica, replica.gaps as f64)),
        ..COUNT
    },
    Quantity {
        name: "lag_unanswered",
        over: Over::Sum,
        source: Source::Replica(|replica| of_samples(replica, replica.unanswered as f64)),
        ..CONTEXT
    },
    Quantity {
        name: "slot_retained_max",
        unit: Unit::Bytes,
        over: Over::Largest,
        source: Source::Replica(|replica| of_samples(replica, replica.retained_bytes?)),
        ..CONTEXT
    },
    Quantity {
        name: "fault_lag",
        gated: GONE,
        unit: Unit::Bytes,
        floor: WAL_PAGE,
        source: Source::Replica(|replica| replica.setback.peak_bytes.map(Reading::Spread)),
        ..WORST_OF_FAULT
    },
    Quantity {
        name: "catch_up",
        gated: Some(Gated {
            population: Population::Samples,
            censored: "after which the replica did not catch up",
        }),
        unit: Unit::Micros,
        source: Source::Replica(|replica| replica.setback.catch_up.map(Reading::Spread)),
        ..WORST_OF_FAULT
    },
    Quantity {
        name: "catch_up_rate",
        gated: OF_FAULT,
        judged: &[Value],
        unit: Unit::BytesPerSecond,
        direction: HigherIsBetter,
        source: Source::Replica(|replica| of_samples(replica, replica.setback.catch_up_rate?)),
        ..CONTEXT
    },
    Quantity {
        name: "fault_behind",
        gated: OF_FAULT,
        judged: &[Value],
        direction: LowerIsBetter,
        over: Over::Largest,
        source: Source::Replica(|replica| of_commits(replica, replica.setback.behind? as f64)),
        ..CONTEXT
    },
    Quantity {
        name: "fault_visibility",
        gated: Some(Gated {
            population: Population::Samples,
            censored: "whose slowest commit was not seen before the drain ended",
        }),
        unit: Unit::Micros,
        source: Source::Replica(|replica| replica.setback.slowest.map(Reading::Spread)),
        ..WORST_OF_FAULT
    },
    Quantity {
        name: "fault_stale",
        unit: Unit::Share,
        gated: OF_FAULT,
        direction: LowerIsBetter,
        judged: &[Value],
        source: Source::Replica(|replica| {
            let (commits, stale) = replica.setback.stale?;
            (commits > 0).then(|| Reading::Value(stale as f64 / commits as f64, commits))
        }),
        ..CONTEXT
    },
];

fn of_arrivals(cell: &CellRow, value: f64) -> Reading {
    Reading::Value(value, cell.offered)
}

fn of_outage(
    figures: &CellFigures,
    time: impl Fn(&OutageFigures) -> Option<f64>,
) -> Option<Reading> {
    let outage = figures.outage?;
    Some(Reading::Value(time(&outage)?, outage.faults))
}

fn share_of_arrivals(cell: &CellRow, count: u64) -> Option<Reading> {
    (cell.offered > 0).then(|| Reading::Value(count as f64 / cell.offered as f64, cell.offered))
}

fn of_commits(replica: &ReplicaFigures, value: f64) -> Option<Reading> {
    (replica.commits > 0).then_some(Reading::Value(value, replica.commits))
}

fn of_samples(replica: &ReplicaFigures, value: f64) -> Option<Reading> {
    let samples = replica.samples;
    (samples > 0).then_some(Reading::Value(value, samples))
}

/// What readers of many runs need beside the figures that are judged: the lower bounds of visibility, the yardstick of delays that are not
/// above zero, how fine the looks were, how far behind a replica was at most, and the counts behind shares.
pub(super) fn is_beside(metric: Metric) -> bool {
    match metric.name() {
        VISIBILITY_LO | VISIBILITY_SEND => matches!(metric.stat, P50 | P99),
        "replay_lag_bytes" => metric.stat == Max,
        "resolution" | "failed" | "indeterminate" | "missed" | "unseen" | "lag_gaps"
        | "lag_unanswered" => true,
        _ => false,
    }
}
