//! Notices when replbench itself stood still, so that what came late then is not held against the servers.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::clock::{self, Clocks, Stamp};
use crate::units::format_duration;

/// How long the watchdog sleeps at a time.
const NAP: Duration = Duration::from_millis(50);
/// It does nothing but sleep, so a busy host wakes it within some milliseconds. What comes later than this was stopped, or had
/// no processor for so long that nothing else of replbench was on time either.
const LATE: Duration = Duration::from_millis(250);
/// Clocks are read one after the other, and a thread may lose its processor in between.
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
    /// By how much the wall clock was moved, and whether ahead.
    pub(super) wall_moved: Option<(Duration, bool)>,
}

impl Standstill {
    /// Whether replbench was late by itself, so that the servers must not be blamed.
    pub(super) fn stood_still(&self) -> bool {
        !self.stalls.is_empty() || !self.suspended.is_zero()
    }

    /// Why the cell's times are not to be relied on.
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

/// Watches from its start to its end.
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
        // A thread that only sleeps and counts has nothing to panic about; without it there is nothing to tell.
        let _ = self.thread.join();
        let now = Clocks::read();
        let mut stalls = self.stalls.lock().unwrap_or_else(PoisonError::into_inner);
        let (suspended, wall_moved) = parted(&self.clocks, &now);
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

/// Suspended time, and by how much the wall clock moved, beyond what reading and slewing explain.
fn parted(before: &Clocks, after: &Clocks) -> (Duration, Option<(Duration, bool)>) {
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
