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

/// A setting that may not be given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    #[error("`{0}` is not the name of a server setting")]
    Name(String),
    /// A mode or the cluster decides it.
    #[error("setting `{0}` belongs to replbench")]
    Owned(String),
    #[error("setting `{0}` must be {EXPECTED}")]
    Value(String),
}

const EXPECTED: &str = "a string without control characters, a number or a boolean";

impl SettingError {
    /// The remedy.
    pub fn help(&self) -> &'static str {
        match self {
            Self::Name(_) => {
                "names are letters, digits, `_` and, for an extension's, `.` in quotes"
            }
            Self::Owned(_) => "leave it out: the mode or the cluster decides it",
            Self::Value(_) => "it has to stay on its line of postgresql.conf",
        }
    }
}

/// One setting from outside of a profile, under the rules of a profile's.
pub fn setting(name: &str, value: &str) -> Result<(String, String), SettingError> {
    let name = name_of(name)?;
    match setting_value(&Value::Text(value.to_owned())) {
        Ok(value) => Ok((name, value)),
        Err(_) => Err(SettingError::Value(name)),
    }
}

/// A name as PostgreSQL writes it.
fn name_of(written: &str) -> Result<String, SettingError> {
    let name = written.to_ascii_lowercase();
    if !is_setting_name(&name) {
        Err(SettingError::Name(written.to_owned()))
    } else if OWNED_SETTINGS.contains(&name.as_str()) {
        Err(SettingError::Owned(name))
    } else {
        Ok(name)
    }
}

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
        let name = match name_of(key.get_ref()) {
            Ok(name) => name,
            Err(error) => {
                judge.refuse(key.span(), error.to_string(), error.help());
                continue;
            }
        };
        if let Some(value) = judge.value(&format!("setting `{name}`"), value, setting_value)
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
        _ => Err(Refusal::new(EXPECTED)),
    }
}
