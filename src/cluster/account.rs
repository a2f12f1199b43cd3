//! The system user that runs the servers. PostgreSQL refuses to run as root, so under root they run as `postgres`, or as `nobody` if
//! there is no such user.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::error::ClusterError;

/// The system user that runs the servers and owns their files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) name: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Whether servers must change to this user. If not, it is the user that runs replbench.
    pub(super) drops: bool,
}

impl Account {
    pub(super) fn for_servers() -> Self {
        let uid = rustix::process::geteuid().as_raw();
        let gid = rustix::process::getegid().as_raw();
        if uid != 0 {
            return Self {
                name: std::env::var("USER").unwrap_or_else(|_| uid.to_string()),
                uid,
                gid,
                drops: false,
            };
        }
        let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        ["postgres", "nobody"]
            .into_iter()
            .find_map(|name| entry(&passwd, name))
            .unwrap_or(Self {
                name: "nobody".into(),
                uid: 65_534,
                gid: 65_534,
                drops: true,
            })
    }

    /// User id and group id that a server must change to; `None` if it keeps those of replbench.
    pub(super) fn to_become(&self) -> Option<(u32, u32)> {
        self.drops.then_some((self.uid, self.gid))
    }

    /// Makes the servers' user the owner of a file or directory. Does nothing if replbench already runs as that user.
    pub(super) fn own(&self, path: &Path) -> Result<(), ClusterError> {
        if !self.drops {
            return Ok(());
        }
        std::os::unix::fs::lchown(path, Some(self.uid), Some(self.gid))
            .map_err(ClusterError::io("change the owner of", path))
    }

    /// The nearest ancestor directory that this user may not pass through, with its permission bits.
    pub(super) fn barrier(&self, path: &Path) -> io::Result<Option<(PathBuf, u32)>> {
        for ancestor in path.ancestors().skip(1) {
            let metadata = ancestor.metadata()?;
            let mode = metadata.mode();
            let search = if metadata.uid() == self.uid {
                0o100
            } else if metadata.gid() == self.gid {
                0o010
            } else {
                0o001
            };
            if self.uid != 0 && mode & search == 0 {
                return Ok(Some((ancestor.to_owned(), mode & 0o7777)));
            }
        }
        Ok(None)
    }
}

fn entry(passwd: &str, name: &str) -> Option<Account> {
    let fields: Vec<_> = passwd
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.first() == Some(&name))?;
    Some(Account {
        name: name.to_owned(),
        uid: fields.get(2)?.parse().ok()?,
        gid: fields.get(3)?.parse().ok()?,
        drops: true,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn ids_come_from_the_line_of_exactly_that_user() {
        let passwd = "root:x:0:0::/root:/bin/sh\npostgresql:x:1:1::/:/bin/sh\npostgres:x:101:104::/:/bin/sh\n";
        let account = entry(passwd, "postgres").unwrap();
        assert_eq!((account.uid, account.gid), (101, 104));
        assert_eq!(entry(passwd, "nobody"), None);
    }

    #[test]
    fn a_closed_ancestor_is_named() {
        let root = tempfile::tempdir().unwrap();
        let closed = root.path().join("closed");
        std::fs::create_dir_all(closed.join("inner")).unwrap();
        std::fs::set_permissions(&closed, PermissionsExt::from_mode(0o600)).unwrap();
        let stranger = Account {
            name: "stranger".into(),
            uid: 12_345,
            gid: 12_345,
            drops: true,
        };
        // The temporary directory has mode 0700 too, but `closed` is nearer to the path and is found first.
        let barrier = stranger.barrier(&closed.join("inner")).unwrap();
        assert_eq!(barrier, Some((closed.clone(), 0o600)));
        std::fs::set_permissions(&closed, PermissionsExt::from_mode(0o700)).unwrap();
    }
}
