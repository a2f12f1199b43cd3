//! Looks at servers that exist: whether they are what somebody says, and whether this user may do what a run needs. Writes nothing.

use std::net::IpAddr;

use super::Servers;
use crate::cluster::RunningNode;
use crate::cluster::error::{ClusterError, ExistingError, OLDEST};
use crate::escape::quote_ident;
use crate::mode::{Found, MayPause, SyncLevel, SyncSet};
use crate::pg::attach::{self, Identity, Receiver};
use crate::pg::conninfo::{self, Parameters};
use crate::pg::{Endpoint, Failure, Session, locate};
use crate::topology::{Role, Topology};

/// Servers that were found to be what somebody says they are.
#[derive(Debug)]
pub(in crate::cluster) struct Inspected {
    pub(super) found: Found,
    are_local: bool,
    others: Vec<Receiver>,
    pub(super) nodes: Vec<RunningNode>,
    pub(super) primary: (Session, Identity),
}

/// Connects to each server and checks what can be checked without writing.
pub(in crate::cluster) async fn inspect(servers: &Servers) -> Result<Inspected, ExistingError> {
    let primary = reach(servers, Topology::PRIMARY, &servers.primary).await?;
    let mut standbys = Vec::new();
    for standby in &servers.standbys {
        let name = standby.name.as_deref().unwrap_or("standby");
        standbys.push(reach(servers, name, &standby.parameters).await?);
    }
    if primary.identity.in_recovery {
        return Err(ExistingError::IsStandby(primary.endpoint.place()));
    }
    primary.may_create()?;
    let receivers = attach::receivers(primary.session.client()).await;
    let mut receivers =
        receivers.map_err(|failure| primary.failed("look for its standbys", failure))?;
    for (standby, given) in standbys.iter_mut().zip(&servers.standbys) {
        standby.endpoint.node = standby.is_of(&primary, given.name.as_deref()).await?;
        let name = &standby.endpoint.node;
        let before = receivers.len();
        receivers.retain(|it| it.name != *name);
        let count = before - receivers.len();
        if count != 1 {
            let name = name.clone();
            return Err(ExistingError::Ambiguous { name, count });
        }
    }
    let mut subscribers = Vec::new();
    for (index, given) in servers.subscribers.iter().enumerate() {
        let name = given.name_as_subscriber(index);
        let located = reach(servers, &name, &given.parameters).await?;
        located.may_subscribe_to(&primary).await?;
        subscribers.push(located);
    }
    let of_role = |all: &[Located], role: Role| -> Vec<_> {
        let names = all.iter().map(|it| it.endpoint.node.clone());
        names.map(|name| (name, role)).collect()
    };
    let replicas = [
        of_role(&standbys, Role::Standby),
        of_role(&subscribers, Role::Subscriber),
    ]
    .concat();
    let mut names: Vec<_> = replicas.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    if let Some(twice) = names.windows(2).find(|it| it[0] == it[1]) {
        return Err(ExistingError::Twice(twice[0].to_owned()));
    }
    if servers.may_set {
        primary.may_set().await?;
    }
    let faults = if servers.may_disturb {
        Some(may_pause(&primary.identity.user, &standbys).await?)
    } else {
        None
    };
    let found = found(&primary.identity, replicas, servers.may_set, faults)?;
    let mut endpoints = vec![primary.endpoint];
    for located in standbys.into_iter().chain(subscribers) {
        endpoints.push(located.endpoint);
        located.session.close().await;
    }
    let are_local = endpoints.iter().all(is_local);
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
        others: receivers,
        primary: (primary.session, primary.identity),
    })
}

/// What is known of servers before there is a plan.
#[derive(Debug)]
pub struct Survey {
    pub found: Found,
    /// Whether all are on this machine, and so have its clock.
    pub are_local: bool,
    /// Standbys that stream from the primary and were not named.
    pub others: Vec<Receiver>,
}

