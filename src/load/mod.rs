//! Offers load. Knows a plan, a primary and its pools; never which server is a standby, nor what the probes see.

pub mod check;
mod feed_buffer;
mod pool;
mod share;
mod state;
mod stats;
mod texts;
mod thread;
pub mod values;
pub mod workload;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use values::Sampler;

pub use stats::{FailureCount, Outcomes, Second, Uncommitted};

use crate::pg::Endpoint;
use crate::plan::{Cell, Mix, Offered, Plan, Schedule, Transaction};
use crate::sample::{FeedSender, Phase, Timeline};

/// Connecting all pools may take so long.
const OPEN_DEADLINE: Duration = Duration::from_secs(30);

/// Load that could not be offered at all. A failed transaction is data and never one of these.
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

/// Load threads whose connections are open and which wait for the start.
#[derive(Debug)]
pub struct Load {
    threads: Vec<JoinHandle<io::Result<()>>>,
    starts: Vec<oneshot::Sender<Timeline>>,
    seconds: mpsc::UnboundedReceiver<(u64, Second)>,
    merger: ThreadMerger,
    tails: TailMerger,
    stop: Arc<AtomicU8>,
}

impl Load {
    /// Starts the threads of one cell and opens all their connections.
    ///
    /// `feed` is told of every transaction that is sent and of every acknowledged commit, of the warm-up too.
    pub async fn open(
        plan: &Plan,
        cell: &Cell,
        primary: &Endpoint,
        feed: Option<FeedSender>,
    ) -> Result<Self, LoadError> {
        let (sender, seconds) = mpsc::unbounded_channel();
        let stop = Arc::new(AtomicU8::new(0));
        let scripts: Arc<[_]> = plan
            .transactions
            .iter()
            .map(|transaction| script(plan, transaction))
            .collect();
        let count = plan.load.threads;
        let (mut threads, mut starts, mut opened) = (Vec::new(), Vec::new(), Vec::new());
        for index in 0..count {
            let connections = share(u32::from(plan.load.connections), count, index);
            let (ready, is_ready) = oneshot::channel();
            let (start, starting) = oneshot::channel();
            let orders = thread::ThreadOrders {
                index: u64::from(index),
                of: u64::from(count),
                pool: pool::pool(
                    pool::Connector {
                        endpoint: primary.clone(),
                        scripts: scripts.clone(),
                    },
                    connections as usize,
                ),
                connections: connections as usize,
                mix: Mix::new(&plan.transactions),
                entries: entries(plan),
                schedule: match plan.load.offered {
                    Offered::Open { rate, arrivals } => {
                        Some(Schedule::new(rate, arrivals, cell.seed))
                    }
                    Offered::Closed => None,
                },
                measure: plan.phases.measure,
                max_in_flight: share(plan.load.max_in_flight, count, index),
                deadline: plan.load.transaction_deadline,
                drain: plan.phases.drain,
                seed: cell.seed,
                feed: feed.clone(),
                seconds: sender.clone(),
                ready,
                start: starting,
                stop: Stopper(stop.clone()),
            };
            let thread = std::thread::Builder::new()
                .name(format!("load-{index}"))
                .spawn(move || thread::run(orders))
                .map_err(LoadError::Thread)?;
            threads.push(thread);
            starts.push(start);
            opened.push(is_ready);
        }
        let all_open = async {
            for is_ready in opened {
                is_ready
                    .await
                    .map_err(|_| LoadError::Ended("while connecting".into()))??;
            }
            Ok(())
        };
        tokio::time::timeout(OPEN_DEADLINE, all_open)
            .await
            .map_err(|_| LoadError::OpenTooSlow)??;
        Ok(Self {
            threads,
            starts,
            seconds,
            merger: ThreadMerger::new(u64::from(count)),
            tails: TailMerger::default(),
            stop,
        })
    }

    /// Lets the threads begin at `timeline.start`.
    pub fn start(&mut self, timeline: Timeline) {
        for start in self.starts.drain(..) {
            // A thread that has ended is noticed when it is joined.
            let _ = start.send(timeline);
        }
    }

    /// The next second that is complete in all threads; `None` when all have ended. A short rest at the end of a phase comes
    /// with the second before it.
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
        self.tails.held.take()
    }

    /// Ends the phase early: no further arrivals, then the drain.
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

    /// No drain either: what is in flight becomes indeterminate.
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

/// The `index`-th of `count` nearly equal parts of `total`, at least 1.
fn share(total: u32, count: u16, index: u16) -> u32 {
    let (count, index) = (u32::from(count), u32::from(index));
    (total / count + u32::from(index < total % count)).max(1)
}

