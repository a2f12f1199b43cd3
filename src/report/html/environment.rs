//! The last sections of the page: the method, the environment, the events, and the files.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::super::escape_control;
use super::layout::{section, table};
use crate::analyse::status_text;
use crate::record::{Manifest, NodeInfo, Run, files, is_drawn};
use crate::sample::{CellRow, EventKind, EventRow};
use crate::units::{format_bytes, thousands};

/// The most events on the page; the others are in `events.csv` only.
const MOST_EVENTS: usize = 60;

pub(super) fn method(run: &Run) -> Markup {
    let plan = &run.manifest.plan;
    let words = [
        (
            "Response time",
            "from the intended start to the reply. An arrival that had to wait for the generator or a connection counts from when it was due; one that was never sent, that failed or was never answered counts as slower than all others.",
        ),
        ("Service time", "from the send to the reply."),
        (
            "Visibility",
            "from the acknowledgement on the primary until a read on the replica sees the row, for every commit on every replica, as an interval between two looks, on one clock. The figures are the later bound. Commits not seen before the drain ended count as unseen.",
        ),
        (
            "P(stale)",
            "the share of commits that a read misses so long after their acknowledgement.",
        ),
        (
            "Replay lag",
            "bytes of WAL between the upstream's position and the replica's replay, read in one query. A replica that is gone has no lag, not 0.",
        ),
        (
            "Interval",
            "95 %, over repetitions, which interleave in blocks. Medians: between order statistics from 6 repetitions on, Student's t on logarithms for 3 to 5. Factors: Student's t on the logarithms of ratios within blocks.",
        ),
        ("Inconclusive", "the interval of a factor crosses 1."),
    ];
    let content = html! {
        p { "The words as METHODOLOGY.md of replbench uses them, where each number's error is given too." }
        dl { @for (word, meaning) in words { dt { (word) } dd { (meaning) } } }
        @if let Some(load) = plan.load { p {
            "Load offered: " (load.offered)
            @if let Some(client) = plan.client { ", by the client " (client) }
            @if let Some(priority) = run.manifest.load_priority { " at " (priority) " priority" }
            "."
        } }
        @if let Some(probes) = plan.probes && probes.visibility {
            p { "How visibility was known on standbys: by " (probes.method.as_str()) "." }
        }
    };
    section("method", "Method in short", &content)
}

pub(crate) fn environment(manifest: &Manifest, cells: &[CellRow]) -> Markup {
    let Manifest { host, subject, .. } = manifest;
    let harness = &manifest.harness;
    let found_or = |found: &Option<String>, none: &str| found.as_deref().unwrap_or(none).to_owned();
    let rows = [
        ("Processor", format!("{}, {} cores", host.cpu, host.cores)),
        ("Memory", format_bytes(host.memory_bytes as f64)),
        ("Kernel", host.kernel.clone()),
        ("File system", host.filesystem.clone()),
        (
            "fdatasync there",
            host.fdatasync.map_or_else(String::new, |it| it.to_string()),
        ),
        (
            "Virtualisation",
            found_or(&host.virtualisation, "none found"),
        ),
        ("Host id", host.host_id.clone()),
        (
            "replbench",
            with_commit(&harness.version, harness.git.as_deref()),
        ),
        (
            "Benchmarked directory",
            found_or(&subject.git, "not a git repository"),
        ),
        ("Tags", pairs(&subject.tags)),
        ("Command", manifest.argv.join(" ")),
        ("Seed", manifest.seed.to_string()),
        (
            "Started, ended",
            format!(
                "{}, {}",
                manifest.started_at,
                manifest.ended_at.as_deref().unwrap_or("not ended")
            ),
        ),
        ("Status", status_text(manifest, cells)),
    ];
    let content = html! {
        dl { @for (name, value) in rows { @if !value.is_empty() { dt { (name) } dd { (escape_control(&value)) } } } }
        h3 { "Nodes" }
        (nodes(&manifest.nodes))
        @for (nodes, settings) in by_settings(&manifest.nodes) {
            details {
                summary { "Settings of " (escape_control(&nodes)) }
                dl { @for (name, value) in settings { dt { code { (escape_control(name)) } } dd { code { (escape_control(value)) } } } }
            }
        }
    };
    section("environment", "Environment", &content)
}

