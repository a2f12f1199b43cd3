//! Merges the seconds of several threads into one sequence.

use std::collections::BTreeMap;
use std::time::Duration;

use super::stats::Second;
use crate::sample::Phase;

/// Merges the seconds of several threads and returns them in order of time.
#[derive(Debug)]
pub(super) struct ThreadMerger {
    /// For each thread, the key (index, whether it is the drain) of the last second that the thread closed.
    closed: Vec<Option<(i64, bool)>>,
    waiting: BTreeMap<(i64, bool), Second>,
}

impl ThreadMerger {
    pub(super) fn new(threads: u16) -> Self {
        Self {
            closed: (0..threads).map(|_| None).collect(),
            waiting: BTreeMap::new(),
        }
    }

    pub(super) fn push(&mut self, thread: u16, second: Second) {
        let key = (second.index, second.phase == Phase::Drain);
        self.closed[usize::from(thread)] = Some(key);
        match self.waiting.get_mut(&key) {
            Some(merged) => merged.merge(&second),
            None => {
                self.waiting.insert(key, second);
            }
        }
    }

    /// The oldest second that no thread can add to any more.
    pub(super) fn pop(&mut self) -> Option<Second> {
        let oldest = *self.waiting.keys().next()?;
        let complete = self
            .closed
            .iter()
            .all(|last| last.is_some_and(|last| last >= oldest));
        if complete { self.flush() } else { None }
    }

    pub(super) fn flush(&mut self) -> Option<Second> {
        self.waiting.pop_first().map(|(_, second)| second)
    }
}

/// Holds each second back until the next one arrives. If the next one belongs to the same phase and is too short for a row of its own, both
/// become one: a rate over a few milliseconds means nothing, and looks like an outage when nothing was answered in them.
#[derive(Debug, Default)]
pub(super) struct TailMerger {
    held: Option<Second>,
}

impl TailMerger {
    /// The shortest second that gets a row of its own.
    const SHORTEST: Duration = Duration::from_millis(500);

    pub(super) fn push(&mut self, next: Second) -> Option<Second> {
        match &mut self.held {
            Some(held) if held.phase == next.phase && next.length() < Self::SHORTEST => {
                held.append(&next);
                None
            }
            held => held.replace(next),
        }
    }

    /// The last second, which has no successor.
    pub(super) fn flush(&mut self) -> Option<Second> {
        self.held.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_is_whole_when_every_thread_has_closed_it() {
        let second = |index| {
            let mut second = Second::new(index, Phase::Measure, 0);
            second.all.acked = 1;
            second
        };
        let mut merger = ThreadMerger::new(2);
        merger.push(0, second(0));
        merger.push(0, second(1));
        assert!(merger.pop().is_none());
        merger.push(1, second(0));
        assert_eq!(merger.pop().map(|second| second.all.acked), Some(2));
        assert!(merger.pop().is_none());
        assert_eq!(merger.flush().map(|second| second.index), Some(1));
    }

    #[test]
    fn a_short_rest_of_a_phase_is_part_of_the_second_before_it() {
        let second = |phase, from_ms: u64, to_ms: u64| {
            let mut second = Second::new(0, phase, (from_ms * 1_000_000).cast_signed());
            second.end_ns = (to_ms * 1_000_000).cast_signed();
            second.all.offered = to_ms - from_ms;
            second.backlog = to_ms;
            second
        };
        let mut tails = TailMerger::default();
        let seconds = [
            second(Phase::Measure, 0, 1_000),
            second(Phase::Measure, 1_000, 2_000),
            second(Phase::Measure, 2_000, 2_020),
            second(Phase::Drain, 2_020, 2_040),
        ];
        let mut passed: Vec<_> = seconds
            .into_iter()
            .filter_map(|it| tails.push(it))
            .collect();
        passed.extend(tails.flush());
        let rows: Vec<_> = passed
            .iter()
            .map(|it| {
                (
                    it.phase,
                    it.all.offered,
                    it.length().as_millis(),
                    it.backlog,
                )
            })
            .collect();
        assert_eq!(
            rows,
            [
                (Phase::Measure, 1_000, 1_000, 1_000),
                (Phase::Measure, 1_020, 1_020, 2_020),
                (Phase::Drain, 20, 20, 2_040),
            ]
        );
    }
}
