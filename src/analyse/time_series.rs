//! What happened when: the valid repetitions of a mode one after the other on an axis of measured seconds.

use super::cell::lag_rows;
use crate::record::{ResponseSecond, Run};
use crate::sample::{CellRow, EventKind, IntervalRow, Phase};

/// A mode over time.
#[derive(Debug, Clone, Default)]
pub struct TimeSeries {
    pub mode: String,
    /// The repetitions, end to end from second 0 of the axis.
    pub spans: Vec<RepetitionSpan>,
    pub load: Vec<LoadPoint>,
    pub host: Vec<HostPoint>,
    pub heat: Vec<HeatColumn>,
    /// Lag samples by replica, in the order of the topology.
    pub lag: Vec<(String, Vec<LagPoint>)>,
    pub marks: Vec<Mark>,
    /// Start and end of each stretch of time with a fault, in seconds on the axis.
    pub faults: Vec<(f64, f64)>,
}

/// One repetition on the axis.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RepetitionSpan {
    pub rep: u32,
    pub start_s: f64,
    pub end_s: f64,
}

/// The load in one second. Rates are transactions per second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LoadPoint {
    pub start_s: f64,
    pub end_s: f64,
    pub offered_tps: f64,
    pub acked_tps: f64,
    pub backlog: u64,
}

/// The shares of the host's processors in one second; `None` if unknown.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HostPoint {
    pub start_s: f64,
    pub end_s: f64,
    /// Share neither idle nor waiting for a disk.
    pub busy: Option<f64>,
    /// Share taken by other guests of a virtual machine's host.
    pub steal: Option<f64>,
    /// Share idle while waiting for a disk.
    pub iowait: Option<f64>,
}

/// Response times in one stretch of time: bins of [`ResponseSecond`], each with its share of the column's transactions.
#[derive(Debug, Clone, PartialEq)]
pub struct HeatColumn {
    pub start_s: f64,
    pub end_s: f64,
    pub bins: Vec<(u16, f64)>,
}

/// Bytes that a replica had yet to replay; `None` where it was gone or its upstream did not answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LagPoint {
    pub at_s: f64,
    pub bytes: Option<f64>,
    pub rep: u32,
}

/// An event on the axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Mark {
    pub at_s: f64,
    pub kind: EventKind,
    pub detail: String,
}

/// The most columns of a heatmap; more columns are merged, since no screen shows them.
const MOST_COLUMNS: usize = 120;
/// The most points of a lag line, since no screen shows more.
const MOST_POINTS: usize = 600;
const MOST_MARKS: usize = 40;
/// Shortest interval with a rate of its own, in microseconds. A shorter one at the end of a phase is added to the second before.
const SHORTEST_US: u64 = 500_000;
/// Longest cell, in seconds. Longer cells do not exist, and a damaged `measured_s` must not stretch the axis.
const LONGEST_S: f64 = 7.0 * 86_400.0;

/// One time series for each mode, in the order of the plan.
pub fn time_series(run: &Run) -> Vec<TimeSeries> {
    run.mode_names()
        .into_iter()
        .map(|mode| time_series_of(run, mode))
        .collect()
}

fn time_series_of(run: &Run, mode: String) -> TimeSeries {
    let cells: Vec<&CellRow> = run
        .cells_of(&mode)
        .into_iter()
        .filter(|cell| cell.valid && cell.measured_s > 0.0 && cell.measured_s <= LONGEST_S)
        .collect();
    let mut line = TimeSeries {
        mode,
        ..TimeSeries::default()
    };
    let mut start_s = 0.0;
    for cell in cells {
        let span = RepetitionSpan {
            rep: cell.rep,
            start_s,
            end_s: start_s + cell.measured_s,
        };
        let seconds = whole_seconds(run, cell);
        let (load, host) = points(&seconds, span);
        line.load.extend(load);
        line.host.extend(host);
        if let Some(found) = run.histograms.get(&cell.cell_id) {
            let seconds = found.seconds.iter();
            let columns = seconds.filter_map(|second| heat_column(second, span));
            line.heat.extend(columns);
        }
        add_lag(&mut line.lag, run, cell, span);
        line.marks.extend(marks(run, cell, span));
        line.faults.extend(faults(run, cell, span));
        line.spans.push(span);
        start_s = span.end_s;
    }
    line.heat = merge_columns(&line.heat);
    for (_, points) in &mut line.lag {
        *points = thin(points);
    }
    line.marks.truncate(MOST_MARKS);
    line
}

