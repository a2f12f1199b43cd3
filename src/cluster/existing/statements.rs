//! The statements that a run is going to send to existing servers, for users who want to read them first.

use super::marked::{MARK, PUBLICATION};
use super::{NamedServer, Servers};
use crate::cluster::conf;
use crate::escape::quote_ident;
use crate::mode::{Mode, SyncSet};
use crate::pg::{attach, provisioning};
use crate::topology::Topology;

/// The name of a node, and a statement for it.
type Addressed = (String, String);

/// The statements of a run that create or change something on the servers, apart from the workload: before the first cell, for each mode,
/// and at the end.
#[derive(Debug)]
pub struct Statements {
    pub before: Vec<Addressed>,
    pub modes: Vec<Addressed>,
    pub end: Vec<Addressed>,
}

impl Statements {
    pub fn of(servers: &Servers, ddl: &[String], publish: &[String], modes: &[Mode]) -> Self {
        let on_primary = |statement| (Topology::PRIMARY.to_owned(), statement);
        let subscribers = servers.subscribers.iter().enumerate();
        let subscribers: Vec<_> = subscribers
            .map(|(index, given)| given.name_as_subscriber(index))
            .collect();
        let make = |node: &str| {
            let create = attach::create_schema(&servers.schema, &format!("{MARK} ..."));
            let all = [create].into_iter().chain(ddl.iter().cloned());
            all.map(|it| (node.to_owned(), it)).collect::<Vec<_>>()
        };
        let mut before = make(Topology::PRIMARY);
        if servers.may_set || !subscribers.is_empty() {
            let note = format!("{MARK} (what is about to be changed)");
            before.push(on_primary(attach::comment_schema(&servers.schema, &note)));
        }
        if !subscribers.is_empty() {
            let publication = attach::create_publication(PUBLICATION, MARK, publish);
            before.push(on_primary(publication));
        }
        for name in &subscribers {
            before.extend(make(name));
            let conninfo = shown_conninfo(servers);
            let subscription = provisioning::subscription(name, &conninfo, PUBLICATION);
            before.push((name.clone(), subscription));
        }
        let set = modes.iter().filter(|_| servers.may_set).map(|mode| {
            let names = mode.sync.as_ref().map(SyncSet::setting).unwrap_or_default();
            let statement = provisioning::alter_system("synchronous_standby_names", Some(&names));
            on_primary(format!("{statement}; SELECT pg_reload_conf()"))
        });
        let mut end = Vec::new();
        let drop_schema = || attach::drop_schema(&servers.schema);
        for name in &subscribers {
            let drop = format!("DROP SUBSCRIPTION {}", quote_ident(name));
            end.extend([drop, drop_schema()].map(|it| (name.clone(), it)));
        }
        if servers.may_set {
            let back = "ALTER SYSTEM (what it was before); SELECT pg_reload_conf()";
            end.push(on_primary(back.into()));
        }
        if !subscribers.is_empty() {
            let drop = format!("DROP PUBLICATION {}", quote_ident(PUBLICATION));
            end.push(on_primary(drop));
        }
        end.push(on_primary(drop_schema()));
        Self {
            before,
            modes: set.collect(),
            end,
        }
    }
}

impl NamedServer {
    /// The given name of a subscriber, or else `sub1`, `sub2`... by its `index` (from 0) in the list.
    pub(super) fn name_as_subscriber(&self, index: usize) -> String {
        self.name
            .clone()
            .unwrap_or_else(|| format!("sub{}", index + 1))
    }
}

/// The connection string with which subscribers are going to reach the primary, with the password hidden.
fn shown_conninfo(servers: &Servers) -> String {
    if servers.publisher.is_some() {
        return "(as --publisher says)".into();
    }
    let primary = &servers.primary;
    // Parsed parameters have at least one host.
    let host = &primary.hosts[0].0;
    let port = host.port.to_string();
    conf::conninfo(&[
        ("host", &host.name),
        ("port", &port),
        ("dbname", &primary.database),
        ("user", &primary.user),
        ("password", "..."),
    ])
}
