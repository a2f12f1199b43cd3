//! Whether two runs may be compared at all: what differs between them, and which of it forbids the comparison.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;

use crate::plan::{Priority, ServersMade};
use crate::record::{Host, Manifest, NodeInfo, RunStatus};
use crate::topology::{Topology, WalLevel};
use crate::units::format_bytes;

/// A field in which two runs differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    pub field: String,
    pub base: String,
    pub head: String,
    pub consequence: Consequence,
}

/// What follows from a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Consequence {
    /// The runs are not comparable.
    Forbids,
    /// It is what was to be compared: both sides of one session.
    Subject,
    /// Good to know.
    Noted,
}

/// More than this of one kind says no more.
const MOST: usize = 12;

/// Everything in which two runs differ. `modes` are the names that are compared with each other.
pub(super) fn differences(
    base: &Manifest,
    head: &Manifest,
    modes: &[(String, String)],
) -> Vec<Difference> {
    let one_session = same_session(base, head);
    let asked = if one_session {
        Consequence::Subject
    } else {
        Consequence::Forbids
    };
    let mut found = Finder::default();
    for (manifest, is_base) in [(base, true), (head, false)] {
        found.status(manifest, is_base);
    }
    found.host(&base.host, &head.host);
    found.workload(base, head);
    found.part("probes", base, head);
    found.field("client", asked, &client(base), &client(head));
    let priority = |it: &Manifest| {
        let taken = it.load_priority.unwrap_or(Priority::of_older_runs());
        taken.to_string()
    };
    found.field(
        "load_priority",
        Consequence::Noted,
        &priority(base),
        &priority(head),
    );
    for (one, other) in modes {
        found.mode(base, head, one, other, asked);
    }
    found.field("PostgreSQL major", asked, &majors(base), &majors(head));
    found.settings(base, head, asked);
    found.servers(base, head);
    found.noted(base, head);
    found.0
}

/// The client as it was recorded, so that one which this version does not know is not taken for another.
fn client(manifest: &Manifest) -> String {
    match (manifest.plan.client, manifest.plan.part("client")) {
        (Some(client), _) => client.to_string(),
        (None, written) => written.to_string(),
    }
}

/// Whether both are sides of one session, whose blocks are pairs.
pub(super) fn same_session(base: &Manifest, head: &Manifest) -> bool {
    let id = |manifest: &Manifest| manifest.session.as_ref().map(|session| session.id.clone());
    base.run_id != head.run_id && id(base).is_some() && id(base) == id(head)
}

#[derive(Default)]
struct Finder(Vec<Difference>);

impl Finder {
    fn add(
        &mut self,
        field: impl Into<String>,
        consequence: Consequence,
        base: String,
        head: String,
    ) {
        self.0.push(Difference {
            field: field.into(),
            base,
            head,
            consequence,
        });
    }

    fn field<T: PartialEq + ToString>(
        &mut self,
        field: &str,
        consequence: Consequence,
        base: &T,
        head: &T,
    ) {
        if base != head {
            self.add(field, consequence, base.to_string(), head.to_string());
        }
    }

    /// An invalid run is not to be relied on, whatever it is compared with.
    fn status(&mut self, manifest: &Manifest, is_base: bool) {
        let consequence = match manifest.status {
            RunStatus::Complete => return,
            RunStatus::Invalid => Consequence::Forbids,
            RunStatus::Running | RunStatus::Interrupted | RunStatus::Failed => Consequence::Noted,
        };
        let status = manifest.status.as_str();
        let text = match manifest.invalid_reasons.first() {
            Some(reason) => format!("{status}: {reason}"),
            None => status.into(),
        };
        let (base, head) = if is_base {
            (text, String::new())
        } else {
            (String::new(), text)
        };
        self.add("status", consequence, base, head);
    }

