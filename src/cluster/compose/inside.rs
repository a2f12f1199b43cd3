//! How to load a compose cluster from inside its network.

use super::engine::Container;
use super::file::Arrangement;
use crate::topology::{Node, Role};

/// How to reach a cluster's servers without Docker's proxy: from a container on a network that all nodes are on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inside {
    network: String,
    /// Nodes, each with the name of its service, which is its host name on the network.
    nodes: Vec<(Node, String)>,
    user: String,
}

impl Inside {
    pub(super) fn of(arrangement: &Arrangement, containers: &[Container]) -> Option<Self> {
        let nodes = arrangement.topology.nodes().iter();
        let nodes = nodes.map(|node| (node.clone(), arrangement.services[&node.name].clone()));
        let nodes: Vec<_> = nodes.collect();
        let of = |service: &str| containers.iter().find(|it| it.service() == service);
        let primary = of(&nodes.first()?.1)?;
        let is_common = |network: &String| {
            let mut all = nodes.iter().filter_map(|(_, service)| of(service));
            all.all(|container| container.networks().contains_key(network))
        };
        Some(Self {
            network: primary.networks().into_keys().find(is_common)?,
            user: primary
                .variable("POSTGRES_USER")
                .unwrap_or("postgres")
                .to_owned(),
            nodes,
        })
    }
}

impl std::fmt::Display for Inside {
    /// A command line that runs replbench inside the network. The password must be in `PGPASSWORD`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "docker run --rm -e PGPASSWORD --network {} -v \"$PWD/results:/results\" replbench run PROFILE --results /results --i-own-this",
            self.network
        )?;
        for (node, service) in &self.nodes {
            let option = match node.role {
                Role::Primary => "--primary ".to_owned(),
                Role::Standby => format!("--standby {}=", node.name),
                Role::Subscriber => format!("--subscriber {}=", node.name),
                // An archive standby does not stream, so `replbench run` does not take one.
                _ => continue,
            };
            let user = &self.user;
            write!(f, " {option}\"host={service} user={user} dbname=postgres\"")?;
        }
        Ok(())
    }
}
