//! The page of one run: how it ended, its figures, charts, plan, environment and raw files.

use maud::{Markup, html};
use rayon::prelude::*;

use super::PublishError;
use super::comparisons::Written;
use super::files::{PAGE, href, words_of};
use super::frame::{Frame, Page, moment, short_commit};
use super::run_catalog::{Entry, RunCatalog, folder_of};
use super::site::Site;
use crate::analyse::{ModeSummary, cautions, status_text};
use crate::record::{RunStatus, files};
use crate::report::escape_control;
use crate::report::html::environment::environment;
use crate::report::html::layout::{scrolling, section, table};
use crate::report::html::{cautions_list, figure_cell};
use crate::report::text::AT_MOST;
use crate::units::{format_bytes, plural};

/// Writes the page of every run, with the run's raw files beside it.
pub(super) fn write_all(
    site: &Site,
    frame: &Frame,
    catalog: &RunCatalog,
    comparisons: &[Written],
) -> Result<(), PublishError> {
    let runs = catalog.runs.par_iter();
    runs.try_for_each(|entry| write(site, frame, entry, comparisons))
}

fn write(
    site: &Site,
    frame: &Frame,
    entry: &Entry,
    comparisons: &[Written],
) -> Result<(), PublishError> {
    let folder = folder_of(entry);
    site.folder(&folder)?;
    for inner in [files::CHARTS, files::HISTOGRAMS] {
        let start = format!("{inner}/");
        if entry.files.iter().any(|it| it.name.starts_with(&start)) {
            site.folder(&folder.join(inner))?;
        }
    }
    for file in &entry.files {
        site.share(
            &entry.run_summary.dir.join(&file.name),
            &folder.join(&file.name),
        )?;
    }
    let page = Page {
        path: &format!("runs/{}/{PAGE}", entry.slug),
        title: &entry.run_summary.manifest.run_id,
        has_script: false,
    };
    frame.write(site, page, &head(entry), &content(entry, comparisons))
}

fn head(entry: &Entry) -> Markup {
    let manifest = &entry.run_summary.manifest;
    let description = manifest.plan.description.as_deref();
    html! {
        h1 { (escape_control(entry.profile())) ", " (moment(&manifest.started_at)) }
        @if let Some(description) = description { p.meta { (escape_control(description)) } }
        p.meta {
            "Run " code { (escape_control(&manifest.run_id)) }
            @if let Some(commit) = &manifest.subject.git { ", commit " code { (escape_control(commit)) } }
            ", " (escape_control(&manifest.host.cpu)) ", " (manifest.host.cores) " cores"
        }
    }
}

fn content(entry: &Entry, comparisons: &[Written]) -> Markup {
    let run_summary = &entry.run_summary;
    let mine: Vec<&Written> = comparisons
        .iter()
        .filter(|written| written.is_of(&entry.slug))
        .collect();
    html! {
        (trust(entry))
        @if entry.has(files::REPORT) {
            p { a href=(files::REPORT) { "The full report" } ": every chart with its figures, validity, method, events." }
        }
        @if !mine.is_empty() {
            ul {
                @for written in mine { li { a href=(written.link("../../compare/")) { (written.title) } ": " (written.tally) } }
            }
        }
        @if !run_summary.warnings.is_empty() || !run_summary.manifest.warnings.is_empty() {
            div.warn { ul {
                @for warning in run_summary.warnings.iter().chain(&run_summary.manifest.warnings) { li { (escape_control(warning)) } }
            } }
        }
        (section("modes", "The modes", &modes_table(&entry.modes)))
        (pictures(entry))
        (plan(entry))
        (environment(&run_summary.manifest, &run_summary.cells))
        (raw_files(entry))
    }
}

/// The cautions that a reader has to know first, or a sentence that the run is valid.
fn trust(entry: &Entry) -> Markup {
    let run_summary = &entry.run_summary;
    let known = cautions(&run_summary.manifest, &run_summary.cells);
    let status = status_text(&run_summary.manifest, &run_summary.cells);
    html! {
        (cautions_list(&known))
        @if known.is_empty() {
            ul.answer {
                @match status.split_once(", ") {
                    None => li { "Complete and valid." },
                    Some((_, notes)) => li { "Valid, " (notes) "." },
                }
            }
        }
    }
}