    fn host(&mut self, base: &Host, head: &Host) {
        use Consequence::{Forbids, Noted};
        self.field("host_id", Forbids, &base.host_id, &head.host_id);
        self.field("host.cpu", Forbids, &base.cpu, &head.cpu);
        self.field("host.cores", Forbids, &base.cores, &head.cores);
        self.field(
            "host.filesystem",
            Forbids,
            &base.filesystem,
            &head.filesystem,
        );
        let memory = |host: &Host| format_bytes(host.memory_bytes as f64);
        self.field("host.memory", Noted, &memory(base), &memory(head));
        self.field("host.kernel", Noted, &base.kernel, &head.kernel);
    }

    /// Servers that replbench does not make itself are reached in another way, and others may use them.
    fn servers(&mut self, base: &Manifest, head: &Manifest) {
        let is_own = |it: &Manifest| {
            matches!(
                it.servers_made(),
                ServersMade::Once | ServersMade::EveryBlock | ServersMade::EveryCell
            )
        };
        let consequence = if is_own(base) && is_own(head) {
            Consequence::Noted
        } else {
            Consequence::Forbids
        };
        self.field(
            "servers",
            consequence,
            &servers_made(base),
            &servers_made(head),
        );
    }

    /// What hardly matters, and may explain something.
    fn noted(&mut self, base: &Manifest, head: &Manifest) {
        let git = |manifest: &Manifest| {
            let commit = manifest.harness.git.clone();
            commit.unwrap_or_else(|| "unknown".into())
        };
        let version = |manifest: &Manifest| manifest.harness.version.clone();
        for (field, one, other) in [
            ("PostgreSQL version", versions(base), versions(head)),
            ("harness.version", version(base), version(head)),
            ("harness.git", git(base), git(head)),
            ("seed", base.seed.to_string(), head.seed.to_string()),
        ] {
            self.field(field, Consequence::Noted, &one, &other);
        }
    }

    /// The hash decides; the parts of the plan say where it comes from.
    fn workload(&mut self, base: &Manifest, head: &Manifest) {
        if base.workload_hash == head.workload_hash {
            return;
        }
        let before = self.0.len();
        for part in ["tables", "transactions", "load", "phases", "faults"] {
            self.part(part, base, head);
        }
        if self.0.len() == before {
            self.field(
                "workload_hash",
                Consequence::Forbids,
                &base.workload_hash,
                &head.workload_hash,
            );
        }
    }

    /// A part of the plan that must be alike.
    fn part(&mut self, part: &str, base: &Manifest, head: &Manifest) {
        self.values(part, base.plan.part(part), head.plan.part(part));
    }

    /// The innermost values that differ.
    fn values(&mut self, path: &str, base: &Value, head: &Value) {
        if base == head {
            return;
        }
        match (base, head) {
            (Value::Object(one), Value::Object(other)) => {
                for key in one.keys().chain(other.keys()).collect::<BTreeSet<_>>() {
                    let (one, other) = (one.get(key), other.get(key));
                    let (one, other) = (one.unwrap_or(&Value::Null), other.unwrap_or(&Value::Null));
                    self.values(&format!("{path}.{key}"), one, other);
                }
            }
            (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
                for (index, (one, other)) in one.iter().zip(other).enumerate() {
                    self.values(&format!("{path}[{index}]"), one, other);
                }
            }
            _ => self.add(
                path,
                Consequence::Forbids,
                base.to_string(),
                head.to_string(),
            ),
        }
    }

    /// A mode of the same name must wait for the same nodes.
    fn mode(
        &mut self,
        base: &Manifest,
        head: &Manifest,
        one: &str,
        other: &str,
        asked: Consequence,
    ) {
        if one != other {
            self.add("mode", Consequence::Subject, one.into(), other.into());
        } else if let (Some(one), Some(other)) = (base.mode(one), head.mode(other))
            && one != other
        {
            let nodes =
                |mode: &crate::mode::Mode| format!("{} ({})", mode.explain(), mode.topology);
            self.add(
                format!("mode {}", one.name),
                asked,
                nodes(one),
                nodes(other),
            );
        }
    }

