//! Runs with known content, in memory or as `record` writes them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use replbench::analyse::{Blessing, Series};
use replbench::record::{
    Harness, Host, Manifest, NodeInfo, RecordedPlan, RunStatus, RunSummary, SCHEMA_VERSION,
    Subject, files,
};
use replbench::sample::{CellRow, Direction, SummaryRow};
use serde_json::{Value, json};

/// Noise of some 1 %, the same for ever.
pub(crate) const NOISE: [f64; 12] = [
    1.0, 1.012, 0.991, 1.006, 0.987, 1.009, 0.995, 1.003, 0.989, 1.011, 0.998, 1.005,
];

/// A made-up run.
#[derive(Clone)]
pub(crate) struct Made {
    pub(crate) id: String,
    pub(crate) commit: Option<String>,
    pub(crate) started_at: String,
    pub(crate) status: RunStatus,
    pub(crate) modes: Vec<String>,
    /// Medians in microseconds; `None`: censored.
    pub(crate) response: Option<f64>,
    pub(crate) visibility: Option<f64>,
    pub(crate) invalid_cells: bool,
}

impl Made {
    pub(crate) fn new(number: usize, commit: &str, response: f64) -> Self {
        Self {
            id: format!("run-{number:03}"),
            commit: Some(commit.to_owned()),
            started_at: format!("2026-07-{:02}T09:15:{:02}.5Z", number / 60 + 1, number % 60),
            status: RunStatus::Complete,
            modes: vec!["async".into()],
            response: Some(response * NOISE[number % NOISE.len()]),
            visibility: Some(400.0 * NOISE[(number + 5) % NOISE.len()]),
            invalid_cells: false,
        }
    }

    pub(crate) fn run_summary(&self) -> RunSummary {
        let mut cells = Vec::new();
        let mut figures = Vec::new();
        for (index, mode) in self.modes.iter().enumerate() {
            for rep in 1..=3 {
                let cell_id = u32::try_from(index * 3).unwrap() + rep;
                cells.push(cell(cell_id, mode, rep, !self.invalid_cells));
                // The middle repetition is the median.
                let factor = 0.98 + 0.01 * f64::from(rep);
                figures.extend(self.figures(cell_id, mode, rep, factor));
            }
        }
        RunSummary {
            altered: Vec::new(),
            dir: PathBuf::from(&self.id),
            manifest: self.manifest(),
            cells,
            figures: Some(figures),
            warnings: Vec::new(),
        }
    }

    fn figures(&self, cell_id: u32, mode: &str, rep: u32, factor: f64) -> Vec<SummaryRow> {
        let row = |node: Option<&str>, metric: &str, stat: &str, value: Option<f64>| SummaryRow {
            cell_id,
            mode: mode.to_owned(),
            rep,
            node: node.map(Into::into),
            metric: metric.into(),
            stat: stat.into(),
            value: value.map(|value| (value * factor * 1e3).round() / 1e3),
            unit: if metric == "achieved_tps" {
                "1/s"
            } else {
                "us"
            }
            .into(),
            direction: if metric == "achieved_tps" {
                Direction::HigherIsBetter
            } else {
                Direction::LowerIsBetter
            },
            n: 4_000,
        };
        let rate = self.response.map(|response| 1e6 / response);
        vec![
            row(None, "achieved_tps", "value", rate),
            row(None, "response", "p99", self.response),
            row(None, "response", "p999", self.response),
            row(Some("s1"), "visibility", "p99", self.visibility),
            row(
                Some("s1"),
                "visibility_send",
                "p99",
                self.visibility.map(|it| it + 1_000.0),
            ),
        ]
    }

    fn manifest(&self) -> Manifest {
        let modes: Vec<Value> = self.modes.iter().map(|name| mode(name)).collect();
        Manifest {
            schema_version: SCHEMA_VERSION,
            run_id: self.id.clone(),
            status: self.status,
            invalid_reasons: Vec::new(),
            warnings: Vec::new(),
            started_at: self.started_at.clone(),
            ended_at: None,
            argv: Vec::new(),
            plan: RecordedPlan::from(json!({
                "profile": "shop",
                "modes": modes,
                "probes": {"visibility": true},
            })),
            workload_hash: "6b86b273ff34fce19d6b804eff5a3f57".into(),
            seed: 1,
            harness: Harness {
                version: "0.1.0".into(),
                git: None,
            },
            subject: Subject {
                git: self.commit.clone(),
                tags: BTreeMap::new(),
            },
            session: None,
            servers_made: None,
            load_priority: None,
            host: Host {
                host_id: "5d41402abc4b".into(),
                cores: 2,
                filesystem: "ext4".into(),
                ..Host::default()
            },
            nodes: vec![node("1 primary, 1 standby", "primary")],
            files: BTreeMap::new(),
        }
    }

