//! The page `report.html`: one file that loads nothing from the network. The answer comes first, then the charts, then what a sceptic
//! asks: what is invalid, how it was measured, and on which machine.

pub(crate) mod environment;
pub(crate) mod gates;
pub(crate) mod layout;
mod outages;
mod shell;

pub(crate) use shell::Shell;

use layout::{scrolling, section, table};
use maud::{Markup, PreEscaped, html};

use super::chart::{Chart, Table, overview_chart};
use super::escape_control;
use super::text::{Shown, figure, number, of_figure, ratio_figure, repetitions};
use crate::analyse::{Analysis, Caution, Estimate, Figure, ModeFigures, ModesTable, Severity};
use crate::record::Run;
use crate::units::format_bytes;

/// The whole page.
pub(super) fn page(run: &Run, analysis: &Analysis, charts: &[Chart]) -> String {
    let name = run.manifest.plan.profile.as_deref();
    let name = name.unwrap_or("a run of replbench");
    let (first, others) = match charts.split_first() {
        Some((first, others)) if first.id == "overview" => (Some(first), others),
        _ => (None, charts),
    };
    let body = html! {
        (head(run, name, analysis))
        main {
            (answer(analysis))
            (gates::gates(&analysis.gates))
            (outages::faults(analysis))
            @if let Some(chart) = first { (figure_of(chart, Some(""))) }
            (modes_section(&analysis.modes))
            @for chart in others { (chart_section(chart)) }
            (validity(run, analysis))
            (environment::method(run))
            (environment::environment(&run.manifest, &run.cells))
            (environment::events(run))
            (environment::files(run))
        }
        footer {
            "Made by replbench " (escape_control(&run.manifest.harness.version)) " from the files of this directory; "
            code { "replbench report" } " makes it again."
        }
    };
    let shell = Shell {
        title: name,
        css: "",
        script: None,
        images: false,
    };
    shell.document(&body)
}

/// The answer, the first chart and the table of modes, for a reader who has only a minute. `beside` is as in [`figure_of`].
pub(crate) fn first_screen(run: &Run, beside: Option<&str>) -> Markup {
    let analysis = Analysis::of(run);
    html! {
        (answer(&analysis))
        @if let Some(chart) = overview_chart(&analysis) { (figure_of(&chart, beside)) }
        (modes_section(&analysis.modes))
    }
}

fn head(run: &Run, name: &str, analysis: &Analysis) -> Markup {
    let manifest = &run.manifest;
    let description = manifest.plan.description.as_deref();
    let gates = (!analysis.gates.is_empty()).then_some(("gates", "Gates"));
    let faults = (!analysis.audit.is_empty()).then_some(("faults", "Faults"));
    let links = [
        ("modes", "Modes"),
        ("effects", "Effects"),
        ("spectrum", "Response time"),
        ("visibility", "Visibility"),
        ("lag", "Lag"),
        ("host", "Host"),
        ("validity", "Validity"),
        ("method", "Method"),
        ("environment", "Environment"),
    ];
    html! {
        header {
            h1 { (escape_control(name)) }
            @if let Some(description) = description { p.meta { (escape_control(description)) } }
            p.meta {
                "Run " code { (escape_control(&manifest.run_id)) } ", " (escape_control(&manifest.started_at)) ", "
                (escape_control(&manifest.host.cpu)) ", " (manifest.host.cores) " cores"
            }
        }
        nav aria-label="Sections" { ul { @for (id, label) in gates.into_iter().chain(faults).chain(links) { li { a href={ "#" (id) } { (label) } } } } }
    }
}

fn answer(analysis: &Analysis) -> Markup {
    html! {
        (cautions_list(&analysis.cautions))
        ul.answer {
            @for sentence in &analysis.headline { li { (escape_control(sentence)) } }
        }
    }
}

/// The list of cautions, which a reader has to know first; empty if there are none.
pub(crate) fn cautions_list(cautions: &[Caution]) -> Markup {
    html! {
        @if !cautions.is_empty() {
            ul.answer.cautions {
                @for caution in cautions {
                    li.bad[caution.severity == Severity::Alarm].noted[caution.severity == Severity::Note] {
                        (escape_control(&caution.text))
                    }
                }
            }
        }
    }
}

fn modes_section(modes: &ModesTable) -> Markup {
    let baseline = escape_control(modes.baseline.as_deref().unwrap_or_default());
    let against = format!("p50 against {baseline}");
    let heads = [
        "mode",
        "reps",
        "commits/s",
        "commit p50",
        "commit p99",
        &against,
        "service p50",
        "visible p50",
        "visible p99",
        "resolution",
        "most behind",
        "unseen",
    ];
    let rows = html! { @for mode in &modes.modes { (mode_row(mode)) } };
    let content = html! {
        (table("Table of modes", "dense", &heads, &rows))
        p.caption {
            "Times in ms. Means over repetitions with 95 % intervals below, geometric for times of commits and rates. A commit's time is its response time: from the intended start to the reply. "
            "Visible: from the acknowledgement until a read on the replica sees the row, on the replica where that takes longest, named below. "
            "Factors are paired by block. "
            "Resolution: the median gap between the last look of the probe that missed a commit and the first that saw it; a time marked ≤ is no larger than "
            "that gap, so it is an upper bound and the truth may lie anywhere below."
            (modes.finer().replace('`', ""))
        }
        dl {
            @for mode in &modes.modes {
                @if let Some(explanation) = &mode.explanation {
                    dt { (escape_control(&mode.mode)) }
                    dd { (escape_control(explanation)) }
                }
            }
        }
    };
    section("modes", "The modes", &content)
}

