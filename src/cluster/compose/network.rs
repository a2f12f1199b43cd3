//! The networks of a compose cluster: which nodes can be cut off from the primary and stay readable, how a cut is made, and whether
//! standbys reach each other.

use std::collections::BTreeMap;

use super::file::{Arrangement, Config};
use super::{ComposeError, Project};
use crate::topology::{Role, Topology};

/// The reasons why nodes cannot be cut off from the primary, by the node's name. Nodes that can be cut off are missing.
pub(super) fn never_cut(config: &Config, arrangement: &Arrangement) -> BTreeMap<String, String> {
    let primary = &arrangement.services[Topology::PRIMARY];
    let replicas = arrangement.topology.replicas();
    let replicas = replicas.map(|node| (&node.name, &arrangement.services[&node.name]));
    let reasons = replicas
        .filter_map(|(name, service)| Some((name.clone(), why_not_cut(config, service, primary)?)));
    reasons.collect()
}

/// The reason why a service cannot be cut off from the primary's service while its published port stays reachable from this machine.
/// `None` if it can.
fn why_not_cut(config: &Config, service: &str, primary: &str) -> Option<String> {
    let own = config.networks(service);
    let primarys = config.networks(primary);
    let mut shared = own.intersection(&primarys).peekable();
    let problem = if shared.peek().is_none() {
        format!("services `{service}` and `{primary}` are on no network of the file together")
    } else if let Some(open) = shared.find(|it| !config.is_internal(it)) {
        format!(
            "service `{service}` replicates over network `{open}`, which its published port may go through: a cut would cut off whoever reads there too"
        )
    } else if own.is_subset(&primarys) {
        format!(
            "service `{service}` is on no network besides those that it shares with `{primary}`"
        )
    } else {
        return None;
    };
    Some(format!(
        "{problem}; put both on a network with `internal: true` for the replication and each on another for its port, as compose/physical.yaml does"
    ))
}

/// The reason why no standby can take the primary's place; `None` if one can.
pub(super) fn never_failed_over(config: &Config, arrangement: &Arrangement) -> Option<String> {
    let nodes = arrangement.topology.replicas();
    let standbys = nodes.filter(|node| node.role == Role::Standby);
    let standbys: Vec<_> = standbys.map(|node| &node.name).collect();
    let networks = |node: &String| config.networks(&arrangement.services[node]);
    let pairs = standbys.iter().enumerate();
    let mut pairs =
        pairs.flat_map(|(index, one)| standbys[..index].iter().map(move |it| (it, one)));
    let (one, other) = pairs.find(|(one, other)| networks(one).is_disjoint(&networks(other)))?;
    Some(format!(
        "standbys `{one}` and `{other}` are on no network together, so that neither can follow the other; put them on one"
    ))
}

impl Project {
    /// Detaches a node from the networks that it shares with another. Connections between the two stay open but carry no data.
    pub(in crate::cluster) async fn cut_off(
        &self,
        node: &str,
        from: &str,
    ) -> Result<(), ComposeError> {
        let (own, other) = (&self.containers[node], &self.containers[from]);
        let shared = own.attachments.keys();
        for network in shared.filter(|it| other.attachments.contains_key(*it)) {
            self.engine.disconnect(network, &own.id).await?;
        }
        Ok(())
    }

    /// Attaches a node again to the networks that it was on when it was started, with the names that it had there.
    pub(in crate::cluster) async fn reconnect(&self, node: &str) -> Result<(), ComposeError> {
        let own = &self.containers[node];
        let present = self.inspect(node).await?.networks();
        let missing = own.attachments.iter();
        for (network, attachment) in missing.filter(|(name, _)| !present.contains_key(*name)) {
            self.engine.connect(network, attachment, &own.id).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const FILE: &str = r"
services:
  db:
    image: x
    labels: {replbench.role: primary}
    networks: {wal: null, open: null, front: null}
  apart:
    image: x
    labels: {replbench.role: standby}
    networks: [wal, readers]
  open:
    image: x
    labels: {replbench.role: standby}
    networks: [open, readers]
  only:
    image: x
    labels: {replbench.role: subscriber}
    networks: {wal: {aliases: [me]}}
  elsewhere:
    image: x
    labels: {replbench.role: standby}
networks:
  wal: {internal: true}
  open: null
  front: {}
  readers: {}
";

    #[test]
    fn a_node_is_cut_off_only_where_its_port_stays_published() {
        let file = Path::new("f.yaml");
        let config = Config::read(file, FILE).unwrap();
        let found = never_cut(&config, &config.arrangement(file).unwrap());
        let why = |node: &str| found.get(node).map(String::as_str);
        assert_eq!(why("apart"), None);
        for (node, reason) in [
            ("open", "network `open`, which its published port may go"),
            ("only", "on no network besides"),
            ("elsewhere", "`elsewhere` and `db` are on no network"),
        ] {
            assert!(why(node).unwrap().contains(reason), "{found:?}");
        }
    }

    #[test]
    fn a_standby_takes_the_primary_s_place_only_where_the_others_reach_it() {
        let file = Path::new("f.yaml");
        let why = |text: &str| {
            let config = Config::read(file, text).unwrap();
            never_failed_over(&config, &config.arrangement(file).unwrap())
        };
        let reason = why(FILE).unwrap();
        assert!(reason.contains("`elsewhere` are on no network"), "{reason}");
        let together = FILE.split("  elsewhere:").next().unwrap();
        assert_eq!(why(together), None);
    }
}
