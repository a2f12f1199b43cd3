//! Bytes that each replica had yet to replay, over time, with gaps where that is unknown.

use super::axis::Axis;
use super::canvas::{Anchor, Canvas, Dash, Drawing, Paint, Stroke, Type};
use super::frame::{Area, Frame, Layout, panels_with_legend};
use super::legend::{Key, Mark};
use super::load::{fault_key, time_frame};
use super::{Chart, Table, both, first_modes, left_out};
use crate::analyse::{Analysis, LagPoint, TimeSeries};
use crate::units::{format_bytes, thousands};

/// More replicas than there are colours are not told apart.
const MOST_REPLICAS: usize = Paint::SERIES;

pub(super) fn chart(analysis: &Analysis) -> Option<Chart> {
    let lines: Vec<&TimeSeries> = analysis
        .time_series
        .iter()
        .filter(|line| !line.lag.is_empty())
        .collect();
    (!lines.is_empty()).then_some(())?;
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

/// Medians of the cells' quantiles would hide a bad repetition: this shows the worst of each.
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
        let mut nodes: Vec<&str> = Vec::new();
        for replica in &replicas {
            if !nodes.contains(&replica.node.as_str()) {
                nodes.push(&replica.node);
            }
        }
        for node in nodes {
            let own = || replicas.iter().filter(|replica| replica.node == node);
            let worst = |figure: fn(&crate::metric::Spread) -> Option<f64>| {
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
                node.to_owned(),
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
    let mut nodes: Vec<&str> = Vec::new();
    for (node, _) in lines.iter().flat_map(|line| &line.lag) {
        if !nodes.contains(&node.as_str()) {
            nodes.push(node);
        }
    }
    let has_marks = lines.iter().any(|line| !line.marks.is_empty());
    let keys: Vec<Key> = nodes
        .iter()
        .take(MOST_REPLICAS)
        .enumerate()
        .map(|(index, node)| Key::new(*node, Paint::Series(index), Mark::Line(Dash::Solid)))
        .chain([Key::new("between repetitions", Paint::Muted, Mark::Part)])
        .chain(fault_key(lines))
        .chain(has_marks.then(|| Key::new("event", Paint::Ink, Mark::Event)))
        .collect();
    let (mut canvas, areas) = panels_with_legend(layout, &keys, lines.len(), 240.0);
    let bytes = || {
        lines
            .iter()
            .flat_map(|line| &line.lag)
            .flat_map(|(_, points)| points)
            .filter_map(|point| point.bytes)
    };
    for (line, area) in lines.iter().zip(areas) {
        panel(
            &mut canvas,
            line,
            area,
            Axis::bytes("replay lag (bytes)", bytes()),
            &keys,
        );
    }
    canvas.finish()
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
        let x = frame.at_x(mark.at_s);
        canvas.line(
            (x, frame.top),
            (x, frame.bottom),
            Stroke::new(Paint::Ink, 1.0).dashed(Dash::Dashed).faint(0.6),
        );
        canvas.text(
            (x, frame.top - 1.0),
            "▾",
            Type {
                size: 11.0,
                ..Type::new(Anchor::Middle)
            },
        );
    }
}

/// Pieces of a line between gaps and between repetitions.
fn unbroken(frame: &Frame, points: &[LagPoint]) -> Vec<Vec<(f64, f64)>> {
    let mut runs: Vec<Vec<(f64, f64)>> = vec![Vec::new()];
    let mut rep = None;
    for point in points {
        let fresh = rep.replace(point.rep) != Some(point.rep) || point.bytes.is_none();
        if fresh {
            runs.push(Vec::new());
        }
        if let (Some(bytes), Some(run)) = (point.bytes, runs.last_mut()) {
            run.push(frame.at((point.at_s, bytes)));
        }
    }
    runs.retain(|run| !run.is_empty());
    runs
}
