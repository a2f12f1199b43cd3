//! Offered against achieved, second by second, with what lies between them shaded.

use super::axis::Axis;
use super::canvas::{Anchor, Canvas, Dash, Drawing, Paint, Stroke, Type};
use super::frame::{Area, Frame, Layout, panels_with_legend};
use super::legend::{Key, Mark};
use super::{Chart, Table, both, first_modes, left_out, mode_paint};
use crate::analyse::{Analysis, LoadPoint, TimeSeries};
use crate::units::thousands;

/// Points of a line in a panel: no screen shows more.
const MOST_POINTS: usize = 400;

pub(super) fn chart(analysis: &Analysis) -> Option<Chart> {
    let lines: Vec<&TimeSeries> = analysis
        .time_series
        .iter()
        .filter(|line| !line.load.is_empty())
        .collect();
    (!lines.is_empty()).then_some(())?;
    let mut table = Table::new(&[
        "mode",
        "offered, mean (1/s)",
        "achieved, mean (1/s)",
        "achieved, least second (1/s)",
        "largest backlog",
    ]);
    for line in &lines {
        let mean = |rate: fn(&LoadPoint) -> f64| {
            line.load.iter().map(rate).sum::<f64>() / line.load.len() as f64
        };
        let least = line
            .load
            .iter()
            .map(|point| point.acked_tps)
            .fold(f64::INFINITY, f64::min);
        let backlog = line
            .load
            .iter()
            .map(|point| point.backlog)
            .max()
            .unwrap_or(0);
        table.rows.push(vec![
            line.mode.clone(),
            format!("{:.0}", mean(|point| point.offered_tps)),
            format!("{:.0}", mean(|point| point.acked_tps)),
            format!("{least:.0}"),
            thousands(backlog),
        ]);
    }
    let description = table.describe(|row| {
        format!(
            "{}: {} offered and {} achieved a second, largest backlog {}.",
            row[0], row[1], row[2], row[4]
        )
    });
    let shown = first_modes(&lines);
    Some(Chart {
        id: "load",
        title: "Offered against achieved",
        description,
        caption: format!(
            "Dotted: arrivals that were due in each second; solid: commits acknowledged in it. Shaded: the backlog, arrivals due and not yet sent, drawn as a \
             rate on top of the achieved. Upright lines part repetitions, set side by side.{}",
            left_out(lines.len())
        ),
        drawings: both(|layout| draw(analysis, shown, layout)),
        table,
    })
}

fn draw(analysis: &Analysis, lines: &[&TimeSeries], layout: Layout) -> Drawing {
    let mut keys = vec![
        Key::new("offered", Paint::Ink, Mark::Line(Dash::Dotted)),
        Key::new(
            "achieved (in the mode's colour)",
            Paint::Muted,
            Mark::Line(Dash::Solid),
        ),
        Key::new("backlog", Paint::Series(1), Mark::Area(0.3)),
        Key::new("between repetitions", Paint::Muted, Mark::Part),
    ];
    keys.extend(fault_key(lines));
    let (mut canvas, areas) = panels_with_legend(layout, &keys, lines.len(), 220.0);
    let rates = || {
        lines
            .iter()
            .flat_map(|line| &line.load)
            .flat_map(|point| [point.offered_tps, point.acked_tps])
    };
    for (line, area) in lines.iter().zip(areas) {
        panel(
            analysis,
            &mut canvas,
            line,
            area,
            Axis::from_zero("transactions a second (1/s)", rates()),
        );
    }
    canvas.finish()
}

