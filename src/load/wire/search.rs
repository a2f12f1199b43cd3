//! Where the connections of a thread look for the primary. All of them first try the last known place. Once that has failed, one of them
//! asks every server in turn, until one accepts writes. If all connections did so, the processor time that authentication takes on every
//! standby would delay the promotion.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Stamp;
use crate::pg::Endpoint;
use crate::pg::wire::{Address, resolve};

/// The longest that connecting and preparing all statements may take together.
pub(super) const OPEN_DEADLINE: Duration = Duration::from_secs(5);
/// The longest that an attempt may take during a search, when another server can be asked instead.
const ASK_DEADLINE: Duration = Duration::from_secs(2);
/// The longest pause after all servers have been asked without success for the first time. It doubles after each further round.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);
/// Each pause is multiplied by a random factor between this and 1, so that threads that lost the primary together do not ask together.
const LEAST_OF_PAUSE: f64 = 0.5;

/// An address of a server.
#[derive(Debug)]
pub(super) struct Place {
    /// The index of the server, as in [`Commit`](crate::sample::Commit).
    pub(super) server: u8,
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) address: Address,
}

/// An attempt to connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OpenAttempt {
    /// An index into the places.
    place: usize,
    /// The number of failed attempts before this one, since the last success.
    failures: usize,
}

#[derive(Debug)]
pub(super) struct Search {
    /// All addresses that may be the primary's; at least one.
    places: Vec<Place>,
    /// The attempt to make next.
    next: OpenAttempt,
    retry_at: Stamp,
}

impl Search {
    /// A search that starts at the first of these servers, which is the primary.
    pub(super) fn new(servers: &[Arc<Endpoint>]) -> io::Result<Self> {
        let mut places = Vec::with_capacity(servers.len());
        for (server, endpoint) in (0..).zip(servers) {
            places.extend(resolve(endpoint)?.into_iter().map(|address| Place {
                server,
                endpoint: endpoint.clone(),
                address,
            }));
        }
        Ok(Self {
            places,
            next: OpenAttempt {
                place: 0,
                failures: 0,
            },
            retry_at: Stamp::default(),
        })
    }

    /// The attempt to make from `retry_at` on, and its address.
    pub(super) fn next_attempt(&self) -> (OpenAttempt, &Place) {
        (self.next, &self.places[self.next.place])
    }

    pub(super) fn retry_at(&self) -> Stamp {
        self.retry_at
    }

    /// Whether the primary was not found at its last known place, so that one connection searches for it.
    pub(super) fn is_on(&self) -> bool {
        self.next.failures > 0
    }

    /// The longest that an attempt may take.
    pub(super) fn patience(&self, attempt: OpenAttempt) -> Duration {
        if self.places.len() > 1 && attempt.failures > 0 {
            ASK_DEADLINE
        } else {
            OPEN_DEADLINE
        }
    }

    /// Notes a failed attempt. Of several attempts that were made together only the first failure counts.
    pub(super) fn failed(&mut self, attempt: OpenAttempt, now: Stamp) {
        if attempt.failures != self.next.failures {
            return;
        }
        let places = self.places.len();
        self.next = OpenAttempt {
            place: (attempt.place + 1) % places,
            failures: attempt.failures + 1,
        };
        self.retry_at = now + pause_after(self.next.failures, places);
    }

    /// Notes a successful attempt.
    pub(super) fn found(&mut self, attempt: OpenAttempt) {
        self.next = OpenAttempt {
            place: attempt.place,
            failures: 0,
        };
        self.retry_at = Stamp::default();
    }
}

/// The pause after this many failures: zero until all places have been asked.
fn pause_after(failures: usize, places: usize) -> Duration {
    if !failures.is_multiple_of(places) {
        return Duration::ZERO;
    }
    let doublings = (failures / places - 1).min(10);
    let pause = (FIRST_PAUSE * (1 << doublings)).min(LONGEST_PAUSE);
    pause.mul_f64(rand::random_range(LEAST_OF_PAUSE..=1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(servers: u16) -> Search {
        let server = |port| Arc::new(Endpoint::on_loopback("node", port, "x", None));
        let servers: Vec<_> = (1..=servers).map(server).collect();
        Search::new(&servers).unwrap()
    }

    #[test]
    fn all_are_asked_in_turn_from_where_the_primary_was_last() {
        let mut search = search(3);
        let now = Stamp::from_nanos(1_000_000_000);
        let together = search.next_attempt().0;
        let mut servers = Vec::new();
        for _ in 0..4 {
            search.failed(together, now);
            let (attempt, place) = search.next_attempt();
            servers.push(place.server);
            search.failed(attempt, now);
        }
        assert_eq!(servers, [1, 2, 0, 1]);
        assert!(search.is_on());
        let (attempt, place) = search.next_attempt();
        assert_eq!(place.server, 2);
        assert_eq!(search.patience(attempt), ASK_DEADLINE);
        search.found(attempt);
        assert!(!search.is_on() && search.retry_at() == Stamp::default());
        let (attempt, place) = search.next_attempt();
        assert_eq!(place.server, 2);
        assert_eq!(search.patience(attempt), OPEN_DEADLINE);
    }

    #[test]
    fn a_pause_follows_when_all_were_asked_and_doubles() {
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