/// The table of the declared figures, with a row for each mode.
pub(super) fn modes_table(modes: &[ModeSummary]) -> Markup {
    let heads = [
        "mode",
        "reps",
        "commits/s",
        "service p50",
        "commit p50",
        "commit p99",
        "visible p50",
        "visible p99",
        "replay lag p99",
    ];
    let rows = html! { @for mode in modes { tr {
        th scope="row" { (escape_control(&mode.mode)) }
        td {
            (mode.valid)
            @if mode.invalid > 0 { "/" (mode.valid + mode.invalid) }
        }
        (figure_cell(mode.worst("achieved_tps", "value"), 1.0))
        (figure_cell(mode.worst("service", "p50"), 1e-3))
        (figure_cell(mode.worst("response", "p50"), 1e-3))
        (figure_cell(mode.worst("response", "p99"), 1e-3))
        (figure_cell(mode.worst("visibility", "p50"), 1e-3))
        (figure_cell(mode.worst("visibility", "p99"), 1e-3))
        (figure_cell(mode.worst("replay_lag_bytes", "p99"), 1.0 / 1024.0))
    } } };
    html! {
        (table("Table of modes", "dense", &heads, &rows))
        p.caption {
            "Times in ms, lag in kiB. Means over valid repetitions with 95 % intervals below, geometric for times and rates; figures of replicas are those of "
            "the replica named below, where it is largest; " (AT_MOST) "marks an upper bound that the looks at visibility leave open. A commit's time is its response time: from the intended start to the reply."
        }
    }
}

/// The order of charts, as in the report. Charts that are not listed come first.
const ORDER: [&str; 10] = [
    "overview",
    "effects",
    "spectrum",
    "visibility",
    "staleness",
    "tradeoff",
    "load",
    "host",
    "heatmap",
    "lag",
];

fn pictures(entry: &Entry) -> Markup {
    let drawn = entry.files.iter().filter_map(|file| {
        let id = file.name.strip_prefix("charts/")?.strip_suffix(".svg")?;
        let words = words_of(&entry.run_summary.dir.join(&file.name))?;
        Some((&file.name, id, words))
    });
    let mut drawn: Vec<_> = drawn.collect();
    drawn.sort_by_key(|(_, id, _)| ORDER.iter().position(|it| it == id));
    html! {
        @if !drawn.is_empty() {
            section.pictures id="charts" aria-labelledby="charts-h" {
                h2 id="charts-h" { "Charts" }
                @if entry.has(files::REPORT) { p.note { "Their figures as tables are in the full report." } }
                @for (name, id, (title, description)) in &drawn {
                    h3 { (escape_control(title)) }
                    figure {
                        div.scroll tabindex="0" role="region" aria-label=(escape_control(title)) {
                            img src=(href(name)) alt={ (escape_control(title)) ". " (escape_control(description)) } title=(escape_control(title)) loading="lazy" width="880";
                        }
                        @if entry.has(files::REPORT) && *id != "overview" {
                            figcaption.caption { a href={ (files::REPORT) "#" (href(id)) } { "Figures and how to read it" } }
                        }
                    }
                }
            }
        }
    }
}

/// The section on what the run was asked to do.
fn plan(entry: &Entry) -> Markup {
    let plan = &entry.run_summary.manifest.plan;
    let gates = plan.gates().len();
    let content = html! {
        @if gates > 0 {
            p {
                (plural(gates, "gate")) " in the profile"
                @if entry.has(files::REPORT) { "; " a href={ (files::REPORT) "#gates" } { "what became of them" } }
                "."
            }
        }
        dl {
            @for part in ["tables", "transactions", "load", "phases", "probes", "repeats", "settings"] {
                @let value = plan.part(part);
                @if !value.is_null() { dt { (part) } dd { code { (escape_control(&value.to_string())) } } }
            }
        }
    };
    section("plan", "What was run", &content)
}

fn raw_files(entry: &Entry) -> Markup {
    let table = html! { table.list {
        thead { tr { th scope="col" { "file" } th.n scope="col" { "size" } th scope="col" { "SHA-256" } } }
        tbody { @for file in &entry.files { tr {
            th scope="row" { a href=(href(&file.name)) { (escape_control(&file.name)) } }
            td.n { (format_bytes(file.bytes as f64)) }
            td { code.sum { (escape_control(file.sha256.as_deref().unwrap_or("–"))) } }
        } } }
    } };
    let content = html! {
        p.note { "SHA-256 as recorded when the run ended, or when its report was drawn anew; early runs have none of what was drawn." }
        (scrolling("Files", &table))
    };
    section("files", "Files", &content)
}

/// A commit in short, such as `3f2a91c`, or a dash for `None`.
pub(super) fn commit_text(commit: Option<&str>) -> String {
    commit.map_or_else(|| "–".into(), short_commit)
}

/// The status of a run as a word; every status but `complete` is highlighted.
pub(super) fn status(entry: &Entry) -> Markup {
    let status = entry.run_summary.manifest.status;
    html! { span.status.bad[status != RunStatus::Complete] { (status.as_str()) } }
}

/// A link to the run's folder from a page in the site's root.
pub(super) fn base(entry: &Entry) -> String {
    format!("runs/{}/", href(&entry.slug))
}
