//! One load thread: a schedule, a pool, and a task per transaction in flight, all on one current-thread runtime.
//!
//! Arrivals are dispatched when they are due, whatever has become of earlier ones. Those that find `max_in_flight` others
//! unanswered wait in the backlog, which costs no memory: it is the distance between two positions in the schedule.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use deadpool::managed::{Object, Pool, PoolError};
use rand_xoshiro::Xoshiro256PlusPlus;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::LocalSet;

use super::pool::{Connection, Connector, OpenError, Reply, Work};
use super::stats::{Outcome, Reason, Second};
use super::{LoadError, Stopper, rows};
use crate::clock::{self, Stamp, Timer};
use crate::pg;
use crate::plan::{self, KeyChooser, Length, Mix, Schedule, TransactionKind};
use crate::sample::{Commit, Phase, Timeline};

/// An arrival that was due within the phase may still be sent this long after its end; then it is missed.
const GRACE: Duration = Duration::from_millis(10);
/// The longest sleep: how soon a thread notices that it was asked to stop.
const NAP: Duration = Duration::from_millis(50);

/// One entry of the mix, ready to make work from.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) kind: TransactionKind,
    /// The table of the row it inserts, as an index into the plan's tables.
    pub(super) table: Option<u8>,
    pub(super) row_bytes: usize,
    pub(super) keys: Option<KeyChooser>,
}

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
    pub(super) feed: Option<mpsc::UnboundedSender<Commit>>,
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
        .on_thread_park(move || at_rest.send())
        .build()?;
    LocalSet::new().block_on(&runtime, offer(orders, outbox))
}

/// Commits on their way to the probes. They leave when the thread has nothing else to do, which is microseconds after the
/// acknowledgement: so one wake-up of the other side, a system call, serves all that were acknowledged together.
struct Outbox {
    feed: Option<mpsc::UnboundedSender<Commit>>,
    waiting: Mutex<Vec<Commit>>,
}

impl Outbox {
    fn new(feed: Option<mpsc::UnboundedSender<Commit>>) -> Self {
        Self {
            feed,
            waiting: Mutex::default(),
        }
    }

    fn put(&self, commit: Commit) {
        if self.feed.is_some() {
            self.lock().push(commit);
        }
    }

