//! Faults: what is done to a node at a given time of the measurement phase, and then undone.
//! Knows how a fault is written and which nodes can be its target, but not how it is carried out.

mod written;

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use written::UnknownFault;
pub(super) use written::faults;

use super::workload::Length;
use crate::mode::Mode;
use crate::topology::Role;
use crate::units::{exact_bytes, exact_duration};

/// One fault, which happens in every cell. Written as `pause-replay s1 at 2s for 3s`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    pub kind: FaultKind,
    /// The name of the node that the fault happens to.
    pub target: String,
    /// When the fault begins, counted from the start of the measurement phase.
    pub at: Duration,
    /// How long the fault lasts before it is undone; zero for a fault that is an instant.
    #[serde(rename = "for")]
    pub length: Duration,
    /// The delay, jitter and bandwidth of a [`FaultKind::SlowNetwork`]; default for other kinds.
    #[serde(flatten)]
    pub slowness: Slowness,
}

/// The delay and bandwidth of a slow network, in each direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Slowness {
    #[serde(default, skip_serializing_if = "Duration::is_zero")]
    pub delay: Duration,
    /// The largest random addition to the delay.
    #[serde(default, skip_serializing_if = "Duration::is_zero")]
    pub jitter: Duration,
    /// The bandwidth in bytes a second; `None` if it is not limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<u64>,
}

/// The kinds of faults: what is done to the target node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// `pg_wal_replay_pause()`, then `pg_wal_replay_resume()`. While replay is paused the standby still receives WAL.
    PauseReplay,
    /// No data passes between the node and the server that it replicates from; their connection is not closed.
    Partition,
    /// The data between the node and the server that it replicates from is delayed and throttled.
    SlowNetwork,
    /// SIGSTOP to the walsender that streams to the standby, then SIGCONT: WAL of commits in between is not sent until SIGCONT.
    PauseSending,
    /// SIGSTOP to all processes of the standby, then SIGCONT: while stopped the standby keeps its connections and does nothing.
    FrozenStandby,
    /// SIGKILL to all processes of the standby, then a start of the standby.
    StandbyCrash,
    /// A query runs on the standby, and the primary removes rows that the query may still see: replay waits for the query, up to
    /// `max_standby_streaming_delay`, unless the standby has `hot_standby_feedback`.
    LongQuery,
    /// SIGKILL to all processes of the replica; while it is down the primary removes WAL that the replica's slot needs
    /// (`max_slot_wal_keep_size`). At the end the replica is made anew by a base backup or, for a subscriber, an initial copy.
    SlotLoss,
    /// A constraint on the subscriber's tables refuses every row that is applied; at the end the constraint is dropped.
    ApplyError,
    /// SIGKILL to all processes of the primary, then a start of the primary: no standby is promoted while it is down.
    PrimaryCrash,
    /// SIGKILL to all processes of the primary; the standby that has received the most WAL is promoted, and the load and the other
    /// standbys follow the new primary. At the end the killed node becomes a standby of the new primary.
    Failover,
    /// Like [`FaultKind::Failover`], but the primary is shut down (fast) instead of killed: the shutdown ends when the standbys have all
    /// of its WAL.
    Switchover,
    /// Marks a point in time, which the load does not notice; after the cell the primary is restored to that time from its archive.
    Pitr,
}

