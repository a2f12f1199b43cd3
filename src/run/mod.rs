//! Conducts a run: provisions, measures cell by cell, records, tears down. The one place that brings cluster, load and probes
//! together. Prints nothing: an [`Observer`] hears what happens.

mod audit;
mod cell;
mod environment;
mod figures;
mod live;
mod verdict;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::watch;

pub use figures::CellHeadline;
pub use live::LiveSecond;

use crate::clock::{self, Stamp};
use crate::cluster::{Binaries, BinariesError, Cluster, ClusterConfig, ClusterError};
use crate::load::{LoadError, workload};
use crate::pg::{ConnectError, Failure};
use crate::plan::{Cell, Plan};
use crate::probe::ProbeError;
use crate::record::{Manifest, NodeInfo, Recorder, RunStatus, SCHEMA_VERSION, WriteError};
use crate::sample::{CellRow, EventRow};
use crate::topology::{Mode, Topology};
use crate::units::format_duration;
use cell::Bench;

/// Connections to each node beyond the load's: probes, audits, administration, and one for a person with psql.
const SPARE_CONNECTIONS: u16 = 20;
/// Where the servers keep their data when nobody says otherwise, inside the directory of results.
const DATA: &str = ".data";
/// The most reasons that a manifest carries; the cells' rows have them all.
const MOST_REASONS: usize = 50;

/// Where and with what to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// The directory that run directories go into.
    pub results: PathBuf,
    /// The servers' data; `None`: beside the results.
    pub data_dir: Option<PathBuf>,
    pub pg_bindir: Option<PathBuf>,
    /// The replbench executable, which keeps the servers.
    pub launcher: PathBuf,
    pub argv: Vec<String>,
    pub tags: BTreeMap<String, String>,
}

/// A run that could not begin, or was cut short.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Binaries(#[from] BinariesError),
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("cannot reset the tables: {0}")]
    Reset(Failure),
    #[error("the tables were not reset within {} s; lower --scale", .0.as_secs())]
    ResetTooSlow(Duration),
    #[error("the nodes did not checkpoint within {} s; is the disk busy with something else?", .0.as_secs())]
    CheckpointTooSlow(Duration),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Probe(#[from] ProbeError),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error("stopped by a signal")]
    Stopped,
}

/// Tells a run that a person wants it to end: 1 drains and keeps everything, 2 does not wait for the drain.
#[derive(Debug, Clone)]
pub struct Interrupt {
    level: watch::Receiver<u8>,
}

impl Interrupt {
    /// The sender counts signals.
    pub fn new() -> (watch::Sender<u8>, Self) {
        let (sender, level) = watch::channel(0);
        (sender, Self { level })
    }

    fn level(&self) -> u8 {
        *self.level.borrow()
    }

    /// Resolves when the level rises; never again when nobody can raise it any more.
    async fn raised(&mut self) -> u8 {
        if self.level.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        *self.level.borrow_and_update()
    }
}

/// What happens in a run, for whoever shows it.
#[derive(Debug)]
pub enum Progress<'a> {
    /// The run directory exists.
    Recording {
        directory: &'a std::path::Path,
    },
    Provisioning(Topology),
    Provisioned {
        topology: Topology,
        took: Duration,
    },
    CellBegins {
        cell: &'a Cell,
        mode: &'a Mode,
        of: usize,
    },
    Second(&'a LiveSecond),
    CellEnds {
        row: &'a CellRow,
        headline: CellHeadline,
    },
    Stopping,
    /// Something a person should know at once.
    Note(String),
}

