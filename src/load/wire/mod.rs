//! The load with as little overhead as possible: each thread runs one loop over sockets that never block, with one message at a time on
//! each connection. There is no task, no lock and, once every buffer has reached its size, no allocation per transaction.
//!
//! Arrivals are dispatched when they are due, whether or not earlier ones have been answered: to the connection that has been free for
//! longest, or to a queue if none is free. While `max_in_flight` arrivals are unanswered, further ones wait in the backlog. Arrivals that
//! still wait when the phase ends are sent during the drain. A lost connection is opened again, at growing intervals while that fails.

mod cancel;
mod connection;
mod connections;
mod request;
mod search;

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use connection::Ended;
use connections::{Connections, FOREIGN_KEYS, Next};
use request::{Request, Requests};

use super::channels::{MAX_SLEEP, Opened, ThreadChannels};
use super::counters::{Attempt, Counters, Draws, Ending, Entry};
use super::feed_buffer::FeedBuffer;
use super::orders::ThreadOrders;
use super::priority;
use super::share::{Arrival, Backlog};
use super::stats::Uncommitted;
use super::values::Value;
use super::{LoadError, Stopper};
use crate::clock::{self, Stamp};
use crate::sample::{LentLooks, Phase};

/// The longest that asking the server for the types of all statements may take.
const DESCRIBE_DEADLINE: Duration = Duration::from_secs(5);

/// Connects, waits for the start, offers the load, drains. Returns when no transaction is in flight.
pub(super) fn run(orders: &ThreadOrders, mut channels: ThreadChannels) -> io::Result<()> {
    let opened = describe(orders, &channels)
        .and_then(|requests| Connections::open(orders.connections(), requests, &channels.servers));
    let (connections, answer) = match opened {
        Ok(mut connections) => {
            let opened = Opened {
                early: Some(connections.poll().early()),
                priority: priority::take(orders.plan.priority),
            };
            (Some(connections), Ok(opened))
        }
        Err(error) => (None, Err(error)),
    };
    // If the caller has given up, the receiver is gone and no load is offered.
    let is_awaited = channels.ready.send(answer).is_ok();
    let Some(connections) = connections.filter(|_| is_awaited) else {
        return Ok(());
    };
    let Ok(timeline) = channels.start.blocking_recv() else {
        return Ok(());
    };
    let plan = &orders.plan;
    let source = match orders.backlog(timeline) {
        Some(backlog) => Source::Open(Box::new(backlog)),
        None => Source::Closed {
            numbers: Box::new(orders.numbers()),
            budget: orders.budget(),
        },
    };
    let entries = orders.entries();
    let load = LoadLoop {
        connections,
        source,
        draws: Draws::of(orders),
        values: entries.iter().map(|_| Vec::new()).collect(),
        entries,
        counters: orders.counters(timeline, channels.seconds),
        feed: FeedBuffer::new(channels.feed.take()),
        looks: channels.looks.take(),
        waiting: VecDeque::new(),
        next: Draft::default(),
        deadline: plan.load.transaction_deadline,
        expires: timeline.start,
        end: orders.end(timeline),
        drain: plan.phases.drain,
        drain_deadline: None,
        stop: channels.stop,
    };
    load.offer(timeline.start)
}

fn describe(orders: &ThreadOrders, channels: &ThreadChannels) -> Result<Requests, LoadError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(LoadError::Thread)?;
    let primary = &channels.servers[0];
    runtime
        .block_on(Requests::describe(
            primary,
            &orders.scripts(),
            DESCRIBE_DEADLINE,
        ))
        .map_err(LoadError::Open)
}

/// Where arrivals come from.
enum Source {
    Open(Box<Backlog>),
    Closed {
        numbers: Box<dyn Iterator<Item = u64>>,
        /// Measured arrivals that are still to be offered.
        budget: u64,
    },
}

/// An arrival that waits for a connection, and the instant since when it waits.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    arrival: Arrival,
    asked: Stamp,
}

/// The messages of an arrival, prepared before the arrival is due.
#[derive(Debug, Default)]
struct Draft {
    /// The number of the arrival; `None` if no messages are prepared.
    number: Option<u64>,
    transaction: usize,
    request: Request,
}

