//! Runs in the order of the commits that they measured. Commits come from wherever `order` was made; no git here.

use std::collections::{HashMap, HashSet};

use crate::record::RunSummary;

/// The end of the revision of a work tree with changes.
const DIRTY: &str = "-dirty";

/// Where each commit stands, each after its parents.
#[derive(Debug)]
pub(super) struct History<'a>(HashMap<&'a str, usize>);

impl<'a> History<'a> {
    pub(super) fn of(order: &'a [String]) -> Self {
        let places = order.iter().enumerate();
        Self(
            places
                .map(|(place, commit)| (commit.as_str(), place))
                .collect(),
        )
    }

    /// The place of a revision, that of its commit when it has changes.
    pub(super) fn place(&self, revision: &str) -> Option<usize> {
        let commit = revision.strip_suffix(DIRTY).unwrap_or(revision);
        self.0.get(commit).copied()
    }
}

/// Behind a commit: first its own runs, then those of its work tree with changes, then runs of which nobody knows the commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Clean,
    Dirty,
    Unknown,
}

/// Each run once, from the oldest commit to the newest.
pub(super) fn in_order<'a>(
    run_summaries: &'a [RunSummary],
    history: &History,
) -> Vec<&'a RunSummary> {
    let mut seen = HashSet::new();
    let mut runs: Vec<(Option<jiff::Timestamp>, &RunSummary)> = run_summaries
        .iter()
        .filter(|run_summary| seen.insert(run_summary.manifest.run_id.as_str()))
        .map(|run_summary| (run_summary.manifest.started_at.parse().ok(), run_summary))
        .collect();
    runs.sort_by_key(|(started, run_summary)| (*started, run_summary.manifest.run_id.as_str()));
    let mut latest = None;
    let mut placed: Vec<(Option<usize>, Rank, &RunSummary)> = Vec::new();
    for (_, run_summary) in runs {
        let revision = run_summary.manifest.subject.git.as_deref();
        match revision.and_then(|revision| history.place(revision)) {
            Some(place) => {
                latest = latest.max(Some(place));
                let is_dirty = revision.is_some_and(|revision| revision.ends_with(DIRTY));
                let rank = if is_dirty { Rank::Dirty } else { Rank::Clean };
                placed.push((Some(place), rank, run_summary));
            }
            None => placed.push((latest, Rank::Unknown, run_summary)),
        }
    }
    // Stable: what is equal stays in order of time.
    placed.sort_by_key(|(place, rank, _)| (*place, *rank));
    placed
        .into_iter()
        .map(|(_, _, run_summary)| run_summary)
        .collect()
}
