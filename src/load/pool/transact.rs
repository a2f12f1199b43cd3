//! What the tasks of a load thread share, and what each of them does: one arrival from its dispatch to its end.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use deadpool::managed::{Object, Pool, PoolError, TimeoutType, Timeouts};
use tokio::sync::Notify;

use super::connection::{Connection, Connector, open_failure};
use crate::clock::{self, Stamp};
use crate::load::counters::{Attempt, Counters, Draws, Ending, Entry};
use crate::load::feed_buffer::FeedBuffer;
use crate::load::share::Arrival;
use crate::load::stats::Uncommitted;
use crate::load::values::Value;
use crate::pg::Failure;

/// The feed buffer, which the tasks fill and the runtime empties when it parks the thread.
#[derive(Clone)]
pub(super) struct SharedFeed(pub(super) Arc<Mutex<FeedBuffer>>);

impl SharedFeed {
    pub(super) fn lock(&self) -> MutexGuard<'_, FeedBuffer> {
        // Nothing that holds it can panic half-way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the tasks of a thread share.
pub(super) struct ThreadState {
    pub(super) pool: Pool<Connector>,
    pub(super) draws: Draws,
    pub(super) entries: Vec<Entry>,
    pub(super) deadline: Duration,
    pub(super) feed: SharedFeed,
    /// A transaction ended.
    pub(super) finished: Notify,
    pub(super) counters: RefCell<Counters>,
}

impl ThreadState {
    /// One arrival from its dispatch to its end, whatever that is. `ready` is from when it could have been dispatched, if that
    /// was not up to this generator.
    pub(super) async fn transact(&self, arrival: Arrival, ready: Option<Stamp>) {
        let mut values = Vec::new();
        let (transaction, mut rng) = self.draws.of_arrival(arrival.number);
        self.entries[transaction]
            .sampler
            .draw(&mut rng, &mut values);
        let asked = clock::now();
        if let Some(ready) = ready {
            let mut counters = self.counters.borrow_mut();
            counters.note_dispatch(arrival.measured, ready, asked);
        }
        let mut attempt = Attempt {
            arrival,
            transaction,
            sent: None,
        };
        let ending = self.run(&mut attempt, &values, asked).await;
        let now = clock::now();
        let mut counters = self.counters.borrow_mut();
        let commit = counters.end(&self.entries, &attempt, ending, now);
        if attempt.sent.is_some() {
            self.feed.lock().ended(commit);
        }
        drop(counters);
        self.finished.notify_one();
    }

    async fn run(&self, attempt: &mut Attempt, values: &[Value], asked: Stamp) -> Ending {
        // The deadline bounds the wait and not the opening of a connection: where everybody waits up to it, whoever comes first
        // in the queue has no time left, and no connection would ever be opened again.
        let timeouts = Timeouts {
            wait: Some(self.deadline),
            ..self.pool.timeouts()
        };
        let connection = match self.pool.timeout_get(&timeouts).await {
            Ok(connection) => Leased(Some(connection)),
            Err(PoolError::Timeout(TimeoutType::Wait)) => return Ending::Missed,
            Err(error) => {
                return Ending::Uncommitted(Uncommitted::NoConnection, open_failure(error));
            }
        };
        let sent = clock::now();
        let left = self.deadline.saturating_sub(sent.since(asked));
        if left.is_zero() {
            connection.give_back();
            return Ending::Missed;
        }
        attempt.sent = Some((sent, sent.since(asked)));
        let measured = attempt.arrival.measured;
        self.counters.borrow_mut().count_sent(measured);
        self.feed.lock().sent();
        let run = connection.get().run(attempt.transaction, values);
        let error = match tokio::time::timeout(left, run).await {
            Ok(Ok(reply)) => {
                connection.give_back();
                return Ending::Committed(reply);
            }
            Ok(Err(error)) => error,
            Err(_elapsed) => return Ending::unanswered(self.deadline),
        };
        let failure = Failure::from(error);
        if failure.connection_lost {
            return Ending::Uncommitted(Uncommitted::Indeterminate, failure);
        }
        let rolled_back = connection.get().roll_back(attempt.transaction).await;
        if rolled_back.is_ok() {
            connection.give_back();
        }
        Ending::Uncommitted(Uncommitted::Failed, failure)
    }
}

/// A connection on loan. Dropped in the middle of a transaction it is spent: it leaves the pool, and the server is asked to
/// cancel what it runs, which would hold one of its connections otherwise.
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
            let cancel = Object::take(connection).cancel();
            if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                runtime.spawn(cancel);
            }
        }
    }
}
