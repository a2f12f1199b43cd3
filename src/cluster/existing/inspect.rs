//! Inspects existing servers: whether they are what the user says they are, and whether the user has the rights that a run needs. Writes
//! nothing.

use std::net::IpAddr;

use itertools::Itertools as _;
use tokio_postgres::Client;

use super::{Servers, ask};
use crate::cluster::error::{ClusterError, ExistingError};
use crate::cluster::{Binaries, RunningNode};
use crate::escape::quote_ident;
use crate::mode::{Found, MayPause, SyncLevel, SyncSet};
use crate::pg::attach::{self, Identity, Receiver};
use crate::pg::conninfo::{self, Parameters};
use crate::pg::{Endpoint, Failure, Session, locate};
use crate::topology::{Role, Topology};

/// Servers that have been confirmed to be what the user says they are.
#[derive(Debug)]
pub(in crate::cluster) struct Inspected {
    pub(super) survey: Survey,
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
        return Err(ExistingError::Unfit(format!(
            "the primary at {} is in recovery: it is a standby; name the server that it receives from",
            primary.endpoint.place()
        )));
    }
    primary.may_create()?;
    let mut receivers = primary
        .ask("look for its standbys", attach::receivers)
        .await?;
    for (standby, given) in standbys.iter_mut().zip(&servers.standbys) {
        standby.endpoint.node = standby.is_of(&primary, given.name.as_deref()).await?;
        let name = &standby.endpoint.node;
        let before = receivers.len();
        receivers.retain(|it| it.name != *name);
        let count = before - receivers.len();
        if count != 1 {
            return Err(ExistingError::Unfit(format!(
                "{count} standbys replicate as `{name}` from this primary, and one of that name is needed; set cluster_name or application_name in primary_conninfo of each standby, and let it receive from this primary"
            )));
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
    if let Some(twice) = replicas.iter().map(|(name, _)| name).duplicates().next() {
        return Err(ExistingError::Unfit(format!(
            "two servers are called `{twice}`; write NAME=CONNINFO with another name for one"
        )));
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
        survey: Survey {
            found,
            are_local,
            others: receivers,
        },
        primary: (primary.session, primary.identity),
    })
}

/// What is known of existing servers before there is a plan.
#[derive(Debug)]
pub struct Survey {
    pub found: Found,
    /// Whether all servers are on this machine, and so share its clock.
    pub are_local: bool,
    /// Standbys that stream from the primary but that the user did not name.
    pub others: Vec<Receiver>,
}

/// Inspects the servers and closes the connections to them.
pub async fn survey(servers: &Servers) -> Result<Survey, ExistingError> {
    let inspected = inspect(servers).await?;
    inspected.primary.0.close().await;
    Ok(inspected.survey)
}

/// A server that accepts connections.
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
    // replbench does not even connect to a remote server unless the user says that it may be loaded.
    let hosts = parameters.hosts.iter();
    let mut elsewhere = hosts.filter(|(host, _)| !is_loopback(&host.name, host.address.as_deref()));
    if let Some((host, _)) = elsewhere.next().filter(|_| !servers.may_load) {
        return Err(ExistingError::Unfit(format!(
            "`{node}` at {}:{} is not on this machine, and a run loads it; pass --i-own-this if it is yours to load",
            host.name, host.port
        )));
    }
    let (endpoint, session) = locate(node, parameters, "replbench admin").await?;
    is_no_pooler(&endpoint).await?;
    let identity = ask(node, &session, "ask what it is", attach::identity).await?;
    if identity.version_number / 10_000 < Binaries::OLDEST {
        return Err(ExistingError::Unfit(format!(
            "`{node}` has PostgreSQL {}; replbench needs {} or newer",
            identity.version,
            Binaries::OLDEST
        )));
    }
    let located = Located {
        endpoint,
        session,
        identity,
    };
    located.may_monitor()?;
    Ok(located)
}

/// Refuses a connection pooler. A pooler rejects the session settings with which the load says what its commits wait for.
async fn is_no_pooler(endpoint: &Endpoint) -> Result<(), ExistingError> {
    match crate::cluster::admin(endpoint).await {
        Ok(session) => session.close().await,
        Err(ClusterError::Connect(error)) if error.to_string().contains("startup parameter") => {
            return Err(ExistingError::Unfit(format!(
                "`{}` at {} is a connection pooler, which takes no settings of a session; name the server behind it",
                endpoint.node,
                endpoint.place()
            )));
        }
        // The next session meets any other error as well.
        Err(_) => {}
    }
    Ok(())
}

