//! One load thread: a schedule, a pool, and a task per transaction in flight, all on one current-thread runtime.
//!
//! Arrivals are dispatched when they are due, whatever has become of earlier ones. Those that find `max_in_flight` others
//! unanswered wait in the backlog, which costs no memory: it is the distance between two positions in the schedule.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use deadpool::managed::Pool;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::LocalSet;

use super::desk::{Desk, Entry, InFlight, State, open_failure};
use super::outbox::Outbox;
use super::pool::Connector;
use super::share::{Arrival, Share};
use super::stats::{Reason, Second};
use super::{LoadError, Stopper};
use crate::clock::{self, Stamp, Timer};
use crate::plan::{Length, Mix, Schedule};
use crate::sample::{FeedSender, Phase, Timeline};

/// An arrival that was due within the phase may still be sent this long after its end; then it is missed.
const GRACE: Duration = Duration::from_millis(10);
/// The longest sleep: how soon a thread notices that it was asked to stop.
const NAP: Duration = Duration::from_millis(50);

/// Everything a load thread is told.
pub(super) struct Orders {
    pub(super) index: u64,
    /// How many threads share the schedule: this one takes every `of`-th arrival.
    pub(super) of: u64,
    pub(super) pool: Pool<Connector>,
    pub(super) connections: usize,
    pub(super) mix: Mix,
    pub(super) entries: Vec<Entry>,
    /// `None`: closed loop.
    pub(super) schedule: Option<Schedule>,
    pub(super) measure: Length,
    pub(super) max_in_flight: u32,
    pub(super) deadline: Duration,
    pub(super) drain: Duration,
    pub(super) seed: u64,
    pub(super) feed: Option<FeedSender>,
    pub(super) seconds: mpsc::UnboundedSender<(u64, Second)>,
    pub(super) ready: oneshot::Sender<Result<(), LoadError>>,
    pub(super) start: oneshot::Receiver<Timeline>,
    pub(super) stop: Stopper,
}

/// Connects, waits for the start, offers the load, drains. Returns when no transaction is in flight.
pub(super) fn run(mut orders: Orders) -> io::Result<()> {
    let outbox = Arc::new(Outbox::new(orders.feed.take()));
    let at_rest = outbox.clone();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .on_thread_park(move || at_rest.tell())
        .build()?;
    LocalSet::new().block_on(&runtime, offer(orders, outbox))
}

/// Opens all connections before the first arrival, so that none pays for it.
async fn open_all(pool: &Pool<Connector>, count: usize) -> Result<(), LoadError> {
    let mut held = Vec::with_capacity(count);
    for _ in 0..count {
        match pool.get().await {
            Ok(connection) => held.push(connection),
            Err(error) => return Err(LoadError::Open(open_failure(error).message)),
        }
    }
    Ok(())
}

async fn offer(orders: Orders, outbox: Arc<Outbox>) -> io::Result<()> {
    let Orders { ready, start, .. } = orders;
    let opened = open_all(&orders.pool, orders.connections).await;
    let failed = opened.is_err();
    // Whoever asked may have given up: then there is nobody to offer load for.
    if ready.send(opened).is_err() || failed {
        return Ok(());
    }
    let Ok(timeline) = start.await else {
        return Ok(());
    };
    let desk = Rc::new(Desk {
        pool: orders.pool,
        mix: orders.mix,
        entries: orders.entries,
        deadline: orders.deadline,
        seed: orders.seed,
        outbox,
        timeline,
        finished: Notify::new(),
        state: RefCell::new(State {
            second: Second::new(
                timeline.first_second(),
                timeline.phase_at(timeline.start),
                timeline.start,
            ),
            in_flight: 0,
            unanswered: InFlight::default(),
            unsent: InFlight::default(),
            backlog: 0,
            closed: false,
            cpu: clock::thread_cpu(),
        }),
    });
    let mut pace = Pace {
        desk,
        timer: Timer::new()?,
        index: orders.index,
        seconds: orders.seconds,
        stop: orders.stop,
        max_in_flight: orders.max_in_flight,
    };
    pace.timer.sleep_until(timeline.start).await?;
    match orders.schedule {
        Some(schedule) => {
            let arrivals = Share::new(schedule, orders.index, orders.of, timeline, orders.measure);
            pace.open_loop(arrivals).await?;
        }
        None => {
            pace.closed_loop(orders.connections, orders.index, orders.of, orders.measure)
                .await?;
        }
    }
    pace.drain(orders.drain).await
}

