//! Faults: what is done to a node at a time of the measurement, and undone.
//! Knows how a fault is written and which nodes it can befall; not how it is done.

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

/// One fault of every cell. Written `pause-replay s1 at 2s for 3s`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    pub kind: FaultKind,
    /// The node's name.
    pub target: String,
    /// From the start of the measurement.
    pub at: Duration,
    /// How long it lasts before it is undone; zero of one that is an instant.
    #[serde(rename = "for")]
    pub length: Duration,
    /// Of a slow network.
    #[serde(flatten)]
    pub slowness: Slowness,
}

/// What a slow network is like, in each direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Slowness {
    #[serde(default, skip_serializing_if = "Duration::is_zero")]
    pub delay: Duration,
    /// At most this is added to the delay.
    #[serde(default, skip_serializing_if = "Duration::is_zero")]
    pub jitter: Duration,
    /// Bytes a second; `None`: as many as go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<u64>,
}

/// What is done to the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// `pg_wal_replay_pause()`, then `pg_wal_replay_resume()`. The standby receives WAL meanwhile.
    PauseReplay,
    /// Nothing passes between the node and the one that it replicates from, and neither is told.
    Partition,
    /// What passes between them is delayed and throttled.
    SlowNetwork,
    /// SIGSTOP to the walsender that streams to the standby, then SIGCONT: what commits meanwhile is not sent to it.
    PauseSending,
    /// SIGSTOP to all processes of the server, then SIGCONT: it keeps its connections and does nothing.
    FrozenStandby,
    /// SIGKILL to all processes of the server, then its start.
    StandbyCrash,
    /// A query runs on the standby, and the primary removes rows that it may still see: replay waits for it, up to
    /// `max_standby_streaming_delay`, unless the standby has `hot_standby_feedback`.
    LongQuery,
    /// SIGKILL to all processes of the server; meanwhile the primary removes WAL that the slot needs (`max_slot_wal_keep_size`). In the end
    /// the node is made anew by a base backup or, of a subscriber, an initial copy.
    SlotLoss,
    /// The subscriber's tables refuse every row that is applied, by a constraint; then they take them again.
    ApplyError,
    /// As that, of the primary: nothing takes its place meanwhile.
    PrimaryCrash,
    /// SIGKILL to all processes of the primary; the standby that has most of its WAL is promoted, and load and other standbys follow it. In
    /// the end the node that was killed becomes a standby of the new primary.
    Failover,
    /// As that, but the primary is shut down (fast) instead of killed: it ends when its standbys have all of its WAL.
    Switchover,
    /// Nothing that the load notices: a point in time to which the primary is restored from its archive after the cell.
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

    /// Whether it can befall a node of this role.
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

    /// Whether its node cannot stream meanwhile.
    pub fn stops_streaming(self) -> bool {
        // A walsender that hears nothing for wal_sender_timeout gives up, and an apply worker that fails ends.
        matches!(
            self,
            Self::StandbyCrash | Self::Partition | Self::SlotLoss | Self::ApplyError
        )
    }

    /// Whether it needs a network between the nodes that can be made worse.
    pub fn is_of_the_network(self) -> bool {
        matches!(self, Self::Partition | Self::SlowNetwork)
    }

    /// Whether the primary is what it befalls.
    pub fn is_of_primary(self) -> bool {
        self.befalls(Role::Primary)
    }

    /// Whether the primary is gone meanwhile, and with it every connection of the load.
    pub fn stops_primary(self) -> bool {
        self == Self::PrimaryCrash || self.changes_primary()
    }

    /// Whether it is over as soon as it has begun, and is written without a length.
    pub fn is_instant(self) -> bool {
        self == Self::Pitr
    }

    /// Whether another node is the primary afterwards.
    pub fn changes_primary(self) -> bool {
        matches!(self, Self::Failover | Self::Switchover)
    }
}

impl Fault {
    /// When it is undone, from the start of the measurement.
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

/// A fault that cannot happen in a plan: which, why, and the remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Impossible {
    pub index: usize,
    pub reason: String,
    pub remedy: String,
}

/// The first of the faults that cannot happen in all of these modes within such a measurement.
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
        // The load has ended by then, and all commits are before it.
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
