//! The results of a run's gates as text for a terminal and as a Markdown table. Only formats them: `analyse` has evaluated the gates.

use std::fmt::Write as _;

use super::comparison::escape;
use super::escape_control;
use super::text::folded;
use crate::analyse::GateLine;
use crate::units::thousands;

pub(super) const PASS: &str = "PASS";
pub(super) const FAIL: &str = "FAIL";

/// A paragraph for each gate, with no line wider than `width` characters; empty without gates. ANSI escapes colour the verdicts.
pub fn text(lines: &[GateLine], width: usize) -> String {
    let told = |line| verdict_line(verdict(line), &sentence(line), width);
    lines.iter().map(told).collect()
}

/// A verdict of four letters in its colour, with the sentence beside it, folded to `width` characters.
pub(super) fn verdict_line(word: &str, sentence: &str, width: usize) -> String {
    const MARGIN: &str = "      ";
    let colour = match word {
        PASS => "32",
        FAIL => "1;31",
        _ => "33",
    };
    let first = format!("\u{1b}[{colour}m{word}\u{1b}[0m  ");
    let width = width.saturating_sub(MARGIN.len()).max(MARGIN.len());
    folded(&escape_control(sentence), width, [&first, MARGIN])
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
    if line.passed { PASS } else { FAIL }
}

/// The name of a gate, or its number if it has no name.
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
    match &line.reason {
        Some(reason) => format!("{text}: {reason}"),
        None => text,
    }
}

/// Text from a file, escaped so that it cannot end its table cell.
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
        let painted = text(&lines, 80);
        let plain = anstream::adapter::strip_str(&painted).to_string();
        assert_eq!(
            plain,
            "PASS  cart: visibility.p99 on s1 under sync:any-2 is 4.00 ms (at most 50 ms)\n\
             FAIL  cart: visibility.p99 on s1 under sync:any-2 is 400 ms, must be at most 50\n      ms\n"
        );
        assert_ne!(painted, plain);
    }

    #[test]
    fn lines_fit_whatever_they_are_called() {
        let long = line(&"browse ".repeat(9), 1.0, Some(&"x".repeat(200)));
        for width in [20, 40, 80] {
            let painted = text(std::slice::from_ref(&long), width);
            for row in anstream::adapter::strip_str(&painted).to_string().lines() {
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
