//! The connections of one thread. They are opened, handed out in turn, given up, and opened again.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::cancel::Cancels;
use super::connection::{Connection, Ended, Progress};
use super::request::{Request, Requests};
use super::search::{OPEN_DEADLINE, Search};
use crate::clock::{self, Stamp};
use crate::load::LoadError;
use crate::load::counters::{Attempt, Ending};
use crate::load::stats::Uncommitted;
use crate::pg::wire::Opening;
use crate::pg::{Endpoint, Failure};
use crate::poll::{Event, Interest, Poll};

/// The longest that the end of a cell waits for transactions to be cancelled.
const CLOSE_DEADLINE: Duration = Duration::from_secs(1);

/// Poll keys from this one up belong to other users of the thread's poll.
pub(super) const FOREIGN_KEYS: u64 = 1 << 40;

/// What one event of a wait has led to.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "it is passed on at once, and a box would be an allocation a transaction"
)]
pub(super) enum Next {
    Ended(Ended),
    /// An event on a key that another user of the poll has added.
    Other(Event),
    /// All events of the wait have been handled.
    Nothing,
}

pub(super) struct Connections {
    poll: Poll,
    requests: Requests,
    opening: Arc<Opening>,
    /// `None` for a connection that has to be opened.
    slots: Vec<Option<Connection>>,
    /// Indices of free connections in `slots`; the first has been free for longest.
    idle: VecDeque<usize>,
    search: Search,
    cancels: Cancels,
    /// Why connecting failed last; `None` once it has succeeded again.
    refusal: Option<Failure>,
}

impl Connections {
    /// Opens all connections before the first arrival, so that no arrival has to wait for a connection to open.
    pub(super) fn open(
        count: usize,
        requests: Requests,
        servers: &[Arc<Endpoint>],
    ) -> Result<Self, LoadError> {
        let failed = |error: io::Error| LoadError::Open(error.to_string());
        let mut connections = Self {
            poll: Poll::new().map_err(failed)?,
            opening: Arc::new(requests.opening().map_err(failed)?),
            requests,
            slots: (0..count).map(|_| None).collect(),
            idle: VecDeque::with_capacity(count),
            search: Search::new(servers).map_err(failed)?,
            cancels: Cancels::default(),
            refusal: None,
        };
        while connections.idle.len() < count {
            let now = clock::now();
            connections.reopen(now);
            connections.poll.wait(now + OPEN_DEADLINE).map_err(failed)?;
            while !matches!(connections.next_ended(), Next::Nothing) {}
            connections.expire(clock::now(), Duration::MAX);
            if let Some(refusal) = connections.refusal {
                return Err(LoadError::Open(refusal.to_string()));
            }
        }
        Ok(connections)
    }

    pub(super) fn requests(&self) -> &Requests {
        &self.requests
    }

    pub(super) fn poll(&mut self) -> &mut Poll {
        &mut self.poll
    }

    pub(super) fn has_idle(&self) -> bool {
        !self.idle.is_empty()
    }

    /// Why connecting failed last, if no connection is open.
    pub(super) fn refusal(&self) -> Option<&Failure> {
        let mut all = self.slots.iter().flatten();
        let any_open = all.any(|it| !it.session.is_opening());
        self.refusal.as_ref().filter(|_| !any_open)
    }

    /// Sends a transaction on the connection that has been free for longest; at least one must be free. Returns the ended transaction if it
    /// could not be sent.
    pub(super) fn start(
        &mut self,
        attempt: Attempt,
        asked: Stamp,
        request: &mut Request,
    ) -> Option<Ended> {
        let index = self.idle.pop_front().expect("a connection is free");
        let connection = self.slots[index].as_mut();
        let connection = connection.expect("what is free is open");
        match connection.start(attempt, asked, request) {
            Ok(()) => {
                self.update_interest(index);
                None
            }
            Err(failure) => self.lose(index, failure),
        }
    }

    /// Handles the events of a wait up to the next one that concerns the caller.
    pub(super) fn next_ended(&mut self) -> Next {
        while let Some(event) = self.poll.next_event() {
            if event.key >= FOREIGN_KEYS {
                return Next::Other(event);
            }
            if Cancels::owns(event) {
                self.cancels.on_event(&self.poll, event);
            } else if let Some(ended) = self.on_event(event) {
                return Next::Ended(ended);
            }
        }
        Next::Nothing
    }

    fn on_event(&mut self, event: Event) -> Option<Ended> {
        let index = usize::try_from(event.key).unwrap_or(usize::MAX);
        let connection = self.slots.get_mut(index)?.as_mut()?;
        let was_opening = connection.session.is_opening();
        let progress = if event.is_writable {
            connection
                .session
                .on_writable()
                .map(|()| Progress::Awaiting)
        } else {
            connection.on_readable(&self.requests)
        };
        let ended = match progress {
            Ok(Progress::Awaiting) => None,
            Ok(Progress::Free) => {
                if was_opening {
                    self.search.found(connection.opened_by);
                    self.refusal = None;
                }
                self.idle.push_back(index);
                None
            }
            Ok(Progress::Ended(ended)) => {
                if connection.is_free() {
                    self.idle.push_back(index);
                }
                Some(ended)
            }
            Err(failure) => return self.lose(index, failure),
        };
        self.update_interest(index);
        ended
    }

