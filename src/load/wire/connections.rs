//! The connections of one thread: opened, handed out in turn, given up, and opened again.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::cancel::Cancels;
use super::connection::{Connection, Place, Progress};
use super::request::{Request, Requests};
use crate::clock::{self, Stamp};
use crate::load::LoadError;
use crate::load::counters::{Attempt, Ending};
use crate::load::stats::Uncommitted;
use crate::pg::wire::{Opening, resolve};
use crate::pg::{Endpoint, Failure};
use crate::poll::{Event, Interest, Poll};

/// Connecting and preparing together may take so long.
const OPEN_DEADLINE: Duration = Duration::from_secs(5);
/// The pause after every server has been asked in vain for the first time; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// The least share of a pause that is kept. Connections that were lost together are not opened again together.
const LEAST_OF_PAUSE: f64 = 0.5;
/// The same where other servers can be asked instead.
const ASK_DEADLINE: Duration = Duration::from_secs(2);
/// The longest that the end of a cell waits for transactions to be cancelled.
const CLOSE_DEADLINE: Duration = Duration::from_secs(1);

/// A transaction that has ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) attempt: Attempt,
    pub(super) ending: Ending,
    pub(super) at: Stamp,
}

/// Keys from here on belong to others who share the poll.
pub(super) const FOREIGN_KEYS: u64 = 1 << 40;

/// What a wait has brought.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "it is passed on at once, and a box would be an allocation a transaction"
)]
pub(super) enum Next {
    Ended(Ended),
    /// Something to do for whoever has added the key.
    Other(Event),
    /// Everything that came has been dealt with.
    Nothing,
}

/// A place for a connection.
#[derive(Debug, Default)]
struct Slot {
    connection: Option<Connection>,
    /// Where it is opened, or will be: an index into the places.
    place: usize,
    /// How often connecting has failed since it succeeded last.
    failures: usize,
    /// When it is tried again.
    retry_at: Stamp,
}

pub(super) struct Connections {
    poll: Poll,
    requests: Requests,
    opening: Arc<Opening>,
    slots: Vec<Slot>,
    /// Indices into `slots`; the first has been free for longest.
    idle: VecDeque<usize>,
    /// All that may be the primary's.
    places: Vec<Place>,
    /// Index of the one at which a connection was last found to be open.
    found: usize,
    cancels: Cancels,
    /// Why connecting failed, until it succeeds again.
    refusal: Option<Failure>,
}

/// The addresses of all servers, in their order.
fn places(servers: &[Arc<Endpoint>]) -> io::Result<Vec<Place>> {
    let mut places = Vec::with_capacity(servers.len());
    for (server, endpoint) in (0..).zip(servers) {
        places.extend(resolve(endpoint)?.into_iter().map(|address| Place {
            server,
            endpoint: endpoint.clone(),
            address,
        }));
    }
    Ok(places)
}

/// How long to wait after so many failures before the next place is asked: not at all until all have been.
fn pause_after(failures: usize, places: usize) -> Duration {
    if !failures.is_multiple_of(places) {
        return Duration::ZERO;
    }
    let doublings = (failures / places - 1).min(10);
    let pause = (FIRST_PAUSE * (1 << doublings)).min(LONGEST_PAUSE);
    pause.mul_f64(rand::random_range(LEAST_OF_PAUSE..=1.0))
}

