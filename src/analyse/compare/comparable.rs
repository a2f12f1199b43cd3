//! Whether two runs may be compared at all: how they differ, and which differences forbid the comparison.

use std::collections::{BTreeMap, BTreeSet};

use itertools::Itertools as _;
use serde::Serialize;
use serde_json::Value;

use crate::mode::Mode;
use crate::plan::{Priority, ServersMade};
use crate::record::{Manifest, NodeInfo, RunStatus};
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

/// The consequence of a difference for the comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Consequence {
    /// The difference makes the runs incomparable.
    Forbids,
    /// The difference is what is being compared, such as that between the two sides of a session.
    Subject,
    /// The difference is only reported.
    Noted,
}

/// The most settings that are reported as differences; more of them would say no more.
const MOST: usize = 12;

/// Everything in which two runs differ. `modes` are the pairs of modes, by name, that are compared with each other.
pub(super) fn differences(
    base: &Manifest,
    head: &Manifest,
    modes: &[(String, String)],
) -> Vec<Difference> {
    let asked = if same_session(base, head) {
        Consequence::Subject
    } else {
        Consequence::Forbids
    };
    let mut finder = Finder {
        base,
        head,
        asked,
        found: Vec::new(),
    };
    finder.status();
    finder.host();
    finder.workload();
    finder.part("probes");
    finder.field("client", asked, client);
    finder.field("load_priority", Consequence::Noted, |it| {
        it.load_priority.unwrap_or(Priority::of_older_runs())
    });
    for (one, other) in modes {
        finder.mode(one, other);
    }
    finder.field("PostgreSQL major", asked, majors);
    finder.settings();
    finder.servers();
    finder.noted();
    finder.found
}

/// The client as it was recorded. A client that this version does not know keeps its recorded text, so that it is not taken for another.
fn client(manifest: &Manifest) -> String {
    match (manifest.plan.client, manifest.plan.part("client")) {
        (Some(client), _) => client.to_string(),
        (None, written) => written.to_string(),
    }
}

/// Whether the two runs are the sides of one session, so that their blocks form pairs.
pub(super) fn same_session(base: &Manifest, head: &Manifest) -> bool {
    let id = |manifest: &Manifest| manifest.session.as_ref().map(|session| session.id.clone());
    base.run_id != head.run_id && id(base).is_some() && id(base) == id(head)
}

struct Finder<'a> {
    base: &'a Manifest,
    head: &'a Manifest,
    /// The consequence of a difference in something that a session may have been asked to compare.
    asked: Consequence,
    found: Vec<Difference>,
}

impl<'a> Finder<'a> {
    fn add(&mut self, field: String, consequence: Consequence, base: String, head: String) {
        self.found.push(Difference {
            field,
            base,
            head,
            consequence,
        });
    }

