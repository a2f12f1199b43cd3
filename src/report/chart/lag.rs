//! Bytes of WAL that each replica had yet to replay, over time, with gaps where the number is unknown.

use itertools::Itertools as _;

use super::axis::Axis;
use super::canvas::{Anchor, Canvas, Dash, Drawing, Paint, Stroke, Type};
use super::frame::{Area, Frame, Layout, panels_with_legend};
use super::legend::{Key, Mark};
use super::time::{fault_key, known_lines, time_frame};
use super::{Chart, Table, both, first_modes, left_out};
use crate::analyse::{Analysis, LagPoint, TimeSeries};
use crate::metric::Spread;
use crate::units::{format_bytes, thousands};

/// The most replicas that are drawn: one for each colour, since more could not be told apart.
const MOST_REPLICAS: usize = Paint::SERIES;

pub(super) fn chart(analysis: &Analysis) -> Option<Chart> {
    let lines = known_lines(analysis, |line| !line.lag.is_empty())?;
    let table = table(analysis);
    let description = table.describe(|row| {
        format!(
            "{} {}: at most {}, {} samples without it, {} not answered.",
            row[0], row[1], row[4], row[5], row[6]
        )
    });
    let shown = first_modes(&lines);
    Some(Chart {
        id: "lag",
        title: "How far each replica is behind",
        description,
        caption: format!(
            "WAL that the replica had yet to replay, as its upstream saw it; linear up to 1 kiB, logarithmic beyond. A gap is a sample in which the replica was \
             gone or its upstream did not answer, never a lag of 0; such samples count as larger than all others. Marks above are events (see the list of events below).{}",
            left_out(lines.len())
        ),
        drawings: both(|layout| draw(shown, layout)),
        table,
    })
}

/// The table below the chart. Each quantile is that of its worst repetition, because a median over repetitions would hide a bad one.
fn table(analysis: &Analysis) -> Table {
    let mut table = Table::new(&[
        "mode",
        "replica",
        "p50",
        "p99",
        "most",
        "gone",
        "unanswered",
    ]);
    for mode in &analysis.modes.modes {
        let cells = analysis
            .cells
            .iter()
            .filter(|cell| cell.valid && cell.mode == mode.mode);
        let replicas: Vec<_> = cells.flat_map(|cell| &cell.replicas).collect();
        for node in replicas.iter().map(|replica| &replica.node).unique() {
            let own = || replicas.iter().filter(|replica| replica.node == *node);
            let worst = |figure: fn(&Spread) -> Option<f64>| {
                let lags = own().filter_map(|replica| replica.replay_bytes.as_ref());
                let values = lags.map(|lag| figure(lag).unwrap_or(f64::INFINITY));
                match values.max_by(f64::total_cmp) {
                    Some(value) if value.is_finite() => format_bytes(value),
                    Some(_) => "unknown".into(),
                    None => "–".into(),
                }
            };
            table.rows.push(vec![
                mode.mode.clone(),
                node.clone(),
                worst(|lag| lag.p50),
                worst(|lag| lag.p99),
                worst(|lag| lag.max),
                thousands(own().map(|replica| replica.gaps).sum()),
                thousands(own().map(|replica| replica.unanswered).sum()),
            ]);
        }
    }
    table
}

fn draw(lines: &[&TimeSeries], layout: Layout) -> Drawing {
    let replicas = || lines.iter().flat_map(|line| &line.lag);
    let nodes = replicas().map(|(node, _)| node).unique();
    let has_marks = lines.iter().any(|line| !line.marks.is_empty());
    let keys: Vec<Key> = nodes
        .take(MOST_REPLICAS)
        .enumerate()
        .map(|(index, node)| Key::new(node, Paint::Series(index), Mark::Line(Dash::Solid)))
        .chain([Key::new("between repetitions", Paint::Muted, Mark::Part)])
        .chain(fault_key(lines))
        .chain(has_marks.then(|| Key::new("event", Paint::Ink, Mark::Event)))
        .collect();
    let points = replicas().flat_map(|(_, points)| points);
    let y = Axis::bytes("replay lag (bytes)", points.filter_map(|point| point.bytes));
    panels_with_legend(layout, &keys, lines, 240.0, |canvas, line, area| {
        panel(canvas, line, area, y.clone(), &keys);
    })
}

fn panel(canvas: &mut Canvas, line: &TimeSeries, area: Area, y: Axis, keys: &[Key]) {
    let frame = time_frame(canvas, line, area, y, 60.0);
    for (node, points) in &line.lag {
        let Some(key) = keys.iter().find(|key| &key.name == node) else {
            continue;
        };
        for run in unbroken(&frame, points) {
            match run.as_slice() {
                [only] => canvas.dot(*only, 1.5, key.paint),
                more => canvas.path(more, Stroke::new(key.paint, 1.2).faint(0.85)),
            }
        }
    }
    for mark in &line.marks {
        let dashed = Stroke::new(Paint::Ink, 1.0).dashed(Dash::Dashed);
        frame.upright(canvas, mark.at_s, dashed.faint(0.6));
        let above = (frame.at_x(mark.at_s), frame.top - 1.0);
        canvas.text(above, "▾", Type::new(Anchor::Middle).size(11.0));
    }
}

/// Splits a replica's line at gaps and between repetitions.
fn unbroken(frame: &Frame, points: &[LagPoint]) -> Vec<Vec<(f64, f64)>> {
    let is_joined =
        |a: &LagPoint, b: &LagPoint| a.rep == b.rep && a.bytes.is_some() && b.bytes.is_some();
    let place = |point: &LagPoint| Some(frame.at((point.at_s, point.bytes?)));
    let runs = points.chunk_by(is_joined);
    let runs = runs.map(|run| run.iter().filter_map(place).collect());
    runs.filter(|run: &Vec<_>| !run.is_empty()).collect()
}
