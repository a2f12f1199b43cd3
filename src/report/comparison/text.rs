//! A comparison as a table for a terminal.

use std::fmt::Write as _;
use std::iter;

use super::{
    HEADS, NOTHING, Shown, UNITS, by_mode, difference_text, figure_name, legend, none_lost, notes,
    probability, share, tally,
};
use crate::analyse::{Comparison, Consequence, Kind, Row, Subject};
use crate::report::escape_control;
use crate::report::gates;
use crate::report::text::folded;
use crate::units::plural;

/// Both sides, every figure, and the number of figures with each verdict. Sentences are folded to `width` characters, tables are not.
pub fn comparison_text(comparison: &Comparison, width: usize) -> String {
    let mut out = head(comparison, width);
    let groups = by_mode(comparison);
    let tables: Vec<Vec<[String; 9]>> = groups.iter().map(table_of).collect();
    let widths = widths(&tables);
    for (table, (_, rows)) in tables.iter().zip(&groups) {
        out.push('\n');
        for cells in table {
            line(&mut out, &widths, cells);
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
    let (base, head) = (subject(&comparison.base), subject(&comparison.head));
    let mut out = match comparison.kind {
        Kind::Modes => format!("run   {base}\nModes against the first, paired by block.\n"),
        Kind::Session => {
            format!("base  {base}\nhead  {head}\nOne session, sides took turns: paired by block.\n")
        }
        Kind::Runs => format!("base  {base}\nhead  {head}\nTwo runs, not paired.\n"),
    };
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

/// The lines of a mode's table: the heads, of which the first is the mode's name, then the figures.
fn table_of((mode, rows): &(String, Vec<&Row>)) -> Vec<[String; 9]> {
    let mut heads = HEADS.map(str::to_owned);
    heads[0].clone_from(mode);
    let shown = rows.iter().filter(|row| !row.is_none_lost());
    let cells = shown.map(|row| Shown::of(row).into_cells());
    iter::once(heads).chain(cells).collect()
}

/// The largest width of a column in characters. A name in a damaged file may have any length; a longer name exceeds its column.
const MOST_WIDTH: usize = 80;

fn widths(tables: &[Vec<[String; 9]>]) -> [usize; 9] {
    let mut widths = [0; 9];
    for cells in tables.iter().flatten() {
        for (width, cell) in widths.iter_mut().zip(cells) {
            *width = cell.chars().count().min(MOST_WIDTH).max(*width);
        }
    }
    widths
}

/// Writes a line of a table. The verdict comes last and is not padded.
fn line(out: &mut String, widths: &[usize; 9], [name, figures @ .., verdict]: &[String; 9]) {
    let _ = write!(out, "{name:<width$}", width = widths[0]);
    for (cell, width) in figures.iter().zip(&widths[1..]) {
        let _ = write!(out, " {cell:>width$}");
    }
    let _ = writeln!(out, " {verdict}");
}

const NOISE_HEAD: [&str; 6] = ["value", "spread", "MDE", "to find", "p", "verdict"];

/// The comparison of a configuration with itself: how far its repetitions spread, which figures were mistaken for a difference, and the
/// smallest change that could be found here.
pub fn noise_text(comparison: &Comparison, width: usize) -> String {
    let mut out = head(comparison, width);
    let groups = by_mode(comparison);
    let names = groups.iter().map(|(mode, _)| mode.clone());
    let names = names.chain(comparison.rows.iter().map(figure_name));
    let longest = names.map(|name| name.chars().count()).max();
    let first = longest.unwrap_or(0).min(MOST_WIDTH);
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
    let is_early = |row: &&Row| row.p.is_some_and(|p| p <= 0.05);
    let early = rows.iter().filter(is_early).count();
    let mut out = vec![format!(
        "{} among {} figures. Before the correction for their number {early} of {tested} had p <= 0.05, where chance alone makes \
         about {:.1}.",
        plural(alarms, "false alarm"),
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
