//! What all pages of the site share: the navigation, the style sheet, and the script of filters and tips.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::Path;

use maud::{Markup, html};

use super::PublishError;
use super::run_catalog::RunCatalog;
use super::site::Site;
use crate::report::escape_control;
use crate::report::html::Shell;

const SCRIPT: &str = include_str!("site.js");

/// What is the same on every page of a site.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) title: String,
    /// When the newest run began; `None` without runs. Pages show this time instead of the time of publication, so that the same runs
    /// give the same bytes.
    as_of: Option<String>,
    /// Whether the site has a page of histories.
    has_trend: bool,
}

pub(super) const RESULTS: &str = "index.html";
pub(super) const COMPARISONS: &str = "compare/index.html";
pub(super) const TREND: &str = "trend.html";
pub(super) const METHOD: &str = "method.html";

/// The sections of the site: the path of the first page of each, and the section's name.
const SECTIONS: [(&str, &str); 4] = [
    (RESULTS, "Results"),
    (COMPARISONS, "Comparisons"),
    (TREND, "Trend"),
    (METHOD, "Method"),
];

/// A page that gets the site's frame.
#[derive(Debug, Clone, Copy)]
pub(super) struct Page<'a> {
    /// Path relative to the site's root.
    pub(super) path: &'a str,
    pub(super) title: &'a str,
    /// Whether the page needs the script, because it has a filter or a plot with tips.
    pub(super) has_script: bool,
}

impl Frame {
    /// The CSS rules of the site's pages, in addition to those of reports.
    pub(super) const CSS: &str = include_str!("site.css");

    pub(super) fn new(title: String, catalog: &RunCatalog, has_trend: bool) -> Self {
        let newest = catalog.runs.first();
        Self {
            title,
            as_of: newest.map(|entry| entry.run_summary.manifest.started_at.clone()),
            has_trend,
        }
    }

    /// Writes a page with the site's frame around its head and content.
    pub(super) fn write(
        &self,
        site: &Site,
        page: Page<'_>,
        head: &Markup,
        main: &Markup,
    ) -> Result<(), PublishError> {
        let shell = Shell {
            title: page.title,
            css: Self::CSS,
            script: page.has_script.then_some(SCRIPT),
            images: true,
        };
        let text = shell.document(&self.body(page, head, main));
        site.page(Path::new(page.path), &text)
    }

    /// The body of the document that [`Frame::write`] writes, for documents that other functions write.
    pub(super) fn body(&self, page: Page<'_>, head: &Markup, main: &Markup) -> Markup {
        html! {
            a.skip href="#main" { "To the content" }
            (self.navigation(page))
            header { (head) }
            main id="main" { (main) }
            @if page.has_script { div id="tip" role="status" hidden {} }
            footer {
                "Made by replbench " (env!("CARGO_PKG_VERSION")) " from the files of the runs"
                @if let Some(as_of) = &self.as_of { "; the newest began " (moment(as_of)) }
                "."
            }
        }
    }

    fn navigation(&self, page: Page<'_>) -> Markup {
        let is_shown = |path: &str| path != TREND || self.has_trend;
        let root = "../".repeat(page.path.matches('/').count());
        html! {
            nav.site aria-label="Site" {
                span.brand { (escape_control(&self.title)) }
                ul {
                    @for (path, name) in SECTIONS.into_iter().filter(|it| is_shown(it.0)) {
                        li { a href={ (root) (path) } aria-current=[(path == page.path).then_some("page")] { (name) } }
                    }
                }
            }
        }
    }
}

/// A time in RFC 3339 as `2026-07-14 09:15`, in UTC; other text unchanged except for control characters.
pub(super) fn moment(text: &str) -> String {
    let parsed: Option<jiff::Timestamp> = text.parse().ok();
    parsed.map_or_else(
        || escape_control(text).into_owned(),
        |time| time.strftime("%Y-%m-%d %H:%M").to_string(),
    )
}

/// The first seven digits of a commit, with `-dirty` if the directory had uncommitted changes. Text that is no hash is not shortened.
pub(super) fn short_commit(commit: &str) -> String {
    let (hash, dirty) = match commit.strip_suffix("-dirty") {
        Some(hash) => (hash, "-dirty"),
        None => (commit, ""),
    };
    let is_hash = hash.len() > 7 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    let shown = if is_hash { &hash[..7] } else { hash };
    format!("{}{dirty}", escape_control(shown))
}

/// A field of a filter: the name of the items' data attribute, the label, and the values that can be chosen.
pub(super) struct Choice {
    pub(super) name: &'static str,
    pub(super) label: &'static str,
    pub(super) values: Vec<String>,
}

impl Choice {
    /// The most values that can be chosen; items with other values can be found with the filter's text field.
    const MOST: usize = 60;

    pub(super) fn new<'a>(
        name: &'static str,
        label: &'static str,
        values: impl Iterator<Item = &'a str>,
    ) -> Self {
        let values: BTreeSet<&str> = values.filter(|it| !it.is_empty()).collect();
        let shown = values.into_iter().take(Self::MOST).map(escape_control);
        Self {
            name,
            label,
            values: shown.map(Cow::into_owned).collect(),
        }
    }
}

/// A form that hides all `items` (a CSS selector) that do not match what was chosen. It shows how many of the items that also match the
/// selector `counted` are visible, and calls these `noun`. The form is hidden until the script shows it, because it does nothing without
/// the script.
pub(super) fn filter(items: &str, counted: &str, noun: &str, choices: &[Choice]) -> Markup {
    html! {
        form.filter hidden data-items=(items) data-counted=(counted) data-noun=(noun) aria-label="Filter" {
            label { "Text " input type="search" name="text" autocomplete="off"; }
            @for choice in choices.iter().filter(|choice| choice.values.len() > 1) {
                label {
                    (choice.label) " "
                    select name=(choice.name) {
                        option value="" { "all" }
                        @for value in &choice.values { option { (value) } }
                    }
                }
            }
            output aria-live="polite" {}
        }
    }
}

/// Spreads a list over pages of at most `most` bytes each. On the first page, `taken` bytes are used already. An item that is larger than a
/// page has a page to itself. There is at least one page, and every page after the first has an item.
pub(super) fn pages_of<T>(
    items: Vec<T>,
    mut taken: usize,
    most: usize,
    bytes: impl Fn(&T) -> usize,
) -> Vec<Vec<T>> {
    let mut pages = vec![Vec::new()];
    for item in items {
        let bytes = bytes(&item);
        let last = pages.last_mut().expect("there is one");
        if taken + bytes > most && !last.is_empty() {
            pages.push(vec![item]);
            taken = bytes;
        } else {
            last.push(item);
            taken += bytes;
        }
    }
    pages
}

/// The paths of the pages of a list: `first`, then `runs-2.html`, `runs-3.html` and so on if `others` is `runs`.
pub(super) fn paths_of(pages: usize, first: &str, others: &str) -> Vec<String> {
    let others = (2..=pages).map(|number| format!("{others}-{number}.html"));
    std::iter::once(first.to_owned()).chain(others).collect()
}

/// Links to all pages of a list, with the current page marked; empty if the list has only one page.
pub(super) fn pager(paths: &[String], current: usize, noun: &str) -> Markup {
    html! {
        @if paths.len() > 1 {
            nav.pager aria-label={ "Pages of " (noun) } { ul {
                @for (index, path) in paths.iter().enumerate() {
                    li { a href=(path) aria-current=[(index == current).then_some("page")] { (index + 1) } }
                }
            } }
        }
    }
}
