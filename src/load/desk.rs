//! What the tasks of a load thread share, and what each of them does: one arrival from its dispatch to its end.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use deadpool::managed::{Object, Pool, PoolError};
use rand_xoshiro::Xoshiro256PlusPlus;
use tokio::sync::Notify;

use super::outbox::Outbox;
use super::pool::{Connection, Connector, OpenError, Reply, Work};
use super::rows;
use super::share::Arrival;
use super::stats::{Outcome, Reason, Second};
use crate::clock::{self, Stamp};
use crate::pg;
use crate::plan::{self, KeyChooser, Mix, TransactionKind};
use crate::sample::{Commit, Phase, Timeline};

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
pub(super) struct Desk {
    pub(super) pool: Pool<Connector>,
    pub(super) mix: Mix,
    pub(super) entries: Vec<Entry>,
    pub(super) deadline: Duration,
    pub(super) seed: u64,
    pub(super) outbox: Arc<Outbox>,
    pub(super) timeline: Timeline,
    /// A transaction ended.
    pub(super) finished: Notify,
    pub(super) state: RefCell<State>,
}

pub(super) struct State {
    pub(super) second: Second,
    pub(super) in_flight: u32,
    /// Those of them that were sent.
    pub(super) unanswered: InFlight,
    /// Those of them that wait for a connection.
    pub(super) unsent: InFlight,
    pub(super) backlog: u64,
    /// The phase is over: whoever has no connection yet is missed.
    pub(super) closed: bool,
    /// This thread's CPU time at the start of the second.
    pub(super) cpu: Duration,
}

/// Arrivals that have been dispatched and have not ended.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct InFlight {
    pub(super) all: u64,
    pub(super) measured: u64,
}

impl InFlight {
    fn add(&mut self, measured: bool) {
        self.all += 1;
        self.measured += u64::from(measured);
    }

    fn remove(&mut self, measured: bool) {
        self.all -= 1;
        self.measured -= u64::from(measured);
    }
}

impl State {
    /// Whether an arrival counts in the current second's figures: warm-up ones do so during the warm-up only.
    pub(super) fn counts(&self, measured: bool) -> bool {
        measured == (self.second.phase != Phase::Warmup)
    }
}

impl Desk {
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

    /// One arrival from its dispatch to its end, whatever that is.
    pub(super) async fn transact(&self, arrival: Arrival) {
        let (index, work) = self.work(arrival.number);
        let asked = clock::now();
        let mut progress = Progress::default();
        let attempt = self.attempt(index, &work, arrival.measured, asked, &mut progress);
        let ended = tokio::time::timeout(self.deadline, attempt).await;
        let outcome = match ended {
            Ok(outcome) => outcome,
            Err(_elapsed) if progress.sent.is_none() => None,
            Err(_elapsed) => Some((
                Outcome::Indeterminate(Reason {
                    sqlstate: String::new(),
                    message: format!("no answer within {} s", self.deadline.as_secs_f64()),
                }),
                None,
            )),
        };
        self.account(arrival, index, progress, outcome);
    }

    /// `None`: the phase ended, or the deadline passed, before the transaction could be sent.
    async fn attempt(
        &self,
        index: usize,
        work: &Work,
        measured: bool,
        asked: Stamp,
        progress: &mut Progress,
    ) -> Option<(Outcome, Option<Reply>)> {
        let connection = self.pool.get().await;
        let got = clock::now();
        if self.state.borrow().closed {
            return None;
        }
        progress.pool_wait = Some(got.since(asked));
        let connection = match connection {
            Ok(connection) => Leased(Some(connection)),
            Err(error) => return Some((Outcome::Failed(open_failure(error)), None)),
        };
        progress.sent = Some(got);
        {
            let mut state = self.state.borrow_mut();
            state.unsent.remove(measured);
            state.unanswered.add(measured);
        }
        self.outbox.sent();
        let answer = connection.get().run(index, work).await;
        Some(match answer {
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
                    (Outcome::Indeterminate(reason), None)
                } else {
                    let clean = !matches!(work, Work::Order { .. })
                        || connection.get().roll_back().await.is_ok();
                    if clean {
                        connection.give_back();
                    }
                    (Outcome::Failed(reason), None)
                }
            }
        })
    }

    fn account(
        &self,
        arrival: Arrival,
        index: usize,
        progress: Progress,
        outcome: Option<(Outcome, Option<Reply>)>,
    ) {
        let now = clock::now();
        let mut state = self.state.borrow_mut();
        state.in_flight -= 1;
        match progress.sent {
            Some(_) => state.unanswered.remove(arrival.measured),
            None => state.unsent.remove(arrival.measured),
        }
        let counts = state.counts(arrival.measured);
        let second = &mut state.second;
        if let Some(wait) = progress.pool_wait
            && counts
        {
            second.pool_wait.record(wait);
        }
        if let Some(sent) = progress.sent
            && counts
        {
            second.arrivals.sent += 1;
            second.start_lag.record(sent.since(arrival.due));
        }
        let (sent, reply) = match outcome {
            None => {
                second.arrivals.missed += u64::from(counts);
                self.finished.notify_one();
                return;
            }
            Some((Outcome::Failed(reason), _)) => {
                second.arrivals.failed += u64::from(counts);
                second.count_failure(reason, false);
                (None, None)
            }
            Some((Outcome::Indeterminate(reason), _)) => {
                second.arrivals.indeterminate += u64::from(counts);
                second.committed_mut(index).1 += 1;
                second.count_failure(reason, true);
                (None, None)
            }
            Some((outcome, reply)) => {
                second.acks += 1;
                second.committed_mut(index).0 += u64::from(reply.is_some());
                if counts {
                    if outcome == Outcome::Acked {
                        second.arrivals.acked += 1;
                    } else {
                        second.arrivals.acked_with_warning += 1;
                    }
                }
                (progress.sent, reply)
            }
        };
        if let Some(sent) = sent
            && counts
        {
            second.service.record(now.since(sent));
            second.response.record(now.since(arrival.due));
        }
        if progress.sent.is_some() {
            self.outbox
                .ended(sent.zip(reply).map(|(sent, reply)| Commit {
                    xid: reply.xid,
                    row: self.entries[index].table.map(|table| (table, reply.key)),
                    sent: reply.commit_sent.unwrap_or(sent),
                    acked: now,
                    measured: arrival.measured,
                }));
        }
        drop(state);
        self.finished.notify_one();
    }

    pub(super) fn begin(&self, measured: bool, offered: u64) {
        let mut state = self.state.borrow_mut();
        state.in_flight += 1;
        state.unsent.add(measured);
        if state.counts(measured) {
            state.second.arrivals.offered += offered;
        }
        let in_flight = u64::from(state.in_flight);
        state.second.peak_in_flight = state.second.peak_in_flight.max(in_flight);
    }
}

/// How far an attempt has come, known even when it is cut off.
#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    pool_wait: Option<Duration>,
    sent: Option<Stamp>,
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
