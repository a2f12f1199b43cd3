//! Servers that exist: found, checked, and left as they were. Of all that is theirs replbench writes into one schema of its own,
//! which bears its mark, and changes no setting.

use std::net::IpAddr;

use super::RunningNode;
use super::error::{ClusterError, ExistingError, OLDEST};
use crate::escape::quote_ident;
use crate::mode::{Found, SyncLevel, SyncSet};
use crate::pg::attach::{self, Identity};
use crate::pg::conninfo::{self, Parameters};
use crate::pg::{Endpoint, Failure, Session, locate, provisioning};
use crate::topology::{Role, Topology};

/// What the schema's comment says: only what bears it is ever removed.
const MARK: &str = "made by replbench; it may be dropped with all that is in it";
/// Connections to the primary beside the load's.
pub(super) const OWN_CONNECTIONS: i64 = 12;

/// Servers as somebody names them.
#[derive(Debug, Clone)]
pub struct Servers {
    pub primary: Parameters,
    pub standbys: Vec<NamedServer>,
    /// Somebody says that they may be loaded, though they are not on this machine.
    pub may_load: bool,
    /// The schema that is made there.
    pub schema: String,
}

/// A standby.
#[derive(Debug, Clone)]
pub struct NamedServer {
    /// `None`: by the name under which it replicates.
    pub name: Option<String>,
    pub parameters: Parameters,
}

/// Servers that were found to be what somebody says they are.
#[derive(Debug)]
pub(super) struct Inspected {
    found: Found,
    are_local: bool,
    nodes: Vec<RunningNode>,
    primary: (Session, Identity),
}

/// Connects to each server and checks what can be checked without writing.
pub(super) async fn inspect(servers: &Servers) -> Result<Inspected, ExistingError> {
    let mut located = vec![reach(servers, Topology::PRIMARY, &servers.primary).await?];
    for standby in &servers.standbys {
        let name = standby.name.as_deref().unwrap_or("standby");
        located.push(reach(servers, name, &standby.parameters).await?);
    }
    let are_local = located.iter().all(|it| is_local(&it.endpoint));
    let mut standbys = located.split_off(1);
    let primary = located.remove(0);
    if primary.identity.in_recovery {
        return Err(ExistingError::IsStandby(primary.endpoint.place()));
    }
    primary.may_create()?;
    let senders = provisioning::senders(primary.session.client()).await;
    let senders = senders.map_err(|failure| primary.failed("look for its standbys", failure))?;
    for (standby, given) in standbys.iter_mut().zip(&servers.standbys) {
        standby.endpoint.node = standby.is_of(&primary, given.name.as_deref()).await?;
        let name = &standby.endpoint.node;
        let count = senders
            .iter()
            .filter(|it| &it.application_name == name)
            .count();
        if count != 1 {
            let name = name.clone();
            return Err(ExistingError::Ambiguous { name, count });
        }
    }
    let names: Vec<_> = standbys.iter().map(|it| it.endpoint.node.clone()).collect();
    let found = found(&primary.identity, &names)?;
    let mut endpoints = vec![primary.endpoint];
    for standby in standbys {
        endpoints.push(standby.endpoint);
        standby.session.close().await;
    }
    let nodes = found.topology.nodes().iter().zip(endpoints);
    let search_path = format!("-c search_path={}", servers.schema);
    let nodes = nodes.map(|(node, endpoint)| RunningNode {
        node: node.clone(),
        endpoint: endpoint.with_options(&search_path),
        process: None,
    });
    Ok(Inspected {
        nodes: nodes.collect(),
        found,
        are_local,
        primary: (primary.session, primary.identity),
    })
}

/// What the servers are to each other, and whether all are on this machine, and so have its clock.
pub async fn survey(servers: &Servers) -> Result<(Found, bool), ExistingError> {
    let inspected = inspect(servers).await?;
    inspected.primary.0.close().await;
    Ok((inspected.found, inspected.are_local))
}

/// A server that answers.
struct Located {
    endpoint: Endpoint,
    session: Session,
    identity: Identity,
}

