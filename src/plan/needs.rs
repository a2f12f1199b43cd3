//! What a plan needs of server settings that the user may give: connections, WAL senders, slots and workers.
//! Refuses values that are too small; settings that are not given are chosen by the cluster.

use std::collections::BTreeMap;

use super::{Plan, PlanError};
use crate::mode::Mode;
use crate::topology::{Role, Topology};

/// Connections to each node in addition to the load's: for probes, audits, administration, and one for a person with psql.
const SPARE_CONNECTIONS: u16 = 20;

impl Plan {
    /// The most connections that clients open to each node.
    pub fn client_connections(&self) -> u16 {
        self.load.connections + SPARE_CONNECTIONS
    }
}

/// The number of replicas that are made from a base backup.
fn standbys(nodes: &Topology) -> u16 {
    let roles = [Role::Standby, Role::CascadingStandby, Role::ArchiveStandby];
    roles.map(|role| nodes.count(role)).iter().sum()
}

/// Refuses a setting below what the load and the modes' replicas need.
pub(super) fn check(
    settings: &BTreeMap<String, String>,
    load: u16,
    modes: &[Mode],
) -> Result<(), PlanError> {
    let topologies = || modes.iter().map(|mode| &mode.topology);
    // A standby needs two WAL senders, which stream and take its base backup, and one slot. A subscriber needs one sender and one slot
    // for itself and one of each for each of two tables that it copies at a time.
    let senders = topologies().map(|nodes| 3 * nodes.count(Role::Subscriber) + 2 * standbys(nodes));
    let slots = topologies().map(|nodes| 3 * nodes.count(Role::Subscriber) + standbys(nodes));
    let has_subscribers = topologies().any(|nodes| nodes.has(Role::Subscriber));
    let clients = format!(
        "{load} for the load and {SPARE_CONNECTIONS} for probes, audits and administration"
    );
    let replicas = "for the replicas and their making";
    let needs: [(&str, u16, &str); 5] = [
        ("max_connections", load + SPARE_CONNECTIONS, &clients),
        ("max_wal_senders", senders.max().unwrap_or(0), replicas),
        ("max_replication_slots", slots.max().unwrap_or(0), replicas),
        (
            "max_logical_replication_workers",
            if has_subscribers { 3 } else { 0 },
            "for a subscription and the copying of two tables",
        ),
        (
            "max_worker_processes",
            if has_subscribers { 4 } else { 0 },
            "for a subscription, the copying of two tables, and what starts them",
        ),
    ];
    for (name, least, what) in needs {
        let own = topologies()
            .flat_map(Topology::nodes)
            .map(|node| &node.settings);
        let mut given = std::iter::once(settings)
            .chain(own)
            .filter_map(|settings| settings.get(name))
            // Values that are not numbers are skipped here: the server refuses them.
            .filter_map(|value| value.trim().parse::<i64>().ok());
        if let Some(value) = given.find(|value| *value < i64::from(least)) {
            return Err(PlanError::SettingTooSmall {
                name,
                value,
                least,
                what: what.to_owned(),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Overrides, resolve};
    use crate::profile::Profile;

    fn resolved(setting: &str, value: &str, connections: u16) -> Result<Plan, PlanError> {
        let mut profile = Profile::load("sync-vs-async").unwrap();
        profile.settings = BTreeMap::from([(setting.to_owned(), value.to_owned())]);
        let overrides = Overrides {
            connections: Some(connections),
            ..Overrides::default()
        };
        resolve(&profile, &overrides)
    }

    #[test]
    fn settings_below_what_a_run_needs_are_refused_with_the_number() {
        let error = resolved("max_connections", "35", 16)
            .unwrap_err()
            .to_string();
        assert!(error.contains("at least 36"), "{error}");
        assert!(resolved("max_connections", "36", 16).is_ok());
        assert!(resolved("max_connections", "36", 17).is_err());
        for (name, value) in [
            ("max_wal_senders", "0"),
            ("max_replication_slots", "1"),
            ("max_logical_replication_workers", "2"),
            ("max_worker_processes", "-1"),
        ] {
            assert!(resolved(name, value, 4).is_err(), "{name} = {value}");
            assert!(resolved(name, "60", 4).is_ok(), "{name}");
        }
    }
}
