//! The percentile spectrum of response time: for each mode a bold line over all repetitions, and a thin line for each repetition.

use super::axis::Axis;
use super::canvas::{Dash, Drawing, Paint, Stroke};
use super::frame::{Layout, label_ends, plot_of_lines};
use super::legend::{Key, Mark};
use super::{Chart, Table, both, first_modes, left_out, mode_paint, seconds};
use crate::analyse::{Analysis, Spectrum};
use crate::units::thousands;

pub(super) fn chart(analysis: &Analysis) -> Option<Chart> {
    let spectra: Vec<&Spectrum> = analysis
        .spectra
        .iter()
        .filter(|spectrum| spectrum.merged.points.len() > 1)
        .collect();
    (!spectra.is_empty()).then_some(())?;
    let mut table = Table::new(&[
        "mode", "50 %", "90 %", "99 %", "99.9 %", "99.99 %", "arrivals",
    ]);
    for spectrum in &spectra {
        let mut row = vec![spectrum.mode.clone()];
        row.extend(
            [std::f64::consts::LOG10_2, 1.0, 2.0, 3.0, 4.0]
                .map(|nines| seconds(at(spectrum, nines))),
        );
        row.push(thousands(spectrum.merged.n));
        table.rows.push(row);
    }
    let description = table.describe(|row| {
        format!(
            "{}: median {}, 99th percentile {}, 99.9th {}.",
            row[0], row[1], row[3], row[4]
        )
    });
    let shown = first_modes(&spectra);
    Some(Chart {
        id: "spectrum",
        title: "Response time by percentile",
        description,
        caption: format!(
            "From the intended start to the reply, so that waiting behind a slow server counts. Bold: all repetitions merged; thin: one repetition each. \
             A line stops where fewer than ten arrivals lie above it.{}",
            left_out(spectra.len())
        ),
        drawings: both(|layout| draw(analysis, shown, layout)),
        table,
    })
}

/// The response time in seconds at a percentile given by its nines (2 is 99 %). `None` if the mode's line ends before.
fn at(spectrum: &Spectrum, nines: f64) -> Option<f64> {
    let points = &spectrum.merged.points;
    let after = points.iter().position(|(at, _)| *at >= nines - 1e-9)?;
    let (x1, y1) = points[after];
    let Some((x0, y0)) = after.checked_sub(1).map(|before| points[before]) else {
        return Some(y1);
    };
    let share = ((nines - x0) / (x1 - x0)).clamp(0.0, 1.0);
    Some(y0 + (y1 - y0) * share)
}

fn draw(analysis: &Analysis, spectra: &[&Spectrum], layout: Layout) -> Drawing {
    let keys: Vec<Key> = spectra
        .iter()
        .map(|spectrum| {
            let (paint, dash) = mode_paint(analysis, &spectrum.mode);
            Key::new(spectrum.mode.clone(), paint, Mark::Line(dash))
        })
        .collect();
    let lines = spectra
        .iter()
        .flat_map(|it| it.repetitions.iter().chain([&it.merged]));
    let points: Vec<_> = lines.flat_map(|line| &line.points).collect();
    let meaning = [
        Key::new(
            "all repetitions merged",
            Paint::Muted,
            Mark::Line(Dash::Solid),
        ),
        Key::new("one repetition", Paint::Muted, Mark::ThinLine),
    ];
    let x = Axis::nines(
        "arrivals answered at least as fast (%)",
        points.iter().map(|point| point.0),
    );
    let y = Axis::log(
        "response time (ms)",
        points.iter().map(|point| point.1 * 1e3),
    );
    let size = layout.pick((64.0, 330.0), (46.0, 260.0));
    let (mut canvas, frame) = plot_of_lines(layout, &keys, &meaning, size, x, y);
    let place = |points: &[(f64, f64)]| -> Vec<(f64, f64)> {
        points
            .iter()
            .map(|(x, y)| frame.at((*x, y * 1e3)))
            .collect()
    };
    for (spectrum, key) in spectra.iter().zip(&keys) {
        for line in &spectrum.repetitions {
            canvas.path(&place(&line.points), Stroke::new(key.paint, 1.0).faint(0.4));
        }
    }
    let mut ends = Vec::new();
    for (spectrum, key) in spectra.iter().zip(&keys) {
        let line = place(&spectrum.merged.points);
        canvas.path(&line, key.stroke(2.5));
        ends.extend(line.last().map(|end| (*end, key)));
    }
    label_ends(&mut canvas, layout, &frame, &ends);
    canvas.finish()
}