/// Whether the endpoint is a loopback address or a Unix-domain socket of this machine.
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
    async fn ask<T>(
        &self,
        action: &'static str,
        question: impl AsyncFnOnce(&Client) -> Result<T, Failure>,
    ) -> Result<T, ExistingError> {
        ask(&self.endpoint.node, &self.session, action, question).await
    }

    /// The quoted name of the user that replbench connects as.
    fn user(&self) -> String {
        quote_ident(&self.identity.user)
    }

    /// Makes the error that this user lacks a right. `grant` is the statement that grants the right, or another remedy.
    fn lacks(&self, grant: &str) -> ExistingError {
        let (user, node) = (&self.identity.user, &self.endpoint.node);
        ExistingError::Unfit(format!("user `{user}` lacks a right on `{node}`: {grant}"))
    }

    fn may_monitor(&self) -> Result<(), ExistingError> {
        if self.identity.may_monitor {
            return Ok(());
        }
        Err(self.lacks(&format!("GRANT pg_monitor TO {}", self.user())))
    }

    fn may_create(&self) -> Result<(), ExistingError> {
        if self.identity.may_create {
            return Ok(());
        }
        let (database, user) = (quote_ident(&self.identity.database), self.user());
        Err(self.lacks(&format!("GRANT CREATE ON DATABASE {database} TO {user}")))
    }

    /// Makes sure that this user may change `synchronous_standby_names`.
    async fn may_set(&self) -> Result<(), ExistingError> {
        let (user, version) = (self.user(), self.identity.version_number);
        let may = self.ask("ask for the right to set names", async |client| {
            attach::may_set_standby_names(client, version).await
        });
        if may.await? {
            return Ok(());
        }
        Err(if version >= 150_000 {
            self.lacks(&format!(
                "GRANT ALTER SYSTEM ON PARAMETER synchronous_standby_names TO {user}; and in this database: GRANT EXECUTE ON FUNCTION pg_reload_conf() TO {user}"
            ))
        } else {
            self.lacks(
                "before PostgreSQL 15 only a superuser may, so leave --set-sync out or name one",
            )
        })
    }

    /// Makes sure that this server can subscribe to the primary.
    async fn may_subscribe_to(&self, primary: &Self) -> Result<(), ExistingError> {
        let (node, place) = (&self.endpoint.node, self.endpoint.place());
        let refuse = |sentence| Err(ExistingError::Unfit(sentence));
        let is_of_slot = |it: char| it.is_ascii_lowercase() || it.is_ascii_digit() || it == '_';
        if !node.chars().all(is_of_slot) || node.is_empty() {
            return refuse(format!(
                "`{node}` cannot be the name of a subscriber, because its slot is called so; use lower-case letters, digits and _"
            ));
        }
        if self.identity.in_recovery || self.identity.system == primary.identity.system {
            return refuse(format!(
                "`{node}` at {place} is a standby or the primary itself, and a subscriber is a server of its own; name another"
            ));
        }
        let level = &primary.identity.wal_level;
        if level != "logical" {
            return refuse(format!(
                "wal_level is `{level}` on the primary, and subscribers need `logical`; set it and start the primary again, or leave the subscribers out"
            ));
        }
        self.may_create()?;
        let action = "ask for the right to subscribe";
        if self.ask(action, attach::may_subscribe).await? {
            return Ok(());
        }
        Err(if self.identity.version_number >= 160_000 {
            self.lacks(&format!("GRANT pg_create_subscription TO {}", self.user()))
        } else {
            self.lacks(
                "before PostgreSQL 16 only a superuser makes subscriptions, so name one as user",
            )
        })
    }

    /// Makes sure that this server is a standby of the primary. Returns the name under which it replicates.
    async fn is_of(&self, primary: &Self, given: Option<&str>) -> Result<String, ExistingError> {
        let (node, place) = (&self.endpoint.node, self.endpoint.place());
        let refuse = |sentence| Err(ExistingError::Unfit(sentence));
        if !self.identity.in_recovery {
            return refuse(format!(
                "`{node}` at {place} is not in recovery: it is no standby; name one, or leave it out"
            ));
        }
        let (system, primarys) = (&self.identity.system, &primary.identity.system);
        if system != primarys {
            return refuse(format!(
                "`{node}` has system identifier {system} and the primary {primarys}: it does not descend from it; name a standby of this primary"
            ));
        }
        let source = self
            .ask("ask from whom it receives", attach::source)
            .await?;
        let Some(source) = source else {
            return refuse(format!(
                "`{node}` receives from nobody, so nothing would arrive there; see its primary_conninfo and its log"
            ));
        };
        if let Some(written) = primary.identity.timeline
            && source.timeline != written
        {
            return refuse(format!(
                "`{node}` receives timeline {} and the primary writes timeline {written}: it follows another server; name a standby of this primary",
                source.timeline
            ));
        }
        let said = conninfo::application_name(&source.conninfo);
        let said = said.ok().flatten();
        let of_cluster = || Some(source.cluster_name).filter(|it| !it.is_empty());
        let is = said
            .or_else(of_cluster)
            .unwrap_or_else(|| "walreceiver".into());
        match given {
            Some(given) if given != is => refuse(format!(
                "`{given}` replicates as `{is}`; write --standby {is}=..."
            )),
            _ => Ok(is),
        }
    }
}

/// Determines the topology, what commits on the primary wait for, and what the run may change.
fn found(
    primary: &Identity,
    replicas: Vec<(String, Role)>,
    may_set: bool,
    faults: Option<MayPause>,
) -> Result<Found, ExistingError> {
    let names: Vec<_> = replicas.iter().map(|(name, _)| name.clone()).collect();
    let unclear = |setting: &str, value: &str| {
        ExistingError::Unfit(format!("{setting} is `{value}`, which is not understood"))
    };
    let sync = match primary.standby_names.trim() {
        "" => None,
        written => {
            let set = SyncSet::parse(written, &names);
            Some(set.ok_or_else(|| unclear("synchronous_standby_names", written))?)
        }
    };
    let mut awaited = sync.iter().flat_map(|set| &set.nodes);
    if let Some(unnamed) = awaited.find(|name| !names.contains(name)) {
        return Err(ExistingError::Unfit(format!(
            "synchronous_standby_names has `{unnamed}`, which is not among the standbys; name it with --standby, so that what commits wait for is measured"
        )));
    }
    let level = SyncLevel::parse(&primary.level);
    Ok(Found {
        topology: Topology::of_replicas(replicas),
        level: level.ok_or_else(|| unclear("synchronous_commit", &primary.level))?,
        sync,
        may_set,
        faults,
    })
}

async fn may_pause(user: &str, standbys: &[Located]) -> Result<MayPause, ExistingError> {
    let mut nodes = Vec::new();
    for standby in standbys {
        let action = "ask for the right to pause replay";
        if standby.ask(action, attach::may_pause_replay).await? {
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