/// Hears of progress.
pub trait Observer {
    fn on(&mut self, progress: Progress<'_>);
}

/// A run that has a directory: all of it or what was measured until it was cut short.
#[derive(Debug)]
pub struct Finished {
    /// Still under its temporary name: the report is to be drawn, then [`crate::record::seal`] renames it.
    pub directory: PathBuf,
    pub manifest: Manifest,
    /// Why it was cut short.
    pub error: Option<RunError>,
}

/// Runs a plan. An error means that nothing was measured; later ones are in [`Finished`].
pub async fn run(
    plan: &Plan,
    options: &Options,
    observer: &mut dyn Observer,
    mut interrupt: Interrupt,
) -> Result<Finished, RunError> {
    let binaries = Binaries::find(options.pg_bindir.as_deref())?;
    let data_dir = options
        .data_dir
        .clone()
        .unwrap_or_else(|| options.results.join(DATA));
    let mut recorder = Recorder::create(&options.results, manifest(plan, options))?;
    observer.on(Progress::Recording {
        directory: recorder.directory(),
    });
    let mut conductor = Conductor {
        plan,
        options,
        binaries,
        data_dir: data_dir.join(recorder.manifest().run_id.clone()),
        started: clock::now(),
        clusters: Vec::new(),
    };
    let outcome = conductor
        .conduct(&mut recorder, observer, &mut interrupt)
        .await;
    observer.on(Progress::Stopping);
    let stopped = conductor.stop().await;
    let error = outcome.err().or(stopped.err());
    Ok(finish(recorder, interrupt.level() > 0, error))
}

struct Conductor<'a> {
    plan: &'a Plan,
    options: &'a Options,
    binaries: Binaries,
    data_dir: PathBuf,
    started: Stamp,
    clusters: Vec<Cluster>,
}

impl Conductor<'_> {
    async fn conduct(
        &mut self,
        recorder: &mut Recorder,
        observer: &mut dyn Observer,
        interrupt: &mut Interrupt,
    ) -> Result<(), RunError> {
        let topologies = self.plan.topologies();
        for (index, topology) in topologies.iter().enumerate() {
            observer.on(Progress::Provisioning(*topology));
            let begun = clock::now();
            tokio::select! {
                started = Cluster::start(self.config(index, *topology)) => self.clusters.push(started?),
                _ = interrupt.raised() => return Ok(()),
            }
            let took = clock::now().since(begun);
            self.describe_nodes(*topology, recorder).await?;
            self.event(
                recorder,
                "provisioned",
                &format!("{topology} in {}", format_duration(took)),
            )?;
            observer.on(Progress::Provisioned {
                topology: *topology,
                took,
            });
        }
        for cell in &self.plan.cells {
            if interrupt.level() > 0 {
                break;
            }
            self.run_cell(cell, &topologies, recorder, observer, interrupt)
                .await?;
        }
        Ok(())
    }

    async fn run_cell(
        &self,
        cell: &Cell,
        topologies: &[Topology],
        recorder: &mut Recorder,
        observer: &mut dyn Observer,
        interrupt: &mut Interrupt,
    ) -> Result<(), RunError> {
        let mode = &self.plan.modes[cell.mode];
        let cluster = topologies
            .iter()
            .position(|topology| *topology == mode.topology)
            .and_then(|index| self.clusters.get(index))
            .expect("every mode's topology was provisioned");
        observer.on(Progress::CellBegins {
            cell,
            mode,
            of: self.plan.cells.len(),
        });
        let bench = Bench {
            plan: self.plan,
            cell,
            mode,
            cluster,
            recorder,
            observer,
            interrupt,
        };
        let ended = bench.run().await?;
        if !ended.verdict.is_valid() {
            let reasons = ended.verdict.invalid.iter();
            let reasons: Vec<_> = reasons
                .map(|reason| format!("cell {} ({} {}): {reason}", cell.id, mode.name, cell.rep))
                .collect();
            recorder.amend(|manifest| {
                manifest.invalid_reasons.extend(reasons);
                manifest.invalid_reasons.truncate(MOST_REASONS);
            })?;
        }
        observer.on(Progress::CellEnds {
            row: &ended.row,
            headline: ended.headline,
        });
        Ok(())
    }

    fn config(&self, index: usize, topology: Topology) -> ClusterConfig {
        let directory = self.data_dir.join(format!("cluster-{}", index + 1));
        ClusterConfig {
            settings: self.plan.settings.clone(),
            max_connections: self.plan.load.connections + SPARE_CONNECTIONS,
            launcher: self.options.launcher.clone(),
            schema: workload::schema(self.plan),
            publish: self.plan.tables.iter().map(workload::qualified).collect(),
            ..ClusterConfig::new(topology, self.binaries.clone(), directory)
        }
    }

    /// Writes who serves into the manifest, with what it could only learn now.
    async fn describe_nodes(
        &self,
        topology: Topology,
        recorder: &mut Recorder,
    ) -> Result<(), RunError> {
        let cluster = self.clusters.last().expect("one was started just now");
        let mut nodes = Vec::new();
        for node in cluster.nodes() {
            let found = cluster.settings(&node.node.name).await?;
            nodes.push(NodeInfo {
                cluster: topology.to_string(),
                name: node.node.name.clone(),
                role: node.node.role.to_string(),
                version: found.version,
                settings: found.settings,
            });
        }
        let host = environment::host(cluster.directory());
        recorder.amend(|manifest| {
            manifest.nodes.extend(nodes);
            if matches!(host.filesystem.as_str(), "tmpfs" | "ramfs") && manifest.warnings.is_empty() {
                manifest.warnings.push(format!(
                    "the servers' data lay on {}: flushing to disk cost nothing there; name a directory on a disk with --data-dir",
                    host.filesystem
                ));
            }
            manifest.host = host;
        })?;
        Ok(())
    }

    fn event(&self, recorder: &mut Recorder, kind: &str, detail: &str) -> Result<(), WriteError> {
        recorder.event(&EventRow {
            cell_id: None,
            t_us: clock::now().signed_since(self.started) / 1_000,
            node: None,
            kind: kind.into(),
            sqlstate: None,
            count: None,
            detail: detail.into(),
        })
    }

    /// Stops all clusters, also when one of them resists.
    async fn stop(self) -> Result<(), RunError> {
        let mut first = Ok(());
        for cluster in self.clusters {
            let stopped = cluster.stop().await;
            if first.is_ok() {
                first = stopped;
            }
        }
        // Empty unless a failed start is kept in it.
        let _ = std::fs::remove_dir(&self.data_dir);
        if self.options.data_dir.is_none() {
            let _ = std::fs::remove_dir(self.options.results.join(DATA));
        }
        Ok(first?)
    }
}

