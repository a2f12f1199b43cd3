//! One run directory and the servers that its cells need: makes the servers, runs cells on them, removes them. `run` does that once, a
//! session once per turn. Knows nothing of turns.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::cell::CellContext;
use super::{
    Caller, Finished, GivenServers, Interrupt, Options, Progress, RunError, disk, environment,
};
use crate::clock::{self, Stamp};
use crate::cluster::{
    Binaries, Cluster, ClusterConfig, ClusterError, RunningNode, Wanted, create_reachable,
};
use crate::load::check::{Mistake, check};
use crate::pg;
use crate::plan::{Cell, Plan, Table};
use crate::record::{Host, Manifest, NodeInfo, Recorder, RunStatus, WriteError};
use crate::sample::{EventKind, EventRow};
use crate::topology::Topology;
use crate::units::format_duration;

/// The directory inside the results in which the servers keep their data, unless the caller names another.
const DATA: &str = ".data";
/// Time-out for asking the server about the workload.
const CHECK: Duration = Duration::from_secs(10);
/// The most reasons that a manifest lists. The rows of the cells have all of them.
const MOST_REASONS: usize = 50;

pub(super) struct Conductor<'a> {
    plan: &'a Plan,
    options: &'a Options,
    origin: Origin<'a>,
    recorder: Recorder,
    data_dir: PathBuf,
    started: Stamp,
    /// The running clusters, in the order of the plan's topologies.
    clusters: Vec<(Topology, Cluster)>,
    /// How many clusters have been begun. It numbers their directories, so that none is used twice: the keepers of the last cluster may
    /// not have left theirs yet.
    made: usize,
    /// Discarded cells that have been begun.
    discarded: u32,
    /// Whether any cell has been begun.
    has_begun: bool,
    /// Cells that ended before a person asked for the end of the run.
    whole: usize,
}

/// Where the servers come from.
#[derive(Debug)]
pub(super) enum Origin<'a> {
    /// The run makes the servers, from these programs.
    Made(Binaries),
    /// The caller names the servers.
    Given(&'a GivenServers),
}

/// Why a run ends before its plan does. A person's wish is not one of the reasons here.
#[derive(Debug, Default)]
pub(super) enum Cut {
    #[default]
    Not,
    /// An error of this run.
    Error(RunError),
    /// Another cause, as a sentence. A run that had already measured all its cells is not affected.
    Other(String),
}

impl<'a> Conductor<'a> {
    /// Makes the run directory, but no server yet.
    pub(super) fn open(
        plan: &'a Plan,
        options: &'a Options,
        origin: Origin<'a>,
        manifest: Manifest,
    ) -> Result<Self, WriteError> {
        if options.data_dir.is_none() {
            // If the directory cannot be made, the recorder reports that.
            let _ = create_reachable(&options.results);
        }
        let recorder = Recorder::create(&options.results, manifest)?;
        let data_dir = match &options.data_dir {
            Some(directory) => directory.clone(),
            None => options.results.join(DATA),
        };
        Ok(Self {
            plan,
            options,
            origin,
            data_dir: data_dir.join(&recorder.manifest().run_id),
            recorder,
            started: clock::now(),
            clusters: Vec::new(),
            made: 0,
            discarded: 0,
            has_begun: false,
            whole: 0,
        })
    }

    pub(super) fn directory(&self) -> &Path {
        self.recorder.directory()
    }

    /// Whether the run directory may contain measurements.
    pub(super) fn has_begun(&self) -> bool {
        self.has_begun
    }

    pub(super) fn run_id(&self) -> &str {
        &self.recorder.manifest().run_id
    }

    pub(super) fn amend(&mut self, change: impl FnOnce(&mut Manifest)) -> Result<(), WriteError> {
        self.recorder.amend(change)
    }

    /// Measures the disk under the servers' data, while no server uses it.
    pub(super) async fn measure_disk(&mut self) -> Result<(), RunError> {
        if !matches!(self.origin, Origin::Made(_)) {
            return Ok(());
        }
        let data_dir = self.data_dir.clone();
        let measure = move || disk::fdatasync(&disk::existing(&data_dir)?);
        let measured = tokio::task::spawn_blocking(measure).await;
        match measured {
            Ok(Ok(found)) => self.recorder.amend(|it| it.host.fdatasync = Some(found))?,
            Ok(Err(error)) => self.recorder.amend(|it| {
                let warning = format!("fdatasync could not be measured: {error}");
                it.warnings.push(warning);
            })?,
            Err(_runtime_ends) => {}
        }
        Ok(())
    }

    /// Makes a cluster for each topology of the plan, and runs a discarded cell on each. Returns early without an error when a person asks
    /// for the end.
    pub(super) async fn provision(&mut self, caller: &mut Caller<'_>) -> Result<(), RunError> {
        self.make(&self.plan.topologies(), caller).await?;
        self.run_discarded(caller).await
    }

