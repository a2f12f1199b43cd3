//! P(stale): the chance that a read some time after the acknowledgement misses the row.

use super::axis::Axis;
use super::canvas::{Canvas, Dash, Drawing, Stroke};
use super::frame::{Frame, Key, Layout, label_ends, label_room, legend, legend_height};
use super::{Chart, Table, both, mode_paint};
use crate::analyse::{Analysis, ReplicaCurve};
use crate::report::text::percent;

/// More lines than this cannot be told apart.
const MOST_LINES: usize = 8;
const STEPS: u32 = 160;

pub(super) fn chart(analysis: &Analysis) -> Option<Chart> {
    let curves: Vec<&ReplicaCurve> = analysis.replicas.iter().collect();
    (!curves.is_empty()).then_some(())?;
    let moments = [
        (0.0, "at once"),
        (1e-3, "1 ms"),
        (1e-2, "10 ms"),
        (0.1, "100 ms"),
        (1.0, "1 s"),
    ];
    let mut head = vec!["mode", "replica"];
    head.extend(moments.iter().map(|(_, name)| *name));
    let mut table = Table::new(&head);
    for curve in &curves {
        let mut row = vec![curve.mode.clone(), curve.node.clone()];
        row.extend(
            moments
                .iter()
                .map(|(after, _)| percent(curve.stale(*after).1)),
        );
        table.rows.push(row);
    }
    let description = table
        .rows
        .iter()
        .map(|row| {
            format!(
                "{} on {}: {} of reads at once and {} after 1 ms are stale.",
                row[0], row[1], row[2], row[3]
            )
        })
        .collect::<Vec<_>>()
        .join(" ");
    let shown = shown(&curves);
    let note = if shown.len() < curves.len() {
        " Drawn is the most stale replica of each mode; the table has all."
    } else {
        ""
    };
    let (wide, narrow) = both(|layout| draw(analysis, &shown, layout));
    Some(Chart {
        id: "staleness",
        title: "The chance that a read is stale",
        description,
        caption: format!(
            "P(stale): the share of commits that a read on the replica misses, by the time since the acknowledgement; the line is the upper bound, the band \
             reaches to the lower. A line that ends has no stale commit beyond; one that runs level has commits never seen.{note}"
        ),
        wide,
        narrow,
        table,
    })
}

/// All curves while they are few, else the worst of each mode.
fn shown<'a>(curves: &[&'a ReplicaCurve]) -> Vec<&'a ReplicaCurve> {
    if curves.len() <= MOST_LINES {
        return curves.to_vec();
    }
    let mut worst: Vec<&ReplicaCurve> = Vec::new();
    for curve in curves {
        match worst.iter_mut().find(|known| known.mode == curve.mode) {
            Some(known) if known.stale(1e-3).1 < curve.stale(1e-3).1 => *known = curve,
            Some(_) => {}
            None => worst.push(curve),
        }
    }
    worst.truncate(MOST_LINES);
    worst
}

fn keys(analysis: &Analysis, curves: &[&ReplicaCurve]) -> Vec<Key> {
    let mut keys: Vec<Key> = Vec::new();
    for (index, curve) in curves.iter().enumerate() {
        let nth = curves[..index]
            .iter()
            .filter(|other| other.mode == curve.mode)
            .count();
        let (paint, dash) = mode_paint(analysis, &curve.mode);
        keys.push(Key {
            name: format!("{} {}", curve.mode, curve.node),
            paint,
            // The first replica has its mode's own pattern, by which a seventh mode differs from the first.
            dash: if nth == 0 { dash } else { Dash::nth(nth) },
        });
    }
    keys
}

fn draw(analysis: &Analysis, curves: &[&ReplicaCurve], layout: Layout) -> Drawing {
    let keys = keys(analysis, curves);
    let latest = curves
        .iter()
        .filter_map(|curve| Some(curve.range()?.1))
        .fold(1e-3, f64::max);
    let most = curves.iter().map(|curve| curve.commits).max().unwrap_or(1);
    // One commit in all of them is the least share there is.
    let floor = 10_f64
        .powf((1.0 / most.max(1) as f64).log10().floor())
        .max(1e-5);
    let room = label_room(keys.iter().map(|key| key.name.as_str()));
    let top = layout.pick(40.0, 44.0 + legend_height(0.0, layout.width(), &keys));
    let frame = Frame {
        left: layout.pick(64.0, 58.0),
        top,
        right: layout.width() - layout.pick(room, 14.0),
        bottom: top + layout.pick(320.0, 260.0),
        x: Axis::log(
            "time of the read since the acknowledgement (ms)",
            [0.02, latest * 1e3],
        ),
        y: Axis::log_shares("reads that miss the row (%)", floor),
    };
    let mut canvas = Canvas::new(layout.width(), frame.bottom + 46.0);
    frame.draw(&mut canvas);
    if layout.is_narrow() {
        legend(&mut canvas, 0.0, 4.0, layout.width(), &keys);
    }
    let mut ends = Vec::new();
    for (curve, key) in curves.iter().zip(&keys) {
        let (mut upper, mut lower) = (Vec::new(), Vec::new());
        for ms in frame.x.steps(STEPS) {
            let (lo, hi) = curve.stale(ms / 1e3);
            if hi <= floor {
                // The line falls to the floor there, and goes no further.
                upper.push(frame.at((ms, floor)));
                lower.push(frame.at((ms, floor)));
                break;
            }
            upper.push(frame.at((ms, hi)));
            lower.push(frame.at((ms, lo)));
        }
        let band: Vec<_> = upper.iter().chain(lower.iter().rev()).copied().collect();
        canvas.polygon(&band, key.paint, 0.15);
        canvas.path(&upper, Stroke::new(key.paint, 2.2).dashed(key.dash));
        ends.extend(upper.last().map(|end| (*end, key.clone())));
    }
    if !layout.is_narrow() {
        label_ends(&mut canvas, &frame, &ends);
    }
    canvas.finish()
}
