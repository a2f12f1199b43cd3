//! Each mode against the baseline, as a forest plot: factors with their intervals.

use super::axis::Axis;
use super::canvas::{Anchor, Canvas, Drawing, Paint, Type, widest};
use super::frame::{Frame, Layout};
use super::legend::{Key, Mark, draw_interval, legend, legend_height};
use super::{Chart, Table, both, mode_paint, values};
use crate::analyse::{Analysis, Estimate, Interval};
use crate::units::format_ratio;

const ROW: f64 = 22.0;
const GROUP_GAP: f64 = 12.0;

struct Group<'a> {
    mode: &'a str,
    rows: Vec<(&'static str, Estimate)>,
}

pub(super) fn chart(analysis: &Analysis) -> Option<Chart> {
    let baseline = analysis.modes.baseline.clone()?;
    let groups = groups(analysis);
    (!groups.is_empty()).then_some(())?;
    let mut table = Table::new(&["mode", "figure", "factor", "95 % interval", "pairs"]);
    let mut description = Vec::new();
    for group in &groups {
        for (figure, estimate) in &group.rows {
            table.rows.push(vec![
                group.mode.to_owned(),
                (*figure).into(),
                format_ratio(estimate.value),
                interval_text(estimate),
                estimate.n.to_string(),
            ]);
            let factor = factor_text(estimate);
            description.push(format!("{} {figure}: {factor}.", group.mode));
        }
    }
    Some(Chart {
        id: "effects",
        title: "Each mode against the baseline",
        description: format!("Factors to {baseline}. {}", description.join(" ")),
        caption: format!(
            "How many times as long as under {baseline}: geometric mean of the ratios within blocks, with the 95 % t interval over blocks. \
             An interval that crosses 1 shows no difference."
        ),
        drawings: both(|layout| draw(analysis, &groups, &baseline, layout)),
        table,
    })
}

fn groups(analysis: &Analysis) -> Vec<Group<'_>> {
    let groups = analysis.modes.modes.iter().filter_map(|mode| {
        let ratios = mode.ratios.as_ref()?;
        let rows: Vec<_> = [
            ("commit p50", ratios.response_p50),
            ("commit p99", ratios.response_p99),
        ]
        .into_iter()
        .filter_map(|(figure, ratio)| Some((figure, ratio?)))
        .collect();
        (!rows.is_empty()).then_some(Group {
            mode: &mode.mode,
            rows,
        })
    });
    groups.collect()
}

fn interval_text(estimate: &Estimate) -> String {
    let Some(Interval { lo, hi }) = estimate.interval else {
        return "too few pairs".into();
    };
    format!("{} to {}", format_ratio(lo), format_ratio(hi))
}

fn factor_text(estimate: &Estimate) -> String {
    let factor = format_ratio(estimate.value);
    match estimate.interval {
        Some(_) => format!("{factor}× ({})", interval_text(estimate)),
        None => format!("{factor}×"),
    }
}

fn draw(analysis: &Analysis, groups: &[Group<'_>], baseline: &str, layout: Layout) -> Drawing {
    let rows: usize = groups.iter().map(|group| group.rows.len()).sum();
    let heads = layout.pick(0.0, 18.0);
    let height = ROW * rows as f64 + (GROUP_GAP + heads) * groups.len() as f64;
    let names = widest(groups.iter().map(|group| group.mode), 13.0);
    let left = layout.pick((names + 20.0).min(220.0) + 84.0, 88.0);
    let right = layout.width() - layout.pick(170.0, 12.0);
    let all = groups.iter().flat_map(|group| &group.rows);
    let values = all.flat_map(|(_, estimate)| values(estimate)).chain([1.0]);
    let keys = [
        Key::new("mean factor", Paint::Ink, Mark::Dot),
        Key::new("95 % interval over blocks", Paint::Ink, Mark::Interval),
    ];
    let top = legend_height(4.0, layout.width(), &keys) + 34.0;
    let frame = Frame {
        left,
        top,
        right,
        bottom: top + height,
        x: Axis::log(
            &format!("times as long as under {baseline} (factor)"),
            values,
        ),
        y: Axis::unmarked(),
    };
    let mut canvas = Canvas::new(layout.width(), frame.bottom + 46.0);
    frame.draw(&mut canvas);
    legend(&mut canvas, 4.0, 4.0, layout.width(), &keys);
    frame.mark_one(&mut canvas, &format!("as {baseline}"));
    let mut y = frame.top + GROUP_GAP / 2.0;
    for group in groups {
        let (paint, _) = mode_paint(analysis, group.mode);
        if layout.is_narrow() {
            let name = Type::new(Anchor::Start).bold().halo();
            canvas.text((4.0, y + heads / 2.0), group.mode, name);
            y += heads;
        } else {
            let middle = y + ROW * group.rows.len() as f64 / 2.0;
            let name = Type::new(Anchor::End).bold().size(13.0);
            canvas.text((left - 92.0, middle), group.mode, name);
        }
        for (figure, estimate) in &group.rows {
            let at = (frame.left - 10.0, y + ROW / 2.0);
            canvas.text(at, figure, Type::new(Anchor::End).muted());
            draw_factor(&mut canvas, &frame, layout, at.1, estimate, paint);
            y += ROW;
        }
        y += GROUP_GAP;
    }
    canvas.finish()
}

fn draw_factor(
    canvas: &mut Canvas,
    frame: &Frame,
    layout: Layout,
    y: f64,
    estimate: &Estimate,
    paint: Paint,
) {
    let at = frame.at_x(estimate.value);
    if let Some(interval) = estimate.interval {
        let (lo, hi) = (frame.at_x(interval.lo), frame.at_x(interval.hi));
        draw_interval(canvas, lo, hi, y, paint);
    }
    canvas.dot((at, y), 4.5, paint);
    if layout.is_narrow() {
        let after = at + 60.0 > frame.right;
        let (x, anchor) = if after {
            (at - 10.0, Anchor::End)
        } else {
            (at + 10.0, Anchor::Start)
        };
        let factor = format!("{}×", format_ratio(estimate.value));
        let kind = Type::new(anchor).halo().size(11.0);
        canvas.text((x, y - 9.0), &factor, kind);
    } else {
        let beside = (frame.right + 12.0, y);
        canvas.text(beside, &factor_text(estimate), Type::new(Anchor::Start));
    }
}
