//! What a cluster consists of and how it acknowledges a commit: roles, nodes, synchronous levels, modes.
//! Pure words; knows neither servers nor measurements.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What a node is in a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Primary,
    /// Streams physically from the primary.
    Standby,
    /// Streams physically from a standby.
    CascadingStandby,
    /// Replays archived WAL segments; streams from nobody.
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

    /// Whether a walreceiver of this node streams WAL byte for byte.
    pub fn streams_physically(self) -> bool {
        matches!(self, Self::Standby | Self::CascadingStandby)
    }

    /// Whether transaction ids on this node are those of the primary.
    pub fn is_physical(self) -> bool {
        !matches!(self, Self::Subscriber)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One server of a topology. Its name is also the `application_name` under which it replicates.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Node {
    pub name: String,
    pub role: Role,
    /// The node it receives from; `None` for the primary and for an archive standby.
    pub upstream: Option<String>,
}

/// How many nodes of each kind hang on one primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Topology {
    pub standbys: u8,
    /// Standbys of the first standby.
    pub cascading: u8,
    pub archive: u8,
    pub subscribers: u8,
}

impl Topology {
    pub const PRIMARY: &'static str = "primary";
    /// The most nodes of one kind: names and connection limits are planned for it.
    pub const MOST: u8 = 16;

    /// All nodes, each after its upstream: `primary`, `s1`.., `c1`.., `a1`.., `sub1`...
    pub fn nodes(self) -> Vec<Node> {
        let mut nodes = vec![Node {
            name: Self::PRIMARY.into(),
            role: Role::Primary,
            upstream: None,
        }];
        let kinds = [
            ("s", self.standbys, Role::Standby, Some(Self::PRIMARY)),
            ("c", self.cascading, Role::CascadingStandby, Some("s1")),
            ("a", self.archive, Role::ArchiveStandby, None),
            (
                "sub",
                self.subscribers,
                Role::Subscriber,
                Some(Self::PRIMARY),
            ),
        ];
        for (prefix, count, role, upstream) in kinds {
            nodes.extend((1..=count).map(|index| Node {
                name: format!("{prefix}{index}"),
                role,
                upstream: upstream.map(Into::into),
            }));
        }
        nodes
    }

    /// All nodes but the primary.
    pub fn replicas(self) -> Vec<Node> {
        self.nodes().split_off(1)
    }

    /// What `wal_level` these nodes need.
    pub fn wal_level(self) -> WalLevel {
        if self.subscribers > 0 {
            WalLevel::Logical
        } else {
            WalLevel::Replica
        }
    }

    /// How these replicas differ from those of `base`, such as `2 subscribers instead of 2 standbys` or `1 standby fewer`.
    /// `None`: in nothing.
    pub fn difference_from(self, base: Self) -> Option<String> {
        let (mut more, mut fewer) = (Vec::new(), Vec::new());
        for ((own, one, many), (other, ..)) in self.kinds().into_iter().zip(base.kinds()) {
            let counted = |count: u8| format!("{count} {}", if count == 1 { one } else { many });
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

    /// Numbers of replicas by kind, with the kind's name for one and for several.
    fn kinds(self) -> [(u8, &'static str, &'static str); 4] {
        [
            (self.standbys, "standby", "standbys"),
            (self.cascading, "cascading standby", "cascading standbys"),
            (self.archive, "archive standby", "archive standbys"),
            (self.subscribers, "subscriber", "subscribers"),
        ]
    }
}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("1 primary")?;
        for (count, one, many) in self.kinds() {
            if count > 0 {
                write!(f, ", {count} {}", if count == 1 { one } else { many })?;
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
    /// More than `Replica`, for subscribers.
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

/// `synchronous_commit`: what a commit waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SyncLevel {
    Off,
    Local,
    RemoteWrite,
    On,
    RemoteApply,
}

impl SyncLevel {
    /// The value of the setting `synchronous_commit`.
    pub fn setting(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Local => "local",
            Self::RemoteWrite => "remote_write",
            Self::On => "on",
            Self::RemoteApply => "remote_apply",
        }
    }
}

/// Which of the named standbys a commit waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quorum {
    /// The first n by priority.
    First(u8),
    /// Any n of them.
    Any(u8),
}

impl Quorum {
    pub fn count(self) -> u8 {
        match self {
            Self::First(count) | Self::Any(count) => count,
        }
    }
}

/// The content of `synchronous_standby_names`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SyncSet {
    pub quorum: Quorum,
    /// Names of nodes, in order of priority.
    pub nodes: Vec<String>,
}

