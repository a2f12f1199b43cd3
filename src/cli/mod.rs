//! Arguments and exit codes; one file per subcommand. The only layer that prints.
mod ab;
mod bless;
mod check;
mod clean;
mod cluster;
mod compare;
mod git;
mod health;
mod keeper;
mod library;
mod list;
mod overrides;
mod place;
mod progress;
mod publish;
mod report;
mod run;
mod servers;
mod show;
mod signals;
mod status;
mod trend;
mod what_replicates;

use std::fmt::Display;
use std::io::{ErrorKind, Write as _};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{CommandFactory as _, Parser, Subcommand};
use itertools::Itertools as _;

use crate::plan::PlanError;
use crate::profile::ProfileError;
use crate::report::escape_control;

/// The width of printed text in columns, whatever the width of the terminal.
const WIDTH: usize = 80;

/// The exit codes of replbench.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    Fine = 0,
    /// A regression, a failed gate, a failed audit, or servers with a warning.
    Regression = 1,
    /// Wrong arguments or a wrong profile.
    Usage = 2,
    /// A server refused or could not be reached, or none is installed.
    Server = 3,
    /// The run was cut short; what was measured is kept.
    Incomplete = 4,
    /// The run is complete, but its figures are not reliable.
    Invalid = 5,
    /// Results could not be written or read.
    Results = 6,
    /// The runs are not comparable, or the comparison is inconclusive with `--strict`.
    NotComparable = 7,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// An error to print, and the exit code that goes with it.
#[derive(Debug)]
pub struct Stop {
    pub exit: Exit,
    pub error: anyhow::Error,
}

impl Stop {
    pub fn new(exit: Exit, error: impl Into<anyhow::Error>) -> Self {
        Self {
            exit,
            error: error.into(),
        }
    }

    /// An error in the arguments.
    fn usage(error: impl Into<anyhow::Error>) -> Self {
        Self::new(Exit::Usage, error)
    }
}

impl From<ProfileError> for Stop {
    fn from(error: ProfileError) -> Self {
        Self::usage(error)
    }
}

impl From<PlanError> for Stop {
    fn from(error: PlanError) -> Self {
        Self::usage(error)
    }
}

/// Attaches an exit code to an error whose type does not determine it.
trait OrExit<T> {
    fn or_exit(self, exit: Exit) -> Result<T, Stop>;
}

impl<T, E: Into<anyhow::Error>> OrExit<T> for Result<T, E> {
    fn or_exit(self, exit: Exit) -> Result<T, Stop> {
        self.map_err(|error| Stop::new(exit, error))
    }
}

/// Load generator and replication-lag benchmark for PostgreSQL.
#[derive(Debug, Parser)]
#[command(version, about, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::RunArgs),
    Ab(ab::AbArgs),
    Aa(ab::AaArgs),
    /// Rebuild the report, charts and summary of a run from its files
    Report(report::ReportArguments),
    Compare(compare::CompareArgs),
    Publish(publish::PublishArgs),
    Trend(trend::TrendArgs),
    Bless(bless::BlessArgs),
    List(list::ListArgs),
    Show(show::ShowArgs),
    Rm(show::RmArgs),
    Check(check::CheckArgs),
    /// Keep a replicating cluster for playing with.
    Cluster(cluster::Arguments),
    Status(status::StatusArgs),
    /// Remove servers and directories that a killed replbench has left.
    Clean(clean::Arguments),
    #[command(name = "__keeper", hide = true)]
    Keeper(keeper::KeeperArguments),
    #[command(name = "__supervise", hide = true)]
    Supervise(keeper::SuperviseArguments),
    #[command(name = "__exec", hide = true)]
    Exec(keeper::ExecArguments),
}

/// The definition of the command line, for tools and tests that check commands without running them.
pub fn command() -> clap::Command {
    Arguments::command()
}

/// Parses the arguments, runs the subcommand, and prints its error if there is one.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are not errors, and neither is a closed pipe while they are printed.
            let _ = error.print();
            let exit = if error.use_stderr() {
                Exit::Usage
            } else {
                Exit::Fine
            };
            return exit.into();
        }
    };
    let outcome: Result<Exit, Stop> = match arguments.command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Ab(arguments) => ab::ab(&arguments),
        Command::Aa(arguments) => ab::aa(&arguments),
        Command::Report(arguments) => report::report(&arguments),
        Command::Compare(arguments) => compare::compare(&arguments),
        Command::Trend(arguments) => trend::trend(&arguments),
        Command::Bless(arguments) => bless::bless(&arguments),
        Command::Show(arguments) => show::show(&arguments),
        Command::Rm(arguments) => show::rm(&arguments),
        Command::Publish(arguments) => publish::publish(&arguments),
        Command::List(arguments) => list::list(&arguments),
        Command::Check(arguments) => check::check(&arguments),
        Command::Cluster(arguments) => cluster::run(&arguments),
        Command::Status(arguments) => status::run(&arguments),
        Command::Clean(arguments) => clean::run(&arguments),
        Command::Keeper(arguments) => return keeper::keeper(arguments),
        Command::Supervise(arguments) => return keeper::supervisor(arguments),
        Command::Exec(arguments) => return keeper::become_program(arguments),
    };
    match outcome {
        Ok(exit) => exit.into(),
        Err(stop) => {
            // The mistakes of a profile have their own layout.
            match stop.error.downcast_ref::<ProfileError>() {
                Some(error) => tell(error.styled()),
                // Escaped, because the error may contain text from a file or a server.
                None => tell(escape_lines(&format!("error: {:#}", stop.error))),
            }
            stop.exit.into()
        }
    }
}

/// Prints a line for people, on standard error. If the write fails, because of a closed pipe or a full disk, the run goes on with the
/// same exit code; `eprintln!` would panic.
fn tell(text: impl Display) {
    let _ = writeln!(anstream::stderr().lock(), "{text}");
}

/// Prints a warning about the outcome of a command or about something that was assumed.
fn warn(text: &str) {
    tell(format!("warning: {}", escape_control(text)));
}

fn note(text: &str) {
    tell(format!("note: {}", escape_control(text)));
}

/// Prints a line on standard output; a failed write is ignored, because the command goes on whether or not anybody reads the line.
fn say(line: &str) {
    let _ = print(&format!("{line}\n"));
}

/// Escapes control characters line by line, so that the lines of a server's log stay separate lines.
fn escape_lines(text: &str) -> String {
    text.lines().map(escape_control).join("\n")
}

/// Prints to standard output. A pipe that its reader has closed (`| head`) is not an error.
fn print(text: &str) -> Result<(), Stop> {
    let mut out = anstream::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error)
            .context("write to standard output")
            .or_exit(Exit::Results),
        _ => Ok(()),
    }
}
