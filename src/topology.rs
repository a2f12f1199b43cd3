//! The parts of a cluster: roles, nodes, and how much the servers write into their WAL. Pure data; knows neither servers nor measurements.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The role of a node in a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Primary,
    /// Streams physically from the primary.
    Standby,
    /// Streams physically from a standby.
    CascadingStandby,
    /// Replays archived WAL segments and streams from no server.
    ArchiveStandby,
    /// Applies a logical publication of the primary.
    Subscriber,
}

impl Role {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Standby => "standby",
            Self::CascadingStandby => "cascading_standby",
            Self::ArchiveStandby => "archive_standby",
            Self::Subscriber => "subscriber",
        }
    }

    /// Whether this node has a walreceiver that streams the primary's WAL byte for byte.
    pub fn streams_physically(self) -> bool {
        matches!(self, Self::Standby | Self::CascadingStandby)
    }

    /// Whether transaction ids on this node are the primary's.
    pub fn is_physical(self) -> bool {
        !matches!(self, Self::Subscriber)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One server of a topology. Its name is also the `application_name` with which it replicates.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Node {
    pub name: String,
    pub role: Role,
    /// The node from which this node receives; `None` for the primary and for an archive standby.
    pub upstream: Option<String>,
    /// Server settings of this node alone, in addition to those of all nodes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
}

/// The numbers of replicas of each kind in a topology with one primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub struct NodeCounts {
    pub standbys: u8,
    /// Standbys that stream from the first standby.
    pub cascading: u8,
    pub archive: u8,
    pub subscribers: u8,
}

/// The nodes of a cluster, each after its upstream.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "RecordedTopology", into = "Vec<Node>")]
pub struct Topology {
    nodes: Vec<Node>,
}

/// The topology in a manifest. Older manifests record only the numbers of nodes.
#[derive(Deserialize)]
#[serde(untagged)]
enum RecordedTopology {
    Nodes(Vec<Node>),
    Counts(NodeCounts),
}

impl From<RecordedTopology> for Topology {
    fn from(recorded: RecordedTopology) -> Self {
        match recorded {
            RecordedTopology::Nodes(nodes) => Self { nodes },
            RecordedTopology::Counts(counts) => Self::from(counts),
        }
    }
}

impl From<Topology> for Vec<Node> {
    fn from(topology: Topology) -> Self {
        topology.nodes
    }
}

impl From<NodeCounts> for Topology {
    /// Names the nodes `primary`, `s1`.., `c1`.., `a1`.., `sub1`...
    fn from(counts: NodeCounts) -> Self {
        let node = |name: String, role, upstream: Option<&str>| Node {
            name,
            role,
            upstream: upstream.map(Into::into),
            settings: BTreeMap::new(),
        };
        let primary = Some(Self::PRIMARY);
        let kinds = [
            ("s", counts.standbys, Role::Standby, primary),
            ("c", counts.cascading, Role::CascadingStandby, Some("s1")),
            ("a", counts.archive, Role::ArchiveStandby, None),
            ("sub", counts.subscribers, Role::Subscriber, primary),
        ];
        let replicas = kinds
            .into_iter()
            .flat_map(|(prefix, count, role, upstream)| {
                (1..=count).map(move |index| node(format!("{prefix}{index}"), role, upstream))
            });
        let primary = node(Self::PRIMARY.into(), Role::Primary, None);
        Self {
            nodes: std::iter::once(primary).chain(replicas).collect(),
        }
    }
}

impl Topology {
    /// The name of the primary that replbench creates.
    pub const PRIMARY: &'static str = "primary";
    /// The most nodes of one kind. Names and connection limits are planned for this number.
    pub const MOST: u8 = 16;