/// The rows of the measurement phase. The few milliseconds that are left of a phase after its last whole second have no rate of their own:
/// they are added to the second before.
fn whole_seconds(run: &Run, cell: &CellRow) -> Vec<IntervalRow> {
    let rows = run
        .intervals_of(cell.cell_id)
        .iter()
        .filter(|row| row.phase == Phase::Measure && row.t_us >= 0 && row.length_us > 0);
    let mut seconds: Vec<IntervalRow> = Vec::new();
    rows.for_each(|row| add_second(&mut seconds, row));
    seconds
}

fn add_second(seconds: &mut Vec<IntervalRow>, row: &IntervalRow) {
    match seconds.last_mut() {
        Some(last) if row.length_us < SHORTEST_US => {
            last.length_us = last.length_us.saturating_add(row.length_us);
            last.offered = last.offered.saturating_add(row.offered);
            last.acked = last.acked.saturating_add(row.acked);
            last.backlog = last.backlog.max(row.backlog);
        }
        _ => seconds.push(row.clone()),
    }
}

/// The rates and the processor shares of each second that begins within the repetition.
fn points(seconds: &[IntervalRow], span: RepetitionSpan) -> (Vec<LoadPoint>, Vec<HostPoint>) {
    let point = |row: &IntervalRow| {
        let start_s = span.start_s + row.t_us as f64 / 1e6;
        let length_s = row.length_us as f64 / 1e6;
        let end_s = (start_s + length_s).min(span.end_s);
        let load = LoadPoint {
            start_s,
            end_s,
            offered_tps: row.offered as f64 / length_s,
            acked_tps: row.acked as f64 / length_s,
            backlog: row.backlog,
        };
        let host = HostPoint {
            start_s,
            end_s,
            busy: row.host_busy_share,
            steal: row.host_steal_share,
            iowait: row.host_iowait_share,
        };
        (start_s < span.end_s).then_some((load, host))
    };
    seconds.iter().filter_map(point).unzip()
}

fn heat_column(second: &ResponseSecond, span: RepetitionSpan) -> Option<HeatColumn> {
    let start_s = span.start_s + second.start_s;
    let inside = second.start_s >= 0.0 && second.length_s > 0.0 && start_s < span.end_s;
    inside.then(|| HeatColumn {
        start_s,
        end_s: (start_s + second.length_s).min(span.end_s),
        bins: second
            .bins
            .iter()
            .map(|(bin, count)| (*bin, f64::from(*count)))
            .collect(),
    })
}

/// Merges neighbours until the columns fit, then turns counts into shares.
fn merge_columns(columns: &[HeatColumn]) -> Vec<HeatColumn> {
    let group = columns.len().div_ceil(MOST_COLUMNS).max(1);
    columns
        .chunks(group)
        .map(|chunk| {
            let mut bins = std::collections::BTreeMap::<u16, f64>::new();
            for (bin, count) in chunk.iter().flat_map(|column| &column.bins) {
                *bins.entry(*bin).or_default() += count;
            }
            let total: f64 = bins.values().sum();
            HeatColumn {
                start_s: chunk.first().map_or(0.0, |column| column.start_s),
                end_s: chunk.last().map_or(0.0, |column| column.end_s),
                bins: bins
                    .into_iter()
                    .map(|(bin, count)| (bin, count / total))
                    .collect(),
            }
        })
        .collect()
}

fn add_lag(
    lag: &mut Vec<(String, Vec<LagPoint>)>,
    run: &Run,
    cell: &CellRow,
    span: RepetitionSpan,
) {
    for row in lag_rows(run, cell) {
        let point = LagPoint {
            at_s: span.start_s + row.t_us as f64 / 1e6,
            bytes: row.replay_lag_bytes.map(|bytes| bytes as f64),
            rep: cell.rep,
        };
        match lag.iter_mut().find(|(node, _)| *node == row.node) {
            Some((_, points)) => points.push(point),
            None => lag.push((row.node.clone(), vec![point])),
        }
    }
}

/// Keeps one point of each group of neighbours: a gap if there is one, otherwise the largest sample.
fn thin(points: &[LagPoint]) -> Vec<LagPoint> {
    let group = points.len().div_ceil(MOST_POINTS).max(1);
    points
        .chunks(group)
        .filter_map(|chunk| {
            let gap = chunk.iter().find(|point| point.bytes.is_none());
            let bytes = |point: &LagPoint| point.bytes.unwrap_or(f64::MIN);
            let peak = chunk.iter().max_by(|a, b| bytes(a).total_cmp(&bytes(b)));
            gap.or(peak).copied()
        })
        .collect()
}

