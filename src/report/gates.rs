//! The lines of a run's gates as text for a terminal and as a Markdown table. Words what `analyse` judged; judges nothing.

use std::fmt::Write as _;

use super::comparison::escape;
use super::escape_control;
use crate::analyse::GateLine;
use crate::plan::fold;
use crate::units::thousands;

/// Whether the verdicts have colours, as ANSI escapes; the words are there in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paint {
    Plain,
    Ansi,
}

/// One paragraph a line, none wider than `width`; empty without gates.
pub fn text(lines: &[GateLine], width: usize, paint: Paint) -> String {
    const MARGIN: usize = 6;
    let mut out = String::new();
    for line in lines {
        let folded = fold(&sentence(line), width.saturating_sub(MARGIN).max(MARGIN));
        for (index, part) in folded.iter().enumerate() {
            let head = match (index, paint) {
                (0, Paint::Ansi) if line.passed => "\u{1b}[32mPASS\u{1b}[0m",
                (0, Paint::Ansi) => "\u{1b}[1;31mFAIL\u{1b}[0m",
                (0, Paint::Plain) => verdict(line),
                _ => "    ",
            };
            // Written to a string, which does not fail.
            let _ = writeln!(out, "{head}  {part}");
        }
    }
    out
}

/// A table for a pull request or an issue; empty without gates.
pub fn markdown(lines: &[GateLine]) -> String {
    if lines.is_empty() {
        return String::new();
    }
    let mut out = String::from(
        "| verdict | gate | metric | mode | replica | found | wanted | n |\n|---|---|---|---|---|--:|--:|--:|\n",
    );
    for line in lines {
        let mut found = escaped(&line.found());
        if let Some(reason) = &line.reason {
            found = format!("{found} ({})", escaped(reason));
        }
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} | {found} | {} | {} |",
            if line.passed { "PASS" } else { "**FAIL**" },
            escaped(&name(line)),
            metric(line).map_or_else(String::new, |metric| format!("`{metric}`")),
            escaped(line.mode.as_deref().unwrap_or_default()),
            escaped(line.node.as_deref().unwrap_or_default()),
            escaped(&line.wanted()),
            thousands(line.n),
        );
    }
    out
}

pub(super) fn verdict(line: &GateLine) -> &'static str {
    if line.passed { "PASS" } else { "FAIL" }
}

/// What a person calls it; a number where it has no name.
pub(super) fn name(line: &GateLine) -> String {
    let name = line.gate.as_ref().and_then(|gate| gate.name.as_deref());
    name.map_or_else(
        || format!("gate {}", line.number),
        |name| escape_control(name).into_owned(),
    )
}

pub(super) fn metric(line: &GateLine) -> Option<String> {
    line.gate.as_ref().map(|gate| gate.metric.to_string())
}

fn sentence(line: &GateLine) -> String {
    let (subject, found) = (line.subject(), line.found());
    let text = match (line.value, line.beyond) {
        (None, None) => format!("{subject} has {found}"),
        _ if line.passed => format!("{subject} is {found} ({})", line.wanted()),
        _ => format!("{subject} is {found}, must be {}", line.wanted()),
    };
    let text = match &line.reason {
        Some(reason) => format!("{text}: {reason}"),
        None => text,
    };
    escape_control(&text).into_owned()
}

/// Text from a file as a table cell and nothing else.
fn escaped(text: &str) -> String {
    escape(&escape_control(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::Metric;
    use crate::plan::{Gate, Limit};

    fn line(name: &str, value: f64, reason: Option<&str>) -> GateLine {
        let limit = Limit::Max(0.05);
        GateLine {
            number: 1,
            gate: Some(Gate {
                name: Some(name.into()),
                metric: Metric::of("visibility", "p99").unwrap(),
                mode: None,
                node: None,
                limit,
            }),
            mode: Some("sync:any-2".into()),
            node: Some("s1".into()),
            value: reason.is_none().then_some(value),
            beyond: None,
            n: 24_000,
            passed: reason.is_none() && limit.allows(value),
            reason: reason.map(Into::into),
        }
    }

    #[test]
    fn the_verdict_is_a_word_and_colour_comes_on_top() {
        let lines = [line("cart", 0.004, None), line("cart", 0.4, None)];
        let plain = text(&lines, 80, Paint::Plain);
        assert_eq!(
            plain,
            "PASS  cart: visibility.p99 on s1 under sync:any-2 is 4.00 ms (at most 50 ms)\n\
             FAIL  cart: visibility.p99 on s1 under sync:any-2 is 400 ms, must be at most 50\n      ms\n"
        );
        let painted = text(&lines, 80, Paint::Ansi);
        assert_eq!(anstream::adapter::strip_str(&painted).to_string(), plain);
        assert_ne!(painted, plain);
    }

    #[test]
    fn lines_fit_whatever_they_are_called() {
        let long = line(&"browse ".repeat(9), 1.0, Some(&"x".repeat(200)));
        for width in [20, 40, 80] {
            for row in text(std::slice::from_ref(&long), width, Paint::Plain).lines() {
                assert!(row.chars().count() <= width, "{row}");
            }
        }
    }

    #[test]
    fn a_figure_that_is_just_beyond_its_bound_is_told_exactly() {
        assert_eq!(line("x", 0.050_02, None).found(), "50.02 ms");
        assert_eq!(line("x", 0.05, None).found(), "50.0 ms");
    }

    #[test]
    fn a_markdown_cell_stays_a_cell() {
        let hostile = line("a|b\n# c `d` <img> @me [x](y) \u{1b}[31m", 0.0, Some("e|f"));
        let table = markdown(&[hostile, line("cart", 0.004, None)]);
        let rows: Vec<&str> = table.lines().collect();
        assert_eq!(rows.len(), 4);
        for row in &rows {
            let bars = row.replace("\\|", "").matches('|').count();
            assert_eq!(bars, 9, "{row}");
        }
        for bad in ["<img>", "@me", "[x](", "`d`", "\u{1b}"] {
            assert!(!table.contains(bad), "{bad}: {table}");
        }
        assert_eq!(
            rows[3],
            "| PASS | cart | `visibility.p99` | sync:any-2 | s1 | 4.00 ms | at most 50 ms | 24,000 |"
        );
        assert_eq!(markdown(&[]), "");
    }
}
