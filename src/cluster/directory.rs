//! A cluster's directory: what lies where, who uses it at the moment, and how it goes away.
//!
//! The marker file says "replbench made this" and who did, and carries a lock: replbench and every keeper share it, so a
//! directory whose lock is free has nobody, and only then may it be removed.

use std::fs::{File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use serde::{Deserialize, Serialize};

use super::account::Account;
use super::error::ClusterError;
use super::tree::ProcessId;
use crate::clock;

const MARKER: &str = ".replbench-cluster";
const DISCARD: &str = ".discard";

/// Paths within a cluster's directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    root: PathBuf,
}

impl Layout {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn node(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    pub(super) fn data(&self, name: &str) -> PathBuf {
        self.root.join(name).join("data")
    }

    pub(super) fn log(&self, name: &str) -> PathBuf {
        self.root.join(name).join("server.log")
    }

    /// The one file with the password, apart from initdb's, which is removed right after use.
    pub(super) fn passfile(&self) -> PathBuf {
        self.root.join("pgpass")
    }

    pub(super) fn archive(&self) -> PathBuf {
        self.root.join("archive")
    }

    pub(super) fn state(&self) -> PathBuf {
        self.root.join("cluster.json")
    }
}

/// A share in a directory's use; ends with the process at the latest.
#[derive(Debug)]
pub(super) struct Lease(File);

impl Lease {
    pub(super) fn share(directory: &Path) -> io::Result<Self> {
        let file = File::open(directory.join(MARKER))?;
        flock(&file, FlockOperation::LockShared)?;
        Ok(Self(file))
    }

    pub(super) fn is_held(directory: &Path) -> bool {
        let Ok(file) = File::open(directory.join(MARKER)) else {
            return false;
        };
        flock(&file, FlockOperation::NonBlockingLockExclusive).is_err()
    }

    /// Waits until this share is the last one and removes the directory, unless another does. False when the deadline came
    /// first.
    pub(super) fn discard_within(self, directory: &Path, deadline: Duration) -> io::Result<bool> {
        let removed = clock::block_until(deadline, || {
            if !is_marked(directory) {
                return Some(Ok(()));
            }
            // A failed upgrade loses the share: from then on somebody else may find itself the last.
            let is_last = flock(&self.0, FlockOperation::NonBlockingLockExclusive).is_ok();
            is_last.then(|| remove(directory))
        });
        removed.transpose().map(|removed| removed.is_some())
    }

    /// Gives the share back, and if it was the last one of a directory to be discarded, removes that.
    ///
    /// Of several at once exactly one finds itself the last: a failed upgrade loses the share it had.
    pub(super) fn discard(self, directory: &Path) -> io::Result<()> {
        if directory.join(DISCARD).exists()
            && flock(&self.0, FlockOperation::NonBlockingLockExclusive).is_ok()
        {
            remove(directory)?;
        }
        Ok(())
    }
}

/// A directory of replbench's own without a cluster. When the process that claimed it has died, `clean` removes it.
#[derive(Debug)]
pub struct Claim {
    /// Held until this is dropped, or the process is gone.
    _lease: Lease,
}

impl Claim {
    pub fn on(directory: &Path) -> io::Result<Self> {
        std::fs::write(directory.join(MARKER), Marker::own(0).to_text())?;
        Ok(Self {
            _lease: Lease::share(directory)?,
        })
    }
}

/// What the marker says.
#[derive(Debug, Serialize, Deserialize)]
struct Marker {
    /// The replbench that made the directory.
    owner: ProcessId,
    /// How many directories above were made for this one alone, and go with it when they are empty.
    own_parents: usize,
}

impl Marker {
    fn own(own_parents: usize) -> Self {
        Self {
            owner: ProcessId::of(std::process::id().cast_signed()),
            own_parents,
        }
    }

    fn to_text(&self) -> String {
        // Numbers and a short string cannot fail to be written.
        serde_json::to_string(self).unwrap_or_default() + "\n"
    }

    fn read(directory: &Path) -> Option<Self> {
        let text = std::fs::read_to_string(directory.join(MARKER)).ok()?;
        serde_json::from_str(&text).ok()
    }
}

/// The replbench that made the directory. Unknown if the marker is unreadable.
pub(super) fn owner(directory: &Path) -> Option<ProcessId> {
    Marker::read(directory).map(|marker| marker.owner)
}

/// Whether replbench made this directory for a cluster.
pub(super) fn is_marked(directory: &Path) -> bool {
    directory.join(MARKER).is_file()
}

/// From now on the last one to leave removes the directory.
pub(super) fn mark_for_discarding(directory: &Path) -> io::Result<()> {
    File::create(directory.join(DISCARD)).map(drop)
}

/// The directory stays when the last one leaves.
pub(super) fn unmark_for_discarding(directory: &Path) -> io::Result<()> {
    unless_gone(std::fs::remove_file(directory.join(DISCARD)))
}

/// A removal that finds nothing has what it wanted.
pub(super) fn unless_gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Removes a directory with all that is in it, if it is there. A command that was killed may write a little longer, while its disk is busy.
pub(super) fn remove_all(directory: &Path) -> io::Result<()> {
    let attempt = || unless_gone(std::fs::remove_dir_all(directory));
    let removed = clock::block_until(Duration::from_secs(5), || {
        let removed = attempt();
        let is_written = |error: &io::Error| error.kind() == io::ErrorKind::DirectoryNotEmpty;
        (!removed.as_ref().is_err_and(is_written)).then_some(removed)
    });
    removed.unwrap_or_else(attempt)
}

/// Removes a marked directory and those above that were made for it. The marker goes last, so that what an interrupted
/// removal leaves is still known as replbench's.
pub(super) fn remove(directory: &Path) -> io::Result<()> {
    let own_parents = Marker::read(directory).map_or(0, |marker| marker.own_parents);
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name() == MARKER || entry.file_name() == DISCARD {
            continue;
        }
        if entry.file_type()?.is_dir() {
            remove_all(&entry.path())?;
        } else {
            unless_gone(std::fs::remove_file(entry.path()))?;
        }
    }
    for name in [DISCARD, MARKER] {
        unless_gone(std::fs::remove_file(directory.join(name)))?;
    }
    std::fs::remove_dir(directory)?;
    for parent in directory.ancestors().skip(1).take(own_parents) {
        // Another cluster may be in it.
        if std::fs::remove_dir(parent).is_err() {
            break;
        }
    }
    Ok(())
}

