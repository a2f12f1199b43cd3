//! Polls one node for the commits it shows, and sorts what it saw by the second of the acknowledgement.
//!
//! Looks follow each other while a transaction is in flight, because a commit is often visible before its acknowledgement, and then
//! until it has been seen: at an eighth of the age of the one that has been outstanding for longest, so that a short delay is
//! resolved finely and a long one costs little. With nothing in flight or outstanding there is one look a tick, to notice a
//! lost connection.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_postgres::Statement;

use super::subscriber::{self, Asked, KeyKind, SubscriberTracker};
use super::tracker::{ByTransaction, CommitVisibility};
use super::{CONNECT_DEADLINE, CommitFanOut, ProbeError, Reading, Target, TrackedTable};
use crate::clock::{self, Stamp, Timer};
use crate::pg::{self, Session, Xid8, catalog};
use crate::sample::{Commit, Timeline};

/// Looks a second, on average, that a node is worth: above it the probe would slow what it watches.
const LOOKS_PER_SECOND: f64 = 2_000.0;
/// A shorter pause between looks is none.
const SHORTEST_SLEEP: Duration = Duration::from_micros(50);
/// The longest pause between looks while something is outstanding, however old.
const COARSEST: Duration = Duration::from_millis(1);
/// Looks that may be spent at once.
const BURST: f64 = 64.0;
/// Pause before a lost connection is tried again.
const RETRY: Duration = Duration::from_millis(200);

/// How one commit became visible on a node, in nanoseconds from its acknowledgement; negative: before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delay {
    /// Not visible yet.
    pub lo: i64,
    /// Visible by then.
    pub hi: i64,
    /// The end of the interval counted from the send.
    pub hi_from_send: u64,
}

/// The measured commits acknowledged in one second, as one node showed them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VisibilitySecond {
    pub node: String,
    /// Seconds from the start of the measurement.
    pub index: i64,
    pub commits: u64,
    /// One a commit that was seen; `commits - delays.len()` are censored.
    pub delays: Vec<Delay>,
}

#[derive(Debug, Default)]
struct Bucket {
    commits: u64,
    delays: Vec<Delay>,
}

#[derive(Debug)]
enum Tracker {
    Physical(ByTransaction),
    Logical(Box<SubscriberTracker>),
}

/// What is known of one node: shared by its poller and whoever brings commits.
#[derive(Debug)]
pub(super) struct Watch {
    node: String,
    tracker: Tracker,
    timeline: Timeline,
    buckets: BTreeMap<i64, Bucket>,
}

impl Watch {
    /// Takes an acknowledged commit.
    pub(super) fn commit(&mut self, commit: Commit) {
        if commit.measured {
            let second = self.timeline.second_at(commit.acked);
            self.buckets.entry(second).or_default().commits += 1;
        }
        let seen = match &mut self.tracker {
            Tracker::Physical(tracker) => tracker.commit(commit),
            Tracker::Logical(tracker) => tracker.commit(commit),
        };
        self.settle(seen);
    }

    pub(super) fn outstanding(&self) -> usize {
        match &self.tracker {
            Tracker::Physical(tracker) => tracker.outstanding(),
            Tracker::Logical(tracker) => tracker.outstanding(),
        }
    }

    fn oldest(&self) -> Option<Commit> {
        match &self.tracker {
            Tracker::Physical(tracker) => tracker.oldest(),
            Tracker::Logical(tracker) => tracker.oldest(),
        }
    }

    fn settle(&mut self, seen: impl IntoIterator<Item = CommitVisibility>) {
        for CommitVisibility { commit, lo, hi } in seen {
            if !commit.measured {
                continue;
            }
            let second = self.timeline.second_at(commit.acked);
            let from_send = hi.since(commit.sent).as_nanos();
            self.buckets.entry(second).or_default().delays.push(Delay {
                lo: lo.signed_since(commit.acked),
                hi: hi.signed_since(commit.acked),
                hi_from_send: u64::try_from(from_send).unwrap_or(u64::MAX),
            });
        }
    }

    /// Takes out every second before `before` of which all commits have been seen, or all seconds if it is `None`.
    pub(super) fn take_seconds(&mut self, before: Option<i64>) -> Vec<VisibilitySecond> {
        let ready: Vec<_> = self
            .buckets
            .iter()
            .filter(|(index, bucket)| {
                before.is_none_or(|before| {
                    **index < before && bucket.delays.len() as u64 == bucket.commits
                })
            })
            .map(|(index, _)| *index)
            .collect();
        ready
            .into_iter()
            .filter_map(|index| {
                let bucket = self.buckets.remove(&index)?;
                Some(VisibilitySecond {
                    node: self.node.clone(),
                    index,
                    commits: bucket.commits,
                    delays: bucket.delays,
                })
            })
            .collect()
    }
}

