//! The only place where clocks are read: monotonic stamps, wall time, CPU time, and a timer that wakes at a stamp.
//!
//! All measurements use a [`Stamp`] of this host's `CLOCK_MONOTONIC`, so that any two of them may be subtracted. Wall time labels a run,
//! and serves to convert times reported by servers on this host ([`Clocks::stamp_of`]).
#![allow(
    clippy::disallowed_methods,
    reason = "this module is where clocks are read"
)]

use std::io;
use std::ops::{Add, Sub};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    timerfd_create, timerfd_settime,
};
use serde::{Deserialize, Serialize};
use tokio::io::unix::AsyncFd;

/// An instant on this host's `CLOCK_MONOTONIC`, in nanoseconds.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Stamp(u64);

impl Stamp {
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Time since `earlier`; zero if `earlier` is in fact later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Nanoseconds from `origin` to this stamp; negative if `origin` is later.
    pub fn signed_since(self, origin: Self) -> i64 {
        self.0.wrapping_sub(origin.0).cast_signed()
    }
}

impl Add<Duration> for Stamp {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }
}

impl Sub<Duration> for Stamp {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_sub(nanos))
    }
}

fn nanos(time: Timespec) -> u64 {
    // Monotonic and CPU clocks start at zero, so neither field is negative.
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}

/// Now, on `CLOCK_MONOTONIC`.
pub fn now() -> Stamp {
    Stamp(nanos(clock_gettime(ClockId::Monotonic)))
}

/// The host's clocks at one instant. Two readings show whether the clocks advanced alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clocks {
    monotonic: Stamp,
    /// Like the monotonic clock, but also advances while the host is suspended.
    boot_ns: u64,
    wall_ns: i128,
}

impl Clocks {
    pub fn read() -> Self {
        // The thread may lose its processor between two reads, so the narrowest of several tries counts.
        let tries = (0..5).map(|_| {
            let before = now();
            let boot_ns = nanos(clock_gettime(ClockId::Boottime));
            let wall = clock_gettime(ClockId::Realtime);
            let wall_ns = i128::from(wall.tv_sec) * 1_000_000_000 + i128::from(wall.tv_nsec);
            let clocks = Self {
                monotonic: before,
                boot_ns,
                wall_ns,
            };
            (now().since(before), clocks)
        });
        let narrowest = tries.min_by_key(|(width, _)| *width);
        narrowest.expect("there are five tries").1
    }

    pub fn monotonic(&self) -> Stamp {
        self.monotonic
    }

    /// The instant at which the wall clock reached this number of microseconds since 1970, provided that it has advanced evenly since.
    pub fn stamp_of(&self, unix_us: i64) -> Option<Stamp> {
        let ahead = i128::from(unix_us) * 1_000 - self.wall_ns;
        let nanos = i128::from(self.monotonic.0) + ahead;
        u64::try_from(nanos).ok().map(Stamp)
    }

    fn elapsed_ns(&self, earlier: &Self) -> u64 {
        self.monotonic.0.saturating_sub(earlier.monotonic.0)
    }

    /// Time on the monotonic clock since `earlier`.
    pub fn elapsed(&self, earlier: &Self) -> Duration {
        Duration::from_nanos(self.elapsed_ns(earlier))
    }

    /// How long the host was suspended since `earlier`. The monotonic clock does not advance during that time.
    pub fn suspended(&self, earlier: &Self) -> Duration {
        let boot_ns = self.boot_ns.saturating_sub(earlier.boot_ns);
        Duration::from_nanos(boot_ns.saturating_sub(self.elapsed_ns(earlier)))
    }

    /// Nanoseconds by which the wall clock advanced more than the clock that also counts suspended time; negative if it advanced less.
    pub fn wall_moved_ns(&self, earlier: &Self) -> i128 {
        let boot_ns = i128::from(self.boot_ns) - i128::from(earlier.boot_ns);
        self.wall_ns - earlier.wall_ns - boot_ns
    }
}

