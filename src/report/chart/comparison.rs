//! A comparison as a forest plot: each figure's factor with its interval, over the band of changes that do not matter.

use super::axis::Axis;
use super::canvas::{Anchor, Canvas, Drawing, Paint, Stroke, Type, widest};
use super::frame::{Frame, Layout};
use super::{Chart, Table, both};
use crate::analyse::{Comparison, Kind, Row, Verdict};
use crate::metric::Scale;
use crate::report::comparison::{by_mode, figure_name, interval_text};
use crate::units::format_ratio;

const ROW: f64 = 22.0;
/// Height of a row on a phone, where a figure's name stands above its interval.
const TALL_ROW: f64 = 34.0;
const PANEL_HEAD: f64 = 30.0;
const PANEL_GAP: f64 = 14.0;
/// The most rows that are drawn, unless the first panel alone has more; the others are in the table only.
const MOST_ROWS: usize = 90;
const LONGEST_NAME: usize = 26;

struct Panel<'a> {
    mode: String,
    rows: Vec<Drawn<'a>>,
}

/// A row of the comparison that has a factor, and so can be drawn.
struct Drawn<'a> {
    row: &'a Row,
    name: String,
    ratio: f64,
}

/// The chart of a comparison; `None` if no figure has a factor.
pub(crate) fn chart(comparison: &Comparison) -> Option<Chart> {
    let (panels, left_out) = panels(comparison);
    (!panels.is_empty()).then_some(())?;
    let mut table = Table::new(&["mode", "figure", "factor", "95 % interval", "verdict"]);
    let mut description = Vec::new();
    for panel in &panels {
        for drawn in &panel.rows {
            table.rows.push(vec![
                panel.mode.clone(),
                figure_name(drawn.row),
                format_ratio(drawn.ratio),
                interval_text(drawn.row),
                drawn.row.word().to_owned(),
            ]);
            description.push(format!(
                "{} {}: {}, {}.",
                panel.mode,
                figure_name(drawn.row),
                factor(drawn),
                drawn.row.word()
            ));
        }
    }
    let (worse, better) = match comparison.kind {
        Kind::Modes => ("worse", "better"),
        Kind::Runs | Kind::Session => ("regressed", "improved"),
    };
    let others = if left_out > 0 {
        format!(
            " {left_out} more figures without a factor, or beyond those that fit, are in the tables below only."
        )
    } else {
        String::new()
    };
    Some(Chart {
        id: "effects",
        title: "What changed, and by how much",
        description: description.join(" "),
        caption: format!(
            "Head over base with its 95 % interval, on a logarithmic scale. The band is the threshold of {} %: changes inside do not matter. \
             Diamond: {worse}. Square: {better}. Disc: equivalent. Ring: inconclusive.{others}",
            comparison.threshold * 100.0
        ),
        drawings: both(|layout| draw(comparison, &panels, layout)),
        table,
    })
}

fn panels(comparison: &Comparison) -> (Vec<Panel<'_>>, usize) {
    let mut panels = Vec::new();
    let mut count = 0;
    for (mode, rows) in by_mode(comparison) {
        let rows: Vec<_> = rows.into_iter().filter_map(Drawn::of).collect();
        if !rows.is_empty() && (panels.is_empty() || count + rows.len() <= MOST_ROWS) {
            count += rows.len();
            panels.push(Panel { mode, rows });
        }
    }
    (panels, comparison.rows.len() - count)
}

impl<'a> Drawn<'a> {
    fn of(row: &'a Row) -> Option<Self> {
        let ratio = row.effect.filter(|effect| *effect > 0.0)?;
        let name = figure_name(row);
        let name = if name.chars().count() > LONGEST_NAME {
            let start: String = name.chars().take(LONGEST_NAME - 1).collect();
            format!("{start}…")
        } else {
            name
        };
        (row.scale == Scale::Ratio).then_some(Self { row, name, ratio })
    }

    /// The ends of the interval. An open end is 0 or infinity. `None` without an interval.
    fn interval(&self) -> Option<(f64, f64)> {
        let bounds = self.row.interval?;
        Some((bounds.lo.unwrap_or(0.0), bounds.hi.unwrap_or(f64::INFINITY)))
    }

    fn paint(&self) -> Paint {
        match self.row.verdict {
            Verdict::Improved => Paint::Series(0),
            Verdict::Regressed => Paint::Series(1),
            Verdict::Equivalent
            | Verdict::BelowResolution
            | Verdict::Inconclusive
            | Verdict::NotComparable => Paint::Muted,
        }
    }
}

/// The factor of a figure with its interval, such as `1.51× (1.38..1.65)`.
fn factor(drawn: &Drawn<'_>) -> String {
    let ratio = format_ratio(drawn.ratio);
    match drawn.interval() {
        Some(_) => format!("{ratio}× ({})", interval_text(drawn.row)),
        None => format!("{ratio}×, no interval"),
    }
}