fn script(plan: &Plan, transaction: &Transaction) -> pool::Script {
    let parameters = transaction
        .statements
        .iter()
        .map(|it| it.parameters.clone());
    pool::Script {
        statements: workload::statements(plan, transaction)
            .into_iter()
            .zip(parameters)
            .collect(),
    }
}

fn entries(plan: &Plan) -> Vec<state::Entry> {
    plan.transactions
        .iter()
        .map(|transaction| state::Entry {
            sampler: Sampler::new(plan, transaction),
            changes: transaction.statements.iter().map(|it| it.change).collect(),
            was_there: transaction
                .rows_chosen()
                .any(|(table, _)| table == transaction.table),
        })
        .collect()
}

/// Puts the seconds of several threads together, in order.
#[derive(Debug)]
struct ThreadMerger {
    /// The last key each thread has closed.
    closed: Vec<Option<(i64, bool)>>,
    waiting: BTreeMap<(i64, bool), Second>,
}

impl ThreadMerger {
    fn new(threads: u64) -> Self {
        Self {
            closed: (0..threads).map(|_| None).collect(),
            waiting: BTreeMap::new(),
        }
    }

    fn push(&mut self, thread: u64, second: Second) {
        let key = (second.index, second.phase == Phase::Drain);
        let thread = usize::try_from(thread).expect("an index into the threads");
        self.closed[thread] = Some(key);
        match self.waiting.get_mut(&key) {
            Some(merged) => merged.merge(&second),
            None => {
                self.waiting.insert(key, second);
            }
        }
    }

    /// The oldest second that no thread can add to any more.
    fn pop(&mut self) -> Option<Second> {
        let oldest = *self.waiting.keys().next()?;
        let complete = self
            .closed
            .iter()
            .all(|last| last.is_some_and(|last| last >= oldest));
        if complete { self.flush() } else { None }
    }

    fn flush(&mut self) -> Option<Second> {
        self.waiting.pop_first().map(|(_, second)| second)
    }
}

/// Holds each second back until the next one is there, to add that one to it if it is a short rest of the same phase: over a
/// few milliseconds a rate says nothing, and looks like an outage when nothing was answered in them.
#[derive(Debug, Default)]
struct TailMerger {
    held: Option<Second>,
}

impl TailMerger {
    /// What is shorter stands in no row of its own.
    const SHORTEST: Duration = Duration::from_millis(500);

    fn push(&mut self, next: Second) -> Option<Second> {
        match &mut self.held {
            Some(held) if held.phase == next.phase && next.length() < Self::SHORTEST => {
                held.append(&next);
                None
            }
            held => held.replace(next),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Stamp;

    #[test]
    fn a_second_is_whole_when_every_thread_has_closed_it() {
        let second = |index| {
            let mut second = Second::new(index, Phase::Measure, Stamp::default());
            second.all.acked = 1;
            second
        };
        let mut merger = ThreadMerger::new(2);
        merger.push(0, second(0));
        merger.push(0, second(1));
        assert!(merger.pop().is_none());
        merger.push(1, second(0));
        assert_eq!(merger.pop().map(|second| second.all.acked), Some(2));
        assert!(merger.pop().is_none());
        assert_eq!(merger.flush().map(|second| second.index), Some(1));
    }

    #[test]
    fn a_short_rest_of_a_phase_is_part_of_the_second_before_it() {
        let start = Stamp::from_nanos(5_000_000_000);
        let second = |phase, from_ms: u64, to_ms: u64| {
            let mut second = Second::new(0, phase, start + Duration::from_millis(from_ms));
            second.end = start + Duration::from_millis(to_ms);
            second.all.offered = to_ms - from_ms;
            second.backlog = to_ms;
            second
        };
        let mut tails = TailMerger::default();
        let seconds = [
            second(Phase::Measure, 0, 1_000),
            second(Phase::Measure, 1_000, 2_000),
            second(Phase::Measure, 2_000, 2_020),
            second(Phase::Drain, 2_020, 2_040),
        ];
        let mut passed: Vec<_> = seconds
            .into_iter()
            .filter_map(|it| tails.push(it))
            .collect();
        passed.extend(tails.held.take());
        let rows: Vec<_> = passed
            .iter()
            .map(|it| {
                (
                    it.phase,
                    it.all.offered,
                    it.length().as_millis(),
                    it.backlog,
                )
            })
            .collect();
        assert_eq!(
            rows,
            [
                (Phase::Measure, 1_000, 1_000, 1_000),
                (Phase::Measure, 1_020, 1_020, 2_020),
                (Phase::Drain, 20, 20, 2_040),
            ]
        );
    }

    #[test]
    fn shares_add_up() {
        let total: u32 = (0..3).map(|index| share(16, 3, index)).sum();
        assert_eq!(total, 16);
    }
}
