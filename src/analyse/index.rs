//! A run as one line of `results/index.jsonl`.

use std::collections::BTreeMap;

use itertools::Itertools as _;
use serde::Serialize;

use super::aggregate::{ModeSummary, mode_summaries};
use crate::record::{Manifest, RunStatus, RunSummary};

/// One line of the index. Derived from manifest and summary; never the only copy of anything.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct IndexLine {
    pub run_id: String,
    /// The run's directory, relative to the directory of the index.
    pub directory: String,
    pub status: RunStatus,
    pub started_at: String,
    pub profile: String,
    pub workload_hash: String,
    pub commit: Option<String>,
    pub tags: BTreeMap<String, String>,
    pub harness: String,
    pub host_id: String,
    /// Versions of the servers.
    pub postgresql: Vec<String>,
    pub session: Option<String>,
    pub modes: Vec<IndexMode>,
}

/// The figures of a mode over its valid repetitions.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct IndexMode {
    pub mode: String,
    pub valid: usize,
    pub invalid: usize,
    pub figures: Vec<IndexFigure>,
}

/// A figure; its value is `null` when it falls among the censored.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct IndexFigure {
    pub metric: String,
    pub stat: String,
    pub node: Option<String>,
    pub unit: String,
    pub value: Option<f64>,
}

impl IndexLine {
    pub fn of(run_summary: &RunSummary, directory: String) -> Self {
        let manifest = &run_summary.manifest;
        Self {
            run_id: manifest.run_id.clone(),
            directory,
            status: manifest.status,
            started_at: manifest.started_at.clone(),
            profile: manifest.plan.profile.clone().unwrap_or_default(),
            workload_hash: manifest.workload_hash.clone(),
            commit: manifest.subject.git.clone(),
            tags: manifest.subject.tags.clone(),
            harness: manifest.harness.version.clone(),
            host_id: manifest.host.host_id.clone(),
            postgresql: versions(manifest),
            session: manifest.session.as_ref().map(|session| session.id.clone()),
            modes: mode_summaries(run_summary)
                .into_iter()
                .map(index_mode)
                .collect(),
        }
    }
}

fn versions(manifest: &Manifest) -> Vec<String> {
    let versions = manifest.nodes.iter().map(|node| &node.version);
    versions.sorted().dedup().cloned().collect()
}

fn index_mode(mode: ModeSummary) -> IndexMode {
    let judged = mode.figures.into_iter().filter(|it| it.metric.is_judged());
    let figures = judged.map(|figure| IndexFigure {
        metric: figure.metric.name().into(),
        stat: figure.metric.stat.as_str().into(),
        node: figure.node,
        unit: figure.metric.unit().as_str().into(),
        value: figure
            .estimate
            .map(|it| it.value)
            .filter(|value| value.is_finite()),
    });
    IndexMode {
        figures: figures.collect(),
        mode: mode.mode,
        valid: mode.valid,
        invalid: mode.invalid,
    }
}
