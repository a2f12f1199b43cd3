//! The load as an application makes it: tokio-postgres and a deadpool, with one task for each transaction in flight, all on one
//! current-thread runtime.
//!
//! Arrivals are dispatched when they are due, whether or not earlier ones have been answered. While `max_in_flight` arrivals are
//! unanswered, further ones wait in the backlog. Arrivals that still wait when the phase ends are sent during the drain.

mod connection;
mod transact;

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use deadpool::managed::Pool;
use tokio::sync::Notify;
use tokio::task::LocalSet;

use connection::{Connector, open_failure};
use transact::{SharedFeed, ThreadState};

use super::channels::Opened;
use super::channels::{MAX_SLEEP, ThreadChannels};
use super::counters::Draws;
use super::feed_buffer::FeedBuffer;
use super::orders::ThreadOrders;
use super::priority;
use super::share::{Arrival, Backlog};
use super::{LoadError, Stopper};
use crate::clock::{self, Stamp, Timer};
use crate::sample::Phase;

/// Connects, waits for the start, offers the load, drains. Returns when no transaction is in flight.
pub(super) fn run(orders: &ThreadOrders, mut channels: ThreadChannels) -> io::Result<()> {
    let feed = SharedFeed(Arc::new(Mutex::new(FeedBuffer::new(channels.feed.take()))));
    let at_rest = feed.clone();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .on_thread_park(move || at_rest.lock().tell())
        .build()?;
    LocalSet::new().block_on(&runtime, offer(orders, channels, feed))
}

/// Opens all connections before the first arrival, so that no arrival has to wait for a connection to open.
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
    feed: SharedFeed,
) -> io::Result<()> {
    let ThreadChannels { ready, start, .. } = channels;
    let connector = Connector {
        servers: channels.servers,
        scripts: orders.scripts(),
    };
    let connections = orders.connections();
    let pool = connection::pool(connector, connections);
    let opened = open_all(&pool, connections).await;
    let failed = opened.is_err();
    // If the caller has given up, the receiver is gone and no load is offered.
    let opened = opened.map(|()| Opened {
        early: None,
        priority: priority::take(orders.plan.priority),
    });
    if ready.send(opened).is_err() || failed {
        return Ok(());
    }
    let Ok(timeline) = start.await else {
        return Ok(());
    };
    let plan = &orders.plan;
    let counters = orders.counters(timeline, channels.seconds);
    let thread = Rc::new(ThreadState {
        pool,
        draws: Draws::of(orders),
        entries: orders.entries(),
        deadline: plan.load.transaction_deadline,
        feed,
        finished: Notify::new(),
        counters: RefCell::new(counters),
    });
    let mut dispatcher = Dispatcher {
        end: orders.end(timeline),
        thread,
        timer: Timer::new()?,
        stop: channels.stop,
    };
    dispatcher.timer.sleep_until(timeline.start).await?;
    let drain = plan.phases.drain;
    if let Some(mut backlog) = orders.backlog(timeline) {
        dispatcher.open_loop(&mut backlog).await?;
        dispatcher.drain(Some(&mut backlog), drain).await
    } else {
        dispatcher.closed_loop(orders).await?;
        dispatcher.drain(None, drain).await
    }
}

/// Dispatches the arrivals of a thread at their times.
struct Dispatcher {
    thread: Rc<ThreadState>,
    /// When the measurement phase ends; `None` if it ends after a number of arrivals.
    end: Option<Stamp>,
    timer: Timer,
    stop: Stopper,
}

impl Dispatcher {
    async fn open_loop(&mut self, backlog: &mut Backlog) -> io::Result<()> {
        let end = self.end;
        loop {
            let now = clock::now();
            let reached = end.map_or(now, |end| now.min(end));
            let second_end = {
                let mut counters = self.thread.counters.borrow_mut();
                counters.note_backlog();
                counters.pass_time(backlog, reached);
                counters.second_end()
            };
            self.dispatch_due(backlog);
            let is_over = match end {
                Some(end) => reached >= end,
                None => backlog.next_due().is_none(),
            };
            if is_over || self.stop.is_stopping() {
                self.thread.counters.borrow_mut().begin_drain(reached);
                return Ok(());
            }
            let held_up = backlog.waiting().all > 0;
            let wake = [end, backlog.next_due().filter(|_| !held_up)]
                .into_iter()
                .flatten()
                .fold(second_end.min(now + MAX_SLEEP), Stamp::min);
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

    /// Dispatches arrivals that are due, as far as `max_in_flight` permits.
    fn dispatch_due(&self, backlog: &mut Backlog) {
        loop {
            let dispatched = self.thread.counters.borrow_mut().dispatch(backlog);
            let Some((arrival, ready)) = dispatched else {
                break;
            };
            let thread = self.thread.clone();
            tokio::task::spawn_local(async move { thread.transact(arrival, Some(ready)).await });
        }
    }

    async fn closed_loop(&mut self, orders: &ThreadOrders) -> io::Result<()> {
        let numbers = Rc::new(RefCell::new(orders.numbers()));
        let budget = Rc::new(RefCell::new(orders.budget()));
        let end = self.end;
        for _ in 0..orders.connections() {
            let (thread, numbers, budget) = (self.thread.clone(), numbers.clone(), budget.clone());
            let stop = self.stop.clone();
            tokio::task::spawn_local(async move {
                loop {
                    let due = clock::now();
                    // The counters' phase decides, not the clock: while the counters are still in a second of the warm-up, no arrival is
                    // measured.
                    let measured = thread.counters.borrow().phase() != Phase::Warmup;
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
                    thread.counters.borrow_mut().offer(measured);
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
            let second_end = {
                let mut counters = self.thread.counters.borrow_mut();
                counters.close_seconds(reached);
                let spent = *budget.borrow() == 0 && counters.in_flight() == 0;
                if spent || end.is_some_and(|end| now >= end) || self.stop.is_stopping() {
                    counters.begin_drain(reached);
                    return Ok(());
                }
                counters.second_end()
            };
            let wake = second_end.min(now + MAX_SLEEP);
            let wake = end.map_or(wake, |end| wake.min(end));
            self.timer.sleep_until(wake).await?;
        }
    }

    /// Sends the arrivals that still wait, and waits at most `limit` for the last answers. Arrivals in flight after that are indeterminate
    /// if they were sent; arrivals that were not sent are missed.
    async fn drain(
        &mut self,
        mut backlog: Option<&mut Backlog>,
        limit: Duration,
    ) -> io::Result<()> {
        let deadline = clock::now() + limit;
        loop {
            let now = clock::now();
            self.thread.counters.borrow_mut().close_seconds(now);
            if let Some(backlog) = &mut backlog {
                self.dispatch_due(backlog);
            }
            let second_end = {
                let counters = self.thread.counters.borrow();
                if counters.is_idle() || now >= deadline || self.stop.is_aborting() {
                    break;
                }
                counters.second_end()
            };
            let wake = deadline.min(second_end).min(now + MAX_SLEEP);
            tokio::select! {
                () = self.thread.finished.notified() => {}
                slept = self.timer.sleep_until(wake) => slept?,
            }
        }
        self.thread.counters.borrow_mut().give_up();
        self.thread.pool.close();
        Ok(())
    }
}