fn mode_row(mode: &ModeFigures) -> Markup {
    let ratio = mode.ratios.and_then(|ratios| ratios.response_p50);
    html! {
        tr {
            th scope="row" { (escape_control(&mode.mode)) }
            td { (repetitions(mode)) }
            (cell(mode.achieved_tps, 1.0))
            (cell(mode.response_p50, 1e3))
            (cell(mode.response_p99, 1e3))
            (shown(ratio_figure(ratio), None))
            (cell(mode.service_p50, 1e3))
            (figure_cell(mode.summary.worst("visibility", "p50"), 1e-3))
            (figure_cell(mode.summary.worst("visibility", "p99"), 1e-3))
            td { (mode.visibility_resolution.map_or_else(|| "–".into(), |width| number(width * 1e3))) }
            td {
                @if let Some((bytes, node)) = &mode.lag_peak {
                    (format_bytes(*bytes)) span.ci { (escape_control(node)) }
                } @else { "–" }
            }
            td { (mode.unseen) }
        }
    }
}

fn cell(estimate: Option<Estimate>, scale: f64) -> Markup {
    shown(figure(estimate, scale), None)
}

/// A table cell with a declared figure and its interval, multiplied by `scale`.
pub(crate) fn figure_cell(found: Option<&Figure>, scale: f64) -> Markup {
    shown(of_figure(found, scale), found)
}

/// A table cell with a figure, its interval, and the name of its replica if it has one.
fn shown((value, interval): Shown, of: Option<&Figure>) -> Markup {
    html! {
        td {
            (value)
            @if let Some((lo, hi)) = interval { span.ci { (lo) " to " (hi) } }
            @if let Some(node) = of.and_then(|of| of.node.as_deref()) { span.ci { (escape_control(node)) } }
        }
    }
}

pub(crate) fn chart_section(chart: &Chart) -> Markup {
    section(chart.id, chart.title, &figure_of(chart, Some("")))
}

/// Both widths of a chart, its caption and its figures. `beside` is the path from the page to the directory whose folder `charts` holds
/// the chart as a file; `None` if there is no such file.
pub(crate) fn figure_of(chart: &Chart, beside: Option<&str>) -> Markup {
    let (wide, narrow) = (format!("{}-wide", chart.id), format!("{}-narrow", chart.id));
    html! {
        figure {
            div.wide { (PreEscaped(chart.drawings.wide.svg(&wide, chart.title, &chart.description, None))) }
            div.narrow { (PreEscaped(chart.drawings.narrow.svg(&narrow, chart.title, &chart.description, None))) }
            figcaption.caption { (chart.caption) }
        }
        details {
            summary { "The figures as a table" }
            (chart_table(chart))
            @if let Some(beside) = beside {
                p.note { a href={ (beside) "charts/" (chart.id) ".svg" } { "charts/" (chart.id) ".svg" } }
            }
        }
    }
}

fn chart_table(chart: &Chart) -> Markup {
    let Table { head, rows } = &chart.table;
    let content = html! {
        table {
            thead { tr { @for head in head { th scope="col" { (escape_control(head)) } } } }
            tbody {
                @for row in rows {
                    tr {
                        @for (index, cell) in row.iter().enumerate() {
                            @if index == 0 { th scope="row" { (escape_control(cell)) } } @else { td { (escape_control(cell)) } }
                        }
                    }
                }
            }
        }
    };
    scrolling(&format!("Figures: {}", chart.title), &content)
}

/// The section on validity: which cells are left out and why, warnings, and notes on valid repetitions.
fn validity(run: &Run, analysis: &Analysis) -> Markup {
    let modes = &analysis.modes;
    let manifest = &run.manifest;
    let noted: Vec<_> = run
        .cells
        .iter()
        .filter(|cell| cell.valid && !cell.notes.is_empty())
        .collect();
    let quiet = modes.excluded.is_empty()
        && analysis.cautions.is_empty()
        && noted.is_empty()
        && manifest.warnings.is_empty()
        && manifest.invalid_reasons.is_empty()
        && run.warnings.is_empty();
    let content = html! {
        @if quiet {
            p {
                "Every cell is valid and nothing was noted. "
                @if run.cells.iter().all(|cell| cell.host_busy_share.is_some()) {
                    "The host was never above 80 % busy over a cell."
                } @else {
                    "How busy the host was is not known of every cell."
                }
            }
        } @else {
            div.warn {
                ul {
                    @for reason in &manifest.invalid_reasons { li { strong { "Invalid: " } (escape_control(reason)) } }
                    @for cell in &modes.excluded {
                        li { strong { "Left out: " } "cell " (cell.cell_id) " (" (escape_control(&cell.mode)) ", repetition " (cell.rep) "): " (escape_control(&cell.reason)) }
                    }
                    @for warning in manifest.warnings.iter().chain(&run.warnings) { li { (escape_control(warning)) } }
                    @if !noted.is_empty() {
                        li { (noted.len()) " of " (run.cells.len()) " repetitions are valid, with notes:" }
                    }
                }
                @if !noted.is_empty() {
                    details {
                        summary { "Notes of each repetition" }
                        ul { @for cell in noted {
                            li { "Cell " (cell.cell_id) " (" (escape_control(&cell.mode)) ", repetition " (cell.rep) "): " (escape_control(&cell.notes)) }
                        } }
                    }
                }
            }
        }
        p.note { "One host ran the load, the probes and every server unless the environment below says otherwise: this compares modes, it does not measure capacity." }
    };
    section("validity", "Validity", &content)
}