/// Wall-clock time, for labels only.
pub fn wall() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

/// CPU time that the calling thread has used.
pub fn thread_cpu() -> Duration {
    Duration::from_nanos(nanos(clock_gettime(ClockId::ThreadCPUTime)))
}

/// CPU time that this process has used, all threads together.
pub fn process_cpu() -> Duration {
    Duration::from_nanos(nanos(clock_gettime(ClockId::ProcessCPUTime)))
}

/// What was asked for, or a description of what is still missing, such as "accept connections".
pub type Answer<T> = Result<T, String>;

/// The pause between two attempts of a wait.
const POLL: Duration = Duration::from_millis(5);

/// Calls `ask` every 5 ms, and at least once, until it succeeds. At the deadline `late` makes an error of what is still missing. An error
/// of `ask` itself ends the wait.
pub async fn wait_until<T, E>(
    deadline: Duration,
    mut ask: impl AsyncFnMut() -> Result<Answer<T>, E>,
    late: impl FnOnce(String) -> E,
) -> Result<T, E> {
    let due = now() + deadline;
    loop {
        match ask().await? {
            Ok(found) => return Ok(found),
            Err(missing) if now() >= due => return Err(late(missing)),
            Err(_) => tokio::time::sleep(POLL).await,
        }
    }
}

/// As [`wait_until`], for a thread without a runtime. `None` if the deadline came first.
pub fn block_until<T>(deadline: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let due = now() + deadline;
    loop {
        let found = ask();
        if found.is_some() || now() >= due {
            return found;
        }
        std::thread::sleep(POLL);
    }
}

/// Wakes at a [`Stamp`] with an accuracy of about 20 µs, whereas tokio's own timer rounds up to a millisecond. Uses a timerfd on
/// `CLOCK_MONOTONIC`; must be created inside a tokio runtime.
#[derive(Debug)]
pub struct Timer {
    fd: AsyncFd<OwnedFd>,
    /// The instant for which the kernel's timer was last armed.
    armed: Stamp,
}