/// Makes a directory that clusters will lie in, and what is missing above it.
pub fn create_reachable(directory: &Path) -> io::Result<()> {
    create_passable(directory, &Account::for_servers()).map(drop)
}

/// Makes the missing ones of a directory and its parents, each so that the servers' user may pass, whatever the umask; those that were
/// made.
fn create_passable<'a>(wanted: &'a Path, account: &Account) -> io::Result<Vec<&'a Path>> {
    let missing = |path: &&Path| !path.as_os_str().is_empty() && path.symlink_metadata().is_err();
    let mut missing: Vec<_> = wanted.ancestors().take_while(missing).collect();
    missing.reverse();
    for path in &missing {
        match std::fs::create_dir(path) {
            Ok(()) if account.drops => {
                let mode = path.metadata()?.permissions().mode();
                std::fs::set_permissions(path, Permissions::from_mode(mode | 0o011))?;
            }
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    Ok(missing)
}

/// Makes the directory and its marker; refuses one that has anything in it.
pub(super) fn create(
    wanted: &Path,
    own_parents: usize,
    account: &Account,
) -> Result<PathBuf, ClusterError> {
    let mut made = Vec::new();
    let path = place(wanted, account, &mut made).inspect_err(|_| {
        // A refusal leaves nothing behind; what is not empty is not only this one's.
        for directory in made.iter().rev() {
            let _ = std::fs::remove_dir(directory);
        }
    })?;
    std::fs::set_permissions(&path, Permissions::from_mode(0o700))
        .map_err(ClusterError::io("restrict", &path))?;
    account.own(&path)?;
    write(
        &path.join(MARKER),
        &Marker::own(own_parents).to_text(),
        account,
    )?;
    Ok(path)
}

/// Makes the directory where the servers' user can reach it; its canonical path, and in `made` what was not there before.
fn place<'a>(
    wanted: &'a Path,
    account: &Account,
    made: &mut Vec<&'a Path>,
) -> Result<PathBuf, ClusterError> {
    let refuse = |problem: String, remedy: &str| ClusterError::Directory {
        path: wanted.to_owned(),
        problem,
        remedy: remedy.to_owned(),
    };
    if wanted.symlink_metadata().is_ok() {
        let occupied = !wanted.is_dir()
            || std::fs::read_dir(wanted)
                .map_err(ClusterError::io("read", wanted))?
                .next()
                .is_some();
        if occupied {
            return Err(refuse(
                "exists and is not an empty directory".into(),
                "name another with --data-dir",
            ));
        }
    } else {
        *made = create_passable(wanted, account)
            .or_else(|error| match error.kind() {
                // Another run has removed an empty parent just now.
                io::ErrorKind::NotFound => create_passable(wanted, account),
                _ => Err(error),
            })
            .map_err(ClusterError::io("create directory", wanted))?;
    }
    let path = wanted
        .canonicalize()
        .map_err(ClusterError::io("resolve", wanted))?;
    if path.to_str().is_none_or(|text| text.contains(['\n', '\r'])) {
        return Err(refuse(
            "has a name that is not UTF-8 or contains a line break".into(),
            "server settings cannot hold that; name another with --data-dir",
        ));
    }
    let barrier = account
        .barrier(&path)
        .map_err(ClusterError::io("look at the parents of", &path))?;
    if let Some((ancestor, mode)) = barrier {
        return Err(refuse(
            format!(
                "cannot be reached by the user `{}` that runs the servers, because `{}` has mode {mode:04o}",
                account.name,
                ancestor.display()
            ),
            "let others pass there (chmod o+x), or name another place with --data-dir",
        ));
    }
    Ok(path)
}

/// A directory for one node, or for the archive.
pub(super) fn create_inner(path: &Path, account: &Account) -> Result<(), ClusterError> {
    std::fs::DirBuilder::new()
        .mode(0o700)
        .create(path)
        .map_err(ClusterError::io("create directory", path))?;
    account.own(path)
}

/// Writes a file that only the servers' user may read.
pub(super) fn write(path: &Path, content: &str, account: &Account) -> Result<(), ClusterError> {
    let make = || -> io::Result<()> {
        unless_gone(std::fs::remove_file(path))?;
        File::options()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(path)?
            .write_all(content.as_bytes())
    };
    make().map_err(ClusterError::io("write", path))?;
    account.own(path)
}
