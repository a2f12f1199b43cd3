//! Errors between a topology and running servers. Each names its subject, the value and a remedy.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::pg::{ConnectError, Failure, LocateError};

/// A cluster that could not be started, changed or stopped.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    #[error(transparent)]
    Binaries(#[from] BinariesError),
    #[error("directory `{path}` {problem}; {remedy}", path = .path.display())]
    Directory {
        path: PathBuf,
        problem: String,
        remedy: String,
    },
    /// The requested cluster is impossible: the reason, and what to ask for instead.
    #[error("{0}")]
    Unfit(String),
    #[error("no {wanted} free ports between {first} and {last} on 127.0.0.1; end some listeners, or see `replbench clean`", first = .range.0, last = .range.1)]
    Ports { wanted: usize, range: (u16, u16) },
    #[error("{action} `{path}`: {cause}", path = .path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        /// Not a `source`, because the message already includes the cause and printing the error chain would repeat it.
        cause: io::Error,
    },
    /// A short command such as initdb failed or took too long.
    #[error("{program} for `{node}` {outcome}{log}")]
    Command {
        program: String,
        node: String,
        outcome: String,
        log: LogTail,
    },
    /// A server ended without having been asked to.
    #[error("the server of `{node}` {outcome}{log}")]
    Ended {
        node: String,
        outcome: String,
        log: LogTail,
    },
    /// A wait reached its deadline.
    #[error("`{node}` did not {awaited} within {seconds} s{log}", seconds = .deadline.as_secs_f64())]
    Late {
        node: String,
        awaited: String,
        deadline: Duration,
        log: LogTail,
    },
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("{action} on `{node}`: {failure}")]
    Query {
        node: String,
        action: &'static str,
        failure: Failure,
    },
    /// A statement of the schema failed. `index` counts its entries from 0: the caller that gave the schema knows what each entry is.
    #[error("entry {} of the schema: {failure}", .index + 1)]
    Schema { index: usize, failure: Failure },
    #[error("these servers cannot {action}: replbench did not start them itself")]
    NotOwn { action: &'static str },
    #[error(transparent)]
    Existing(#[from] ExistingError),
    #[error(transparent)]
    Compose(#[from] ComposeError),
    #[error("no standby streams from the primary, so that none can take its place; ask for one")]
    NoCandidate,
    /// Any other error during a start. What was built so far is kept so that it can be examined.
    #[error("{cause}\n(what was built is kept in `{directory}`; `replbench clean` removes it)", directory = .directory.display())]
    Start {
        directory: PathBuf,
        cause: Box<Self>,
    },
}

impl ClusterError {
    /// Makes an error from an I/O error on a path.
    pub(super) fn io(action: &'static str, path: &Path) -> impl Fn(io::Error) -> Self {
        move |cause| Self::Io {
            action,
            path: path.to_owned(),
            cause,
        }
    }
}

/// Existing servers cannot be used for a measurement.
#[derive(Debug, thiserror::Error)]
pub enum ExistingError {
    #[error(transparent)]
    Locate(#[from] LocateError),
    #[error("cannot {action} on `{node}`: {failure}")]
    Query {
        node: String,
        action: &'static str,
        failure: Failure,
    },
    /// What is wrong with the servers, and what to do about it.
    #[error("{0}")]
    Unfit(String),
}

/// A compose cluster could not be started, found, changed or removed.
#[derive(Debug, thiserror::Error)]
pub enum ComposeError {
    #[error(
        "there is no program `docker` on the PATH, and a compose cluster needs Docker Engine with compose; install them, or name servers that run with --primary"
    )]
    NoDocker,
    #[error(
        "the Docker engine does not answer; start it, or see DOCKER_HOST and who may use its socket:\n{0}"
    )]
    NoEngine(String),
    #[error("neither `docker compose` nor `docker-compose` runs; install Docker's compose plugin")]
    NoCompose,
    #[error("`{file}` {problem}; {remedy}", file = .file.display())]
    File {
        file: PathBuf,
        problem: String,
        remedy: String,
    },
    #[error("no container is of project `{0}`; `docker ps` lists what there is")]
    NoProject(String),
    #[error("`{command}` failed: {outcome}")]
    Command { command: String, outcome: String },
    #[error("`{node}` {problem}{tail}", tail = tail(.log))]
    Node {
        node: String,
        problem: String,
        /// The last lines of the container's log; empty if there are none.
        log: String,
    },
}