/// What a poller looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pending {
    Nothing,
    /// A transaction that has not been acknowledged.
    InFlight,
    /// The commit, not seen yet, that was acknowledged first.
    Outstanding {
        since: Stamp,
    },
}

/// When to look next.
#[derive(Debug)]
struct Cadence {
    tick: Duration,
    credit: f64,
    refilled: Stamp,
}

impl Cadence {
    fn new(tick: Duration, now: Stamp) -> Self {
        Self {
            tick,
            credit: BURST,
            refilled: now,
        }
    }

    fn next(&mut self, now: Stamp, pending: Pending) -> Stamp {
        let earned = now.since(self.refilled).as_secs_f64() * LOOKS_PER_SECOND;
        self.credit = (self.credit + earned).min(BURST);
        self.refilled = now;
        let age = match pending {
            Pending::Nothing => return now + self.tick,
            Pending::InFlight => Duration::ZERO,
            Pending::Outstanding { since } => now.since(since),
        };
        // Going to sleep for less than that would only wake up late.
        let gap = Some(age / 8)
            .filter(|gap| *gap >= SHORTEST_SLEEP)
            .unwrap_or_default();
        let debt = Duration::from_secs_f64((1.0 - self.credit).max(0.0) / LOOKS_PER_SECOND);
        now + gap.max(debt).min(COARSEST)
    }

    fn spend(&mut self) {
        self.credit -= 1.0;
    }
}

/// A connection to the node with its query prepared.
#[derive(Debug)]
struct ProbeConnection {
    session: Session,
    statement: Statement,
    /// By table; empty on a physical standby.
    keys: Rc<[KeyKind]>,
}

/// One node and how it is looked at.
#[derive(Debug)]
pub(super) struct Poller {
    target: Target,
    tables: Rc<[TrackedTable]>,
    tick: Duration,
    connection: Option<ProbeConnection>,
    pub(super) watch: Rc<RefCell<Watch>>,
}

impl Poller {
    /// Connects and learns the highest rows, before the first commit of the cell.
    pub(super) async fn open(
        target: Target,
        tables: Rc<[TrackedTable]>,
        tick: Duration,
    ) -> Result<Self, ProbeError> {
        let physical = target.node.role.is_physical();
        let connection = open_connection(&target, &tables).await?;
        let tracker = if physical {
            Tracker::Physical(ByTransaction::default())
        } else {
            let client = connection.session.client();
            let highest = subscriber::highest_rows(client, &tables, &connection.keys).await;
            let highest = highest.map_err(|error| ProbeError::query(&target, &error))?;
            let keys = connection.keys.clone();
            let tracker = SubscriberTracker::new(highest, keys, tables.clone());
            Tracker::Logical(Box::new(tracker))
        };
        let watch = Watch {
            node: target.node.name.clone(),
            tracker,
            timeline: Timeline::default(),
            buckets: BTreeMap::new(),
        };
        Ok(Self {
            target,
            tables,
            tick,
            connection: Some(connection),
            watch: Rc::new(RefCell::new(watch)),
        })
    }

    /// Tells the watch when the cell begins.
    pub(super) fn set_timeline(&self, timeline: Timeline) {
        self.watch.borrow_mut().timeline = timeline;
    }

    /// Looks until it is aborted. A lost connection is an event, and then tried again.
    pub(super) async fn run(
        mut self,
        commits: Rc<CommitFanOut>,
        readings: mpsc::UnboundedSender<Reading>,
    ) -> io::Result<()> {
        let mut timer = Timer::new()?;
        let mut cadence = Cadence::new(self.tick, clock::now());
        let mut told = String::new();
        loop {
            let pending = self.pending(&commits);
            let due = cadence.next(clock::now(), pending);
            if pending == Pending::Nothing {
                tokio::select! {
                    slept = timer.sleep_until(due) => slept?,
                    () = commits.feed.activity() => {}
                }
            } else {
                timer.sleep_until(due).await?;
            }
            cadence.spend();
            let Err(message) = self.look().await else {
                told.clear();
                continue;
            };
            self.connection = None;
            // A server that stays away is tried again five times a second, and told of once.
            if message != told {
                // The channel is closed only when the cell is over.
                let _ = readings.send(Reading::Trouble {
                    node: self.target.node.name.clone(),
                    at: clock::now(),
                    detail: format!("the visibility probe lost its connection: {message}"),
                });
                told = message;
            }
            timer.sleep_until(clock::now() + RETRY).await?;
        }
    }

