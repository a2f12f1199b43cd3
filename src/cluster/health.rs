//! Checks whether servers replicate now: writes on the primary, and expects each replica to have that write within a deadline. The
//! servers' statistics views are reported beside the result but not trusted: a standby behind a cut network is shown as `streaming`
//! for a minute.

use std::time::Duration;

use futures_util::future::join_all;
use serde::Serialize;

use super::RunningNode;
use crate::clock;
use crate::pg::health::{self, Facts, Reached};
use crate::pg::{self, Endpoint, Session, provisioning};
use crate::topology::{Node, Role};
use crate::units::{Lsn, format_bytes, format_duration};

/// The time-out for connecting to a server, and for each query.
const ANSWER: Duration = Duration::from_secs(5);
/// The interval between queries of a replica's position.
const POLL_INTERVAL: Duration = Duration::from_millis(1);

/// Limits beyond which a node is reported as not healthy.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The longest time until a write on the primary must be on a replica's disk, and must be replayed.
    pub patience: Duration,
    /// The most WAL, in bytes, that a replica may still have to replay without a warning.
    pub lag_bytes: u64,
    /// The most WAL, in bytes, that a slot may hold back without a warning.
    pub retained_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            patience: Duration::from_secs(3),
            lag_bytes: 16 << 20,
            retained_bytes: 1 << 30,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Verdict {
    Good,
    Warn,
    Bad,
}

impl Verdict {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Good => "GOOD",
            Self::Warn => "WARN",
            Self::Bad => "BAD",
        }
    }
}

/// The health of all servers at one moment.
#[derive(Debug, Clone, Serialize)]
pub struct Health {
    /// The worst verdict of all nodes.
    pub verdict: Verdict,
    pub nodes: Vec<NodeHealth>,
}

#[derive(Debug, Clone, Serialize)]
pub struct NodeHealth {
    pub node: String,
    pub role: Role,
    pub place: String,
    pub verdict: Verdict,
    /// The reasons for a verdict other than good.
    pub reasons: Vec<String>,
    pub version: Option<String>,
    /// The state of replication to this node, from `pg_stat_replication` of its upstream.
    pub state: Option<String>,
    pub sync_state: Option<String>,
    /// Bytes of WAL that the upstream has not sent to this node yet; `None` if unknown.
    pub unsent_bytes: Option<i64>,
    /// Bytes of WAL that are not on this node's disk yet; `None` if unknown.
    pub unflushed_bytes: Option<i64>,
    /// Bytes of WAL that this node has not replayed yet; `None` if unknown.
    pub unreplayed_bytes: Option<i64>,
    /// Milliseconds from just before the write on the primary until it was known to be on the replica's disk; `None` if it was not there
    /// within the deadline.
    pub received_ms: Option<f64>,
    /// Milliseconds from just before the write on the primary until it was known to be replayed or applied on the replica; `None` if it
    /// was not within the deadline.
    pub replayed_ms: Option<f64>,
    /// Seconds since the last message from the upstream.
    pub silent_s: Option<f64>,
    pub is_replay_paused: bool,
    /// Bytes of WAL that this replica's slot holds back on its upstream.
    pub retained_bytes: Option<i64>,
    pub conflicts: Option<i64>,
}

/// Checks all servers. The first member is the primary.
pub async fn check(members: &[RunningNode], limits: Limits) -> Health {
    let sessions = join_all(members.iter().map(|it| reach(&it.endpoint))).await;
    let primary = sessions.first().and_then(|it| it.as_ref().ok());
    let reached = members.iter().zip(&sessions);
    let names = reached
        .clone()
        .map(|(member, session)| replicates_as(member, session.as_ref().ok()));
    let names = join_all(names).await;
    // The time is taken before the write, so that no reported time is too short.
    let marked = clock::now();
    let mark = write(primary).await;
    let replicas = reached.zip(&names).skip(1);
    let arrivals = replicas.map(async |((member, session), name)| {
        let (Ok(session), Ok(mark), Some(primary)) = (session, &mark, primary) else {
            return Arrival::default();
        };
        let asked = if member.node.role == Role::Subscriber {
            // The publisher knows what a subscriber has confirmed.
            (primary, Some(name.as_str()))
        } else {
            (session, None)
        };
        // An archive standby receives WAL only when a segment is complete, so there is no wait for it.
        let patience = match member.node.role {
            Role::ArchiveStandby => Duration::ZERO,
            _ => limits.patience,
        };
        arrival(asked, *mark, marked, patience).await
    });
    let arrivals = join_all(arrivals).await;
    let mut facts = Vec::new();
    for session in &sessions {
        facts.push(self::facts(session.as_ref()).await);
    }
    for session in sessions.into_iter().flatten() {
        session.close().await;
    }
    let arrivals = std::iter::once(Arrival::default()).chain(arrivals);
    let nodes = members.iter().zip(names).zip(arrivals).zip(&facts);
    let nodes: Vec<_> = nodes
        .map(|(((member, name), arrival), own)| {
            let upstream = member.node.upstream.as_ref().and_then(|name| {
                let index = members.iter().position(|it| it.node.name == *name)?;
                Some(facts[index].as_ref())
            });
            judge((member, &name), own, upstream, (&mark, arrival), limits)
        })
        .collect();
    let worst = nodes.iter().map(|it| it.verdict).max();
    Health {
        verdict: worst.unwrap_or(Verdict::Bad),
        nodes,
    }
}