/// Looks at the servers, and leaves them.
pub async fn survey(servers: &Servers) -> Result<Survey, ExistingError> {
    let inspected = inspect(servers).await?;
    inspected.primary.0.close().await;
    Ok(Survey {
        found: inspected.found,
        are_local: inspected.are_local,
        others: inspected.others,
    })
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
    is_no_pooler(&endpoint).await?;
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

/// A pooler refuses the settings of a session, with which the load says what its commits wait for.
async fn is_no_pooler(endpoint: &Endpoint) -> Result<(), ExistingError> {
    match crate::cluster::admin(endpoint).await {
        Ok(session) => session.close().await,
        Err(ClusterError::Connect(error)) if error.to_string().contains("startup parameter") => {
            return Err(ExistingError::Pooler {
                node: endpoint.node.clone(),
                place: endpoint.place(),
            });
        }
        // What else is wrong the next session meets as well.
        Err(_) => {}
    }
    Ok(())
}

/// Whether the way there is this machine's own.
pub(in crate::cluster) fn is_local(endpoint: &Endpoint) -> bool {
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

    /// Makes sure that this user may say what commits wait for.
    async fn may_set(&self) -> Result<(), ExistingError> {
        let may =
            attach::may_set_standby_names(self.session.client(), self.identity.version_number);
        let may = may.await;
        if may.map_err(|failure| self.failed("ask for the right to set names", failure))? {
            return Ok(());
        }
        let user = quote_ident(&self.identity.user);
        let grant = if self.identity.version_number >= 150_000 {
            format!(
                "GRANT ALTER SYSTEM ON PARAMETER synchronous_standby_names TO {user}; and in this database: GRANT EXECUTE ON FUNCTION pg_reload_conf() TO {user}"
            )
        } else {
            "before PostgreSQL 15 only a superuser may, so leave --set-sync out or name one".into()
        };
        Err(ExistingError::Right {
            user: self.identity.user.clone(),
            node: self.endpoint.node.clone(),
            grant,
        })
    }

    /// Makes sure that it can subscribe to this primary.
    async fn may_subscribe_to(&self, primary: &Self) -> Result<(), ExistingError> {
        let node = self.endpoint.node.clone();
        let is_of_slot = |it: char| it.is_ascii_lowercase() || it.is_ascii_digit() || it == '_';
        if !node.chars().all(is_of_slot) || node.is_empty() {
            return Err(ExistingError::SlotName(node));
        }
        if self.identity.in_recovery || self.identity.system == primary.identity.system {
            let place = self.endpoint.place();
            return Err(ExistingError::NoSubscriber { node, place });
        }
        if primary.identity.wal_level != "logical" {
            return Err(ExistingError::WalLevel(primary.identity.wal_level.clone()));
        }
        self.may_create()?;
        let may = attach::may_subscribe(self.session.client()).await;
        if may.map_err(|failure| self.failed("ask for the right to subscribe", failure))? {
            return Ok(());
        }
        let user = self.identity.user.clone();
        let grant = if self.identity.version_number >= 160_000 {
            format!("GRANT pg_create_subscription TO {}", quote_ident(&user))
        } else {
            "before PostgreSQL 16 only a superuser makes subscriptions, so name one as user".into()
        };
        Err(ExistingError::Right { user, node, grant })
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
        let source = attach::source(self.session.client()).await;
        let source = source.map_err(|failure| self.failed("ask from whom it receives", failure))?;
        let Some(source) = source else {
            return Err(ExistingError::ReceivesNothing(node));
        };
        if let Some(primary) = primary.identity.timeline
            && source.timeline != primary
        {
            return Err(ExistingError::OtherTimeline {
                node,
                timeline: source.timeline,
                primary,
            });
        }
        let said = conninfo::application_name(&source.conninfo);
        let said = said.ok().flatten();
        let of_cluster = || Some(source.cluster_name).filter(|it| !it.is_empty());
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
fn found(
    primary: &Identity,
    replicas: Vec<(String, Role)>,
    may_set: bool,
    faults: Option<MayPause>,
) -> Result<Found, ExistingError> {
    let names: Vec<_> = replicas.iter().map(|(name, _)| name.clone()).collect();
    let written = primary.standby_names.trim();
    let sync = match written {
        "" => None,
        written => {
            let set = SyncSet::parse(written, &names);
            Some(set.ok_or_else(|| ExistingError::Names(written.to_owned()))?)
        }
    };
    let mut awaited = sync.iter().flat_map(|set| &set.nodes);
    if let Some(unnamed) = awaited.find(|name| !names.contains(name)) {
        return Err(ExistingError::Unnamed(unnamed.clone()));
    }
    let level = SyncLevel::parse(&primary.level);
    Ok(Found {
        topology: Topology::of_replicas(replicas),
        level: level.ok_or_else(|| ExistingError::Level(primary.level.clone()))?,
        sync,
        may_set,
        faults,
    })
}

async fn may_pause(user: &str, standbys: &[Located]) -> Result<MayPause, ExistingError> {
    let mut nodes = Vec::new();
    for standby in standbys {
        let may = attach::may_pause_replay(standby.session.client()).await;
        if may.map_err(|failure| standby.failed("ask for the right to pause replay", failure))? {
            nodes.push(standby.endpoint.node.clone());
        }
    }
    let name = quote_ident(user);
    Ok(MayPause {
        nodes,
        lacks: format!(
            "user `{user}` may not pause the replay of that standby; run in this database of the primary: \
             GRANT EXECUTE ON FUNCTION pg_wal_replay_pause(), pg_wal_replay_resume() TO {name}"
        ),
    })
}