fn manifest(plan: &Plan, options: &Options) -> Manifest {
    let now = clock::wall();
    let subject = environment::subject(options.tags.clone());
    let mut run_id = format!("{}-{}", now.strftime("%Y%m%dT%H%M%SZ"), plan.profile);
    if let Some(git) = &subject.git {
        let (commit, suffix) = git
            .split_once('-')
            .map_or((git.as_str(), ""), |(commit, _)| (commit, "-dirty"));
        run_id = format!("{run_id}-{}{suffix}", &commit[..commit.len().min(7)]);
    }
    Manifest {
        schema_version: SCHEMA_VERSION,
        run_id,
        status: RunStatus::Running,
        invalid_reasons: Vec::new(),
        warnings: Vec::new(),
        started_at: format!("{now:.3}"),
        ended_at: None,
        argv: options.argv.clone(),
        profile: serde_json::to_value(plan).unwrap_or_default(),
        workload_hash: plan.workload_hash(),
        seed: plan.seed,
        harness: environment::harness(),
        subject,
        session: None,
        host: environment::host(&options.results),
        nodes: Vec::new(),
        files: BTreeMap::new(),
    }
}

fn finish(mut recorder: Recorder, interrupted: bool, error: Option<RunError>) -> Finished {
    recorder.release_reserve();
    let amended = recorder.amend(|manifest| {
        manifest.ended_at = Some(format!("{:.3}", clock::wall()));
        manifest.status = match (&error, interrupted) {
            (Some(error), false) => {
                manifest.invalid_reasons.insert(0, error.to_string());
                RunStatus::Failed
            }
            (_, true) => RunStatus::Interrupted,
            (None, false) if !manifest.invalid_reasons.is_empty() => RunStatus::Invalid,
            (None, false) => RunStatus::Complete,
        };
    });
    let manifest = recorder.manifest().clone();
    let directory = recorder.directory().to_owned();
    // A disk that is full cannot take the rows that are still held either; the first error is the one to tell.
    let closed = amended.and(recorder.close().map(drop));
    let error = match (error, closed) {
        (Some(error), _) => Some(error),
        (None, Err(error)) => Some(error.into()),
        (None, Ok(())) => None,
    };
    Finished {
        directory,
        manifest,
        error,
    }
}
