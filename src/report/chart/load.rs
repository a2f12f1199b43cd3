//! Offered and achieved rate, second by second, with the backlog shaded on top of the achieved rate.

use super::axis::Axis;
use super::canvas::{Canvas, Dash, Drawing, Paint, Stroke};
use super::frame::{Area, Layout, panels_with_legend};
use super::legend::{Key, Mark};
use super::time::{fault_key, groups, known_lines, time_frame};
use super::{Chart, Table, both, first_modes, left_out, mode_paint};
use crate::analyse::{Analysis, LoadPoint, TimeSeries};
use crate::units::thousands;

pub(super) fn chart(analysis: &Analysis) -> Option<Chart> {
    let lines = known_lines(analysis, |line| !line.load.is_empty())?;
    let mut table = Table::new(&[
        "mode",
        "offered, mean (1/s)",
        "achieved, mean (1/s)",
        "achieved, least second (1/s)",
        "largest backlog",
    ]);
    for line in &lines {
        let points = || line.load.iter();
        let mean =
            |rate: fn(&LoadPoint) -> f64| points().map(rate).sum::<f64>() / points().len() as f64;
        let acked = points().map(|point| point.acked_tps);
        let least = acked.fold(f64::INFINITY, f64::min);
        let backlog = points().map(|point| point.backlog).max().unwrap_or(0);
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
    let points = lines.iter().flat_map(|line| &line.load);
    let rates = points.flat_map(|point| [point.offered_tps, point.acked_tps]);
    let y = Axis::from_zero("transactions a second (1/s)", rates);
    panels_with_legend(layout, &keys, lines, 220.0, |canvas, line, area| {
        panel(analysis, canvas, line, area, y.clone());
    })
}

fn panel(analysis: &Analysis, canvas: &mut Canvas, line: &TimeSeries, area: Area, y: Axis) {
    let frame = time_frame(canvas, line, area, y, 52.0);
    let (paint, _) = mode_paint(analysis, &line.mode);
    for span in &line.spans {
        let groups = groups(line, span, &line.load, |point| point.start_s);
        let points: Vec<LoadPoint> = groups.iter().filter_map(|group| merged(group)).collect();
        let middle = |point: &LoadPoint| f64::midpoint(point.start_s, point.end_s);
        let along = |rate: &dyn Fn(&LoadPoint) -> f64| -> Vec<(f64, f64)> {
            let places = points.iter().map(|point| (middle(point), rate(point)));
            places.map(|place| frame.at(place)).collect()
        };
        let achieved = along(&|point| point.acked_tps);
        let backlog =
            along(&|point| point.acked_tps + point.backlog as f64 / (point.end_s - point.start_s));
        if points.iter().any(|point| point.backlog > 0) {
            canvas.band(&achieved, &backlog, Paint::Series(1), 0.3);
        }
        canvas.path(&achieved, Stroke::new(paint, 2.0));
        let dotted = Stroke::new(Paint::Ink, 1.2).dashed(Dash::Dotted);
        canvas.path(&along(&|point| point.offered_tps), dotted);
    }
}

/// Merges points into one: the mean of their rates, weighted by duration, and the largest of their backlogs. `None` without points.
fn merged(points: &[&LoadPoint]) -> Option<LoadPoint> {
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
}
