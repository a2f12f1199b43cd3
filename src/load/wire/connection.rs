//! One connection of the load: a session that runs one transaction after another, one message at a time.

use std::io;
use std::sync::Arc;

use super::request::{Request, Requests};
use super::search::{OpenAttempt, Place};
use crate::clock::{self, Stamp};
use crate::load::counters::{Attempt, Ending, Reply};
use crate::load::stats::Uncommitted;
use crate::pg::Failure;
use crate::pg::wire::{Event, Opening, Ready, Session};
use crate::poll::Interest;

const ROLLBACK: &[u8] = b"Q\0\0\0\x0DROLLBACK\0";

/// What the session is doing; `None` if it is idle or still opening.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "there is one a connection, and a box would be an allocation a transaction"
)]
enum Work {
    None,
    Transaction(Running),
    RollBack,
}

/// The transaction that a connection is running.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) attempt: Attempt,
    /// When the arrival asked for a connection.
    pub(super) asked: Stamp,
    /// The index of the step that was sent last.
    step: usize,
    reply: Reply,
}

/// A transaction that has ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) attempt: Attempt,
    pub(super) ending: Ending,
    pub(super) at: Stamp,
}

/// What the bytes read from a connection have brought.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "a transaction ends once, and a box would be an allocation for each"
)]
pub(super) enum Progress {
    /// The answer is not complete, or a further message was sent.
    Awaiting,
    /// The connection can serve the next transaction.
    Free,
    /// A transaction has ended. The connection is free now, or is rolling back.
    Ended(Ended),
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) session: Session,
    pub(super) opened_by: OpenAttempt,
    /// The index of the server, as in [`Commit`](crate::sample::Commit).
    server: u8,
    work: Work,
    /// When the connection began to open or, later, to roll back.
    pub(super) since: Stamp,
    request: Request,
    interest: Interest,
}

impl Connection {
    /// Begins to connect.
    pub(super) fn open(
        opened_by: OpenAttempt,
        place: &Place,
        opening: Arc<Opening>,
        now: Stamp,
    ) -> io::Result<Self> {
        let (endpoint, address) = (place.endpoint.clone(), place.address.clone());
        Ok(Self {
            session: Session::open(endpoint, address, opening)?,
            opened_by,
            server: place.server,
            work: Work::None,
            since: now,
            request: Request::default(),
            interest: Interest::ReadableOrWritable,
        })
    }

    /// What the poll has to wait for from now on; `None` if that has not changed.
    pub(super) fn new_interest(&mut self) -> Option<Interest> {
        let interest = self.session.interest();
        let has_changed = interest != self.interest;
        self.interest = interest;
        has_changed.then_some(interest)
    }

    /// Whether the connection can serve a transaction.
    pub(super) fn is_free(&self) -> bool {
        self.session.is_idle()
    }

    pub(super) fn running(&self) -> Option<&Running> {
        match &self.work {
            Work::Transaction(running) => Some(running),
            Work::None | Work::RollBack => None,
        }
    }

    /// Sends the first message of a transaction. Takes the messages out of `request`, which gets the memory of the previous ones.
    pub(super) fn start(
        &mut self,
        attempt: Attempt,
        asked: Stamp,
        request: &mut Request,
    ) -> Result<(), Failure> {
        std::mem::swap(&mut self.request, request);
        self.work = Work::Transaction(Running {
            attempt,
            asked,
            step: 0,
            reply: Reply {
                server: self.server,
                ..Reply::default()
            },
        });
        Ok(self.session.ask(self.request.step(0))?)
    }

    /// Reads from the socket, which is readable.
    pub(super) fn on_readable(&mut self, requests: &Requests) -> Result<Progress, Failure> {
        match self.session.on_readable()? {
            Event::Awaiting => Ok(Progress::Awaiting),
            Event::Opened => Ok(Progress::Free),
            Event::Answered(ready) => self.answered(ready, requests),
        }
    }

    fn answered(&mut self, ready: Ready, requests: &Requests) -> Result<Progress, Failure> {
        let failure = self.session.answer.failure.take();
        let Work::Transaction(running) = &mut self.work else {
            self.work = Work::None;
            return failure.map_or(Ok(Progress::Free), Err);
        };
        let now = clock::now();
        if let Some(failure) = failure {
            let ended = Ended {
                attempt: running.attempt,
                ending: Ending::Uncommitted(Uncommitted::Failed, failure),
                at: now,
            };
            self.work = Work::None;
            if ready.in_transaction {
                self.work = Work::RollBack;
                self.since = now;
                // The transaction has failed either way. A connection that cannot be written to is given up when it is next read.
                let _ = self.session.ask(ROLLBACK);
            }
            return Ok(Progress::Ended(ended));
        }
        let answer = &self.session.answer;
        let (step, reply) = (running.step, &mut running.reply);
        reply.warned |= answer.warned;
        if self.request.is_last_statement(step) {
            reply.row = requests.returned(running.attempt.transaction, answer)?;
            reply.affected.push(answer.count);
        } else if self.request.is_statement(step) {
            reply.affected.push(answer.affected);
        }
        let next = step + 1;
        if next < self.request.steps() {
            if next + 1 == self.request.steps() {
                reply.commit_sent = Some(now);
            }
            running.step = next;
            self.session.ask(self.request.step(next))?;
            return Ok(Progress::Awaiting);
        }
        let ended = Ended {
            attempt: running.attempt,
            ending: Ending::Committed(std::mem::take(reply)),
            at: now,
        };
        self.work = Work::None;
        Ok(Progress::Ended(ended))
    }
}