impl SyncSet {
    /// The value of the setting, such as `FIRST 1 ("s1", "s2")`.
    pub fn setting(&self) -> String {
        let names: Vec<_> = self
            .nodes
            .iter()
            .map(|name| format!("\"{name}\""))
            .collect();
        let (word, count) = match self.quorum {
            Quorum::First(count) => ("FIRST", count),
            Quorum::Any(count) => ("ANY", count),
        };
        format!("{word} {count} ({})", names.join(", "))
    }
}

/// One way to replicate that is compared with others.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Mode {
    /// As written in the profile; unique in a plan.
    pub name: String,
    pub level: SyncLevel,
    /// `None`: `synchronous_standby_names` is empty.
    pub sync: Option<SyncSet>,
    pub topology: Topology,
}

impl Mode {
    /// Whether a commit waits for the same in both, on the same nodes, whatever they are called. Of all nodes it does not matter which
    /// come first.
    pub fn is_same_as(&self, other: &Self) -> bool {
        let wait_alike = match (&self.sync, &other.sync) {
            (Some(one), Some(two)) => {
                let waits_for_all =
                    |set: &SyncSet| usize::from(set.quorum.count()) == set.nodes.len();
                one == two || waits_for_all(one) && waits_for_all(two)
            }
            (one, two) => one == two,
        };
        self.level == other.level && self.topology == other.topology && wait_alike
    }

    /// One line for a person: what a commit waits for in this mode.
    pub fn explain(&self) -> String {
        match (self.level, &self.sync) {
            (SyncLevel::Off, _) => {
                "a commit waits for nothing, not even its own disk (synchronous_commit = off)"
                    .into()
            }
            (_, None) => "a commit waits for the primary's own disk only".into(),
            (level, Some(set)) => {
                let awaited = match level {
                    SyncLevel::RemoteWrite => "to have received it",
                    SyncLevel::RemoteApply => "to have replayed it, so that reads there see it",
                    _ => "to have flushed it to disk",
                };
                format!(
                    "a commit waits for {} {awaited}",
                    set.setting().replace('"', "")
                )
            }
        }
    }
}

/// A mode as written, before the numbers of nodes are known: `async`, `sync`, `remote_apply:any-2`, `logical:3`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModeSpec {
    name: String,
    kind: ModeKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ModeKind {
    Physical {
        level: SyncLevel,
        quorum: Option<Quorum>,
    },
    Logical {
        subscribers: Option<u8>,
        quorum: Option<Quorum>,
    },
    Cascade,
    Archive,
}

/// A mode that does not exist or cannot be had with the nodes at hand.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ModeError {
    #[error(
        "unknown mode `{0}`; modes are {names}, with `:first-N` or `:any-N` after a synchronous one and `:N` subscribers after a logical one",
        names = ModeSpec::NAMES.join(", ")
    )]
    Unknown(String),
    #[error(
        "mode `{mode}` waits for {needed} nodes, and the topology has {available}; add some or lower the quorum"
    )]
    TooFew {
        mode: String,
        needed: u8,
        available: u8,
    },
}

