//! Panels over the measured time of a mode, with its repetitions side by side.

use super::axis::Axis;
use super::canvas::{Anchor, Canvas, Paint, Stroke, Type};
use super::frame::{Area, Frame};
use super::legend::{Key, Mark};
use crate::analyse::{Analysis, RepetitionSpan, TimeSeries};

/// The most points of a line in a panel; no screen shows more.
const MOST_POINTS: usize = 400;
/// Opacity of the band of a fault, from 0 to 1.
const FAULT: f64 = 0.2;

/// The time series that `is_known` accepts, one for each mode; `None` if it accepts none.
pub(super) fn known_lines(
    analysis: &Analysis,
    is_known: impl Fn(&TimeSeries) -> bool,
) -> Option<Vec<&TimeSeries>> {
    let lines = analysis.time_series.iter().filter(|line| is_known(line));
    let lines: Vec<_> = lines.collect();
    (!lines.is_empty()).then_some(lines)
}

/// Splits the points of a repetition into groups of neighbours. A panel shows one point for each group: at most about [`MOST_POINTS`]
/// over all repetitions of the mode.
pub(super) fn groups<'a, T>(
    line: &TimeSeries,
    span: &RepetitionSpan,
    points: &'a [T],
    start_s: impl Fn(&T) -> f64,
) -> Vec<Vec<&'a T>> {
    let inside = |point: &&T| (span.start_s - 1e-9..span.end_s).contains(&start_s(point));
    let points: Vec<&T> = points.iter().filter(inside).collect();
    let most = MOST_POINTS.div_ceil(line.spans.len().max(1));
    let size = points.len().div_ceil(most).max(1);
    points.chunks(size).map(<[_]>::to_vec).collect()
}

/// The legend's entry for the bands of faults in [`time_frame`]; `None` if there was no fault.
pub(super) fn fault_key(lines: &[&TimeSeries]) -> Option<Key> {
    let has_faults = lines.iter().any(|line| !line.faults.is_empty());
    has_faults.then(|| Key::new("fault", Paint::Muted, Mark::Area(FAULT)))
}

/// Draws the frame of a panel over the measured time of a mode: its name above, lines between repetitions, and a band for each fault.
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
        // The band of a short fault is wide enough to be seen.
        let right = right.max(left + 1.5);
        let (from, to) = ((left, frame.top), (right, frame.bottom));
        canvas.rect(from, to, Paint::Muted, FAULT);
    }
    frame.draw(canvas);
    let name = Type::new(Anchor::Start).bold().size(13.0);
    canvas.text((area.left + 4.0, area.top + 12.0), &line.mode, name);
    for span in line.spans.iter().skip(1) {
        let faint = Stroke::new(Paint::Muted, 1.0).faint(0.4);
        frame.upright(canvas, span.start_s, faint);
    }
    frame
}
