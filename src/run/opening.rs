//! What a manifest says before the first server runs, and how run directories are named.

use std::collections::BTreeMap;

use super::{GivenServers, Options, environment};
use crate::plan::{Plan, ServersMade, Side};
use crate::record::{Manifest, RunStatus, SCHEMA_VERSION};

/// The manifest of a run that begins at `at`.
pub(super) fn manifest(
    at: jiff::Timestamp,
    plan: &Plan,
    options: &Options,
    side: Option<Side>,
) -> Manifest {
    let subject = environment::subject(options);
    let foreign = options.given.as_ref().map(|given| match given {
        GivenServers::Existing(_) => {
            "the servers were there before: others may use them meanwhile, and what is said of the host is of the machine that loads"
        }
        GivenServers::Compose { .. } => {
            "load and probes reached the servers through ports that Docker publishes: each way through its proxy takes time and processor that are part of every figure; `replbench cluster up --compose` prints the command that loads from inside their network instead"
        }
    });
    Manifest {
        schema_version: SCHEMA_VERSION,
        run_id: run_id(at, &plan.profile, side, subject.git.as_deref()),
        status: RunStatus::Running,
        invalid_reasons: Vec::new(),
        warnings: (plan.caution().into_iter())
            .chain(plan.left_out.iter().cloned())
            .chain(foreign.map(Into::into))
            .collect(),
        started_at: format!("{at:.3}"),
        ended_at: None,
        argv: options.argv.clone(),
        plan: plan.into(),
        workload_hash: plan.workload_hash(),
        seed: plan.seed,
        harness: environment::harness(),
        subject,
        host: environment::host(options.given.is_none().then_some(&options.results)),
        nodes: Vec::new(),
        session: None,
        servers_made: Some(match side {
            // Every turn of a session has servers of its own, if not every cell.
            Some(_) if !plan.changes_primary() => ServersMade::EveryBlock,
            _ => plan.servers_made(),
        }),
        load_priority: None,
        files: BTreeMap::new(),
    }
}

/// For example `20260714T091503Z-sync-vs-async-head-3f2a91c-dirty`: time, profile, side of a session, commit.
fn run_id(at: jiff::Timestamp, profile: &str, side: Option<Side>, git: Option<&str>) -> String {
    let mut id = format!("{}-{profile}", at.strftime("%Y%m%dT%H%M%SZ"));
    if let Some(side) = side {
        id = format!("{id}-{side}");
    }
    if let Some(git) = git {
        let (commit, suffix) = git
            .split_once('-')
            .map_or((git, ""), |(commit, _)| (commit, "-dirty"));
        id = format!("{id}-{}{suffix}", &commit[..commit.len().min(7)]);
    }
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_of_a_session_stand_together_and_tell_which_they_are() {
        let at = "2026-07-14T09:15:03.5Z".parse().unwrap();
        let id = |side, git| run_id(at, "sync-vs-async", side, git);
        assert_eq!(
            id(None, Some("3f2a91c77-dirty")),
            "20260714T091503Z-sync-vs-async-3f2a91c-dirty"
        );
        assert_eq!(
            id(Some(Side::Base), Some("3f2a91c77")),
            "20260714T091503Z-sync-vs-async-base-3f2a91c"
        );
        assert_eq!(
            id(Some(Side::Head), None),
            "20260714T091503Z-sync-vs-async-head"
        );
    }
}