fn panel(analysis: &Analysis, canvas: &mut Canvas, line: &TimeSeries, area: Area, y: Axis) {
    let frame = time_frame(canvas, line, area, y, 52.0);
    let (paint, _) = mode_paint(analysis, &line.mode);
    for span in &line.spans {
        let points: Vec<&LoadPoint> = line
            .load
            .iter()
            .filter(|point| point.start_s >= span.start_s - 1e-9 && point.start_s < span.end_s)
            .collect();
        let points = merged(&points, MOST_POINTS.div_ceil(line.spans.len()));
        let middle = |point: &LoadPoint| f64::midpoint(point.start_s, point.end_s);
        let along = |rate: &dyn Fn(&LoadPoint) -> f64| -> Vec<(f64, f64)> {
            points
                .iter()
                .map(|point| frame.at((middle(point), rate(point))))
                .collect()
        };
        let achieved = along(&|point| point.acked_tps);
        let backlog =
            along(&|point| point.acked_tps + point.backlog as f64 / (point.end_s - point.start_s));
        let band: Vec<_> = achieved
            .iter()
            .chain(backlog.iter().rev())
            .copied()
            .collect();
        if points.iter().any(|point| point.backlog > 0) {
            canvas.polygon(&band, Paint::Series(1), 0.3);
        }
        canvas.path(&achieved, Stroke::new(paint, 2.0));
        canvas.path(
            &along(&|point| point.offered_tps),
            Stroke::new(Paint::Ink, 1.2).dashed(Dash::Dotted),
        );
    }
}

/// As many points as a panel can show, each the mean of neighbours and the largest of their backlogs.
fn merged(points: &[&LoadPoint], most: usize) -> Vec<LoadPoint> {
    let group = points.len().div_ceil(most).max(1);
    let merge = |points: &[&LoadPoint]| {
        let seconds: f64 = points.iter().map(|point| point.end_s - point.start_s).sum();
        let mean = |rate: fn(&LoadPoint) -> f64| {
            let sum = points
                .iter()
                .map(|point| rate(point) * (point.end_s - point.start_s));
            sum.sum::<f64>() / seconds
        };
        Some(LoadPoint {
            start_s: points.first()?.start_s,
            end_s: points.last()?.end_s,
            offered_tps: mean(|point| point.offered_tps),
            acked_tps: mean(|point| point.acked_tps),
            backlog: points.iter().map(|point| point.backlog).max()?,
        })
    };
    points.chunks(group).filter_map(merge).collect()
}

/// The band behind a chart where there was a fault.
const FAULT: Band = Band {
    paint: Paint::Muted,
    opacity: 0.2,
};

struct Band {
    paint: Paint,
    opacity: f64,
}

/// What the bands of [`time_frame`] mean, if there are any.
pub(super) fn fault_key(lines: &[&TimeSeries]) -> Option<Key> {
    let has_faults = lines.iter().any(|line| !line.faults.is_empty());
    has_faults.then(|| Key::new("fault", FAULT.paint, Mark::Area(FAULT.opacity)))
}

/// A panel over the measured seconds of a mode, its name above and lines between repetitions.
pub(super) fn time_frame(
    canvas: &mut Canvas,
    line: &TimeSeries,
    area: Area,
    y: Axis,
    margin: f64,
) -> Frame {
    let end_s = line.spans.last().map_or(1.0, |span| span.end_s);
    let frame = Frame {
        left: area.left + margin,
        top: area.top + 46.0,
        right: area.right - 12.0,
        bottom: area.bottom - 46.0,
        x: Axis::seconds("measured time, repetitions side by side (s)", end_s),
        y,
    };
    for (start, end) in &line.faults {
        let (left, right) = (frame.at_x(*start), frame.at_x(*end));
        // A short one is to be seen too.
        let right = right.max(left + 1.5);
        canvas.rect(
            (left, frame.top),
            (right, frame.bottom),
            FAULT.paint,
            FAULT.opacity,
        );
    }
    frame.draw(canvas);
    canvas.text(
        (area.left + 4.0, area.top + 12.0),
        &line.mode,
        Type {
            size: 13.0,
            ..Type::new(Anchor::Start).bold()
        },
    );
    for span in line.spans.iter().skip(1) {
        let x = frame.at_x(span.start_s);
        canvas.line(
            (x, frame.top),
            (x, frame.bottom),
            Stroke::new(Paint::Muted, 1.0).faint(0.4),
        );
    }
    frame
}