fn nodes(nodes: &[NodeInfo]) -> Markup {
    let is_elsewhere = nodes.iter().any(|node| node.reached.is_some());
    let heads = ["cluster", "node", "role", "version", "reached by"];
    let shown = if is_elsewhere { 5 } else { 4 };
    let rows = html! { @for node in nodes { tr {
        td { (escape_control(&node.cluster)) }
        td { (escape_control(&node.name)) }
        td { (escape_control(&node.role)) }
        td { (escape_control(&node.version)) }
        @if is_elsewhere { td { (escape_control(node.reached.as_deref().unwrap_or_default())) } }
    } } };
    table("Nodes", "text", &heads[..shown], &rows)
}

fn with_commit(version: &str, commit: Option<&str>) -> String {
    commit.map_or_else(
        || version.to_owned(),
        |commit| format!("{version} ({commit})"),
    )
}

fn pairs(tags: &BTreeMap<String, String>) -> String {
    let pairs: Vec<String> = tags
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    pairs.join(", ")
}

/// Groups of nodes with the same settings: the nodes' names, and the settings.
fn by_settings(nodes: &[NodeInfo]) -> Vec<(String, &BTreeMap<String, String>)> {
    let mut groups: Vec<(Vec<String>, &BTreeMap<String, String>)> = Vec::new();
    for node in nodes {
        let name = format!("{} ({})", node.name, node.cluster);
        match groups
            .iter_mut()
            .find(|(_, settings)| **settings == node.settings)
        {
            Some((names, _)) => names.push(name),
            None => groups.push((vec![name], &node.settings)),
        }
    }
    groups
        .into_iter()
        .map(|(names, settings)| (names.join(", "), settings))
        .collect()
}

/// The section of events. The row counts of every node are left out; they are in `events.csv` only.
pub(super) fn events(run: &Run) -> Markup {
    let told: Vec<&EventRow> = run
        .events
        .iter()
        .filter(|event| event.kind != EventKind::Rows)
        .collect();
    let heads = [
        "cell", "time (s)", "node", "kind", "SQLSTATE", "count", "detail",
    ];
    let rows = html! { @for event in told.iter().take(MOST_EVENTS) { tr {
        td { @if let Some(cell) = event.cell_id { (cell) } }
        td { (format!("{:.1}", event.t_us as f64 / 1e6)) }
        td { (escape_control(event.node.as_deref().unwrap_or_default())) }
        td { (escape_control(event.kind.as_str())) }
        td { (escape_control(event.sqlstate.as_deref().unwrap_or_default())) }
        td { @if let Some(count) = event.count { (count) } }
        td { (escape_control(&event.detail)) }
    } } };
    let content = html! {
        @if told.is_empty() { p { "None." } } @else {
            details {
                summary { (thousands(told.len() as u64)) " events" @if told.len() > MOST_EVENTS { ", the first " (MOST_EVENTS) " here" } }
                (table("Events", "text", &heads, &rows))
            }
        }
    };
    section("events", "Events", &content)
}

pub(super) fn files(run: &Run) -> Markup {
    let names = [
        (files::MANIFEST, "what was run, on what, and how it ended"),
        (files::CELLS, "one row a cell"),
        (files::INTERVALS, "one row a cell a second"),
        (files::LAG, "one row a sample a replica"),
        (files::VISIBILITY, "one row a cell a second a replica"),
        (files::EVENTS, "faults, state changes, errors by SQLSTATE"),
        (files::SUMMARY, "every figure in long form"),
    ];
    let content = html! {
        dl {
            @for (name, what) in names { dt { a href=(name) { (name) } } dd { (what) } }
            dt { code { (files::HISTOGRAMS) "/cell-NNN.hlog" } }
            dd { "HdrHistogram interval logs, nanoseconds, one a cell" }
        }
        @if !run.manifest.files.is_empty() {
            details {
                summary { "SHA-256 of the measured files" }
                dl { @for (name, sum) in run.manifest.files.iter().filter(|(name, _)| !is_drawn(name)) { dt { code { (escape_control(name)) } } dd { code { (escape_control(sum)) } } } }
            }
        }
    };
    section("files", "Files", &content)
}
