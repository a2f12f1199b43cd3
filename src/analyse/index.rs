//! A run in one line: what `results/index.jsonl` holds of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::compare::Metric;
use super::stats::median;
use crate::record::{Manifest, RunStatus, Sheet};

/// One line of the index. Derived from manifest and summary; never the only copy of anything.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IndexLine {
    pub run_id: String,
    /// The run's directory, relative to that of the index.
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

/// A mode's medians over its valid repetitions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IndexMode {
    pub mode: String,
    pub valid: usize,
    pub invalid: usize,
    pub figures: Vec<IndexFigure>,
}

/// The median of a figure; `null` when it falls among the censored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IndexFigure {
    pub metric: String,
    pub stat: String,
    pub standby: Option<String>,
    pub unit: String,
    pub median: Option<f64>,
}

impl IndexLine {
    pub fn of(sheet: &Sheet, directory: String) -> Self {
        let manifest = &sheet.manifest;
        Self {
            run_id: manifest.run_id.clone(),
            directory,
            status: manifest.status,
            started_at: manifest.started_at.clone(),
            profile: manifest.profile_name().unwrap_or_default().to_owned(),
            workload_hash: manifest.workload_hash.clone(),
            commit: manifest.subject.git.clone(),
            tags: manifest.subject.tags.clone(),
            harness: manifest.harness.version.clone(),
            host_id: manifest.host.host_id.clone(),
            postgresql: versions(manifest),
            session: manifest.session.as_ref().map(|session| session.id.clone()),
            modes: sheet
                .mode_names()
                .iter()
                .map(|mode| index_mode(sheet, mode))
                .collect(),
        }
    }
}

fn versions(manifest: &Manifest) -> Vec<String> {
    let mut versions: Vec<String> = manifest
        .nodes
        .iter()
        .map(|node| node.version.clone())
        .collect();
    versions.sort();
    versions.dedup();
    versions
}

fn index_mode(sheet: &Sheet, mode: &str) -> IndexMode {
    let cells = || sheet.cells.iter().filter(|cell| cell.mode == mode);
    let valid: Vec<u32> = cells()
        .filter(|cell| cell.valid)
        .map(|cell| cell.cell_id)
        .collect();
    let mut by_figure: BTreeMap<(usize, Option<String>), Vec<f64>> = BTreeMap::new();
    for row in sheet
        .figures
        .iter()
        .flatten()
        .filter(|row| valid.contains(&row.cell_id))
    {
        let declared = Metric::ALL
            .iter()
            .position(|it| it.metric == row.metric && it.stat == row.stat);
        if let Some(metric) = declared {
            let values = by_figure.entry((metric, row.standby.clone())).or_default();
            values.push(row.value.unwrap_or(f64::INFINITY));
        }
    }
    let figures = by_figure.into_iter().map(|((metric, standby), values)| {
        let metric = Metric::ALL[metric];
        IndexFigure {
            metric: metric.metric.into(),
            stat: metric.stat.into(),
            standby,
            unit: metric.unit.as_str().into(),
            median: median(&values)
                .map(|it| it.value)
                .filter(|value| value.is_finite()),
        }
    });
    IndexMode {
        mode: mode.to_owned(),
        figures: figures.collect(),
        invalid: cells().count() - valid.len(),
        valid: valid.len(),
    }
}
