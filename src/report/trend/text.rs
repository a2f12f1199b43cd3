//! A trend for a terminal: a head, a sparkline and the changes of each series.

use std::fmt::Write as _;

use super::sparkline::{Sparkline, sparkline};
use crate::analyse::{Change, Conditions, Point, Series, Verdict};
use crate::metric::Scale;
use crate::report::escape_control;
use crate::report::text::{folded, number, short};
use crate::units::{format_bytes, format_seconds};

const INDENT: &str = "  ";

/// The fewest valid runs with which a change can be told from chance: see `analyse::change_points`.
const FEWEST: usize = 8;

/// Every series, then sentences that explain the figures and signs. No line is wider than `width` characters.
pub fn trend_text(series: &[Series], width: usize) -> String {
    let mut out = String::new();
    let mut shown: Option<&Conditions> = None;
    for one in series {
        if shown != Some(&one.conditions) {
            shown = Some(&one.conditions);
            out += &paragraph(&conditions(one, series), width);
            out.push('\n');
        }
        out += &paragraph(&head(one, series), width);
        spark(&mut out, one, width);
        for change in &one.changes {
            out += &paragraph(&sentence(one, change), width);
        }
        out.push('\n');
    }
    for sentence in legend(series) {
        out += &folded(&sentence, width, ["", ""]);
    }
    out
}

/// Folds a paragraph. Its further lines are indented by one step more than its first line.
fn paragraph(text: &str, width: usize) -> String {
    let first = if text.starts_with(INDENT) { INDENT } else { "" };
    let rest = format!("{first}{INDENT}");
    folded(text, width - 2 * INDENT.len(), [first, &rest])
}

/// The profile, server and host of a series, and its workload's hash if another series of the profile has a different workload.
fn conditions(one: &Series, all: &[Series]) -> String {
    let of = &one.conditions;
    let mut text = format!(
        "{}, PostgreSQL {}, host {} ({} cores, {})",
        short(&of.profile),
        escape_control(&of.postgresql),
        escape_control(&of.host_id),
        of.cores,
        escape_control(&of.filesystem)
    );
    let differs = |other: &Series| {
        other.conditions.profile == of.profile && other.conditions.workload_hash != of.workload_hash
    };
    if all.iter().any(differs) {
        let start: String = of.workload_hash.chars().take(12).collect();
        let _ = write!(text, ", workload {}", escape_control(&start));
    }
    text
}

fn head(one: &Series, all: &[Series]) -> String {
    let mut name = format!("{}  {}", short(&one.mode), one.figure());
    if let Some(node) = &one.node {
        let _ = write!(name, " on {}", short(node));
    }
    let is_twin = |other: &Series| {
        other.id != one.id
            && other.conditions == one.conditions
            && (&other.mode, other.figure(), &other.node) == (&one.mode, one.figure(), &one.node)
    };
    if all.iter().any(is_twin) {
        let _ = write!(name, " (settings {})", escape_control(&one.settings));
    }
    let counted = one.points.iter().filter(|point| point.counts()).count();
    let left_out = one.points.len() - counted;
    let runs = match (one.points.len(), left_out) {
        (1, 0) => "1 run".into(),
        (all, 0) => format!("{all} runs"),
        (all, left_out) => format!("{all} runs, {left_out} invalid"),
    };
    let newest = one.newest().map_or_else(String::new, |point| {
        format!(", newest {}", value(&one.unit, point.value))
    });
    let since = match one.standing() {
        Some(change) => format!(", {} since {}", effect(one, change), commit(one, change)),
        None if counted < FEWEST => ", too few to see a change".into(),
        None => ", no change".into(),
    };
    format!("{name}: {runs}{newest}{since}")
}

