//! Waits for events on sockets and for instants.
//!
//! The kernel wakes a thread late, because the timer's interrupt and the return to a processor take time. So a wait for an arrival ends
//! early by the usual lateness of this machine, and the thread spends the rest polling its sockets without sleeping.

use std::fmt;
use std::io;
use std::num::NonZeroU64;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

use crate::clock::{self, Stamp};

/// The number of waits with which the machine's lateness is measured, and the length of each.
const TRIES: usize = 41;
const TRY: Duration = Duration::from_micros(150);
/// The longest time by which a wait for an arrival may end early.
const EARLIEST: Duration = Duration::from_micros(80);
/// The largest share of one processor that waiting without sleeping may take.
const SPIN_SHARE: f64 = 0.05;
/// The longest time without sleeping that may be spent at once.
const SPIN_BURST: Duration = Duration::from_millis(2);

/// The events to wait for on a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    Readable,
    ReadableOrWritable,
}

impl From<Interest> for epoll::EventFlags {
    fn from(interest: Interest) -> Self {
        match interest {
            Interest::Readable => Self::IN,
            Interest::ReadableOrWritable => Self::IN | Self::OUT,
        }
    }
}

/// An event on the socket that has this key.
#[derive(Debug, Clone, Copy)]
pub struct Event {
    pub key: u64,
    pub is_writable: bool,
}

/// The sockets of one thread, and its waits.
pub struct Poll {
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
    /// How long before an arrival a wait for it stops sleeping.
    early: Duration,
    /// The time that may be spent without sleeping, and when it was last updated.
    credit: Duration,
    credited: Stamp,
}

impl fmt::Debug for Poll {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut told = f.debug_struct("Poll");
        told.field("early", &self.early).finish_non_exhaustive()
    }
}

impl Poll {
    /// A poll for the calling thread. From now on the kernel wakes this thread as exactly as it can.
    pub fn new() -> io::Result<Self> {
        rustix::thread::set_current_timer_slack(NonZeroU64::new(1))?;
        let mut poll = Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            events: Vec::with_capacity(64),
            early: Duration::ZERO,
            credit: SPIN_BURST,
            credited: clock::now(),
        };
        // With only one processor, a thread that waits without sleeping holds up the others that it waits for.
        if std::thread::available_parallelism().is_ok_and(|it| it.get() > 1) {
            poll.early = poll.lateness()?.min(EARLIEST);
        }
        Ok(poll)
    }

    /// The usual lateness of a wait: the third quartile of the measured ones.
    fn lateness(&mut self) -> io::Result<Duration> {
        let mut late = Vec::with_capacity(TRIES);
        for _ in 0..TRIES {
            let due = clock::now() + TRY;
            self.sleep(TRY)?;
            late.push(clock::now().since(due));
        }
        late.sort_unstable();
        Ok(late[TRIES * 3 / 4])
    }

    /// How long before an arrival a wait for it stops sleeping.
    pub fn early(&self) -> Duration {
        self.early
    }

    pub fn add(&self, socket: impl AsFd, key: u64, interest: Interest) -> io::Result<()> {
        let data = epoll::EventData::new_u64(key);
        Ok(epoll::add(&self.epoll, socket, data, interest.into())?)
    }

    pub fn modify(&self, socket: impl AsFd, key: u64, interest: Interest) -> io::Result<()> {
        let data = epoll::EventData::new_u64(key);
        Ok(epoll::modify(&self.epoll, socket, data, interest.into())?)
    }

    pub fn remove(&self, socket: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.epoll, socket)?)
    }

    /// Waits until there is an event on a socket, or until this instant.
    pub fn wait(&mut self, until: Stamp) -> io::Result<()> {
        self.sleep(until.since(clock::now()))
    }

    /// As [`Poll::wait`], for an instant that should be met as exactly as possible.
    pub fn wait_exactly(&mut self, until: Stamp) -> io::Result<()> {
        let now = clock::now();
        let earned = now.since(self.credited).mul_f64(SPIN_SHARE);
        self.credit = (self.credit + earned).min(SPIN_BURST);
        self.credited = now;
        let early = self.early.min(self.credit);
        let left = until.since(now);
        if let Some(asleep) = left.checked_sub(early) {
            self.sleep(asleep)?;
            if !self.events.is_empty() {
                return Ok(());
            }
        }
        let spinning = clock::now();
        let mut now = spinning;
        while now < until && self.events.is_empty() {
            self.sleep(Duration::ZERO)?;
            now = clock::now();
        }
        self.credit = self.credit.saturating_sub(now.since(spinning));
        Ok(())
    }

    /// The next event of the last wait; `None` when all have been taken.
    pub fn next_event(&mut self) -> Option<Event> {
        let event = self.events.pop()?;
        let flags = event.flags;
        Some(Event {
            key: event.data.u64(),
            is_writable: flags.contains(epoll::EventFlags::OUT),
        })
    }

    fn sleep(&mut self, duration: Duration) -> io::Result<()> {
        let timeout = Timespec::try_from(duration).expect("stamps are at most 584 years apart");
        self.events.clear();
        let found = spare_capacity(&mut self.events);
        match epoll::wait(&self.epoll, found, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(Errno::NOSYS) => Err(io::Error::other(
                "this kernel has no epoll_pwait2, which came with Linux 5.11; a newer kernel is needed",
            )),
            Err(error) => Err(error.into()),
        }
    }
}