struct LoadLoop {
    connections: Connections,
    source: Source,
    draws: Draws,
    entries: Vec<Entry>,
    /// The values last drawn for each transaction of the mix.
    values: Vec<Vec<Value>>,
    counters: Counters,
    feed: FeedBuffer,
    looks: Option<LentLooks>,
    waiting: VecDeque<Waiting>,
    next: Draft,
    deadline: Duration,
    /// No connection or arrival reaches its deadline before this instant.
    expires: Stamp,
    /// When the measurement phase ends; `None` if it ends after a number of arrivals.
    end: Option<Stamp>,
    /// The longest that the drain may take, and its deadline once it has begun.
    drain: Duration,
    drain_deadline: Option<Stamp>,
    stop: Stopper,
}

impl LoadLoop {
    fn offer(mut self, start: Stamp) -> io::Result<()> {
        if let Some(LentLooks { looks, .. }) = &mut self.looks {
            looks.set_timeline(self.counters.timeline);
            looks.attach(self.connections.poll(), FOREIGN_KEYS, true)?;
        }
        while clock::now() < start {
            self.connections.poll().wait_exactly(start)?;
            while self.next_ended().is_some() {}
        }
        loop {
            let now = clock::now();
            self.pass_time(now);
            let reopens = self.connections.reopen(now);
            if now >= self.expires {
                self.expire(now);
            }
            self.dispatch()?;
            if let Some(deadline) = self.drain_deadline
                && (self.counters.is_idle() || now >= deadline || self.stop.is_aborting())
            {
                break;
            }
            self.feed.tell();
            self.prepare_next()?;
            self.wait(now, reopens)?;
            if let Some(LentLooks { looks, .. }) = &mut self.looks {
                looks.on_wake();
            }
            while let Some(ended) = self.next_ended() {
                self.count(ended);
                self.dispatch()?;
            }
        }
        self.counters.give_up();
        drop(self.feed);
        if let Some(LentLooks { looks, give_back }) = self.looks {
            // Sending fails only if the lender has given up waiting for the looks.
            let _ = give_back.send(looks);
        }
        self.connections.close()
    }

    /// The next transaction that has ended; `None` when all events of the last wait have been handled.
    fn next_ended(&mut self) -> Option<Ended> {
        loop {
            match self.connections.next_ended() {
                Next::Ended(ended) => return Some(ended),
                Next::Other(event) => {
                    if let Some(LentLooks { looks, .. }) = &mut self.looks {
                        looks.on_event(self.connections.poll(), event);
                    }
                }
                Next::Nothing => return None,
            }
        }
    }

    /// Counts arrivals that have become due, closes seconds that are over, and begins the drain when the phase is over.
    fn pass_time(&mut self, now: Stamp) {
        if self.drain_deadline.is_some() {
            self.counters.close_seconds(now);
            return;
        }
        let reached = self.end.map_or(now, |end| now.min(end));
        self.counters.note_backlog();
        let is_spent = match &mut self.source {
            Source::Open(backlog) => {
                self.counters.pass_time(backlog, reached);
                backlog.next_due().is_none()
            }
            Source::Closed { budget, .. } => {
                self.counters.close_seconds(reached);
                *budget == 0 && self.counters.in_flight() == 0
            }
        };
        let is_over = self.end.map_or(is_spent, |end| now >= end);
        if is_over || self.stop.is_stopping() {
            self.counters.begin_drain(reached);
            self.drain_deadline = Some(now + self.drain);
        }
    }

    /// Hands out free connections: first to arrivals that wait for one, then to arrivals that are due.
    fn dispatch(&mut self) -> io::Result<()> {
        while self.connections.has_idle()
            && let Some(Waiting { arrival, asked }) = self.waiting.pop_front()
        {
            self.send(arrival, asked)?;
        }
        match self.source {
            Source::Open(_) => self.dispatch_due(),
            Source::Closed { .. } => self.dispatch_closed(),
        }
    }

    fn dispatch_due(&mut self) -> io::Result<()> {
        loop {
            let Source::Open(backlog) = &mut self.source else {
                return Ok(());
            };
            let Some((arrival, ready)) = self.counters.dispatch(backlog) else {
                return Ok(());
            };
            if self.connections.has_idle() {
                self.draft(arrival.number)?;
                let asked = clock::now();
                self.counters.note_dispatch(arrival.measured, ready, asked);
                self.send(arrival, asked)?;
            } else {
                let asked = clock::now();
                self.counters.note_dispatch(arrival.measured, ready, asked);
                self.waiting.push_back(Waiting { arrival, asked });
            }
        }
    }