    async fn make(
        &mut self,
        topologies: &[&Topology],
        caller: &mut Caller<'_>,
    ) -> Result<(), RunError> {
        for topology in topologies {
            caller.tell(Progress::Provisioning(topology));
            let begun = clock::now();
            self.made += 1;
            let started = self.start(topology, &mut caller.interrupt).await;
            let started = started.map_err(|error| self.schema_refused(error))?;
            let Some(cluster) = started else {
                return Ok(());
            };
            self.clusters.push(((*topology).clone(), cluster));
            self.check_workload().await?;
            let took = clock::now().since(begun);
            if let Some(project) = self.last().kept_project() {
                caller.tell(Progress::Note(format!(
                    "the servers stay: `replbench cluster down --compose {project}` removes them"
                )));
            }
            self.describe_nodes(topology).await?;
            let t_us = clock::now().signed_since(self.started) / 1_000;
            let detail = format!("{topology} in {}", format_duration(took));
            let event = EventRow::new(None, t_us, EventKind::Provisioned, detail);
            self.recorder.event(&event)?;
            caller.tell(Progress::Provisioned { topology, took });
        }
        Ok(())
    }

    /// The cluster that was started last.
    fn last(&self) -> &Cluster {
        &self.clusters.last().expect("one was started").1
    }

    /// Starts a cluster; `None` if a person asked for the end.
    async fn start(
        &self,
        topology: &Topology,
        interrupt: &mut Interrupt,
    ) -> Result<Option<Cluster>, ClusterError> {
        let cancelled = async {
            interrupt.raised().await;
        };
        let (schema, published) = (self.schema(), self.published());
        let wanted = Wanted {
            schema: &schema,
            publish: &published,
            connections: self.plan.load.connections,
        };
        match &self.origin {
            Origin::Made(binaries) => {
                Cluster::start_unless(self.config(topology, binaries), cancelled).await
            }
            Origin::Given(GivenServers::Existing(servers)) => {
                // Attaching is not cancelled: it ends within its deadlines and leaves nothing half made.
                Cluster::attach(servers, wanted).await.map(Some)
            }
            Origin::Given(GivenServers::Compose { file, is_kept }) => {
                Cluster::compose(file, wanted, *is_kept, cancelled).await
            }
        }
    }

    fn schema(&self) -> Vec<String> {
        self.plan.tables.iter().map(|it| it.ddl.clone()).collect()
    }

    fn published(&self) -> Vec<String> {
        self.plan.tables.iter().map(Table::qualified).collect()
    }

    /// Turns a refused schema into a mistake in the workload: the DDL of one table.
    fn schema_refused(&self, error: ClusterError) -> RunError {
        match error {
            ClusterError::Schema { index, failure } => {
                let mistake = Mistake::of_ddl(&self.plan.tables[index], &failure);
                RunError::Workload(vec![mistake])
            }
            other => other.into(),
        }
    }

    /// Asks the primary that was started last whether it takes the workload.
    async fn check_workload(&self) -> Result<(), RunError> {
        let cluster = self.last();
        let endpoint = &cluster.primary().endpoint;
        let asked = async {
            let session = pg::connect(endpoint, "replbench check", None, CHECK).await?;
            let mistakes = check(session.client(), self.plan).await;
            session.close().await;
            mistakes.map_err(RunError::Check)
        };
        let mistakes = tokio::time::timeout(CHECK, asked).await;
        let mistakes = mistakes.map_err(|_| RunError::CheckTooSlow(CHECK))??;
        if mistakes.is_empty() {
            Ok(())
        } else {
            Err(RunError::Workload(mistakes))
        }
    }

    /// Runs one discarded cell on each new cluster, so that the first cell that counts is like the others.
    async fn run_discarded(&mut self, caller: &mut Caller<'_>) -> Result<(), RunError> {
        for topology in self.plan.topologies() {
            if caller.wants_the_end() {
                break;
            }
            self.discarded += 1;
            let (plan, cell) = self.plan.discarded(topology, self.discarded);
            self.run_cell(&plan, &cell, caller).await?;
        }
        Ok(())
    }

    /// Runs one block on servers of its own: makes the servers, runs the block's cells, removes the servers.
    pub(super) async fn run_block(
        &mut self,
        block: u32,
        caller: &mut Caller<'_>,
    ) -> Result<(), RunError> {
        if !self.plan.changes_primary() {
            self.provision(caller).await?;
        }
        self.run_cells(self.plan.block(block), caller).await?;
        caller.tell(Progress::Stopping);
        self.stop().await
    }

