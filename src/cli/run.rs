//! `replbench run`: from a profile to a run directory with its report.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::list::reindex;
use super::overrides::OverrideArgs;
use super::progress::{Terminal, Verbosity};
use super::report::{draw, verdict};
use super::{Exit, Stop, print};
use crate::plan::{self, Plan};
use crate::profile::Profile;
use crate::record;
use crate::run::{self, Finished, Interrupt, Options, RunError};

/// Run a profile on a cluster made for it, and write the results with a report.
#[derive(Debug, Args)]
#[command(after_help = "\
Ctrl-C ends the run early and keeps what was measured; a second one does not wait for the last answers.
Exit codes: 0 fine, 1 a gate failed, 2 usage or profile, 3 no server, 4 cut short, 5 invalid, 6 results not written.")]
pub(super) struct RunArgs {
    /// A built-in profile (see `replbench list`) or the path of a TOML file
    profile: String,

    #[command(flatten)]
    overrides: OverrideArgs,

    /// Where run directories go
    #[arg(long, value_name = "DIR", default_value = "results")]
    results: PathBuf,

    /// Where the servers keep their data while the run lasts; by default beside the results
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,

    /// Directory of PostgreSQL's programs
    #[arg(long, value_name = "DIR")]
    pg_bindir: Option<PathBuf>,

    /// A word to find the run by, kept in its manifest
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = parse_tag)]
    tags: Vec<(String, String)>,

    /// Leave out the visibility probe, to see what it costs
    #[arg(long)]
    no_visibility: bool,

    /// Print what would be done, and stop
    #[arg(long)]
    dry_run: bool,

    /// Print the results alone
    #[arg(short, long)]
    quiet: bool,
}

fn parse_tag(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.into(), value.into())),
        _ => Err("a tag is written KEY=VALUE".into()),
    }
}

pub(super) fn run(arguments: &RunArgs) -> Result<Exit, Stop> {
    let plan = resolve(arguments)?;
    if arguments.dry_run {
        print(&plan.describe())?;
        return Ok(Exit::Fine);
    }
    let verbosity = if arguments.quiet {
        Verbosity::Quiet
    } else {
        Verbosity::Normal
    };
    let options = options(arguments)?;
    let mut terminal = Terminal::new(&plan, verbosity);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")
        .map_err(|error| Stop::new(Exit::Incomplete, error))?;
    let finished = runtime.block_on(async {
        let (raise, interrupt) = Interrupt::new();
        let listening = tokio::spawn(listen(raise));
        let finished = run::run(&plan, &options, &mut terminal, interrupt).await;
        listening.abort();
        finished
    });
    terminal.clear();
    conclude(finished.map_err(|error| Stop::new(exit_of(&error), error))?)
}

fn resolve(arguments: &RunArgs) -> Result<Plan, Stop> {
    let profile =
        Profile::load(&arguments.profile).map_err(|error| Stop::new(Exit::Usage, error))?;
    let mut overrides = arguments.overrides.to_overrides();
    overrides.no_visibility = arguments.no_visibility;
    plan::resolve(&profile, &overrides).map_err(|error| Stop::new(Exit::Usage, error))
}

fn options(arguments: &RunArgs) -> Result<Options, Stop> {
    let launcher = std::env::current_exe()
        .context("find replbench's own executable")
        .map_err(|error| Stop::new(Exit::Server, error))?;
    Ok(Options {
        results: arguments.results.clone(),
        data_dir: arguments.data_dir.clone(),
        pg_bindir: arguments.pg_bindir.clone(),
        launcher,
        argv: std::env::args().collect(),
        tags: arguments.tags.iter().cloned().collect::<BTreeMap<_, _>>(),
    })
}

/// Counts the signals by which a person or a service manager asks for the end.
async fn listen(raise: watch::Sender<u8>) -> std::io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    loop {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
        raise.send_modify(|level| *level = level.saturating_add(1));
    }
}

/// Draws the report, gives the directory its name, and says what was found.
fn conclude(finished: Finished) -> Result<Exit, Stop> {
    let results = |error: anyhow::Error| Stop::new(Exit::Results, error);
    let Finished {
        directory,
        manifest,
        error,
    } = finished;
    let drawn = draw(&directory);
    let sealed = record::seal(&directory, manifest.clone());
    let directory = sealed.as_ref().unwrap_or(&directory).clone();
    if let Ok(drawn) = &drawn {
        print(&drawn.text)?;
    }
    print(&format!("\nresults: {}\n", directory.display()))?;
    if drawn.is_ok() {
        let report = directory.join(record::files::REPORT);
        print(&format!("report:  {}\n", report.display()))?;
    }
    if let Some(error) = error {
        let exit = match exit_of(&error) {
            Exit::Results => Exit::Results,
            _ => Exit::Incomplete,
        };
        let error =
            anyhow::Error::new(error).context("the run was cut short; what was measured is kept");
        return Err(Stop::new(exit, error));
    }
    let gates = drawn?.gates;
    sealed
        .context("finish the run directory")
        .map_err(results)?;
    if let Some(results) = directory.parent() {
        reindex(results)?;
    }
    Ok(verdict(manifest.status, gates))
}

fn exit_of(error: &RunError) -> Exit {
    match error {
        RunError::Write(_) => Exit::Results,
        RunError::Stopped => Exit::Incomplete,
        _ => Exit::Server,
    }
}