    fn pending(&self, commits: &CommitFanOut) -> Pending {
        // In this order: a transaction that is no longer in flight has left its commit before.
        let is_in_flight = commits.feed.is_in_flight();
        commits.distribute();
        match self.watch.borrow().oldest() {
            Some(Commit { acked, .. }) => Pending::Outstanding { since: acked },
            None if is_in_flight => Pending::InFlight,
            None => Pending::Nothing,
        }
    }

    async fn look(&mut self) -> Result<(), String> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => open_connection(&self.target, &self.tables)
                .await
                .map_err(|error| error.to_string())?,
        };
        let connection = self.connection.insert(connection);
        let mut seen = Vec::new();
        let question = Question::of(&mut self.watch.borrow_mut().tracker);
        let start = clock::now();
        match question {
            Question::Transactions(asked) => {
                let visible = catalog::visible_transactions(
                    connection.session.client(),
                    &connection.statement,
                    &asked,
                )
                .await
                .map_err(|error| pg::describe(&error).to_string())?;
                let end = clock::now();
                if let Tracker::Physical(tracker) = &mut self.watch.borrow_mut().tracker {
                    tracker.poll(start, end, visible, &mut seen);
                }
            }
            Question::Rows(asked) => {
                let parameters = subscriber::parameters(&connection.keys, &self.tables, &asked);
                let parameters: Vec<_> = parameters.iter().map(AsRef::as_ref).collect();
                let rows = connection
                    .session
                    .client()
                    .query(&connection.statement, &parameters)
                    .await
                    .map_err(|error| pg::describe(&error).to_string())?;
                let end = clock::now();
                if let Tracker::Logical(tracker) = &mut self.watch.borrow_mut().tracker {
                    tracker.poll(start, end, &rows, &mut seen);
                }
            }
        }
        self.watch.borrow_mut().settle(seen);
        Ok(())
    }
}

/// What one look asks.
enum Question {
    Transactions(Vec<Xid8>),
    /// By table.
    Rows(Vec<Asked>),
}

impl Question {
    fn of(tracker: &mut Tracker) -> Self {
        match tracker {
            Tracker::Physical(tracker) => {
                Self::Transactions(tracker.question().into_iter().map(Xid8).collect())
            }
            Tracker::Logical(tracker) => Self::Rows(tracker.question()),
        }
    }
}

async fn open_connection(
    target: &Target,
    tables: &[TrackedTable],
) -> Result<ProbeConnection, ProbeError> {
    // A plan made for unknown parameters would guess that a third of the table is new and read it all.
    let options = "-c plan_cache_mode=force_generic_plan -c enable_seqscan=off \
                   -c enable_bitmapscan=off -c jit=off";
    let session = pg::connect(
        &target.endpoint,
        "replbench visibility",
        Some(options),
        CONNECT_DEADLINE,
    )
    .await?;
    let failed = |error| ProbeError::query(target, &error);
    let client = session.client();
    let mut keys = Rc::default();
    let statement = if target.node.role.is_physical() {
        catalog::prepare_visible_transactions(client).await
    } else {
        keys = subscriber::key_kinds(client, tables)
            .await
            .map_err(failed)?;
        client.prepare(&subscriber::rows_sql(tables, &keys)).await
    };
    let statement = statement.map_err(failed)?;
    Ok(ProbeConnection {
        session,
        statement,
        keys,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_follow_the_age_of_what_is_awaited() {
        let tick = Duration::from_millis(1);
        let start = Stamp::from_nanos(1_000_000_000);
        let mut cadence = Cadence::new(tick, start);
        assert_eq!(cadence.next(start, Pending::Nothing), start + tick);
        assert_eq!(cadence.next(start, Pending::InFlight), start);
        let micros = Duration::from_micros;
        let mut aged = |age| {
            let since = start - micros(age);
            cadence.next(start, Pending::Outstanding { since })
        };
        assert_eq!(aged(80), start);
        assert_eq!(aged(300_000), start + COARSEST);
        assert_eq!(aged(800), start + micros(100));
    }

    #[test]
    fn looks_are_bounded_on_average() {
        let mut cadence = Cadence::new(Duration::from_millis(1), Stamp::from_nanos(0));
        let (mut now, mut looks) = (Stamp::from_nanos(0), 0_u32);
        while now < Stamp::from_nanos(1_000_000_000) {
            now = cadence.next(now, Pending::InFlight);
            cadence.spend();
            looks += 1;
            // The look itself.
            now = now + Duration::from_micros(20);
        }
        assert!((1_950..=2_150).contains(&looks), "{looks}");
    }
}
