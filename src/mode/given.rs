//! Modes on servers whose topology is given: servers that exist already, and servers of a compose file.

use std::collections::BTreeMap;

use super::{Mode, ModeError, ModeSpec, Replicas, SyncLevel, SyncSet, Waits};
use crate::topology::{Role, Topology};

/// The topology of servers that exist, and what commits wait for there unless a session sets `synchronous_commit`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub topology: Topology,
    pub level: SyncLevel,
    pub sync: Option<SyncSet>,
    /// Whether replbench may change `synchronous_standby_names`.
    pub may_set: bool,
    /// `None` if faults are not allowed on the servers; otherwise the standbys whose replay this user may pause.
    pub faults: Option<MayPause>,
}

/// The standbys whose replay a user may pause (`nodes`), and why the user may not pause the replay of the others (`lacks`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MayPause {
    pub nodes: Vec<String>,
    pub lacks: String,
}

/// The topology of a compose file's services, and which faults cannot happen to them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComposeNodes {
    pub topology: Topology,
    /// Nodes that cannot be cut off from the primary, with the reason, by the node's name. All other nodes can be cut off.
    pub never_cut: BTreeMap<String, String>,
    /// Why no standby can be promoted; `None` if one can.
    pub never_failed_over: Option<String>,
}

/// Servers whose topology a plan takes as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Given {
    /// Servers that run already and do not belong to replbench.
    Existing(Found),
    /// Servers of a compose file, which are started for the run.
    Compose(ComposeNodes),
}

impl Given {
    /// What to call the servers in a sentence.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Existing(_) => "servers that exist",
            Self::Compose(_) => "this compose cluster",
        }
    }

    /// The command-line option that names the servers.
    pub fn option(&self) -> &'static str {
        match self {
            Self::Existing(_) => "--primary",
            Self::Compose(_) => "--cluster",
        }
    }
}

impl ModeSpec {
    /// Resolves the mode on given servers.
    pub fn resolve_on(&self, given: &Given) -> Result<Mode, ModeError> {
        let resolved = match given {
            Given::Existing(found) if found.may_set && self.kind.replicas != Replicas::Found => {
                self.resolve_among(&found.topology)
            }
            Given::Existing(found) => self.resolve_found(found),
            Given::Compose(nodes) => self.resolve_among(&nodes.topology),
        };
        resolved.map_err(|reason| ModeError::NotThere {
            mode: self.name.clone(),
            servers: given.name(),
            option: given.option(),
            reason,
        })
    }

    /// Resolves the mode on servers that exist without changing `synchronous_standby_names`: only the session's `synchronous_commit` can
    /// be chosen. An error is the reason why the mode is impossible.
    fn resolve_found(&self, found: &Found) -> Result<Mode, String> {
        let names_stay = "needs other synchronous_standby_names than there are; --set-sync may set them for the run";
        let (level, sync) = match (self.kind.replicas, self.kind.waits, &found.sync) {
            (Replicas::Found, _, sync) => (found.level, sync.clone()),
            (Replicas::Subscribers, ..) if !found.topology.has(Role::Subscriber) => {
                return Err("it needs a node of role subscriber, and there is none".into());
            }
            (Replicas::Subscribers, Waits::ForFirst | Waits::ForQuorum, _) => {
                return Err(format!("it {names_stay}"));
            }
            (Replicas::Standbys | Replicas::Subscribers, Waits::Never, None) => {
                (self.kind.level, None)
            }
            // synchronous_standby_names stays set, so only the session's synchronous_commit can keep a commit from waiting: `local` at
            // most.
            (Replicas::Standbys | Replicas::Subscribers, Waits::Never, Some(_)) => {
                (self.kind.level.min(SyncLevel::Local), None)
            }
            (Replicas::Standbys, _, None) => {
                return Err(format!(
                    "synchronous_standby_names is empty there, and it {names_stay}"
                ));
            }
            (Replicas::Standbys, _, Some(set)) => {
                if self.quorum.is_some_and(|quorum| quorum != set.quorum) {
                    let is = set.setting().replace('"', "");
                    return Err(format!(
                        "synchronous_standby_names is {is} there, and it {names_stay}"
                    ));
                }
                (self.kind.level, Some(set.clone()))
            }
            (Replicas::Cascade | Replicas::Archive, ..) => {
                return Err("it needs replicas of its own kind".into());
            }
        };
        Ok(Mode {
            name: self.name.clone(),
            level,
            // With `local` and `off` a commit waits for no standby, whatever synchronous_standby_names is.
            sync: sync.filter(|_| level > SyncLevel::Local),
            topology: found.topology.clone(),
        })
    }

