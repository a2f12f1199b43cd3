//! Command lines of the processes that replbench starts from its own executable: a keeper, and what becomes a server.

use std::ffi::OsString;
use std::path::PathBuf;

/// What a keeper is started with.
#[derive(Debug, Clone)]
pub struct KeeperOrder {
    /// The cluster's directory: locked while the keeper lives, removed by the last one if it is to be discarded.
    pub directory: PathBuf,
    pub log: PathBuf,
    pub account: Option<(u32, u32)>,
    pub program: OsString,
    pub arguments: Vec<OsString>,
}

impl KeeperOrder {
    pub(super) fn to_arguments(&self) -> Vec<OsString> {
        let mut line: Vec<OsString> = vec!["__keeper".into(), "--directory".into()];
        line.push(self.directory.clone().into());
        line.push("--log".into());
        line.push(self.log.clone().into());
        push_program(&mut line, self.account, &self.program, &self.arguments);
        line
    }
}

/// What the small process is started with that becomes a server or an initdb.
#[derive(Debug, Clone)]
pub struct ExecOrder {
    /// User and group to become first.
    pub account: Option<(u32, u32)>,
    /// The process that must still be the parent.
    pub parent: u32,
    pub program: OsString,
    pub arguments: Vec<OsString>,
}

impl ExecOrder {
    /// With which replbench becomes the program.
    pub fn to_arguments(&self) -> Vec<OsString> {
        let mut line: Vec<OsString> = vec!["__exec".into(), "--parent".into()];
        line.push(self.parent.to_string().into());
        push_program(&mut line, self.account, &self.program, &self.arguments);
        line
    }
}

fn push_program(
    line: &mut Vec<OsString>,
    account: Option<(u32, u32)>,
    program: &OsString,
    arguments: &[OsString],
) {
    if let Some((uid, gid)) = account {
        line.extend(["--uid".into(), uid.to_string().into()]);
        line.extend(["--gid".into(), gid.to_string().into()]);
    }
    line.push("--".into());
    line.push(program.clone());
    line.extend(arguments.iter().cloned());
}
