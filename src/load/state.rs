//! What the tasks of a load thread share, and what each of them does: one arrival from its dispatch to its end.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use deadpool::managed::{Object, Pool, PoolError};
use rand_xoshiro::Xoshiro256PlusPlus;
use tokio::sync::Notify;

use super::feed_buffer::FeedBuffer;
use super::pool::{Connection, Connector, OpenError, Reply, Work};
use super::rows;
use super::share::{Arrival, Population};
use super::stats::{Outcome, Reason, Second, Uncommitted};
use crate::clock::{self, Stamp};
use crate::pg;
use crate::plan::{self, KeyChooser, Mix, TransactionKind};
use crate::sample::{Commit, Timeline};

/// One entry of the mix, ready to make work from.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) kind: TransactionKind,
    /// The table of the row it inserts, as an index into the plan's tables.
    pub(super) table: Option<u8>,
    pub(super) row_bytes: usize,
    pub(super) keys: Option<KeyChooser>,
}

/// What the tasks of a thread share.
pub(super) struct ThreadState {
    pub(super) pool: Pool<Connector>,
    pub(super) mix: Mix,
    pub(super) entries: Vec<Entry>,
    pub(super) deadline: Duration,
    pub(super) seed: u64,
    /// Arrivals that this thread may have in flight.
    pub(super) max_in_flight: u32,
    pub(super) feed_buffer: Arc<FeedBuffer>,
    pub(super) timeline: Timeline,
    /// A transaction ended.
    pub(super) finished: Notify,
    pub(super) counters: RefCell<Counters>,
}

pub(super) struct Counters {
    pub(super) second: Second,
    /// Dispatched and not ended.
    pub(super) in_flight: u32,
    /// Those of them that were sent.
    pub(super) unanswered: Population,
    /// Those of them that wait for a connection.
    pub(super) unsent: Population,
    /// Due and not dispatched.
    pub(super) undispatched: Population,
    /// When `max_in_flight` last left room again.
    pub(super) room_since: Stamp,
    /// This thread's CPU time at the start of the second.
    pub(super) cpu: Duration,
}

impl Counters {
    /// Arrivals that are due and not sent.
    pub(super) fn backlog(&self) -> Population {
        Population {
            all: self.undispatched.all + self.unsent.all,
            measured: self.undispatched.measured + self.unsent.measured,
        }
    }

    /// To be called when the thread wakes, before it dispatches: what has only just become due waits for nothing yet.
    pub(super) fn note_backlog(&mut self) {
        self.second.peak_backlog = self.second.peak_backlog.max(self.backlog().all);
    }

    pub(super) fn note_in_flight(&mut self) {
        let in_flight = u64::from(self.in_flight);
        self.second.peak_in_flight = self.second.peak_in_flight.max(in_flight);
    }
}

impl ThreadState {
    fn work(&self, number: u64) -> (usize, Work) {
        let mut rng: Xoshiro256PlusPlus = plan::rng(self.seed, number);
        let index = self.mix.pick(&mut rng);
        let entry = &self.entries[index];
        let mut key = || {
            entry
                .keys
                .as_ref()
                .map_or(1, |keys| keys.pick(&mut rng).cast_signed())
        };
        let work = match entry.kind {
            TransactionKind::StockUpdate => Work::Stock { id: key() },
            TransactionKind::Order => Work::Order {
                id: key(),
                quantity: 1,
            },
            TransactionKind::ProductInsert => {
                Work::Product(rows::product(&mut rng, entry.row_bytes))
            }
            TransactionKind::UsersInsert => Work::User(rows::user(&mut rng, entry.row_bytes)),
        };
        (index, work)
    }

    /// One arrival from its dispatch to its end, whatever that is. `ready` is from when it could have been dispatched, if that
    /// was not up to this generator.
    pub(super) async fn transact(&self, arrival: Arrival, ready: Option<Stamp>) {
        let (index, work) = self.work(arrival.number);
        let asked = clock::now();
        if let Some(ready) = ready {
            let second = &mut self.counters.borrow_mut().second;
            if second.records(arrival.measured) {
                second.dispatch_lag.record(asked.since(ready));
            }
        }
        let mut progress = Progress::default();
        let attempt = self.attempt(index, &work, arrival.measured, asked, &mut progress);
        let ended = tokio::time::timeout(self.deadline, attempt).await;
        let outcome = match ended {
            Ok(outcome) => Some(outcome),
            Err(_elapsed) if progress.sent.is_none() => None,
            Err(_elapsed) => Some((
                Outcome::Uncommitted(
                    Uncommitted::Indeterminate,
                    Reason {
                        sqlstate: String::new(),
                        message: format!("no answer within {} s", self.deadline.as_secs_f64()),
                    },
                ),
                None,
            )),
        };
        self.account(arrival, index, progress, outcome);
    }