    /// Runs cells until all have run or a person asks for the end. They run on the clusters of [`Conductor::provision`]; in a plan that
    /// changes the primary, each cell has servers of its own.
    pub(super) async fn run_cells(
        &mut self,
        cells: impl Iterator<Item = &Cell>,
        caller: &mut Caller<'_>,
    ) -> Result<(), RunError> {
        for cell in cells {
            if caller.wants_the_end() {
                break;
            }
            if self.plan.changes_primary() {
                Box::pin(self.run_alone(cell, caller)).await?;
            } else {
                self.run_cell(self.plan, cell, caller).await?;
            }
            self.whole += usize::from(!caller.wants_the_end());
        }
        Ok(())
    }

    /// Runs a cell on servers that are made for this cell alone.
    async fn run_alone(&mut self, cell: &Cell, caller: &mut Caller<'_>) -> Result<(), RunError> {
        let topology = &self.plan.modes[cell.mode].topology;
        self.make(&[topology], caller).await?;
        if !caller.wants_the_end() {
            self.run_cell(self.plan, cell, caller).await?;
        }
        self.stop().await
    }

    async fn run_cell(
        &mut self,
        plan: &Plan,
        cell: &Cell,
        caller: &mut Caller<'_>,
    ) -> Result<(), RunError> {
        self.has_begun = true;
        let mode = &self.plan.modes[cell.mode];
        let fitting = self.clusters.iter().find(|it| it.0 == mode.topology);
        let (_, cluster) = fitting.expect("every mode's topology was provisioned");
        caller.tell(Progress::CellBegins {
            cell,
            mode,
            of: self.plan.cells.len(),
        });
        let context = CellContext {
            plan,
            cell,
            mode,
            cluster,
            recorder: &mut self.recorder,
            observer: &mut *caller.observer,
            interrupt: &mut caller.interrupt,
        };
        // On the heap, because this future is most of what a waiting run or session holds in memory.
        let ended = Box::pin(context.run()).await?;
        if !ended.validity.is_valid() && !cell.is_discarded() {
            let reasons = ended.validity.invalid.iter();
            let reasons: Vec<_> = reasons
                .map(|reason| format!("cell {} ({} {}): {reason}", cell.id, mode.name, cell.rep))
                .collect();
            self.recorder.amend(|manifest| {
                manifest.invalid_reasons.extend(reasons);
                manifest.invalid_reasons.truncate(MOST_REASONS);
            })?;
        }
        caller.tell(Progress::CellEnds {
            row: &ended.row,
            headline: ended.headline,
        });
        Ok(())
    }

    fn config(&self, topology: &Topology, binaries: &Binaries) -> ClusterConfig {
        let directory = self.data_dir.join(format!("cluster-{}", self.made));
        ClusterConfig {
            wal_level: self.plan.wal_level,
            settings: self.plan.settings.clone(),
            max_connections: self.plan.client_connections(),
            // `.data` and the run's directory in it; in a data directory that the caller named, only the run's directory.
            own_parents: if self.options.data_dir.is_none() {
                2
            } else {
                1
            },
            schema: self.schema(),
            publish: self.published(),
            has_links: self.plan.has_network_faults(),
            ..ClusterConfig::new(topology.clone(), binaries.clone(), directory)
        }
    }

    /// Writes the nodes into the manifest, and what could be learned about the host only now. For a topology that was made before, adds
    /// only warnings about what has changed.
    async fn describe_nodes(&mut self, topology: &Topology) -> Result<(), RunError> {
        let cluster = self.last();
        let mut nodes = Vec::new();
        for node in cluster.nodes() {
            let found = cluster.settings(&node.node.name).await?;
            nodes.push(NodeInfo {
                cluster: topology.to_string(),
                name: node.node.name.clone(),
                role: node.node.role.to_string(),
                version: found.version,
                reached: reached(&self.origin, node),
                settings: found.settings,
            });
        }
        let known = &self.recorder.manifest().nodes;
        if known.iter().any(|node| node.cluster == nodes[0].cluster) {
            let warnings = changes(known, &nodes);
            if !warnings.is_empty() {
                self.recorder.amend(|manifest| {
                    for warning in warnings {
                        manifest.warn(warning);
                    }
                })?;
            }
            return Ok(());
        }
        let host = environment::host(cluster.directory());
        self.recorder.amend(|manifest| {
            manifest.nodes.extend(nodes);
            if matches!(host.filesystem.as_str(), "tmpfs" | "ramfs") {
                manifest.warn(format!(
                    "the servers' data lay on {}: flushing to disk cost nothing there; name a directory on a disk with --data-dir",
                    host.filesystem
                ));
            }
            manifest.host = Host {
                fdatasync: manifest.host.fdatasync,
                ..host
            };
        })?;
        Ok(())
    }

