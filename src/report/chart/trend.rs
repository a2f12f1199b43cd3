//! The history of a figure: a dot for each run in the order of the commits with its interval, the levels, and a mark at each change.

use super::axis::Axis;
use super::canvas::{Anchor, Canvas, Dash, Drawing, Paint, Stroke, Type, text_width};
use super::frame::{Frame, Layout};
use crate::analyse::{Change, Point, Series, Verdict};
use crate::metric::Scale;
use crate::report::comparison::{shown_unit, unit_scale};
use crate::report::escape_control;
use crate::report::text::number;
use crate::units::format_ratio;

/// A history as drawings, with the places of its runs so that a page can show a tip for the run under the pointer.
#[derive(Debug, Clone)]
pub(crate) struct Plot {
    pub(crate) title: String,
    pub(crate) description: String,
    pub(crate) wide: PlotDrawing,
    pub(crate) narrow: PlotDrawing,
}

/// A drawing and the place of each run in it, in CSS pixels.
#[derive(Debug, Clone)]
pub(crate) struct PlotDrawing {
    pub(crate) drawing: Drawing,
    pub(crate) spots: Vec<(f64, f64)>,
}

const HEIGHT: f64 = 190.0;
/// Height in CSS pixels of the space above the plot for the marks of changes.
const MARKS: f64 = 34.0;

/// Draws a whole series at both widths.
pub(crate) fn plot(series: &Series) -> Plot {
    let shown = Shown {
        series,
        scale: unit_scale(&series.unit),
    };
    let unit = shown_unit(&series.unit);
    let node = series.node.as_deref().map(escape_control);
    let on = node.map_or_else(String::new, |node| format!(" on {node}"));
    Plot {
        title: format!(
            "{} under {}{on}",
            series.figure(),
            escape_control(&series.mode)
        ),
        description: description(&shown, unit),
        wide: draw(&shown, Layout::Wide),
        narrow: draw(&shown, Layout::Narrow),
    }
}

/// The series that is drawn, and the factor from its unit to the shown unit.
struct Shown<'a> {
    series: &'a Series,
    scale: f64,
}

impl Shown<'_> {
    fn value(&self, point: &Point) -> Option<f64> {
        point.value.map(|value| value * self.scale)
    }
}

fn description(shown: &Shown<'_>, unit: &str) -> String {
    let newest = shown.series.newest().and_then(|point| shown.value(point));
    let newest = newest.map_or_else(
        || "the newest is not known".into(),
        |value| format!("the newest is {} {unit}", number(value)),
    );
    let changes = shown.series.changes.iter().map(|change| {
        let commit = shown.series.points[change.index].commit.as_deref();
        let accepted = if change.blessed { ", accepted" } else { "" };
        format!(
            " At {}: {} {}{accepted}.",
            commit.map_or("an unknown commit".into(), escape_control),
            effect(change, shown.scale),
            change.verdict
        )
    });
    let changes: String = changes.collect();
    format!("{} runs; {newest}.{changes}", shown.series.points.len())
}

/// The size of a change: `1.35×`, or a difference in the shown unit.
fn effect(change: &Change, scale: f64) -> String {
    match (change.effect, change.scale) {
        (None, _) => "from or to beyond what is measured,".into(),
        (Some(effect), Scale::Ratio) => format!("{}×", format_ratio(effect)),
        (Some(effect), Scale::Difference) => number(effect * scale),
    }
}

fn draw(shown: &Shown<'_>, layout: Layout) -> PlotDrawing {
    let unit = shown_unit(&shown.series.unit);
    let points = &shown.series.points;
    let values = points.iter().flat_map(|it| [it.value, it.lo, it.hi]);
    let values: Vec<f64> = values.flatten().map(|it| it * shown.scale).collect();
    let top = MARKS + 18.0;
    let frame = Frame {
        left: layout.pick(64.0, 52.0),
        top,
        right: layout.width() - layout.pick(32.0, 30.0),
        bottom: top + HEIGHT,
        x: Axis::row("commits, oldest first", points.len(), names(shown, layout)),
        y: Axis::around(unit, &values),
    };
    let mut canvas = Canvas::new(layout.width(), frame.bottom + 46.0);
    frame.draw_without_y_title(&mut canvas);
    canvas.text((4.0, 10.0), unit, Type::new(Anchor::Start));
    let spots = draw_points(&mut canvas, &frame, shown);
    draw_levels(&mut canvas, &frame, shown);
    draw_changes(&mut canvas, &frame, shown);
    PlotDrawing {
        drawing: canvas.finish(),
        spots,
    }
}

/// Labels of the axis: the index and the abbreviated commit of some runs, the newest among them.
fn names(shown: &Shown<'_>, layout: Layout) -> Vec<(usize, String)> {
    let points = &shown.series.points;
    let count = points.len();
    let most = layout.pick(7, 3).min(count);
    let places = (0..most).map(|index| index * count.saturating_sub(1) / (most - 1).max(1));
    let name = |place: usize| {
        let commit = points[place].commit.as_deref().unwrap_or("?");
        commit.chars().take(7).collect::<String>()
    };
    places.map(|place| (place, name(place))).collect()
}

