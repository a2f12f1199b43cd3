//! What the host's processors did, second by second: busy, taken by other guests of a virtual machine's host, waiting for a disk.

use super::axis::Axis;
use super::canvas::{Canvas, Dash, Drawing, Paint, Stroke};
use super::frame::{Area, Layout, panels_with_legend};
use super::legend::{Key, Mark};
use super::time::{fault_key, groups, known_lines, time_frame};
use super::{Chart, Table, both, first_modes, left_out};
use crate::analyse::{Analysis, HostPoint, TimeSeries};

/// The share of busy processors above which waiting for a processor affects the measured times.
const BUSY: f64 = 0.8;

type Share = fn(&HostPoint) -> Option<f64>;
const SHARES: [(&str, Paint, Dash, Share); 3] = [
    ("busy", Paint::Series(0), Dash::Solid, |point| point.busy),
    (
        "taken by other guests (steal)",
        Paint::Series(1),
        Dash::Dashed,
        |point| point.steal,
    ),
    (
        "waiting for a disk (iowait)",
        Paint::Series(2),
        Dash::Dotted,
        |point| point.iowait,
    ),
];

pub(super) fn chart(analysis: &Analysis) -> Option<Chart> {
    let lines = known_lines(analysis, |line| {
        line.host.iter().any(|point| point.busy.is_some())
    })?;
    let mut table = Table::new(&[
        "mode",
        "busy, mean",
        "busy, most in a second",
        "seconds above 80 %",
        "steal, most",
        "iowait, mean",
        "iowait, most",
    ]);
    table.rows = lines.iter().map(|line| row(line)).collect();
    let sentence = |row: &Vec<String>| {
        format!(
            "Under {}: busy {} on average and at most {}, {} seconds above 80 %, steal at most {}, iowait at most {}.",
            row[0], row[1], row[2], row[3], row[4], row[6]
        )
    };
    let description: Vec<String> = table.rows.iter().map(sentence).collect();
    let shown = first_modes(&lines);
    Some(Chart {
        id: "host",
        title: "The host's processors",
        description: description.join(" "),
        caption: format!(
            "Shares of all processors of the host in each second: busy, taken by other guests of a virtual machine's host, and idle while a disk was waited \
             for. Above the line at 80 % times include waiting for a processor. Repetitions stand side by side.{}",
            left_out(lines.len())
        ),
        drawings: both(|layout| draw(shown, layout)),
        table,
    })
}

fn row(line: &TimeSeries) -> Vec<String> {
    let known = |share: Share| -> Vec<f64> { line.host.iter().filter_map(share).collect() };
    let percent = |share: f64| format!("{:.0} %", share * 100.0);
    let unknown = || "–".to_owned();
    let most = |share: Share| {
        let most = known(share).into_iter().max_by(f64::total_cmp);
        most.map_or_else(unknown, percent)
    };
    let mean = |share: Share| {
        let known = known(share);
        let mean = known.iter().sum::<f64>() / known.len() as f64;
        if known.is_empty() {
            unknown()
        } else {
            percent(mean)
        }
    };
    let [(.., busy), (.., steal), (.., iowait)] = SHARES;
    let above = known(busy).iter().filter(|share| **share > BUSY).count();
    vec![
        line.mode.clone(),
        mean(busy),
        most(busy),
        format!("{above} of {}", known(busy).len()),
        most(steal),
        mean(iowait),
        most(iowait),
    ]
}

fn draw(lines: &[&TimeSeries], layout: Layout) -> Drawing {
    let shares = SHARES.map(|(name, paint, dash, _)| Key::new(name, paint, Mark::Line(dash)));
    let lines_of = [
        Key::new("80 % busy", Paint::Ink, Mark::ThinLine),
        Key::new("between repetitions", Paint::Muted, Mark::Part),
    ];
    let mut keys = [&shares[..], &lines_of[..]].concat();
    keys.extend(fault_key(lines));
    panels_with_legend(layout, &keys, lines, 220.0, |canvas, line, area| {
        panel(canvas, line, area);
    })
}

fn panel(canvas: &mut Canvas, line: &TimeSeries, area: Area) {
    let y = Axis::shares("share of all processors (%)");
    let frame = time_frame(canvas, line, area, y, 52.0);
    let limit = frame.at_y(BUSY);
    let (from, to) = ((frame.left, limit), (frame.right, limit));
    canvas.line(from, to, Stroke::new(Paint::Ink, 1.2));
    for span in &line.spans {
        let groups = groups(line, span, &line.host, |point| point.start_s);
        for (_, paint, dash, share) in SHARES {
            // Where several seconds are drawn as one point, it shows the largest share, so that short disturbances stay visible.
            let place = |points: &Vec<&HostPoint>| {
                let shares = points.iter().filter_map(|point| share(point));
                let largest = shares.max_by(f64::total_cmp)?;
                let middle = f64::midpoint(points.first()?.start_s, points.last()?.end_s);
                Some(frame.at((middle, largest)))
            };
            let path: Vec<(f64, f64)> = groups.iter().filter_map(place).collect();
            match path.as_slice() {
                [only] => canvas.dot(*only, 1.5, paint),
                path => canvas.path(path, Stroke::new(paint, 1.8).dashed(dash)),
            }
        }
    }
}