    fn dispatch_closed(&mut self) -> io::Result<()> {
        while self.connections.has_idle() && self.drain_deadline.is_none() {
            let due = clock::now();
            if self.end.is_some_and(|end| due >= end) || self.stop.is_stopping() {
                return Ok(());
            }
            // The counters' phase decides, not the clock: while the counters are still in a second of the warm-up, no arrival is measured.
            let measured = self.counters.phase() != Phase::Warmup;
            let Source::Closed { numbers, budget } = &mut self.source else {
                return Ok(());
            };
            if measured {
                if *budget == 0 {
                    return Ok(());
                }
                *budget -= 1;
            }
            let arrival = Arrival {
                number: numbers.next().unwrap_or(u64::MAX),
                due,
                measured,
            };
            self.counters.offer(measured);
            self.draft(arrival.number)?;
            let asked = clock::now();
            self.send(arrival, asked)?;
        }
        Ok(())
    }

    /// Prepares the messages of an arrival, unless that has been done, and returns the index of its transaction.
    fn draft(&mut self, number: u64) -> io::Result<usize> {
        if self.next.number != Some(number) {
            let (transaction, mut rng) = self.draws.of_arrival(number);
            let values = &mut self.values[transaction];
            self.entries[transaction].sampler.draw(&mut rng, values);
            let request = &mut self.next.request;
            self.connections
                .requests()
                .write(transaction, values, request)?;
            (self.next.number, self.next.transaction) = (Some(number), transaction);
        }
        Ok(self.next.transaction)
    }

    /// Prepares the messages of the next arrival, unless arrivals are waiting for a connection.
    fn prepare_next(&mut self) -> io::Result<()> {
        if let Source::Open(backlog) = &self.source
            && self.waiting.is_empty()
            && let Some(arrival) = backlog.next()
        {
            self.draft(arrival.number)?;
        }
        Ok(())
    }

    /// Sends an arrival on a free connection; at least one must be free.
    fn send(&mut self, arrival: Arrival, asked: Stamp) -> io::Result<()> {
        let transaction = self.draft(arrival.number)?;
        self.next.number = None;
        let sent = clock::now();
        let attempt = Attempt {
            arrival,
            transaction,
            sent: Some((sent, sent.since(asked))),
        };
        self.counters.count_sent(arrival.measured);
        self.feed.sent();
        let lost = self
            .connections
            .start(attempt, asked, &mut self.next.request);
        if let Some(lost) = lost {
            self.count(lost);
        }
        Ok(())
    }

    fn count(&mut self, ended: Ended) {
        let attempt = ended.attempt;
        let counters = &mut self.counters;
        let commit = counters.end(&self.entries, &attempt, ended.ending, ended.at);
        if attempt.sent.is_some() {
            self.feed.ended(commit);
        }
    }

    /// Gives up transactions and waiting arrivals that have passed their deadline.
    fn expire(&mut self, now: Stamp) {
        let (lost, mut next) = self.connections.expire(now, self.deadline);
        for lost in lost {
            self.count(lost);
        }
        while let Some(Waiting { arrival, asked }) = self.waiting.front().copied() {
            if asked + self.deadline > now {
                next = next.min(asked + self.deadline);
                break;
            }
            self.waiting.pop_front();
            let refusal = self.connections.refusal().cloned();
            let attempt = Attempt {
                arrival,
                transaction: 0,
                sent: None,
            };
            let ending = refusal.map_or(Ending::Missed, |failure| {
                Ending::Uncommitted(Uncommitted::NoConnection, failure)
            });
            self.count(Ended {
                attempt,
                ending,
                at: now,
            });
        }
        self.expires = next;
    }

    /// Waits for the next answer, arrival or end of a second.
    fn wait(&mut self, now: Stamp, reopens: Option<Stamp>) -> io::Result<()> {
        let mut wake = self
            .counters
            .second_end()
            .min(now + MAX_SLEEP)
            .min(self.expires);
        let looks = self.looks.as_mut();
        let looks = looks.map(|it| it.looks.before_sleep(self.connections.poll(), clock::now()));
        for bound in [reopens, self.end, self.drain_deadline, looks] {
            // Instants that have passed were handled before this wait.
            wake = bound.filter(|it| *it > now).map_or(wake, |it| wake.min(it));
        }
        let poll = self.connections.poll();
        match &self.source {
            Source::Open(backlog)
                if self.drain_deadline.is_none() && backlog.waiting().all == 0 =>
            {
                match backlog.next_due() {
                    Some(due) if due <= wake => poll.wait_exactly(due),
                    _ => poll.wait(wake),
                }
            }
            _ => poll.wait(wake),
        }
    }
}