async fn reach(
    servers: &Servers,
    node: &str,
    parameters: &Parameters,
) -> Result<Located, ExistingError> {
    // Not even a connection to a server that nobody says is his.
    let hosts = parameters.hosts.iter();
    let mut elsewhere = hosts.filter(|(host, _)| !is_loopback(&host.name, host.address.as_deref()));
    if let Some((host, _)) = elsewhere.next().filter(|_| !servers.may_load) {
        return Err(ExistingError::Elsewhere {
            node: node.to_owned(),
            place: format!("{}:{}", host.name, host.port),
        });
    }
    let (endpoint, session) = locate(node, parameters, "replbench admin").await?;
    let identity = attach::identity(session.client()).await;
    let identity = identity.map_err(|failure| ExistingError::Query {
        node: node.to_owned(),
        action: "ask what it is",
        failure,
    })?;
    if identity.version_number / 10_000 < OLDEST {
        return Err(ExistingError::TooOld {
            node: node.to_owned(),
            version: identity.version,
        });
    }
    let located = Located {
        endpoint,
        session,
        identity,
    };
    located.may_monitor()?;
    Ok(located)
}

fn is_local(endpoint: &Endpoint) -> bool {
    let address = endpoint.address.map(|it| it.to_string());
    is_loopback(&endpoint.host, address.as_deref())
}

fn is_loopback(host: &str, address: Option<&str>) -> bool {
    let address = address.unwrap_or(host);
    let parsed = address.parse::<IpAddr>();
    address.starts_with('/') || address == "localhost" || parsed.is_ok_and(|it| it.is_loopback())
}

impl Located {
    fn failed(&self, action: &'static str, failure: Failure) -> ExistingError {
        ExistingError::Query {
            node: self.endpoint.node.clone(),
            action,
            failure,
        }
    }

    fn may_monitor(&self) -> Result<(), ExistingError> {
        if self.identity.may_monitor {
            return Ok(());
        }
        let user = &self.identity.user;
        Err(ExistingError::Right {
            user: user.clone(),
            node: self.endpoint.node.clone(),
            grant: format!("GRANT pg_monitor TO {}", quote_ident(user)),
        })
    }

    fn may_create(&self) -> Result<(), ExistingError> {
        if self.identity.may_create {
            return Ok(());
        }
        let (database, user) = (&self.identity.database, &self.identity.user);
        Err(ExistingError::Right {
            user: user.clone(),
            node: self.endpoint.node.clone(),
            grant: format!(
                "GRANT CREATE ON DATABASE {} TO {}",
                quote_ident(database),
                quote_ident(user)
            ),
        })
    }

    /// Makes sure that it is a standby of this primary. The name under which it replicates.
    async fn is_of(&self, primary: &Self, given: Option<&str>) -> Result<String, ExistingError> {
        let node = self.endpoint.node.clone();
        if !self.identity.in_recovery {
            let place = self.endpoint.place();
            return Err(ExistingError::IsPrimary { node, place });
        }
        if self.identity.system != primary.identity.system {
            return Err(ExistingError::Stranger {
                node,
                system: self.identity.system.clone(),
                primary: primary.identity.system.clone(),
            });
        }
        let receiver = attach::receiver(self.session.client()).await;
        let receiver =
            receiver.map_err(|failure| self.failed("ask from whom it receives", failure))?;
        let Some((text, cluster_name)) = receiver else {
            return Err(ExistingError::ReceivesNothing(node));
        };
        let said = conninfo::application_name(&text).ok().flatten();
        let of_cluster = || Some(cluster_name).filter(|it| !it.is_empty());
        let is = said
            .or_else(of_cluster)
            .unwrap_or_else(|| "walreceiver".into());
        match given {
            Some(given) if given != is => Err(ExistingError::OtherName {
                given: given.to_owned(),
                is,
            }),
            _ => Ok(is),
        }
    }
}

