//! The configuration files of a server: which settings they contain and why, and how special characters in paths are quoted. Pure.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use super::error::ClusterError;
use crate::server_settings;
use crate::topology::{Role, Topology, WalLevel};

/// Refuses settings that a profile must not set.
pub(super) fn check(settings: &BTreeMap<String, String>) -> Result<(), ClusterError> {
    for (name, value) in settings {
        let refuse = |reason| {
            let (name, value) = (name.escape_debug(), value.escape_debug());
            Err(ClusterError::Unfit(format!(
                "setting `{name} = {value}` is replbench's own to make, because {reason}; leave it out"
            )))
        };
        if let Some(reason) = server_settings::reserved(name) {
            return refuse(reason);
        }
        if !server_settings::is_name(name) || value.contains(['\0', '\n', '\r']) {
            return refuse("it is no name and value of a setting");
        }
    }
    Ok(())
}

/// The inputs of a node's configuration.
pub(super) struct Conf<'a> {
    pub(super) node: &'a str,
    pub(super) role: Role,
    pub(super) port: u16,
    pub(super) topology: &'a Topology,
    pub(super) wal_level: WalLevel,
    pub(super) client_connections: u16,
    pub(super) archive: &'a Path,
    /// The settings for all nodes, then those for this node, which take precedence.
    pub(super) settings: [&'a BTreeMap<String, String>; 2],
}

impl Conf<'_> {
    /// The complete text of postgresql.conf. It replaces the file that initdb wrote, so that nothing depends on what initdb detected on
    /// the host.
    pub(super) fn render(&self) -> String {
        let mut text = String::from("# written by replbench; changes are lost\n");
        let own = self.own();
        for (name, value) in &own {
            line(&mut text, name, value);
        }
        for (name, value) in self.settings.into_iter().flatten() {
            line(&mut text, name, value);
        }
        text
    }

    fn own(&self) -> Vec<(&'static str, String)> {
        let nodes = self.topology.replicas().count();
        let mut own: Vec<(&'static str, String)> = vec![
            // The server is reachable from this host only, over loopback TCP with a password. No socket, because its path could be too long.
            ("listen_addresses", "127.0.0.1".into()),
            ("port", self.port.to_string()),
            ("unix_socket_directories", String::new()),
            ("cluster_name", self.node.into()),
            ("password_encryption", "scram-sha-256".into()),
            // This is the default. It is set explicitly because without it the time of a commit would be meaningless.
            ("fsync", "on".into()),
            // The lowest level that is enough, because `logical` writes more WAL.
            ("wal_level", self.wal_level.setting().into()),
            // A replica needs one sender while it runs, two while it is created, and one for each of two tables during the initial copy.
            ("max_wal_senders", (nodes * 4 + 4).to_string()),
            ("max_replication_slots", (nodes * 4 + 4).to_string()),
            // A base backup creates its slot after it has begun. Until then, the checkpoint of a concurrent base backup could remove the WAL
            // that it starts from. This happened with segments of 1 MB.
            ("wal_keep_size", "64MB".into()),
            // Connections of the load and of the probes, and some for a person who wants to look at the servers.
            (
                "max_connections",
                (self.client_connections + 24).to_string(),
            ),
            // The apply worker and two table copies at a time, beside the default's parallel workers. A standby may not have fewer than its
            // primary, so all nodes have the same number.
            ("max_worker_processes", "16".into()),
            ("max_logical_replication_workers", "8".into()),
            // The value that initdb would choose on any current machine.
            ("shared_buffers", "128MB".into()),
            // No timed checkpoint should start during a short cell: replbench asks for one before each cell.
            ("checkpoint_timeout", "30min".into()),
            ("max_wal_size", "4GB".into()),
            // With the default of 5 s a failover or a restart of a standby would look slow in some runs and not in others.
            ("wal_retrieve_retry_interval", "500ms".into()),
            // Checkpoints often explain outliers, so the log shows when they ran.
            ("log_checkpoints", "on".into()),
            ("log_line_prefix", "%m [%p] %q%a ".into()),
            // Messages and time zone are the same in every log.
            ("lc_messages", "C".into()),
            ("timezone", "UTC".into()),
            ("log_timezone", "UTC".into()),
        ];
        if self.topology.has(Role::ArchiveStandby) {
            own.extend(self.archiving());
        }
        own
    }

    fn archiving(&self) -> Vec<(&'static str, String)> {
        let archive = shell_quote(&self.archive.to_string_lossy());
        match self.role {
            // A segment is copied under another name first, so that a standby never reads an incomplete segment.
            Role::Primary => vec![
                ("archive_mode", "on".into()),
                (
                    "archive_command",
                    format!("cp %p {archive}/%f.part && mv {archive}/%f.part {archive}/%f"),
                ),
                // A log-shipping standby lags by up to the time that a segment stays open: this is the shortest possible.
                ("archive_timeout", "1s".into()),
            ],
            // The standby runs this every half second while the segment is missing, so the command prints nothing then.
            Role::ArchiveStandby => vec![(
                "restore_command",
                format!("test -f {archive}/%f && cp {archive}/%f %p"),
            )],
            _ => Vec::new(),
        }
    }
}

