//! A comparison as a table for a terminal.

use std::fmt::Write as _;

use super::{
    NOTHING, Shown, UNITS, by_mode, difference_text, legend, none_lost, notes, probability, share,
    tally,
};
use crate::analyse::{Comparison, Consequence, Kind, Row, Subject};
use crate::report::escape_control;
use crate::report::gates;
use crate::report::text::folded;

const HEAD: [&str; 8] = ["base", "head", "ratio", "95 %", "q", "n", "MDE", "verdict"];

/// Both sides, every figure, the sum of it; folded to `width` where it is prose.
pub fn comparison_text(comparison: &Comparison, width: usize) -> String {
    let mut out = head(comparison, width);
    let shown = |row: &&Row| (!row.is_none_lost()).then(|| Shown::of(row));
    let by_mode = by_mode(comparison);
    let groups: Vec<(String, Vec<Shown>)> = by_mode
        .iter()
        .map(|(mode, rows)| (mode.clone(), rows.iter().filter_map(shown).collect()))
        .collect();
    let widths = widths(&groups);
    for ((mode, shown), (_, rows)) in groups.iter().zip(&by_mode) {
        out.push('\n');
        line(&mut out, &widths, mode, HEAD);
        for row in shown {
            line(&mut out, &widths, &row.figure, cells(row));
        }
        for note in none_lost(rows).into_iter().chain(notes(rows)) {
            out += &folded(&note, width.saturating_sub(2), ["  ", "  "]);
        }
    }
    out.push('\n');
    out += &folded(&format!("{}.", tally(&comparison.rows)), width, ["", ""]);
    out += &gates::text(&comparison.gates, width);
    for sentence in legend(comparison) {
        out += &folded(&sentence, width, ["", ""]);
    }
    out
}

fn head(comparison: &Comparison, width: usize) -> String {
    let mut out = String::new();
    match comparison.kind {
        Kind::Modes => {
            let _ = writeln!(out, "run   {}", subject(&comparison.base));
            let _ = writeln!(out, "Modes against the first, paired by block.");
        }
        Kind::Session | Kind::Runs => {
            let _ = writeln!(out, "base  {}", subject(&comparison.base));
            let _ = writeln!(out, "head  {}", subject(&comparison.head));
            let how = if comparison.kind == Kind::Session {
                "One session, sides took turns: paired by block."
            } else {
                "Two runs, not paired."
            };
            let _ = writeln!(out, "{how}");
        }
    }
    if comparison.forced {
        out.push_str("NOT COMPARABLE, and compared by --force:\n");
    }
    for difference in &comparison.differences {
        let mark = match difference.consequence {
            Consequence::Forbids => "! ",
            Consequence::Subject => "* ",
            Consequence::Noted => "  ",
        };
        out += &folded(&difference_text(difference), width - 2, [mark, "  "]);
    }
    for note in &comparison.notes {
        out += &folded(&escape_control(note), width, ["", ""]);
    }
    out
}

fn subject(subject: &Subject) -> String {
    let mut text = escape_control(&subject.run_id).into_owned();
    if !subject.items.is_empty() {
        let _ = write!(text, "  ({})", escape_control(&subject.items.join(", ")));
    }
    text
}

fn cells(row: &Shown) -> [&str; 8] {
    [
        &row.base,
        &row.head,
        &row.effect,
        &row.interval,
        &row.q,
        &row.n,
        &row.detectable,
        &row.verdict,
    ]
}

/// A name in a damaged file may be of any length, and a width may not: longer ones stand out of their column.
const MOST_WIDTH: usize = 80;

/// Of the figure's name and of each column but the last, which has the rest of the line.
fn widths(groups: &[(String, Vec<Shown>)]) -> [usize; 8] {
    let length = |text: &str| text.chars().count();
    let mut widths = [0; 8];
    for (mode, rows) in groups {
        widths[0] = widths[0].max(length(mode));
        for row in rows {
            widths[0] = widths[0].max(length(&row.figure));
            for (width, cell) in widths[1..].iter_mut().zip(cells(row)) {
                *width = (*width).max(length(cell));
            }
        }
    }
    for (width, head) in widths[1..].iter_mut().zip(HEAD) {
        *width = (*width).max(length(head));
    }
    widths.map(|width| width.min(MOST_WIDTH))
}

