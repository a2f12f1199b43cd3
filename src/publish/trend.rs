//! The histories: a table of all series, then each series with its chart, changes and runs, on as many pages as needed.

use std::collections::BTreeMap;

use maud::{Markup, PreEscaped, html};
use rayon::prelude::*;

use super::PublishError;
use super::files::link;
use super::frame::{Choice, Frame, Page, TREND, filter, moment, pager, pages_of, paths_of};
use super::run::commit_text;
use super::run_catalog::RunCatalog;
use super::site::Site;
use crate::analyse::{Change, Point, Series};
use crate::metric::Scale;
use crate::record::RunStatus;
use crate::report::chart::{Plot, PlotDrawing, trend_plot};
use crate::report::comparison::{shown_unit, unit_scale};
use crate::report::escape_control;
use crate::report::html::layout::{scrolling, section, table};
use crate::report::text::number;
use crate::units::{format_ratio, thousands};

/// The most bytes of series on a page; the rest of a page may take a fifth of that in addition.
const MOST_BYTES: usize = 800_000;
/// The estimated bytes of a row in the table of all series, which is on the first page.
const ROW_BYTES: usize = 500;
/// The most series in the table of all series.
const MOST_LISTED: usize = 600;

/// A series with its part of a page.
struct Section<'a> {
    series: &'a Series,
    content: Markup,
}

pub(super) fn write(
    site: &Site,
    frame: &Frame,
    catalog: &RunCatalog,
    series: &[Series],
) -> Result<(), PublishError> {
    if series.is_empty() {
        return Ok(());
    }
    let runs = catalog.runs.iter();
    let slugs = runs.map(|entry| (entry.id(), entry.slug.as_str()));
    let slugs: BTreeMap<&str, &str> = slugs.collect();
    let sections = series.par_iter().map(|series| Section {
        series,
        content: history(series, &slugs),
    });
    let sections: Vec<Section<'_>> = sections.collect();
    let taken = ROW_BYTES * sections.len().min(MOST_LISTED);
    let pages = pages_of(sections, taken, MOST_BYTES, |it| it.content.0.len());
    let paths = paths_of(pages.len(), TREND, "trend");
    let on_page = pages.iter().zip(&paths);
    let on_page = on_page.flat_map(|(page, path)| page.iter().map(|it| (it.series, path.as_str())));
    let on_page: Vec<(&Series, &str)> = on_page.collect();
    for (index, sections) in pages.iter().enumerate() {
        let title = match index {
            0 => "Trend".to_owned(),
            _ => format!("Trend, page {}", index + 1),
        };
        let page = Page {
            path: &paths[index],
            title: &title,
            has_script: true,
        };
        let head = html! {
            h1 { (title) }
            p.meta {
                "Each figure over the commits of what was benchmarked. A series holds runs that may be compared: one host, workload, PostgreSQL major "
                "and settings. A triangle marks where the level changed and points to where it went: orange for worse, blue for better, hollow when accepted by "
                code { "replbench bless" } "."
            }
            @if catalog.older > 0 {
                p.meta { (thousands(catalog.older as u64)) " older runs are left out here; " code { "replbench trend" } " has them." }
            }
        };
        let main = html! {
            (filter("#all tbody tr, section.series", if index == 0 { "tr" } else { "section" }, "series", &choices(series)))
            @if index == 0 { (all(&on_page)) }
            (pager(&paths, index, "histories"))
            (grouped(sections))
            (pager(&paths, index, "histories, again"))
        };
        frame.write(site, page, &head, &main)?;
    }
    Ok(())
}

fn choices(series: &[Series]) -> [Choice; 4] {
    let figures: Vec<String> = series.iter().map(Series::figure).collect();
    let of = |part: fn(&Series) -> &str| series.iter().map(part);
    [
        Choice::new(
            "profile",
            "Profile",
            of(|it| it.conditions.profile.as_str()),
        ),
        Choice::new("mode", "Mode", of(|it| it.mode.as_str())),
        Choice::new("figure", "Figure", figures.iter().map(String::as_str)),
        Choice::new(
            "node",
            "Replica",
            of(|it| it.node.as_deref().unwrap_or_default()),
        ),
    ]
}