impl Connections {
    /// Opens all of them before the first arrival, so that none pays for it.
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
            slots: (0..count).map(|_| Slot::default()).collect(),
            idle: VecDeque::with_capacity(count),
            places: places(servers).map_err(failed)?,
            found: 0,
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
        let is_open = |it: &Slot| {
            it.connection
                .as_ref()
                .is_some_and(|it| !it.session.is_opening())
        };
        self.refusal
            .as_ref()
            .filter(|_| !self.slots.iter().any(is_open))
    }

    /// Sends a transaction on the connection that has been free for longest; there must be one. `Some`: it could not be sent
    /// whole.
    pub(super) fn start(
        &mut self,
        attempt: Attempt,
        asked: Stamp,
        request: &mut Request,
    ) -> Option<Ended> {
        let index = self.idle.pop_front().expect("a connection is free");
        let connection = self.slots[index].connection.as_mut();
        let connection = connection.expect("what is free is open");
        match connection.start(attempt, asked, request) {
            Ok(()) => {
                self.update_interest(index);
                None
            }
            Err(failure) => self.lose(index, failure),
        }
    }

    /// The next of what a wait has brought.
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
        let connection = self.slots.get_mut(index)?.connection.as_mut()?;
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
                self.free(index);
                if was_opening {
                    self.find(self.slots[index].place);
                }
                None
            }
            Ok(Progress::Ended(attempt, ending, at)) => {
                if connection.is_free() {
                    self.free(index);
                }
                Some(Ended {
                    attempt,
                    ending,
                    at,
                })
            }
            Err(failure) => return self.lose(index, failure),
        };
        self.update_interest(index);
        ended
    }

    fn free(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        slot.failures = 0;
        self.refusal = None;
        self.idle.push_back(index);
    }

    /// A connection has been opened: those that look for the primary at another place need not go on.
    fn find(&mut self, place: usize) {
        self.found = place;
        for slot in self.slots.iter_mut().filter(|it| it.place != place) {
            let looks = |it: &mut Connection| it.session.is_opening();
            if slot.connection.take_if(looks).is_some() || slot.connection.is_none() {
                (slot.place, slot.failures, slot.retry_at) = (place, 0, Stamp::default());
            }
        }
    }

    fn update_interest(&mut self, index: usize) {
        let Some(connection) = &mut self.slots[index].connection else {
            return;
        };
        if let Some(interest) = connection.new_interest()
            && let Err(error) = self
                .poll
                .modify(&connection.session, index as u64, interest)
        {
            // Without the poll it would never be heard of again: at its deadline it is given up.
            self.refusal = Some(error.into());
        }
    }

    /// Gives a connection up, and with it the transaction that it ran.
    fn lose(&mut self, index: usize, failure: Failure) -> Option<Ended> {
        let slot = &mut self.slots[index];
        let connection = slot.connection.take()?;
        self.idle.retain(|it| *it != index);
        if connection.session.is_opening() {
            slot.failures += 1;
            slot.place = (slot.place + 1) % self.places.len();
            slot.retry_at = clock::now() + pause_after(slot.failures, self.places.len());
            self.refusal = Some(connection.session.opening_failed(failure));
            return None;
        }
        slot.place = self.found;
        let running = connection.running()?;
        let how = if failure.connection_lost {
            Uncommitted::Indeterminate
        } else {
            Uncommitted::Failed
        };
        Some(Ended {
            attempt: running.attempt,
            ending: Ending::Uncommitted(how, failure.into()),
            at: clock::now(),
        })
    }

    /// Opens what is closed and due. When the next one is, if one is not.
    pub(super) fn reopen(&mut self, now: Stamp) -> Option<Stamp> {
        let mut next = None;
        for (index, slot) in self.slots.iter_mut().enumerate() {
            if slot.connection.is_some() {
                continue;
            }
            if slot.retry_at <= now {
                let place = &self.places[slot.place];
                let opened = Connection::open(place, self.opening.clone(), now);
                let added = opened.and_then(|connection| {
                    let interest = Interest::ReadableOrWritable;
                    self.poll.add(&connection.session, index as u64, interest)?;
                    Ok(connection)
                });
                match added {
                    Ok(connection) => {
                        slot.connection = Some(connection);
                        continue;
                    }
                    Err(error) => {
                        slot.failures += 1;
                        slot.retry_at = now + LONGEST_PAUSE;
                        self.refusal = Some(error.into());
                    }
                }
            }
            next = Some(next.map_or(slot.retry_at, |next: Stamp| next.min(slot.retry_at)));
        }
        next
    }

    /// Gives up what has taken too long, and asks the server to cancel it. The ends of transactions, and when to look again.
    pub(super) fn expire(&mut self, now: Stamp, deadline: Duration) -> (Vec<Ended>, Stamp) {
        self.cancels.expire(now);
        let mut ended = Vec::new();
        let opening = if self.places.len() > 1 {
            ASK_DEADLINE
        } else {
            OPEN_DEADLINE
        };
        let mut next = now + deadline.min(opening);
        for index in 0..self.slots.len() {
            let Some(connection) = &self.slots[index].connection else {
                continue;
            };
            let expires = match connection.running() {
                Some(running) => running.asked + deadline,
                None if connection.is_free() => continue,
                None => connection.since + opening,
            };
            if expires > now {
                next = next.min(expires);
                continue;
            }
            if connection.running().is_some() {
                self.cancel(index, now);
            }
            let seconds = opening.as_secs_f64();
            let late = Failure::lost(format!("no answer within {seconds} s"));
            ended.extend(self.lose(index, late).map(|lost| Ended {
                ending: Ending::unanswered(deadline),
                ..lost
            }));
        }
        (ended, next)
    }

    fn cancel(&mut self, index: usize, now: Stamp) {
        let Some(connection) = &self.slots[index].connection else {
            return;
        };
        if let Some((key, address)) = connection.session.cancel_key() {
            let place = (address, connection.session.endpoint().tls.as_ref());
            // Without it the server's process ends when it next writes to the connection.
            let _ = self.cancels.begin(&self.poll, place, key, now);
        }
    }

    /// Cancels what still runs and says goodbye.
    pub(super) fn close(mut self) -> io::Result<()> {
        let now = clock::now();
        for index in 0..self.slots.len() {
            let connection = self.slots[index].connection.as_ref();
            if connection.is_some_and(|it| it.running().is_some()) {
                self.cancel(index, now);
            }
        }
        for slot in &mut self.slots {
            if let Some(connection) = slot.connection.take() {
                connection.session.close();
            }
        }
        let deadline = now + CLOSE_DEADLINE;
        while !self.cancels.is_empty() && clock::now() < deadline {
            self.poll.wait(deadline)?;
            while !matches!(self.next_ended(), Next::Nothing) {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_places_are_asked_before_a_pause_that_doubles() {
        let pauses = |places| (1..=9).map(move |failures| pause_after(failures, places));
        for (failures, pause) in (1..).zip(pauses(3)) {
            let whole = match failures {
                3 => FIRST_PAUSE,
                6 => 2 * FIRST_PAUSE,
                9 => 4 * FIRST_PAUSE,
                _ => Duration::ZERO,
            };
            let least = whole.mul_f64(LEAST_OF_PAUSE);
            assert!((least..=whole).contains(&pause), "{failures}: {pause:?}");
        }
        assert!(pauses(1).all(|pause| pause >= FIRST_PAUSE.mul_f64(LEAST_OF_PAUSE)));
        assert!(pause_after(usize::MAX, 1) <= LONGEST_PAUSE);
    }
}
