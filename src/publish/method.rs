//! The page on the method: METHODOLOGY.md as it was when replbench was built, and the machines on which the runs were measured.

use std::collections::{BTreeMap, BTreeSet};

use itertools::Itertools as _;
use maud::{Markup, PreEscaped, html};
use pulldown_cmark::{Event, HeadingLevel, Options, Parser, Tag, TagEnd};

use super::PublishError;
use super::frame::{Frame, METHOD, Page};
use super::run_catalog::RunCatalog;
use super::site::Site;
use crate::record::Host;
use crate::report::escape_control;
use crate::report::html::layout::{section, table};
use crate::units::format_bytes;

const METHODOLOGY: &str = include_str!("../../METHODOLOGY.md");

pub(super) fn write(site: &Site, frame: &Frame, catalog: &RunCatalog) -> Result<(), PublishError> {
    let page = Page {
        path: METHOD,
        title: "Method",
        has_script: false,
    };
    let head = html! {
        h1 { "Method and environment" }
        p.meta { "The method of replbench " (env!("CARGO_PKG_VERSION")) ", then " a href="#environment" { "the machines that measured" } "." }
    };
    let main = html! {
        (PreEscaped(rendered(METHODOLOGY)))
        (machines(catalog))
    };
    frame.write(site, page, &head, &main)
}

/// Markdown as HTML. The title is left out, because the page has one. Links become plain text, because they lead to files of the source
/// tree, which the site does not contain.
fn rendered(markdown: &str) -> String {
    let mut in_title = false;
    let is_shown = |event: &Event<'_>| {
        let level = match event {
            Event::Start(Tag::Heading { level, .. }) => Some((*level, true)),
            Event::End(TagEnd::Heading(level)) => Some((*level, false)),
            _ => None,
        };
        if let Some((HeadingLevel::H1, is_start)) = level {
            in_title = is_start;
            return false;
        }
        let is_link = matches!(
            event,
            Event::Start(Tag::Link { .. }) | Event::End(TagEnd::Link)
        );
        !in_title && !is_link
    };
    let events = Parser::new_ext(markdown, Options::ENABLE_TABLES).filter(is_shown);
    let mut out = String::new();
    pulldown_cmark::html::push_html(&mut out, events);
    // On a phone, a wide table scrolls by itself.
    out.replace("<table>", REGION)
        .replace("</table>", "</table></div>")
}

const REGION: &str = "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Table\"><table class=\"text\">";

/// The section of all machines that measured, with the versions of PostgreSQL and the number of runs on each.
fn machines(catalog: &RunCatalog) -> Markup {
    let mut found: BTreeMap<&str, (&Host, BTreeSet<&str>, usize)> = BTreeMap::new();
    for entry in &catalog.runs {
        let manifest = &entry.run_summary.manifest;
        let host = &manifest.host;
        let (_, versions, runs) = found
            .entry(&host.host_id)
            .or_insert((host, BTreeSet::new(), 0));
        versions.extend(manifest.nodes.iter().map(|node| node.version.as_str()));
        *runs += 1;
    }
    let heads = [
        "host",
        "processor",
        "memory",
        "kernel",
        "file system",
        "PostgreSQL",
        "runs",
    ];
    let is_empty = found.is_empty();
    let rows = html! { @for (id, (host, versions, runs)) in found { tr {
        th scope="row" { code { (escape_control(id)) } }
        td {
            (escape_control(&host.cpu)) ", " (host.cores) " cores"
            @if let Some(kind) = &host.virtualisation { ", " (escape_control(kind)) }
        }
        td { (format_bytes(host.memory_bytes as f64)) }
        td { (escape_control(&host.kernel)) }
        td { (escape_control(&host.filesystem)) }
        td { (escape_control(&versions.iter().join(", "))) }
        td { (runs) }
    } } };
    let content = html! {
        @if is_empty { p { "No run was published." } } @else {
            p { "As the newest run on each machine found it; every run's page has its own, with the settings of all servers." }
            (table("Machines", "text", &heads, &rows))
        }
    };
    section("environment", "Environment", &content)
}
