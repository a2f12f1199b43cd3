//! How commits are acknowledged: synchronous levels, quorums, and the modes that are compared.
//! Plain data; knows neither servers nor measurements.

mod given;
mod sync;

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::topology::{NodeCounts, Topology};
pub use given::{ComposeNodes, Found, Given, MayPause};
pub use sync::{Quorum, SyncLevel, SyncSet};

/// One replication mode, which is compared with others.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Mode {
    /// The mode's name as written in the profile; unique in a plan.
    pub name: String,
    pub level: SyncLevel,
    /// The value of `synchronous_standby_names`; `None` if it is empty.
    pub sync: Option<SyncSet>,
    pub topology: Topology,
}

impl Mode {
    /// The replicas whose replay every commit waits for. With an `ANY` quorum there are none, unless the quorum is all replicas.
    pub fn awaits_replay_of(&self) -> Vec<String> {
        match (&self.sync, self.level) {
            (Some(set), SyncLevel::RemoteApply) => match set.quorum {
                Quorum::First(count) => set.nodes.iter().take(count.into()).cloned().collect(),
                Quorum::Any(count) if usize::from(count) >= set.nodes.len() => set.nodes.clone(),
                Quorum::Any(_) => Vec::new(),
            },
            _ => Vec::new(),
        }
    }

    /// Whether both modes have the same topology and commits wait for the same in both. The names of the modes may differ, and so may the
    /// order of standbys if a commit waits for all of them.
    pub fn is_same_as(&self, other: &Self) -> bool {
        let wait_alike = match (&self.sync, &other.sync) {
            (Some(one), Some(two)) => {
                let waits_for_all =
                    |set: &SyncSet| usize::from(set.quorum.count()) == set.nodes.len();
                let nodes = |set: &SyncSet| BTreeSet::from_iter(set.nodes.clone());
                let wait_for_all = waits_for_all(one) && waits_for_all(two);
                one == two || wait_for_all && nodes(one) == nodes(two)
            }
            (one, two) => one == two,
        };
        self.level == other.level && self.topology == other.topology && wait_alike
    }

    /// The mode with these additional settings of single nodes, by the node's name.
    #[must_use]
    pub fn with_settings(mut self, of_nodes: &BTreeMap<String, BTreeMap<String, String>>) -> Self {
        self.topology = self.topology.with_settings(of_nodes);
        self
    }

    /// One line that explains what a commit waits for in this mode.
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

/// A mode as written, such as `async`, `sync`, `remote_apply:any-2` or `logical:3`, before the numbers of nodes are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModeSpec {
    name: String,
    kind: &'static ModeKind,
    /// The quorum that `:first-1` or `:any-2` gives; `None` if none is written.
    quorum: Option<Quorum>,
    /// The number of subscribers that `:3` gives; `None` if none is written.
    subscribers: Option<u8>,
}

/// Everything that a mode's word determines.
#[derive(Debug, PartialEq, Eq)]
struct ModeKind {
    word: &'static str,
    level: SyncLevel,
    replicas: Replicas,
    waits: Waits,
}

/// What replicates under a mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Replicas {
    Standbys,
    /// The last standby replicates from the first standby.
    Cascade,
    Archive,
    Subscribers,
    /// The replicas that existing servers have.
    Found,
}

/// Whether commits wait for replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waits {
    Never,
    /// Commits wait for the first replica, and no option can change that.
    ForFirst,
    /// Commits wait for the first replica, or for the quorum that `:first-N` or `:any-N` gives.
    ForQuorum,
}

/// All modes. A new mode that differs only in settings needs only a new line here.
#[rustfmt::skip]
const MODES: [ModeKind; 12] = [
    ModeKind::new("async", SyncLevel::On, Replicas::Standbys, Waits::Never),
    ModeKind::new("off", SyncLevel::Off, Replicas::Standbys, Waits::Never),
    ModeKind::new("local", SyncLevel::Local, Replicas::Standbys, Waits::Never),
    ModeKind::new("remote_write", SyncLevel::RemoteWrite, Replicas::Standbys, Waits::ForQuorum),
    ModeKind::new("sync", SyncLevel::On, Replicas::Standbys, Waits::ForQuorum),
    ModeKind::new("on", SyncLevel::On, Replicas::Standbys, Waits::ForQuorum),
    ModeKind::new("remote_apply", SyncLevel::RemoteApply, Replicas::Standbys, Waits::ForQuorum),
    ModeKind::new("logical", SyncLevel::On, Replicas::Subscribers, Waits::Never),
    ModeKind::new("logical-sync", SyncLevel::On, Replicas::Subscribers, Waits::ForFirst),
    ModeKind::new("cascade", SyncLevel::On, Replicas::Cascade, Waits::Never),
    ModeKind::new("archive", SyncLevel::On, Replicas::Archive, Waits::Never),
    ModeKind::new(AS_IS, SyncLevel::On, Replicas::Found, Waits::Never),
];

/// The value of `synchronous_commit` that `sync` stands for. It is accepted as a mode, but not listed beside `sync`.
const ALIAS: &str = "on";

