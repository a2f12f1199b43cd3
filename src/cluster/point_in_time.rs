//! Restores the primary to a point in time, from a base backup and the archive, on a separate server.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use super::directory;
use super::error::ClusterError;
use super::keeper::Ask;
use super::provision;
use super::workspace::Workspace;
use super::{Cluster, RunningNode, admin, query};
use crate::clock::{self, Stamp};
use crate::pg::failover::is_in_recovery;
use crate::pg::provisioning::{fence, replay_lsn, switch_wal};
use crate::pg::recovery as sql;
use crate::topology::{Node, Role};
use crate::units::Lsn;

/// The name of the base backup's directory within the cluster's directory.
const BASE: &str = "base-backup";

/// A point in time of the primary, in each of the forms that a recovery target can take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoveryPoint {
    pub name: String,
    /// The position in the WAL where the restore point ends.
    pub lsn: Lsn,
    /// The server's time just after the restore point, for `recovery_target_time`.
    pub time: String,
    /// The ids of a row committed before the point, and of a row committed after it.
    pub markers: [i64; 2],
    /// Taken just before the restore point was requested: commits acknowledged by this time are before the point.
    pub asked: Stamp,
    /// Taken just after the restore point was made: commits sent from this time on are after the point.
    pub taken: Stamp,
}

impl RecoveryPoint {
    pub fn targets(&self) -> [RecoveryTarget; 3] {
        [
            RecoveryTarget::Name(self.name.clone()),
            RecoveryTarget::Lsn(self.lsn),
            RecoveryTarget::Time(self.time.clone()),
        ]
    }
}

/// The point at which a restore stops replaying WAL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecoveryTarget {
    Name(String),
    Lsn(Lsn),
    Time(String),
}

impl RecoveryTarget {
    /// The kind of target in one word.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Name(_) => "name",
            Self::Lsn(_) => "lsn",
            Self::Time(_) => "time",
        }
    }

    fn settings(&self) -> BTreeMap<String, String> {
        let mut settings = match self {
            Self::Name(name) => vec![("recovery_target_name", name.clone())],
            Self::Lsn(lsn) => vec![
                ("recovery_target_lsn", lsn.to_string()),
                // At this position the restore point ends and the next record begins. The default, inclusive recovery, would also replay that
                // record, which may be a commit.
                ("recovery_target_inclusive", "off".into()),
            ],
            Self::Time(time) => vec![("recovery_target_time", time.clone())],
        };
        settings.push(("recovery_target_action", "promote".into()));
        let settings = settings.into_iter();
        settings.map(|(name, it)| (name.to_owned(), it)).collect()
    }
}

impl fmt::Display for RecoveryTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "name {name}"),
            Self::Lsn(lsn) => write!(f, "LSN {lsn}"),
            Self::Time(time) => write!(f, "time {time}"),
        }
    }
}

/// A server restored to a target. It accepts connections as an independent primary.
#[derive(Debug, Clone)]
pub struct Restored {
    pub node: RunningNode,
    /// The time for copying the base backup, starting the server and replaying WAL, until the server had left recovery.
    pub took: Duration,
}

impl Cluster {
    /// Creates the table of known commits, then makes a base backup of the primary for restores, replacing an earlier one.
    pub async fn back_up_for_restores(&self) -> Result<(), ClusterError> {
        let workspace = self.workspace("be restored")?;
        let primary = self.primary();
        primary
            .ask("create the table of known commits", sql::create_markers)
            .await?;
        remove(&workspace.layout.node(BASE))?;
        directory::create_inner(&workspace.layout.node(BASE), &workspace.account)?;
        // The base backup contains no WAL, so that a restore uses only WAL from the archive.
        provision::base_backup(workspace, primary, BASE, &["--wal-method=none"]).await
    }

    /// Commits a row, creates a restore point, and commits another row.
    pub async fn take_recovery_point(&self) -> Result<RecoveryPoint, ClusterError> {
        let primary = self.primary();
        let taking = primary.ask("take a recovery target", async |client| {
            let before = sql::add_marker(client).await?;
            let name = format!("replbench_{before}");
            let asked = clock::now();
            let (lsn, time) = sql::restore_point(client, &name).await?;
            let taken = clock::now();
            let after = sql::add_marker(client).await?;
            Ok(RecoveryPoint {
                name,
                lsn,
                time,
                markers: [before, after],
                asked,
                taken,
            })
        });
        let late = || Err(primary.late("take a recovery target".into(), self.deadline));
        let taken = tokio::time::timeout(self.deadline, taking).await;
        taken.unwrap_or_else(|_| late())
    }

