//! What must be the same for runs to be in one series: the machine, the work, the server and its settings.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::analyse::compare::{lasting_settings, majors, servers_made};
use crate::plan::Priority;
use crate::record::{Manifest, NodeInfo};

/// The conditions that all modes of a run share.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Conditions {
    pub profile: String,
    pub workload_hash: String,
    pub host_id: String,
    pub cpu: String,
    pub cores: u32,
    pub filesystem: String,
    /// Major version, such as `17`.
    pub postgresql: String,
}

impl Conditions {
    pub(super) fn of(manifest: &Manifest) -> Self {
        Self {
            profile: manifest.plan.profile.clone().unwrap_or_default(),
            workload_hash: manifest.workload_hash.clone(),
            host_id: manifest.host.host_id.clone(),
            cpu: manifest.host.cpu.clone(),
            cores: manifest.host.cores,
            filesystem: manifest.host.filesystem.clone(),
            postgresql: majors(manifest),
        }
    }
}

/// Hexadecimal digits that are kept of a digest: enough to distinguish all settings that a user will ever measure.
const DIGITS: usize = 12;

/// A digest of what the servers of a mode were told. Only the servers of the mode's own cluster count: a run without some other mode, which
/// uses other servers, has measured this mode in the same way. An A/B session's other binaries count as a setting, and so do the client,
/// the priority of its threads and how long servers lived.
pub(super) fn settings_digest(manifest: &Manifest, mode: &str) -> String {
    let resolved = manifest.mode(mode);
    let cluster = resolved.map(|mode| mode.topology.to_string());
    let is_used = |node: &&NodeInfo| cluster.as_ref().is_none_or(|name| *name == node.cluster);
    let nodes: BTreeMap<(&str, &str), BTreeMap<&str, &str>> = manifest
        .nodes
        .iter()
        .filter(is_used)
        .map(|node| {
            (
                (node.cluster.as_str(), node.name.as_str()),
                lasting_settings(node),
            )
        })
        .collect();
    let nodes: Vec<_> = nodes.into_iter().collect();
    let binaries = manifest.session.iter().flat_map(|session| &session.items);
    let binaries: Vec<_> = binaries
        .filter(|item| item.starts_with("bindir="))
        .collect();
    let mut conditions = vec![
        json!(nodes),
        json!(resolved),
        manifest.plan.part("probes").clone(),
        json!(binaries),
        json!(servers_made(manifest)),
    ];
    // Runs without a recorded client keep the digest that they had before the client was recorded.
    let client = manifest.plan.part("client");
    if !client.is_null() {
        conditions.push(client.clone());
    }
    // A priority that was asked for but not permitted is recorded as normal.
    let priority = manifest.load_priority.filter(|it| *it != Priority::Normal);
    conditions.extend(priority.map(|it| json!(it)));
    digest(&Value::Array(conditions))
}

pub(super) fn digest(value: &Value) -> String {
    let mut text = hex::encode(Sha256::digest(value.to_string()));
    text.truncate(DIGITS);
    text
}