async fn reach(endpoint: &Endpoint) -> Result<Session, String> {
    // Commits of this session must not wait for a standby that may be gone.
    let options = Some("-c synchronous_commit=local");
    let connected = pg::connect(endpoint, "replbench status", options, ANSWER).await;
    connected.map_err(|error| error.to_string())
}

/// The name under which a node replicates: a standby's own name, or the name of a subscriber's subscription.
async fn replicates_as(member: &RunningNode, session: Option<&Session>) -> String {
    let own = member.node.name.clone();
    let Some(session) = session.filter(|_| member.node.role == Role::Subscriber) else {
        return own;
    };
    match timely(health::subscription_names(session.client())).await {
        Ok(Ok(names)) if !names.contains(&own) => names.into_iter().next().unwrap_or(own),
        _ => own,
    }
}

/// Writes a message into the primary's WAL. Returns the position of its end.
async fn write(primary: Option<&Session>) -> Result<Lsn, String> {
    let primary = primary.ok_or("it cannot be reached")?;
    let written = timely(provisioning::fence(primary.client())).await?;
    written.map_err(|failure| failure.to_string())
}

async fn facts(session: Result<&Session, &String>) -> Result<Facts, String> {
    let facts = timely(health::facts(session?.client())).await?;
    facts.map_err(|error| pg::describe(&error).to_string())
}

/// Waits for a query's answer until the time-out `ANSWER`.
async fn timely<T>(question: impl Future<Output = T>) -> Result<T, String> {
    let answer = tokio::time::timeout(ANSWER, question).await;
    answer.map_err(|_| format!("no answer within {} s", ANSWER.as_secs()))
}

/// The times from the write on the primary until a replica had received and replayed it; `None` if not within the deadline.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Arrival {
    received: Option<Duration>,
    replayed: Option<Duration>,
    /// The position up to which the replica had replayed or applied WAL at the last query.
    reached: Option<Lsn>,
}