fn line(out: &mut String, widths: &[usize; 8], name: &str, cells: [&str; 8]) {
    let mut line = format!("{name:<width$}", width = widths[0]);
    let (last, others) = cells.split_last().expect("there are eight");
    for (cell, width) in others.iter().zip(&widths[1..]) {
        let _ = write!(line, " {cell:>width$}");
    }
    let _ = writeln!(out, "{line} {last}");
}

const NOISE_HEAD: [&str; 6] = ["value", "spread", "MDE", "to find", "p", "verdict"];

/// A configuration against itself: how far its repetitions spread, what was mistaken for a difference, and the smallest
/// change that could be found here.
pub fn noise_text(comparison: &Comparison, width: usize) -> String {
    let mut out = head(comparison, width);
    let groups = by_mode(comparison);
    let names = groups.iter().map(|(mode, _)| mode.clone());
    let figures = comparison.rows.iter().map(super::figure_name);
    let first = names
        .chain(figures)
        .map(|name| name.chars().count())
        .max()
        .unwrap_or(0)
        .min(MOST_WIDTH);
    for (mode, rows) in &groups {
        out.push('\n');
        noise_line(&mut out, first, mode, NOISE_HEAD);
        for row in rows.iter().filter(|row| !row.is_none_lost()) {
            let shown = Shown::of(row);
            let needed = row.repetitions_to_find(comparison.threshold);
            let needed = needed.map_or_else(|| NOTHING.into(), |count| count.to_string());
            let p = row.p.map_or_else(|| NOTHING.into(), probability);
            let verdict = if row.is_told() {
                "FALSE ALARM"
            } else {
                row.word()
            };
            let cells = [
                &shown.base,
                &shown.spread,
                &shown.detectable,
                &needed,
                &p,
                verdict,
            ];
            noise_line(&mut out, first, &shown.figure, cells);
        }
    }
    out.push('\n');
    out += &gates::text(&comparison.gates, width);
    for sentence in noise_sentences(comparison) {
        out += &folded(&sentence, width, ["", ""]);
    }
    out
}

fn noise_line(out: &mut String, first: usize, name: &str, cells: [&str; 6]) {
    let [value, spread, detectable, needed, p, verdict] = cells;
    let _ = writeln!(
        out,
        "{name:<first$} {value:>9} {spread:>9} {detectable:>9} {needed:>8} {p:>6}  {verdict}"
    );
}

fn noise_sentences(comparison: &Comparison) -> Vec<String> {
    let rows = &comparison.rows;
    let alarms = rows.iter().filter(|row| row.is_told()).count();
    let tested = rows.iter().filter(|row| row.p.is_some()).count();
    let early = rows
        .iter()
        .filter(|row| row.p.is_some_and(|p| p <= 0.05))
        .count();
    let mut out = vec![format!(
        "{alarms} false alarm{} among {} figures. Before the correction for their number {early} of {tested} had p <= 0.05, where chance alone makes \
         about {:.1}.",
        if alarms == 1 { "" } else { "s" },
        rows.len(),
        tested as f64 * 0.05
    )];
    let median = rows
        .iter()
        .find(|row| row.metric == "response" && row.stat == "p50");
    if let Some((row, detectable)) = median.and_then(|row| Some((row, row.detectable?))) {
        out.push(format!(
            "The smallest change of the median commit that {} repetitions find here in four of five cases is {}.",
            row.base_n,
            share(detectable)
        ));
    }
    out.push(format!(
        "Values are of the base; {UNITS}. Spread: standard deviation from repetition to repetition. MDE: the smallest change that is found in four of \
         five cases. To find: about how many repetitions would bring that to {} %.",
        comparison.threshold * 100.0
    ));
    out
}
