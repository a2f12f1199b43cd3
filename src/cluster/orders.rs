//! Command lines of the processes that replbench starts from its own executable: keepers, and processes that then execute a server or
//! another program.

use std::ffi::OsString;
use std::path::PathBuf;

/// The arguments of a keeper.
#[derive(Debug, Clone)]
pub struct KeeperOrder {
    /// The cluster's directory. Locked while the keeper lives; removed by the last process that uses it, if it is marked for discarding.
    pub directory: PathBuf,
    pub log: PathBuf,
    pub program: Program,
}

impl KeeperOrder {
    pub(super) fn to_arguments(&self) -> Vec<OsString> {
        let mut line: Vec<OsString> = vec!["__keeper".into(), "--directory".into()];
        line.push(self.directory.clone().into());
        line.push("--log".into());
        line.push(self.log.clone().into());
        self.program.push_to(&mut line);
        line
    }
}

/// The arguments of the process that then executes a server or another program.
#[derive(Debug, Clone)]
pub struct ExecOrder {
    /// The id of the process that must still be the parent.
    pub parent: u32,
    pub program: Program,
}

impl ExecOrder {
    /// An order for a child of this process.
    pub(super) fn of(program: Program) -> Self {
        Self {
            parent: std::process::id(),
            program,
        }
    }

    /// The arguments with which replbench executes the program in its place.
    pub fn to_arguments(&self) -> Vec<OsString> {
        let mut line: Vec<OsString> = vec!["__exec".into(), "--parent".into()];
        line.push(self.parent.to_string().into());
        self.program.push_to(&mut line);
        line
    }
}

/// A program to run, and the user to run it as.
#[derive(Debug, Clone)]
pub struct Program {
    /// User id and group id to change to first; `None` to keep the current user.
    pub account: Option<(u32, u32)>,
    pub path: OsString,
    pub arguments: Vec<OsString>,
}

impl Program {
    fn push_to(&self, line: &mut Vec<OsString>) {
        if let Some((uid, gid)) = self.account {
            line.extend(["--uid".into(), uid.to_string().into()]);
            line.extend(["--gid".into(), gid.to_string().into()]);
        }
        line.push("--".into());
        line.push(self.path.clone());
        line.extend(self.arguments.iter().cloned());
    }
}
