//! Whether servers replicate, now: something is written on the primary, and each replica has to have it within a deadline. What the
//! servers' views say is told beside it and not believed: a standby behind a cut network calls itself `streaming` for a minute.

use std::time::Duration;

use futures_util::future::join_all;
use serde::Serialize;

use super::RunningNode;
use crate::clock;
use crate::pg::health::{self, Facts, Reached};
use crate::pg::{self, Endpoint, Session, provisioning};
use crate::topology::{Node, Role};
use crate::units::{Lsn, format_bytes, format_duration};

/// Reaching a server, and one question to it, may take so long each.
const ANSWER: Duration = Duration::from_secs(5);
/// Between two looks at how far a replica is.
const LOOK: Duration = Duration::from_millis(1);

/// From where on something is to be warned of.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// What was just written must be on a replica's disk within this, and replayed.
    pub patience: Duration,
    /// WAL that a replica has not replayed.
    pub lag_bytes: u64,
    /// WAL that a slot holds back.
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

/// Servers at one moment.
#[derive(Debug, Clone, Serialize)]
pub struct Health {
    /// The worst of all nodes.
    pub verdict: Verdict,
    pub nodes: Vec<NodeHealth>,
}

#[derive(Debug, Clone, Serialize)]
pub struct NodeHealth {
    pub node: String,
    pub role: Role,
    pub place: String,
    pub verdict: Verdict,
    /// Why it is not good.
    pub reasons: Vec<String>,
    pub version: Option<String>,
    /// As its upstream has it.
    pub state: Option<String>,
    pub sync_state: Option<String>,
    /// Bytes of WAL that the node had not been sent, not on disk and not replayed.
    pub unsent_bytes: Option<i64>,
    pub unflushed_bytes: Option<i64>,
    pub unreplayed_bytes: Option<i64>,
    /// From before something was written on the primary until it was known to be on the replica's disk, and to be replayed or applied there.
    pub received_ms: Option<f64>,
    pub replayed_ms: Option<f64>,
    /// Since the last message from its upstream.
    pub silent_s: Option<f64>,
    pub is_replay_paused: bool,
    /// The most that a slot for it holds back.
    pub retained_bytes: Option<i64>,
    pub conflicts: Option<i64>,
}

/// Looks at all servers; the first is the primary.
pub async fn check(members: &[RunningNode], limits: Limits) -> Health {
    let sessions = join_all(members.iter().map(|it| reach(&it.endpoint))).await;
    let primary = sessions.first().and_then(|it| it.as_ref().ok());
    let reached = members.iter().zip(&sessions);
    let names = reached
        .clone()
        .map(|(member, session)| replicates_as(member, session.as_ref().ok()));
    let names = join_all(names).await;
    // Before it is written, so that no time is told that is too short.
    let marked = clock::now();
    let mark = write(primary).await;
    let replicas = reached.zip(&names).skip(1);
    let arrivals = replicas.map(async |((member, session), name)| {
        let (Ok(session), Ok(mark), Some(primary)) = (session, &mark, primary) else {
            return Arrival::default();
        };
        let asked = if member.node.role == Role::Subscriber {
            // It is the publisher that knows what it has confirmed.
            (primary, Some(name.as_str()))
        } else {
            (session, None)
        };
        // An archive standby gets WAL when a segment is full, and not before.
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
    // What is written here must not wait for a standby that may be gone.
    let options = Some("-c synchronous_commit=local");
    let connected = pg::connect(endpoint, "replbench status", options, ANSWER).await;
    connected.map_err(|error| error.to_string())
}

/// The name under which a node replicates: a standby's own, a subscriber's subscription's.
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

/// Writes into the primary's WAL; the end of what was written.
async fn write(primary: Option<&Session>) -> Result<Lsn, String> {
    let primary = primary.ok_or("it cannot be reached")?;
    let written = timely(provisioning::fence(primary.client())).await?;
    written.map_err(|failure| failure.to_string())
}

async fn facts(session: Result<&Session, &String>) -> Result<Facts, String> {
    let facts = timely(health::facts(session?.client())).await?;
    facts.map_err(|error| pg::describe(&error).to_string())
}

/// The answer to a question, within its deadline.
async fn timely<T>(question: impl Future<Output = T>) -> Result<T, String> {
    let answer = tokio::time::timeout(ANSWER, question).await;
    answer.map_err(|_| format!("no answer within {} s", ANSWER.as_secs()))
}

/// After how long a replica had what was written; `None`: not within the deadline.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Arrival {
    received: Option<Duration>,
    replayed: Option<Duration>,
    /// Up to where the replica had replayed or applied in the last look.
    reached: Option<Lsn>,
}

/// Asks a standby itself, or the publisher about the subscriber of a name.
async fn arrival(
    (session, subscriber): (&Session, Option<&str>),
    mark: Lsn,
    marked: clock::Stamp,
    patience: Duration,
) -> Arrival {
    let mut found = Arrival::default();
    let due = marked + patience;
    // Once at least.
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
        // What it has replayed it has received, from an archive if not from its upstream.
        if has(received) || has(replayed) {
            found.received.get_or_insert(took);
        }
        if has(replayed) {
            found.replayed = Some(took);
        }
        if has(replayed) || clock::now() >= due {
            break;
        }
        tokio::time::sleep(LOOK).await;
    }
    found
}

/// Pure: from what servers say to what is to be said of one.
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
        // It has no upstream that could say how far behind it is.
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
