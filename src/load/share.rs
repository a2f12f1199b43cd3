//! Decides which arrivals of the cell's schedule a load thread dispatches, and which of them are measured. Pure.

use std::time::Duration;

use crate::clock::Stamp;
use crate::plan::{Length, Schedule};
use crate::sample::Timeline;

/// One arrival of the schedule.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival {
    /// The position in the schedule that all threads share.
    pub(super) number: u64,
    pub(super) due: Stamp,
    pub(super) measured: bool,
}

/// A number of arrivals, and how many of them belong to the measurement phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Population {
    pub(super) all: u64,
    pub(super) measured: u64,
}

impl Population {
    pub(super) fn add(&mut self, measured: bool) {
        self.all += 1;
        self.measured += u64::from(measured);
    }

    pub(super) fn remove(&mut self, measured: bool) {
        self.all -= 1;
        self.measured -= u64::from(measured);
    }

    fn without(self, other: Self) -> Self {
        Self {
            all: self.all - other.all,
            measured: self.measured - other.measured,
        }
    }
}

/// The arrivals of a thread that are due and not dispatched. They are not stored: `due` and `next` are two walks over the same share of the
/// schedule, and the backlog is the distance between them.
#[derive(Debug)]
pub(super) struct Backlog {
    due: Share,
    next: Share,
}

impl Backlog {
    pub(super) fn new(share: Share) -> Self {
        Self {
            due: share.clone(),
            next: share,
        }
    }

    /// Advances to `until` and returns how many arrivals became due before it.
    pub(super) fn become_due(&mut self, until: Stamp) -> Population {
        let before = self.due.taken;
        while self.due.peek().is_some_and(|arrival| arrival.due < until) {
            self.due.advance();
        }
        self.due.taken.without(before)
    }

    /// Takes the arrival that has waited longest; `None` if none is waiting.
    pub(super) fn pop(&mut self) -> Option<Arrival> {
        if self.waiting().all == 0 {
            return None;
        }
        let arrival = self.next.peek();
        self.next.advance();
        arrival
    }

    /// The arrival that will be taken next, whether or not it is due.
    pub(super) fn next(&self) -> Option<Arrival> {
        self.next.peek()
    }

    pub(super) fn waiting(&self) -> Population {
        self.due.taken.without(self.next.taken)
    }

    /// When the next arrival becomes due; `None` if the phase has no further arrival.
    pub(super) fn next_due(&self) -> Option<Stamp> {
        self.due.peek().map(|arrival| arrival.due)
    }
}

/// A thread's share of the schedule: every `of`-th arrival until the measurement phase ends.
#[derive(Debug, Clone)]
pub(super) struct Share {
    schedule: Schedule,
    next: u64,
    index: u64,
    of: u64,
    timeline: Timeline,
    measure: Length,
    /// The number of the first measured arrival of the schedule, once it has been reached.
    first_measured: Option<u64>,
    ahead: Option<Arrival>,
    /// Arrivals of this share that have been taken.
    taken: Population,
}

impl Share {
    pub(super) fn new(
        schedule: Schedule,
        index: u64,
        of: u64,
        timeline: Timeline,
        measure: Length,
    ) -> Self {
        let mut share = Self {
            schedule,
            next: 0,
            index,
            of,
            timeline,
            measure,
            first_measured: None,
            ahead: None,
            taken: Population::default(),
        };
        share.advance();
        share
    }

    /// The next arrival; `None` if the phase has no further one.
    fn peek(&self) -> Option<Arrival> {
        self.ahead
    }

    fn advance(&mut self) {
        if let Some(arrival) = self.ahead {
            self.taken.add(arrival.measured);
        }
        self.ahead = loop {
            let Some(offset) = self.schedule.next() else {
                break None;
            };
            let number = self.next;
            self.next += 1;
            let due = self.timeline.start + Duration::from_nanos(offset);
            let measured = due >= self.timeline.measure_from;
            if measured && self.first_measured.is_none() {
                self.first_measured = Some(number);
            }
            let over = match (self.measure, self.first_measured) {
                (Length::For(duration), _) => due >= self.timeline.measure_from + duration,
                (Length::Count(count), Some(first)) => number - first >= count,
                (Length::Count(_), None) => false,
            };
            if over {
                break None;
            }
            if number % self.of == self.index {
                break Some(Arrival {
                    number,
                    due,
                    measured,
                });
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Arrivals;
    use crate::units::Rate;
    use proptest::prelude::*;

    fn backlog(rate: f64, measure: Length, index: u64, of: u64) -> Backlog {
        let rate = Rate::per_second(rate).unwrap();
        let start = Stamp::from_nanos(1_000_000_000);
        let timeline = Timeline::new(start, Duration::from_millis(100));
        let schedule = Schedule::new(rate, Arrivals::Poisson, 7);
        Backlog::new(Share::new(schedule, index, of, timeline, measure))
    }

    proptest! {
        /// Arrivals are neither lost nor counted twice, however late the thread looks and however few it dispatches.
        #[test]
        fn what_is_due_was_taken_or_waits(
            rate in 1.0..1e6_f64,
            counted in any::<bool>(),
            of in 1_u64..4,
            steps in prop::collection::vec((0_u64..60_000_000, 0_usize..2_000), 1..20),
        ) {
            let measure = if counted { Length::Count(500) } else { Length::For(Duration::from_millis(300)) };
            let mut backlogs: Vec<_> = (0..of).map(|index| backlog(rate, measure, index, of)).collect();
            let mut measured = 0;
            for backlog in &mut backlogs {
                let (mut due, mut taken) = (Population::default(), Population::default());
                let mut now = Stamp::from_nanos(1_000_000_000);
                for (pause, most) in &steps {
                    now = now + Duration::from_nanos(*pause);
                    let new = backlog.become_due(now);
                    due.all += new.all;
                    due.measured += new.measured;
                    for _ in 0..*most {
                        let Some(arrival) = backlog.pop() else { break };
                        prop_assert!(arrival.due < now);
                        taken.add(arrival.measured);
                    }
                    prop_assert_eq!(due.without(taken), backlog.waiting());
                    prop_assert!(backlog.next_due().is_none_or(|next| next >= now));
                }
                due.measured += backlog.become_due(now + Duration::from_hours(1)).measured;
                measured += due.measured;
            }
            if counted {
                prop_assert_eq!(measured, 500);
            }
        }
    }

    #[test]
    fn an_arrival_belongs_to_the_phase_in_which_it_is_due() {
        let mut all = backlog(1_000.0, Length::For(Duration::from_millis(300)), 0, 1);
        let measure_from = Stamp::from_nanos(1_100_000_000);
        let warmup = all.become_due(measure_from);
        assert_eq!(warmup.measured, 0);
        let measured = all.become_due(measure_from + Duration::from_secs(9));
        assert_eq!(measured.all, measured.measured);
        assert_eq!(all.waiting().measured, measured.measured);
    }
}