fn spark(out: &mut String, one: &Series, width: usize) {
    let Sparkline {
        blocks,
        marks,
        range,
    } = sparkline(one, width - INDENT.len());
    let range = range.map_or_else(String::new, |(lo, hi)| match value(&one.unit, Some(hi)) {
        hi if hi == value(&one.unit, Some(lo)) => format!("all {hi}"),
        hi => format!("{} to {hi}", value(&one.unit, Some(lo))),
    });
    let free = width - INDENT.len() - blocks.chars().count();
    if range.is_empty() {
        let _ = writeln!(out, "{INDENT}{blocks}");
    } else if range.chars().count() + 2 <= free {
        let _ = writeln!(out, "{INDENT}{blocks}  {range}");
    } else {
        let _ = writeln!(out, "{INDENT}{range}\n{INDENT}{blocks}");
    }
    if !marks.is_empty() {
        let _ = writeln!(out, "{INDENT}{marks}");
    }
}

/// The line of a change, such as `  3f2a91c 2026-11-20: 1.83 ms → 2.09 ms, +14 % (p 0.005), REGRESSED`.
fn sentence(one: &Series, change: &Change) -> String {
    let first = &one.points[change.index];
    let blessed = match (&change.reason, change.blessed) {
        (Some(reason), true) => format!(", blessed: {}", escape_control(reason)),
        (None, true) => ", blessed".into(),
        (_, false) => String::new(),
    };
    let verdict = match change.verdict {
        Verdict::Regressed if !change.blessed => "REGRESSED",
        other => other.as_str(),
    };
    format!(
        "{INDENT}{} {}: {} → {}, {} (p {:.3}), {verdict}{blessed}",
        commit(one, change),
        day(first),
        value(&one.unit, change.before),
        value(&one.unit, change.after),
        effect(one, change),
        change.p,
    )
}

/// The first seven digits of the commit at which a change begins, with `+` if the directory had uncommitted changes. The run's id if the
/// commit is not known.
fn commit(one: &Series, change: &Change) -> String {
    let point = &one.points[change.index];
    match &point.commit {
        Some(commit) => {
            let start: String = commit.chars().take(7).collect();
            let dirty = if commit.ends_with("-dirty") { "+" } else { "" };
            format!("{}{dirty}", escape_control(&start))
        }
        None => short(&point.run_id),
    }
}

fn day(point: &Point) -> String {
    let day: String = point.started_at.chars().take(10).collect();
    escape_control(&day).into_owned()
}

fn effect(one: &Series, change: &Change) -> String {
    let Some(effect) = change.effect else {
        return "by an unknown factor".into();
    };
    let sign = |positive: bool| if positive { "+" } else { "" };
    match change.scale {
        Scale::Ratio => {
            let percent = (effect - 1.0) * 100.0;
            format!("{}{} %", sign(percent > 0.0), number(percent))
        }
        Scale::Difference => {
            format!("{}{}", sign(effect > 0.0), value(&one.unit, Some(effect)))
        }
    }
}

/// A figure with a unit that suits its size; `not seen` for `None`.
fn value(unit: &str, value: Option<f64>) -> String {
    let Some(value) = value else {
        return "not seen".into();
    };
    let text = match unit {
        "us" => format_seconds(value / 1e6),
        "B" => format_bytes(value),
        "1/s" => return format!("{}/s", number(value)),
        other => return format!("{} {}", number(value), escape_control(other)),
    };
    text.replace('-', "−")
}

fn legend(series: &[Series]) -> Vec<String> {
    let changed = || series.iter().flat_map(|one| &one.changes);
    let points = || series.iter().flat_map(|one| &one.points);
    let mut out = vec![
        "Medians over the valid repetitions of each run, from the oldest commit to the newest; blocks from the lowest to the highest."
            .to_owned(),
    ];
    if changed().next().is_some() {
        out.push(
            "^ change point (E-divisive, 5 % level): the medians before and after it. Within 5 % it counts as equivalent.".into(),
        );
    }
    if changed().any(Change::is_open_regression) {
        out.push("replbench bless COMMIT accepts a regression.".into());
    }
    if points().any(|point| !point.counts()) {
        out.push("· invalid, left out of the search.".into());
    }
    if points().any(|point| point.n > 0 && point.value.is_none()) {
        out.push("↑ not seen: larger than everything recorded.".into());
    }
    out
}
