//! A comparison as the page `comparison.html` with its chart, and the same as JSON, CSV and Markdown beside the page.

use std::fs;
use std::path::{Path, PathBuf};

use itertools::Itertools as _;
use maud::{Markup, html};

use super::{
    HEADS, Shown, by_mode, comparison_csv, comparison_json, comparison_markdown, difference_text,
    legend, none_lost, shown_unit, tally,
};
use crate::analyse::{Comparison, Consequence, Kind, Row, Subject, Verdict};
use crate::metric::Scale;
use crate::report::chart::{Chart, comparison_chart};
use crate::report::html::gates::gates;
use crate::report::html::layout::{section, table};
use crate::report::html::{Shell, chart_section};
use crate::report::output::{draw, failed, folder, replace};
use crate::report::{ReportError, escape_control};

pub(crate) const PAGE: &str = "comparison.html";
const JSON: &str = "comparison.json";
const CSV: &str = "comparison.csv";
const MARKDOWN: &str = "comparison.md";

const CSS: &str = "\
.verdicts td:last-child,.verdicts th:last-child{text-align:left}.regressed,.improved{font-weight:600}\
.regressed{color:var(--bad)}.improved{color:var(--accent)}";

/// The content of a comparison's page. The caller of [`write_framed`] puts a frame around it.
pub(crate) struct Content {
    /// The title, and the runs that are compared.
    pub(crate) head: Markup,
    /// Everything below the head.
    pub(crate) main: Markup,
}

/// Writes `comparison.html` into `dir` with its chart `charts/effects.svg` and the comparison as JSON, CSV and Markdown. Creates `dir` if it
/// does not exist. Returns the page's path.
pub fn write_comparison(dir: &Path, comparison: &Comparison) -> Result<PathBuf, ReportError> {
    write_framed(dir, comparison, "", |content| {
        html! {
            header { (content.head) }
            (navigation(comparison))
            main { (content.main) }
            footer {
                "Made by replbench " (env!("CARGO_PKG_VERSION")) " from the figures of the runs; "
                code { "replbench compare" } " makes it again."
            }
        }
    })
}

/// As [`write_comparison`], with the caller's frame around the content and the caller's CSS rules in addition.
pub(crate) fn write_framed(
    dir: &Path,
    comparison: &Comparison,
    css: &str,
    frame: impl FnOnce(&Content) -> Markup,
) -> Result<PathBuf, ReportError> {
    fs::create_dir_all(dir).map_err(|source| failed(dir, source))?;
    let chart = comparison_chart(comparison);
    if let Some(chart) = &chart {
        draw(chart, &folder(&dir.join("charts"))?)?;
    }
    let title = title(comparison);
    let shell = Shell {
        title: &title,
        css: &format!("{CSS}{css}"),
        script: None,
        images: false,
    };
    let content = Content {
        head: head(comparison, &title),
        main: main(comparison, chart.as_ref()),
    };
    for (name, text) in [
        (JSON, comparison_json(comparison)),
        (CSV, comparison_csv(comparison)?),
        (MARKDOWN, comparison_markdown(comparison)),
        (PAGE, shell.document(&frame(&content))),
    ] {
        replace(&dir.join(name), text.as_bytes())?;
    }
    Ok(dir.join(PAGE))
}

fn title(comparison: &Comparison) -> String {
    let (base, head) = (&comparison.base.profile, &comparison.head.profile);
    match comparison.kind {
        Kind::Modes => format!("{base}: the modes against the first"),
        Kind::Runs | Kind::Session if base == head => format!("{base}: head against base"),
        Kind::Runs | Kind::Session => format!("{head} against {base}"),
    }
}

fn head(comparison: &Comparison, title: &str) -> Markup {
    let how = match comparison.kind {
        Kind::Modes => "Repetitions pair by block.",
        Kind::Session => "One session in which the sides took turns: repetitions pair by block.",
        Kind::Runs => "Two runs, each by itself: repetitions do not pair.",
    };
    html! {
        h1 { (escape_control(title)) }
        @if comparison.kind == Kind::Modes {
            (subject("Run", &comparison.base))
        } @else {
            (subject("Base", &comparison.base))
            (subject("Head", &comparison.head))
        }
        p.meta { (how) }
    }
}

fn subject(role: &str, subject: &Subject) -> Markup {
    html! {
        p.meta {
            (role) " " code { (escape_control(&subject.run_id)) } ", " (escape_control(&subject.started_at))
            @if let Some(commit) = &subject.commit { ", commit " code { (escape_control(commit)) } }
            @if !subject.items.is_empty() { ", given " code { (escape_control(&subject.items.join(", "))) } }
        }
    }
}