fn draw_points(canvas: &mut Canvas, frame: &Frame, shown: &Shown<'_>) -> Vec<(f64, f64)> {
    let (radius, pale) = if shown.series.points.len() > 150 {
        (2.0, 0.25)
    } else {
        (3.5, 0.45)
    };
    let mut spots = Vec::new();
    let (mut line, mut sound, mut invalid, mut whiskers) = (vec![], vec![], vec![], vec![]);
    for (index, point) in shown.series.points.iter().enumerate() {
        let x = frame.at_x(index as f64);
        let value = shown.value(point);
        // A censored figure is larger than everything recorded, so its spot is at the top; the spot of a missing figure is at the bottom.
        let beyond = if point.censored > 0 {
            frame.top
        } else {
            frame.bottom
        };
        let at = (x, value.map_or(beyond, |value| frame.at_y(value)));
        spots.push(at);
        if value.is_none() {
            if point.censored > 0 {
                let below = frame.top + 7.0;
                let tip = [(x - 4.0, below), (x, frame.top), (x + 4.0, below)];
                canvas.polygon(&tip, Paint::Ink, 1.0);
            }
            continue;
        }
        if let Some(lo) = point.lo {
            let hi = point
                .hi
                .map_or(frame.top, |hi| frame.at_y(hi * shown.scale));
            whiskers.push(((x, frame.at_y(lo * shown.scale)), hi));
        }
        if point.counts() {
            line.push(at);
            sound.push(at);
        } else {
            invalid.push(at);
        }
    }
    canvas.whiskers(&whiskers, Stroke::new(Paint::Muted, 1.0).faint(pale));
    canvas.path(&line, Stroke::new(Paint::Series(0), 1.0).faint(0.35));
    canvas.specks(&sound, radius, Paint::Series(0));
    canvas.specks(&invalid, radius, Paint::Muted);
    canvas.specks(&invalid, (radius - 1.3).max(0.8), Paint::Background);
    spots
}

/// Draws the median of each stretch between changes as a line; nothing if the series has no change.
fn draw_levels(canvas: &mut Canvas, frame: &Frame, shown: &Shown<'_>) {
    let mut start = 0.0;
    let mut level = |from: f64, to: f64, value: Option<f64>| {
        if let Some(value) = value {
            let y = frame.at_y(value * shown.scale);
            let stroke = Stroke::new(Paint::Ink, 2.0).faint(0.75);
            canvas.line((frame.at_x(from), y), (frame.at_x(to), y), stroke);
        }
    };
    for change in &shown.series.changes {
        let end = change.index as f64 - 0.5;
        level(start, end, change.before);
        start = end;
    }
    if let Some(last) = shown.series.changes.last() {
        level(start, shown.series.points.len() as f64 - 1.0, last.after);
    }
}

/// Draws a triangle above each change, which points up if the level rose and down otherwise: filled, or hollow if the change was accepted.
fn draw_changes(canvas: &mut Canvas, frame: &Frame, shown: &Shown<'_>) {
    let mut free_from = f64::NEG_INFINITY;
    for change in &shown.series.changes {
        let x = frame.at_x(change.index as f64 - 0.5);
        let paint = match change.verdict {
            Verdict::Regressed => Paint::Series(1),
            Verdict::Improved => Paint::Series(0),
            _ => Paint::Muted,
        };
        let stroke = Stroke::new(paint, 1.2).dashed(Dash::Dashed);
        canvas.line((x, frame.top - 6.0), (x, frame.bottom), stroke);
        let (top, bottom) = (frame.top - 20.0, frame.top - 7.0);
        // A censored level (`None`) is higher than every other.
        let is_rise =
            change.after.unwrap_or(f64::INFINITY) > change.before.unwrap_or(f64::INFINITY);
        let (base, tip) = if is_rise {
            (bottom, top)
        } else {
            (top, bottom)
        };
        let triangle = |half: f64, inset: f64| {
            let base = base + (tip - base) * inset;
            let tip = tip - (tip - base) * 1.6 * inset;
            [(x - half, base), (x + half, base), (x, tip)]
        };
        canvas.polygon(&triangle(7.0, 0.0), paint, 1.0);
        if change.blessed {
            canvas.polygon(&triangle(3.8, 0.17), Paint::Background, 1.0);
        }
        let text = effect(change, shown.scale);
        let half = text_width(&text, 12.0) / 2.0;
        let leftmost = frame.left + half;
        let middle = x.clamp(leftmost, (frame.right - half).max(leftmost));
        if change.effect.is_some() && middle - half >= free_from {
            let above = (middle, top - 10.0);
            canvas.text(above, &text, Type::new(Anchor::Middle).halo());
            free_from = middle + half + 8.0;
        }
    }
}
