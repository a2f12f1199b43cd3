//! Server settings of a profile: which may be given, and how they are written.
//! Knows the syntax of `postgresql.conf`, but not what any setting does.

use std::collections::{BTreeMap, BTreeSet};

use toml::Spanned;

use super::diagnostics::{self, Diagnostics, Refusal};
use super::wire::{Field, Value};
use crate::mode::Mode;
use crate::server_settings;

/// The values of server settings, by the setting's name.
type Settings = BTreeMap<String, String>;

/// A setting that may not be given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    #[error("`{0}` is not the name of a server setting")]
    Name(String),
    #[error("setting `{name}` belongs to replbench: {reason}")]
    Reserved { name: String, reason: &'static str },
    #[error("setting `{0}` must be {EXPECTED}")]
    Value(String),
}

const EXPECTED: &str = "a string without control characters, a number or a boolean";

impl SettingError {
    /// What the user can do about the error.
    pub fn help(&self) -> &'static str {
        match self {
            Self::Name(_) => {
                "names are letters, digits, `_` and, for an extension's, `.` in quotes"
            }
            Self::Reserved { .. } => "leave it out",
            Self::Value(_) => "it has to stay on its line of postgresql.conf",
        }
    }
}

/// Reads one setting that does not come from a profile, under the same rules as a profile's settings.
pub fn setting(name: &str, value: &str) -> Result<(String, String), SettingError> {
    let name = name_of(name)?;
    match setting_value(&Value::Text(value.to_owned())) {
        Ok(value) => Ok((name, value)),
        Err(_) => Err(SettingError::Value(name)),
    }
}

/// The setting's name as PostgreSQL writes it, in lower case.
fn name_of(written: &str) -> Result<String, SettingError> {
    let name = written.to_ascii_lowercase();
    if !server_settings::is_name(&name) {
        Err(SettingError::Name(written.to_owned()))
    } else if let Some(reason) = server_settings::reserved(&name) {
        Err(SettingError::Reserved { name, reason })
    } else {
        Ok(name)
    }
}

/// The settings of a table, with names and values as PostgreSQL writes them.
pub(super) fn settings(diagnostics: &mut Diagnostics, field: &Field) -> Settings {
    field
        .as_ref()
        .map_or_else(Settings::new, |written| table(diagnostics, written))
}

/// The settings of single nodes, by the node's name. `modes` is `None` if the modes themselves have mistakes; then node names are not
/// checked.
pub(super) fn of_nodes(
    diagnostics: &mut Diagnostics,
    field: &Field,
    modes: Option<&[Mode]>,
) -> BTreeMap<String, Settings> {
    const EXPECTED: &str = "a table of a node's settings, such as { settings = { recovery_min_apply_delay = \"300ms\" } }";
    let nodes = diagnostics.read("node", field, diagnostics::table(EXPECTED));
    let mut found = BTreeMap::new();
    for (name, node) in nodes.unwrap_or_default() {
        let subject = format!("`node.{}`", name.get_ref());
        let Some(keys) = diagnostics.value(&subject, node, diagnostics::table(EXPECTED)) else {
            continue;
        };
        if let Some((key, _)) = keys.iter().find(|(key, _)| key.get_ref() != "settings") {
            let title = format!("unknown key `{}`", key.get_ref());
            diagnostics.refuse(key.span(), title, "keys here are settings");
        }
        if let Some(modes) = modes {
            refuse_unknown_node(diagnostics, name, modes);
        }
        let own = keys.iter().find(|(key, _)| key.get_ref() == "settings");
        let own = own.map_or_else(Settings::new, |(_, written)| table(diagnostics, written));
        found.insert(name.get_ref().clone(), own);
    }
    found
}

fn refuse_unknown_node(diagnostics: &mut Diagnostics, name: &Spanned<String>, modes: &[Mode]) {
    let nodes = modes.iter().flat_map(|mode| mode.topology.nodes());
    let names: BTreeSet<_> = nodes.map(|node| node.name.as_str()).collect();
    if !names.contains(name.get_ref().as_str()) {
        let names: Vec<_> = names.into_iter().collect();
        diagnostics.refuse(
            name.span(),
            format!("no mode has a node `{}`", name.get_ref()),
            &format!("nodes are {}", names.join(", ")),
        );
    }
}

fn table(diagnostics: &mut Diagnostics, written: &Spanned<Value>) -> Settings {
    let expected = diagnostics::table("a table of server settings");
    let entries = diagnostics.value("`settings`", written, expected);
    let mut found = Settings::new();
    for (key, value) in entries.unwrap_or_default() {
        let name = match name_of(key.get_ref()) {
            Ok(name) => name,
            Err(error) => {
                diagnostics.refuse(key.span(), error.to_string(), error.help());
                continue;
            }
        };
        if let Some(value) = diagnostics.value(&format!("setting `{name}`"), value, setting_value)
            && found.insert(name, value).is_some()
        {
            let title = format!("setting `{}` is given twice", key.get_ref());
            diagnostics.refuse(key.span(), title, "keep one");
        }
    }
    found
}

/// The value as PostgreSQL writes it. Control characters are refused, so that a value cannot add lines to `postgresql.conf`.
fn setting_value(value: &Value) -> Result<String, Refusal> {
    match value {
        Value::Text(text) if !text.contains(|it: char| it.is_control()) => Ok(text.clone()),
        Value::Integer(number) => Ok(number.to_string()),
        Value::Float(number) if number.is_finite() => Ok(number.to_string()),
        Value::Boolean(on) => Ok(if *on { "on" } else { "off" }.into()),
        _ => Err(Refusal::new(EXPECTED)),
    }
}