impl ModeSpec {
    /// The modes that exist, without their options.
    pub const NAMES: [&'static str; 10] = [
        "async",
        "off",
        "local",
        "remote_write",
        "sync",
        "remote_apply",
        "logical",
        "logical-sync",
        "cascade",
        "archive",
    ];

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The mode on a cluster whose profile asks for so many standbys and subscribers. A physical mode runs
    /// without subscribers and a logical one without standbys: nodes that a mode does not use would share its host.
    pub fn resolve(&self, standbys: u8, subscribers: u8) -> Result<Mode, ModeError> {
        let mut topology = Topology {
            standbys: 0,
            cascading: 0,
            archive: 0,
            subscribers: 0,
        };
        let (level, quorum, prefix) = match self.kind {
            ModeKind::Physical { level, quorum } => {
                topology.standbys = standbys;
                (level, quorum, "s")
            }
            ModeKind::Logical {
                subscribers: own,
                quorum,
            } => {
                topology.subscribers = own.unwrap_or(subscribers.max(1));
                (SyncLevel::On, quorum, "sub")
            }
            ModeKind::Cascade => {
                // The last standby hangs on the first instead of the primary: as many replicas as without a cascade.
                topology.standbys = standbys.saturating_sub(1).max(1);
                topology.cascading = 1;
                (SyncLevel::On, None, "s")
            }
            ModeKind::Archive => {
                topology.archive = 1;
                (SyncLevel::On, None, "a")
            }
        };
        let available = topology.standbys.max(topology.subscribers);
        if let Some(quorum) = quorum
            && quorum.count() > available
        {
            return Err(ModeError::TooFew {
                mode: self.name.clone(),
                needed: quorum.count(),
                available,
            });
        }
        Ok(Mode {
            name: self.name.clone(),
            level,
            sync: quorum.map(|quorum| SyncSet {
                quorum,
                nodes: (1..=available)
                    .map(|index| format!("{prefix}{index}"))
                    .collect(),
            }),
            topology,
        })
    }
}

impl FromStr for ModeSpec {
    type Err = ModeError;

    fn from_str(text: &str) -> Result<Self, ModeError> {
        let unknown = || ModeError::Unknown(text.to_owned());
        let (base, option) = match text.split_once(':') {
            Some((base, option)) => (base, Some(option)),
            None => (text, None),
        };
        let kind = match base {
            "async" | "off" | "local" | "cascade" | "archive" if option.is_some() => {
                return Err(unknown());
            }
            "async" => ModeKind::Physical {
                level: SyncLevel::On,
                quorum: None,
            },
            "off" => ModeKind::Physical {
                level: SyncLevel::Off,
                quorum: None,
            },
            "local" => ModeKind::Physical {
                level: SyncLevel::Local,
                quorum: None,
            },
            "remote_write" | "sync" | "on" | "remote_apply" => ModeKind::Physical {
                level: match base {
                    "remote_write" => SyncLevel::RemoteWrite,
                    "remote_apply" => SyncLevel::RemoteApply,
                    _ => SyncLevel::On,
                },
                quorum: Some(match option {
                    None => Quorum::First(1),
                    Some(option) => parse_quorum(option).ok_or_else(unknown)?,
                }),
            },
            "logical" | "logical-sync" => ModeKind::Logical {
                subscribers: option
                    .map(|option| parse_count(option).ok_or_else(unknown))
                    .transpose()?,
                quorum: (base == "logical-sync").then_some(Quorum::First(1)),
            },
            "cascade" => ModeKind::Cascade,
            "archive" => ModeKind::Archive,
            _ => return Err(unknown()),
        };
        Ok(Self {
            name: text.to_owned(),
            kind,
        })
    }
}

fn parse_quorum(text: &str) -> Option<Quorum> {
    let (word, count) = text.split_once('-')?;
    let count = parse_count(count)?;
    match word {
        "first" => Some(Quorum::First(count)),
        "any" => Some(Quorum::Any(count)),
        _ => None,
    }
}

