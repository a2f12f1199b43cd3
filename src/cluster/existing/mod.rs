//! Servers that exist: found, checked, and left as they were. Of all that is theirs replbench writes into one schema of its own,
//! which bears its mark; what else it was allowed to change is noted there first and put back.

mod inspect;
mod marked;
mod statements;

use std::time::Duration;

use tokio_postgres::Client;

use super::error::{ClusterError, ExistingError};
use super::{RunningNode, Wanted, of_role, tables};
use crate::mode::{Found, Mode, SyncLevel, SyncSet};
use crate::pg::attach::Identity;
use crate::pg::conninfo::Parameters;
use crate::pg::{Endpoint, Failure, Session, locate, provisioning};
use crate::topology::{Role, Topology};
pub(super) use inspect::{Inspected, inspect, is_local};
pub use inspect::{Survey, survey};
use marked::{Marked, StandbyNames};
pub use statements::Statements;

/// Connections to the primary beside the load's.
const OWN_CONNECTIONS: i64 = 12;
/// For each entry of the schema, and for the initial copy of a subscriber.
const PATIENCE: Duration = Duration::from_mins(1);

/// Servers as somebody names them.
#[derive(Debug, Clone)]
pub struct Servers {
    pub primary: Parameters,
    pub standbys: Vec<NamedServer>,
    pub subscribers: Vec<NamedServer>,
    /// How subscribers reach the primary, as libpq takes it; `None`: as this process does.
    pub publisher: Option<String>,
    /// Somebody says that they may be loaded, though they are not on this machine.
    pub may_load: bool,
    /// Somebody says that `synchronous_standby_names` may be changed for the time of a run.
    pub may_set: bool,
    /// Somebody says that faults may befall them.
    pub may_disturb: bool,
    /// The schema that is made there.
    pub schema: String,
}

/// A replica.
#[derive(Debug, Clone)]
pub struct NamedServer {
    /// `None`: of a standby the one under which it replicates, of a subscriber `sub1`, `sub2`...
    pub name: Option<String>,
    pub parameters: Parameters,
}

/// Servers that are measured. As long as it lives, no other replbench uses their databases.
#[derive(Debug)]
pub(super) struct Existing {
    primary: Marked,
    subscribers: Vec<Marked>,
    found: Found,
    /// `synchronous_standby_names` as it was found.
    standby_names: String,
}

impl Existing {
    /// Makes the schema and what is to be in it, and subscriptions to it.
    pub(super) async fn take(
        servers: &Servers,
        inspected: Inspected,
        wanted: Wanted<'_>,
    ) -> Result<(Self, Vec<RunningNode>), ClusterError> {
        let (session, identity) = inspected.primary;
        check_connections(&identity, wanted.connections)?;
        // What a killed run left on them holds slots of the primary, so they come first.
        let mut subscribers = Vec::new();
        for node in of_role(&inspected.nodes, Role::Subscriber) {
            let session = super::admin(&node.endpoint).await?;
            let (marked, _) = Marked::own(&node.node.name, session, &servers.schema).await?;
            subscribers.push(marked);
        }
        let owned = Marked::own(Topology::PRIMARY, session, &servers.schema).await?;
        let (primary, left) = owned;
        if left.is_some_and(|changes| changes.standby_names.is_some()) {
            // They were looked at before, and the plan follows from them.
            let sentence = "a killed run had changed synchronous_standby_names on the primary; it is as before now, so start this run again";
            return Err(ExistingError::Unfit(sentence.into()).into());
        }
        primary.create().await?;
        let mut existing = Self {
            primary,
            subscribers: Vec::new(),
            found: inspected.survey.found,
            standby_names: identity.standby_names,
        };
        let made = existing.fill(servers, &inspected.nodes, subscribers, wanted);
        if let Err(error) = made.await {
            existing.leave().await?;
            return Err(error);
        }
        Ok((existing, inspected.nodes))
    }

    async fn fill(
        &mut self,
        servers: &Servers,
        nodes: &[RunningNode],
        owned: Vec<Marked>,
        wanted: Wanted<'_>,
    ) -> Result<(), ClusterError> {
        let primary = &nodes[0].endpoint;
        tables::create(&nodes[0], wanted.schema, PATIENCE).await?;
        if servers.may_set {
            let action = "read what commits wait for";
            let written = self
                .primary
                .ask(action, provisioning::written_standby_names);
            let before = StandbyNames {
                written: written.await?,
            };
            self.primary
                .note(|it| it.standby_names = Some(before))
                .await?;
        }
        let subscribers: Vec<_> = of_role(nodes, Role::Subscriber).collect();
        if subscribers.is_empty() {
            return Ok(());
        }
        let names: Vec<_> = subscribers.iter().map(|it| it.node.name.clone()).collect();
        self.primary.are_free(&names).await?;
        self.primary.note(|it| it.slots = names).await?;
        self.primary.publish(wanted.publish).await?;
        let conninfo = servers.publisher.clone();
        let conninfo = conninfo.unwrap_or_else(|| as_subscribers_write_it(primary));
        for (node, marked) in subscribers.into_iter().zip(owned) {
            self.subscribe(node, marked, wanted.schema, &conninfo)
                .await?;
        }
        Ok(())
    }

