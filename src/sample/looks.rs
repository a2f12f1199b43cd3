//! Looks at replicas, which a thread can make besides its own work because it is awake anyway.

use std::io;

use tokio::sync::oneshot;

use super::Timeline;
use crate::clock::Stamp;
use crate::poll::{Event, Poll};

/// Makes looks at replicas. It never blocks; the thread that runs it waits for its sockets in the thread's own [`Poll`].
pub trait Looks: Send + std::fmt::Debug {
    /// Adds the sockets to the poll of the thread that makes the looks from now on, with keys from `first_key` up. `shares_thread` means
    /// that the thread has other work to do, so that few of its wake-ups should be for the looks alone.
    fn attach(&mut self, poll: &Poll, first_key: u64, shares_thread: bool) -> io::Result<()>;

    fn set_timeline(&mut self, timeline: Timeline);

    /// Called when the thread has ended a wait.
    fn on_wake(&mut self);

    /// Called when there is an event on one of the sockets.
    fn on_event(&mut self, poll: &Poll, event: Event);

    /// Called when the thread has done its other work and is about to wait. Returns when the thread must be awake again at the latest.
    fn before_sleep(&mut self, poll: &Poll, now: Stamp) -> Stamp;

    /// Whether every commit has been seen and no further one can come.
    fn is_done(&self) -> bool;

    /// Hands over the results that have not been handed over yet. No look is made afterwards.
    fn end(&mut self);
}

/// Looks that are lent to a load thread, which gives them back when it has no transaction in flight any more.
#[derive(Debug)]
pub struct LentLooks {
    pub looks: Box<dyn Looks>,
    pub give_back: oneshot::Sender<Box<dyn Looks>>,
}