fn parse_count(text: &str) -> Option<u8> {
    let count = text.parse().ok()?;
    (1..=Topology::MOST).contains(&count).then_some(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_the_same_by_what_they_wait_for() {
        let on = |text: &str, standbys| {
            let spec = text.parse::<ModeSpec>().unwrap();
            spec.resolve(standbys, 2).unwrap()
        };
        for (one, two, standbys, same) in [
            ("sync", "sync:first-1", 2, true),
            ("sync", "on", 2, true),
            ("sync", "sync:any-1", 2, false),
            ("sync", "sync:any-1", 1, true),
            ("sync:first-2", "sync:any-2", 2, true),
            ("sync:first-2", "sync:any-2", 3, false),
            ("logical", "logical:2", 2, true),
            ("async", "local", 2, false),
            ("sync", "remote_apply", 2, false),
        ] {
            let (one, two) = (on(one, standbys), on(two, standbys));
            assert_eq!(one.is_same_as(&two), same, "{} {}", one.name, two.name);
        }
    }

    fn mode(text: &str) -> Mode {
        text.parse::<ModeSpec>().unwrap().resolve(3, 2).unwrap()
    }

    #[test]
    fn a_synchronous_mode_names_its_standbys_in_order() {
        assert_eq!(
            mode("sync:any-2").sync.unwrap().setting(),
            r#"ANY 2 ("s1", "s2", "s3")"#
        );
        assert_eq!(
            mode("remote_apply").sync.unwrap().setting(),
            r#"FIRST 1 ("s1", "s2", "s3")"#
        );
        assert!(mode("async").sync.is_none());
    }

    #[test]
    fn every_named_mode_resolves() {
        for name in ModeSpec::NAMES {
            assert_eq!(mode(name).name, name);
        }
        assert_eq!(mode("logical:3").topology.subscribers, 3);
        assert_eq!(mode("logical-sync").sync.unwrap().nodes, ["sub1", "sub2"]);
    }

    #[test]
    fn a_cascade_has_as_many_replicas_as_the_modes_it_is_compared_with() {
        let (flat, cascade) = (mode("async").topology, mode("cascade").topology);
        assert_eq!(flat.replicas().len(), cascade.replicas().len());
        assert_eq!((cascade.standbys, cascade.cascading), (2, 1));
    }

    #[test]
    fn how_replicas_differ_is_said_in_words() {
        let topology = |text: &str| mode(text).topology;
        for (own, base, expected) in [
            ("async", "sync", None),
            ("logical:3", "logical:1", Some("2 subscribers more")),
            ("logical:2", "logical:3", Some("1 subscriber fewer")),
            (
                "logical:3",
                "async",
                Some("3 subscribers instead of 3 standbys"),
            ),
            (
                "cascade",
                "async",
                Some("1 cascading standby instead of 1 standby"),
            ),
            (
                "archive",
                "async",
                Some("1 archive standby instead of 3 standbys"),
            ),
        ] {
            let found = topology(own).difference_from(topology(base));
            assert_eq!(found.as_deref(), expected, "{own} against {base}");
        }
    }

    #[test]
    fn a_quorum_larger_than_the_cluster_is_refused() {
        let error = "sync:first-4"
            .parse::<ModeSpec>()
            .unwrap()
            .resolve(3, 0)
            .unwrap_err();
        assert!(error.to_string().contains("waits for 4 nodes"), "{error}");
    }

    #[test]
    fn nonsense_modes_are_refused_with_the_list() {
        for bad in ["", "synch", "sync:2", "sync:any-0", "async:1", "logical:99"] {
            let error = bad.parse::<ModeSpec>().unwrap_err();
            assert!(error.to_string().contains("remote_apply"), "{bad}: {error}");
        }
    }

    #[test]
    fn every_node_follows_its_upstream() {
        let nodes = Topology {
            standbys: 2,
            cascading: 1,
            archive: 1,
            subscribers: 1,
        }
        .nodes();
        for (index, node) in nodes.iter().enumerate() {
            if let Some(upstream) = &node.upstream {
                assert!(nodes[..index].iter().any(|other| &other.name == upstream));
            }
        }
        assert_eq!(nodes.len(), 6);
    }
}
