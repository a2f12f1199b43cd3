//! Commits on their way from a load thread to the probes.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;

use crate::sample::Commit;

/// Commits on their way to the probes. They leave when the thread has nothing else to do, which is microseconds after the
/// acknowledgement: so one wake-up of the other side, a system call, serves all that were acknowledged together.
pub(super) struct Outbox {
    feed: Option<mpsc::UnboundedSender<Commit>>,
    waiting: Mutex<Vec<Commit>>,
}

impl Outbox {
    pub(super) fn new(feed: Option<mpsc::UnboundedSender<Commit>>) -> Self {
        Self {
            feed,
            waiting: Mutex::default(),
        }
    }

    pub(super) fn put(&self, commit: Commit) {
        if self.feed.is_some() {
            self.lock().push(commit);
        }
    }

    pub(super) fn send(&self) {
        let Some(feed) = &self.feed else { return };
        for commit in self.lock().drain(..) {
            // The probes may have ended already; the commit is counted all the same.
            let _ = feed.send(commit);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Commit>> {
        // Nothing that holds it can panic half-way through a change.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.send();
    }
}
