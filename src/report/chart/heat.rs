//! A heatmap of response times over time. The darker a cell, the larger its share of the arrivals of that moment.

use super::axis::Axis;
use super::canvas::{Anchor, Canvas, Corners, Drawing, Paint, Type};
use super::frame::{Area, Layout, panels};
use super::time::{known_lines, time_frame};
use super::{Chart, Table, both, first_modes, left_out, seconds};
use crate::analyse::{Analysis, TimeSeries};
use crate::record::ResponseSecond;

/// The share above which each shade begins. The steps are uneven, so that a tail of one in a thousand is visible beside a bulk of a half.
const FROM: [f64; Paint::HEAT_STEPS] = [0.0, 0.002, 0.005, 0.02, 0.05, 0.1, 0.2, 0.35];

pub(super) fn chart(analysis: &Analysis) -> Option<Chart> {
    let lines = known_lines(analysis, |line| !line.heat.is_empty())?;
    let mut table = Table::new(&[
        "mode",
        "columns",
        "fastest",
        "slowest",
        "slowest moment (s)",
    ]);
    for line in &lines {
        let columns = || line.heat.iter();
        let first = columns().filter_map(|column| column.bins.first());
        let fastest = first.map(|(bin, _)| *bin).min();
        let last = columns().filter_map(|column| Some((column.bins.last()?.0, column.start_s)));
        let slowest = last.max_by_key(|(bin, _)| *bin);
        table.rows.push(vec![
            line.mode.clone(),
            line.heat.len().to_string(),
            seconds(fastest.map(ResponseSecond::bin_start)),
            seconds(slowest.map(|(bin, _)| ResponseSecond::bin_start(bin + 1))),
            slowest.map_or_else(|| "–".into(), |(_, at)| format!("{at:.0}")),
        ]);
    }
    let description = table.describe(|row| {
        format!(
            "{}: from {} to {}, slowest at second {}.",
            row[0], row[2], row[3], row[4]
        )
    });
    let shown = first_modes(&lines);
    Some(Chart {
        id: "heatmap",
        title: "Response time, moment by moment",
        description,
        caption: format!(
            "Each column is a second (or a few, in a long run), each cell the share of its replies that took so long. A stall shows as a column that reaches up.{}",
            left_out(lines.len())
        ),
        drawings: both(|layout| draw(shown, layout)),
        table,
    })
}

fn draw(lines: &[&TimeSeries], layout: Layout) -> Drawing {
    let (areas, bottom) = panels(layout, lines.len(), 34.0, 240.0);
    let mut canvas = Canvas::new(layout.width(), bottom);
    key(&mut canvas);
    let columns = lines.iter().flat_map(|line| &line.heat);
    let bins = columns.flat_map(|column| &column.bins);
    let ends = bins.flat_map(|(bin, _)| [starts_ms(*bin), starts_ms(bin + 1)]);
    let y = Axis::log("response time (ms)", ends);
    for (line, area) in lines.iter().zip(areas) {
        panel(&mut canvas, line, area, y.clone());
    }
    canvas.finish()
}

fn starts_ms(bin: u16) -> f64 {
    ResponseSecond::bin_start(bin) * 1e3
}

/// Draws the legend of the shades.
fn key(canvas: &mut Canvas) {
    canvas.text((4.0, 14.0), "share of replies", Type::new(Anchor::Start));
    for step in 0..Paint::HEAT_STEPS {
        let left = 104.0 + step as f64 * 22.0;
        canvas.rect((left, 7.0), (left + 22.0, 20.0), Paint::Heat(step), 1.0);
    }
    let right = 104.0 + Paint::HEAT_STEPS as f64 * 22.0;
    let small = |anchor| Type::new(anchor).muted().size(10.0);
    canvas.text((100.0, 27.0), "> 0", small(Anchor::Start));
    canvas.text((right, 27.0), "> 35 %", small(Anchor::End));
}

fn panel(canvas: &mut Canvas, line: &TimeSeries, area: Area, y: Axis) {
    let frame = time_frame(canvas, line, area, y, 52.0);
    let mut rects: [Vec<Corners>; Paint::HEAT_STEPS] = Default::default();
    for column in &line.heat {
        let (x0, x1) = (frame.at_x(column.start_s), frame.at_x(column.end_s));
        // Neighbouring bins of the same shade are drawn as one rectangle.
        let runs = column.bins.chunk_by(|(low, share), (high, other)| {
            low + 1 == *high && shade(*share) == shade(*other)
        });
        for run in runs {
            let ((low, share), (high, _)) = (run[0], run[run.len() - 1]);
            let top = frame.at_y(starts_ms(high + 1));
            let bottom = frame.at_y(starts_ms(low));
            rects[shade(share)].push(((x0, top), (x1, bottom)));
        }
    }
    for (step, rects) in rects.iter().enumerate() {
        canvas.rects(rects, Paint::Heat(step));
    }
}

fn shade(share: f64) -> usize {
    FROM.iter().rposition(|from| share > *from).unwrap_or(0)
}