/// The table of all series, with a link to each. `series` has the path of each one's page.
fn all(series: &[(&Series, &str)]) -> Markup {
    let rows = html! { @for (one, path) in series.iter().take(MOST_LISTED) {
        // The table itself is on the first page, so a link to a series there needs no path.
        @let path = if *path == TREND { "" } else { path };
        tr data-profile=(escape_control(&one.conditions.profile)) data-mode=(escape_control(&one.mode)) data-figure=(one.figure())
            data-node=(escape_control(one.node.as_deref().unwrap_or_default())) {
            th scope="row" { a href={ (path) "#s" (one.id) } { (one.figure()) } }
            td { (escape_control(&one.mode)) }
            td { (escape_control(one.node.as_deref().unwrap_or("–"))) }
            td { (escape_control(&one.conditions.profile)) }
            td.n { (one.points.len()) }
            td.n { (one.newest().map_or_else(|| "–".into(), |point| value_text(one, point))) " " (shown_unit(&one.unit)) }
            td { @if let Some(change) = one.standing() { (outcome(one, change)) } @else { "none" } }
        }
    } };
    let table = html! { table.list {
        thead { tr {
            th scope="col" { "figure" } th scope="col" { "mode" } th scope="col" { "replica" } th scope="col" { "profile" }
            th.n scope="col" { "runs" } th.n scope="col" { "newest" } th scope="col" { "last change" }
        } }
        tbody { (rows) }
    } };
    let content = html! {
        @if series.len() > MOST_LISTED { p.note { "The first " (MOST_LISTED) " of " (thousands(series.len() as u64)) "." } }
        (scrolling("Table of series", &table))
    };
    section("all", "All series", &content)
}