/// `pg_hba.conf`: all users from this host, with the password.
pub(super) const HBA: &str = "\
# written by replbench
host all         all 127.0.0.1/32 scram-sha-256
host replication all 127.0.0.1/32 scram-sha-256
";

fn line(text: &mut String, name: &str, value: &str) {
    let value = value.replace('\\', "\\\\").replace('\'', "''");
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{name} = '{value}'");
}

/// Quotes a path for the shell in `archive_command` and `restore_command`, where a percent sign begins a placeholder.
fn shell_quote(path: &str) -> String {
    format!("'{}'", path.replace('%', "%%").replace('\'', r"'\''"))
}

/// Builds a libpq connection string.
pub(super) fn conninfo(pairs: &[(&str, &str)]) -> String {
    let pairs: Vec<_> = pairs
        .iter()
        .map(|(key, value)| {
            let value = value.replace('\\', "\\\\").replace('\'', "\\'");
            format!("{key}='{value}'")
        })
        .collect();
    pairs.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::NodeCounts;

    const ONE_OF_EACH: NodeCounts = NodeCounts {
        standbys: 1,
        cascading: 1,
        archive: 1,
        subscribers: 1,
    };

    fn render(role: Role, archive: &str) -> String {
        Conf {
            node: "primary",
            role,
            port: 21_000,
            topology: &ONE_OF_EACH.into(),
            wal_level: WalLevel::Logical,
            client_connections: 10,
            archive: Path::new(archive),
            settings: [
                &BTreeMap::from([("work_mem".to_owned(), "8MB".to_owned())]),
                &BTreeMap::from([("work_mem".to_owned(), "9MB".to_owned())]),
            ],
        }
        .render()
    }

    #[test]
    fn a_path_with_quotes_and_percent_signs_survives_three_levels_of_quoting() {
        let text = render(Role::Primary, r"/it's 100% \here");
        // The shell's quoting ('\'' for the apostrophe), the placeholder's (%% for the percent sign), then the file's ('' and \\).
        assert!(
            text.contains(r"cp %p ''/it''\\''''s 100%% \\here''/%f.part"),
            "{text}"
        );
        assert_eq!(
            conninfo(&[("passfile", r"/it's \here")]),
            r"passfile='/it\'s \\here'"
        );
    }

    #[test]
    fn settings_of_the_user_come_last_and_so_prevail_and_a_node_s_own_most() {
        let text = render(Role::Standby, "/a");
        assert!(
            text.ends_with("work_mem = '8MB'\nwork_mem = '9MB'\n"),
            "{text}"
        );
        assert!(!text.contains("archive_command"), "{text}");
    }

    #[test]
    fn settings_that_would_make_the_measurement_untrue_are_refused() {
        for (name, value) in [
            ("fsync", "off"),
            ("FSYNC", "off"),
            ("listen_addresses", "*"),
            ("synchronous_commit", "off"),
            ("include_if_exists", "/etc/passwd"),
            ("work_mem = 1\nfsync", "off"),
            ("work_mem", "1\nfsync = off"),
            ("wal_level", "replica"),
        ] {
            let settings = BTreeMap::from([(name.to_owned(), value.to_owned())]);
            let error = check(&settings).unwrap_err().to_string();
            assert!(error.contains("leave it out"), "{error}");
        }
    }
}
