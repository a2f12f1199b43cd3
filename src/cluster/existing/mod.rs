//! Servers that run already: located, checked, and left as they were found. replbench writes only into one schema of its own, which has its
//! mark. Other permitted changes are recorded there before they are made, and are undone at the end.

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

/// The number of connections to the primary that replbench needs besides those of the load.
const OWN_CONNECTIONS: i64 = 12;
/// The time-out for each entry of the schema, and for the initial copy of a subscriber.
const PATIENCE: Duration = Duration::from_mins(1);

/// Existing servers as the user names them.
#[derive(Debug, Clone)]
pub struct Servers {
    pub primary: Parameters,
    pub standbys: Vec<NamedServer>,
    pub subscribers: Vec<NamedServer>,
    /// The libpq connection string with which subscribers reach the primary; `None` if they connect as this process does.
    pub publisher: Option<String>,
    /// Whether the user permits load on servers that are not on this machine.
    pub may_load: bool,
    /// Whether the user permits changes of `synchronous_standby_names` during the run.
    pub may_set: bool,
    /// Whether the user permits faults on the servers.
    pub may_disturb: bool,
    /// The name of the schema that replbench creates on the servers.
    pub schema: String,
}

/// A replica as the user names it.
#[derive(Debug, Clone)]
pub struct NamedServer {
    /// The replica's name. If `None`, a standby has the name under which it replicates, and subscribers are called `sub1`, `sub2`...
    pub name: Option<String>,
    pub parameters: Parameters,
}

/// Existing servers that are measured. While this value lives, no other replbench uses their databases.
#[derive(Debug)]
pub(super) struct Existing {
    primary: Marked,
    subscribers: Vec<Marked>,
    found: Found,
    /// The value of `synchronous_standby_names` before the run.
    standby_names: String,
}

impl Existing {
    /// Creates the schema and its tables on the primary and the subscribers, and the subscriptions.
    pub(super) async fn take(
        servers: &Servers,
        inspected: Inspected,
        wanted: Wanted<'_>,
    ) -> Result<(Self, Vec<RunningNode>), ClusterError> {
        let (session, identity) = inspected.primary;
        check_connections(&identity, wanted.connections)?;
        // Subscribers come first, because objects that a killed run left on them use slots of the primary.
        let mut subscribers = Vec::new();
        for node in of_role(&inspected.nodes, Role::Subscriber) {
            let session = super::admin(&node.endpoint).await?;
            let (marked, _) = Marked::own(&node.node.name, session, &servers.schema).await?;
            subscribers.push(marked);
        }
        let owned = Marked::own(Topology::PRIMARY, session, &servers.schema).await?;
        let (primary, left) = owned;
        if left.is_some_and(|changes| changes.standby_names.is_some()) {
            // The server was inspected before its settings were restored, and the plan depends on what was found.
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
        // From here on [`Existing::leave`] also cleans this subscriber.
        self.subscribers.push(marked);
        let marked = self.subscribers.last_mut().expect("it was pushed just now");
        marked
            .note(|it| it.subscriptions = vec![name.clone()])
            .await?;
        tables::create(node, ddl, PATIENCE).await?;
        marked.subscribe(conninfo).await?;
        tables::copied(node, marked.session.client(), PATIENCE, || Ok(())).await
    }

    /// Makes commits of a session with the mode's level wait for the mode's standbys. Returns the resulting `synchronous_standby_names`, as
    /// text and as the set of standbys that it names.
    pub(super) async fn enter(
        &self,
        mode: &Mode,
    ) -> Result<(String, Option<SyncSet>), ExistingError> {
        // With `local` and `off` commits wait for no standby, so the names do not matter.
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

    /// Removes all that was created, subscriptions with their slots first, and puts changed settings back. Continues after an error, and
    /// returns the first one.
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

/// Makes sure that the primary has enough free connections for the load and for replbench itself.
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

/// Queries a server. `action` says what the query is for, in an error.
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

/// The connection string with which a subscriber reaches the primary in the same way as this process does.
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

/// Removes what a killed run left on servers, subscribers before the primary. Returns the places of the servers where something was found.
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
