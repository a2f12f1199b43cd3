//! Looks at one replica for the commits that it shows, over a session that never blocks.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::sync::mpsc;

use super::cadence::{Cadence, Grain, Pending};
use super::push::{self, Pushed};
use super::question::{self, answered};
use super::visibility::{Tracker, Watch};
use super::{CONNECT_DEADLINE, Reading};
use crate::clock::{self, Clocks, Stamp};
use crate::pg::wire::{Address, Event, Keeps, Opening, Session, resolve};
use crate::pg::{Endpoint, Failure};
use crate::poll::{Interest, Poll};

/// Pause before a lost connection is tried again.
const RETRY: Duration = Duration::from_millis(200);
/// The longest sleep while a look waits for an answer that wakes the thread. Nothing else has to be done until the answer comes.
const LATER: Duration = Duration::from_secs(1);

/// How often an overdue answer is read for, where the answer does not wake the thread.
const OVERDUE: Duration = Duration::from_millis(1);
/// On a thread that is awake anyway, a look is made up to this much before it is due, to save a wake-up.
const SOONER: Duration = Duration::from_micros(400);

#[derive(Debug)]
struct Link {
    session: Session,
    state: State,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Opening {
        deadline: Stamp,
    },
    Idle,
    /// A look that was begun at this time has not been answered.
    Looking(Stamp),
}

/// One replica, the session to it, and how it is looked at.
#[derive(Debug)]
pub(super) struct Observer {
    endpoint: Arc<Endpoint>,
    addresses: Vec<Address>,
    opening: Arc<Opening>,
    /// `None` before the session is opened, and after it was lost.
    link: Option<Link>,
    /// When the session is opened, if there is none.
    retry_at: Stamp,
    /// Key of the session's socket in the poll.
    key: u64,
    /// What the poll waits for on the socket; `None` if nothing.
    interest: Option<Interest>,
    /// Whether the thread that makes the looks has other work to do. If so, an answer does not wake the thread, and is read when the
    /// thread is awake anyway. No resolution is lost, because the server's clock says when the look was made.
    shares_thread: bool,
    cadence: Cadence,
    /// Set for a replica that is asked once and then reports by itself; `None` if every look is a query.
    pushed: Option<Pushed>,
    request: BytesMut,
    pub(super) watch: Watch,
    readings: mpsc::UnboundedSender<Reading>,
    /// The last trouble that was reported. A server that stays away is tried again five times a second, and reported once.
    told: String,
}

impl Observer {
    pub(super) fn new(
        endpoint: Endpoint,
        pushed: Option<Pushed>,
        watch: Watch,
        (grain, tick): (Grain, Duration),
        readings: mpsc::UnboundedSender<Reading>,
    ) -> io::Result<Self> {
        let now = clock::now();
        let opening = match pushed {
            Some(_) => Opening::new(question::NAME, Some(push::OPTIONS)),
            None => question::opening(&watch.tracker)?,
        };
        Ok(Self {
            addresses: resolve(&endpoint)?,
            endpoint: Arc::new(endpoint),
            opening: Arc::new(opening),
            link: None,
            retry_at: now,
            key: 0,
            interest: None,
            shares_thread: false,
            cadence: Cadence::new(grain, tick, now),
            pushed,
            request: BytesMut::new(),
            watch,
            readings,
            told: String::new(),
        })
    }

    /// Moves to another poll. `shares_thread` says whether the thread of that poll has other work to do.
    pub(super) fn attach(&mut self, poll: &Poll, key: u64, shares_thread: bool) -> io::Result<()> {
        (self.key, self.interest) = (key, None);
        self.shares_thread = shares_thread;
        self.update_interest(poll)
    }

    pub(super) fn on_event(&mut self, poll: &Poll, is_writable: bool) {
        let done = match &mut self.link {
            None => return,
            Some(link) if is_writable => link.session.on_writable(),
            Some(_) => self.read(),
        };
        self.settle(poll, done);
    }

    /// Opens the session, reads or looks, whatever is due. Returns when it must be called again at the latest.
    pub(super) fn before_sleep(&mut self, poll: &Poll, now: Stamp, pending: Pending) -> Stamp {
        let done = self.go_on(now, pending);
        self.settle(poll, done);
        match self.state() {
            None => self.retry_at,
            Some(State::Opening { deadline }) => deadline,
            Some(State::Looking(_)) if self.is_woken() => now + LATER,
            Some(State::Idle | State::Looking(_)) => {
                let due = self.cadence.next(now, pending);
                // A due time in the past means that the last look has not been answered.
                if due > now { due } else { now + OVERDUE }
            }
        }
    }

    /// `None`: there is no session.
    fn state(&self) -> Option<State> {
        self.link.as_ref().map(|link| link.state)
    }