/// What commits on the primary wait for.
fn found(primary: &Identity, names: &[String]) -> Result<Found, ExistingError> {
    let written = primary.standby_names.trim();
    let sync = match written {
        "" => None,
        written => {
            let set = SyncSet::parse(written, names);
            Some(set.ok_or_else(|| ExistingError::Names(written.to_owned()))?)
        }
    };
    let mut awaited = sync.iter().flat_map(|set| &set.nodes);
    if let Some(unnamed) = awaited.find(|name| !names.contains(name)) {
        return Err(ExistingError::Unnamed(unnamed.clone()));
    }
    let level = SyncLevel::parse(&primary.level);
    let standbys = names.iter().map(|name| (name.clone(), Role::Standby));
    Ok(Found {
        topology: Topology::of_replicas(standbys),
        level: level.ok_or_else(|| ExistingError::Level(primary.level.clone()))?,
        sync,
    })
}

/// Servers that are measured. As long as it lives, no other replbench uses the database.
#[derive(Debug)]
pub(super) struct Existing {
    owner: Session,
    schema: String,
    pub(super) found: Found,
    /// `synchronous_standby_names` as written.
    pub(super) standby_names: String,
}

impl Existing {
    /// Makes the schema and what is to be in it.
    pub(super) async fn take(
        servers: &Servers,
        inspected: Inspected,
        ddl: &[String],
        load_connections: u16,
    ) -> Result<(Self, Vec<RunningNode>), ClusterError> {
        let (owner, identity) = inspected.primary;
        let needed = i64::from(load_connections) + OWN_CONNECTIONS;
        if identity.free_connections < needed {
            let free = identity.free_connections;
            return Err(ExistingError::Connections { free, needed }.into());
        }
        own(&owner, &identity.database, &servers.schema).await?;
        let created = attach::create_schema(owner.client(), &servers.schema, MARK).await;
        created.map_err(|failure| on_primary("make a schema", failure))?;
        let existing = Self {
            owner,
            schema: servers.schema.clone(),
            found: inspected.found,
            standby_names: identity.standby_names,
        };
        if let Err(error) = fill(&inspected.nodes[0].endpoint, ddl).await {
            existing.leave().await?;
            return Err(error);
        }
        Ok((existing, inspected.nodes))
    }

    /// Removes what was made.
    pub(super) async fn leave(self) -> Result<(), ClusterError> {
        let dropped = attach::drop_schema(self.owner.client(), &self.schema).await;
        self.owner.close().await;
        Ok(dropped.map_err(|failure| on_primary("remove the schema", failure))?)
    }
}

/// Makes the tables.
pub(super) async fn fill(endpoint: &Endpoint, ddl: &[String]) -> Result<(), ClusterError> {
    let session = super::admin(endpoint).await?;
    for (index, statements) in ddl.iter().enumerate() {
        let done = provisioning::execute(session.client(), statements).await;
        done.map_err(|failure| ClusterError::Schema { index, failure })?;
    }
    session.close().await;
    Ok(())
}

fn on_primary(action: &'static str, failure: Failure) -> ExistingError {
    ExistingError::Query {
        node: Topology::PRIMARY.into(),
        action,
        failure,
    }
}

/// Locks the database against other replbenches, and removes what a killed one left. `true`: there was something.
async fn own(session: &Session, database: &str, schema: &str) -> Result<bool, ExistingError> {
    let client = session.client();
    let locked = attach::lock(client).await;
    if !locked.map_err(|failure| on_primary("lock the database for this run", failure))? {
        return Err(ExistingError::InUse(database.to_owned()));
    }
    let comment = attach::schema_comment(client, schema).await;
    let comment = comment.map_err(|failure| on_primary("look for a schema", failure))?;
    match comment.as_deref() {
        None => Ok(false),
        Some(MARK) => {
            let dropped = attach::drop_schema(client, schema).await;
            dropped.map_err(|failure| on_primary("remove the schema", failure))?;
            Ok(true)
        }
        Some(_) => Err(ExistingError::Foreign(schema.to_owned())),
    }
}

/// Removes what a killed run left on a primary. `false`: there was nothing.
pub async fn clean(primary: &Parameters, schema: &str) -> Result<bool, ExistingError> {
    let (endpoint, session) = locate(Topology::PRIMARY, primary, "replbench clean").await?;
    let cleaned = own(&session, &endpoint.database, schema).await;
    session.close().await;
    cleaned
}
