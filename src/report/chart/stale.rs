//! P(stale): the probability that a read on a replica misses a row, by the time since the acknowledgement of its commit.

use super::axis::Axis;
use super::canvas::{Anchor, Canvas, Dash, Drawing, Paint, Stroke, Type};
use super::frame::{Frame, Layout, label_ends, plot_of_lines};
use super::legend::{Key, Mark};
use super::{Chart, Table, both, mode_paint, seconds};
use crate::analyse::{Analysis, ReplicaCurve};
use crate::units::format_share_band;

/// The most lines that are drawn; more could not be told apart.
const MOST_LINES: usize = 8;
const STEPS: u32 = 160;

pub(super) fn chart(analysis: &Analysis) -> Option<Chart> {
    let curves: Vec<&ReplicaCurve> = analysis.replicas.iter().collect();
    (!curves.is_empty()).then_some(())?;
    let table = table(&curves);
    let description = table.describe(|row| {
        format!(
            "Stale reads under {} on {}: {} at once, {} after 1 ms (resolution {}).",
            row[0], row[1], row[2], row[3], row[7]
        )
    });
    let shown = shown(&curves);
    Some(Chart {
        id: "staleness",
        title: "The chance that a read is stale",
        description,
        caption: format!(
            "P(stale): the share of commits that a read on the replica misses, by the time since the acknowledgement. The line is at most so many, the band \
             reaches down to at least so many; the truth lies between. Grey is what is shorter than the probe's resolution there: nothing can be told of it \
             but the bounds. A line that ends has no stale commit beyond; one that runs level has commits never seen.{}",
            notes(&curves, &shown)
        ),
        drawings: both(|layout| draw(analysis, &shown, layout)),
        table,
    })
}

fn table(curves: &[&ReplicaCurve]) -> Table {
    let moments = [
        (0.0, "at once"),
        (1e-3, "1 ms"),
        (1e-2, "10 ms"),
        (0.1, "100 ms"),
        (1.0, "1 s"),
    ];
    let mut head = vec!["mode", "replica"];
    head.extend(moments.iter().map(|(_, name)| *name));
    head.push("resolution");
    let mut table = Table::new(&head);
    for curve in curves {
        let mut row = vec![curve.mode.clone(), curve.node.clone()];
        row.extend(moments.iter().map(|(after, _)| {
            let band = format_share_band(curve.stale(*after));
            if curve.is_never_stale() {
                format!("{band} by definition")
            } else {
                band
            }
        }));
        row.push(seconds(curve.resolution));
        table.rows.push(row);
    }
    table
}

/// Sentences about the replicas that are not drawn, and why.
fn notes(curves: &[&ReplicaCurve], shown: &[&ReplicaCurve]) -> String {
    let never: Vec<String> = curves
        .iter()
        .filter(|curve| curve.is_never_stale())
        .map(|curve| format!("{} on {}", curve.mode, curve.node))
        .collect();
    let mut notes = String::new();
    if !never.is_empty() {
        notes = format!(
            " Not drawn, because it is 0 by definition: {}, since a commit is acknowledged only after its replay there.",
            never.join(", ")
        );
    }
    if shown.len() + never.len() < curves.len() {
        notes += " Drawn is the most stale replica of each mode; the table has all.";
    }
    notes
}

/// The curves that are drawn: all that are not 0 by definition, or only the worst of each mode if there are more than [`MOST_LINES`].
fn shown<'a>(curves: &[&'a ReplicaCurve]) -> Vec<&'a ReplicaCurve> {
    let open = curves.iter().filter(|curve| !curve.is_never_stale());
    let open: Vec<&ReplicaCurve> = open.copied().collect();
    if open.len() <= MOST_LINES {
        return open;
    }
    let worse = |a: &'a ReplicaCurve, b: &'a ReplicaCurve| {
        if a.stale(1e-3).1 < b.stale(1e-3).1 {
            b
        } else {
            a
        }
    };
    let modes = open.chunk_by(|a, b| a.mode == b.mode);
    let worst = modes.filter_map(|curves| curves.iter().copied().reduce(worse));
    worst.take(MOST_LINES).collect()
}

