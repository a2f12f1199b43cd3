//! Arguments and exit codes; one file per subcommand. The only layer that prints.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is the layer that prints"
)]

mod report;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// What the process says to its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    Fine = 0,
    /// A regression, or a gate failed.
    Regression = 1,
    /// Wrong arguments or a wrong profile.
    Usage = 2,
    /// A server refused or could not be reached, or none is installed.
    Server = 3,
    /// The run was cut short; what was measured is kept.
    Incomplete = 4,
    /// The run is complete and not to be relied on.
    Invalid = 5,
    /// Results could not be written or read.
    Results = 6,
    /// Not comparable, or inconclusive with `--strict`.
    NotComparable = 7,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// An error on its way to the terminal, with the exit code that belongs to it.
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
    /// Rebuild the report, charts and summary of a run from its files
    Report(report::ReportArguments),
}

/// Parses the arguments, runs the subcommand, prints its error if it has one.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are no errors, and a closed pipe behind them is none either.
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
        Command::Report(arguments) => report::report(&arguments),
    };
    match outcome {
        Ok(exit) => exit.into(),
        Err(stop) => {
            eprintln!("error: {:#}", stop.error);
            stop.exit.into()
        }
    }
}
