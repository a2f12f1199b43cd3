//! Which runs are compared on the site: both sides of every session; the newest run of each profile with the newest earlier run that is
//! comparable; and the modes of the newest run of each profile with each other.

use std::collections::BTreeSet;
use std::path::Path;

use maud::{Markup, html};
use rayon::prelude::*;

use super::PublishError;
use super::files::{href, link, slug};
use super::frame::{COMPARISONS, Frame, Page, moment};
use super::run_catalog::{Entry, RunCatalog};
use super::site::Site;
use crate::analyse::{Terms, Verdict, compare_modes, compare_runs};
use crate::plan::Side;
use crate::report::comparison::{PAGE, tally, write_framed};
use crate::report::escape_control;
use crate::report::html::layout::table;

/// How many earlier runs of a profile are tried until one is comparable with the newest run.
const MOST_TRIED: usize = 50;

/// A comparison on the site.
#[derive(Debug)]
pub(super) struct Written {
    slug: String,
    pub(super) title: String,
    pub(super) tally: String,
    verdict: Verdict,
    /// When the head began, as text from its manifest.
    at: String,
    /// Names of the folders of the runs that are compared.
    runs: Vec<String>,
}

impl Written {
    /// Whether the head is worse than the base. This is never said of the modes of one run: they are expected to differ.
    fn has_regressed(&self) -> bool {
        self.verdict == Verdict::Regressed && self.runs.len() > 1
    }

    /// A link to the comparison's page. `root` is the path from the linking page to the folder of all comparisons.
    pub(super) fn link(&self, root: &str) -> String {
        format!("{root}{}/{PAGE}", href(&self.slug))
    }

    pub(super) fn is_of(&self, run: &str) -> bool {
        self.runs.iter().any(|it| it == run)
    }
}

/// Two runs to compare, or the modes of one run.
struct Pair<'a> {
    kind: &'static str,
    /// `None` if the modes of the head are compared with each other.
    base: Option<&'a Entry>,
    head: &'a Entry,
}

/// Writes all comparisons, and the page that lists them.
pub(super) fn write(
    site: &Site,
    frame: &Frame,
    catalog: &RunCatalog,
) -> Result<Vec<Written>, PublishError> {
    site.folder(Path::new("compare"))?;
    let pairs = pairs(catalog);
    let written = pairs.par_iter().map(|pair| write_pair(site, frame, pair));
    let written: Vec<Option<Written>> = written.collect::<Result<_, _>>()?;
    let written: Vec<Written> = written.into_iter().flatten().collect();
    let page = Page {
        path: COMPARISONS,
        title: "Comparisons",
        has_script: false,
    };
    let head = html! {
        h1 { "Comparisons" }
        p.meta { "Sides of a session, the newest run of each profile with the one before it, and its modes with each other." }
    };
    frame.write(site, page, &head, &list(&written, ""))?;
    Ok(written)
}

/// The table of comparisons. `root` is the path from the page with the table to the folder of all comparisons.
pub(super) fn list(written: &[Written], root: &str) -> Markup {
    if written.is_empty() {
        return html! {
            p { "Nothing to compare yet: it takes a run of two modes, two runs of one profile, or " code { "replbench ab" } "." }
        };
    }
    let rows = html! { @for one in written { tr {
        th.tally scope="row" { a href=(one.link(root)) { (one.title) } }
        td { (moment(&one.at)) }
        td.tally.regressed[one.has_regressed()] { (one.tally) }
    } } };
    table(
        "Comparisons",
        "list",
        &["comparison", "of", "outcome"],
        &rows,
    )
}

fn pairs(catalog: &RunCatalog) -> Vec<Pair<'_>> {
    let mut pairs = Vec::new();
    let mut profiles = BTreeSet::new();
    for (index, entry) in catalog.runs.iter().enumerate() {
        let is_first = entry.is_sound() && profiles.insert(entry.profile());
        if is_first {
            pairs.push(Pair {
                kind: "modes",
                base: None,
                head: entry,
            });
            let earlier = catalog.runs[index + 1..].iter();
            let earlier =
                earlier.filter(|base| base.is_sound() && base.profile() == entry.profile());
            // The two sides of a session are compared by `session` below.
            let earlier = earlier.filter(|base| !are_one_session(base, entry));
            let terms = Terms::default();
            let comparable =
                |base: &&Entry| compare_runs(&base.run_summary, &entry.run_summary, &terms).is_ok();
            pairs.extend(earlier.take(MOST_TRIED).find(comparable).map(|base| Pair {
                kind: "runs",
                base: Some(base),
                head: entry,
            }));
        }
        pairs.extend(session(catalog, entry));
    }
    pairs
}

