//! Offers load. Knows a plan, a primary and its pools; never which server is a standby, nor what the probes see.

mod channels;
pub mod check;
mod counters;
mod feed_buffer;
mod merge;
mod orders;
mod pool;
mod priority;
mod share;
mod stats;
mod texts;
pub mod values;
mod wire;
pub mod workload;

use std::io;
use std::iter;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use channels::ThreadChannels;
use merge::{TailMerger, ThreadMerger};

pub use orders::ThreadOrders;
pub use stats::{FailureCount, Failures, Outcomes, Second, Uncommitted};

use crate::pg::Endpoint;
use crate::plan::{Cell, Client, Plan, Priority};
use crate::sample::{FeedSender, LentLooks, Timeline};

/// The longest that opening the connections of all threads may take.
const OPEN_DEADLINE: Duration = Duration::from_secs(30);

/// Why load could not be offered at all. A failed transaction is data and never such an error.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("cannot open the load's connections: {0}")]
    Open(String),
    #[error("cannot start a load thread: {0}")]
    Thread(#[source] io::Error),
    #[error("the load's connections were not open within {} s; is the primary overloaded, or max_connections too small?", OPEN_DEADLINE.as_secs())]
    OpenTooSlow,
    #[error("a load thread ended early: {0}")]
    Ended(String),
}

/// How the probes, which watch the replicas, are told of transactions.
#[derive(Debug)]
pub struct Watched {
    pub feed: FeedSender,
    /// Looks at replicas that the first load thread makes besides its own work; only with [`Client::Wire`].
    pub looks: Option<LentLooks>,
}

/// Load threads whose connections are open and that wait for the start.
#[derive(Debug)]
pub struct Load {
    threads: Vec<JoinHandle<io::Result<()>>>,
    starts: Vec<oneshot::Sender<Timeline>>,
    seconds: mpsc::UnboundedReceiver<(u16, Second)>,
    merger: ThreadMerger,
    tails: TailMerger,
    timer_early: Option<Duration>,
    priority: Priority,
    stop: Arc<AtomicU8>,
}

impl Load {
    /// Starts the threads of one cell and opens all their connections.
    ///
    /// A connection that is lost is opened again, at the primary or at whichever of its `successors` accepts writes: all servers are asked,
    /// one after another, at longer and longer intervals. `watched` is told of every transaction that is sent and of every acknowledged
    /// commit, including those of the warm-up.
    pub async fn open(
        plan: &Plan,
        cell: &Cell,
        primary: Endpoint,
        successors: impl IntoIterator<Item = Endpoint>,
        watched: Option<Watched>,
    ) -> Result<Self, LoadError> {
        let (feed, mut looks) = match watched {
            Some(Watched { feed, looks }) => (Some(feed), looks),
            None => (None, None),
        };
        let servers: Arc<[_]> = iter::once(primary)
            .chain(successors)
            .map(Arc::new)
            .collect();
        let (sender, seconds) = mpsc::unbounded_channel();
        let stop = Arc::new(AtomicU8::new(0));
        let count = plan.load.threads;
        let (mut threads, mut starts, mut opened) = (Vec::new(), Vec::new(), Vec::new());
        for index in 0..count {
            let orders = ThreadOrders {
                plan: plan.clone(),
                cell: *cell,
                index,
            };
            let (ready, is_ready) = oneshot::channel();
            let (start, starting) = oneshot::channel();
            let channels = ThreadChannels {
                servers: servers.clone(),
                feed: feed.clone(),
                looks: looks.take(),
                seconds: sender.clone(),
                ready,
                start: starting,
                stop: Stopper(stop.clone()),
            };
            let thread = std::thread::Builder::new()
                .name(format!("load-{index}"))
                .spawn(move || match orders.plan.client {
                    Client::Wire => wire::run(&orders, channels),
                    Client::Pool => pool::run(&orders, channels),
                })
                .map_err(LoadError::Thread)?;
            threads.push(thread);
            starts.push(start);
            opened.push(is_ready);
        }
        let all_open = async {
            let (mut timer_early, mut priority) = (None, plan.priority);
            for is_ready in opened {
                let opened = is_ready.await;
                let opened = opened.map_err(|_| LoadError::Ended("while connecting".into()))??;
                timer_early = timer_early.max(opened.early);
                priority = priority.min(opened.priority);
            }
            Ok((timer_early, priority))
        };
        let (timer_early, priority) = tokio::time::timeout(OPEN_DEADLINE, all_open)
            .await
            .map_err(|_| LoadError::OpenTooSlow)??;
        Ok(Self {
            threads,
            starts,
            seconds,
            merger: ThreadMerger::new(count),
            tails: TailMerger::default(),
            timer_early,
            priority,
            stop,
        })
    }

    /// How long before an arrival the threads' waits end, at most, to make up for how late this machine wakes them. `None` for a client
    /// that does not make up for it.
    pub fn timer_early(&self) -> Option<Duration> {
        self.timer_early
    }

    /// The lowest priority among the threads: the plan's, or a lower one if that was not permitted.
    pub fn priority(&self) -> Priority {
        self.priority
    }

    /// Lets the threads begin at `timeline.start`.
    pub fn start(&mut self, timeline: Timeline) {
        for start in self.starts.drain(..) {
            // A thread that has ended is noticed when it is joined.
            let _ = start.send(timeline);
        }
    }

    /// The next second that is complete in all threads; `None` when all threads have ended. A short remainder at the end of a phase is part
    /// of the second before it.
    pub async fn next_second(&mut self) -> Option<Second> {
        loop {
            while let Some(second) = self.merger.pop() {
                if let Some(whole) = self.tails.push(second) {
                    return Some(whole);
                }
            }
            match self.seconds.recv().await {
                Some((thread, second)) => self.merger.push(thread, second),
                None => break,
            }
        }
        while let Some(second) = self.merger.flush() {
            if let Some(whole) = self.tails.push(second) {
                return Some(whole);
            }
        }
        self.tails.flush()
    }

    /// A handle that ends the phase early: no further arrivals, then the drain.
    pub fn stopper(&self) -> Stopper {
        Stopper(self.stop.clone())
    }

    /// Joins the threads. Call it when [`Load::next_second`] has returned `None`.
    pub fn join(self) -> Result<(), LoadError> {
        drop(self.starts);
        for thread in self.threads {
            let ended = thread
                .join()
                .map_err(|_| LoadError::Ended("it panicked; please report this".into()))?;
            ended.map_err(|error| LoadError::Ended(error.to_string()))?;
        }
        Ok(())
    }
}

/// Asks the load of a cell to end its phase.
#[derive(Debug, Clone)]
pub struct Stopper(Arc<AtomicU8>);

impl Stopper {
    /// No further arrivals; the drain follows.
    pub fn stop(&self) {
        self.0.fetch_max(1, Ordering::Relaxed);
    }

    /// Skips the drain too: transactions in flight become indeterminate.
    pub fn abort(&self) {
        self.0.store(2, Ordering::Relaxed);
    }

    fn is_stopping(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= 1
    }

    fn is_aborting(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= 2
    }
}
