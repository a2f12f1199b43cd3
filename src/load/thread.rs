//! One load thread: a schedule, a pool, and a task per transaction in flight, all on one current-thread runtime.
//!
//! Arrivals are dispatched when they are due, whatever has become of earlier ones. Those that find `max_in_flight` others
//! unanswered wait in the backlog. What waits when the phase ends is sent during the drain.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use deadpool::managed::Pool;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::LocalSet;

use super::feed_buffer::FeedBuffer;
use super::orders::ThreadOrders;
use super::pool::{self, Connector};
use super::share::{Arrival, Backlog, Population, Share};
use super::state::{Counters, ThreadState, open_failure};
use super::stats::{Reason, Second, Uncommitted};
use super::{LoadError, Stopper};
use crate::clock::{self, Stamp, Timer};
use crate::pg::Endpoint;
use crate::plan::{Length, Mix};
use crate::sample::{FeedSender, Phase, Timeline};

/// The longest sleep: how soon a thread notices that it was asked to stop.
const NAP: Duration = Duration::from_millis(50);

/// By what a load thread is joined to the others: the servers, the probes and the conductor.
pub(super) struct ThreadChannels {
    pub(super) primary: watch::Receiver<Arc<Endpoint>>,
    pub(super) feed: Option<FeedSender>,
    pub(super) seconds: mpsc::UnboundedSender<(u16, Second)>,
    pub(super) ready: oneshot::Sender<Result<(), LoadError>>,
    pub(super) start: oneshot::Receiver<Timeline>,
    pub(super) stop: Stopper,
}

