//! When to look at a replica next. Pure.

use std::time::Duration;

use crate::clock::Stamp;

/// Looks a second, on average, that a node is worth: above it the probe would slow what it watches.
const LOOKS_PER_SECOND: f64 = 2_000.0;
/// A shorter pause between looks is none.
const SHORTEST_SLEEP: Duration = Duration::from_micros(50);
/// The longest pause between looks while something is outstanding, however old.
const COARSEST: Duration = Duration::from_millis(1);
/// Looks that may be spent at once.
const BURST: f64 = 64.0;

/// What an observer looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pending {
    Nothing,
    /// A transaction that has not been acknowledged.
    InFlight,
    /// The commit, not seen yet, that was acknowledged first.
    Outstanding {
        since: Stamp,
    },
}

/// How finely time is resolved while something is awaited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Grain {
    /// Looks follow each other while a transaction is in flight, because a commit is often visible before its acknowledgement, and
    /// then until it has been seen: at an eighth of the age of the one that has been outstanding for longest, so that a short delay
    /// is resolved finely and a long one costs little.
    Fine,
    /// A look a millisecond.
    Coarse,
}

/// When to look. With nothing in flight or outstanding there is one look a tick, to notice a lost connection.
#[derive(Debug)]
pub(super) struct Cadence {
    grain: Grain,
    tick: Duration,
    /// Looks that may be made.
    credit: f64,
    refilled: Stamp,
    last: Stamp,
}

impl Cadence {
    pub(super) fn new(grain: Grain, tick: Duration, now: Stamp) -> Self {
        Self {
            grain,
            tick,
            credit: BURST,
            refilled: now,
            last: now,
        }
    }

    /// When the next look is due.
    pub(super) fn next(&mut self, now: Stamp, pending: Pending) -> Stamp {
        let earned = now.since(self.refilled).as_secs_f64() * LOOKS_PER_SECOND;
        self.credit = (self.credit + earned).min(BURST);
        self.refilled = now;
        let age = match (pending, self.grain) {
            (Pending::Nothing, _) => return self.last + self.tick,
            (_, Grain::Coarse) => return self.last + COARSEST,
            (Pending::InFlight, Grain::Fine) => Duration::ZERO,
            (Pending::Outstanding { since }, Grain::Fine) => now.since(since),
        };
        // Going to sleep for less than that would only wake up late.
        let gap = Some(age / 8)
            .filter(|gap| *gap >= SHORTEST_SLEEP)
            .unwrap_or_default();
        let debt = Duration::from_secs_f64((1.0 - self.credit).max(0.0) / LOOKS_PER_SECOND);
        (self.last + gap.min(COARSEST)).max(now + debt.min(COARSEST))
    }

    /// A look is made.
    pub(super) fn look(&mut self, now: Stamp) {
        self.credit -= 1.0;
        self.last = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_follow_the_age_of_what_is_awaited() {
        let tick = Duration::from_millis(10);
        let start = Stamp::from_nanos(1_000_000_000);
        let mut cadence = Cadence::new(Grain::Fine, tick, start);
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
        let mut coarse = Cadence::new(Grain::Coarse, tick, start);
        assert_eq!(coarse.next(start, Pending::Nothing), start + tick);
        assert_eq!(coarse.next(start, Pending::InFlight), start + COARSEST);
    }

    #[test]
    fn looks_are_bounded_on_average() {
        let start = Stamp::from_nanos(0);
        let mut cadence = Cadence::new(Grain::Fine, Duration::from_millis(10), start);
        let (mut now, mut looks) = (start, 0_u32);
        while now < Stamp::from_nanos(1_000_000_000) {
            now = cadence.next(now, Pending::InFlight);
            cadence.look(now);
            looks += 1;
            // The look itself.
            now = now + Duration::from_micros(20);
        }
        assert!((1_950..=2_150).contains(&looks), "{looks}");
    }
}