    /// Settings of nodes that both have, by cluster and name.
    fn settings(&mut self, base: &Manifest, head: &Manifest, asked: Consequence) {
        let mut differ: BTreeMap<(String, String, String), BTreeSet<&str>> = BTreeMap::new();
        for one in &base.nodes {
            let is_same =
                |other: &&NodeInfo| other.cluster == one.cluster && other.name == one.name;
            let Some(other) = head.nodes.iter().find(is_same) else {
                continue;
            };
            let (ours, theirs) = (lasting_settings(one), lasting_settings(other));
            for name in ours.keys().chain(theirs.keys()).collect::<BTreeSet<_>>() {
                let of = |side: &BTreeMap<&str, &str>| {
                    side.get(name).copied().unwrap_or("default").to_owned()
                };
                if of(&ours) != of(&theirs) {
                    differ
                        .entry(((*name).to_owned(), of(&ours), of(&theirs)))
                        .or_default()
                        .insert(&one.name);
                }
            }
        }
        for ((name, one, other), nodes) in differ.into_iter().take(MOST) {
            let nodes: Vec<_> = nodes.into_iter().collect();
            self.add(
                format!("setting {name} ({})", nodes.join(", ")),
                asked,
                one,
                other,
            );
        }
    }
}

/// Settings that name the directories of one run, or that a server computes from the others and its kernel.
const OF_ONE_RUN: [&str; 5] = [
    "archive_command",
    "restore_command",
    "shared_memory_size",
    "shared_memory_size_in_huge_pages",
    "max_stack_depth",
];

/// The settings of a node that another run would have had too.
pub(in crate::analyse) fn lasting_settings(node: &NodeInfo) -> BTreeMap<&str, &str> {
    let settings = node.settings.iter();
    let lasting = settings.filter(|(name, _)| !OF_ONE_RUN.contains(&name.as_str()));
    lasting
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect()
}

/// How long servers lived. New ones begin with cold caches and make the WAL segments that old ones use again.
pub(in crate::analyse) fn servers_made(manifest: &Manifest) -> &'static str {
    match manifest.servers_made() {
        ServersMade::EveryBlock => "made anew for every block",
        ServersMade::EveryCell => "made anew for every cell",
        ServersMade::Once => "made once",
        ServersMade::Never => "there before",
        ServersMade::Compose => "made by docker compose",
        ServersMade::ComposeEveryCell => "made by docker compose anew for every cell",
    }
}

/// In what the servers of two modes of a run differ apart from what commits wait for: their ratio is of that as well.
pub(in crate::analyse) fn besides(manifest: &Manifest, mode: &str, base: &str) -> Option<String> {
    let (own, other) = (manifest.mode(mode)?, manifest.mode(base)?);
    let (own, other) = (&own.topology, &other.topology);
    let wal_level = |topology: &Topology| {
        let cluster = topology.to_string();
        let mut nodes = manifest.nodes.iter();
        let primary = nodes.find(|it| it.cluster == cluster && it.role == "primary")?;
        let set = primary.settings.get("wal_level").map(String::as_str);
        Some(set.unwrap_or(WalLevel::Replica.setting()))
    };
    let levels = wal_level(own).zip(wal_level(other));
    let levels = levels
        .filter(|(own, other)| own != other)
        .map(|(own, other)| format!("wal_level = {own} instead of {other}"));
    let parts: Vec<_> = own
        .difference_from(other)
        .into_iter()
        .chain(levels)
        .collect();
    (!parts.is_empty()).then(|| parts.join(" and "))
}

/// Major versions of the servers, such as `17`.
pub(in crate::analyse) fn majors(manifest: &Manifest) -> String {
    let major = |node: &NodeInfo| {
        node.version
            .split(['.', ' ', 'd', 'b', 'r'])
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    listed(manifest.nodes.iter().map(major))
}

fn versions(manifest: &Manifest) -> String {
    listed(manifest.nodes.iter().map(|node| node.version.clone()))
}

fn listed(items: impl Iterator<Item = String>) -> String {
    let items: BTreeSet<String> = items.collect();
    items.into_iter().collect::<Vec<_>>().join(", ")
}
