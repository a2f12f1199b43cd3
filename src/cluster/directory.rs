//! A cluster's directory: its layout, which processes use it, and how it is removed.
//!
//! A marker file says that replbench made the directory, and which process did. replbench and every keeper hold a shared lock on the
//! marker. If the lock is free, no process uses the directory, and only then may it be removed.

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

/// The paths within a cluster's directory.
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

    /// The only file with the password, apart from initdb's, which is removed right after use.
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

/// A shared lock on a directory's marker, which says that this process uses the directory. It ends with the process at the latest.
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

    /// Waits until no other process holds the lock, then removes the directory, unless another process does so first. Returns false if the
    /// deadline passes first.
    pub(super) fn discard_within(self, directory: &Path, deadline: Duration) -> io::Result<bool> {
        let removed = clock::block_until(deadline, || {
            if !is_marked(directory) {
                return Some(Ok(()));
            }
            // A failed attempt to make the lock exclusive also gives up the shared lock. Another process may then be the last user.
            let is_last = flock(&self.0, FlockOperation::NonBlockingLockExclusive).is_ok();
            is_last.then(|| remove(directory))
        });
        removed.transpose().map(|removed| removed.is_some())
    }

    /// Releases the lock. If no other process holds it and the directory is marked for discarding, removes the directory.
    ///
    /// If several processes do this at once, only one removes the directory: a failed attempt to make the lock exclusive also gives up
    /// the shared lock.
    pub(super) fn discard(self, directory: &Path) -> io::Result<()> {
        if directory.join(DISCARD).exists()
            && flock(&self.0, FlockOperation::NonBlockingLockExclusive).is_ok()
        {
            remove(directory)?;
        }
        Ok(())
    }
}

/// Marks a directory of replbench's that holds no cluster. If the process that claimed it has died, `clean` removes the directory.
#[derive(Debug)]
pub struct Claim {
    /// The lock is held until the claim is dropped or the process ends.
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

/// The content of the marker file.
#[derive(Debug, Serialize, Deserialize)]
struct Marker {
    /// The replbench that made the directory.
    owner: ProcessId,
    /// How many of the parent directories were made for this directory alone. They are removed with it if they are empty.
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
        // Serialising numbers and a short string cannot fail.
        serde_json::to_string(self).unwrap_or_default() + "\n"
    }

    fn read(directory: &Path) -> Option<Self> {
        let text = std::fs::read_to_string(directory.join(MARKER)).ok()?;
        serde_json::from_str(&text).ok()
    }
}

/// The replbench process that made the directory; `None` if the marker is unreadable.
pub(super) fn owner(directory: &Path) -> Option<ProcessId> {
    Marker::read(directory).map(|marker| marker.owner)
}

/// Whether replbench made this directory for a cluster.
pub(super) fn is_marked(directory: &Path) -> bool {
    directory.join(MARKER).is_file()
}

/// Marks the directory so that the last process to release its lock removes the directory.
pub(super) fn mark_for_discarding(directory: &Path) -> io::Result<()> {
    File::create(directory.join(DISCARD)).map(drop)
}

/// Removes the mark, so that the directory stays when the last process releases its lock.
pub(super) fn unmark_for_discarding(directory: &Path) -> io::Result<()> {
    unless_gone(std::fs::remove_file(directory.join(DISCARD)))
}

/// Treats the removal of a file or directory that does not exist as a success.
pub(super) fn unless_gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Removes a directory with its contents, if it exists. Tries again for up to 5 s, because a killed command may go on writing for a
/// while if the disk is busy.
pub(super) fn remove_all(directory: &Path) -> io::Result<()> {
    let attempt = || unless_gone(std::fs::remove_dir_all(directory));
    let removed = clock::block_until(Duration::from_secs(5), || {
        let removed = attempt();
        let is_written = |error: &io::Error| error.kind() == io::ErrorKind::DirectoryNotEmpty;
        (!removed.as_ref().is_err_and(is_written)).then_some(removed)
    });
    removed.unwrap_or_else(attempt)
}

/// Removes a marked directory, and the empty parents that were made for it. The marker is removed last, so that an interrupted removal
/// leaves a directory that is still recognised as replbench's.
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
        // The parent may hold another cluster.
        if std::fs::remove_dir(parent).is_err() {
            break;
        }
    }
    Ok(())
}

/// Creates a directory for clusters, with its missing parents, so that the servers' user can reach it.
pub fn create_reachable(directory: &Path) -> io::Result<()> {
    create_passable(directory, &Account::for_servers()).map(drop)
}

/// Creates a directory and its missing parents so that the servers' user may pass through them, whatever the umask. Returns the
/// directories that it created.
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

/// Creates the directory and its marker. Refuses a directory that is not empty.
pub(super) fn create(
    wanted: &Path,
    own_parents: usize,
    account: &Account,
) -> Result<PathBuf, ClusterError> {
    let mut made = Vec::new();
    let path = place(wanted, account, &mut made).inspect_err(|_| {
        // After a refusal the directories that were created are removed, except those that other processes already use.
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

/// Creates the directory and checks that the servers' user can reach it. Returns its canonical path, and in `made` the directories that
/// it created.
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
                // Another run has just removed an empty parent.
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

/// Creates the directory of one node or of the archive.
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
