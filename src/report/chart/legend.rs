//! The legend of a chart: a sample of each mark with its name, in rows.

use super::canvas::{Anchor, Canvas, Dash, Paint, Stroke, Type, text_width};

/// An entry of a legend: the name of a mark and its look.
#[derive(Debug, Clone)]
pub(super) struct Key {
    pub(super) name: String,
    pub(super) paint: Paint,
    pub(super) mark: Mark,
}

/// The kinds of marks in charts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Mark {
    Line(Dash),
    ThinLine,
    Dot,
    Ring,
    /// A pale bar behind a line.
    Bar,
    /// An area with this opacity, from 0 to 1.
    Area(f64),
    /// A bar with a short vertical line at both ends.
    Interval,
    /// An arrow that points down.
    Down,
    /// A vertical dashed line.
    Event,
    /// A faint vertical line, as it stands between repetitions.
    Part,
    /// A plain vertical line.
    Upright,
}

impl Key {
    pub(super) fn new(name: impl Into<String>, paint: Paint, mark: Mark) -> Self {
        Self {
            name: name.into(),
            paint,
            mark,
        }
    }

    /// The look of the line that this entry stands for.
    pub(super) fn stroke(&self, width: f64) -> Stroke {
        let stroke = Stroke::new(self.paint, width);
        match self.mark {
            Mark::Line(dash) => stroke.dashed(dash),
            _ => stroke,
        }
    }

    /// Draws a sample of the mark between `from` and `to` at the height `y`.
    pub(super) fn draw_sample(&self, canvas: &mut Canvas, from: f64, to: f64, y: f64) {
        let x = f64::midpoint(from, to);
        let line = |width: f64| Stroke::new(self.paint, width);
        let across = |canvas: &mut Canvas, stroke| canvas.line((from, y), (to, y), stroke);
        let upright = |canvas: &mut Canvas, stroke| {
            canvas.line((x, y - 7.0), (x, y + 7.0), stroke);
        };
        match self.mark {
            Mark::Line(_) => across(canvas, self.stroke(2.5)),
            Mark::ThinLine => across(canvas, line(1.2)),
            Mark::Dot => canvas.dot((x, y), 4.5, self.paint),
            Mark::Ring => canvas.ring((x, y), 4.5, self.paint),
            Mark::Bar => across(canvas, line(11.0).faint(0.28)),
            Mark::Area(opacity) => {
                canvas.rect((from, y - 6.0), (to, y + 6.0), self.paint, opacity);
            }
            Mark::Interval => draw_interval(canvas, from, to, y, self.paint),
            Mark::Down => arrow_down(canvas, (x, y - 6.0), self.paint),
            Mark::Upright => upright(canvas, line(1.2)),
            Mark::Part => upright(canvas, line(1.0).faint(0.4)),
            Mark::Event => upright(canvas, line(1.0).dashed(Dash::Dashed).faint(0.6)),
        }
    }
}

/// Draws a bar with a short vertical line at both ends.
pub(super) fn draw_interval(canvas: &mut Canvas, from: f64, to: f64, y: f64, paint: Paint) {
    canvas.line((from, y), (to, y), Stroke::new(paint, 2.5));
    for end in [from, to] {
        canvas.line((end, y - 4.0), (end, y + 4.0), Stroke::new(paint, 2.0));
    }
}

/// Draws an arrow down from a point whose true value lies somewhere below.
pub(super) fn arrow_down(canvas: &mut Canvas, (x, y): (f64, f64), paint: Paint) {
    canvas.line((x, y), (x, y + 8.0), Stroke::new(paint, 2.0));
    let tip = [(x - 4.0, y + 7.0), (x + 4.0, y + 7.0), (x, y + 13.0)];
    canvas.polygon(&tip, paint, 1.0);
}

/// Draws names in rows, with a sample of each mark. Returns the height of all rows in CSS pixels.
pub(super) fn legend(canvas: &mut Canvas, left: f64, top: f64, right: f64, keys: &[Key]) -> f64 {
    const ROW: f64 = 18.0;
    let (mut x, mut y) = (left, top + ROW / 2.0);
    for key in keys {
        let width = 30.0 + text_width(&key.name, 12.0) + 12.0;
        if x + width > right && x > left {
            x = left;
            y += ROW;
        }
        key.draw_sample(canvas, x, x + 22.0, y);
        canvas.text((x + 27.0, y), &key.name, Type::new(Anchor::Start));
        x += width;
    }
    y + ROW / 2.0 - top
}

/// The height of [`legend`] in CSS pixels, without drawing it.
pub(super) fn legend_height(left: f64, right: f64, keys: &[Key]) -> f64 {
    let mut scratch = Canvas::new(1.0, 1.0);
    legend(&mut scratch, left, 0.0, right, keys)
}
