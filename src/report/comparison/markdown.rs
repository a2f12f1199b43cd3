//! A comparison as Markdown for a comment on a pull request.

use std::fmt::Write as _;

use super::{HEADS, Shown, by_mode, difference_text, legend, none_lost, notes, tally};
use crate::analyse::{Comparison, Consequence, Kind, Row, Subject};
use crate::report::{escape_control, gates};

/// The hidden first line of the Markdown. A bot may replace an earlier comment that begins with this marker.
const MARKER: &str = "<!-- replbench-comparison -->";

/// The verdict first, then what changed, then every figure in a collapsed section. The text begins with a hidden marker, so that a bot can
/// find its last comment.
pub fn comparison_markdown(comparison: &Comparison) -> String {
    let mut out = format!("{MARKER}\n### replbench: {}\n\n", tally(&comparison.rows));
    if comparison.forced {
        out.push_str("**Not comparable, and compared by `--force`.**\n\n");
    }
    out.push_str(&subjects(comparison));
    for difference in &comparison.differences {
        let role = match difference.consequence {
            Consequence::Forbids => "**forbids comparing:** ",
            Consequence::Subject => "compared: ",
            Consequence::Noted => "",
        };
        let _ = writeln!(out, "- {role}{}", escape(&difference_text(difference)));
    }
    for note in &comparison.notes {
        let _ = writeln!(out, "- {}", escape(&escape_control(note)));
    }
    if !comparison.gates.is_empty() {
        let _ = write!(out, "\n{}", gates::markdown(&comparison.gates));
    }
    if comparison.rows.iter().any(Row::is_told) {
        out.push('\n');
        for (mode, mut rows) in by_mode(comparison) {
            rows.retain(|row| row.is_told());
            if !rows.is_empty() {
                table(&mut out, &mode, &rows);
            }
        }
    }
    let _ = write!(
        out,
        "\n<details><summary>All {} figures</summary>\n\n",
        comparison.rows.len()
    );
    for (mode, rows) in by_mode(comparison) {
        table(&mut out, &mode, &rows);
    }
    let _ = writeln!(out, "</details>\n\n{}", legend(comparison).join(" "));
    out
}

fn subjects(comparison: &Comparison) -> String {
    let one = |name: &str, subject: &Subject| {
        let mut line = format!("- {name}: `{}`", code(&subject.run_id));
        if let Some(commit) = &subject.commit {
            let _ = write!(line, " at `{}`", code(commit));
        }
        if !subject.items.is_empty() {
            let _ = write!(line, " (`{}`)", code(&subject.items.join(", ")));
        }
        line + "\n"
    };
    match comparison.kind {
        Kind::Modes => one(
            "run, modes against the first, paired by block",
            &comparison.base,
        ),
        Kind::Session => {
            one("base, taking turns with the head", &comparison.base)
                + &one("head", &comparison.head)
        }
        Kind::Runs => one("base", &comparison.base) + &one("head", &comparison.head),
    }
}

fn table(out: &mut String, mode: &str, rows: &[&Row]) {
    let mut heads = HEADS.map(str::to_owned);
    heads[0] = escape(mode);
    line(out, &heads);
    out.push_str("|---|--:|--:|--:|--:|--:|--:|--:|---|\n");
    for row in rows.iter().filter(|row| !row.is_none_lost()) {
        let mut cells = Shown::of(row).into_cells();
        if row.is_told() {
            cells[8] = format!("**{}**", cells[8]);
        }
        line(out, &cells.map(|cell| escape(&cell)));
    }
    out.push('\n');
    for note in none_lost(rows).into_iter().chain(notes(rows)) {
        let _ = writeln!(out, "- {}", escape(&note));
    }
    out.push('\n');
}

fn line(out: &mut String, cells: &[String; 9]) {
    let _ = writeln!(out, "| {} |", cells.join(" | "));
}

/// Text for a code span, in which only a backtick has a special meaning: it becomes an apostrophe.
fn code(text: &str) -> String {
    escape_control(text).replace('`', "'")
}

/// Text with its markup escaped, except for `*`: it cannot end a cell, begin a tag or mention a user.
pub(in crate::report) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '|' => out.push_str("\\|"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '@' => out.push_str("@\u{2060}"),
            '`' | '[' | ']' | '_' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            _ => out.push(c),
        }
    }
    // `*` is not escaped, because verdicts have been made bold before their cells come here.
    out
}
