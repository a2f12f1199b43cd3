//! P(stale): the chance that a read some time after the acknowledgement misses the row.

use super::axis::Axis;
use super::canvas::{Anchor, Canvas, Dash, Drawing, Paint, Stroke, Type};
use super::frame::{Frame, Layout, label_ends, label_room};
use super::legend::{Key, Mark, legend, legend_height};
use super::{Chart, Table, both, mode_paint, seconds};
use crate::analyse::{Analysis, ReplicaCurve};
use crate::units::format_share_band;

/// More lines than this cannot be told apart.
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

/// Which replicas are not drawn, and why.
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

/// All curves that are not 0 by definition while they are few, else the worst of each mode.
fn shown<'a>(curves: &[&'a ReplicaCurve]) -> Vec<&'a ReplicaCurve> {
    let open = curves.iter().filter(|curve| !curve.is_never_stale());
    let open: Vec<&ReplicaCurve> = open.copied().collect();
    if open.len() <= MOST_LINES {
        return open;
    }
    let mut worst: Vec<&ReplicaCurve> = Vec::new();
    for curve in open {
        match worst.iter_mut().find(|known| known.mode == curve.mode) {
            Some(known) if known.stale(1e-3).1 < curve.stale(1e-3).1 => *known = curve,
            Some(_) => {}
            None => worst.push(curve),
        }
    }
    worst.truncate(MOST_LINES);
    worst
}

/// The look of each line.
fn looks(analysis: &Analysis, curves: &[&ReplicaCurve]) -> Vec<(Paint, Dash)> {
    let of_mode = |index: usize| {
        let before = &curves[..index];
        let same = |other: &&&ReplicaCurve| other.mode == curves[index].mode;
        before.iter().filter(same).count()
    };
    let look = |index: usize| {
        let (paint, dash) = mode_paint(analysis, &curves[index].mode);
        let nth = of_mode(index);
        // The first replica has its mode's own pattern, by which a seventh mode differs from the first.
        (paint, if nth == 0 { dash } else { Dash::nth(nth) })
    };
    (0..curves.len()).map(look).collect()
}

fn draw(analysis: &Analysis, curves: &[&ReplicaCurve], layout: Layout) -> Drawing {
    let looks = looks(analysis, curves);
    let named = |(curve, (paint, dash)): (&&ReplicaCurve, &(Paint, Dash))| {
        let name = format!("{} {}", curve.mode, curve.node);
        Key::new(name, *paint, Mark::Line(*dash))
    };
    let keys: Vec<Key> = curves.iter().zip(&looks).map(named).collect();
    let meaning = [
        Key::new("at most", Paint::Ink, Mark::Line(Dash::Solid)),
        Key::new("down to at least", Paint::Ink, Mark::Area(0.15)),
        Key::new("within the resolution", Paint::Muted, Mark::Area(0.3)),
    ];
    let legends = [layout.pick(&[][..], &keys[..]), &meaning].concat();
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
    let top = 44.0 + legend_height(0.0, layout.width(), &legends);
    let frame = Frame {
        left: layout.pick(64.0, 58.0),
        top,
        right: layout.width() - layout.pick(room, 14.0),
        bottom: top + layout.pick(320.0, 260.0),
        x: Axis::log(
            "time of the read since the acknowledgement (ms)",
            [0.02, latest * 1e3],
        ),
        y: Axis::log_shares("reads that miss the row, at most (%)", floor),
    };
    let mut canvas = Canvas::new(layout.width(), frame.bottom + 46.0);
    frame.draw(&mut canvas);
    legend(&mut canvas, 4.0, 4.0, layout.width(), &legends);
    let (mut ends, mut labels) = (Vec::new(), Vec::new());
    for ((curve, (paint, dash)), key) in curves.iter().zip(&looks).zip(&keys) {
        let drawn = draw_curve(&mut canvas, &frame, floor, curve, *paint, *dash);
        ends.extend(drawn.end.map(|end| (end, key.clone())));
        labels.extend(drawn.label);
    }
    // On the line that stands highest, where nothing is above it.
    if let Some((x, y)) = labels.into_iter().min_by(|a, b| a.1.total_cmp(&b.1)) {
        let text = Type::new(Anchor::Start).halo();
        canvas.text((x + 6.0, y - 9.0), "at most", text);
    }
    if !layout.is_narrow() {
        label_ends(&mut canvas, &frame, &ends);
    }
    canvas.finish()
}

/// One replica: its upper bound as a line, the band below it, both grey up to its resolution.
fn draw_curve(
    canvas: &mut Canvas,
    frame: &Frame,
    floor: f64,
    curve: &ReplicaCurve,
    paint: Paint,
    dash: Dash,
) -> Drawn {
    let resolution_ms = curve.resolution.unwrap_or(0.0) * 1e3;
    let (mut unresolved, mut resolved) = (Bounds::default(), Bounds::default());
    for ms in frame.x.steps(STEPS) {
        let (lo, hi) = curve.stale(ms / 1e3);
        // The line falls to the floor there, and goes no further.
        let is_over = hi <= floor;
        let lowest = if is_over { floor } else { lo };
        let point = (frame.at((ms, lowest)), frame.at((ms, hi.max(floor))));
        if ms <= resolution_ms {
            unresolved.push(point);
        } else {
            if let Some(last) = unresolved.last().filter(|_| resolved.upper.is_empty()) {
                resolved.push(last);
            }
            resolved.push(point);
        }
        if is_over {
            break;
        }
    }
    canvas.polygon(&unresolved.area(), Paint::Muted, 0.15);
    canvas.polygon(&resolved.area(), paint, 0.15);
    let grey = Stroke::new(Paint::Muted, 1.6).dashed(dash).faint(0.7);
    canvas.path(&unresolved.upper, grey);
    canvas.path(&resolved.upper, Stroke::new(paint, 2.2).dashed(dash));
    Drawn {
        label: resolved.upper.get(resolved.upper.len() / 4).copied(),
        end: resolved.upper.last().or(unresolved.upper.last()).copied(),
    }
}

/// Places of a curve that is drawn.
struct Drawn {
    /// Where it may bear a label.
    label: Option<(f64, f64)>,
    end: Option<(f64, f64)>,
}

/// A stretch of a curve, on the page.
#[derive(Default)]
struct Bounds {
    lower: Vec<(f64, f64)>,
    upper: Vec<(f64, f64)>,
}

impl Bounds {
    fn push(&mut self, (lower, upper): ((f64, f64), (f64, f64))) {
        self.lower.push(lower);
        self.upper.push(upper);
    }

    fn last(&self) -> Option<((f64, f64), (f64, f64))> {
        Some((*self.lower.last()?, *self.upper.last()?))
    }

    fn area(&self) -> Vec<(f64, f64)> {
        let lower = self.lower.iter().rev();
        self.upper.iter().chain(lower).copied().collect()
    }
}