fn draw(comparison: &Comparison, panels: &[Panel<'_>], layout: Layout) -> Drawing {
    let row_height = layout.pick(ROW, TALL_ROW);
    let all = || panels.iter().flat_map(|panel| &panel.rows);
    let names = widest(all().map(|drawn| drawn.name.as_str()), 12.0);
    let words: Vec<String> = all().map(|drawn| words(drawn, layout)).collect();
    let words = widest(words.iter().map(String::as_str), 12.0);
    let left = layout.pick(names + 22.0, 8.0);
    let right = layout.width() - layout.pick(words + 24.0, 8.0);
    let height: f64 = panels
        .iter()
        .map(|panel| PANEL_HEAD + row_height * panel.rows.len() as f64 + PANEL_GAP)
        .sum();
    let band = 1.0 + comparison.threshold;
    let values = all().flat_map(|drawn| {
        let (lo, hi) = drawn.interval().unwrap_or((drawn.ratio, drawn.ratio));
        [lo, drawn.ratio, hi, 1.0 / band, band]
    });
    let frame = Frame {
        left,
        top: 30.0,
        right,
        bottom: 30.0 + height,
        x: Axis::log(
            layout.pick("head / base (factor, logarithmic)", "head / base (factor)"),
            values,
        ),
        y: Axis::unmarked(),
    };
    let mut canvas = Canvas::new(layout.width(), frame.bottom + 46.0);
    let top_left = (frame.at_x(1.0 / band), frame.top);
    let bottom_right = (frame.at_x(band), frame.bottom);
    canvas.rect(top_left, bottom_right, Paint::Muted, 0.16);
    frame.draw(&mut canvas);
    frame.mark_one(&mut canvas, "no change");
    let mut y = frame.top;
    for panel in panels {
        let name = Type::new(Anchor::Start).bold().halo().size(13.0);
        canvas.text((4.0, y + PANEL_HEAD / 2.0 + 2.0), &panel.mode, name);
        y += PANEL_HEAD;
        for drawn in &panel.rows {
            draw_row(&mut canvas, &frame, layout, y, drawn);
            y += row_height;
        }
        y += PANEL_GAP;
    }
    canvas.finish()
}

/// The text beside a mark. It names the verdict, because not every reader can tell colours apart.
fn words(drawn: &Drawn<'_>, layout: Layout) -> String {
    let verdict = drawn.row.word();
    if layout.is_narrow() {
        format!("{}× {verdict}", format_ratio(drawn.ratio))
    } else {
        format!("{} {verdict}", factor(drawn))
    }
}

fn draw_row(canvas: &mut Canvas, frame: &Frame, layout: Layout, top: f64, drawn: &Drawn<'_>) {
    let paint = drawn.paint();
    let words = words(drawn, layout);
    let told = matches!(drawn.row.verdict, Verdict::Regressed | Verdict::Improved);
    let kind = |anchor| {
        let kind = Type::new(anchor).halo();
        if told { kind } else { kind.muted() }
    };
    let y = if layout.is_narrow() {
        canvas.text((frame.left, top + 8.0), &drawn.name, kind(Anchor::Start));
        canvas.text((frame.right, top + 8.0), &words, kind(Anchor::End));
        top + 24.0
    } else {
        let y = top + ROW / 2.0;
        canvas.text((frame.left - 10.0, y), &drawn.name, kind(Anchor::End));
        canvas.text((frame.right + 12.0, y), &words, kind(Anchor::Start));
        y
    };
    if let Some((lo, hi)) = drawn.interval() {
        let (from, to) = (frame.at_x(lo), frame.at_x(hi));
        canvas.line((from, y), (to, y), Stroke::new(paint, 2.5));
        let ends = [(from, lo > 0.0, 6.0), (to, hi.is_finite(), -6.0)];
        for (end, is_closed, inwards) in ends {
            if is_closed {
                canvas.line((end, y - 4.0), (end, y + 4.0), Stroke::new(paint, 2.0));
            } else {
                // An open end is an arrowhead that points outwards.
                let head = [(end + inwards, y - 4.0), (end, y), (end + inwards, y + 4.0)];
                canvas.path(&head, Stroke::new(paint, 2.0));
            }
        }
    }
    let at = (frame.at_x(drawn.ratio), y);
    mark(canvas, at, drawn.row.verdict, paint);
}

/// Draws the mark of a figure, with a different shape for each verdict.
fn mark(canvas: &mut Canvas, at: (f64, f64), verdict: Verdict, paint: Paint) {
    let (x, y) = at;
    match verdict {
        Verdict::Regressed => {
            let diamond = |r: f64| [(x, y - r), (x + r, y), (x, y + r), (x - r, y)];
            canvas.polygon(&diamond(8.0), Paint::Background, 1.0);
            canvas.polygon(&diamond(6.0), paint, 1.0);
        }
        Verdict::Improved => {
            for (r, paint) in [(6.0, Paint::Background), (4.5, paint)] {
                canvas.rect((x - r, y - r), (x + r, y + r), paint, 1.0);
            }
        }
        Verdict::Equivalent => canvas.dot(at, 4.5, paint),
        Verdict::BelowResolution | Verdict::Inconclusive | Verdict::NotComparable => {
            canvas.ring(at, 4.5, paint);
        }
    }
}