    /// Stops all clusters, even if stopping one of them fails. Returns the first error.
    pub(super) async fn stop(&mut self) -> Result<(), RunError> {
        let mut first = Ok(());
        for (_, cluster) in std::mem::take(&mut self.clusters) {
            let stopped = cluster.stop().await;
            if first.is_ok() {
                first = stopped;
            }
        }
        Ok(first?)
    }

    /// Ends the record. The clusters must have been stopped before.
    pub(super) fn close(mut self, caller: &Caller<'_>, cut: Cut) -> Finished {
        self.recorder.release_reserve();
        let is_whole = self.whole == self.plan.cells.len();
        let interrupted = caller.wants_the_end() && !is_whole;
        let (error, reason) = match cut {
            Cut::Not => (None, None),
            Cut::Other(_) if is_whole => (None, None),
            Cut::Error(error) => {
                let reason = error.to_string();
                (Some(error), Some(reason))
            }
            Cut::Other(reason) => (None, Some(reason)),
        };
        let amended = self.recorder.amend(|manifest| {
            manifest.ended_at = Some(format!("{:.3}", clock::wall()));
            manifest.status = match (reason, interrupted) {
                (Some(reason), false) => {
                    manifest.invalid_reasons.insert(0, reason);
                    RunStatus::Failed
                }
                (_, true) => RunStatus::Interrupted,
                (None, false) if !manifest.invalid_reasons.is_empty() => RunStatus::Invalid,
                (None, false) => RunStatus::Complete,
            };
        });
        let manifest = self.recorder.manifest().clone();
        let directory = self.recorder.directory().to_owned();
        // A full disk cannot take the rows that are still held either, so the first error is the one to report.
        let closed = amended.and(self.recorder.close().map(drop));
        Finished {
            directory,
            manifest,
            error: error.or(closed.err().map(RunError::from)),
        }
    }

    /// Removes a run directory in which nothing was measured, because the run cannot begin.
    pub(super) fn discard(self) {
        let directory = self.recorder.directory().to_owned();
        // This error is dropped: the reason why the run cannot begin matters more.
        let _ = std::fs::remove_dir_all(directory);
    }
}

/// How a node of a compose project is reached; `None` for other servers.
fn reached(origin: &Origin<'_>, node: &RunningNode) -> Option<String> {
    let place = node.endpoint.place();
    matches!(origin, Origin::Given(GivenServers::Compose { .. }))
        .then(|| format!("a port that Docker publishes at {place}"))
}

/// What differs between the nodes of a topology and the nodes of the same topology that were made before. For example, initdb looks at the
/// free memory, and chooses less when there is little.
fn changes(known: &[NodeInfo], nodes: &[NodeInfo]) -> Vec<String> {
    let mut found = Vec::new();
    for node in nodes {
        let is_same = |other: &&NodeInfo| other.cluster == node.cluster && other.name == node.name;
        let Some(before) = known.iter().find(is_same) else {
            continue;
        };
        let mut differing = Vec::new();
        if before.version != node.version {
            differing.push(format!(
                "it was version {} and later {}",
                before.version, node.version
            ));
        }
        let names: BTreeSet<_> = before.settings.keys().chain(node.settings.keys()).collect();
        for name in names {
            let value = |node: &NodeInfo| {
                let value = node.settings.get(name).map(String::as_str);
                value.unwrap_or("the default").to_owned()
            };
            let (was, is) = (value(before), value(node));
            if was != is {
                differing.push(format!("{name} was {was} and later {is}"));
            }
        }
        let told = |what| format!("`{}` was not made alike in every block: {what}", node.name);
        found.extend(differing.into_iter().map(told));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, settings: &[(&str, &str)]) -> NodeInfo {
        let settings = settings.iter();
        NodeInfo {
            cluster: "1 primary, 1 standby".into(),
            name: name.into(),
            role: "primary".into(),
            version: "15.8".into(),
            reached: None,
            settings: settings
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        }
    }

    #[test]
    fn servers_made_again_alike_are_nothing_to_warn_of() {
        let nodes = [node("primary", &[("fsync", "on")]), node("s1", &[])];
        assert_eq!(changes(&nodes, &nodes), Vec::<String>::new());
    }

    #[test]
    fn a_setting_that_came_out_differently_is_named_with_both_values() {
        let before = [node("primary", &[("shared_buffers", "128MB")])];
        let after = [node(
            "primary",
            &[("shared_buffers", "64MB"), ("max_connections", "90")],
        )];
        assert_eq!(
            changes(&before, &after),
            [
                "`primary` was not made alike in every block: max_connections was the default and later 90",
                "`primary` was not made alike in every block: shared_buffers was 128MB and later 64MB",
            ]
        );
    }
}
