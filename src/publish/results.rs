//! The first page with the newest result, and the table of all runs on as many pages as it needs.

use itertools::Itertools as _;
use maud::{Markup, html};

use super::PublishError;
use super::comparisons::{Written, list};
use super::files::link;
use super::frame::{
    COMPARISONS, Choice, Frame, Page, RESULTS, filter, moment, pager, pages_of, paths_of,
};
use super::run::{base, commit_text, modes_table, status};
use super::run_catalog::{Entry, RunCatalog};
use super::site::Site;
use crate::record::{OnMismatch, Run, files};
use crate::report::escape_control;
use crate::report::html::first_screen;
use crate::report::html::layout::{section, table};
use crate::units::thousands;

/// The most bytes of table rows on a page; the rest of a page takes about 100 kB.
const MOST_BYTES: usize = 600_000;
/// The most warnings about unreadable input that the page shows.
const MOST_WARNINGS: usize = 20;
const MOST_COMPARISONS: usize = 12;

pub(super) fn write(
    site: &Site,
    frame: &Frame,
    catalog: &RunCatalog,
    comparisons: &[Written],
) -> Result<(), PublishError> {
    let rows: Vec<Markup> = catalog.runs.iter().map(row).collect();
    let pages = pages_of(rows, 0, MOST_BYTES, |row| row.0.len());
    let paths = paths_of(pages.len(), RESULTS, "runs");
    for (index, rows) in pages.iter().enumerate() {
        let title = match index {
            0 => frame.title.clone(),
            _ => format!("{}, page {} of the runs", frame.title, index + 1),
        };
        let page = Page {
            path: &paths[index],
            title: &title,
            has_script: true,
        };
        let main = html! {
            @if index == 0 { (latest(catalog, comparisons)) }
            (all_runs(catalog, rows, &paths, index))
        };
        let head = html! {
            h1 { (escape_control(&title)) }
            p.meta {
                "What synchronous replication of PostgreSQL costs a commit, how stale reads on replicas are and how far replicas fall behind, "
                "as measured in " (thousands(catalog.runs.len() as u64)) " run" @if catalog.runs.len() != 1 { "s" } " of replbench."
            }
        };
        frame.write(site, page, &head, &main)?;
    }
    Ok(())
}

fn row(entry: &Entry) -> Markup {
    let manifest = &entry.run_summary.manifest;
    let modes = || entry.modes.iter().map(|mode| escape_control(&mode.mode));
    let session = manifest.session.iter().flat_map(|session| {
        let side = std::iter::once(session.side.to_string());
        side.chain(session.items.iter().cloned())
    });
    let tags = manifest.subject.tags.iter();
    let mut marks = session.chain(tags.map(|(name, value)| format!("{name}={value}")));
    html! {
        tr data-profile=(escape_control(entry.profile())) data-status=(manifest.status.as_str()) data-mode=(modes().join("\n")) {
            th scope="row" { a href=(link("", &entry.slug)) { (moment(&manifest.started_at)) } }
            td { (escape_control(entry.profile())) }
            td { (status(entry)) }
            td { (commit_text(manifest.subject.git.as_deref())) }
            td { (modes().join(", ")) }
            td.tally { (escape_control(&marks.join(", "))) }
        }
    }
}

fn all_runs(catalog: &RunCatalog, rows: &[Markup], paths: &[String], current: usize) -> Markup {
    let entries = &catalog.runs;
    let modes = entries.iter().flat_map(|entry| &entry.modes);
    let choices = [
        Choice::new("profile", "Profile", entries.iter().map(Entry::profile)),
        Choice::new("mode", "Mode", modes.map(|mode| mode.mode.as_str())),
        Choice::new(
            "status",
            "Status",
            entries
                .iter()
                .map(|entry| entry.run_summary.manifest.status.as_str()),
        ),
    ];
    let heads = [
        "began (UTC)",
        "profile",
        "status",
        "commit",
        "modes",
        "side and tags",
    ];
    let content = html! {
        @if rows.is_empty() {
            p { "There is no run yet: " code { "replbench run sync-vs-async" } " makes one." }
        } @else {
            @if paths.len() > 1 { p.note { "Newest first; the filter searches this page." } }
            (pager(paths, current, "runs"))
            (filter("#runs tbody tr", "tr", "runs", &choices))
            (table("Table of runs", "list", &heads, &html! { @for row in rows { (row) } }))
            (pager(paths, current, "runs, again"))
        }
        (unreadable(catalog))
    };
    section("runs", "All runs", &content)
}

fn unreadable(catalog: &RunCatalog) -> Markup {
    let count = catalog.unreadable.len();
    html! {
        @if count > 0 {
            div.warn {
                p { "Could not be read, and is left out:" }
                ul {
                    @for why in catalog.unreadable.iter().take(MOST_WARNINGS) { li { (escape_control(why)) } }
                    @if count > MOST_WARNINGS { li { "and " (count - MOST_WARNINGS) " more" } }
                }
            }
        }
    }
}

/// The newest valid run, or the newest of all if none is valid, and the first comparisons.
fn latest(catalog: &RunCatalog, comparisons: &[Written]) -> Markup {
    let sound = catalog.runs.iter().find(|entry| entry.is_sound());
    let newest = sound.or(catalog.runs.first());
    html! {
        @if let Some(entry) = newest { (newest_result(entry, comparisons)) }
        @if !comparisons.is_empty() {
            (section("comparisons", "Comparisons", &html! {
                (list(&comparisons[..comparisons.len().min(MOST_COMPARISONS)], "compare/"))
                @if comparisons.len() > MOST_COMPARISONS { p { a href=(COMPARISONS) { "All " (comparisons.len()) } } }
            }))
        }
    }
}

fn newest_result(entry: &Entry, comparisons: &[Written]) -> Markup {
    let began = moment(&entry.run_summary.manifest.started_at);
    let profile = escape_control(entry.profile());
    let content = html! {
        (first_look(entry))
        p {
            a href=(link("", &entry.slug)) { "This run" }
            @if entry.has(files::REPORT) { " · " a href={ (base(entry)) (files::REPORT) } { "its full report" } }
            @for written in comparisons.iter().filter(|written| written.is_of(&entry.slug)) {
                " · " a href=(written.link("compare/")) { (written.title) }
            }
        }
    };
    section(
        "latest",
        format!("The newest result: {profile}, {began}"),
        &content,
    )
}

/// Headline, chart and table from the run's distributions, or the table from its summary if these cannot be read.
fn first_look(entry: &Entry) -> Markup {
    let overview = format!("{}/overview.svg", files::CHARTS);
    // A run with altered files is in the catalog only if the user asked for that, so it is used here.
    match Run::open_with(&entry.run_summary.dir, OnMismatch::Use) {
        Ok(run) => {
            let beside = entry.has(&overview).then(|| base(entry));
            first_screen(&run, beside.as_deref())
        }
        Err(_) => modes_table(&entry.modes),
    }
}