    /// Waits until the archive has the WAL of all commits of the primary so far.
    pub async fn await_archived(&self, deadline: Duration) -> Result<(), ClusterError> {
        let workspace = self.workspace("be restored")?;
        let primary = self.primary();
        let file = primary
            .ask("end its WAL segment", async |client| {
                let end = fence(client).await?;
                let file = sql::wal_file(client, end).await?;
                switch_wal(client).await?;
                Ok(file)
            })
            .await?;
        // A segment gets its final name only when it is complete.
        let archived = workspace.layout.archive().join(&file);
        let missing = || format!("archive its WAL segment {file} (see archive_command)");
        let ask = async || Ok(archived.exists().then_some(()).ok_or_else(missing));
        clock::wait_until(deadline, ask, |missing| primary.late(missing, deadline)).await
    }

    /// Restores the base backup and the archive to a new server called `name`. Returns when it has replayed up to the target and accepts
    /// connections. Only one such server can exist at a time. [`Cluster::remove_restored`] removes it, also after a failed restore.
    pub async fn restore_to(
        &self,
        target: &RecoveryTarget,
        name: &str,
        deadline: Duration,
    ) -> Result<Restored, ClusterError> {
        let begun = clock::now();
        let workspace = self.workspace("be restored")?;
        let mut settings = self.primary().node.settings.clone();
        settings.extend(target.settings());
        let node = Node {
            name: name.to_owned(),
            // The role of an archive standby, because the server replays WAL from the archive and archives nothing.
            role: Role::ArchiveStandby,
            upstream: None,
            settings,
        };
        let data = workspace.layout.data(name);
        directory::create_inner(&workspace.layout.node(name), &workspace.account)?;
        let arguments = vec![
            "-a".into(),
            workspace.layout.data(BASE).into(),
            data.clone().into(),
        ];
        workspace.run(name, "cp".into(), arguments).await?;
        workspace.configure(&node)?;
        for name in ["postgresql.auto.conf", "recovery.signal"] {
            directory::write(&data.join(name), "", &workspace.account)?;
        }
        let node = workspace.launch(&node).await?;
        recovered(workspace, &node, target, deadline).await?;
        Ok(Restored {
            node,
            took: clock::now().since(begun),
        })
    }

    /// Ends a restored server and removes its directory, if they exist.
    pub async fn remove_restored(&self, name: &str) -> Result<(), ClusterError> {
        let workspace = self.workspace("be restored")?;
        if let Some(server) = workspace.server(name) {
            let deadline = Duration::from_secs(5);
            if server.end(Ask::Immediate, deadline).await.is_err() {
                server.end(Ask::Kill, deadline).await?;
            }
            workspace.forget(name);
        }
        remove(&workspace.layout.node(name))
    }
}

fn remove(directory: &Path) -> Result<(), ClusterError> {
    directory::remove_all(directory).map_err(ClusterError::io("remove", directory))
}

/// Waits until the server has left recovery, as it does at its target. A server that cannot reach its target ends instead.
async fn recovered(
    workspace: &Workspace,
    node: &RunningNode,
    target: &RecoveryTarget,
    deadline: Duration,
) -> Result<(), ClusterError> {
    let session = match admin(&node.endpoint).await {
        Ok(session) => session,
        Err(error) => return Err(gone(workspace, node).await.unwrap_or(error)),
    };
    let client = session.client();
    let position = async || {
        if is_in_recovery(client).await? {
            return replay_lsn(client).await.map(Some);
        }
        Ok(None)
    };
    let ask = async || match position().await {
        Ok(None) => Ok(Ok(())),
        Ok(Some(at)) => {
            let at = at.map_or_else(|| "an unknown position".to_owned(), |at| at.to_string());
            Ok(Err(format!("reach {target}, and is at {at},")))
        }
        Err(failure) => {
            let error = query(node, "ask whether it has left recovery")(failure);
            Err(gone(workspace, node).await.unwrap_or(error))
        }
    };
    clock::wait_until(deadline, ask, |missing| node.late(missing, deadline)).await?;
    session.close().await;
    Ok(())
}

/// The error that the server has ended; `None` if it is still running after 5 s.
async fn gone(workspace: &Workspace, node: &RunningNode) -> Option<ClusterError> {
    let server = workspace.server(&node.node.name)?;
    server.ended_within(Duration::from_secs(5)).await;
    server.check().err()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_target_is_a_setting_of_its_own() {
        let point = RecoveryPoint {
            name: "replbench_1".into(),
            lsn: Lsn::new(0x300_0148),
            time: "2026-07-14 09:15:03.000001+00".into(),
            markers: [1, 2],
            asked: Stamp::from_nanos(1),
            taken: Stamp::from_nanos(2),
        };
        let told = point.targets().map(|it| (it.to_string(), it.settings()));
        for ((name, settings), wanted) in told.into_iter().zip(["name", "LSN", "time"]) {
            assert!(name.starts_with(wanted), "{name}");
            let setting = format!("recovery_target_{}", wanted.to_lowercase());
            assert!(name.ends_with(&settings[&setting]), "{settings:?}");
            assert_eq!(settings["recovery_target_action"], "promote");
            let is_exclusive = settings.contains_key("recovery_target_inclusive");
            assert_eq!(is_exclusive, wanted == "LSN");
        }
    }
}