fn navigation(comparison: &Comparison) -> Markup {
    let links = [
        ("effects", "Effects"),
        ("figures", "All figures"),
        ("gates", "Gates"),
        ("differences", "Differences"),
        ("legend", "How to read it"),
        ("files", "Files"),
    ];
    let shown = |id: &str| match id {
        "effects" => comparison_chart(comparison).is_some(),
        "gates" => !comparison.gates.is_empty(),
        _ => true,
    };
    html! {
        nav aria-label="Sections" { ul {
            @for (id, label) in links.into_iter().filter(|(id, _)| shown(id)) {
                li { a href={ "#" (id) } { (label) } }
            }
        } }
    }
}

fn main(comparison: &Comparison, chart: Option<&Chart>) -> Markup {
    let figures = html! {
        @for (mode, rows) in by_mode(comparison) { (figures_of(&mode, &rows)) }
        @if comparison.rows.is_empty() { p { "Neither side has a figure that is compared." } }
    };
    let files = html! {
        dl {
            dt { a href=(JSON) { (JSON) } } dd { "everything here, for programs" }
            dt { a href=(CSV) { (CSV) } } dd { "one row a figure" }
            dt { a href=(MARKDOWN) { (MARKDOWN) } } dd { "for a comment on a pull request" }
        }
    };
    html! {
        (answer(comparison))
        @if let Some(chart) = chart { (chart_section(chart)) }
        (section("figures", "All figures", &figures))
        (gates(&comparison.gates))
        (section("differences", "Differences and notes", &differences(comparison)))
        (section("legend", "How to read it", &html! { @for sentence in legend(comparison) { p { (sentence) } } }))
        (section("files", "Files", &files))
    }
}

/// The verdict, then each mode's changes in a sentence.
fn answer(comparison: &Comparison) -> Markup {
    let bad = comparison.has_failed(false);
    let failed = comparison.gates.iter().filter(|line| !line.passed).count();
    html! {
        ul.answer {
            @if comparison.forced {
                li.bad { "Not comparable, and compared by --force: see the differences." }
            }
            @if failed > 0 { li.bad { (failed) " of " (comparison.gates.len()) " gates failed." } }
            li.bad[bad] { (tally(&comparison.rows)) "." }
            @for (mode, rows) in by_mode(comparison) {
                @if let Some(sentence) = changes(&rows) { li { strong { (mode) } ": " (sentence) "." } }
            }
        }
    }
}

fn changes(rows: &[&Row]) -> Option<String> {
    let told = |verdict: Verdict| {
        let rows = rows.iter().filter(|row| row.verdict == verdict);
        let rows: Vec<&Row> = rows.copied().collect();
        let changes = rows.iter().map(|row| change(row)).join(", ");
        Some(format!("{}: {changes}", rows.first()?.word()))
    };
    let parts = [Verdict::Regressed, Verdict::Improved].map(told);
    let parts = parts.into_iter().flatten().join("; ");
    (!parts.is_empty()).then_some(parts)
}

fn change(row: &Row) -> String {
    let Shown { figure, effect, .. } = Shown::of(row);
    match (row.scale, row.effect) {
        (Scale::Ratio, Some(_)) => format!("{figure} {effect}"),
        _ => format!("{figure} {effect} {}", shown_unit(&row.unit)),
    }
}

fn figures_of(mode: &str, rows: &[&Row]) -> Markup {
    let shown = html! { @for row in rows.iter().filter(|row| !row.is_none_lost()) {
        @let [name, figures @ .., verdict] = Shown::of(row).into_cells();
        tr {
            th scope="row" { (name) }
            @for figure in figures { td { (figure) } }
            td class=(class(row.verdict)) {
                (verdict)
                @if let Some(note) = &row.note { span.ci { (escape_control(note)) } }
            }
        }
    } };
    html! {
        h3 { (mode) }
        (table(&format!("Figures: {mode}"), "dense verdicts", &HEADS, &shown))
        @if let Some(none) = none_lost(rows) { p.caption { (none) "." } }
    }
}

fn class(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::BelowResolution | Verdict::Inconclusive | Verdict::NotComparable => "open",
        told => told.as_str(),
    }
}

fn differences(comparison: &Comparison) -> Markup {
    if comparison.differences.is_empty() && comparison.notes.is_empty() {
        return html! { p { "The sides differ in nothing that is recorded, and nothing was noted." } };
    }
    html! {
        div.warn { ul {
            @for difference in &comparison.differences {
                li {
                    @match difference.consequence {
                        Consequence::Forbids => strong { "Forbids comparing: " },
                        Consequence::Subject => strong { "Compared: " },
                        Consequence::Noted => "",
                    }
                    (difference_text(difference))
                }
            }
            @for note in &comparison.notes { li { (escape_control(note)) } }
        } }
    }
}