/// Keeps time for a thread: dispatches arrivals, closes seconds.
struct Pace {
    desk: Rc<Desk>,
    timer: Timer,
    index: u64,
    seconds: mpsc::UnboundedSender<(u64, Second)>,
    stop: Stopper,
    max_in_flight: u32,
}

impl Pace {
    async fn open_loop(&mut self, mut next: Share) -> io::Result<()> {
        // A second walk over the same schedule tells what is due while the first is held up.
        let mut due = next.clone();
        let end = match next.measure {
            Length::For(duration) => Some(self.desk.timeline.measure_from + duration),
            Length::Count(_) => None,
        };
        loop {
            let now = clock::now();
            self.close_seconds(now);
            self.count_due(&mut due, &next, now);
            while let Some(arrival) = next.peek()
                && arrival.due <= now
                && self.desk.state.borrow().in_flight < self.max_in_flight
            {
                next.advance();
                self.dispatch(arrival);
            }
            self.note_backlog(&due, &next);
            let Some(ahead) = next.peek() else { break };
            if self.stopping() || end.is_some_and(|end| now >= end) {
                break;
            }
            let held_up = ahead.due <= now;
            let wake = if held_up { now + NAP } else { ahead.due };
            let wake = wake.min(self.second_end()).min(now + NAP);
            if wake <= clock::now() {
                tokio::task::yield_now().await;
            } else if held_up {
                tokio::select! {
                    () = self.desk.finished.notified() => {}
                    slept = self.timer.sleep_until(wake) => slept?,
                }
            } else {
                self.timer.sleep_until(wake).await?;
            }
        }
        self.end_phase(&mut due, &next, end).await
    }

    /// Waits out the phase, then closes it: what has not been sent by now is missed. A phase of so many transactions
    /// ends with the last arrival, and all that have arrived may still be sent during the drain.
    async fn end_phase(
        &mut self,
        due: &mut Share,
        next: &Share,
        end: Option<Stamp>,
    ) -> io::Result<()> {
        if let Some(end) = end {
            while clock::now() < end && !self.stopping() {
                let now = clock::now();
                self.close_seconds(now);
                let wake = end.min(self.second_end()).min(now + NAP);
                self.timer.sleep_until(wake).await?;
            }
        }
        let now = clock::now();
        self.count_due(due, next, now);
        let undispatched = due.position - next.position;
        self.close_second(now, Some(Phase::Drain));
        if matches!(next.measure, Length::Count(_)) && !self.stopping() {
            return Ok(());
        }
        self.timer.sleep_until(now + GRACE).await?;
        let mut state = self.desk.state.borrow_mut();
        state.closed = true;
        state.second.arrivals.missed += undispatched;
        state.backlog = 0;
        Ok(())
    }

    async fn closed_loop(
        &mut self,
        connections: usize,
        index: u64,
        of: u64,
        measure: Length,
    ) -> io::Result<()> {
        let numbers = Rc::new(RefCell::new(
            (index..).step_by(usize::try_from(of).unwrap_or(1)),
        ));
        let budget = Rc::new(RefCell::new(match measure {
            Length::For(_) => u64::MAX,
            Length::Count(count) => count / of + u64::from(index < count % of),
        }));
        let end = match measure {
            Length::For(duration) => Some(self.desk.timeline.measure_from + duration),
            Length::Count(_) => None,
        };
        for _ in 0..connections {
            let (desk, numbers, budget) = (self.desk.clone(), numbers.clone(), budget.clone());
            let stop = self.stop.clone();
            tokio::task::spawn_local(async move {
                loop {
                    let due = clock::now();
                    // Not by the clock: until the phase has changed here too, nothing is counted.
                    let measured = desk.state.borrow().second.phase != Phase::Warmup;
                    if end.is_some_and(|end| due >= end) || stop.is_stopping() {
                        break;
                    }
                    if measured {
                        let mut left = budget.borrow_mut();
                        if *left == 0 {
                            break;
                        }
                        *left -= 1;
                    }
                    let number = numbers.borrow_mut().next().unwrap_or(u64::MAX);
                    desk.begin(measured, 1);
                    desk.transact(Arrival {
                        number,
                        due,
                        measured,
                    })
                    .await;
                }
                desk.finished.notify_one();
            });
        }
        loop {
            let now = clock::now();
            self.close_seconds(now);
            let spent = *budget.borrow() == 0 && self.desk.state.borrow().in_flight == 0;
            if spent || end.is_some_and(|end| now >= end) || self.stopping() {
                self.close_second(now, Some(Phase::Drain));
                return Ok(());
            }
            let wake = self.second_end().min(now + NAP);
            let wake = end.map_or(wake, |end| wake.min(end));
            self.timer.sleep_until(wake).await?;
        }
    }

