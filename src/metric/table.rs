//! The declarations of all quantities, in the order of `summary.csv`.

use super::Scale::{Difference, Ratio};
use super::Stat::{Max, P50, P90, P99, P999, Value};
use super::{
    CellFigures, Gated, Metric, OutageFigures, Over, Population, Quantity, Reading, ReplicaFigures,
    Source, Stat, Unit,
};
use crate::sample::CellRow;
use crate::sample::Direction::{HigherIsBetter, LowerIsBetter, Neutral};

/// One page of WAL, in bytes. Lag below this only shows which record was in flight when the sample was taken, so it is a multiple of one
/// record's length.
const WAL_PAGE: f64 = 8192.0;

/// Time from the acknowledgement of a commit to the end of the probe's first check that saw the commit: an upper bound of the delay.
pub(super) const VISIBILITY: &str = "visibility";
/// Time from the acknowledgement of a commit to the start of the probe's last check that did not see the commit: a lower bound of the
/// delay.
pub(super) const VISIBILITY_LO: &str = "visibility_lo";
/// Time from the send of a transaction to the end of the probe's first check that saw its commit: always above zero.
pub(super) const VISIBILITY_SEND: &str = "visibility_send";

const QUANTILES: &[Stat] = &[P50, P90, P99, P999, Max];

/// The defaults of a quantity: a count that is shown for context and neither judged nor gated.
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

/// A gate on a count or rate of arrivals needs at least one arrival.
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

/// A gate on a figure of a fault needs a fault in the cell.
const OF_FAULT: Option<Gated> = Some(Gated {
    population: Population::Samples,
    censored: "",
});

/// A quantity that counts events; its repetitions are summed.
const COUNT: Quantity = Quantity {
    direction: LowerIsBetter,
    over: Over::Sum,
    ..CONTEXT
};

/// The share of arrivals or commits that failed, was missed or was not seen.
const LOSS: Quantity = Quantity {
    unit: Unit::Share,
    direction: LowerIsBetter,
    judged: &[Value],
    ..CONTEXT
};

/// A time that the load measures, from histograms.
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

/// A visibility delay. It counts from the acknowledgement, which is not a natural zero: the delay may be negative, so ratios make no
/// sense.
const DELAY: Quantity = Quantity {
    unit: Unit::Micros,
    stats: QUANTILES,
    ..CONTEXT
};

/// The largest effect of a fault on a replica.
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

/// Whether readers of many runs need the figure although it is not judged. They need the lower bounds of visibility delays, the delays
/// from the send (the yardstick for delays that are not above zero), the resolution of the probe's checks, the largest replay lag of a
/// replica, and the counts behind shares.
pub(super) fn is_beside(metric: Metric) -> bool {
    match metric.name() {
        VISIBILITY_LO | VISIBILITY_SEND => matches!(metric.stat, P50 | P99),
        "replay_lag_bytes" => metric.stat == Max,
        "resolution" | "failed" | "indeterminate" | "missed" | "unseen" | "lag_gaps"
        | "lag_unanswered" => true,
        _ => false,
    }
}
