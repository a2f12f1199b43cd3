//! Notices when replbench itself stood still, so that the servers are not blamed for what was late then.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::clock::{self, Clocks, Stamp};
use crate::units::format_duration;

/// How long the watchdog sleeps at a time.
const NAP: Duration = Duration::from_millis(50);
/// A wake-up later than this is a stall. The watchdog only sleeps, so even a busy host wakes it within some milliseconds. If it wakes
/// later than this, replbench was stopped, or had no processor for so long that nothing else in replbench was on time either.
const LATE: Duration = Duration::from_millis(250);
/// Smaller differences between clocks are ignored: clocks are read one after the other, and a thread may lose its processor in between.
const CLOCK_TOLERANCE: Duration = Duration::from_millis(100);
/// NTP slews a clock by at most 500 parts in a million.
const SLEW: f64 = 0.0005;

/// A time in which replbench did not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stall {
    pub(super) from: Stamp,
    pub(super) length: Duration,
}

/// What happened to replbench and its clocks during a cell.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Standstill {
    pub(super) stalls: Vec<Stall>,
    pub(super) suspended: Duration,
    /// How far the wall clock was moved, and whether ahead; `None` if it was not moved.
    pub(super) wall_moved: Option<(Duration, bool)>,
}

impl Standstill {
    /// Whether replbench was late by itself, so that the servers must not be blamed.
    pub(super) fn stood_still(&self) -> bool {
        !self.stalls.is_empty() || !self.suspended.is_zero()
    }

    /// Why the times measured in the cell are not to be relied on.
    pub(super) fn reasons(&self) -> Vec<String> {
        let longest = self.stalls.iter().map(|stall| stall.length).max();
        let stalled = longest.map(|longest| {
            let often = match self.stalls.len() {
                1 => String::new(),
                count => format!(", the longest of {count} times"),
            };
            format!(
                "replbench itself stood still for {}{often}: it was stopped or had no processor, and what it measured then is not the servers' time",
                format_duration(longest)
            )
        });
        let length = format_duration(self.suspended);
        let suspended =
            (!self.suspended.is_zero()).then(|| format!("the host was suspended for {length}"));
        let moved = self.wall_moved.map(|(by, ahead)| {
            format!(
                "the wall clock was moved {} by {}: the servers measure time lag with it, and delays of their replay",
                if ahead { "ahead" } else { "back" },
                format_duration(by)
            )
        });
        stalled.into_iter().chain(suspended).chain(moved).collect()
    }
}

/// A thread that watches for stalls from start to finish.
#[derive(Debug)]
pub(super) struct Watchdog {
    thread: JoinHandle<()>,
    ended: Arc<AtomicBool>,
    stalls: Arc<Mutex<Vec<Stall>>>,
    clocks: Clocks,
}

impl Watchdog {
    pub(super) fn start() -> io::Result<Self> {
        let ended = Arc::new(AtomicBool::new(false));
        let stalls = Arc::new(Mutex::new(Vec::new()));
        let (is_over, found) = (ended.clone(), stalls.clone());
        let thread = thread::Builder::new()
            .name("watchdog".into())
            .spawn(move || watch(&is_over, &found))?;
        Ok(Self {
            thread,
            ended,
            stalls,
            clocks: Clocks::read(),
        })
    }

    pub(super) fn finish(self) -> Standstill {
        self.ended.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
        // The thread only sleeps and counts, so it does not panic; if it did, there would be nothing to report.
        let _ = self.thread.join();
        let now = Clocks::read();
        let mut stalls = self.stalls.lock().unwrap_or_else(PoisonError::into_inner);
        let (suspended, wall_moved) = clock_changes(&self.clocks, &now);
        Standstill {
            stalls: std::mem::take(&mut stalls),
            suspended,
            wall_moved,
        }
    }
}

fn watch(ended: &AtomicBool, stalls: &Mutex<Vec<Stall>>) {
    let mut before = clock::now();
    while !ended.load(Ordering::Relaxed) {
        thread::park_timeout(NAP);
        let now = clock::now();
        let late = now.since(before).saturating_sub(NAP);
        if late > LATE {
            let mut stalls = stalls.lock().unwrap_or_else(PoisonError::into_inner);
            stalls.push(Stall {
                from: before,
                length: late,
            });
        }
        before = now;
    }
}

/// How long the host was suspended, and how far the wall clock moved, beyond what reading the clocks and slewing explain.
fn clock_changes(before: &Clocks, after: &Clocks) -> (Duration, Option<(Duration, bool)>) {
    let suspended = after.suspended(before);
    let moved = after.wall_moved_ns(before);
    let by = Duration::from_nanos(u64::try_from(moved.unsigned_abs()).unwrap_or(u64::MAX));
    let slewed = after.elapsed(before).mul_f64(SLEW);
    (
        if suspended > CLOCK_TOLERANCE {
            suspended
        } else {
            Duration::ZERO
        },
        (by > CLOCK_TOLERANCE + slewed).then_some((by, moved > 0)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_only_sleeps_stood_nowhere_still() {
        let watchdog = Watchdog::start().unwrap();
        thread::sleep(Duration::from_millis(20));
        let found = watchdog.finish();
        assert_eq!((found.suspended, found.wall_moved), (Duration::ZERO, None));
    }

    #[test]
    fn what_happened_is_told_by_its_name() {
        let stall = |millis| Stall {
            from: Stamp::default(),
            length: Duration::from_millis(millis),
        };
        let found = Standstill {
            stalls: vec![stall(500), stall(1_500)],
            suspended: Duration::from_mins(1),
            wall_moved: Some((Duration::from_hours(1), false)),
        };
        let told = found.reasons().join("\n");
        for part in [
            "replbench itself stood still for 1.50 s, the longest of 2 times",
            "the host was suspended for 60.0 s",
            "the wall clock was moved back by 3600 s",
        ] {
            assert!(told.contains(part), "{part}: {told}");
        }
        let moved = Standstill {
            stalls: Vec::new(),
            suspended: Duration::ZERO,
            ..found
        };
        assert!(!moved.stood_still() && moved.reasons().len() == 1);
        assert_eq!(Standstill::default().reasons(), Vec::<String>::new());
    }
}
