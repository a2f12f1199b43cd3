//! Waits for sockets and for instants.
//!
//! A kernel wakes a thread late: the timer's interrupt, then the way back to a processor. So before an arrival the wait ends early by
//! what this machine usually needs, and the rest is spent asking the sockets without sleeping.

use std::fmt;
use std::io;
use std::num::NonZeroU64;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

use crate::clock::{self, Stamp};

/// Waits by which the machine's lateness is measured, and how long each is.
const TRIES: usize = 41;
const TRY: Duration = Duration::from_micros(150);
/// The longest time by which a wait ends early.
const EARLIEST: Duration = Duration::from_micros(80);
/// The most of a processor that waiting without sleeping may take.
const SPIN_SHARE: f64 = 0.05;
/// Time without sleeping that may be spent at once.
const SPIN_BURST: Duration = Duration::from_millis(2);

/// What to wait for on a socket.
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

/// Something to do on the socket of this key.
#[derive(Debug, Clone, Copy)]
pub struct Event {
    pub key: u64,
    pub is_writable: bool,
}

/// The sockets of one thread.
pub struct Poll {
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
    /// By how much a wait for an arrival ends early.
    early: Duration,
    /// Time that may be spent without sleeping, and when it was last counted.
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
    /// Of the calling thread, which from here on is woken as exactly as the kernel can.
    pub fn new() -> io::Result<Self> {
        rustix::thread::set_current_timer_slack(NonZeroU64::new(1))?;
        let mut poll = Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            events: Vec::with_capacity(64),
            early: Duration::ZERO,
            credit: SPIN_BURST,
            credited: clock::now(),
        };
        // On one processor, whoever waits without sleeping waits for itself.
        if std::thread::available_parallelism().is_ok_and(|it| it.get() > 1) {
            poll.early = poll.lateness()?.min(EARLIEST);
        }
        Ok(poll)
    }

    /// How late a wait usually ends: three in four are sooner.
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

    /// By how much a wait for an arrival ends early.
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

    /// Waits until there is something to do on a socket, or until this instant.
    pub fn wait(&mut self, until: Stamp) -> io::Result<()> {
        self.sleep(until.since(clock::now()))
    }

    /// As [`Poll::wait`], for an instant that is not to be missed by more than can be helped.
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

    /// What there is to do after a wait.
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
