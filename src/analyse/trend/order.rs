//! Runs in the order of the commits that they measured. The caller gives the order of the commits; git is not used here.

use std::collections::HashMap;

use itertools::Itertools as _;

use crate::record::RunSummary;

/// The suffix of a revision whose work tree has changes.
const DIRTY: &str = "-dirty";

/// The place of each commit in the history; a commit comes after its parents.
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

    /// The place of a revision; a revision with changes has the place of its commit.
    pub(super) fn place(&self, revision: &str) -> Option<usize> {
        let commit = revision.strip_suffix(DIRTY).unwrap_or(revision);
        self.0.get(commit).copied()
    }
}

/// The order of runs at the same place: runs of the commit itself, then runs of its work tree with changes, then runs whose commit is
/// unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Clean,
    Dirty,
    Unknown,
}

/// Each run once, from the oldest commit to the newest.
pub(super) fn in_order<'a>(
    run_summaries: impl IntoIterator<Item = &'a RunSummary>,
    history: &History,
) -> Vec<&'a RunSummary> {
    let started = |it: &RunSummary| it.manifest.started_at.parse::<jiff::Timestamp>().ok();
    let runs = run_summaries
        .into_iter()
        .unique_by(|it| it.manifest.run_id.as_str())
        .sorted_by_cached_key(|it| (started(it), it.manifest.run_id.as_str()));
    let mut latest = None;
    let placed = runs.map(|run_summary| {
        let revision = run_summary.manifest.subject.git.as_deref();
        let Some(place) = revision.and_then(|revision| history.place(revision)) else {
            return (latest, Rank::Unknown, run_summary);
        };
        latest = latest.max(Some(place));
        let is_dirty = revision.is_some_and(|revision| revision.ends_with(DIRTY));
        let rank = if is_dirty { Rank::Dirty } else { Rank::Clean };
        (Some(place), rank, run_summary)
    });
    // The sort is stable: runs with equal keys stay in order of time.
    placed
        .sorted_by_key(|(place, rank, _)| (*place, *rank))
        .map(|(_, _, run_summary)| run_summary)
        .collect()
}
