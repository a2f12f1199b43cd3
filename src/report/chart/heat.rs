//! Response times over time: the darker, the larger the share of a moment's arrivals.

use super::axis::Axis;
use super::canvas::{Anchor, Canvas, Drawing, Paint, Type};
use super::frame::{Area, Layout, panels};
use super::load::time_frame;
use super::{Chart, Table, both, first_modes, left_out, seconds};
use crate::analyse::{Analysis, HeatColumn, TimeSeries};
use crate::record::ResponseSecond;

/// Shares from which each shade begins: a tail of one in a thousand is to be seen beside a bulk of a half.
const FROM: [f64; Paint::HEAT_STEPS] = [0.0, 0.002, 0.005, 0.02, 0.05, 0.1, 0.2, 0.35];

pub(super) fn chart(analysis: &Analysis) -> Option<Chart> {
    let lines: Vec<&TimeSeries> = analysis
        .time_series
        .iter()
        .filter(|line| !line.heat.is_empty())
        .collect();
    (!lines.is_empty()).then_some(())?;
    let mut table = Table::new(&[
        "mode",
        "columns",
        "fastest",
        "slowest",
        "slowest moment (s)",
    ]);
    for line in &lines {
        let fastest = line
            .heat
            .iter()
            .filter_map(|column| column.bins.first())
            .map(|bin| bin.0)
            .min();
        let slowest = line
            .heat
            .iter()
            .filter_map(|column| Some((column.bins.last()?.0, column.start_s)))
            .max_by_key(|(bin, _)| *bin);
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
    let bins = || {
        lines
            .iter()
            .flat_map(|line| &line.heat)
            .flat_map(|column| &column.bins)
    };
    let ends = || {
        bins().flat_map(|(bin, _)| {
            [
                ResponseSecond::bin_start(*bin),
                ResponseSecond::bin_start(bin + 1),
            ]
        })
    };
    for (line, area) in lines.iter().zip(areas) {
        panel(
            &mut canvas,
            line,
            area,
            Axis::log("response time (ms)", ends().map(|end| end * 1e3)),
        );
    }
    canvas.finish()
}

/// What the shades mean.
fn key(canvas: &mut Canvas) {
    canvas.text((4.0, 14.0), "share of replies", Type::new(Anchor::Start));
    for step in 0..Paint::HEAT_STEPS {
        let left = 104.0 + step as f64 * 22.0;
        canvas.rect((left, 7.0), (left + 22.0, 20.0), Paint::Heat(step), 1.0);
    }
    let right = 104.0 + Paint::HEAT_STEPS as f64 * 22.0;
    canvas.text(
        (100.0, 27.0),
        "> 0",
        Type {
            size: 10.0,
            ..Type::new(Anchor::Start).muted()
        },
    );
    canvas.text(
        (right, 27.0),
        "> 35 %",
        Type {
            size: 10.0,
            ..Type::new(Anchor::End).muted()
        },
    );
}

fn panel(canvas: &mut Canvas, line: &TimeSeries, area: Area, y: Axis) {
    let frame = time_frame(canvas, line, area, y, 52.0);
    for step in 0..Paint::HEAT_STEPS {
        let mut cells = Vec::new();
        for column in &line.heat {
            for (low, high) in runs(column, step) {
                let (x0, x1) = (frame.at_x(column.start_s), frame.at_x(column.end_s));
                let top = frame.at_y(ResponseSecond::bin_start(high + 1) * 1e3);
                let bottom = frame.at_y(ResponseSecond::bin_start(low) * 1e3);
                cells.push(((x0, top), (x1, bottom)));
            }
        }
        canvas.rects(&cells, Paint::Heat(step));
    }
}

fn shade(share: f64) -> usize {
    FROM.iter().rposition(|from| share > *from).unwrap_or(0)
}

/// Neighbouring bins of one shade, as first and last.
fn runs(column: &HeatColumn, step: usize) -> Vec<(u16, u16)> {
    let mut runs: Vec<(u16, u16)> = Vec::new();
    for (bin, share) in &column.bins {
        if shade(*share) != step {
            continue;
        }
        match runs.last_mut() {
            Some((_, high)) if *high + 1 == *bin => *high = *bin,
            _ => runs.push((*bin, *bin)),
        }
    }
    runs
}
