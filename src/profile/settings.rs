//! Server settings of a profile: which may be given, and how they are written.
//! Knows the form of `postgresql.conf`; not what any setting does.

use std::collections::BTreeMap;

use super::judge::{Judge, Refusal};
use super::wire::{Field, Value};

/// Server settings that replbench owns: a mode or the cluster sets them, and a profile would contradict it.
const OWNED_SETTINGS: [&str; 18] = [
    "archive_command",
    "archive_mode",
    "data_directory",
    "fsync",
    "hba_file",
    "hot_standby",
    "ident_file",
    "listen_addresses",
    "logging_collector",
    "port",
    "primary_conninfo",
    "primary_slot_name",
    "restore_command",
    "synchronous_commit",
    "synchronous_standby_names",
    "unix_socket_directories",
    "wal_level",
    "restart_after_crash",
];

/// The settings as PostgreSQL writes them.
pub(super) fn settings(judge: &mut Judge, field: &Field) -> BTreeMap<String, String> {
    let Some(written) = field else {
        return BTreeMap::new();
    };
    let Value::Table(entries) = written.get_ref() else {
        judge.value::<()>("`settings`", written, |_| {
            Err(Refusal::new("a table of server settings"))
        });
        return BTreeMap::new();
    };
    let mut found = BTreeMap::new();
    for (key, value) in entries {
        let name = key.get_ref().to_ascii_lowercase();
        if !is_setting_name(&name) {
            judge.refuse(
                key.span(),
                format!("`{}` is not the name of a server setting", key.get_ref()),
                "names are letters, digits, `_` and, for an extension's, `.` in quotes",
            );
        } else if OWNED_SETTINGS.contains(&name.as_str()) {
            judge.refuse(
                key.span(),
                format!("setting `{name}` belongs to replbench"),
                "leave it out: the mode or the cluster decides it",
            );
        } else if let Some(value) = judge.value(&format!("setting `{name}`"), value, setting_value)
            && found.insert(name, value).is_some()
        {
            let title = format!("setting `{}` is given twice", key.get_ref());
            judge.refuse(key.span(), title, "keep one");
        }
    }
    found
}

fn is_setting_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.".contains(&byte);
    (1..=63).contains(&name.len())
        && !name.starts_with(|first: char| first.is_ascii_digit() || first == '.')
        && name.bytes().all(allowed)
}

/// As PostgreSQL writes it. A value stays on its line of `postgresql.conf`.
fn setting_value(value: &Value) -> Result<String, Refusal> {
    match value {
        Value::Text(text) if !text.contains(|it: char| it.is_control()) => Ok(text.clone()),
        Value::Integer(number) => Ok(number.to_string()),
        Value::Float(number) if number.is_finite() => Ok(number.to_string()),
        Value::Boolean(on) => Ok(if *on { "on" } else { "off" }.into()),
        _ => Err(Refusal::new(
            "a string without control characters, a number or a boolean",
        )),
    }
}