    async fn subscribe(
        &mut self,
        node: &RunningNode,
        marked: Marked,
        ddl: &[String],
        conninfo: &str,
    ) -> Result<(), ClusterError> {
        let name = &node.node.name;
        marked.are_free(std::slice::from_ref(name)).await?;
        marked.create().await?;
        // From here on it is left like the others.
        self.subscribers.push(marked);
        let marked = self.subscribers.last_mut().expect("it was pushed just now");
        marked
            .note(|it| it.subscriptions = vec![name.clone()])
            .await?;
        tables::create(node, ddl, PATIENCE).await?;
        marked.subscribe(conninfo).await?;
        tables::copied(node, marked.session.client(), PATIENCE, || Ok(())).await
    }

    /// Sees to it that commits of a session with the mode's level wait for what the mode says: `synchronous_standby_names` as it is
    /// then, and what it names.
    pub(super) async fn enter(
        &self,
        mode: &Mode,
    ) -> Result<(String, Option<SyncSet>), ExistingError> {
        // With `local` and `off` nobody is waited for, whatever the names.
        let is_as_found = mode.sync == self.found.sync || mode.level <= SyncLevel::Local;
        let (names, set) = if is_as_found || !self.found.may_set {
            (self.standby_names.clone(), self.found.sync.clone())
        } else {
            let names = mode.sync.as_ref().map(SyncSet::setting);
            (names.unwrap_or_default(), mode.sync.clone())
        };
        if self.found.may_set {
            self.primary.set_standby_names(Some(&names)).await?;
        }
        Ok((names, set))
    }

    /// Removes what was made, subscriptions with their slots first, and puts back what was changed. The first error is told, after
    /// everything has been tried.
    pub(super) async fn leave(self) -> Result<(), ClusterError> {
        let mut first = Ok(());
        for mut marked in self.subscribers.into_iter().chain([self.primary]) {
            let removed = marked.remove().await;
            marked.close().await;
            first = first.and(removed);
        }
        Ok(first?)
    }
}

/// Makes sure that there is room on the primary for the load's connections and replbench's own.
pub(super) fn check_connections(primary: &Identity, of_load: u16) -> Result<(), ExistingError> {
    let (free, needed) = (
        primary.free_connections,
        i64::from(of_load) + OWN_CONNECTIONS,
    );
    if free >= needed {
        return Ok(());
    }
    Err(ExistingError::Unfit(format!(
        "the primary has {free} free connections and the run needs {needed}; lower --connections or raise max_connections"
    )))
}

/// Asks a server something. `action`: what for, in an error.
async fn ask<T>(
    node: &str,
    session: &Session,
    action: &'static str,
    question: impl AsyncFnOnce(&Client) -> Result<T, Failure>,
) -> Result<T, ExistingError> {
    let answer = question(session.client()).await;
    answer.map_err(|failure| ExistingError::Query {
        node: node.to_owned(),
        action,
        failure,
    })
}

/// As a subscriber reaches the primary that this process reaches so.
fn as_subscribers_write_it(primary: &Endpoint) -> String {
    let port = primary.port.to_string();
    let mut pairs = vec![
        ("host", primary.host.as_str()),
        ("port", &port),
        ("dbname", &primary.database),
        ("user", &primary.user),
        ("connect_timeout", "10"),
    ];
    if let Some(password) = &primary.password {
        pairs.push(("password", password.reveal()));
    }
    super::conf::conninfo(&pairs)
}

/// Removes what a killed run left on servers, subscribers before the primary. Where there was something.
pub async fn clean(
    subscribers: &[Parameters],
    primary: &Parameters,
    schema: &str,
) -> Result<Vec<String>, ExistingError> {
    let mut cleaned = Vec::new();
    let subscribers = subscribers.iter().map(|it| ("subscriber", it));
    for (node, parameters) in subscribers.chain([(Topology::PRIMARY, primary)]) {
        let (endpoint, session) = locate(node, parameters, "replbench clean").await?;
        let (marked, found) = Marked::own(node, session, schema).await?;
        marked.close().await;
        if found.is_some() {
            cleaned.push(endpoint.place());
        }
    }
    Ok(cleaned)
}
