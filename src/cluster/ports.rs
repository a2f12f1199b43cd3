//! Reserves ports on the loopback. A locked file keeps other replbench processes from taking a port; a trial bind finds ports that
//! other programs use.

use std::fs::File;
use std::net::TcpListener;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rand::RngExt as _;
use rustix::fs::{FlockOperation, flock};

use super::error::ClusterError;

/// Ports reserved for this process while it holds their locks.
#[derive(Debug)]
pub(super) struct Ports {
    held: Vec<(u16, File)>,
}

/// The first and last port to choose from. Below Linux's ephemeral range (32768 and up), from which outgoing connections could take a
/// port between the check and the server's start; above the well-known services.
const RANGE: (u16, u16) = (21_000, 31_999);

impl Ports {
    pub(super) fn reserve(count: usize) -> Result<Self, ClusterError> {
        let directory = lock_directory()?;
        let span = RANGE.1 - RANGE.0 + 1;
        let offset = rand::rng().random_range(0..span);
        let free = (0..span).filter_map(|step| {
            let port = RANGE.0 + (offset + step) % span;
            let lock = lock(&directory, port)?;
            TcpListener::bind(("127.0.0.1", port)).ok()?;
            Some((port, lock))
        });
        let held: Vec<_> = free.take(count).collect();
        if held.len() < count {
            return Err(ClusterError::Ports {
                wanted: count,
                range: RANGE,
            });
        }
        Ok(Self { held })
    }

    pub(super) fn numbers(&self) -> Vec<u16> {
        self.held.iter().map(|(port, _)| *port).collect()
    }
}

/// Locks a port; `None` if that is not possible. The lock ends with the file descriptor, so a killed replbench leaves none behind. The
/// lock files are never removed: one process could lock a removed file while the next one creates a new file.
fn lock(directory: &Path, port: u16) -> Option<File> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(directory.join(format!("{port}.lock")))
        .ok()?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).ok()?;
    Some(file)
}

/// The lock directory of this user. Checks that it is a directory owned by this user, because everybody can write to /tmp.
fn lock_directory() -> Result<PathBuf, ClusterError> {
    let uid = rustix::process::geteuid().as_raw();
    let path = std::env::temp_dir().join(format!("replbench-ports-{uid}"));
    let made = std::fs::DirBuilder::new().mode(0o700).create(&path);
    let metadata = path.symlink_metadata().map_err(|source| {
        ClusterError::io("reserve ports in", &path)(made.err().unwrap_or(source))
    })?;
    if !metadata.is_dir() || metadata.uid() != uid {
        return Err(ClusterError::Directory {
            path,
            problem: "belongs to somebody else, so ports cannot be reserved there".into(),
            remedy: "remove it, or set TMPDIR".into(),
        });
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_reservations_share_no_port() {
        let first = Ports::reserve(20).unwrap();
        let second = Ports::reserve(20).unwrap();
        for port in first.numbers() {
            assert!(!second.numbers().contains(&port));
        }
    }

    #[test]
    fn a_listener_is_left_alone() {
        let ports = Ports::reserve(1).unwrap();
        let port = ports.numbers()[0];
        drop(ports);
        let _listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        assert!(lock_directory().is_ok());
        assert!(TcpListener::bind(("127.0.0.1", port)).is_err());
    }
}
