//! When commits become visible: a panel for each mode, a curve for each replica, and a band where the looks of the probe leave the moment
//! open.

use super::axis::Axis;
use super::canvas::{Anchor, Canvas, Dash, Drawing, Stroke, Type};
use super::frame::{Area, Frame, Layout, label_ends, label_room, panels_with_legend};
use super::legend::{Key, Mark, legend, legend_height};
use super::{Chart, Paint, Table, both, delay_bounds, first_modes, left_out, mode_paint, seconds};
use crate::analyse::{Analysis, ReplicaCurve};
use crate::units::thousands;

/// The most replicas that are drawn in a panel; more could not be told apart.
const MOST_REPLICAS: usize = 4;
const STEPS: u32 = 140;

pub(super) fn chart(analysis: &Analysis) -> Option<Chart> {
    let modes = analysis.replicas.chunk_by(|a, b| a.mode == b.mode);
    let modes: Vec<&[ReplicaCurve]> = modes.collect();
    (!modes.is_empty()).then_some(())?;
    let mut table = Table::new(&[
        "mode",
        "replica",
        "50 %",
        "90 %",
        "99 %",
        "99.9 %",
        "resolution",
        "commits",
        "unseen",
    ]);
    for curve in &analysis.replicas {
        let mut row = vec![curve.mode.clone(), curve.node.clone()];
        row.extend(
            [0.5, 0.9, 0.99, 0.999]
                .map(|share| delay_bounds(curve.quantile_lo(share), curve.quantile(share))),
        );
        row.push(seconds(curve.resolution));
        row.extend([thousands(curve.commits), thousands(curve.unseen)]);
        table.rows.push(row);
    }
    let description = table.describe(|row| {
        format!(
            "{} on {}: half visible after {}, 99 % after {}, {} of {} unseen.",
            row[0], row[1], row[2], row[4], row[8], row[7]
        )
    });
    let shown = first_modes(&modes);
    Some(Chart {
        id: "visibility",
        title: "When a commit becomes visible on a replica",
        description,
        caption: format!(
            "The share of commits that a read on the replica sees, by the time since the acknowledgement. The line is the share surely visible, the band reaches \
             to what is possible: the probe looks again and again, and what lies between two looks is open. The resolution is the median width of that gap; a curve that stays below 100 % has commits that were never seen. Left of zero a row was visible before its commit was acknowledged.{}",
            left_out(modes.len())
        ),
        drawings: both(|layout| draw(analysis, shown, layout)),
        table,
    })
}

/// An axis from the smallest 0.1st percentile to the largest 99.9th percentile of all curves. The few commits beyond would squeeze the rest.
fn axis(modes: &[&[ReplicaCurve]]) -> Axis {
    let curves = || modes.iter().copied().flatten();
    let least = |curve: &ReplicaCurve| curve.quantile_lo(0.001).or_else(|| Some(curve.range()?.0));
    let most = |curve: &ReplicaCurve| curve.quantile(0.999).or_else(|| Some(curve.range()?.1));
    let lo = curves().filter_map(least).fold(0.0, f64::min);
    let hi = curves().filter_map(most).fold(0.0, f64::max);
    Axis::signed_ms("since the acknowledgement (ms)", lo * 1e3, hi * 1e3)
}

fn draw(analysis: &Analysis, modes: &[&[ReplicaCurve]], layout: Layout) -> Drawing {
    let keys = [
        Key::new(
            "surely visible (in the mode's colour)",
            Paint::Muted,
            Mark::Line(Dash::Solid),
        ),
        Key::new("possibly visible", Paint::Muted, Mark::Area(0.2)),
        Key::new("the acknowledgement", Paint::Muted, Mark::Upright),
    ];
    let height = layout.pick(280.0, 270.0);
    let x = axis(modes);
    panels_with_legend(layout, &keys, modes, height, |canvas, curves, area| {
        panel(analysis, canvas, curves, area, layout, x.clone());
    })
}

fn panel(
    analysis: &Analysis,
    canvas: &mut Canvas,
    curves: &[ReplicaCurve],
    area: Area,
    layout: Layout,
    x: Axis,
) {
    let (paint, _) = mode_paint(analysis, &curves[0].mode);
    let shown = &curves[..curves.len().min(MOST_REPLICAS)];
    let keys: Vec<Key> = shown
        .iter()
        .enumerate()
        .map(|(index, curve)| Key::new(curve.node.clone(), paint, Mark::Line(Dash::nth(index))))
        .collect();
    let legend_room = layout.pick(0.0, legend_height(area.left + 4.0, area.right, &keys));
    let frame = Frame {
        left: area.left + 52.0,
        top: area.top + 46.0 + legend_room,
        right: area.right - layout.pick(label_room(&keys), 12.0),
        bottom: area.bottom - 46.0,
        x,
        y: Axis::shares("commits visible (%)"),
    };
    frame.draw(canvas);
    let more = curves.len() - shown.len();
    let note = if more > 0 {
        format!(" ({more} more in the table)")
    } else {
        String::new()
    };
    let title = format!("{}{note}", curves[0].mode);
    let above = (area.left + 4.0, area.top + 14.0);
    canvas.text(above, &title, Type::new(Anchor::Start).bold().size(13.0));
    if layout.is_narrow() {
        legend(canvas, area.left + 4.0, area.top + 22.0, area.right, &keys);
    }
    frame.upright(canvas, 0.0, Stroke::new(Paint::Muted, 1.2));
    let mut ends = Vec::new();
    for (curve, key) in shown.iter().zip(&keys) {
        let place = |ms: f64| {
            let (lo, hi) = curve.visible(ms / 1e3);
            (frame.at((ms, lo)), frame.at((ms, hi)))
        };
        let (surely, possibly): (Vec<_>, Vec<_>) =
            frame.x.steps(STEPS).into_iter().map(place).unzip();
        canvas.band(&surely, &possibly, paint, 0.2);
        canvas.path(&surely, key.stroke(2.2));
        ends.extend(surely.last().map(|end| (*end, key)));
    }
    label_ends(canvas, layout, &frame, &ends);
}