    /// As `record` would have written it, the distributions left out: a summary that is whole needs none.
    pub(crate) fn write(&self, results: &Path) {
        let dir = results.join(&self.id);
        fs::create_dir_all(&dir).unwrap();
        let run_summary = self.run_summary();
        let manifest = serde_json::to_vec_pretty(&run_summary.manifest).unwrap();
        fs::write(dir.join(files::MANIFEST), manifest).unwrap();
        write_csv(&dir.join(files::CELLS), &run_summary.cells);
        write_csv(&dir.join(files::SUMMARY), &run_summary.figures.unwrap());
    }
}

pub(crate) fn write_csv<T: serde::Serialize>(path: &Path, rows: &[T]) {
    let mut writer = csv::Writer::from_path(path).unwrap();
    for row in rows {
        writer.serialize(row).unwrap();
    }
    writer.flush().unwrap();
}

pub(crate) fn mode(name: &str) -> Value {
    json!({
        "name": name,
        "level": "on",
        "sync": null,
        "topology": {"standbys": 1, "cascading": 0, "archive": 0, "subscribers": 0},
    })
}

pub(crate) fn node(cluster: &str, name: &str) -> NodeInfo {
    NodeInfo {
        cluster: cluster.into(),
        name: name.into(),
        role: "primary".into(),
        version: "17.2 (Debian 17.2-1)".into(),
        reached: None,
        settings: [("fsync", "on"), ("max_wal_size", "4GB")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
    }
}

pub(crate) fn cell(cell_id: u32, mode: &str, rep: u32, valid: bool) -> CellRow {
    CellRow {
        cell_id,
        mode: mode.into(),
        rep,
        block: rep,
        order_idx: cell_id,
        started_at: "2026-07-14T09:15:03Z".into(),
        warmup_s: 2.0,
        measured_s: 8.0,
        offered_tps: Some(500.0),
        achieved_tps: 500.0,
        offered: 4_000,
        acked: 4_000,
        acked_with_warning: 0,
        failed: 0,
        indeterminate: 0,
        missed: 0,
        peak_backlog: 0,
        peak_in_flight: 4,
        dispatch_lag_p99_us: None,
        timer_early_us: None,
        load_cpu_share: None,
        probe_cpu_share: None,
        host_busy_share: None,
        host_steal_share: None,
        wal_bytes: None,
        discarded: false,
        checkpoints: None,
        autovacuums: None,
        full_page_images: None,
        overloaded: None,
        valid,
        notes: String::new(),
    }
}

/// Hashes that git could have made.
pub(crate) fn hash(number: usize) -> String {
    format!("{number:07x}{:033x}", 0)
}

/// One run for each of `count` commits, slower by `factor` from commit `at` on.
pub(crate) fn step(count: usize, at: usize, factor: f64) -> (Vec<Made>, Vec<String>) {
    let order: Vec<String> = (0..count).map(hash).collect();
    let runs = (0..count).map(|number| {
        let factor = if number < at { 1.0 } else { factor };
        Made::new(number, &order[number], 1_000.0 * factor)
    });
    (runs.collect(), order)
}

pub(crate) fn run_summaries(runs: &[Made]) -> Vec<RunSummary> {
    runs.iter().map(Made::run_summary).collect()
}

pub(crate) fn response(all: Vec<Series>) -> Series {
    let mut found = all.into_iter().filter(|it| it.figure() == "response.p99");
    let series = found.next().unwrap();
    assert_eq!(found.next(), None);
    series
}

pub(crate) fn blessing(commit: &str) -> Blessing {
    Blessing {
        commit: commit.into(),
        metric: None,
        mode: None,
        reason: None,
        at: String::new(),
    }
}