/// Waits for the write to arrive. Queries the standby itself, or for a subscriber the publisher, by the name in `subscriber`.
async fn arrival(
    (session, subscriber): (&Session, Option<&str>),
    mark: Lsn,
    marked: clock::Stamp,
    patience: Duration,
) -> Arrival {
    let mut found = Arrival::default();
    let due = marked + patience;
    // The replica is queried at least once, even without patience.
    loop {
        let asked = async {
            match subscriber {
                Some(name) => health::confirmed(session.client(), name).await,
                None => health::reached(session.client()).await,
            }
        };
        let Ok(Ok(Reached { received, replayed })) = timely(asked).await else {
            break;
        };
        let took = clock::now().since(marked);
        let has = |position: Option<Lsn>| position.is_some_and(|it| it >= mark);
        found.reached = replayed;
        // Replayed WAL counts as received, even if it came from an archive and not from the upstream.
        if has(received) || has(replayed) {
            found.received.get_or_insert(took);
        }
        if has(replayed) {
            found.replayed = Some(took);
        }
        if has(replayed) || clock::now() >= due {
            break;
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    found
}

/// Derives the health of one node from the servers' answers. Pure.
fn judge(
    (member, replicates_as): (&RunningNode, &str),
    own: &Result<Facts, String>,
    upstream_says: Option<Result<&Facts, &String>>,
    (mark, arrival): (&Result<Lsn, String>, Arrival),
    limits: Limits,
) -> NodeHealth {
    let Node { name, role, .. } = &member.node;
    let upstream = upstream_says.and_then(Result::ok);
    let sender = upstream.and_then(|it| it.senders.iter().find(|it| it.name == replicates_as));
    let slot = upstream.and_then(|it| it.slots.iter().find(|it| it.name == replicates_as));
    let facts = own.as_ref().ok();
    let receiver = facts.and_then(|it| it.receiver.as_ref());
    let subscription =
        facts.and_then(|it| it.subscriptions.iter().find(|it| it.name == replicates_as));
    let millis = |took: Duration| took.as_secs_f64() * 1e3;
    let silent_s = receiver.and_then(|it| it.silent_s);
    let mut found = NodeHealth {
        node: name.clone(),
        role: *role,
        place: member.endpoint.place(),
        verdict: Verdict::Good,
        reasons: Vec::new(),
        version: facts.map(|it| it.version.clone()),
        state: sender.map(|it| it.state.clone()),
        sync_state: sender.map(|it| it.sync_state.clone()),
        unsent_bytes: sender.and_then(|it| it.unsent),
        unflushed_bytes: sender.and_then(|it| it.unflushed),
        unreplayed_bytes: sender.and_then(|it| it.unreplayed),
        received_ms: arrival.received.map(millis),
        replayed_ms: arrival.replayed.map(millis),
        silent_s: silent_s.or_else(|| subscription.and_then(|it| it.silent_s)),
        is_replay_paused: facts.is_some_and(|it| it.is_replay_paused),
        retained_bytes: slot.and_then(|it| it.retained),
        conflicts: facts.map(|it| it.conflicts),
    };
    let facts = match own {
        Ok(facts) => facts,
        Err(problem) => {
            found.bad(format!("cannot be asked: {problem}"));
            return found;
        }
    };
    let is_standby = role.is_physical() && *role != Role::Primary;
    if facts.in_recovery != is_standby {
        let what = if is_standby {
            "is not in recovery: it is a primary of its own"
        } else {
            "is in recovery: it takes no writes"
        };
        found.bad(what);
    }
    if *role == Role::Primary {
        if let Err(problem) = mark {
            found.bad(format!("nothing can be written into its WAL: {problem}"));
        }
        found.judge_primary(facts, limits);
        return found;
    }
    let Some(upstream) = &member.node.upstream else {
        // No upstream reports how far this node is behind, so the lag is computed from the position it has replayed.
        let written = mark.as_ref().ok().zip(arrival.reached);
        found.unreplayed_bytes = written.map(|(mark, at)| mark.distance_from(at).bytes());
        found.judge_replay(facts, limits);
        return found;
    };
    match sender {
        None if matches!(upstream_says, Some(Err(_)) | None) => found.bad(format!(
            "whether it replicates is unknown: `{upstream}` cannot be asked"
        )),
        None => found.bad(format!("does not replicate from `{upstream}`")),
        Some(sender) if sender.state != "streaming" => {
            found.bad(format!("`{upstream}` has it as `{}`", sender.state));
        }
        Some(_) => {}
    }
    if let Some(subscription) = subscription {
        found.judge_subscription(subscription);
    }
    if mark.is_ok() && arrival.received.is_none() {
        let patience = format_duration(limits.patience);
        let says = receiver.map_or_else(String::new, |it| {
            let silent = it.silent_s.map_or_else(String::new, |it| {
                format!(", the last message came {it:.1} s ago")
            });
            format!(" (its walreceiver says `{}`{silent})", it.status)
        });
        found.bad(format!(
            "has not received in {patience} what was written{says}"
        ));
    }
    found.judge_replay(facts, limits);
    if let Some(slot) = slot {
        found.judge_slot(slot, limits);
    }
    found
}

impl NodeHealth {
    fn warn(&mut self, reason: impl Into<String>) {
        self.verdict = self.verdict.max(Verdict::Warn);
        self.reasons.push(reason.into());
    }

    fn bad(&mut self, reason: impl Into<String>) {
        self.verdict = Verdict::Bad;
        self.reasons.push(reason.into());
    }

    fn judge_primary(&mut self, facts: &Facts, limits: Limits) {
        let is_sync = |it: &health::Sender| matches!(it.sync_state.as_str(), "sync" | "quorum");
        if !facts.standby_names.is_empty() && !facts.senders.iter().any(is_sync) {
            let names = &facts.standby_names;
            self.bad(format!(
                "no standby of synchronous_standby_names = `{names}` is there: commits wait"
            ));
        }
        for slot in facts.slots.iter().filter(|it| !it.is_active) {
            let retained = format_bytes(slot.retained.unwrap_or(0) as f64);
            self.warn(format!(
                "nobody uses slot `{}`, which holds {retained} of WAL back",
                slot.name
            ));
            self.judge_slot(slot, limits);
        }
    }

    fn judge_subscription(&mut self, subscription: &health::Subscription) {
        if !subscription.is_enabled {
            self.bad("its subscription is disabled");
        } else if !subscription.has_worker {
            let reason = "no worker applies its subscription: its log says why";
            self.bad(reason);
        }
    }

    fn judge_replay(&mut self, facts: &Facts, limits: Limits) {
        if facts.is_replay_paused {
            self.bad("its replay is paused");
        } else if self.received_ms.is_some() && self.replayed_ms.is_none() {
            let patience = format_duration(limits.patience);
            self.warn(format!("has not replayed in {patience} what was written"));
        }
        if let Some(bytes) = self.unreplayed_bytes
            && bytes.unsigned_abs() > limits.lag_bytes
        {
            let bytes = format_bytes(bytes as f64);
            self.warn(format!("has {bytes} of WAL to replay"));
        }
        if facts.conflicts > 0 {
            let count = facts.conflicts;
            self.warn(format!(
                "replay has cancelled {count} queries since the statistics were reset"
            ));
        }
    }

    fn judge_slot(&mut self, slot: &health::Slot, limits: Limits) {
        if let Some(status @ ("unreserved" | "lost")) = slot.wal_status.as_deref() {
            self.bad(format!("the WAL of slot `{}` is {status}", slot.name));
        }
        if let Some(bytes) = slot.retained
            && bytes.unsigned_abs() > limits.retained_bytes
        {
            let bytes = format_bytes(bytes as f64);
            self.warn(format!("slot `{}` holds {bytes} of WAL back", slot.name));
        }
    }
}
