//! Run directories as far as comparisons read them: a manifest, cells, a summary. No distributions.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

/// A run to be written; its manifest may be changed before.
pub(crate) struct LightRun {
    pub manifest: Value,
    /// Mode, then figures: metric, stat, standby, one value a repetition (`None`: censored).
    pub modes: Vec<(String, Vec<Figure>)>,
    /// Cells that are not valid, by mode and repetition.
    pub invalid: Vec<(String, u32)>,
}

pub(crate) struct Figure {
    pub metric: &'static str,
    pub stat: &'static str,
    pub node: Option<&'static str>,
    pub values: Vec<Option<f64>>,
}

pub(crate) fn figure(
    metric: &'static str,
    stat: &'static str,
    node: Option<&'static str>,
    values: &[f64],
) -> Figure {
    Figure {
        metric,
        stat,
        node,
        values: values.iter().map(|value| Some(*value)).collect(),
    }
}

impl LightRun {
    /// One mode, `async`, with response p50 of these microseconds, a value a repetition.
    pub(crate) fn of_response(id: &str, values: &[f64]) -> Self {
        let mut run = Self::new(id);
        run.modes = vec![(
            "async".into(),
            vec![figure("response", "p50", None, values)],
        )];
        run
    }

    pub(crate) fn new(id: &str) -> Self {
        let settings = json!({"max_wal_size": "4GB"});
        let manifest = json!({
            "schema_version": 1, "run_id": id, "status": "complete", "invalid_reasons": [], "warnings": [],
            "started_at": "2026-11-20T15:18:26.062Z", "ended_at": "2026-11-20T15:22:33.789Z", "argv": ["replbench"],
            "profile": {"profile": "made-up", "load": {"offered": {"open": {"rate": 500.0}}}, "phases": {}, "tables": [], "transactions": [],
                "probes": {"visibility": true}, "modes": []},
            "workload_hash": "cafe", "seed": 1, "harness": {"version": "0.1.0", "git": null},
            "subject": {"git": null, "tags": {}},
            "host": {"host_id": "h1", "cpu": "made up", "cores": 2, "memory_bytes": 1024, "kernel": "6.1", "filesystem": "ext4", "virtualisation": null},
            "nodes": [{"cluster": "1 primary, 1 standby", "name": "primary", "role": "primary", "version": "17.2", "settings": settings}],
            "files": {},
        });
        Self {
            manifest,
            modes: Vec::new(),
            invalid: Vec::new(),
        }
    }

    /// Writes the run under its id into `results`.
    pub(crate) fn write(mut self, results: &Path) -> PathBuf {
        let directory = results.join(self.manifest["run_id"].as_str().unwrap());
        fs::create_dir_all(&directory).unwrap();
        if self.manifest["profile"]["modes"] == json!([]) {
            let names = self.modes.iter().map(|(name, _)| mode(name));
            self.manifest["profile"]["modes"] = names.collect();
        }
        fs::write(directory.join("manifest.json"), self.manifest.to_string()).unwrap();
        let mut cells = String::from(
            "cell_id,mode,rep,block,order_idx,started_at,warmup_s,measured_s,offered_tps,achieved_tps,offered,acked,acked_with_warning,failed,\
             indeterminate,missed,peak_backlog,peak_in_flight,load_cpu_share,probe_cpu_share,host_busy_share,host_steal_share,wal_bytes,valid,notes\n",
        );
        let mut summary =
            String::from("cell_id,mode,rep,standby,metric,stat,value,unit,direction,n\n");
        let mut id = 0;
        for (mode, figures) in &self.modes {
            let reps = figures
                .iter()
                .map(|figure| figure.values.len())
                .max()
                .unwrap_or(0);
            for rep in 0..reps {
                id += 1;
                let number = u32::try_from(rep).unwrap() + 1;
                let valid = !self.invalid.contains(&(mode.clone(), number));
                let _ = writeln!(
                    cells,
                    "{id},\"{mode}\",{number},{number},{id},2026-11-20T15:18:30Z,2,8,500,500,4000,4000,0,0,0,0,0,8,,,,,,{valid},"
                );
                for figure in figures {
                    let Some(value) = figure.values.get(rep) else {
                        continue;
                    };
                    let value = value.map(|value| value.to_string()).unwrap_or_default();
                    let node = figure.node.unwrap_or_default();
                    let (metric, stat) = (figure.metric, figure.stat);
                    let _ = writeln!(
                        summary,
                        "{id},\"{mode}\",{number},\"{node}\",{metric},{stat},{value},us,lower_is_better,4000"
                    );
                }
            }
        }
        fs::write(directory.join("cells.csv"), cells).unwrap();
        fs::write(directory.join("summary.csv"), summary).unwrap();
        directory
    }
}

fn mode(name: &str) -> Value {
    json!({"name": name, "level": "on", "sync": null, "topology": {"standbys": 1, "cascading": 0, "archive": 0, "subscribers": 0}})
}
