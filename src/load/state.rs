//! What the tasks of a load thread share, and what each of them does: one arrival from its dispatch to its end.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use deadpool::managed::{Object, Pool, PoolError};
use rand_xoshiro::Xoshiro256PlusPlus;
use tokio::sync::Notify;

use super::feed_buffer::FeedBuffer;
use super::pool::{Connection, Connector, OpenError, Reply};
use super::share::{Arrival, Population};
use super::stats::{Outcome, Reason, Second, Uncommitted};
use super::values::{Sampler, Value};
use crate::clock::{self, Stamp};
use crate::pg;
use crate::plan::{self, Change, Mix};
use crate::sample::{ChangedRow, Commit, RowChange, RowKey, Timeline};

/// One entry of the mix, ready to make work from.
#[derive(Debug)]
pub(super) struct Entry {
    /// Draws its values.
    pub(super) sampler: Sampler,
    /// What each statement does to a table of the plan.
    pub(super) changes: Vec<Option<(Change, usize)>>,
    /// The row that the last statement changes was there before the first transaction.
    pub(super) was_there: bool,
}

impl Entry {
    fn count_rows(&self, met: &[u64], second: &mut Second) {
        for (change, met) in self.changes.iter().zip(met) {
            let met = i64::try_from(*met).unwrap_or(i64::MAX);
            match change {
                Some((Change::Insert, table)) => second.change_rows(*table, met),
                Some((Change::Delete, table)) => second.change_rows(*table, -met),
                Some((Change::Update, _)) | None => {}
            }
        }
    }

    /// The row by which a subscriber shows a commit; `None` of an update without a version.
    fn changed_row(&self, key: RowKey, version: Option<i64>) -> Option<ChangedRow> {
        let (change, table) = (*self.changes.last()?)?;
        Some(ChangedRow {
            table: u8::try_from(table).ok()?,
            key,
            change: match change {
                Change::Insert => RowChange::Inserted,
                Change::Delete => RowChange::Deleted {
                    was_there: self.was_there,
                },
                Change::Update => RowChange::Updated {
                    version: version?,
                    was_there: self.was_there,
                },
            },
        })
    }
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
    /// Which transaction an arrival is, and its values.
    fn draw(&self, number: u64) -> (usize, Vec<Value>) {
        let mut rng: Xoshiro256PlusPlus = plan::rng(self.seed, number);
        let index = self.mix.pick(&mut rng);
        let values = self.entries[index].sampler.draw(&mut rng);
        (index, values)
    }

    /// One arrival from its dispatch to its end, whatever that is. `ready` is from when it could have been dispatched, if that
    /// was not up to this generator.
    pub(super) async fn transact(&self, arrival: Arrival, ready: Option<Stamp>) {
        let (index, values) = self.draw(arrival.number);
        let asked = clock::now();
        if let Some(ready) = ready {
            let second = &mut self.counters.borrow_mut().second;
            if second.records(arrival.measured) {
                second.dispatch_lag.record(asked.since(ready));
            }
        }
        let mut progress = Progress::default();
        let attempt = self.attempt(index, &values, arrival.measured, asked, &mut progress);
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
        values: &[Value],
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
        let answer = connection.get().run(index, values).await;
        match answer {
            Ok(reply) => {
                connection.give_back();
                let outcome = if reply.warned {
                    Outcome::AckedWithWarning
                } else {
                    Outcome::Acked
                };
                (outcome, Some(reply))
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
                    let clean = self.entries[index].changes.len() == 1
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
                    second.unknown += 1;
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
                let entry = &self.entries[index];
                if let Some(reply) = &reply {
                    entry.count_rows(&reply.met, second);
                }
                if records {
                    second.service.record(now.since(sent));
                    second.response.record(now.since(arrival.due));
                }
                commit = reply.and_then(|reply| {
                    let (xid, key, version) = reply.row?;
                    Some(Commit {
                        xid,
                        row: key.and_then(|key| entry.changed_row(key, version)),
                        sent: reply.commit_sent.unwrap_or(sent),
                        acked: now,
                        measured,
                    })
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
