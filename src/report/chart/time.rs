//! Panels over the measured seconds of a mode, its repetitions side by side.

use super::axis::Axis;
use super::canvas::{Anchor, Canvas, Paint, Stroke, Type};
use super::frame::{Area, Frame};
use super::legend::{Key, Mark};
use crate::analyse::{Analysis, RepetitionSpan, TimeSeries};

/// Points of a line in a panel: no screen shows more.
const MOST_POINTS: usize = 400;
/// How opaque the band of a fault is.
const FAULT: f64 = 0.2;

/// The modes of which something is known over time; `None` where there is no such mode.
pub(super) fn known_lines(
    analysis: &Analysis,
    is_known: impl Fn(&TimeSeries) -> bool,
) -> Option<Vec<&TimeSeries>> {
    let lines = analysis.time_series.iter().filter(|line| is_known(line));
    let lines: Vec<_> = lines.collect();
    (!lines.is_empty()).then_some(lines)
}

/// Neighbouring points of a repetition, in as many groups as a panel can show.
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

/// What the bands of [`time_frame`] mean, if there are any.
pub(super) fn fault_key(lines: &[&TimeSeries]) -> Option<Key> {
    let has_faults = lines.iter().any(|line| !line.faults.is_empty());
    has_faults.then(|| Key::new("fault", Paint::Muted, Mark::Area(FAULT)))
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
