//! The first screen: per mode, how long a commit takes and how long until the worst replica shows it.

use super::axis::Axis;
use super::canvas::{Anchor, Canvas, Drawing, Stroke, Type, text_width};
use super::frame::{Frame, Layout};
use super::{Chart, MOST_MODES, Table, both, left_out, mode_paint, seconds};
use crate::analyse::{Analysis, Estimate, ModeFigures};

const ROW: f64 = 34.0;

pub(super) fn chart(analysis: &Analysis) -> Option<Chart> {
    let modes: Vec<&ModeFigures> = analysis
        .modes
        .modes
        .iter()
        .filter(|mode| mode.response_p50.is_some() || mode.visibility_p50.is_some())
        .collect();
    (!modes.is_empty()).then_some(())?;
    let mut table = Table::new(&[
        "mode",
        "commit p50",
        "commit p99",
        "visible p50",
        "visible p99",
    ]);
    for mode in &modes {
        let cells = [
            mode.response_p50,
            mode.response_p99,
            mode.visibility_p50,
            mode.visibility_p99,
        ];
        let mut row = vec![mode.mode.clone()];
        row.extend(cells.map(|cell| seconds(cell.map(|estimate| estimate.value))));
        table.rows.push(row);
    }
    let description = table
        .rows
        .iter()
        .map(|row| {
            format!(
                "{}: a commit takes {} at the median and {} at the 99th percentile, and is visible on the worst replica after {} and {}.",
                row[0], row[1], row[2], row[3], row[4]
            )
        })
        .collect::<Vec<_>>()
        .join(" ");
    let shown = &modes[..modes.len().min(MOST_MODES)];
    let (wide, narrow) = both(|layout| draw(analysis, shown, layout));
    Some(Chart {
        id: "overview",
        title: "What a commit costs, and how stale a read can be",
        description,
        caption: format!(
            "Filled: the median; ring end: the 99th percentile. Each is the median over repetitions, and the pale bar around it its 95 % interval. \
             Visibility counts from the acknowledgement, on the replica where it is worst; below zero the row could be read before its commit was \
             acknowledged.{}",
            left_out(modes.len())
        ),
        wide,
        narrow,
        table,
    })
}

fn draw(analysis: &Analysis, modes: &[&ModeFigures], layout: Layout) -> Drawing {
    let rows = ROW * modes.len() as f64;
    let names = modes
        .iter()
        .map(|mode| text_width(&mode.mode, 13.0))
        .fold(0.0, f64::max);
    let names = (names + 14.0).min(layout.pick(200.0, 130.0));
    let width = layout.width();
    let (panel, height) = layout.pick(
        ((width - names - 70.0) / 2.0, rows + 78.0),
        (width - names - 16.0, 2.0 * (rows + 78.0)),
    );
    let mut canvas = Canvas::new(width, height);
    let sides: [(&str, Figures); 2] = [
        ("Commit: response time (ms)", |mode| {
            (mode.response_p50, mode.response_p99)
        }),
        ("Visible on the worst replica after (ms)", |mode| {
            (mode.visibility_p50, mode.visibility_p99)
        }),
    ];
    for (index, (title, figures)) in sides.into_iter().enumerate() {
        let (left, top) = layout.pick(
            (names + index as f64 * (panel + 50.0), 36.0),
            (names, 36.0 + index as f64 * (rows + 78.0)),
        );
        let frame = Frame {
            left,
            top,
            right: left + panel,
            bottom: top + rows,
            x: axis(modes, figures),
            y: Axis::linear("", 0.0, modes.len() as f64),
        };
        side(analysis, &mut canvas, modes, &frame, title, figures);
        if index == 0 || layout.is_narrow() {
            for (row, mode) in modes.iter().enumerate() {
                let y = top + ROW * (row as f64 + 0.5);
                canvas.text(
                    (left - 12.0, y),
                    &mode.mode,
                    Type {
                        size: 13.0,
                        ..Type::new(Anchor::End).bold()
                    },
                );
            }
        }
    }
    canvas.finish()
}

type Figures = fn(&ModeFigures) -> (Option<Estimate>, Option<Estimate>);

/// Milliseconds: logarithmic, unless one is at or below zero.
fn axis(modes: &[&ModeFigures], figures: Figures) -> Axis {
    let mut values = Vec::new();
    for mode in modes {
        let (low, high) = figures(mode);
        for estimate in [low, high].into_iter().flatten() {
            values.push(estimate.value * 1e3);
            if let Some(interval) = estimate.interval {
                values.extend([interval.lo * 1e3, interval.hi * 1e3]);
            }
        }
    }
    values.retain(|value| value.is_finite());
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(0.0, f64::max);
    if least > 0.0 {
        Axis::log("", values)
    } else {
        Axis::signed_ms("", least * 1.3, most * 1.3)
    }
}

fn side(
    analysis: &Analysis,
    canvas: &mut Canvas,
    modes: &[&ModeFigures],
    frame: &Frame,
    title: &str,
    figures: Figures,
) {
    let bare = Frame {
        y: frame.y.clone().bare(),
        ..frame.clone()
    };
    bare.draw_grid(canvas);
    bare.draw_x_labels(canvas);
    canvas.text(
        (frame.left, frame.top - 16.0),
        title,
        Type::new(Anchor::Start),
    );
    for (row, mode) in modes.iter().enumerate() {
        let y = frame.top + ROW * (row as f64 + 0.5);
        let (paint, _) = mode_paint(analysis, &mode.mode);
        let (low, high) = figures(mode);
        let Some(low) = low else {
            canvas.text(
                (frame.left + 8.0, y),
                "not measured",
                Type::new(Anchor::Start).muted(),
            );
            continue;
        };
        let end = high.map_or(low.value, |high| high.value);
        let (from, to) = (frame.at_x(low.value * 1e3), frame.at_x(end * 1e3));
        for estimate in [Some(low), high].into_iter().flatten() {
            if let Some(interval) = estimate.interval {
                let (lo, hi) = (frame.at_x(interval.lo * 1e3), frame.at_x(interval.hi * 1e3));
                canvas.line(
                    (lo, y),
                    (hi.max(lo + 1.0), y),
                    Stroke::new(paint, 11.0).faint(0.28),
                );
            }
        }
        canvas.line((from, y), (to, y), Stroke::new(paint, 2.5));
        canvas.dot((from, y), 5.5, paint);
        if end.is_finite() {
            canvas.ring((to, y), 4.5, paint);
        } else {
            canvas.text(
                (to - 4.0, y - 11.0),
                "not seen →",
                Type::new(Anchor::End).muted().halo(),
            );
        }
    }
}
