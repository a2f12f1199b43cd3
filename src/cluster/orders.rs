//! Command lines of the processes that replbench starts from its own executable: a keeper, and what becomes a server.

use std::ffi::OsString;
use std::path::PathBuf;

/// What a keeper is started with.
#[derive(Debug, Clone)]
pub struct KeeperOrder {
    /// The cluster's directory: locked while the keeper lives, removed by the last one if it is to be discarded.
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

/// What the small process is started with that becomes a server or an initdb.
#[derive(Debug, Clone)]
pub struct ExecOrder {
    /// The process that must still be the parent.
    pub parent: u32,
    pub program: Program,
}

impl ExecOrder {
    /// For a child of this process.
    pub(super) fn of(program: Program) -> Self {
        Self {
            parent: std::process::id(),
            program,
        }
    }

    /// With which replbench becomes the program.
    pub fn to_arguments(&self) -> Vec<OsString> {
        let mut line: Vec<OsString> = vec!["__exec".into(), "--parent".into()];
        line.push(self.parent.to_string().into());
        self.program.push_to(&mut line);
        line
    }
}

/// What is run, and as whom.
#[derive(Debug, Clone)]
pub struct Program {
    /// User and group to become first.
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
