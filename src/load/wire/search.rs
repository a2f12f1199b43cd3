//! Where the connections of a thread look for the primary. All of them ask where it was last; once that has failed, one of them asks
//! every server in turn, until one takes writes. If all did, the processor time of authentication at every standby would delay the promotion.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Stamp;
use crate::pg::Endpoint;
use crate::pg::wire::{Address, resolve};

/// Connecting and preparing together may take so long.
pub(super) const OPEN_DEADLINE: Duration = Duration::from_secs(5);
/// The same during a search, where other servers can be asked instead.
const ASK_DEADLINE: Duration = Duration::from_secs(2);
/// The pause after every server has been asked in vain for the first time; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);
/// The least share of a pause that is kept: threads that have lost the primary together do not ask together.
const LEAST_OF_PAUSE: f64 = 0.5;

/// An address of a server.
#[derive(Debug)]
pub(super) struct Place {
    /// As in [`Commit`](crate::sample::Commit).
    pub(super) server: u8,
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) address: Address,
}

/// An attempt to connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OpenAttempt {
    /// An index into the places.
    place: usize,
    /// Failures before it.
    failures: usize,
}

#[derive(Debug)]
pub(super) struct Search {
    /// All that may be the primary's; at least one.
    places: Vec<Place>,
    /// The one that is asked next.
    next: OpenAttempt,
    retry_at: Stamp,
}

impl Search {
    /// Of servers of which the first is the primary.
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

    /// What to ask from `retry_at` on.
    pub(super) fn next_attempt(&self) -> (OpenAttempt, &Place) {
        (self.next, &self.places[self.next.place])
    }

    pub(super) fn retry_at(&self) -> Stamp {
        self.retry_at
    }

    /// Whether the primary is not where it was: one connection looks for it.
    pub(super) fn is_on(&self) -> bool {
        self.next.failures > 0
    }

    /// How long an attempt may take.
    pub(super) fn patience(&self, attempt: OpenAttempt) -> Duration {
        if self.places.len() > 1 && attempt.failures > 0 {
            ASK_DEADLINE
        } else {
            OPEN_DEADLINE
        }
    }

    /// An attempt has failed. Of several that were made together the first counts.
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

    /// An attempt has succeeded.
    pub(super) fn found(&mut self, attempt: OpenAttempt) {
        self.next = OpenAttempt {
            place: attempt.place,
            failures: 0,
        };
        self.retry_at = Stamp::default();
    }
}

/// How long to wait after so many failures: not at all until all places have been asked.
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
