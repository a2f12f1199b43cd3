//! The modes of a plan: the modes of the profile or the command line, resolved on the available servers.

use super::{Overrides, PlanError};
use crate::mode::{Found, Given, Mode, ModeError, ModeSpec};
use crate::profile::{Fault, FaultKind, Profile};
use crate::topology::Topology;

/// The modes on servers made for the run.
pub(super) fn on_own(profile: &Profile, overrides: &Overrides) -> Result<Vec<Mode>, PlanError> {
    let most = u64::from(Topology::MOST);
    let standbys = overrides.standbys.unwrap_or(profile.standbys);
    let subscribers = overrides.subscribers.or(profile.subscribers);
    // Logical modes have as many subscribers as physical modes have standbys, unless the profile or the command line gives a number.
    let subscribers = subscribers.unwrap_or(standbys);
    PlanError::within("standbys", standbys.into(), 0..=most)?;
    PlanError::within("subscribers", subscribers.into(), 0..=most)?;
    let mut modes: Vec<Mode> = Vec::new();
    for spec in overrides.modes.as_ref().unwrap_or(&profile.modes) {
        let mode = spec.resolve(standbys, subscribers)?;
        add(&mut modes, spec, mode.with_settings(&profile.node_settings))?;
    }
    if modes.is_empty() {
        return Err(PlanError::NoModes);
    }
    let nodes = || modes.iter().flat_map(|mode| mode.topology.nodes());
    let mut given = profile.node_settings.keys();
    if let Some(absent) = given.find(|name| nodes().all(|node| node.name != **name)) {
        return Err(PlanError::NoNode(absent.clone()));
    }
    Ok(modes)
}

/// The modes on given servers, and why other modes of the profile are left out. Anything that is possible only on servers made for a run
/// is refused, except modes of the profile, which are left out.
pub(super) fn on_given(
    profile: &Profile,
    overrides: &Overrides,
    given: &Given,
) -> Result<(Vec<Mode>, Vec<String>), PlanError> {
    let not_there = |what: String, reason: &str| {
        Err(PlanError::NotThere {
            what,
            servers: given.name(),
            option: given.option(),
            reason: reason.into(),
        })
    };
    if overrides.standbys.is_some() || overrides.subscribers.is_some() {
        let what = "another number of replicas".into();
        return not_there(what, "the replicas that are there are measured");
    }
    let mut settings = profile.settings.keys().map(|it| format!("setting `{it}`"));
    let of_nodes = profile.node_settings.keys();
    let mut of_nodes = of_nodes.map(|it| format!("settings of node `{it}`"));
    if let Some(what) = settings.next().or_else(|| of_nodes.next()) {
        let reason = "replbench changes no setting of a server that it did not make";
        return not_there(what, reason);
    }
    let is_existing = matches!(given, Given::Existing(_));
    for fault in profile.faults.iter().chain(&overrides.faults) {
        if let Some(reason) = never_befalls(fault, given) {
            return not_there(format!("fault `{fault}`"), reason);
        }
    }
    let as_is = vec![ModeSpec::as_is()];
    // The modes of a profile that does not list `as-is` are meant for servers made for the run, so existing servers are measured as they
    // are.
    let means_these = !is_existing || profile.modes.contains(&as_is[0]);
    let of_profile = if means_these { &profile.modes } else { &as_is };
    let (mut modes, mut left_out) = (Vec::new(), Vec::new());
    for spec in overrides.modes.as_ref().unwrap_or(of_profile) {
        match spec.resolve_on(given) {
            Ok(mode) => add(&mut modes, spec, mode)?,
            Err(ModeError::NotThere { reason, .. }) if overrides.modes.is_none() => {
                left_out.push(format!(
                    "mode `{}` is left out, because {reason}",
                    spec.name()
                ));
            }
            Err(error) => return Err(error.into()),
        }
    }
    match (modes.is_empty(), left_out.is_empty()) {
        (false, _) => Ok((modes, left_out)),
        (true, false) => Err(PlanError::NoneThere(left_out)),
        (true, true) => Err(PlanError::NoModes),
    }
}

