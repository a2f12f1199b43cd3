//! The PostgreSQL settings that only replbench may set, and why. Profiles, sessions and clusters all refuse settings by this list. Pure;
//! knows no values.

/// Reserved settings, each with the reason. Either replbench itself sets the setting, or another value would make a measurement wrong or a
/// server unreachable.
const RESERVED: [(&str, &str); 33] = [
    ("allow_alter_system", "a mode is switched with ALTER SYSTEM"),
    ("archive_cleanup_command", ARCHIVE),
    ("archive_command", ARCHIVE),
    ("archive_library", ARCHIVE),
    ("archive_mode", ARCHIVE),
    ("bonjour", LOOPBACK),
    ("cluster_name", "it is the node's name"),
    ("config_file", FILES),
    ("data_directory", "it is chosen with --data-dir"),
    ("db_user_namespace", LOGIN),
    (
        "default_transaction_read_only",
        "the load and replbench itself write",
    ),
    ("external_pid_file", "all nodes would share it"),
    ("fsync", "a benchmark of durability measures it"),
    ("hba_file", LOGIN),
    ("hot_standby", "reads on standbys are measured"),
    ("ident_file", LOGIN),
    ("listen_addresses", LOOPBACK),
    ("log_destination", LOG),
    ("logging_collector", LOG),
    ("password_encryption", LOGIN),
    ("port", "ports are chosen for each node"),
    ("primary_conninfo", TOPOLOGY),
    ("primary_slot_name", TOPOLOGY),
    ("promote_trigger_file", TOPOLOGY),
    ("recovery_end_command", TOPOLOGY),
    (
        "restart_after_crash",
        "a server that restarts by itself would go unnoticed",
    ),
    ("restore_command", ARCHIVE),
    ("synchronous_commit", MODE),
    ("synchronous_standby_names", MODE),
    ("unix_socket_directories", LOOPBACK),
    ("unix_socket_group", LOOPBACK),
    ("unix_socket_permissions", LOOPBACK),
    ("wal_level", TOPOLOGY),
];

/// Reserved families of settings, by the beginning of their names.
const RESERVED_FAMILIES: [(&str, &str); 4] = [
    ("include", FILES),
    ("krb_", LOGIN),
    ("recovery_target", TOPOLOGY),
    ("ssl", LOOPBACK),
];

const ARCHIVE: &str = "the archive is part of the topology";
const FILES: &str = "a server's configuration is the one that replbench writes and records";
const LOG: &str = "a failed start shows the end of the log";
const LOGIN: &str = "replbench decides who may log in, and how";
const LOOPBACK: &str = "servers listen on 127.0.0.1 alone, without TLS and without a socket";
const MODE: &str = "it is what a mode sets";
const TOPOLOGY: &str = "it follows from the topology";

/// Why only replbench may set a setting; `None` for settings that a user may set. Upper and lower case are the same, as for the server.
pub fn reserved(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase();
    let exact = RESERVED.iter().find(|(reserved, _)| *reserved == name);
    let family = || {
        RESERVED_FAMILIES
            .iter()
            .find(|(prefix, _)| name.starts_with(prefix))
    };
    exact.or_else(family).map(|(_, reason)| *reason)
}

/// Whether `name` can be the name of a setting: letters, digits, `_` and, for an extension's setting, `.`.
pub fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.".contains(&byte);
    (1..=63).contains(&name.len())
        && !name.starts_with(|first: char| first.is_ascii_digit() || first == '.')
        && name.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_replbench_sets_or_depends_on_is_reserved_in_any_case() {
        for name in [
            "ssl",
            "SSL_cert_file",
            "include",
            "include_if_exists",
            "include_dir",
            "Port",
            "config_file",
            "recovery_target_time",
            "wal_level",
            "allow_alter_system",
            "unix_socket_permissions",
        ] {
            assert!(reserved(name).is_some(), "{name}");
        }
        for name in ["work_mem", "wal_compression", "max_connections"] {
            assert_eq!(reserved(name), None, "{name}");
        }
    }
}
