//! The chart of the first screen: how long a commit takes in each mode, and how long until it is visible on the worst replica.

use super::axis::Axis;
use super::canvas::{Anchor, Canvas, Dash, Drawing, Paint, Stroke, Type, text_width, widest};
use super::frame::{Frame, Layout};
use super::legend::{Key, Mark, legend, legend_height};
use super::{
    Chart, Table, both, first_modes, left_out, mode_paint, seconds, values, visible, with_interval,
};
use crate::analyse::{Analysis, Estimate, ModeFigures};

const ROW: f64 = 38.0;
/// Distance in CSS pixels of the best replica's line below the worst replica's line.
const BEST_BELOW: f64 = 11.0;

pub(crate) fn chart(analysis: &Analysis) -> Option<Chart> {
    let modes: Vec<&ModeFigures> = analysis
        .modes
        .modes
        .iter()
        .filter(|mode| mode.response_p50.is_some() || mode.visibility_p50.is_some())
        .collect();
    (!modes.is_empty()).then_some(())?;
    let table = table(&modes);
    let description = table.describe(|row| {
            format!(
                "{}: a commit takes {} at the median and {} at the 99th percentile, and is visible on the worst replica after {} and {} (resolution {}).",
                row[0], row[1], row[2], row[3], row[4], row[5]
            )
        });
    let shown = first_modes(&modes);
    let bounded = if has_upper_bounds(&modes) {
        " Where ≤ stands, the probe's looks lie as far apart as the figure is large (the resolution in the table): it is an upper bound, and smaller ones cannot be told from it."
    } else {
        ""
    };
    Some(Chart {
        id: "overview",
        title: "What a commit costs, and how stale a read can be",
        description,
        caption: format!(
            "Medians and 99th percentiles, each the mean over repetitions. Visible: from the acknowledgement until a read on the replica sees the row; \
             below zero it could be read before its commit was acknowledged.{bounded}{}",
            left_out(modes.len())
        ),
        drawings: both(|layout| draw(analysis, shown, layout)),
        table,
    })
}

fn table(modes: &[&ModeFigures]) -> Table {
    let mut table = Table::new(&[
        "mode",
        "commit p50",
        "commit p99",
        "visible p50",
        "visible p99",
        "resolution",
    ]);
    for mode in modes {
        table.rows.push(vec![
            mode.mode.clone(),
            with_interval(mode.response_p50),
            with_interval(mode.response_p99),
            visible(mode, mode.visibility_p50),
            visible(mode, mode.visibility_p99),
            seconds(mode.visibility_resolution),
        ]);
    }
    table
}

fn has_upper_bounds(modes: &[&ModeFigures]) -> bool {
    modes.iter().any(|mode| {
        let figures = [mode.visibility_p50, mode.visibility_p99];
        let mut known = figures.into_iter().flatten();
        known.any(|figure| mode.is_upper_bound(figure.value))
    })
}

/// The entries of the legend, the most important first.
fn keys(modes: &[&ModeFigures]) -> Vec<Key> {
    let has_best = modes.iter().any(|mode| mode.visibility_best_p50.is_some());
    let (worst, best) = ("worst replica", "best replica");
    let mut keys = vec![
        Key::new("median", Paint::Ink, Mark::Dot),
        Key::new("99th percentile", Paint::Ink, Mark::Ring),
        Key::new("95 % interval over repetitions", Paint::Ink, Mark::Bar),
    ];
    if has_best {
        keys.push(Key::new(worst, Paint::Ink, Mark::Line(Dash::Solid)));
        keys.push(Key::new(best, Paint::Ink, Mark::ThinLine));
    }
    keys
}

fn draw(analysis: &Analysis, modes: &[&ModeFigures], layout: Layout) -> Drawing {
    let rows = ROW * modes.len() as f64;
    let names = widest(modes.iter().map(|mode| mode.mode.as_str()), 15.2);
    let names = (names + 14.0).min(layout.pick(200.0, 130.0));
    let width = layout.width();
    let keys = keys(modes);
    let above = legend_height(4.0, width, &keys) + 44.0;
    let (panel, height) = layout.pick(
        ((width - names - 70.0) / 2.0, above + rows + 42.0),
        (width - names - 16.0, above - 36.0 + 2.0 * (rows + 78.0)),
    );
    let mut canvas = Canvas::new(width, height);
    legend(&mut canvas, 4.0, 4.0, width, &keys);
    for (index, side) in SIDES.iter().enumerate() {
        let (left, top) = layout.pick(
            (names + index as f64 * (panel + 50.0), above),
            (names, above + index as f64 * (rows + 78.0)),
        );
        let frame = Frame {
            left,
            top,
            right: left + panel,
            bottom: top + rows,
            x: axis(modes, side),
            y: Axis::unmarked(),
        };
        draw_side(analysis, &mut canvas, modes, &frame, side);
        if index == 0 || layout.is_narrow() {
            for (row, mode) in modes.iter().enumerate() {
                let y = top + ROW * (row as f64 + 0.5);
                let name = Type::new(Anchor::End).bold().size(13.0);
                canvas.text((left - 12.0, y), &mode.mode, name);
            }
        }
    }
    canvas.finish()
}