fn are_one_session(one: &Entry, other: &Entry) -> bool {
    let id = |entry: &Entry| entry.session().map(|session| session.id.clone());
    id(one).is_some() && id(one) == id(other)
}

/// The comparison of both sides of a session, if the run `head` is the session's head and the base is in the catalog.
fn session<'a>(catalog: &'a RunCatalog, head: &'a Entry) -> Option<Pair<'a>> {
    let is_side = |entry: &Entry, side| entry.session().is_some_and(|it| it.side == side);
    let is_base = |base: &&Entry| is_side(base, Side::Base) && are_one_session(base, head);
    let base = catalog.runs.iter().find(is_base)?;
    is_side(head, Side::Head).then_some(Pair {
        kind: "session",
        base: Some(base),
        head,
    })
}

/// Writes a comparison's page and files. `None` if the two sides may not be compared.
fn write_pair(
    site: &Site,
    frame: &Frame,
    pair: &Pair<'_>,
) -> Result<Option<Written>, PublishError> {
    let terms = Terms::default();
    let compared = match pair.base {
        Some(base) => compare_runs(&base.run_summary, &pair.head.run_summary, &terms),
        None => compare_modes(&pair.head.run_summary, &terms),
    };
    let Ok(comparison) = compared else {
        return Ok(None);
    };
    let name = slug(&format!("{}-{}", pair.kind, pair.head.slug));
    let folder = Path::new("compare").join(&name);
    let path = site.folder(&folder)?;
    let title = title(pair);
    let page = Page {
        path: &format!("compare/{name}/{PAGE}"),
        title: &title,
        has_script: false,
    };
    let written = write_framed(&path, &comparison, Frame::CSS, |content| {
        let head = html! {
            (content.head)
            p.meta { (runs(pair)) }
        };
        frame.body(page, &head, &content.main)
    })?;
    let length = std::fs::metadata(&written).map_or(0, |it| it.len());
    site.keep_page(
        &folder.join(PAGE),
        usize::try_from(length).unwrap_or(usize::MAX),
    );
    for name in ["json", "csv", "md"] {
        site.keep(&folder.join(format!("comparison.{name}")));
    }
    site.keep(&folder.join("charts/effects.svg"));
    let entries = pair.base.into_iter().chain([pair.head]);
    Ok(Some(Written {
        slug: name,
        title,
        tally: tally(&comparison.rows),
        verdict: comparison.verdict,
        at: pair.head.run_summary.manifest.started_at.clone(),
        runs: entries.map(|entry| entry.slug.clone()).collect(),
    }))
}

fn title(pair: &Pair<'_>) -> String {
    let profile = escape_control(pair.head.profile()).into_owned();
    match pair.kind {
        "modes" => format!("{profile}: its modes"),
        "session" => format!("{profile}: {}", contest(pair)),
        _ => format!("{profile}: the newest run against the one before"),
    }
}

/// What the sides of a session were given, as in `commit_delay=1000 against the plain profile`.
fn contest(pair: &Pair<'_>) -> String {
    let given = |entry: Option<&Entry>| {
        let items = entry?.session()?.items.join(", ");
        (!items.is_empty()).then(|| escape_control(&items).into_owned())
    };
    let plain = || "the plain profile".to_owned();
    match (given(Some(pair.head)), given(pair.base)) {
        (None, None) => "against itself".into(),
        (head, base) => format!(
            "{} against {}",
            head.unwrap_or_else(plain),
            base.unwrap_or_else(plain)
        ),
    }
}

fn runs(pair: &Pair<'_>) -> Markup {
    let of = |name: &str, entry: &Entry| html! { a href=(link("../../", &entry.slug)) { (name) } };
    html! {
        @match pair.base {
            Some(base) => { (of("The base", base)) " and " (of("the head", pair.head)) " with all their files." }
            None => { (of("The run", pair.head)) " with all its files." }
        }
    }
}