/// Sections of series, with a heading before the first section of each set of conditions.
fn grouped(sections: &[Section<'_>]) -> Markup {
    html! {
        @for (index, section) in sections.iter().enumerate() {
            @let conditions = &section.series.conditions;
            @if index == 0 || sections[index - 1].series.conditions != *conditions {
                h2 { (escape_control(&conditions.profile)) ", PostgreSQL " (escape_control(&conditions.postgresql)) }
                p.meta {
                    "Host " code { (escape_control(&conditions.host_id)) } ", " (conditions.cores) " cores, " (escape_control(&conditions.filesystem))
                    ", workload " code { (conditions.workload_hash.chars().take(12).collect::<String>()) }
                }
            }
            (section.content)
        }
    }
}

fn history(series: &Series, slugs: &BTreeMap<&str, &str>) -> Markup {
    let plot = trend_plot(series);
    let table = format!("t{}", series.id);
    html! {
        section.series id={ "s" (series.id) } aria-labelledby={ "h" (series.id) } data-profile=(escape_control(&series.conditions.profile))
            data-mode=(escape_control(&series.mode)) data-figure=(series.figure()) data-node=(escape_control(series.node.as_deref().unwrap_or_default()))
            data-text={ (plot.title) " " (escape_control(&series.conditions.profile)) } {
            h3 id={ "h" (series.id) } { (plot.title) }
            figure {
                (picture("wide", &plot, &plot.wide, series, &table))
                (picture("narrow", &plot, &plot.narrow, series, &table))
                figcaption.caption {
                    "Means over repetitions with 95 % intervals, in " (shown_unit(&series.unit)) "; the bars are the medians of the stretches between changes. "
                    "Hollow dots: invalid runs, left out of the search."
                }
            }
            (changes(series))
            details {
                summary { "The runs as a table" }
                (runs(series, &table, slugs))
            }
        }
    }
}

fn picture(width: &str, plot: &Plot, drawn: &PlotDrawing, series: &Series, table: &str) -> Markup {
    let id = format!("{width}-{}", series.id);
    let spots: Vec<String> = drawn
        .spots
        .iter()
        .map(|(x, y)| format!("{x:.0},{y:.0}"))
        .collect();
    html! {
        div class={ "plot " (width) } tabindex="0" role="group" aria-label={ (plot.title) ": left and right arrow keys walk over the runs" }
            data-spots=(spots.join(" ")) data-width=(format!("{:.0}", drawn.drawing.width())) data-table=(table) {
            (PreEscaped(drawn.drawing.svg(&id, &plot.title, &plot.description, None)))
        }
    }
}

fn changes(series: &Series) -> Markup {
    let scale = unit_scale(&series.unit);
    let level =
        |value: Option<f64>| value.map_or_else(|| "not seen".into(), |value| number(value * scale));
    if series.changes.is_empty() {
        return html! { p.note { "No change of level was found." } };
    }
    let heads = [
        "change at",
        "run",
        "before → after",
        "outcome",
        "p",
        "accepted",
    ];
    let rows = html! { @for change in series.changes.iter().rev() { tr {
        @let point = &series.points[change.index];
        th scope="row" { (commit_text(point.commit.as_deref())) }
        td { (moment(&point.started_at)) }
        td { (level(change.before)) " → " (level(change.after)) " " (shown_unit(&series.unit)) }
        td { (outcome(series, change)) }
        td { (format!("{:.3}", change.p)) }
        td {
            @if change.blessed { "yes" @if let Some(reason) = &change.reason { ": " (escape_control(reason)) } } @else { "–" }
        }
    } } };
    table("Changes", "list", &heads, &rows)
}

/// The size of a change and its verdict, such as `1.35× regressed`.
fn outcome(series: &Series, change: &Change) -> Markup {
    let effect = match (change.effect, change.scale) {
        (None, _) => String::new(),
        (Some(effect), Scale::Ratio) => format!("{}× ", format_ratio(effect)),
        (Some(effect), Scale::Difference) => format!(
            "{} {} ",
            number(effect * unit_scale(&series.unit)),
            shown_unit(&series.unit)
        ),
    };
    html! {
        span.regressed[change.is_open_regression()] {
            (effect) (change.verdict)
            @if change.blessed { ", accepted" }
        }
    }
}

fn value_text(series: &Series, point: &Point) -> String {
    match point.value {
        Some(value) => number(value * unit_scale(&series.unit)),
        None if point.censored > 0 => "not seen".into(),
        None => "–".into(),
    }
}

fn interval_text(series: &Series, point: &Point) -> String {
    let scale = unit_scale(&series.unit);
    match (point.lo, point.hi) {
        (None, None) => "–".into(),
        (lo, hi) => {
            let end = |end: Option<f64>, open: &str| {
                end.map_or_else(|| open.into(), |end| number(end * scale))
            };
            format!("{} to {}", end(lo, "−∞"), end(hi, "∞"))
        }
    }
}

/// The table of a series' runs, newest first. The script takes the plot's tips from this table.
fn runs(series: &Series, id: &str, slugs: &BTreeMap<&str, &str>) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label="Runs" {
            table.list id=(id) {
                thead { tr {
                    th scope="col" { "commit" } th scope="col" { "run" } th.n scope="col" { "value (" (shown_unit(&series.unit)) ")" }
                    th.n scope="col" { "95 %" } th.n scope="col" { "reps" } th scope="col" { "status" }
                } }
                tbody { @for point in series.points.iter().rev() { tr {
                    th scope="row" { (commit_text(point.commit.as_deref())) }
                    td {
                        @match slugs.get(point.run_id.as_str()) {
                            Some(slug) => a href=(link("", slug)) { (moment(&point.started_at)) },
                            None => (moment(&point.started_at)),
                        }
                    }
                    td.n { (value_text(series, point)) }
                    td.n { (interval_text(series, point)) }
                    td.n { (point.n) }
                    td.bad[point.status != RunStatus::Complete] { (point.status.as_str()) }
                } } }
            }
        }
    }
}
