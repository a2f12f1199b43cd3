//! The durability trade-off: the time of a commit against how far the worst replica is behind, with one point for each mode.

use super::axis::Axis;
use super::canvas::{Anchor, Canvas, Dash, Drawing, Paint, Stroke, Type, text_width};
use super::frame::{Frame, Layout};
use super::legend::{Key, Mark, arrow_down, legend, legend_height};
use super::{
    Chart, Table, both, first_modes, left_out, mode_paint, seconds, values, visible, with_interval,
};
use crate::analyse::{Analysis, Estimate, ModeFigures};
use crate::units::format_bytes;

/// A mode in the chart: commit p99 in milliseconds (`x`) against the chosen [`Distance`] of its worst replica (`y`).
struct Point<'a> {
    mode: &'a str,
    x: Estimate,
    y: Estimate,
    /// Whether the true value may lie anywhere below `y`.
    is_upper_bound: bool,
}

/// What the y axis shows: visibility p99 in milliseconds, or replay lag p99 in bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Distance {
    Visibility,
    Lag,
}

pub(super) fn chart(analysis: &Analysis) -> Option<Chart> {
    let by_visibility = points(analysis, Distance::Visibility);
    let (distance, points) = if by_visibility.is_empty() {
        (Distance::Lag, points(analysis, Distance::Lag))
    } else {
        (Distance::Visibility, by_visibility)
    };
    (!points.is_empty()).then_some(())?;
    let mut table = Table::new(&[
        "mode",
        "commit p99",
        "visible p99",
        "resolution",
        "replay lag p99",
    ]);
    for mode in &analysis.modes.modes {
        let value = |estimate: Option<Estimate>| estimate.map(|estimate| estimate.value);
        table.rows.push(vec![
            mode.mode.clone(),
            with_interval(mode.response_p99),
            visible(mode, mode.visibility_p99),
            seconds(mode.visibility_resolution),
            value(mode.lag_p99_bytes).map_or_else(|| "–".into(), format_bytes),
        ]);
    }
    let description = table.describe(|row| {
        format!(
            "{}: commit p99 {}, visible p99 {} (resolution {}), replay lag p99 {}.",
            row[0], row[1], row[2], row[3], row[4]
        )
    });
    let shown = first_modes(&points);
    Some(Chart {
        id: "tradeoff",
        title: "Commit time against freshness of reads",
        description,
        caption: format!(
            "Further left a commit is faster, further down it is visible sooner, or the replica less far behind. Means over repetitions; the replica is the worst of each mode.{}{}",
            if shown.iter().any(|point| point.is_upper_bound) {
                " A point with an arrow is an upper bound: the probe's looks lie as far apart as the figure is large."
            } else {
                ""
            },
            left_out(points.len())
        ),
        drawings: both(|layout| draw(analysis, shown, distance, layout)),
        table,
    })
}

fn points(analysis: &Analysis, measure: Distance) -> Vec<Point<'_>> {
    type Figure = fn(&ModeFigures) -> Option<Estimate>;
    let (distance, scale): (Figure, f64) = match measure {
        Distance::Visibility => (|mode| mode.visibility_p99, 1e3),
        Distance::Lag => (|mode| mode.lag_p99_bytes, 1.0),
    };
    let scaled = |estimate: Estimate, scale: f64| estimate.map(|value| value * scale);
    let finite = |estimate: &Estimate| estimate.value.is_finite();
    let modes = analysis.modes.modes.iter();
    modes
        .filter_map(|mode| {
            Some(Point {
                mode: &mode.mode,
                x: scaled(mode.response_p99.filter(finite)?, 1e3),
                y: scaled(distance(mode).filter(finite)?, scale),
                is_upper_bound: measure == Distance::Visibility
                    && mode
                        .visibility_p99
                        .is_some_and(|p99| mode.is_upper_bound(p99.value)),
            })
        })
        .collect()
}

