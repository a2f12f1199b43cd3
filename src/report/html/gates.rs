//! The section of the page about a run's gates.

use maud::{Markup, html};

use super::super::escape_control;
use super::super::gates::{metric, name, verdict};
use super::layout::{section, table};
use crate::analyse::GateLine;
use crate::units::thousands;

/// The section of gates; empty for a run without gates.
pub(crate) fn gates(lines: &[GateLine]) -> Markup {
    if lines.is_empty() {
        return Markup::default();
    }
    let heads = [
        "gate",
        "verdict",
        "mode",
        "replica",
        "found",
        "wanted",
        "observations",
    ];
    let rows = html! { @for line in lines { (row(line)) } };
    let content = html! {
        (table("Table of gates", "dense gates", &heads, &rows))
        p.caption {
            "Figures are of all valid repetitions of a mode, merged. Commits that were never seen, and arrivals never sent or "
            "answered, count as larger than all others. A gate without data fails."
        }
    };
    section("gates", "Gates", &content)
}

fn row(line: &GateLine) -> Markup {
    html! {
        tr.failed[!line.passed] {
            th scope="row" {
                (name(line))
                @if let Some(metric) = metric(line) { span.ci { code { (metric) } } }
            }
            td.verdict { (verdict(line)) }
            td { (escape_control(line.mode.as_deref().unwrap_or_default())) }
            td { (escape_control(line.node.as_deref().unwrap_or_default())) }
            td.found {
                (line.found())
                @if let Some(reason) = &line.reason { span.ci { (escape_control(reason)) } }
            }
            td { (line.wanted()) }
            td { (thousands(line.n)) }
        }
    }
}
