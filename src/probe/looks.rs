//! The looks at all replicas of a cell, and the thread that makes them while no thread of the load does.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;

use super::by_transaction::ByTransaction;
use super::cadence::Grain;
use super::observer::Observer;
use super::push::Pushed;
use super::question;
use super::subscriber::{self, SubscriberTracker};
use super::visibility::{Tracker, Watch};
use super::{Assignment, CONNECT_DEADLINE, ProbeError, Reading, Target, TrackedTable};
use crate::clock::{self, Stamp};
use crate::pg;
use crate::plan::VisibilityMethod;
use crate::poll::{Event, Interest, Poll};
use crate::sample::{Commit, FeedReceiver, Fork, Looks, Timeline, Told};

/// How often finished seconds of visibility are handed over.
const FLUSH: Duration = Duration::from_millis(200);
/// How often the thread checks whether every commit has been seen, once it has been told to finish.
const DRAIN_LOOK: Duration = Duration::from_millis(5);
/// The longest sleep of the thread, and so the longest time until it notices that it has been told to finish.
const NAP: Duration = Duration::from_millis(10);

/// The looks at all replicas of a cell.
#[derive(Debug)]
pub(super) struct ReplicaLooks {
    feed: FeedReceiver,
    /// Whether another server has become the primary.
    has_forked: bool,
    /// Commits on the new primary that arrived before the report of the failover.
    early: Vec<Commit>,
    observers: Vec<Observer>,
    readings: mpsc::UnboundedSender<Reading>,
    timeline: Timeline,
    first_key: u64,
    flush_due: Stamp,
}

impl ReplicaLooks {
    /// Connects to all replicas and reads the highest keys of a subscriber's tables, before the first commit of the cell.
    pub(super) async fn open(
        assignment: &Assignment,
        feed: FeedReceiver,
        readings: &mpsc::UnboundedSender<Reading>,
    ) -> Result<Self, ProbeError> {
        let tables: Arc<[_]> = assignment.tables.clone().into();
        let mut observers = Vec::new();
        if assignment.plan.visibility {
            for target in &assignment.replicas {
                let tracker = learn(target, &tables).await?;
                let (grain, pushed) = match (assignment.plan.method, &tracker) {
                    (VisibilityMethod::Looks, _) => (Grain::Fine, None),
                    (VisibilityMethod::Push, Tracker::Physical(_)) => {
                        (Grain::Coarse, Some(Pushed::default()))
                    }
                    (VisibilityMethod::Push, Tracker::Logical(_)) => (Grain::Coarse, None),
                };
                let watch = Watch::new(target.node.name.clone(), tracker);
                let (endpoint, tick) = (target.endpoint.clone(), assignment.plan.tick);
                let readings = readings.clone();
                let pace = (grain, tick);
                let observer = Observer::new(endpoint, pushed, watch, pace, readings)?;
                observers.push(observer);
            }
        }
        let mut looks = Self {
            feed,
            has_forked: false,
            early: Vec::new(),
            observers,
            readings: readings.clone(),
            timeline: Timeline::default(),
            first_key: 0,
            flush_due: Stamp::default(),
        };
        looks.connect()?;
        Ok(looks)
    }

    fn connect(&mut self) -> Result<(), ProbeError> {
        if self.observers.is_empty() {
            return Ok(());
        }
        let mut poll = Poll::new()?;
        self.attach(&poll, 0, false)?;
        let deadline = clock::now() + CONNECT_DEADLINE;
        while !self.observers.iter().all(Observer::is_open) {
            let now = clock::now();
            let wake = self.before_sleep(&poll, now);
            let mut troubles = self.observers.iter().filter_map(Observer::trouble);
            if let Some(trouble) = troubles.next() {
                return Err(ProbeError::Refused(trouble.to_owned()));
            }
            if now >= deadline {
                return Err(ProbeError::Refused("no replica answered in time".into()));
            }
            poll.wait(wake.min(deadline))?;
            self.on_wake();
            while let Some(event) = poll.next_event() {
                self.on_event(&poll, event);
            }
        }
        Ok(())
    }

    /// Passes the commits and failovers that the feed has told to the watch of every node.
    fn distribute(&mut self) {
        while let Some(told) = self.feed.take() {
            match told {
                Told::Commit(commit) if commit.server > 0 && !self.has_forked => {
                    self.early.push(commit);
                }
                Told::Commit(commit) => self.commit(commit),
                Told::Fork(fork) => self.fork(fork),
            }
        }
    }

    fn commit(&mut self, commit: Commit) {
        for Observer { watch, .. } in &mut self.observers {
            watch.commit(commit);
        }
    }

    /// Takes a failover. The load finds the new primary by itself, and may have committed there before the fork's first transaction id was
    /// read.
    fn fork(&mut self, mut fork: Fork) {
        self.has_forked = true;
        let early = std::mem::take(&mut self.early);
        let first = early.iter().map(|commit| commit.xid).min();
        fork.next_xid = first.map_or(fork.next_xid, |first| first.min(fork.next_xid));
        for Observer { watch, .. } in &mut self.observers {
            watch.fork(&fork);
        }
        for commit in early {
            self.commit(commit);
        }
    }

