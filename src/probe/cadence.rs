//! When to look at a replica next. Pure.

use std::time::Duration;

use crate::clock::Stamp;

/// How many looks per second a node may get on average. More would slow down the server that is watched.
const LOOKS_PER_SECOND: f64 = 2_000.0;
/// Pauses between looks that are shorter than this are skipped: the thread would wake up late.
const SHORTEST_SLEEP: Duration = Duration::from_micros(50);
/// The longest pause between looks while a commit is outstanding, however old the commit is.
const COARSEST: Duration = Duration::from_millis(1);
/// The most looks that may follow each other without a pause.
const BURST: f64 = 64.0;

/// What an observer waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pending {
    Nothing,
    /// A transaction that has not been acknowledged.
    InFlight,
    /// At least one commit has been acknowledged and not been seen; `since` is when the oldest of them was acknowledged.
    Outstanding {
        since: Stamp,
    },
}

/// How finely time is resolved while something is awaited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Grain {
    /// Looks follow each other without a pause while a transaction is in flight, because a commit is often visible before its
    /// acknowledgement. While a commit is outstanding, the pause is an eighth of the age of the oldest outstanding commit, so that a short
    /// delay is resolved finely and a long one costs little.
    Fine,
    /// One look per millisecond.
    Coarse,
}

/// Decides when to look. With nothing in flight or outstanding one look is made per tick, to notice a lost connection.
#[derive(Debug)]
pub(super) struct Cadence {
    grain: Grain,
    tick: Duration,
    /// Looks that may be made now. It grows at [`LOOKS_PER_SECOND`], up to [`BURST`].
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
        // A shorter sleep is skipped: the thread would wake up late.
        let gap = Some(age / 8)
            .filter(|gap| *gap >= SHORTEST_SLEEP)
            .unwrap_or_default();
        let debt = Duration::from_secs_f64((1.0 - self.credit).max(0.0) / LOOKS_PER_SECOND);
        (self.last + gap.min(COARSEST)).max(now + debt.min(COARSEST))
    }

    /// Records that a look is made.
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
            // The time that the look itself takes.
            now = now + Duration::from_micros(20);
        }
        assert!((1_950..=2_150).contains(&looks), "{looks}");
    }
}