/// The name and the look of each curve's line.
fn keys(analysis: &Analysis, curves: &[&ReplicaCurve]) -> Vec<Key> {
    let modes = curves.chunk_by(|a, b| a.mode == b.mode);
    let replicas = modes.flat_map(|curves| curves.iter().enumerate());
    let key = |(nth, curve): (usize, &&ReplicaCurve)| {
        let (paint, dash) = mode_paint(analysis, &curve.mode);
        // The first replica keeps the dash pattern of its mode: only that distinguishes a seventh mode from the first, which has the
        // same colour.
        let dash = if nth == 0 { dash } else { Dash::nth(nth) };
        let name = format!("{} {}", curve.mode, curve.node);
        Key::new(name, paint, Mark::Line(dash))
    };
    replicas.map(key).collect()
}

fn draw(analysis: &Analysis, curves: &[&ReplicaCurve], layout: Layout) -> Drawing {
    let keys = keys(analysis, curves);
    let meaning = [
        Key::new("at most", Paint::Ink, Mark::Line(Dash::Solid)),
        Key::new("down to at least", Paint::Ink, Mark::Area(0.15)),
        Key::new("within the resolution", Paint::Muted, Mark::Area(0.3)),
    ];
    let latest = curves
        .iter()
        .filter_map(|curve| Some(curve.range()?.1))
        .fold(1e-3, f64::max);
    let most = curves.iter().map(|curve| curve.commits).max().unwrap_or(1);
    // The smallest share above zero is one commit of the replica with most commits.
    let floor = 10_f64
        .powf((1.0 / most.max(1) as f64).log10().floor())
        .max(1e-5);
    let x = Axis::log(
        "time of the read since the acknowledgement (ms)",
        [0.02, latest * 1e3],
    );
    let y = Axis::log_shares("reads that miss the row, at most (%)", floor);
    let size = layout.pick((64.0, 320.0), (58.0, 260.0));
    let (mut canvas, frame) = plot_of_lines(layout, &keys, &meaning, size, x, y);
    let (mut ends, mut labels) = (Vec::new(), Vec::new());
    for (curve, key) in curves.iter().zip(&keys) {
        let drawn = draw_curve(&mut canvas, &frame, floor, curve, key);
        ends.extend(drawn.end.map(|end| (end, key)));
        labels.extend(drawn.label);
    }
    // The label stands on the highest line, because no other line is above it.
    if let Some((x, y)) = labels.into_iter().min_by(|a, b| a.1.total_cmp(&b.1)) {
        let text = Type::new(Anchor::Start).halo();
        canvas.text((x + 6.0, y - 9.0), "at most", text);
    }
    label_ends(&mut canvas, layout, &frame, &ends);
    canvas.finish()
}

/// Draws one replica: the upper bound as a line and the band below it down to the lower bound, both grey up to the replica's resolution.
fn draw_curve(
    canvas: &mut Canvas,
    frame: &Frame,
    floor: f64,
    curve: &ReplicaCurve,
    key: &Key,
) -> Drawn {
    let resolution_ms = curve.resolution.unwrap_or(0.0) * 1e3;
    let steps = frame.x.steps(STEPS);
    let (mut lower, mut upper) = (Vec::new(), Vec::new());
    for ms in &steps {
        let (lo, hi) = curve.stale(ms / 1e3);
        // The upper bound has reached the bottom of the plot, so the line ends here.
        let is_over = hi <= floor;
        lower.push(frame.at((*ms, if is_over { floor } else { lo })));
        upper.push(frame.at((*ms, hi.max(floor))));
        if is_over {
            break;
        }
    }
    let end = upper.len();
    let grey_end = steps[..end].partition_point(|ms| *ms <= resolution_ms);
    // The coloured part begins at the last grey point, so that both parts join; it is empty if everything is grey.
    let rest = if grey_end < end {
        grey_end.saturating_sub(1)
    } else {
        end
    };
    let (grey, line) = (&upper[..grey_end], &upper[rest..]);
    canvas.band(grey, &lower[..grey_end], Paint::Muted, 0.15);
    canvas.band(line, &lower[rest..], key.paint, 0.15);
    let faint = Stroke {
        paint: Paint::Muted,
        ..key.stroke(1.6).faint(0.7)
    };
    canvas.path(grey, faint);
    canvas.path(line, key.stroke(2.2));
    Drawn {
        label: line.get(line.len() / 4).copied(),
        end: upper.last().copied(),
    }
}

/// Places on a curve that has been drawn.
struct Drawn {
    /// A place for a label; `None` if the whole curve is grey.
    label: Option<(f64, f64)>,
    end: Option<(f64, f64)>,
}