    fn go_on(&mut self, now: Stamp, pending: Pending) -> Result<(), Failure> {
        let shares_thread = !self.is_woken();
        match self.state() {
            None if self.retry_at <= now => {
                let (endpoint, opening) = (self.endpoint.clone(), self.opening.clone());
                let mut session = Session::open(endpoint, self.addresses[0].clone(), opening)?;
                session.answer.keeps = match (&self.pushed, &self.watch.tracker) {
                    (Some(_), _) => Keeps::Notices,
                    (None, Tracker::Physical(_)) => Keeps::LastRow,
                    (None, Tracker::Logical(_)) => Keeps::Rows,
                };
                let deadline = now + CONNECT_DEADLINE;
                let state = State::Opening { deadline };
                self.link = Some(Link { session, state });
                self.interest = None;
            }
            Some(State::Opening { deadline }) if deadline <= now => {
                let seconds = CONNECT_DEADLINE.as_secs_f64();
                return Err(Failure::lost(format!("no answer within {seconds} s")));
            }
            Some(State::Looking(_)) if shares_thread => self.read()?,
            None | Some(_) => {}
        }
        let sooner = if shares_thread {
            SOONER
        } else {
            Duration::ZERO
        };
        if let Some(Link { session, state }) = &mut self.link
            && matches!(state, State::Idle)
            && (self.pushed.is_some() || self.cadence.next(now, pending) <= now + sooner)
        {
            self.request.clear();
            match &mut self.pushed {
                Some(pushed) => pushed.ask(&mut self.request)?,
                None => question::write(&mut self.watch.tracker, &mut self.request)?,
            }
            let start = clock::now();
            session.ask(&self.request)?;
            *state = State::Looking(start);
            self.cadence.look(start);
        }
        Ok(())
    }

    fn read(&mut self) -> Result<(), Failure> {
        let Some(Link { session, state }) = &mut self.link else {
            return Ok(());
        };
        let event = session.on_readable()?;
        if !session.answer.notices.is_empty()
            && let (State::Looking(asked), Some(pushed)) = (*state, &mut self.pushed)
            && let Tracker::Physical(tracker) = &mut self.watch.tracker
        {
            let clocks = Clocks::read();
            let mut seen = Vec::new();
            pushed.take(&session.answer.notices, asked, &clocks, tracker, &mut seen)?;
            session.answer.notices.clear();
            self.watch.settle(seen);
            self.told.clear();
        }
        match event {
            Event::Awaiting => {}
            Event::Opened => *state = State::Idle,
            Event::Answered(_) => {
                let clocks = Clocks::read();
                if let Some(failure) = session.answer.failure.take() {
                    return Err(failure);
                }
                if let State::Looking(start) = *state {
                    answered(&session.answer, start, &clocks, &mut self.watch)?;
                    *state = State::Idle;
                }
                self.told.clear();
            }
        }
        let looks = self.watch.take_backwards();
        if looks > 0 {
            // The channel is closed only when the cell is over.
            let _ = self.readings.send(Reading::Backwards {
                node: self.endpoint.node.clone(),
                at: clock::now(),
                looks,
            });
        }
        Ok(())
    }

    /// Takes the result of a step. A lost connection is reported, and tried again later.
    fn settle(&mut self, poll: &Poll, done: Result<(), Failure>) {
        let done = done.and_then(|()| Ok(self.update_interest(poll)?));
        let Err(failure) = done else { return };
        self.retry_at = clock::now() + RETRY;
        let message = match self.link.take() {
            Some(link) if link.session.is_opening() => {
                link.session.opening_failed(failure).to_string()
            }
            _ => failure.to_string(),
        };
        if message != self.told {
            // The channel is closed only when the cell is over.
            let _ = self.readings.send(Reading::Trouble {
                node: self.endpoint.node.clone(),
                detail: format!("the visibility probe lost its connection: {message}"),
            });
            self.told = message;
        }
    }

    /// Whether an answer wakes the thread. On a shared thread only a standby that reports by itself does, because its reports are rare.
    fn is_woken(&self) -> bool {
        !self.shares_thread || self.pushed.is_some()
    }

    /// Tells the poll what to wait for. On a shared thread, answers to queries do not wake the thread.
    fn update_interest(&mut self, poll: &Poll) -> io::Result<()> {
        let Some(link) = &self.link else {
            return Ok(());
        };
        let session = &link.session;
        let wakes = session.is_opening() || self.is_woken();
        let interest = session.interest();
        let wanted = (wakes || interest == Interest::ReadableOrWritable).then_some(interest);
        match (self.interest, wanted) {
            (before, wanted) if before == wanted => {}
            (None, Some(interest)) => poll.add(session, self.key, interest)?,
            (Some(_), Some(interest)) => poll.modify(session, self.key, interest)?,
            (_, None) => poll.remove(session)?,
        }
        self.interest = wanted;
        Ok(())
    }

    /// Whether the session is open.
    pub(super) fn is_open(&self) -> bool {
        self.link
            .as_ref()
            .is_some_and(|link| !link.session.is_opening())
    }

    /// The last trouble; `None` if the session is open or there was no trouble.
    pub(super) fn trouble(&self) -> Option<&str> {
        (!self.told.is_empty() && !self.is_open()).then_some(self.told.as_str())
    }
}
