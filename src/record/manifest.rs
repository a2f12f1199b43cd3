//! `manifest.json`: what was run, on what, by what, and how it ended.

use std::collections::BTreeMap;

use itertools::Itertools as _;
use serde::{Deserialize, Serialize};

use super::RecordedPlan;
use crate::mode::Mode;
use crate::plan::{Priority, ServersMade, Side};
use crate::sample::CellRow;
use crate::units::{format_seconds, thousands};

/// Version of the format of run directories. Rises when a reader of an older version would misread the directory.
pub const SCHEMA_VERSION: u32 = 1;

/// How a run ended, or that it has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    Running,
    Complete,
    /// Stopped by a person; what was measured is kept.
    Interrupted,
    /// Cut short by an error; what was measured is kept.
    Failed,
    /// Complete, but not to be relied on: see `invalid_reasons`.
    Invalid,
}

impl RunStatus {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Complete => "complete",
            Self::Interrupted => "interrupted",
            Self::Failed => "failed",
            Self::Invalid => "invalid",
        }
    }
}

/// The whole content of `manifest.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    pub schema_version: u32,
    pub run_id: String,
    pub status: RunStatus,
    pub invalid_reasons: Vec<String>,
    /// What a reader should know although the run is valid.
    pub warnings: Vec<String>,
    /// RFC 3339, UTC.
    pub started_at: String,
    pub ended_at: Option<String>,
    pub argv: Vec<String>,
    /// The resolved plan.
    #[serde(rename = "profile")]
    pub plan: RecordedPlan,
    /// Hash of tables, transactions, load, phases and faults; runs whose hashes differ are not comparable.
    #[serde(default)]
    pub workload_hash: String,
    pub seed: u64,
    pub harness: Harness,
    pub subject: Subject,
    /// Set when the run is one side of an A/B session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Session>,
    /// `None` in runs older than this field: see [`Manifest::servers_made`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub servers_made: Option<ServersMade>,
    /// The priority that the load's threads were permitted, which may be lower than the plan's `priority`; `None` before the first cell,
    /// and in older runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_priority: Option<Priority>,
    pub host: Host,
    pub nodes: Vec<NodeInfo>,
    /// SHA-256 of a finished run's files by file name. A file that is made from the measured ones may be drawn anew, and then gets a new
    /// checksum.
    pub files: BTreeMap<String, String>,
}

impl Manifest {
    /// Adds a warning, unless it was added before.
    pub fn warn(&mut self, warning: String) {
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    /// The modes' names: those of the plan in its order, then any other that a cell names.
    pub fn mode_names(&self, cells: &[CellRow]) -> Vec<String> {
        let planned = self.plan.modes.iter().map(|mode| &mode.name);
        let measured = cells.iter().map(|cell| &cell.mode);
        planned.chain(measured).unique().cloned().collect()
    }

    /// The mode of this name; `None` if the plan has none, or if this version cannot read it.
    pub fn mode(&self, name: &str) -> Option<&Mode> {
        let mut modes = self.plan.modes.iter();
        modes.find(|mode| mode.name == name)?.mode.as_ref()
    }

    /// How often the servers were made. Runs that do not record it made new servers for every block in sessions, and otherwise once.
    pub fn servers_made(&self) -> ServersMade {
        let by_session = match self.session {
            Some(_) => ServersMade::EveryBlock,
            None => ServersMade::Once,
        };
        self.servers_made.unwrap_or(by_session)
    }
}

/// The replbench that made the run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Harness {
    pub version: String,
    /// Commit from which replbench was built, with `-dirty` if there were changes; `None` if unknown.
    pub git: Option<String>,
}

/// What was benchmarked: the state of the directory that the run was started in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Subject {
    pub git: Option<String>,
    pub tags: BTreeMap<String, String>,
}

/// A run's place in an A/B session of two runs that were measured in turns. Blocks of the two runs with the same number are neighbours in
/// time and have the same arrivals, so that they may be compared in pairs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// The run id of the base side: the same on both sides, and different from that of any other session.
    pub id: String,
    pub side: Side,
    /// The run id of the other side.
    pub other: String,
    /// What this side was given besides the common profile, such as `wal_compression=on`.
    pub items: Vec<String>,
}

/// The machine that ran clients and servers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Host {
    /// Digest of the machine id; runs of different hosts are not comparable.
    pub host_id: String,
    pub cpu: String,
    pub cores: u32,
    pub memory_bytes: u64,
    pub kernel: String,
    /// File system of the directory that holds the servers' data.
    pub filesystem: String,
    pub virtualisation: Option<String>,
    /// `None` if not measured, as in runs older than this field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fdatasync: Option<Fdatasync>,
}

/// How long writes of 8 kB in place took until they were on the disk (`fdatasync`), one write after the other, in the directory of the
/// servers' data before any server ran. A commit waits at least this long.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Fdatasync {
    pub n: u64,
    pub p50_us: f64,
    pub p99_us: f64,
}

impl std::fmt::Display for Fdatasync {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "median {}, 99th percentile {} ({} writes of 8 kB)",
            format_seconds(self.p50_us / 1e6),
            format_seconds(self.p99_us / 1e6),
            thousands(self.n)
        )
    }
}

/// One server of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeInfo {
    /// The cluster of the run that the server belongs to, such as `1 primary, 2 standbys`.
    pub cluster: String,
    pub name: String,
    pub role: String,
    /// The server's setting `server_version`.
    pub version: String,
    /// How load and probes reached the server; `None` if directly over the loopback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reached: Option<String>,
    /// Settings whose source is not the default.
    pub settings: BTreeMap<String, String>,
}
