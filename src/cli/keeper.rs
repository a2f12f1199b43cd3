//! Hidden subcommands, with which replbench starts itself as a helper process. See `cluster::keeper`.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::{Exit, tell};
use crate::cluster::keeper::{ExecOrder, KeeperOrder, Program, exec, keep, supervise};

#[derive(Debug, Args)]
pub(super) struct KeeperArguments {
    #[arg(long)]
    directory: PathBuf,
    #[arg(long)]
    log: PathBuf,
    #[command(flatten)]
    program: ProgramArguments,
}

#[derive(Debug, Args)]
pub(super) struct ExecArguments {
    #[arg(long)]
    parent: u32,
    #[command(flatten)]
    program: ProgramArguments,
}

#[derive(Debug, Args)]
pub(super) struct SuperviseArguments {
    #[arg(last = true, required = true)]
    line: Vec<OsString>,
}

#[derive(Debug, Args)]
struct ProgramArguments {
    #[arg(long, requires = "gid")]
    uid: Option<u32>,
    #[arg(long, requires = "uid")]
    gid: Option<u32>,
    #[arg(last = true, required = true)]
    line: Vec<OsString>,
}

impl ProgramArguments {
    fn program(self) -> Program {
        program(self.line, self.uid.zip(self.gid))
    }
}

fn program(line: Vec<OsString>, account: Option<(u32, u32)>) -> Program {
    let mut line = line.into_iter();
    Program {
        account,
        path: line.next().unwrap_or_default(),
        arguments: line.collect(),
    }
}

pub(super) fn keeper(arguments: KeeperArguments) -> ExitCode {
    let order = KeeperOrder {
        directory: arguments.directory,
        log: arguments.log,
        program: arguments.program.program(),
    };
    exit("keeper", keep(&order))
}

pub(super) fn supervisor(arguments: SuperviseArguments) -> ExitCode {
    let program = program(arguments.line, None);
    exit("supervisor", supervise(&program))
}

/// Exits with the child's exit code. An error goes to standard error, which is the child's log.
fn exit(what: &str, ended: io::Result<u8>) -> ExitCode {
    match ended {
        Ok(code) => code.into(),
        Err(error) => {
            tell(format!("replbench: the {what} failed: {error}"));
            Exit::Server.into()
        }
    }
}

pub(super) fn become_program(arguments: ExecArguments) -> ExitCode {
    let order = ExecOrder {
        parent: arguments.parent,
        program: arguments.program.program(),
    };
    let error = exec(&order);
    tell(format!(
        "replbench: cannot run `{}`: {error}",
        order.program.path.to_string_lossy()
    ));
    Exit::Server.into()
}