    fn update_interest(&mut self, index: usize) {
        let Some(connection) = &mut self.slots[index] else {
            return;
        };
        if let Some(interest) = connection.new_interest()
            && let Err(error) = self
                .poll
                .modify(&connection.session, index as u64, interest)
        {
            // Without the poll no event of this connection is seen any more; it is given up at its deadline.
            self.refusal = Some(error.into());
        }
    }

    /// Gives up a connection and the transaction that it ran. Returns that transaction, if there was one.
    fn lose(&mut self, index: usize, failure: Failure) -> Option<Ended> {
        let connection = self.slots[index].take()?;
        self.idle.retain(|it| *it != index);
        if connection.session.is_opening() {
            self.search.failed(connection.opened_by, clock::now());
            self.refusal = Some(connection.session.opening_failed(failure));
            return None;
        }
        let running = connection.running()?;
        let how = if failure.connection_lost {
            Uncommitted::Indeterminate
        } else {
            Uncommitted::Failed
        };
        Some(Ended {
            attempt: running.attempt,
            ending: Ending::Uncommitted(how, failure),
            at: clock::now(),
        })
    }

    /// Begins to open closed connections: all of them or, while the primary is being searched for, one at a time. Returns when to call this
    /// again; `None` if no connection is closed, or if the next attempt has to wait for one that is under way.
    pub(super) fn reopen(&mut self, now: Stamp) -> Option<Stamp> {
        for index in 0..self.slots.len() {
            while self.slots[index].is_none() {
                if self.search.is_on() && self.is_opening() {
                    return None;
                }
                if self.search.retry_at() > now {
                    return Some(self.search.retry_at());
                }
                if let Err(error) = self.begin(index, now) {
                    self.search.failed(self.search.next_attempt().0, now);
                    self.refusal = Some(error.into());
                }
            }
        }
        None
    }

    fn is_opening(&self) -> bool {
        let mut all = self.slots.iter().flatten();
        all.any(|it| it.session.is_opening())
    }

    fn begin(&mut self, index: usize, now: Stamp) -> io::Result<()> {
        let (attempt, place) = self.search.next_attempt();
        let connection = Connection::open(attempt, place, self.opening.clone(), now)?;
        let interest = Interest::ReadableOrWritable;
        self.poll.add(&connection.session, index as u64, interest)?;
        self.slots[index] = Some(connection);
        Ok(())
    }

    /// Gives up connections and transactions that have taken too long, and asks the server to cancel these transactions. Returns them, and
    /// when to call this again.
    pub(super) fn expire(&mut self, now: Stamp, deadline: Duration) -> (Vec<Ended>, Stamp) {
        self.cancels.expire(now);
        let mut ended = Vec::new();
        let mut next = now + deadline.min(OPEN_DEADLINE);
        for index in 0..self.slots.len() {
            let Some(connection) = &self.slots[index] else {
                continue;
            };
            let patience = self.search.patience(connection.opened_by);
            let expires = match connection.running() {
                Some(running) => running.asked + deadline,
                None if connection.is_free() => continue,
                None => connection.since + patience,
            };
            if expires > now {
                next = next.min(expires);
                continue;
            }
            if connection.running().is_some() {
                self.cancel(index, now);
            }
            let seconds = patience.as_secs_f64();
            let late = Failure::lost(format!("no answer within {seconds} s"));
            ended.extend(self.lose(index, late).map(|lost| Ended {
                ending: Ending::unanswered(deadline),
                ..lost
            }));
        }
        (ended, next)
    }

    fn cancel(&mut self, index: usize, now: Stamp) {
        let Some(connection) = &self.slots[index] else {
            return;
        };
        if let Some((key, address)) = connection.session.cancel_key() {
            let place = (address, connection.session.endpoint().tls.as_ref());
            // If this fails, the server's process still ends when it next writes to the connection.
            let _ = self.cancels.begin(&self.poll, place, key, now);
        }
    }

    /// Cancels transactions that still run, and closes all connections.
    pub(super) fn close(mut self) -> io::Result<()> {
        let now = clock::now();
        for index in 0..self.slots.len() {
            let connection = self.slots[index].as_ref();
            if connection.is_some_and(|it| it.running().is_some()) {
                self.cancel(index, now);
            }
        }
        for connection in self.slots.drain(..).flatten() {
            connection.session.close();
        }
        let deadline = now + CLOSE_DEADLINE;
        while !self.cancels.is_empty() && clock::now() < deadline {
            self.poll.wait(deadline)?;
            while !matches!(self.next_ended(), Next::Nothing) {}
        }
        Ok(())
    }
}