    /// Resolves the mode on these nodes, where replbench may choose what commits wait for. An error is the reason why the mode is
    /// impossible.
    fn resolve_among(&self, topology: &Topology) -> Result<Mode, String> {
        let role = match self.kind.replicas {
            Replicas::Standbys => Role::Standby,
            Replicas::Subscribers => Role::Subscriber,
            Replicas::Archive => Role::ArchiveStandby,
            Replicas::Cascade => return Err("no standby of a standby can be named there".into()),
            Replicas::Found => return Err("it is for servers that exist".into()),
        };
        let nodes = topology.replicas().filter(|node| node.role == role);
        let nodes: Vec<_> = nodes.map(|node| node.name.clone()).collect();
        let needed = match (self.quorum, self.subscribers) {
            (Some(quorum), _) => quorum.count(),
            (None, Some(count)) => count,
            (None, None) => 1,
        };
        if nodes.len() < needed.into() {
            return Err(match nodes.len() {
                0 => format!("it needs a node of role {role}, and there is none"),
                count => format!("it needs {needed} nodes of role {role}, and there are {count}"),
            });
        }
        if self.subscribers.is_some() && nodes.len() > needed.into() {
            return Err(format!("there are {} subscribers", nodes.len()));
        }
        Ok(Mode {
            name: self.name.clone(),
            level: self.kind.level,
            sync: self.awaited().map(|quorum| SyncSet { quorum, nodes }),
            topology: topology.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_a_compose_cluster_a_mode_takes_the_nodes_of_its_role_by_their_names() {
        let nodes = [
            ("replica", Role::Standby),
            ("other", Role::Standby),
            ("reader", Role::Subscriber),
        ];
        let nodes = nodes.map(|(name, role)| (name.to_owned(), role));
        let given = Given::Compose(ComposeNodes {
            topology: Topology::of_replicas(nodes),
            never_cut: BTreeMap::new(),
            never_failed_over: None,
        });
        let on = |text: &str| text.parse::<ModeSpec>().unwrap().resolve_on(&given);
        let awaited = |text: &str| on(text).unwrap().sync.map(|set| set.setting());
        assert_eq!(awaited("async"), None);
        let both = r#"ANY 2 ("replica", "other")"#;
        assert_eq!(awaited("sync:any-2").as_deref(), Some(both));
        let reader = r#"FIRST 1 ("reader")"#;
        assert_eq!(awaited("logical-sync").as_deref(), Some(reader));
        assert!(on("logical:1").is_ok());
        for (text, reason) in [
            (
                "sync:first-3",
                "it needs 3 nodes of role standby, and there are 2",
            ),
            (
                "archive",
                "it needs a node of role archive_standby, and there is none",
            ),
            ("as-is", "it is for servers that exist"),
            ("cascade", "no standby of a standby"),
        ] {
            let error = on(text).unwrap_err().to_string();
            assert!(
                error.contains(reason) && error.contains("--cluster"),
                "{error}"
            );
        }
    }

    fn found(names: &str) -> Found {
        let all = ["s1".to_owned(), "s2".to_owned()];
        Found {
            topology: Topology::of_replicas(all.clone().map(|name| (name, Role::Standby))),
            level: SyncLevel::On,
            sync: SyncSet::parse(names, &all),
            may_set: false,
            faults: None,
        }
    }

    #[test]
    fn on_servers_that_exist_a_session_chooses_what_it_waits_for_and_nothing_else() {
        let on = |text: &str, names: &str| {
            text.parse::<ModeSpec>()
                .unwrap()
                .resolve_on(&Given::Existing(found(names)))
                .map(|mode| (mode.level, mode.sync.is_some()))
        };
        assert_eq!(on("as-is", ""), Ok((SyncLevel::On, false)));
        assert_eq!(on("as-is", "s1"), Ok((SyncLevel::On, true)));
        assert_eq!(on("async", ""), Ok((SyncLevel::On, false)));
        assert_eq!(on("async", "s1"), Ok((SyncLevel::Local, false)));
        assert_eq!(on("off", "s1"), Ok((SyncLevel::Off, false)));
        assert_eq!(on("remote_apply", "s1"), Ok((SyncLevel::RemoteApply, true)));
        assert_eq!(
            on("sync:any-1", "any 1 (s1, s2)"),
            Ok((SyncLevel::On, true))
        );
        for (mode, names) in [
            ("sync", ""),
            ("sync:first-2", "s1"),
            ("logical", "s1"),
            ("cascade", ""),
        ] {
            assert!(
                matches!(on(mode, names), Err(ModeError::NotThere { .. })),
                "{mode}"
            );
        }
    }
}