fn marks(run: &Run, cell: &CellRow, span: RepetitionSpan) -> Vec<Mark> {
    let length_s = span.end_s - span.start_s;
    let rows = run.events.iter().filter(|row| {
        let at_s = row.t_us as f64 / 1e6;
        row.cell_id == Some(cell.cell_id)
            && (0.0..=length_s).contains(&at_s)
            && !matches!(
                row.kind,
                // Faults are shown as bands.
                EventKind::Rows | EventKind::FaultBegan | EventKind::FaultEnded
            )
    });
    rows.map(|row| Mark {
        at_s: span.start_s + row.t_us as f64 / 1e6,
        kind: row.kind.clone(),
        detail: row.detail.clone(),
    })
    .collect()
}

/// The stretches of a repetition with a fault; stretches that overlap or touch are merged.
fn faults(run: &Run, cell: &CellRow, span: RepetitionSpan) -> Vec<(f64, f64)> {
    let own = run.faults.iter().filter(|it| it.cell_id == cell.cell_id);
    let on_axis = |us: i64| (span.start_s + us as f64 / 1e6).clamp(span.start_s, span.end_s);
    let mut stretches: Vec<(f64, f64)> = own
        .map(|it| {
            let end = it.ended_us.map_or(span.end_s, on_axis);
            (on_axis(it.began_us), end)
        })
        .collect();
    stretches.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut merged: Vec<(f64, f64)> = Vec::new();
    for (start, end) in stretches {
        match merged.last_mut() {
            Some(last) if start <= last.1 => last.1 = last.1.max(end),
            _ => merged.push((start, end)),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(t_us: i64, length_us: u64, count: u64) -> IntervalRow {
        let head = "cell_id,t_us,length_us,phase,offered,sent,acked,failed,backlog,in_flight,start_lag_p50_us,start_lag_p99_us,pool_wait_p50_us,\
                    pool_wait_p99_us,service_p50_us,service_p99_us,service_max_us,response_p50_us,response_p99_us,response_max_us,wal_bytes,\
                    syncrep_waiters,host_busy_share,host_steal_share,host_iowait_share,load_cpu_share,probe_cpu_share";
        let text = format!(
            "{head}\n1,{t_us},{length_us},measure,{count},{count},{count},0,0,0,,,,,,,,,,,,,0.5,0,0.1,,\n"
        );
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        reader.deserialize().next().unwrap().unwrap()
    }

    fn span(end_s: f64) -> RepetitionSpan {
        RepetitionSpan {
            rep: 1,
            start_s: 0.0,
            end_s,
        }
    }

    fn merged(rows: &[IntervalRow]) -> Vec<IntervalRow> {
        let mut seconds = Vec::new();
        for row in rows {
            add_second(&mut seconds, row);
        }
        seconds
    }

    #[test]
    fn the_rest_of_a_phase_is_no_second_without_answers() {
        // Within 30 ms there may be no arrival that is due, and nothing that is acknowledged.
        let seconds = merged(&[
            row(0, 1_000_000, 500),
            row(1_000_000, 1_000_000, 500),
            row(2_000_000, 30_000, 0),
        ]);
        let points = points(&seconds, span(2.03)).0;
        assert_eq!(points.len(), 2);
        assert!(
            points.iter().all(|point| point.acked_tps > 480.0),
            "{points:?}"
        );
        assert!((points[1].end_s - 2.03).abs() < 1e-9, "{points:?}");
        let halves = merged(&[row(0, 1_000_000, 500), row(1_000_000, 600_000, 300)]);
        assert_eq!(halves.len(), 2);
    }

    #[test]
    fn a_phase_that_is_shorter_than_a_second_is_shown() {
        let points = points(&merged(&[row(0, 30_000, 15)]), span(0.03)).0;
        assert!((points[0].acked_tps - 500.0).abs() < 1e-9, "{points:?}");
    }

    #[test]
    fn the_host_has_a_point_a_second() {
        let points = points(&[row(0, 1_000_000, 1)], span(1.0)).1;
        assert_eq!(points[0].busy, Some(0.5));
        assert_eq!(points[0].iowait, Some(0.1));
    }
}