    /// A primary and its replicas, by name and role.
    pub fn of_replicas(replicas: impl IntoIterator<Item = (String, Role)>) -> Self {
        let primary = (Self::PRIMARY.to_owned(), Role::Primary);
        let nodes = std::iter::once(primary).chain(replicas);
        let nodes = nodes.map(|(name, role)| Node {
            name,
            role,
            upstream: matches!(role, Role::Standby | Role::Subscriber)
                .then(|| Self::PRIMARY.into()),
            settings: BTreeMap::new(),
        });
        Self {
            nodes: nodes.collect(),
        }
    }

    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// All nodes but the primary.
    pub fn replicas(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.role != Role::Primary)
    }

    /// The number of nodes that have this role.
    pub fn count(&self, role: Role) -> u16 {
        let count = self.nodes.iter().filter(|node| node.role == role).count();
        u16::try_from(count).unwrap_or(u16::MAX)
    }

    pub fn has(&self, role: Role) -> bool {
        self.count(role) > 0
    }

    /// Sets nodes' own settings, by node name. Names that are not in this topology are ignored.
    #[must_use]
    pub fn with_settings(mut self, settings: &BTreeMap<String, BTreeMap<String, String>>) -> Self {
        for node in &mut self.nodes {
            if let Some(own) = settings.get(&node.name) {
                node.settings.clone_from(own);
            }
        }
        self
    }

    /// The `wal_level` that these nodes need.
    pub fn wal_level(&self) -> WalLevel {
        if self.has(Role::Subscriber) {
            WalLevel::Logical
        } else {
            WalLevel::Replica
        }
    }

    /// How these replicas differ from those of `base`, such as `2 subscribers instead of 2 standbys` or `1 standby fewer`. `None` if they
    /// have the same numbers of each kind.
    pub fn difference_from(&self, base: &Self) -> Option<String> {
        let (mut more, mut fewer) = (Vec::new(), Vec::new());
        for (role, one, many) in KINDS {
            let (own, other) = (self.count(role), base.count(role));
            let counted = |count: u16| format!("{count} {}", if count == 1 { one } else { many });
            match own.cmp(&other) {
                Ordering::Greater => more.push(counted(own - other)),
                Ordering::Less => fewer.push(counted(other - own)),
                Ordering::Equal => {}
            }
        }
        let (gained, lost) = (more.join(" and "), fewer.join(" and "));
        match (more.is_empty(), fewer.is_empty()) {
            (true, true) => None,
            (false, true) => Some(format!("{gained} more")),
            (true, false) => Some(format!("{lost} fewer")),
            (false, false) => Some(format!("{gained} instead of {lost}")),
        }
    }
}

/// The kinds of replicas, each with its name in the singular and the plural.
const KINDS: [(Role, &str, &str); 4] = [
    (Role::Standby, "standby", "standbys"),
    (
        Role::CascadingStandby,
        "cascading standby",
        "cascading standbys",
    ),
    (Role::ArchiveStandby, "archive standby", "archive standbys"),
    (Role::Subscriber, "subscriber", "subscribers"),
];

impl fmt::Display for Topology {
    /// Prints the number of nodes of each kind, then the own settings of each node.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("1 primary")?;
        for (role, one, many) in KINDS {
            match self.count(role) {
                0 => {}
                1 => write!(f, ", 1 {one}")?,
                count => write!(f, ", {count} {many}")?,
            }
        }
        for node in &self.nodes {
            for (name, value) in &node.settings {
                write!(f, ", {} with {name} = {value}", node.name)?;
            }
        }
        Ok(())
    }
}

/// `wal_level`: how much the servers of a cluster write into their WAL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WalLevel {
    Replica,
    /// The level that subscribers need. Writes more WAL than `Replica`.
    Logical,
}

impl WalLevel {
    /// The value of the setting `wal_level`.
    pub fn setting(self) -> &'static str {
        match self {
            Self::Replica => "replica",
            Self::Logical => "logical",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNTS: NodeCounts = NodeCounts {
        standbys: 2,
        cascading: 1,
        archive: 1,
        subscribers: 1,
    };

    #[test]
    fn every_node_follows_its_upstream() {
        let topology = Topology::from(COUNTS);
        let nodes = topology.nodes();
        for (index, node) in nodes.iter().enumerate() {
            if let Some(upstream) = &node.upstream {
                assert!(nodes[..index].iter().any(|other| &other.name == upstream));
            }
        }
        assert_eq!(nodes.len(), 6);
    }

    #[test]
    fn older_manifests_have_counts_and_newer_ones_nodes() {
        let older = r#"{"standbys": 2, "cascading": 1, "archive": 1, "subscribers": 1}"#;
        let read: Topology = serde_json::from_str(older).unwrap();
        assert_eq!(read, Topology::from(COUNTS));
        let slow = [("recovery_min_apply_delay".into(), "300ms".into())].into();
        let settings = BTreeMap::from([("s2".into(), slow)]);
        let own = read.with_settings(&settings);
        let written = serde_json::to_string(&own).unwrap();
        assert_eq!(serde_json::from_str::<Topology>(&written).unwrap(), own);
        let text = own.to_string();
        assert!(
            text.ends_with("1 subscriber, s2 with recovery_min_apply_delay = 300ms"),
            "{text}"
        );
    }
}