impl FaultKind {
    pub const ALL: [Self; 13] = [
        Self::PauseReplay,
        Self::Partition,
        Self::SlowNetwork,
        Self::PauseSending,
        Self::FrozenStandby,
        Self::StandbyCrash,
        Self::LongQuery,
        Self::SlotLoss,
        Self::ApplyError,
        Self::PrimaryCrash,
        Self::Failover,
        Self::Switchover,
        Self::Pitr,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::PauseReplay => "pause-replay",
            Self::Partition => "partition",
            Self::SlowNetwork => "slow-network",
            Self::PauseSending => "pause-sending",
            Self::FrozenStandby => "frozen-standby",
            Self::StandbyCrash => "standby-crash",
            Self::LongQuery => "long-query",
            Self::SlotLoss => "slot-loss",
            Self::ApplyError => "apply-error",
            Self::PrimaryCrash => "primary-crash",
            Self::Failover => "failover",
            Self::Switchover => "switchover",
            Self::Pitr => "pitr",
        }
    }

    /// Whether the target of the fault can be a node of this role.
    fn befalls(self, role: Role) -> bool {
        match self {
            Self::PauseReplay | Self::FrozenStandby | Self::StandbyCrash | Self::LongQuery => {
                role.is_physical() && role != Role::Primary
            }
            Self::SlotLoss => matches!(role, Role::Standby | Role::Subscriber),
            Self::ApplyError => role == Role::Subscriber,
            Self::PauseSending => role.streams_physically(),
            Self::Partition | Self::SlowNetwork => {
                role.streams_physically() || role == Role::Subscriber
            }
            Self::PrimaryCrash | Self::Failover | Self::Switchover | Self::Pitr => {
                role == Role::Primary
            }
        }
    }

    /// Whether the target cannot stream WAL during the fault.
    pub fn stops_streaming(self) -> bool {
        // A walsender that receives no reply for wal_sender_timeout ends the connection, and an apply worker exits on an error.
        matches!(
            self,
            Self::StandbyCrash | Self::Partition | Self::SlotLoss | Self::ApplyError
        )
    }

    /// Whether the fault needs a network between the nodes that replbench can delay, throttle or cut.
    pub fn is_of_the_network(self) -> bool {
        matches!(self, Self::Partition | Self::SlowNetwork)
    }

    /// Whether the target of the fault is the primary.
    pub fn is_of_primary(self) -> bool {
        self.befalls(Role::Primary)
    }

    /// Whether the primary is down during the fault, so that every connection of the load is lost.
    pub fn stops_primary(self) -> bool {
        self == Self::PrimaryCrash || self.changes_primary()
    }

    /// Whether the fault has no duration and is therefore written without `for`.
    pub fn is_instant(self) -> bool {
        self == Self::Pitr
    }

    /// Whether another node is the primary after the fault.
    pub fn changes_primary(self) -> bool {
        matches!(self, Self::Failover | Self::Switchover)
    }
}

impl Fault {
    /// When the fault is undone, counted from the start of the measurement phase.
    pub fn end(&self) -> Duration {
        self.at + self.length
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} at {}",
            self.kind.as_str(),
            self.target,
            exact_duration(self.at)
        )?;
        if !self.kind.is_instant() {
            write!(f, " for {}", exact_duration(self.length))?;
        }
        let Slowness {
            delay,
            jitter,
            bandwidth,
        } = self.slowness;
        for (word, time) in [("delay", delay), ("jitter", jitter)] {
            if !time.is_zero() {
                write!(f, " {word} {}", exact_duration(time))?;
            }
        }
        if let Some(bytes) = bandwidth {
            write!(f, " bandwidth {}", exact_bytes(bytes))?;
        }
        Ok(())
    }
}

/// A fault that cannot happen in a plan: its index, the reason, and the remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Impossible {
    pub index: usize,
    pub reason: String,
    pub remedy: String,
}

/// The first fault that cannot happen in every one of these modes within a measurement phase of this length.
pub fn impossible(faults: &[Fault], modes: &[Mode], measure: Length) -> Option<Impossible> {
    faults.iter().enumerate().find_map(|(index, fault)| {
        let (reason, remedy) = modes
            .iter()
            .find_map(|mode| {
                without_target(fault, mode)
                    .or_else(|| without_successor(fault, mode))
                    .or_else(|| without_archive(fault, mode))
            })
            .or_else(|| second_failover(fault, &faults[..index]))
            .or_else(|| outlasts(fault, measure))
            .or_else(|| overlaps(fault, &faults[..index]))?;
        Some(Impossible {
            index,
            reason,
            remedy,
        })
    })
}

fn without_target(fault: &Fault, mode: &Mode) -> Option<(String, String)> {
    let kind = fault.kind.as_str();
    let nodes = mode.topology.nodes();
    let fit: Vec<_> = nodes
        .iter()
        .filter(|node| fault.kind.befalls(node.role))
        .map(|node| node.name.as_str())
        .collect();
    if fit.contains(&fault.target.as_str()) {
        return None;
    }
    let reason = match nodes.iter().find(|node| node.name == fault.target) {
        Some(node) => format!(
            "fault `{kind}` cannot befall `{}`, which is a {} in mode `{}`",
            node.name, node.role, mode.name
        ),
        None => format!("mode `{}` has no node `{}`", mode.name, fault.target),
    };
    let remedy = match fit.as_slice() {
        [] => "no node of this mode can be its target; leave out the mode or the fault".into(),
        fit => format!("its target can be {}", fit.join(", ")),
    };
    Some((reason, remedy))
}

