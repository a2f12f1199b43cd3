//! `replbench run`: from a profile to a run directory with its report.

use std::path::PathBuf;

use anyhow::{Context as _, anyhow};
use clap::Args;

use super::list::reindex;
use super::overrides::OverrideArgs;
use super::place::PlaceArgs;
use super::progress::Terminal;
use super::report::{Drawn, Gates, draw, verdict};
use super::servers::{ServerArgs, without_passwords};
use super::signals::interruptible;
use super::{Exit, OrExit as _, Stop, print, what_replicates};
use crate::plan::{self, Overrides};
use crate::profile::Profile;
use crate::record::{self, OnMismatch, RunStatus, WriteError};
use crate::report::escape_control;
use crate::run::{self, Finished, GivenServers, RunError};

/// Run a profile on a cluster made for it, and write the results with a report.
#[derive(Debug, Args)]
#[command(after_help = "\
Ctrl-C ends the run early and keeps what was measured; a second one does not wait for the last answers.
Exit codes: 0 fine, 1 a gate failed or a fault broke a promise, 2 usage or profile, 3 no server, 4 cut short, 5 invalid, 6 results not written.")]
pub(super) struct RunArgs {
    /// A built-in profile (see `replbench list`) or the path of a TOML file; `what-replicates` makes changes of all kinds instead, and tells
    /// which arrive on a standby and on a subscriber
    profile: String,

    #[command(flatten)]
    overrides: OverrideArgs,

    /// Leave out the visibility probe, to see what it costs
    #[arg(long)]
    no_visibility: bool,

    #[command(flatten)]
    servers: ServerArgs,

    #[command(flatten)]
    place: PlaceArgs,
}

pub(super) fn run(arguments: &RunArgs) -> Result<Exit, Stop> {
    if arguments.profile == what_replicates::NAME {
        return make_all_changes(arguments);
    }
    let profile = Profile::load(&arguments.profile)?;
    let mut overrides = arguments.overrides.to_overrides();
    overrides.no_visibility = arguments.no_visibility;
    let given = arguments.servers.given(&mut overrides)?;
    let plan = plan::resolve(&profile, &overrides)?;
    if arguments.place.dry_run {
        print(&plan.describe())?;
        if let Some(GivenServers::Existing(servers)) = &given {
            print(&run::statements(&plan, servers))?;
        }
        return Ok(Exit::Fine);
    }
    let mut options = arguments.place.options();
    options.argv = without_passwords(&options.argv);
    options.given = given;
    let mut terminal = Terminal::new(&[&plan], plan.estimate(), arguments.place.verbosity());
    terminal.announce();
    let finished =
        interruptible(async |interrupt| run::run(&plan, &options, &mut terminal, interrupt).await);
    terminal.clear();
    conclude(finished?)
}

/// Runs `what-replicates`, which measures nothing and therefore refuses all options of a measurement.
fn make_all_changes(arguments: &RunArgs) -> Result<Exit, Stop> {
    let asked = Overrides {
        drawn_seed: Overrides::default().drawn_seed,
        ..arguments.overrides.to_overrides()
    };
    if asked != Overrides::default() || arguments.no_visibility || arguments.place.dry_run {
        return Err(Stop::usage(anyhow!(
            "`{}` measures nothing: of the options it takes --results, --data-dir and --pg-bindir",
            what_replicates::NAME
        )));
    }
    let options = arguments.place.options();
    let (version, seen) = interruptible(async |_| run::what_replicates(&options).await)?;
    what_replicates::show(&version, &seen)
}

/// Writes the report, gives the run directory its final name, and prints what was found.
fn conclude(finished: Finished) -> Result<Exit, Stop> {
    let warnings = finished.manifest.warnings.clone();
    let stored = StoredRun::from(finished);
    if let Ok(drawn) = &stored.drawn {
        print(&drawn.text)?;
    }
    for warning in warnings {
        print(&format!("\nnote: {}\n", escape_control(&warning)))?;
    }
    if stored.directory.exists() {
        print(&format!("\nresults: {}\n", stored.directory.display()))?;
    }
    if stored.drawn.is_ok() {
        let report = stored.directory.join(record::files::REPORT);
        print(&format!("report:  {}\n", report.display()))?;
    }
    stored.exit()
}

/// A run directory after the run. Writing the report and renaming the directory may each have failed.
pub(super) struct StoredRun {
    pub(super) directory: PathBuf,
    pub(super) drawn: Result<Drawn, Stop>,
    renamed: Result<(), WriteError>,
    status: RunStatus,
    /// Whether at least one second was measured, in a session on either side.
    pub(super) has_measured: bool,
    error: Option<RunError>,
}

impl From<Finished> for StoredRun {
    fn from(finished: Finished) -> Self {
        let drawn = draw(&finished.directory, OnMismatch::LeaveOut);
        let seconds = std::fs::metadata(finished.directory.join(record::files::INTERVALS));
        let has_measured = seconds.is_ok_and(|file| file.len() > 0);
        let status = finished.manifest.status;
        let (directory, renamed) = match record::seal(&finished.directory, finished.manifest) {
            Ok(directory) => (directory, Ok(())),
            Err(error) => (finished.directory, Err(error)),
        };
        Self {
            directory,
            drawn,
            renamed,
            status,
            has_measured,
            error: finished.error,
        }
    }
}

impl StoredRun {
    pub(super) fn has_failed_gate(&self) -> bool {
        let drawn = self.drawn.as_ref();
        drawn.is_ok_and(|drawn| drawn.gates == Gates::Failed)
    }

    /// The exit code for the run.
    pub(super) fn exit(self) -> Result<Exit, Stop> {
        if let Some(error) = self.error {
            const CUT_SHORT: &str = "the run was cut short; what was measured is kept";
            let (exit, what) = match (exit_of(&error), self.has_measured) {
                _ if !self.directory.exists() => (
                    Exit::Results,
                    "the run was cut short, and its directory is gone with what was in it",
                ),
                (exit @ (Exit::Server | Exit::Usage | Exit::Results), false) => {
                    (exit, "nothing was measured")
                }
                (Exit::Results, true) => (Exit::Results, CUT_SHORT),
                _ => (Exit::Incomplete, CUT_SHORT),
            };
            return Err(Stop::new(exit, anyhow::Error::new(error).context(what)));
        }
        let gates = self.drawn?.gates;
        self.renamed
            .context("finish the run directory")
            .or_exit(Exit::Results)?;
        if let Some(results) = self.directory.parent() {
            reindex(results)?;
        }
        Ok(verdict(self.status, gates))
    }
}

impl From<RunError> for Stop {
    fn from(error: RunError) -> Self {
        Self::new(exit_of(&error), error)
    }
}

/// The exit code for a run that could not begin.
fn exit_of(error: &RunError) -> Exit {
    match error {
        RunError::Write(_) | RunError::Ledger(_) => Exit::Results,
        RunError::Stopped => Exit::Incomplete,
        RunError::Workload(_) => Exit::Usage,
        RunError::Cluster(error) => super::cluster::exit_of(error),
        _ => Exit::Server,
    }
}
