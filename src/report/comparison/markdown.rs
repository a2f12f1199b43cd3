//! A comparison as Markdown, fit for a comment on a pull request.

use std::fmt::Write as _;

use super::{Shown, by_mode, difference_text, legend, none_lost, notes, tally};
use crate::analyse::{Comparison, Consequence, Kind, Row, Subject, Verdict};
use crate::report::{escape_control, gates};

/// A comment that begins with it may be replaced by the next.
const MARKER: &str = "<!-- replbench-comparison -->";

/// The verdict first, then what changed, then every figure folded away. Begins with a hidden marker, by which a bot
/// finds its last comment.
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
    let told = |row: &&Row| matches!(row.verdict, Verdict::Regressed | Verdict::Improved);
    let changed: Vec<&Row> = comparison.rows.iter().filter(told).collect();
    if !changed.is_empty() {
        out.push('\n');
        for (mode, rows) in by_mode(comparison) {
            let rows: Vec<_> = rows.into_iter().filter(told).collect();
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
        let commit = subject
            .commit
            .as_deref()
            .map(|commit| format!(" at `{}`", code(commit)));
        let items = if subject.items.is_empty() {
            String::new()
        } else {
            format!(" (`{}`)", code(&subject.items.join(", ")))
        };
        format!(
            "- {name}: `{}`{}{items}\n",
            code(&subject.run_id),
            commit.unwrap_or_default()
        )
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
    let _ = writeln!(
        out,
        "| {} | base | head | ratio | 95 % | q | n | MDE | verdict |",
        escape(mode)
    );
    out.push_str("|---|--:|--:|--:|--:|--:|--:|--:|---|\n");
    for row in rows.iter().filter(|row| !row.is_none_lost()) {
        let shown = Shown::of(row);
        let verdict = match row.verdict {
            Verdict::Regressed | Verdict::Improved => format!("**{}**", shown.verdict),
            _ => shown.verdict,
        };
        let cells = [
            shown.figure,
            shown.base,
            shown.head,
            shown.effect,
            shown.interval,
            shown.q,
            shown.n,
            shown.detectable,
            verdict,
        ];
        let cells: Vec<_> = cells.iter().map(|cell| escape(cell)).collect();
        let _ = writeln!(out, "| {} |", cells.join(" | "));
    }
    out.push('\n');
    for note in none_lost(rows).into_iter().chain(notes(rows)) {
        let _ = writeln!(out, "- {}", escape(&note));
    }
    out.push('\n');
}

/// Inside backticks nothing but a backtick means anything.
fn code(text: &str) -> String {
    escape_control(text).replace('`', "'")
}

/// Text with all markup escaped: it ends no cell, begins no tag and mentions no user.
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
    // Ours are the only stars: verdicts are made bold before.
    out
}