    fn field<T: PartialEq + ToString>(
        &mut self,
        field: &str,
        consequence: Consequence,
        of: impl Fn(&'a Manifest) -> T,
    ) {
        let (base, head) = (of(self.base), of(self.head));
        if base != head {
            let (base, head) = (base.to_string(), head.to_string());
            self.add(field.into(), consequence, base, head);
        }
    }

    /// An invalid run must not be compared with any other, because its figures are not to be relied on. A run that did not end is noted.
    fn status(&mut self) {
        for (manifest, is_base) in [(self.base, true), (self.head, false)] {
            let consequence = match manifest.status {
                RunStatus::Complete => continue,
                RunStatus::Invalid => Consequence::Forbids,
                RunStatus::Running | RunStatus::Interrupted | RunStatus::Failed => {
                    Consequence::Noted
                }
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
            self.add("status".into(), consequence, base, head);
        }
    }

    fn host(&mut self) {
        use Consequence::{Forbids, Noted};
        self.field("host_id", Forbids, |it| &it.host.host_id);
        self.field("host.cpu", Forbids, |it| &it.host.cpu);
        self.field("host.cores", Forbids, |it| it.host.cores);
        self.field("host.filesystem", Forbids, |it| &it.host.filesystem);
        let memory = |it: &Manifest| format_bytes(it.host.memory_bytes as f64);
        self.field("host.memory", Noted, memory);
        self.field("host.kernel", Noted, |it| &it.host.kernel);
    }

    /// How the servers were made. If replbench did not make the servers of either run itself, a difference forbids the comparison: such
    /// servers are reached in another way, and others may use them.
    fn servers(&mut self) {
        let is_own = |it: &Manifest| {
            matches!(
                it.servers_made(),
                ServersMade::Once | ServersMade::EveryBlock | ServersMade::EveryCell
            )
        };
        let consequence = if is_own(self.base) && is_own(self.head) {
            Consequence::Noted
        } else {
            Consequence::Forbids
        };
        self.field("servers", consequence, servers_made);
    }

    /// Differences that hardly matter but may explain a result.
    fn noted(&mut self) {
        use Consequence::Noted;
        self.field("PostgreSQL version", Noted, versions);
        self.field("harness.version", Noted, |it| &it.harness.version);
        self.field("harness.git", Noted, |it| {
            it.harness.git.as_deref().unwrap_or("unknown")
        });
        self.field("seed", Noted, |it| it.seed);
    }

    /// The workload's hash decides whether the workloads differ; the parts of the plan say where.
    fn workload(&mut self) {
        if self.base.workload_hash == self.head.workload_hash {
            return;
        }
        let before = self.found.len();
        for part in ["tables", "transactions", "load", "phases", "faults"] {
            self.part(part);
        }
        if self.found.len() == before {
            let forbids = Consequence::Forbids;
            self.field("workload_hash", forbids, |it| &it.workload_hash);
        }
    }

    /// A part of the plan that must be the same.
    fn part(&mut self, part: &str) {
        let (base, head) = (self.base.plan.part(part), self.head.plan.part(part));
        self.values(part.into(), base, head);
    }

    /// Adds the innermost values in which two JSON values differ.
    fn values(&mut self, path: String, base: &Value, head: &Value) {
        if base == head {
            return;
        }
        match (base, head) {
            (Value::Object(one), Value::Object(other)) => {
                for key in one.keys().chain(other.keys()).collect::<BTreeSet<_>>() {
                    let (one, other) = (one.get(key), other.get(key));
                    let (one, other) = (one.unwrap_or(&Value::Null), other.unwrap_or(&Value::Null));
                    self.values(format!("{path}.{key}"), one, other);
                }
            }
            (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
                for (index, (one, other)) in one.iter().zip(other).enumerate() {
                    self.values(format!("{path}[{index}]"), one, other);
                }
            }
            _ => {
                let (base, head) = (base.to_string(), head.to_string());
                self.add(path, Consequence::Forbids, base, head);
            }
        }
    }

    /// Modes of the same name must wait for the same nodes.
    fn mode(&mut self, one: &str, other: &str) {
        if one != other {
            let (one, other) = (one.into(), other.into());
            self.add("mode".into(), Consequence::Subject, one, other);
        } else if let (Some(one), Some(other)) = (self.base.mode(one), self.head.mode(other))
            && one != other
        {
            let field = format!("mode {}", one.name);
            let nodes = |mode: &Mode| format!("{} ({})", mode.explain(), mode.topology);
            self.add(field, self.asked, nodes(one), nodes(other));
        }
    }

    /// Settings of the nodes that both runs have, matched by cluster and name.
    fn settings(&mut self) {
        let mut differ: BTreeMap<(&str, &str, &str), BTreeSet<&str>> = BTreeMap::new();
        for one in &self.base.nodes {
            let is_same =
                |other: &&NodeInfo| other.cluster == one.cluster && other.name == one.name;
            let Some(other) = self.head.nodes.iter().find(is_same) else {
                continue;
            };
            let (ours, theirs) = (lasting_settings(one), lasting_settings(other));
            for name in ours.keys().chain(theirs.keys()).copied() {
                let ours = ours.get(name).copied().unwrap_or("default");
                let theirs = theirs.get(name).copied().unwrap_or("default");
                if ours != theirs {
                    let nodes = differ.entry((name, ours, theirs)).or_default();
                    nodes.insert(&one.name);
                }
            }
        }
        for ((name, one, other), nodes) in differ.into_iter().take(MOST) {
            let field = format!("setting {name} ({})", nodes.iter().join(", "));
            self.add(field, self.asked, one.into(), other.into());
        }
    }
}

/// Settings that name the directories of one run, or that a server computes from other settings and its kernel.
const RUN_SPECIFIC_SETTINGS: [&str; 5] = [
    "archive_command",
    "restore_command",
    "shared_memory_size",
    "shared_memory_size_in_huge_pages",
    "max_stack_depth",
];

/// The settings of a node that are not specific to one run.
pub(in crate::analyse) fn lasting_settings(node: &NodeInfo) -> BTreeMap<&str, &str> {
    let settings = node.settings.iter();
    let lasting = settings.filter(|(name, _)| !RUN_SPECIFIC_SETTINGS.contains(&name.as_str()));
    lasting
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect()
}

/// How long servers lived, in words. New servers begin with cold caches and create new WAL segments; old servers use theirs again.
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

/// How the servers of two modes of a run differ apart from what commits wait for, in words; the ratio of the two modes includes the effect
/// of these differences. `None` if there are none, or a mode is unknown.
pub(in crate::analyse) fn server_differences(
    manifest: &Manifest,
    mode: &str,
    base: &str,
) -> Option<String> {
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
    let versions = manifest.nodes.iter().map(|node| &node.version);
    let majors = versions.filter_map(|it| it.split(['.', ' ', 'd', 'b', 'r']).next());
    majors.sorted().dedup().join(", ")
}

fn versions(manifest: &Manifest) -> String {
    let versions = manifest.nodes.iter().map(|node| &node.version);
    versions.sorted().dedup().join(", ")
}
