//! Hidden subcommands: the processes that replbench starts itself as. See `cluster::keeper`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::{Exit, tell};
use crate::cluster::keeper::{ExecOrder, KeeperOrder, exec, keep, supervise};

#[derive(Debug, Args)]
pub(super) struct KeeperArguments {
    #[arg(long)]
    directory: PathBuf,
    #[arg(long)]
    log: PathBuf,
    #[command(flatten)]
    program: Program,
}

#[derive(Debug, Args)]
pub(super) struct ExecArguments {
    #[arg(long)]
    parent: u32,
    #[command(flatten)]
    program: Program,
}

#[derive(Debug, Args)]
pub(super) struct SuperviseArguments {
    #[arg(last = true, required = true)]
    line: Vec<OsString>,
}

#[derive(Debug, Args)]
struct Program {
    #[arg(long, requires = "gid")]
    uid: Option<u32>,
    #[arg(long, requires = "uid")]
    gid: Option<u32>,
    #[arg(last = true, required = true)]
    line: Vec<OsString>,
}

impl Program {
    fn split(self) -> (Option<(u32, u32)>, OsString, Vec<OsString>) {
        let mut line = self.line.into_iter();
        let program = line.next().unwrap_or_default();
        (self.uid.zip(self.gid), program, line.collect())
    }
}

pub(super) fn keeper(arguments: KeeperArguments) -> ExitCode {
    let (account, program, line) = arguments.program.split();
    let order = KeeperOrder {
        directory: arguments.directory,
        log: arguments.log,
        account,
        program,
        arguments: line,
    };
    match keep(&order) {
        Ok(code) => code.into(),
        Err(error) => {
            // Into the server's log, which stderr is.
            tell(format!("replbench: the keeper failed: {error}"));
            Exit::Server.into()
        }
    }
}

pub(super) fn supervisor(arguments: SuperviseArguments) -> ExitCode {
    let mut line = arguments.line.into_iter();
    let program = line.next().unwrap_or_default();
    match supervise(program, line.collect()) {
        Ok(code) => code.into(),
        Err(error) => {
            // Into the command's log, which stderr is.
            tell(format!("replbench: the supervisor failed: {error}"));
            Exit::Server.into()
        }
    }
}

pub(super) fn become_program(arguments: ExecArguments) -> ExitCode {
    let (account, program, line) = arguments.program.split();
    let order = ExecOrder {
        account,
        parent: arguments.parent,
        program,
        arguments: line,
    };
    let error = exec(&order);
    tell(format!(
        "replbench: cannot run `{}`: {error}",
        order.program.to_string_lossy()
    ));
    Exit::Server.into()
}