impl Timer {
    pub fn new() -> io::Result<Self> {
        let fd = timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC,
        )?;
        #[expect(
            deprecated,
            reason = "unsound only for types that lend a descriptor they do not own; this one is an OwnedFd, and the \
                      replacement is unsafe to call"
        )]
        let fd = AsyncFd::new(fd)?;
        Ok(Self {
            fd,
            armed: Stamp::default(),
        })
    }

    /// Sleeps until `due`; returns at once if `due` has passed. Dropping the future does not disarm the timer, but a call with another time
    /// arms it anew.
    ///
    /// A sleep costs one system call, and resuming a dropped sleep costs none, because the descriptor is never read. Arming it anew
    /// withdraws an expiration, and the next expiration is a new edge, which is what tokio waits for.
    pub async fn sleep_until(&mut self, due: Stamp) -> io::Result<()> {
        if now() >= due {
            return Ok(());
        }
        loop {
            self.arm(due)?;
            self.fd.readable().await?.clear_ready();
            if now() >= due {
                return Ok(());
            }
            // The expiration is left over from a dropped sleep, or another processor's clock is ahead of this one's. Arming the timer again
            // makes sure that the expiration cannot be missed.
            self.armed = Stamp::default();
        }
    }

    fn arm(&mut self, due: Stamp) -> io::Result<()> {
        if self.armed == due {
            return Ok(());
        }
        let at = Timespec::try_from(Duration::from_nanos(due.0));
        let spec = Itimerspec {
            it_interval: Timespec::default(),
            it_value: at.expect("a stamp is at most 584 years"),
        };
        timerfd_settime(self.fd.get_ref(), TimerfdTimerFlags::ABSTIME, &spec)?;
        self.armed = due;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_subtract_with_a_sign() {
        let origin = Stamp::from_nanos(1_000);
        assert_eq!((origin + Duration::from_nanos(5)).signed_since(origin), 5);
        assert_eq!((origin - Duration::from_nanos(5)).signed_since(origin), -5);
        assert_eq!(
            (origin - Duration::from_nanos(5)).since(origin),
            Duration::ZERO
        );
    }

    #[test]
    fn clocks_that_part_tell_a_suspended_host_from_a_wall_clock_that_was_set() {
        const SECOND: u64 = 1_000_000_000;
        let before = Clocks {
            monotonic: Stamp::from_nanos(5 * SECOND),
            boot_ns: 7 * SECOND,
            wall_ns: 1_700_000_000 * i128::from(SECOND),
        };
        let later = |monotonic: u64, boot: u64, wall: i128| Clocks {
            monotonic: before.monotonic + Duration::from_secs(monotonic),
            boot_ns: before.boot_ns + boot * SECOND,
            wall_ns: before.wall_ns + wall * i128::from(SECOND),
        };
        let check = |after: Clocks, suspended: u64, moved: i128| {
            assert_eq!(after.suspended(&before), Duration::from_secs(suspended));
            assert_eq!(after.wall_moved_ns(&before), moved * i128::from(SECOND));
        };
        check(later(8, 8, 8), 0, 0);
        check(later(8, 68, 68), 60, 0);
        check(later(8, 8, 3_608), 0, 3_600);
        check(later(8, 8, -3_592), 0, -3_600);
    }

    #[test]
    fn clocks_that_are_left_alone_go_on_alike() {
        let before = Clocks::read();
        std::thread::sleep(Duration::from_millis(20));
        let after = Clocks::read();
        assert!(after.elapsed(&before) >= Duration::from_millis(20));
        assert!(after.suspended(&before) < Duration::from_millis(10));
    }

    #[test]
    fn a_wait_ends_with_its_answer_and_tells_at_the_deadline_what_was_missing() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let mut asked = 0;
        let mut wait = |needed: u32, deadline: Duration| {
            asked = 0;
            let ask = async || {
                asked += 1;
                Ok(if asked < needed {
                    Err(format!("reach {needed}"))
                } else {
                    Ok(asked)
                })
            };
            runtime.block_on(wait_until(deadline, ask, |missing| missing))
        };
        assert_eq!(wait(3, Duration::from_mins(1)), Ok(3));
        assert_eq!(wait(1, Duration::ZERO), Ok(1));
        assert_eq!(wait(2, Duration::ZERO), Err("reach 2".to_owned()));
        let mut left = 3;
        let countdown = || {
            left -= 1;
            (left == 0).then_some("done")
        };
        assert_eq!(block_until(Duration::from_mins(1), countdown), Some("done"));
        assert_eq!(block_until(Duration::ZERO, || None::<()>), None);
    }

    #[test]
    fn a_timer_never_wakes_early() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut timer = Timer::new().unwrap();
            for micros in [0, 50, 700, 1_500] {
                let due = now() + Duration::from_micros(micros);
                timer.sleep_until(due).await.unwrap();
                assert!(now() >= due);
            }
        });
    }

    #[test]
    fn a_sleep_that_was_given_up_is_taken_up_again() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut timer = Timer::new().unwrap();
            for round in 0..50 {
                let due = now() + Duration::from_millis(2);
                for _ in 0..3 {
                    tokio::select! {
                        biased;
                        slept = timer.sleep_until(due) => slept.unwrap(),
                        () = tokio::task::yield_now() => {}
                    }
                }
                // The expiration of an earlier, cancelled sleep must neither end the next sleep nor take the place of its expiration.
                if round % 2 == 0 {
                    std::thread::sleep(Duration::from_millis(3));
                    tokio::task::yield_now().await;
                }
                let later = due + Duration::from_millis(4);
                tokio::time::timeout(Duration::from_secs(5), timer.sleep_until(later))
                    .await
                    .expect("the timer wakes")
                    .unwrap();
                assert!(now() >= later);
            }
        });
    }
}
