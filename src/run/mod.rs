//! Conducts a run: provisions servers, measures cell by cell, records, tears down. The only module that brings cluster, load and probes
//! together. Prints nothing: an [`Observer`] is told what happens.

mod audit;
mod cell;
mod cell_audit;
mod cell_row;
mod conductor;
mod disk;
mod environment;
mod faults;
mod figures;
mod lag_evidence;
mod live;
mod maintenance;
mod opening;
mod outages;
mod restores;
mod session;
mod statements;
mod validity;
mod watchdog;
mod what_replicates;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

pub use figures::CellHeadline;
pub use live::LiveSecond;
pub use session::{SideRun, session};
pub use statements::statements;
pub use what_replicates::{Seen, Side, what_replicates};

use crate::clock;
use crate::cluster::{Binaries, BinariesError, ClusterError, ComposeFile, Servers};
use crate::load::LoadError;
use crate::load::check::Mistake;
use crate::mode::Mode;
use crate::pg::{ConnectError, Failure};
use crate::plan::{Cell, Plan, ServersMade, Turn};
use crate::probe::ProbeError;
use crate::record::{Manifest, WriteError};
use crate::sample::CellRow;
use crate::topology::Topology;
use conductor::{Conductor, Cut, Origin};

/// Where a run writes, which programs or servers it uses, and what it records about itself.
#[derive(Debug, Clone)]
pub struct Options {
    /// The directory that run directories go into.
    pub results: PathBuf,
    /// The directory for the servers' data; `None` for a directory inside `results`.
    pub data_dir: Option<PathBuf>,
    pub pg_bindir: Option<PathBuf>,
    /// Servers to measure; `None` to make a cluster for the run.
    pub given: Option<GivenServers>,
    pub argv: Vec<String>,
    pub tags: BTreeMap<String, String>,
    /// The commit of the program that is benchmarked; `None` to take the current directory's.
    pub subject: Option<String>,
}

/// Servers that replbench does not make itself.
#[derive(Debug, Clone)]
pub enum GivenServers {
    Existing(Arc<Servers>),
    Compose {
        file: Arc<ComposeFile>,
        /// Whether the servers stay after the run.
        is_kept: bool,
    },
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
    /// Mistakes in the workload that the server refused, before anything was measured.
    #[error("the server refuses the workload\n{}", list(.0))]
    Workload(Vec<Mistake>),
    #[error("cannot ask the server about the workload: {0}")]
    Check(Failure),
    #[error("the primary did not answer within {} s whether it takes the workload", .0.as_secs())]
    CheckTooSlow(Duration),
    #[error("cannot reset the tables: {0}")]
    Reset(Failure),
    #[error("the tables were not reset within {} s; lower --scale", .0.as_secs())]
    ResetTooSlow(Duration),
    #[error("the nodes did not checkpoint within {} s; is the disk busy with something else?", .0.as_secs())]
    CheckpointTooSlow(Duration),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("cannot start the watchdog's thread: {0}")]
    Watchdog(#[source] io::Error),
    #[error(transparent)]
    Probe(#[from] ProbeError),
    #[error("cannot write down the acknowledged commits: {0}; is the disk full?")]
    Ledger(#[source] io::Error),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error("stopped by a signal")]
    Stopped,
}

fn list(mistakes: &[Mistake]) -> String {
    let mistakes: Vec<_> = mistakes.iter().map(Mistake::to_string).collect();
    mistakes.join("\n")
}

/// How a person asks a run to end. Level 1 drains and keeps everything, level 2 does not wait for the drain; 0 if nobody has asked.
#[derive(Debug, Clone)]
pub struct Interrupt {
    level: watch::Receiver<u8>,
}

impl Interrupt {
    /// An interrupt, and the sender of its level: the number of signals so far.
    pub fn new() -> (watch::Sender<u8>, Self) {
        let (sender, level) = watch::channel(0);
        (sender, Self { level })
    }

    pub fn level(&self) -> u8 {
        *self.level.borrow()
    }

    /// Resolves when the level rises. Never resolves if nobody can raise the level any more.
    pub async fn raised(&mut self) -> u8 {
        if self.level.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        *self.level.borrow_and_update()
    }
}

/// What happens in a run, as an [`Observer`] is told.
#[derive(Debug)]
pub enum Progress<'a> {
    /// The run directory exists.
    Recording {
        directory: &'a std::path::Path,
    },
    /// A turn of a session begins: what follows belongs to its side and block.
    Turn(Turn),
    Provisioning(&'a Topology),
    Provisioned {
        topology: &'a Topology,
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

/// Is told of a run's progress.
pub trait Observer {
    fn on(&mut self, progress: Progress<'_>);
}

/// The caller of a run: whom to tell of progress, and how to learn that the run is to end.
struct Caller<'a> {
    observer: &'a mut dyn Observer,
    interrupt: Interrupt,
}

impl Caller<'_> {
    fn tell(&mut self, progress: Progress<'_>) {
        self.observer.on(progress);
    }

    fn wants_the_end(&self) -> bool {
        self.interrupt.level() > 0
    }
}

/// A run that has a directory: complete, or with what was measured until the run was cut short.
#[derive(Debug)]
pub struct Finished {
    /// The run directory, still under its temporary name. Once the report has been drawn, [`crate::record::seal`] renames the directory.
    pub directory: PathBuf,
    pub manifest: Manifest,
    /// The error that cut the run short, if one did.
    pub error: Option<RunError>,
}

/// Runs a plan. An error means that nothing was measured; later errors are in [`Finished`].
pub async fn run(
    plan: &Plan,
    options: &Options,
    observer: &mut dyn Observer,
    interrupt: Interrupt,
) -> Result<Finished, RunError> {
    let mut caller = Caller {
        observer,
        interrupt,
    };
    let origin = match &options.given {
        Some(given) => Origin::Given(given),
        None => Origin::Made(Binaries::find(options.pg_bindir.as_deref())?),
    };
    let manifest = opening::manifest(clock::wall(), plan, options, None);
    let mut conductor = Conductor::open(plan, options, origin, manifest)?;
    caller.tell(Progress::Recording {
        directory: conductor.directory(),
    });
    let outcome = conduct(plan, &mut conductor, &mut caller).await;
    caller.tell(Progress::Stopping);
    let stopped = conductor.stop().await;
    let error = outcome.err().or(stopped.err());
    match error {
        Some(error @ RunError::Workload(_)) if !conductor.has_begun() => {
            conductor.discard();
            Err(error)
        }
        error => Ok(conductor.close(&caller, error.map_or(Cut::Not, Cut::Error))),
    }
}

async fn conduct(
    plan: &Plan,
    conductor: &mut Conductor<'_>,
    caller: &mut Caller<'_>,
) -> Result<(), RunError> {
    conductor.measure_disk().await?;
    match plan.servers_made() {
        ServersMade::EveryBlock => {
            for block in 1..=plan.repeats {
                if caller.wants_the_end() {
                    break;
                }
                conductor.run_block(block, caller).await?;
            }
            return Ok(());
        }
        ServersMade::EveryCell | ServersMade::ComposeEveryCell => {}
        ServersMade::Once | ServersMade::Never | ServersMade::Compose => {
            conductor.provision(caller).await?;
        }
    }
    conductor.run_cells(plan.cells.iter(), caller).await
}