/// A failover needs a standby that can become the primary, and replicas that can follow it.
fn without_successor(fault: &Fault, mode: &Mode) -> Option<(String, String)> {
    if !fault.kind.changes_primary() {
        return None;
    }
    let nodes = mode.topology.nodes();
    let left_behind = nodes
        .iter()
        .find(|node| matches!(node.role, Role::Subscriber | Role::ArchiveStandby));
    if let Some(node) = left_behind {
        return Some((
            format!(
                "after a failover `{}`, which is a {} in mode `{}`, would have nothing to replicate from: neither its slot nor \
                 the archive moves to the new primary",
                node.name, node.role, mode.name
            ),
            "leave out the mode or the fault".into(),
        ));
    }
    let has_standby = nodes.iter().any(|node| node.role == Role::Standby);
    (!has_standby).then(|| {
        (
            format!(
                "mode `{}` has no standby that could become the primary",
                mode.name
            ),
            "give it one".into(),
        )
    })
}

/// A restore needs an archive.
fn without_archive(fault: &Fault, mode: &Mode) -> Option<(String, String)> {
    let is_there = mode.topology.has(Role::ArchiveStandby);
    (fault.kind == FaultKind::Pitr && !is_there).then(|| {
        (
            format!(
                "mode `{}` archives no WAL from which its primary could be restored",
                mode.name
            ),
            "leave out the mode or the fault; mode `archive` has an archive".into(),
        )
    })
}

fn second_failover(fault: &Fault, earlier: &[Fault]) -> Option<(String, String)> {
    let is_primarys = |it: &Fault| it.kind.stops_primary();
    let both = |it: &&Fault| {
        is_primarys(it)
            && is_primarys(fault)
            && (it.kind.changes_primary() || fault.kind.changes_primary())
    };
    let other = earlier.iter().find(both)?;
    Some((
        format!(
            "faults `{other}` and `{fault}` both stop the primary, which is another node after a failover"
        ),
        "keep one of them".into(),
    ))
}

fn outlasts(fault: &Fault, measure: Length) -> Option<(String, String)> {
    match measure {
        // At that time the load has ended, so all commits would be before the fault.
        Length::For(duration) if fault.kind.is_instant() && fault.at >= duration => Some((
            format!(
                "fault `{fault}` comes after the measurement, which lasts {}",
                exact_duration(duration)
            ),
            "make the measurement longer, or let the fault come earlier".into(),
        )),
        Length::For(duration) if fault.end() > duration => Some((
            format!(
                "fault `{fault}` ends after the measurement, which lasts {}",
                exact_duration(duration)
            ),
            "make the measurement longer, or the fault shorter".into(),
        )),
        _ => None,
    }
}

fn overlaps(fault: &Fault, earlier: &[Fault]) -> Option<(String, String)> {
    let meets = |other: &&Fault| {
        other.target == fault.target && fault.at <= other.end() && other.at <= fault.end()
    };
    let other = earlier.iter().find(meets)?;
    Some((
        format!("faults `{other}` and `{fault}` meet on one node"),
        "let one end before the other begins".into(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mode::ModeSpec;

    fn fault(text: &str) -> Fault {
        text.parse().unwrap()
    }

    fn mode(name: &str) -> Mode {
        let spec: ModeSpec = name.parse().unwrap();
        spec.resolve(2, 1).unwrap()
    }

    #[test]
    fn a_fault_needs_a_target_time_and_a_node_of_its_own() {
        let why = |faults: &[&str], mode_name: &str| {
            let faults: Vec<Fault> = faults.iter().map(|text| fault(text)).collect();
            let measure = Length::For(Duration::from_secs(10));
            impossible(&faults, &[mode("async"), mode(mode_name)], measure)
                .map(|it| (it.index, it.reason))
        };
        let pause = "pause-replay s1 at 2s for 3s";
        assert_eq!(why(&[pause, "standby-crash s2 at 2s for 3s"], "sync"), None);
        for (faults, mode, index, word) in [
            (vec![pause], "logical", 0, "mode `logical` has no node `s1`"),
            (
                vec!["pause-replay primary at 2s for 3s"],
                "sync",
                0,
                "which is a primary",
            ),
            (
                vec![pause, "standby-crash s2 at 9s for 3s"],
                "sync",
                1,
                "ends after the measurement",
            ),
            (
                vec![pause, "standby-crash s1 at 4s for 3s"],
                "sync",
                1,
                "meet on one node",
            ),
            (vec!["pitr s1 at 2s"], "sync", 0, "which is a standby"),
            (vec!["pitr primary at 2s"], "archive", 0, "archives no WAL"),
        ] {
            let (found, reason) = why(&faults, mode).unwrap();
            assert!(found == index && reason.contains(word), "{reason}");
        }
        let archive = |text: &str| {
            let measure = Length::For(Duration::from_secs(10));
            impossible(&[fault(text)], &[mode("archive")], measure).map(|it| it.reason)
        };
        assert_eq!(archive("pitr primary at 9s"), None);
        let late = archive("pitr primary at 10s").unwrap();
        assert!(late.contains("comes after the measurement"), "{late}");
    }
}