/// Why a fault is impossible on given servers; `None` if it is possible.
fn never_befalls<'a>(fault: &Fault, given: &'a Given) -> Option<&'a str> {
    let nodes = match given {
        Given::Existing(found) => return never_befalls_existing(fault, found),
        Given::Compose(nodes) => nodes,
    };
    match fault.kind {
        FaultKind::Partition => nodes.never_cut.get(&fault.target).map(String::as_str),
        FaultKind::SlowNetwork => Some(
            "Docker cuts a network and does not slow it, for which a container needs the right NET_ADMIN; a `partition` cuts it",
        ),
        FaultKind::PauseSending => Some(
            "it stops one process of the primary, and `docker pause` stops all of a container; a `partition` keeps WAL from a standby too",
        ),
        FaultKind::SlotLoss | FaultKind::Pitr => Some(
            "it needs a copy of the primary's files, which replbench makes of its own servers only",
        ),
        FaultKind::Failover | FaultKind::Switchover => nodes.never_failed_over.as_deref(),
        _ => None,
    }
}

fn never_befalls_existing<'a>(fault: &Fault, found: &'a Found) -> Option<&'a str> {
    let Some(may_pause) = &found.faults else {
        return Some(
            "everybody who uses them would notice it; --allow-faults says that it may happen",
        );
    };
    match fault.kind {
        FaultKind::PauseReplay if may_pause.nodes.contains(&fault.target) => None,
        FaultKind::PauseReplay => Some(&may_pause.lacks),
        FaultKind::LongQuery | FaultKind::ApplyError => None,
        _ => Some(
            "only pause-replay, long-query and apply-error go over SQL; the others need servers that replbench starts",
        ),
    }
}

/// Adds a mode; refuses one with the name or the meaning of a mode that is already in the list.
fn add(modes: &mut Vec<Mode>, spec: &ModeSpec, mode: Mode) -> Result<(), PlanError> {
    if modes.iter().any(|mode| mode.name == spec.name()) {
        return Err(PlanError::DuplicateMode(spec.name().into()));
    }
    if let Some(same) = modes.iter().find(|other| other.is_same_as(&mode)) {
        return Err(PlanError::SameMode {
            first: same.name.clone(),
            second: mode.name.clone(),
            meaning: mode.explain(),
        });
    }
    modes.push(mode);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::mode::ComposeNodes;
    use crate::topology::Role;

    #[test]
    fn on_containers_a_fault_happens_or_is_refused_with_the_reason() {
        let standbys = ["s1", "s2"].map(|name| (name.to_owned(), Role::Standby));
        let nodes = ComposeNodes {
            topology: Topology::of_replicas(standbys),
            never_cut: BTreeMap::from([("s2".to_owned(), "it is on one network".to_owned())]),
            never_failed_over: None,
        };
        let apart = ComposeNodes {
            never_failed_over: Some("they are apart".into()),
            ..nodes.clone()
        };
        let profile = Profile::load("product-insert").unwrap();
        let why = |fault: &str, nodes: &ComposeNodes| {
            let overrides = Overrides {
                faults: vec![fault.parse().unwrap()],
                ..Overrides::default()
            };
            let found = on_given(&profile, &overrides, &Given::Compose(nodes.clone()));
            found.err().map(|error| error.to_string())
        };
        for fault in [
            "pause-replay s1 at 1s for 1s",
            "standby-crash s1 at 1s for 1s",
            "primary-crash primary at 1s for 1s",
            "frozen-standby s1 at 1s for 1s",
            "partition s1 at 1s for 1s",
            "failover primary at 1s for 1s",
            "switchover primary at 1s for 1s",
        ] {
            assert_eq!(why(fault, &nodes), None);
        }
        for (fault, reason) in [
            ("partition s2 at 1s for 1s", "it is on one network"),
            ("slow-network s1 at 1s for 1s delay 1ms", "NET_ADMIN"),
            ("pause-sending s1 at 1s for 1s", "`docker pause`"),
            ("failover primary at 1s for 1s", "they are apart"),
        ] {
            let said = why(fault, &apart).unwrap();
            assert!(
                said.contains(reason) && said.contains("--cluster"),
                "{said}"
            );
        }
    }
}