fn draw(analysis: &Analysis, points: &[Point<'_>], distance: Distance, layout: Layout) -> Drawing {
    let xs = points.iter().flat_map(|point| values(&point.x));
    let ys: Vec<f64> = points.iter().flat_map(|point| values(&point.y)).collect();
    let y = match distance {
        Distance::Lag => Axis::bytes("replay lag p99, worst replica (bytes)", ys),
        Distance::Visibility => Axis::ms("visible p99, worst replica (ms)", &ys),
    };
    let mut keys = vec![
        Key::new("a mode", Paint::Ink, Mark::Dot),
        Key::new(
            "95 % interval over repetitions",
            Paint::Ink,
            Mark::Line(Dash::Solid),
        ),
    ];
    if points.iter().any(|point| point.is_upper_bound) {
        keys.push(Key::new("upper bound", Paint::Ink, Mark::Down));
    }
    let top = legend_height(4.0, layout.width(), &keys) + 44.0;
    let frame = Frame {
        left: layout.pick(64.0, 52.0),
        top,
        right: layout.width() - layout.pick(60.0, 16.0),
        bottom: top + layout.pick(300.0, 260.0),
        x: Axis::log("commit p99 (ms)", xs),
        y,
    };
    let mut canvas = Canvas::new(layout.width(), frame.bottom + 46.0);
    frame.draw(&mut canvas);
    legend(&mut canvas, 4.0, 4.0, layout.width(), &keys);
    let mut taken: Vec<[f64; 4]> = Vec::new();
    for point in points {
        let (paint, _) = mode_paint(analysis, point.mode);
        let at = frame.at((point.x.value, point.y.value));
        let stroke = Stroke::new(paint, 1.6).faint(0.7);
        if let Some(interval) = point.x.interval {
            let (lo, hi) = (frame.at_x(interval.lo), frame.at_x(interval.hi));
            canvas.line((lo, at.1), (hi, at.1), stroke);
        }
        if let Some(interval) = point.y.interval {
            let (lo, hi) = (frame.at_y(interval.lo), frame.at_y(interval.hi));
            canvas.line((at.0, lo), (at.0, hi), stroke);
        }
        taken.push([at.0 - 7.0, at.1 - 7.0, at.0 + 7.0, at.1 + 7.0]);
    }
    for point in points {
        let (paint, _) = mode_paint(analysis, point.mode);
        let at = frame.at((point.x.value, point.y.value));
        canvas.dot(at, 6.0, paint);
        if point.is_upper_bound {
            arrow_down(&mut canvas, (at.0, at.1 + 8.0), paint);
        }
        label(&mut canvas, &frame, at, point.mode, &mut taken);
    }
    canvas.finish()
}

/// Writes a name beside its point, where it touches no point and no other name if there is such a place. `taken` holds the rectangles
/// (left, top, right, bottom) that are occupied.
fn label(
    canvas: &mut Canvas,
    frame: &Frame,
    at: (f64, f64),
    name: &str,
    taken: &mut Vec<[f64; 4]>,
) {
    let width = text_width(name, 13.0);
    let offsets = [
        (12.0, -13.0),
        (12.0, 14.0),
        (-12.0 - width, -13.0),
        (-12.0 - width, 14.0),
        (-width / 2.0, -26.0),
        (-width / 2.0, 28.0),
        (12.0, -30.0),
        (12.0, 32.0),
    ];
    let boxes = offsets.map(|(dx, dy)| {
        let (x, y) = (at.0 + dx, at.1 + dy);
        [x, y - 8.0, x + width, y + 8.0]
    });
    let free = boxes.iter().find(|place| {
        let inside = place[0] >= frame.left
            && place[2] <= frame.right + 50.0
            && place[1] >= frame.top - 10.0
            && place[3] <= frame.bottom;
        inside
            && !taken.iter().any(|other| {
                place[0] < other[2]
                    && other[0] < place[2]
                    && place[1] < other[3]
                    && other[1] < place[3]
            })
    });
    let place = *free.unwrap_or(&boxes[0]);
    taken.push(place);
    let middle = f64::midpoint(place[1], place[3]);
    let kind = Type::new(Anchor::Start).bold().halo().size(13.0);
    canvas.text((place[0], middle), name, kind);
}