/// Connects, waits for the start, offers the load, drains. Returns when no transaction is in flight.
pub(super) fn run(orders: &ThreadOrders, mut channels: ThreadChannels) -> io::Result<()> {
    let feed_buffer = Arc::new(FeedBuffer::new(channels.feed.take()));
    let at_rest = feed_buffer.clone();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .on_thread_park(move || at_rest.tell())
        .build()?;
    LocalSet::new().block_on(&runtime, offer(orders, channels, feed_buffer))
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

async fn offer(
    orders: &ThreadOrders,
    channels: ThreadChannels,
    feed_buffer: Arc<FeedBuffer>,
) -> io::Result<()> {
    let ThreadChannels { ready, start, .. } = channels;
    let connector = Connector {
        primary: channels.primary,
        scripts: orders.scripts(),
    };
    let connections = orders.connections();
    let pool = pool::pool(connector, connections);
    let opened = open_all(&pool, connections).await;
    let failed = opened.is_err();
    // The receiver is gone if the caller gave up: then no load is offered.
    if ready.send(opened).is_err() || failed {
        return Ok(());
    }
    let Ok(timeline) = start.await else {
        return Ok(());
    };
    let plan = &orders.plan;
    let thread = Rc::new(ThreadState {
        pool,
        mix: Mix::new(&plan.transactions),
        entries: orders.entries(),
        deadline: plan.load.transaction_deadline,
        seed: orders.cell.seed,
        max_in_flight: orders.max_in_flight(),
        feed_buffer,
        timeline,
        finished: Notify::new(),
        counters: RefCell::new(Counters {
            second: Second::new(
                timeline.first_second(),
                timeline.phase_at(timeline.start),
                timeline.offset_ns(timeline.start),
            ),
            in_flight: 0,
            unanswered: Population::default(),
            unsent: Population::default(),
            undispatched: Population::default(),
            room_since: timeline.start,
            cpu: clock::thread_cpu(),
        }),
    });
    let mut dispatcher = Dispatcher {
        thread,
        timer: Timer::new()?,
        index: orders.index,
        seconds: channels.seconds,
        stop: channels.stop,
    };
    dispatcher.timer.sleep_until(timeline.start).await?;
    let (index, of) = (u64::from(orders.index), u64::from(plan.load.threads));
    let (measure, drain) = (plan.phases.measure, plan.phases.drain);
    if let Some(schedule) = orders.schedule() {
        let share = Share::new(schedule, index, of, timeline, measure);
        let mut backlog = Backlog::new(share);
        dispatcher.open_loop(&mut backlog, measure).await?;
        dispatcher.drain(Some(&mut backlog), drain).await
    } else {
        dispatcher
            .closed_loop(connections, index, of, measure)
            .await?;
        dispatcher.drain(None, drain).await
    }
}

/// Keeps time for a thread: dispatches arrivals, closes seconds.
struct Dispatcher {
    thread: Rc<ThreadState>,
    timer: Timer,
    index: u16,
    seconds: mpsc::UnboundedSender<(u16, Second)>,
    stop: Stopper,
}

impl Dispatcher {
    async fn open_loop(&mut self, backlog: &mut Backlog, measure: Length) -> io::Result<()> {
        let end = self.end_of(measure);
        loop {
            let now = clock::now();
            let reached = end.map_or(now, |end| now.min(end));
            self.thread.counters.borrow_mut().note_backlog();
            self.pass_time(backlog, reached);
            self.dispatch_due(backlog);
            let is_over = match end {
                Some(end) => reached >= end,
                None => backlog.next_due().is_none(),
            };
            if is_over || self.stopping() {
                self.begin_drain(reached);
                return Ok(());
            }
            let held_up = backlog.waiting().all > 0;
            let wake = [end, backlog.next_due().filter(|_| !held_up)]
                .into_iter()
                .flatten()
                .fold(self.second_end().min(now + NAP), Stamp::min);
            if wake <= clock::now() {
                tokio::task::yield_now().await;
            } else if held_up {
                tokio::select! {
                    () = self.thread.finished.notified() => {}
                    slept = self.timer.sleep_until(wake) => slept?,
                }
            } else {
                self.timer.sleep_until(wake).await?;
            }
        }
    }

    /// When the measurement phase ends, if the clock decides.
    fn end_of(&self, measure: Length) -> Option<Stamp> {
        match measure {
            Length::For(duration) => Some(self.thread.timeline.measure_from + duration),
            Length::Count(_) => None,
        }
    }

    /// Takes in what has become due by `now`, each arrival in the second in which it did, and closes the seconds that are over.
    fn pass_time(&mut self, backlog: &mut Backlog, now: Stamp) {
        while now >= self.second_end() {
            let end = self.second_end();
            self.become_due(backlog, end);
            self.close_second(end, None);
        }
        self.become_due(backlog, now);
    }

    fn become_due(&self, backlog: &mut Backlog, until: Stamp) {
        let due = backlog.become_due(until);
        let mut state = self.thread.counters.borrow_mut();
        state.second.all.offered += due.all;
        state.second.measured.offered += due.measured;
        state.undispatched = backlog.waiting();
    }

    /// Dispatches what is due, as far as `max_in_flight` lets it.
    fn dispatch_due(&self, backlog: &mut Backlog) {
        while self.thread.counters.borrow().in_flight < self.thread.max_in_flight {
            let Some(arrival) = backlog.pop() else { break };
            self.thread.counters.borrow_mut().undispatched = backlog.waiting();
            let ready = arrival.due.max(self.thread.counters.borrow().room_since);
            self.thread.begin(arrival.measured);
            let thread = self.thread.clone();
            tokio::task::spawn_local(async move { thread.transact(arrival, Some(ready)).await });
        }
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
        let end = self.end_of(measure);
        for _ in 0..connections {
            let (thread, numbers, budget) = (self.thread.clone(), numbers.clone(), budget.clone());
            let stop = self.stop.clone();
            tokio::task::spawn_local(async move {
                loop {
                    let due = clock::now();
                    // Not by the clock: until the phase has changed here too, nothing is counted.
                    let measured = thread.counters.borrow().second.phase != Phase::Warmup;
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
                    thread.begin(measured);
                    thread.count_offered(measured);
                    let arrival = Arrival {
                        number,
                        due,
                        measured,
                    };
                    thread.transact(arrival, None).await;
                }
                thread.finished.notify_one();
            });
        }
        loop {
            let now = clock::now();
            let reached = end.map_or(now, |end| now.min(end));
            self.close_seconds(reached);
            let spent = *budget.borrow() == 0 && self.thread.counters.borrow().in_flight == 0;
            if spent || end.is_some_and(|end| now >= end) || self.stopping() {
                self.begin_drain(reached);
                return Ok(());
            }
            let wake = self.second_end().min(now + NAP);
            let wake = end.map_or(wake, |end| wake.min(end));
            self.timer.sleep_until(wake).await?;
        }
    }

    /// Sends what still waits and waits for the last answers, `limit` at most. What is in flight then is indeterminate if it was
    /// sent; what was not sent is missed.
    async fn drain(
        &mut self,
        mut backlog: Option<&mut Backlog>,
        limit: Duration,
    ) -> io::Result<()> {
        let deadline = clock::now() + limit;
        loop {
            let now = clock::now();
            self.close_seconds(now);
            if let Some(backlog) = &mut backlog {
                self.dispatch_due(backlog);
            }
            let is_done = {
                let state = self.thread.counters.borrow();
                state.in_flight == 0 && state.undispatched.all == 0
            };
            if is_done || now >= deadline || self.stop.is_aborting() {
                break;
            }
            let wake = deadline.min(self.second_end()).min(now + NAP);
            tokio::select! {
                () = self.thread.finished.notified() => {}
                slept = self.timer.sleep_until(wake) => slept?,
            }
        }
        self.give_up();
        self.close_second(clock::now(), None);
        self.thread.pool.close();
        Ok(())
    }

    /// Counts what has not ended.
    fn give_up(&self) {
        let mut state = self.thread.counters.borrow_mut();
        let (unanswered, unsent) = (state.unanswered, state.backlog());
        let second = &mut state.second;
        second.measured.indeterminate += unanswered.measured;
        second.all.indeterminate += unanswered.all;
        second.measured.missed += unsent.measured;
        second.all.missed += unsent.all;
        if unanswered.all > 0 {
            second.unknown += unanswered.all;
            let reason = Reason {
                sqlstate: String::new(),
                message: "no answer by the end of the drain".into(),
            };
            second.count_failure(Uncommitted::Indeterminate, reason, unanswered.all);
        }
        state.in_flight = 0;
        state.unanswered = Population::default();
        state.unsent = Population::default();
        state.undispatched = Population::default();
    }

    fn stopping(&self) -> bool {
        self.stop.is_stopping()
    }

    fn second_end(&self) -> Stamp {
        let state = self.thread.counters.borrow();
        self.thread.timeline.end_of_second(state.second.index)
    }

    /// Closes every second that has ended by `now`.
    fn close_seconds(&mut self, now: Stamp) {
        while now >= self.second_end() {
            let end = self.second_end();
            self.close_second(end, None);
        }
    }

    /// The phase is over: what follows belongs to the drain.
    fn begin_drain(&mut self, now: Stamp) {
        let mut state = self.thread.counters.borrow_mut();
        if state.second.start_ns >= self.thread.timeline.offset_ns(now) {
            // Nothing was awaited since this second began, so nothing is in it.
            state.second.phase = Phase::Drain;
        } else {
            drop(state);
            self.close_second(now, Some(Phase::Drain));
        }
    }

    /// Hands the current second over and begins the next one, in another phase if told so.
    fn close_second(&mut self, end: Stamp, phase: Option<Phase>) {
        let mut state = self.thread.counters.borrow_mut();
        let cpu = clock::thread_cpu();
        let timeline = &self.thread.timeline;
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
        let end_ns = timeline.offset_ns(end);
        let next = Second::new(next_index, next_phase, end_ns);
        let mut closed = std::mem::replace(&mut state.second, next);
        closed.end_ns = end_ns;
        closed.backlog = state.backlog().all;
        closed.in_flight = u64::from(state.in_flight);
        closed.cpu = cpu.saturating_sub(state.cpu);
        state.cpu = cpu;
        state.note_in_flight();
        // A conductor that has gone needs no more seconds.
        let _ = self.seconds.send((self.index, closed));
    }
}
