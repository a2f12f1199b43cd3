//! Looks at replicas that a thread makes besides its own work, because it is awake anyway.

use std::io;

use tokio::sync::oneshot;

use super::Timeline;
use crate::clock::Stamp;
use crate::poll::{Event, Poll};

/// What looks at replicas. It never blocks; the thread that carries it has a [`Poll`] of its own sockets.
pub trait Looks: Send + std::fmt::Debug {
    /// Adds its sockets to the poll of the thread that makes the looks from here on; keys are from `first_key` up. `shares_thread`: that
    /// thread has other work to do, so that few of its wake-ups should be for the looks alone.
    fn attach(&mut self, poll: &Poll, first_key: u64, shares_thread: bool) -> io::Result<()>;

    fn set_timeline(&mut self, timeline: Timeline);

    /// The thread has ended a wait.
    fn on_wake(&mut self);

    /// One of its sockets has something to do.
    fn on_event(&mut self, poll: &Poll, event: Event);

    /// The thread has done its other work and is about to wait. When it must be awake again at the latest.
    fn before_sleep(&mut self, poll: &Poll, now: Stamp) -> Stamp;

    /// Whether every commit has been seen and no other can come.
    fn is_done(&self) -> bool;

    /// Hands over what has not been. No look is made any more.
    fn end(&mut self);
}

/// Looks on loan to a thread of the load, which gives them back when it has no transaction in flight any more.
#[derive(Debug)]
pub struct LentLooks {
    pub looks: Box<dyn Looks>,
    pub give_back: oneshot::Sender<Box<dyn Looks>>,
}