impl ComposeError {
    /// An error about a node, without its container's log.
    pub(super) fn node(node: &str, problem: impl Into<String>) -> Self {
        Self::Node {
            node: node.to_owned(),
            problem: problem.into(),
            log: String::new(),
        }
    }
}

fn tail(log: &str) -> String {
    if log.is_empty() {
        String::new()
    } else {
        format!("; the end of its container's log:\n{log}")
    }
}

/// No usable PostgreSQL installation was found.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BinariesError {
    #[error("no PostgreSQL server binaries found (looked at {searched}); install them with `{install}`, or name their directory with --pg-bindir", searched = .searched.join(", "), install = install_command())]
    NotFound { searched: Vec<String> },
    #[error("`{directory}` has no usable `{program}`: {problem}; --pg-bindir takes the directory that holds initdb, postgres and pg_basebackup", directory = .directory.display())]
    Incomplete {
        directory: PathBuf,
        program: &'static str,
        problem: String,
    },
    #[error("PostgreSQL {version} in `{directory}` is too old: replbench needs {oldest} or newer; name another with --pg-bindir", directory = .directory.display())]
    TooOld {
        directory: PathBuf,
        version: String,
        oldest: i32,
    },
}

/// The command that installs a PostgreSQL server with this machine's package manager.
fn install_command() -> &'static str {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let has = |program: &str| std::env::split_paths(&path).any(|dir| dir.join(program).is_file());
    for (manager, command) in [
        ("apt-get", "sudo apt-get install postgresql"),
        ("dnf", "sudo dnf install postgresql-server"),
        ("pacman", "sudo pacman -S postgresql"),
        ("apk", "sudo apk add postgresql"),
        ("zypper", "sudo zypper install postgresql-server"),
        ("brew", "brew install postgresql"),
    ] {
        if has(manager) {
            return command;
        }
    }
    "sudo apt-get install postgresql"
}

/// The last lines of a log, and the path of the whole log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogTail {
    pub path: PathBuf,
    pub text: String,
}

impl LogTail {
    const LINES: usize = 12;
    const BYTES: u64 = 8 * 1024;

    /// Reads the end of the file; an unreadable log is an empty tail.
    pub fn read(path: &Path) -> Self {
        use std::io::{Read as _, Seek as _, SeekFrom};

        let mut bytes = Vec::new();
        if let Ok(mut file) = std::fs::File::open(path) {
            let length = file.metadata().map_or(0, |metadata| metadata.len());
            let start = length.saturating_sub(Self::BYTES);
            if file.seek(SeekFrom::Start(start)).is_ok() {
                // A read error leaves a shorter text. The path still names the whole log.
                let _ = file.take(Self::BYTES).read_to_end(&mut bytes);
            }
        }
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<_> = text.lines().filter(|line| !line.is_empty()).collect();
        Self {
            path: path.to_owned(),
            text: lines[lines.len().saturating_sub(Self::LINES)..].join("\n"),
        }
    }
}

impl std::fmt::Display for LogTail {
    /// Names the log only if the file still exists: removing a cluster also removes its logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let is_there = self.path.exists();
        let path = self.path.display();
        match (self.text.is_empty(), is_there) {
            (true, true) => return write!(f, " (its log: {path})"),
            (true, false) => return Ok(()),
            (false, true) => write!(f, "; the end of its log {path}:")?,
            (false, false) => f.write_str("; the end of its log:")?,
        }
        for line in self.text.lines() {
            write!(f, "\n    {line}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_named_only_while_it_is_there() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("server.log");
        std::fs::write(&path, "one\n\ntwo\n").unwrap();
        let tail = LogTail::read(&path);
        let named = format!("; the end of its log {}:\n    one\n    two", path.display());
        assert_eq!(tail.to_string(), named);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(tail.to_string(), "; the end of its log:\n    one\n    two");
        assert_eq!(LogTail::read(&path).to_string(), "");
    }

    #[test]
    fn nothing_found_names_the_install_command() {
        let error = BinariesError::NotFound {
            searched: vec!["PATH".into()],
        };
        assert!(error.to_string().contains("install"), "{error}");
    }
}
