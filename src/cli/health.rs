//! Shows whether servers replicate, as text and as an exit code.

use std::fmt::Write as _;
use std::path::Path;

use super::{Exit, WIDTH};
use crate::cluster::health::{Health, NodeHealth, Verdict};
use crate::cluster::state::{ClusterState, NodeState};
use crate::cluster::{ClusterError, RunningNode, compose};
use crate::plan::fold;
use crate::report::escape_control;
use crate::topology::Role;
use crate::units::format_bytes;

pub(super) fn exit(verdict: Verdict) -> Exit {
    match verdict {
        Verdict::Good => Exit::Fine,
        Verdict::Warn => Exit::Regression,
        Verdict::Bad => Exit::Server,
    }
}

/// The servers of a compose project, or of the cluster in a directory if there is no project.
pub(super) async fn members_of(
    project: Option<&str>,
    directory: &Path,
) -> Result<Vec<RunningNode>, ClusterError> {
    if let Some(project) = project {
        return Ok(compose::find(project).await?.nodes);
    }
    let state = ClusterState::load(directory)?;
    let member = |node: &NodeState| {
        Ok(RunningNode {
            node: node.node.clone(),
            endpoint: state.endpoint(node)?,
            process: None,
        })
    };
    state.nodes.iter().map(member).collect()
}

/// The text for all nodes: one line for each node, one more for a replica's figures, and one for each reason of the node's verdict.
pub(super) fn text(health: &Health) -> String {
    const MARGIN: usize = 6;
    let mut out = String::new();
    for node in &health.nodes {
        let (name, role) = (escape_control(&node.node), node.role.as_str());
        let said = escape_control(&in_words(node)).into_owned();
        // Writing to a string does not fail.
        let _ = writeln!(out, "{}{name:<8} {role:<15} {said}", coloured(node.verdict));
        let figures = Some(figures(node)).filter(|it| !it.is_empty());
        for line in figures.iter().chain(&node.reasons) {
            for folded in fold(&escape_control(line), WIDTH - MARGIN) {
                let _ = writeln!(out, "      {folded}");
            }
        }
    }
    out
}

fn coloured(verdict: Verdict) -> String {
    let colour = match verdict {
        Verdict::Good => 32,
        Verdict::Warn => 33,
        Verdict::Bad => 31,
    };
    format!("\u{1b}[{colour}m{:<4}\u{1b}[0m  ", verdict.as_str())
}

/// The state of a node in words.
fn in_words(node: &NodeHealth) -> String {
    if node.role == Role::Primary {
        let version = node.version.as_deref().and_then(|it| it.split(' ').next());
        let version = version.map_or_else(String::new, |it| format!("PostgreSQL {it}, "));
        return version + &node.place;
    }
    match (&node.state, &node.sync_state) {
        (Some(state), Some(sync_state)) => format!("{state}, {sync_state}"),
        (Some(state), None) | (None, Some(state)) => state.clone(),
        (None, None) => node.place.clone(),
    }
}

/// The delays and the lag of a replica in words.
fn figures(node: &NodeHealth) -> String {
    let mut parts = Vec::new();
    let arrivals = [
        ("received", node.received_ms),
        ("replayed", node.replayed_ms),
    ];
    for (what, millis) in arrivals {
        parts.extend(millis.map(|it| format!("{what} in {it:.1} ms")));
    }
    let bytes = |bytes: i64| format_bytes(bytes as f64);
    let behind = node.unreplayed_bytes.map(bytes);
    parts.extend(behind.map(|it| format!("{it} behind")));
    let held = node.retained_bytes.map(bytes);
    parts.extend(held.map(|it| format!("slot holds {it}")));
    parts.join(", ")
}