    /// How the attempt ended, and what a commit told.
    async fn attempt(
        &self,
        index: usize,
        work: &Work,
        measured: bool,
        asked: Stamp,
        progress: &mut Progress,
    ) -> (Outcome, Option<Reply>) {
        let refused = |kind, reason| (Outcome::Uncommitted(kind, reason), None);
        let connection = match self.pool.get().await {
            Ok(connection) => Leased(Some(connection)),
            Err(error) => return refused(Uncommitted::NoConnection, open_failure(error)),
        };
        let sent = clock::now();
        progress.pool_wait = sent.since(asked);
        progress.sent = Some(sent);
        self.count_sent(measured);
        self.feed_buffer.sent();
        let answer = connection.get().run(index, work).await;
        match answer {
            Ok(reply) => {
                connection.give_back();
                let warned = reply.is_some_and(|reply| reply.warned);
                let outcome = if warned {
                    Outcome::AckedWithWarning
                } else {
                    Outcome::Acked
                };
                (outcome, reply)
            }
            Err(error) => {
                let failure = pg::describe(&error);
                let reason = Reason {
                    sqlstate: failure
                        .sqlstate
                        .as_ref()
                        .map_or_else(String::new, |state| state.code().to_owned()),
                    message: failure.message,
                };
                if failure.connection_lost {
                    refused(Uncommitted::Indeterminate, reason)
                } else {
                    let clean = !matches!(work, Work::Order { .. })
                        || connection.get().roll_back().await.is_ok();
                    if clean {
                        connection.give_back();
                    }
                    refused(Uncommitted::Failed, reason)
                }
            }
        }
    }

    /// Of a closed loop, where an arrival is due when it is sent.
    pub(super) fn count_offered(&self, measured: bool) {
        let mut state = self.counters.borrow_mut();
        state
            .second
            .count(measured, |outcomes| outcomes.offered += 1);
    }

    fn count_sent(&self, measured: bool) {
        let mut state = self.counters.borrow_mut();
        state.unsent.remove(measured);
        state.unanswered.add(measured);
        state.second.count(measured, |outcomes| outcomes.sent += 1);
    }

    /// `None`: the deadline passed before the transaction could be sent.
    fn account(
        &self,
        arrival: Arrival,
        index: usize,
        progress: Progress,
        outcome: Option<(Outcome, Option<Reply>)>,
    ) {
        let now = clock::now();
        let measured = arrival.measured;
        let mut state = self.counters.borrow_mut();
        if state.in_flight >= self.max_in_flight {
            state.room_since = now;
        }
        state.in_flight -= 1;
        match progress.sent {
            Some(_) => state.unanswered.remove(measured),
            None => state.unsent.remove(measured),
        }
        let second = &mut state.second;
        let records = second.records(measured);
        if let Some(sent) = progress.sent
            && records
        {
            second.pool_wait.record(progress.pool_wait);
            second.start_lag.record(sent.since(arrival.due));
        }
        let mut commit = None;
        match (outcome, progress.sent) {
            (Some((Outcome::Uncommitted(kind, reason), _)), _) => {
                second.count(measured, |outcomes| outcomes.end_uncommitted(kind));
                second.count_failure(kind, reason, 1);
                if kind == Uncommitted::Indeterminate {
                    second.committed_mut(index).1 += 1;
                }
            }
            (Some((outcome, reply)), Some(sent)) => {
                second.count(measured, |outcomes| {
                    if outcome == Outcome::Acked {
                        outcomes.acked += 1;
                    } else {
                        outcomes.acked_with_warning += 1;
                    }
                });
                second.committed_mut(index).0 += u64::from(reply.is_some());
                if records {
                    second.service.record(now.since(sent));
                    second.response.record(now.since(arrival.due));
                }
                commit = reply.map(|reply| Commit {
                    xid: reply.xid,
                    row: self.entries[index].table.map(|table| (table, reply.key)),
                    sent: reply.commit_sent.unwrap_or(sent),
                    acked: now,
                    measured,
                });
            }
            // Without a send there is no acknowledgement.
            (None | Some(_), _) => second.count(measured, |outcomes| outcomes.missed += 1),
        }
        if progress.sent.is_some() {
            self.feed_buffer.ended(commit);
        }
        drop(state);
        self.finished.notify_one();
    }

    /// Takes in an arrival that is dispatched now.
    pub(super) fn begin(&self, measured: bool) {
        let mut state = self.counters.borrow_mut();
        state.in_flight += 1;
        state.unsent.add(measured);
        state.note_in_flight();
    }
}

/// How far an attempt has come, known even when it is cut off.
#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    sent: Option<Stamp>,
    /// Of one that was sent.
    pool_wait: Duration,
}

/// A connection on loan. Dropped in the middle of a transaction it is spent, and leaves the pool.
struct Leased(Option<Object<Connector>>);

impl Leased {
    fn get(&self) -> &Connection {
        self.0.as_ref().expect("given back only by value")
    }

    fn give_back(mut self) {
        drop(self.0.take());
    }
}

impl Drop for Leased {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            drop(Object::take(connection));
        }
    }
}

pub(super) fn open_failure(error: PoolError<OpenError>) -> Reason {
    match error {
        PoolError::Backend(error) => Reason {
            sqlstate: error.sqlstate(),
            message: error.to_string(),
        },
        other => Reason {
            sqlstate: String::new(),
            message: format!("no connection from the pool: {other}"),
        },
    }
}
