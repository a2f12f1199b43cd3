//! What the tasks of a load thread share, and what each task does: it carries one arrival from its dispatch to its end.

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

/// The feed buffer. Tasks fill it, and the runtime empties it when it parks the thread.
#[derive(Clone)]
pub(super) struct SharedFeed(pub(super) Arc<Mutex<FeedBuffer>>);

impl SharedFeed {
    pub(super) fn lock(&self) -> MutexGuard<'_, FeedBuffer> {
        // No code that holds the lock can panic in the middle of a change.
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
    /// Notified whenever a transaction ends.
    pub(super) finished: Notify,
    pub(super) counters: RefCell<Counters>,
}

impl ThreadState {
    /// Carries one arrival from its dispatch to its end, whatever the outcome. `ready` is the instant from which the generator could have
    /// dispatched the arrival; `None` in a closed loop.
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
        // The deadline bounds the wait for a connection, but not its opening. When all tasks wait until their deadlines, the first task in
        // the queue has no time left, so with a bound on the opening no connection would ever be opened again.
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

/// A connection taken from the pool. If it is dropped during a transaction, it leaves the pool, and the server is asked to cancel the
/// statement, which would otherwise hold one of the server's connections.
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