    /// Hands over the complete seconds before `before`, or all seconds if `before` is `None`.
    fn hand_over(&mut self, before: Option<i64>) {
        for observer in &mut self.observers {
            for second in observer.watch.take_seconds(before) {
                // The channel is closed only when the run is being abandoned.
                let _ = self.readings.send(Reading::Visibility(second));
            }
        }
    }
}

impl Looks for ReplicaLooks {
    fn attach(&mut self, poll: &Poll, first_key: u64, shares_thread: bool) -> io::Result<()> {
        self.first_key = first_key;
        poll.add(&self.feed, first_key, Interest::Readable)?;
        for (key, observer) in (first_key + 1..).zip(&mut self.observers) {
            observer.attach(poll, key, shares_thread)?;
        }
        Ok(())
    }

    fn set_timeline(&mut self, timeline: Timeline) {
        self.timeline = timeline;
        for observer in &mut self.observers {
            observer.watch.timeline = timeline;
        }
    }

    fn on_wake(&mut self) {
        self.feed.is_awake();
    }

    fn on_event(&mut self, poll: &Poll, event: Event) {
        let Some(index) = event.key.checked_sub(self.first_key + 1) else {
            return self.feed.was_called();
        };
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        if let Some(observer) = self.observers.get_mut(index) {
            observer.on_event(poll, event.is_writable);
        }
    }

    fn before_sleep(&mut self, poll: &Poll, now: Stamp) -> Stamp {
        // Asked before the commits are taken: a transaction that is no longer in flight has already put its commit into the feed.
        let mut is_in_flight = self.feed.is_in_flight();
        self.distribute();
        if now >= self.flush_due {
            self.flush_due = now + FLUSH;
            // Commits acknowledged at the end of a second may still be on their way here.
            let settled = self.timeline.offset_ns(now - FLUSH);
            self.hand_over(Some(settled.div_euclid(1_000_000_000)));
        }
        let outstanding = |it: &Observer| it.watch.outstanding() > 0;
        if !is_in_flight && !self.observers.iter().any(outstanding) {
            is_in_flight = !self.feed.falls_asleep();
        }
        let mut wake = self.flush_due;
        for observer in &mut self.observers {
            let pending = observer.watch.pending(is_in_flight);
            wake = wake.min(observer.before_sleep(poll, now, pending));
        }
        wake
    }

    fn is_done(&self) -> bool {
        let seen = |it: &Observer| it.watch.outstanding() == 0;
        self.feed.is_over() && self.observers.iter().all(seen)
    }

    fn end(&mut self) {
        self.distribute();
        self.hand_over(None);
    }
}

/// Makes the tracker of a replica, before the first commit. For a subscriber this reads the types of keys and the highest keys.
async fn learn(target: &Target, tables: &Arc<[TrackedTable]>) -> Result<Tracker, ProbeError> {
    if target.node.role.is_physical() {
        return Ok(Tracker::Physical(ByTransaction::default()));
    }
    let session = pg::connect(&target.endpoint, question::NAME, None, CONNECT_DEADLINE).await?;
    let failed = |error| ProbeError::query(target, &error);
    let client = session.client();
    let keys = subscriber::key_kinds(client, tables)
        .await
        .map_err(failed)?;
    let highest = subscriber::highest_rows(client, tables, &keys).await;
    let tracker = SubscriberTracker::new(highest.map_err(failed)?, keys, tables.clone());
    session.close().await;
    Ok(Tracker::Logical(Box::new(tracker)))
}

/// When the thread is to end, and the processor time that it has used.
#[derive(Debug, Default)]
pub(super) struct Finish {
    /// A [`Stamp`] in nanoseconds; 0 if the thread has not been told to finish.
    deadline_ns: AtomicU64,
    cpu_ns: AtomicU64,
}

impl Finish {
    pub(super) fn tell(&self, deadline: Stamp) {
        self.deadline_ns
            .store(deadline.as_nanos().max(1), Ordering::Relaxed);
    }

    fn deadline(&self) -> Option<Stamp> {
        match self.deadline_ns.load(Ordering::Relaxed) {
            0 => None,
            nanos => Some(Stamp::from_nanos(nanos)),
        }
    }

    fn note_cpu(&self) {
        let nanos = clock::thread_cpu().as_nanos();
        let nanos = u64::try_from(nanos).unwrap_or(u64::MAX);
        self.cpu_ns.store(nanos, Ordering::Relaxed);
    }

    /// Processor time that the thread has used.
    pub(super) fn cpu(&self) -> Duration {
        Duration::from_nanos(self.cpu_ns.load(Ordering::Relaxed))
    }
}

/// Makes looks until the thread is told to finish, and from then on until all commits have been seen or the deadline has come.
pub(super) fn run(looks: &mut dyn Looks, finish: &Finish) -> io::Result<()> {
    let mut poll = Poll::new()?;
    looks.attach(&poll, 0, false)?;
    loop {
        let now = clock::now();
        let mut wake = looks.before_sleep(&poll, now).min(now + NAP);
        finish.note_cpu();
        if let Some(deadline) = finish.deadline() {
            if looks.is_done() || now >= deadline {
                break;
            }
            wake = wake.min(now + DRAIN_LOOK).min(deadline);
        }
        poll.wait(wake)?;
        looks.on_wake();
        while let Some(event) = poll.next_event() {
            looks.on_event(&poll, event);
        }
    }
    looks.end();
    Ok(())
}