/// The mode in which existing servers keep their own replication settings.
const AS_IS: &str = "as-is";

impl ModeKind {
    const fn new(word: &'static str, level: SyncLevel, replicas: Replicas, waits: Waits) -> Self {
        Self {
            word,
            level,
            replicas,
            waits,
        }
    }
}

/// A mode that does not exist or is impossible with the available nodes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ModeError {
    #[error(
        "unknown mode `{0}`; modes are {names}, with `:first-N` or `:any-N` after a synchronous one and `:N` subscribers after a logical one",
        names = ModeSpec::names().collect::<Vec<_>>().join(", ")
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
    #[error(
        "mode `{0}` is what servers that exist do of their own accord; name them with `--primary`, or choose another mode"
    )]
    NothingFound(String),
    #[error(
        "mode `{mode}` cannot be had on {servers}: {reason}; leave it out, or run without `{option}`"
    )]
    NotThere {
        mode: String,
        servers: &'static str,
        option: &'static str,
        reason: String,
    },
}

impl ModeSpec {
    /// The mode in which existing servers keep their own replication settings.
    pub fn as_is() -> Self {
        AS_IS.parse().expect("it is in the table")
    }

    /// The quorum of replicas that commits wait for; `None` if they wait for none.
    fn awaited(&self) -> Option<Quorum> {
        match self.kind.waits {
            Waits::Never => None,
            Waits::ForFirst | Waits::ForQuorum => Some(self.quorum.unwrap_or(Quorum::First(1))),
        }
    }

    /// The modes that exist, without their options.
    pub fn names() -> impl Iterator<Item = &'static str> {
        MODES
            .iter()
            .map(|kind| kind.word)
            .filter(|word| *word != ALIAS)
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Resolves the mode on a cluster whose profile asks for these numbers of standbys and subscribers. A physical mode runs without
    /// subscribers and a logical mode without standbys, because nodes that a mode does not use would share its host.
    pub fn resolve(&self, standbys: u8, subscribers: u8) -> Result<Mode, ModeError> {
        let mut counts = NodeCounts::default();
        let (awaited, available) = match self.kind.replicas {
            Replicas::Standbys => {
                counts.standbys = standbys;
                ("s", standbys)
            }
            Replicas::Subscribers => {
                counts.subscribers = self.subscribers.unwrap_or(subscribers.max(1));
                ("sub", counts.subscribers)
            }
            Replicas::Cascade => {
                // The cascade has as many replicas in total as the other modes.
                counts.standbys = standbys.saturating_sub(1).max(1);
                counts.cascading = 1;
                ("s", counts.standbys)
            }
            Replicas::Archive => {
                counts.archive = 1;
                ("a", counts.archive)
            }
            Replicas::Found => return Err(ModeError::NothingFound(self.name.clone())),
        };
        let quorum = self.awaited();
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
            level: self.kind.level,
            sync: quorum.map(|quorum| SyncSet {
                quorum,
                nodes: (1..=available)
                    .map(|index| format!("{awaited}{index}"))
                    .collect(),
            }),
            topology: counts.into(),
        })
    }
}

impl FromStr for ModeSpec {
    type Err = ModeError;

    fn from_str(text: &str) -> Result<Self, ModeError> {
        let unknown = || ModeError::Unknown(text.to_owned());
        let (word, option) = match text.split_once(':') {
            Some((word, option)) => (word, Some(option)),
            None => (text, None),
        };
        let kind = MODES.iter().find(|kind| kind.word == word);
        let kind = kind.ok_or_else(unknown)?;
        let (mut quorum, mut subscribers) = (None, None);
        if let Some(option) = option {
            match (kind.waits, kind.replicas) {
                (Waits::ForQuorum, _) => quorum = parse_quorum(option),
                (_, Replicas::Subscribers) => subscribers = parse_count(option),
                _ => {}
            }
            if quorum.is_none() && subscribers.is_none() {
                return Err(unknown());
            }
        }
        Ok(Self {
            name: text.to_owned(),
            kind,
            quorum,
            subscribers,
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
    use crate::topology::Role;

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
        for name in ModeSpec::names().filter(|name| *name != AS_IS) {
            assert_eq!(mode(name).name, name);
        }
        let made = ModeSpec::as_is().resolve(3, 2);
        assert!(matches!(made, Err(ModeError::NothingFound(_))), "{made:?}");
        assert_eq!(mode("logical:3").topology.count(Role::Subscriber), 3);
        assert_eq!(mode("logical-sync").sync.unwrap().nodes, ["sub1", "sub2"]);
    }

    #[test]
    fn a_cascade_has_as_many_replicas_as_the_modes_it_is_compared_with() {
        let (flat, cascade) = (mode("async").topology, mode("cascade").topology);
        assert_eq!(flat.replicas().count(), cascade.replicas().count());
        let counts = [Role::Standby, Role::CascadingStandby].map(|role| cascade.count(role));
        assert_eq!(counts, [2, 1]);
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
            let found = topology(own).difference_from(&topology(base));
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
}