type Figures = fn(&ModeFigures) -> [Option<Estimate>; 2];

/// One half of the chart: the median and the 99th percentile of each mode. `best` gives the same of the mode's best replica where there
/// are several; it is `None` for the half that is not about replicas.
struct Side {
    title: &'static str,
    figures: Figures,
    best: Option<Figures>,
}

impl Side {
    fn is_visibility(&self) -> bool {
        self.best.is_some()
    }
}

const SIDES: [Side; 2] = [
    Side {
        title: "Commit: response time (ms)",
        figures: |mode| [mode.response_p50, mode.response_p99],
        best: None,
    },
    Side {
        title: "Visible on a replica, after the acknowledgement (ms)",
        figures: |mode| [mode.visibility_p50, mode.visibility_p99],
        best: Some(|mode| [mode.visibility_best_p50, mode.visibility_best_p99]),
    },
];

fn axis(modes: &[&ModeFigures], side: &Side) -> Axis {
    let sides = || [Some(side.figures), side.best].into_iter().flatten();
    let estimates = modes
        .iter()
        .flat_map(|mode| sides().flat_map(|figures| figures(mode)).flatten());
    let ms: Vec<f64> = estimates
        .flat_map(|estimate| values(&estimate))
        .map(|value| value * 1e3)
        .collect();
    Axis::ms("", &ms)
}

fn draw_side(
    analysis: &Analysis,
    canvas: &mut Canvas,
    modes: &[&ModeFigures],
    frame: &Frame,
    side: &Side,
) {
    frame.draw_grid(canvas);
    frame.draw_x_labels(canvas);
    // If the plot is too narrow for the title, the title starts above the names of the modes.
    let room = frame.right - frame.left;
    let fits = text_width(side.title, 12.0) <= room;
    let title = (if fits { frame.left } else { 4.0 }, frame.top - 16.0);
    canvas.text(title, side.title, Type::new(Anchor::Start));
    for (row, mode) in modes.iter().enumerate() {
        let y = frame.top + ROW * (row as f64 + 0.5);
        let (paint, _) = mode_paint(analysis, &mode.mode);
        if let [Some(low), high] = (side.figures)(mode) {
            draw_range(canvas, frame, y, low, high, paint);
            if side.is_visibility() {
                mark_upper_bounds(canvas, frame, y, mode, [Some(low), high]);
            }
        } else {
            let at = (frame.left + 8.0, y);
            canvas.text(at, "not measured", Type::new(Anchor::Start).muted());
        }
        if let Some([Some(low), Some(high)]) = side.best.map(|figures| figures(mode)) {
            let y = y + BEST_BELOW;
            let (from, to) = (frame.at_x(low.value * 1e3), frame.at_x(high.value * 1e3));
            canvas.line((from, y), (to, y), Stroke::new(paint, 1.2));
            canvas.dot((from, y), 3.0, paint);
            canvas.ring((to, y), 3.0, paint);
        }
    }
}

/// Draws `≤` above each figure that is only an upper bound.
fn mark_upper_bounds(
    canvas: &mut Canvas,
    frame: &Frame,
    y: f64,
    mode: &ModeFigures,
    figures: [Option<Estimate>; 2],
) {
    for figure in figures.into_iter().flatten() {
        if mode.is_upper_bound(figure.value) {
            let at = (frame.at_x(figure.value * 1e3), y - 12.0);
            canvas.text(at, "≤", Type::new(Anchor::Middle).bold().halo());
        }
    }
}

/// Draws a line from the median to the 99th percentile, with the interval of each behind it.
fn draw_range(
    canvas: &mut Canvas,
    frame: &Frame,
    y: f64,
    low: Estimate,
    high: Option<Estimate>,
    paint: Paint,
) {
    let end = high.map_or(low.value, |high| high.value);
    let (from, to) = (frame.at_x(low.value * 1e3), frame.at_x(end * 1e3));
    let estimates = [Some(low), high].into_iter().flatten();
    for interval in estimates.filter_map(|estimate| estimate.interval) {
        let (lo, hi) = (frame.at_x(interval.lo * 1e3), frame.at_x(interval.hi * 1e3));
        let pale = Stroke::new(paint, 11.0).faint(0.28);
        canvas.line((lo, y), (hi.max(lo + 1.0), y), pale);
    }
    canvas.line((from, y), (to, y), Stroke::new(paint, 2.5));
    canvas.dot((from, y), 5.5, paint);
    if end.is_finite() {
        canvas.ring((to, y), 4.5, paint);
    } else {
        let at = (to - 4.0, y - 11.0);
        canvas.text(at, "not seen →", Type::new(Anchor::End).muted().halo());
    }
}
