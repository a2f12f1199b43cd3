//! Which arrivals of the one schedule fall to a load thread, and which of them are measured. Pure.

use std::time::Duration;

use crate::clock::Stamp;
use crate::plan::{Length, Schedule};
use crate::sample::Timeline;

/// One arrival of the schedule.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival {
    /// Position in the schedule of all threads.
    pub(super) number: u64,
    pub(super) due: Stamp,
    pub(super) measured: bool,
}

/// A thread's share of the schedule: every `of`-th arrival until the measurement phase ends.
#[derive(Debug, Clone)]
pub(super) struct Share {
    pub(super) schedule: Schedule,
    pub(super) next: u64,
    pub(super) index: u64,
    pub(super) of: u64,
    pub(super) timeline: Timeline,
    pub(super) measure: Length,
    /// Number of the first measured arrival.
    pub(super) first_measured: Option<u64>,
    pub(super) ahead: Option<Arrival>,
    /// How many arrivals of this share have been taken.
    pub(super) position: u64,
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
            position: 0,
        };
        share.advance();
        share
    }

    /// The arrival that comes next, if the phase still has one.
    pub(super) fn peek(&self) -> Option<Arrival> {
        self.ahead
    }

    pub(super) fn advance(&mut self) {
        self.position += u64::from(self.ahead.is_some());
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