    /// Waits for the last answers, `limit` at most. What is still in flight then is indeterminate if it was sent, and missed
    /// otherwise.
    async fn drain(&mut self, limit: Duration) -> io::Result<()> {
        let deadline = clock::now() + limit;
        loop {
            let now = clock::now();
            self.close_seconds(now);
            let answered = self.desk.state.borrow().in_flight == 0;
            if answered || now >= deadline || self.stop.is_aborting() {
                break;
            }
            let wake = deadline.min(self.second_end()).min(now + NAP);
            tokio::select! {
                () = self.desk.finished.notified() => {}
                slept = self.timer.sleep_until(wake) => slept?,
            }
        }
        {
            let mut state = self.desk.state.borrow_mut();
            let (unanswered, unsent) = (state.unanswered, state.unsent);
            let second = &mut state.second;
            second.arrivals.indeterminate += unanswered.measured;
            second.arrivals.sent += unanswered.measured;
            second.arrivals.missed += unsent.measured;
            // Which transaction each of them was no longer matters: any of them may have committed.
            second.committed_mut(0).1 += unanswered.all;
            for _ in 0..unanswered.all {
                let reason = Reason {
                    sqlstate: String::new(),
                    message: "no answer by the end of the drain".into(),
                };
                second.count_failure(reason, true);
            }
            state.in_flight = 0;
        }
        self.close_second(clock::now(), None);
        self.desk.pool.close();
        Ok(())
    }

    fn stopping(&self) -> bool {
        self.stop.is_stopping()
    }

    fn dispatch(&self, arrival: Arrival) {
        self.desk.begin(arrival.measured, 0);
        let desk = self.desk.clone();
        tokio::task::spawn_local(async move { desk.transact(arrival).await });
    }

    fn count_due(&self, due: &mut Share, next: &Share, now: Stamp) {
        let mut state = self.desk.state.borrow_mut();
        while let Some(arrival) = due.peek()
            && arrival.due <= now
        {
            due.advance();
            if state.counts(arrival.measured) {
                state.second.arrivals.offered += 1;
            }
        }
        debug_assert!(
            due.position >= next.position,
            "nothing is sent before it is due"
        );
    }

    fn note_backlog(&self, due: &Share, next: &Share) {
        let mut state = self.desk.state.borrow_mut();
        state.backlog = due.position - next.position;
        state.second.peak_backlog = state.second.peak_backlog.max(state.backlog);
    }

    fn second_end(&self) -> Stamp {
        let state = self.desk.state.borrow();
        self.desk.timeline.end_of_second(state.second.index)
    }

    /// Closes every second that has ended by `now`.
    fn close_seconds(&mut self, now: Stamp) {
        while now >= self.second_end() {
            let end = self.second_end();
            self.close_second(end, None);
        }
    }

    /// Hands the current second over and begins the next one, in another phase if told so.
    fn close_second(&mut self, end: Stamp, phase: Option<Phase>) {
        let mut state = self.desk.state.borrow_mut();
        let cpu = clock::thread_cpu();
        let timeline = &self.desk.timeline;
        let index = state.second.index;
        let next_index = if end >= timeline.end_of_second(index) {
            index + 1
        } else {
            index
        };
        let next_phase = phase.unwrap_or(if state.second.phase == Phase::Drain {
            Phase::Drain
        } else {
            timeline.phase_at(end)
        });
        let mut closed =
            std::mem::replace(&mut state.second, Second::new(next_index, next_phase, end));
        closed.end = end;
        closed.backlog = state.backlog;
        closed.in_flight = u64::from(state.in_flight);
        closed.cpu = cpu.saturating_sub(state.cpu);
        state.cpu = cpu;
        state.second.peak_in_flight = u64::from(state.in_flight);
        // A conductor that has gone needs no more seconds.
        let _ = self.seconds.send((self.index, closed));
    }
}