    fn send(&self) {
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

fn open_failure(error: PoolError<OpenError>) -> Reason {
    match error {
        PoolError::Backend(error) => Reason {
            sqlstate: error.sqlstate(),
            message: error.to_string(),
        },
        other => Reason {
            sqlstate: String::new(),
            message: format!("no connection from the pool: {other}"),
        },
    }
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

/// One arrival of the schedule.
#[derive(Debug, Clone, Copy)]
struct Arrival {
    /// Position in the schedule of all threads.
    number: u64,
    due: Stamp,
    measured: bool,
}

/// A thread's share of the schedule: every `of`-th arrival until the measurement phase ends.
#[derive(Debug, Clone)]
struct Share {
    schedule: Schedule,
    next: u64,
    index: u64,
    of: u64,
    timeline: Timeline,
    measure: Length,
    /// Number of the first measured arrival.
    first_measured: Option<u64>,
    ahead: Option<Arrival>,
    /// How many arrivals of this share have been taken.
    position: u64,
}

impl Share {
    fn new(schedule: Schedule, index: u64, of: u64, timeline: Timeline, measure: Length) -> Self {
        let mut share = Self {
            schedule,
            next: 0,
            index,
            of,
            timeline,
            measure,
            first_measured: None,
            ahead: None,
            position: 0,
        };
        share.advance();
        share
    }

    /// The arrival that comes next, if the phase still has one.
    fn peek(&self) -> Option<Arrival> {
        self.ahead
    }

    fn advance(&mut self) {
        self.position += u64::from(self.ahead.is_some());
        self.ahead = loop {
            let Some(offset) = self.schedule.next() else {
                break None;
            };
            let number = self.next;
            self.next += 1;
            let due = self.timeline.start + Duration::from_nanos(offset);
            let measured = due >= self.timeline.measure_from;
            if measured && self.first_measured.is_none() {
                self.first_measured = Some(number);
            }
            let over = match (self.measure, self.first_measured) {
                (Length::For(duration), _) => due >= self.timeline.measure_from + duration,
                (Length::Count(count), Some(first)) => number - first >= count,
                (Length::Count(_), None) => false,
            };
            if over {
                break None;
            }
            if number % self.of == self.index {
                break Some(Arrival {
                    number,
                    due,
                    measured,
                });
            }
        };
    }
}

/// What the tasks of a thread share.
struct Desk {
    pool: Pool<Connector>,
    mix: Mix,
    entries: Vec<Entry>,
    deadline: Duration,
    seed: u64,
    outbox: Arc<Outbox>,
    timeline: Timeline,
    /// A transaction ended.
    finished: Notify,
    state: RefCell<State>,
}

struct State {
    second: Second,
    in_flight: u32,
    /// Those of them that were sent.
    unanswered: InFlight,
    /// Those of them that wait for a connection.
    unsent: InFlight,
    backlog: u64,
    /// The phase is over: whoever has no connection yet is missed.
    closed: bool,
    /// This thread's CPU time at the start of the second.
    cpu: Duration,
}

/// Arrivals that have been dispatched and have not ended.
#[derive(Debug, Clone, Copy, Default)]
struct InFlight {
    all: u64,
    measured: u64,
}

impl InFlight {
    fn add(&mut self, measured: bool) {
        self.all += 1;
        self.measured += u64::from(measured);
    }

    fn remove(&mut self, measured: bool) {
        self.all -= 1;
        self.measured -= u64::from(measured);
    }
}

impl State {
    /// Whether an arrival counts in the current second's figures: warm-up ones do so during the warm-up only.
    fn counts(&self, measured: bool) -> bool {
        measured == (self.second.phase != Phase::Warmup)
    }
}

impl Desk {
    fn work(&self, number: u64) -> (usize, Work) {
        let mut rng: Xoshiro256PlusPlus = plan::rng(self.seed, number);
        let index = self.mix.pick(&mut rng);
        let entry = &self.entries[index];
        let mut key = || {
            entry
                .keys
                .as_ref()
                .map_or(1, |keys| keys.pick(&mut rng).cast_signed())
        };
        let work = match entry.kind {
            TransactionKind::StockUpdate => Work::Stock { id: key() },
            TransactionKind::Order => Work::Order {
                id: key(),
                quantity: 1,
            },
            TransactionKind::ProductInsert => {
                Work::Product(rows::product(&mut rng, entry.row_bytes))
            }
            TransactionKind::UsersInsert => Work::User(rows::user(&mut rng, entry.row_bytes)),
        };
        (index, work)
    }

    /// One arrival from its dispatch to its end, whatever that is.
    async fn transact(&self, arrival: Arrival) {
        let (index, work) = self.work(arrival.number);
        let asked = clock::now();
        let mut progress = Progress::default();
        let attempt = self.attempt(index, &work, arrival.measured, asked, &mut progress);
        let ended = tokio::time::timeout(self.deadline, attempt).await;
        let outcome = match ended {
            Ok(outcome) => outcome,
            Err(_elapsed) if progress.sent.is_none() => None,
            Err(_elapsed) => Some((
                Outcome::Indeterminate(Reason {
                    sqlstate: String::new(),
                    message: format!("no answer within {} s", self.deadline.as_secs_f64()),
                }),
                None,
            )),
        };
        self.account(arrival, index, progress, outcome);
    }

    /// `None`: the phase ended, or the deadline passed, before the transaction could be sent.
    async fn attempt(
        &self,
        index: usize,
        work: &Work,
        measured: bool,
        asked: Stamp,
        progress: &mut Progress,
    ) -> Option<(Outcome, Option<Reply>)> {
        let connection = self.pool.get().await;
        let got = clock::now();
        if self.state.borrow().closed {
            return None;
        }
        progress.pool_wait = Some(got.since(asked));
        let connection = match connection {
            Ok(connection) => Leased(Some(connection)),
            Err(error) => return Some((Outcome::Failed(open_failure(error)), None)),
        };
        progress.sent = Some(got);
        {
            let mut state = self.state.borrow_mut();
            state.unsent.remove(measured);
            state.unanswered.add(measured);
        }
        let answer = connection.get().run(index, work).await;
        Some(match answer {
            Ok(reply) => {
                connection.give_back();
                let warned = reply.is_some_and(|reply| reply.warned);
                let outcome = if warned {
                    Outcome::AckedWithWarning
                } else {
                    Outcome::Acked
                };
                (outcome, reply)
            }
            Err(error) => {
                let failure = pg::describe(&error);
                let reason = Reason {
                    sqlstate: failure
                        .sqlstate
                        .as_ref()
                        .map_or_else(String::new, |state| state.code().to_owned()),
                    message: failure.message,
                };
                if failure.connection_lost {
                    (Outcome::Indeterminate(reason), None)
                } else {
                    let clean = !matches!(work, Work::Order { .. })
                        || connection.get().roll_back().await.is_ok();
                    if clean {
                        connection.give_back();
                    }
                    (Outcome::Failed(reason), None)
                }
            }
        })
    }

    fn account(
        &self,
        arrival: Arrival,
        index: usize,
        progress: Progress,
        outcome: Option<(Outcome, Option<Reply>)>,
    ) {
        let now = clock::now();
        let mut state = self.state.borrow_mut();
        state.in_flight -= 1;
        match progress.sent {
            Some(_) => state.unanswered.remove(arrival.measured),
            None => state.unsent.remove(arrival.measured),
        }
        let counts = state.counts(arrival.measured);
        let second = &mut state.second;
        if let Some(wait) = progress.pool_wait
            && counts
        {
            second.pool_wait.record(wait);
        }
        if let Some(sent) = progress.sent
            && counts
        {
            second.arrivals.sent += 1;
            second.start_lag.record(sent.since(arrival.due));
        }
        let (sent, reply) = match outcome {
            None => {
                second.arrivals.missed += u64::from(counts);
                self.finished.notify_one();
                return;
            }
            Some((Outcome::Failed(reason), _)) => {
                second.arrivals.failed += u64::from(counts);
                second.count_failure(reason, false);
                (None, None)
            }
            Some((Outcome::Indeterminate(reason), _)) => {
                second.arrivals.indeterminate += u64::from(counts);
                second.committed_mut(index).1 += 1;
                second.count_failure(reason, true);
                (None, None)
            }
            Some((outcome, reply)) => {
                second.acks += 1;
                second.committed_mut(index).0 += u64::from(reply.is_some());
                if counts {
                    if outcome == Outcome::Acked {
                        second.arrivals.acked += 1;
                    } else {
                        second.arrivals.acked_with_warning += 1;
                    }
                }
                (progress.sent, reply)
            }
        };
        if let Some(sent) = sent {
            if counts {
                second.service.record(now.since(sent));
                second.response.record(now.since(arrival.due));
            }
            if let Some(reply) = reply {
                self.outbox.put(Commit {
                    xid: reply.xid,
                    row: self.entries[index].table.map(|table| (table, reply.key)),
                    sent: reply.commit_sent.unwrap_or(sent),
                    acked: now,
                    measured: arrival.measured,
                });
            }
        }
        drop(state);
        self.finished.notify_one();
    }
}

/// How far an attempt has come, known even when it is cut off.
#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    pool_wait: Option<Duration>,
    sent: Option<Stamp>,
}

/// A connection on loan. Dropped in the middle of a transaction it is spent, and leaves the pool.
struct Leased(Option<Object<Connector>>);

impl Leased {
    fn get(&self) -> &Connection {
        self.0.as_ref().expect("given back only by value")
    }

    fn give_back(mut self) {
        drop(self.0.take());
    }
}

impl Drop for Leased {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            drop(Object::take(connection));
        }
    }
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

impl Desk {
    fn begin(&self, measured: bool, offered: u64) {
        let mut state = self.state.borrow_mut();
        state.in_flight += 1;
        state.unsent.add(measured);
        if state.counts(measured) {
            state.second.arrivals.offered += offered;
        }
        let in_flight = u64::from(state.in_flight);
        state.second.peak_in_flight = state.second.peak_in_flight.max(in_flight);
    }
}
