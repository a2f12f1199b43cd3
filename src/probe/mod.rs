//! Watches replicas: visibility of every commit, lag, and the host. Knows nodes, a timeline, a feed, and which tables
//! transactions change; never at what rate load is offered, nor how.
//!
//! All probes share one thread, so that their cost can be told from the load's.

mod by_key;
mod host;
mod lag;
mod subscriber;
mod tracker;
mod visibility;

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::{LocalSet, spawn_local};

pub use host::HostShares;
pub use visibility::{Delay, VisibilitySecond};

use crate::clock::{self, Stamp, Timer};
use crate::escape::quote_ident;
use crate::mode::SyncLevel;
use crate::pg::{self, ConnectError, Endpoint};
use crate::plan::{Change, Plan, ProbePlan, Table, Transaction};
use crate::sample::{self, FeedReceiver, FeedSender, LagRow, Timeline};
use crate::topology::Node;
use crate::units::Lsn;
use lag::Sampler;
use visibility::{Poller, Watch};

const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// How often finished seconds of visibility are handed over.
const FLUSH: Duration = Duration::from_millis(200);
/// How often it is checked whether every commit has been seen, once it was told to finish.
const DRAIN_LOOK: Duration = Duration::from_millis(5);

/// A server to watch.
#[derive(Debug, Clone)]
pub struct Target {
    pub node: Node,
    pub endpoint: Endpoint,
}

/// A table whose rows carry commits, at the same index as in the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackedTable {
    /// Quoted, with its schema.
    pub name: String,
    /// Quoted; of an integer type, or uuid where a subscriber is watched.
    pub key: String,
    /// Quoted.
    pub version: Option<String>,
    /// Whether transactions end by inserting its rows.
    pub is_inserted: bool,
    /// Whether transactions end by updating or deleting its rows.
    pub is_changed: bool,
    /// Whether a statement of a transaction deletes its rows: only then may an inserted row be gone again.
    pub is_deleted: bool,
}

impl TrackedTable {
    /// Those of a plan.
    pub fn of(plan: &Plan) -> Vec<Self> {
        let deletes = |table| {
            let mut statements = plan.transactions.iter().flat_map(|it| &it.statements);
            statements.any(|it| it.change == Some((Change::Delete, table)))
        };
        let tracked = |(index, table): (usize, &Table)| {
            let last = plan.transactions.iter().filter(|it| it.table == index);
            let inserts = |it: &Transaction| it.change() == Change::Insert;
            Self {
                name: table.qualified(),
                key: quote_ident(&table.key),
                version: table.version.as_deref().map(quote_ident),
                is_inserted: last.clone().any(inserts),
                is_changed: !last.clone().all(inserts),
                is_deleted: deletes(index),
            }
        };
        plan.tables.iter().enumerate().map(tracked).collect()
    }
}

/// What to watch in one cell.
#[derive(Debug, Clone)]
pub struct Assignment {
    pub cell_id: u32,
    pub plan: ProbePlan,
    pub primary: Target,
    pub replicas: Vec<Target>,
    pub tables: Vec<TrackedTable>,
    /// What commits wait for: it tells from which position of the primary lag is a distance.
    pub level: SyncLevel,
}

/// What a probe has to say.
#[derive(Debug, Clone, PartialEq)]
pub enum Reading {
    Lag(LagSample),
    Visibility(VisibilitySecond),
    Host(HostSecond),
    /// A probe lost its server; it goes on trying.
    Trouble {
        node: String,
        at: Stamp,
        detail: String,
    },
}

/// One sample of all positions. A field is `None` when its server did not answer.
#[derive(Debug, Clone, PartialEq)]
pub struct LagSample {
    pub at: Stamp,
    pub rows: Vec<LagRow>,
    /// The primary's position in the write-ahead log, and when it had been read.
    pub position: Option<(Stamp, Lsn)>,
    pub syncrep_waiters: Option<i64>,
    pub primary_started_us: Option<i64>,
    /// Checkpoints of the primary since its statistics were reset.
    pub checkpoints: Option<i64>,
}

/// The host in one second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HostSecond {
    /// Seconds from the start of the measurement.
    pub index: i64,
    pub shares: Option<HostShares>,
    /// CPU time of the probe thread.
    pub probe_cpu: Duration,
}

/// Probes that could not be set up. A server lost later is a [`Reading::Trouble`].
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    #[error("a probe cannot connect: {0}")]
    Connect(#[from] ConnectError),
    #[error("a probe's query on `{node}` failed: {failure}")]
    Query { node: String, failure: pg::Failure },
    #[error("cannot run the probes' thread: {0}")]
    Thread(#[from] io::Error),
    #[error("the probes' thread ended early: {0}")]
    Ended(String),
}

impl ProbeError {
    fn query(target: &Target, error: &tokio_postgres::Error) -> Self {
        Self::Query {
            node: target.node.name.clone(),
            failure: pg::describe(error),
        }
    }
}

/// The probes of one cell, on a thread of their own.
#[derive(Debug)]
pub struct Probes {
    thread: JoinHandle<Result<(), ProbeError>>,
    readings: mpsc::UnboundedReceiver<Reading>,
    start: Option<oneshot::Sender<Timeline>>,
    finish: Option<oneshot::Sender<Stamp>>,
}

impl Probes {
    /// Connects everywhere. The feed takes what is in flight and every acknowledged commit; dropping all its clones tells that
    /// there are no more.
    pub async fn open(assignment: Assignment) -> Result<(Self, FeedSender), ProbeError> {
        let (feed, receiver) = sample::feed();
        let (sender, readings) = mpsc::unbounded_channel();
        let (finish, finishing) = oneshot::channel();
        let (start, starting) = oneshot::channel();
        let (ready, is_ready) = oneshot::channel();
        let control = Control {
            ready,
            starting,
            finishing,
        };
        let thread = std::thread::Builder::new()
            .name("probes".into())
            .spawn(move || watch(&assignment, receiver, &sender, control))?;
        let probes = Self {
            thread,
            readings,
            start: Some(start),
            finish: Some(finish),
        };
        // Dropped without an answer: the thread failed, and its end says why.
        if is_ready.await.is_err() {
            return Err(match probes.join() {
                Err(error) => error,
                Ok(()) => ProbeError::Ended("before it was ready".into()),
            });
        }
        Ok((probes, feed))
    }

    /// Lets the probes begin.
    pub fn start(&mut self, timeline: Timeline) {
        if let Some(start) = self.start.take() {
            // A thread that has ended is noticed when it is joined.
            let _ = start.send(timeline);
        }
    }

    /// The next reading; `None` when the probes have ended.
    pub async fn next(&mut self) -> Option<Reading> {
        self.readings.recv().await
    }

    /// Ends the probes: as soon as every commit has been seen everywhere, and at `deadline` in any case.
    /// The feed must have been dropped.
    pub fn finish(&mut self, deadline: Stamp) {
        if let Some(finish) = self.finish.take() {
            // A thread that has ended is noticed when it is joined.
            let _ = finish.send(deadline);
        }
    }

    /// Joins the thread. Call it when [`Probes::next`] has returned `None`.
    pub fn join(self) -> Result<(), ProbeError> {
        drop((self.start, self.finish, self.readings));
        self.thread
            .join()
            .map_err(|_| ProbeError::Ended("it panicked; please report this".into()))?
    }
}

/// What the conductor and the probes' thread tell each other.
struct Control {
    ready: oneshot::Sender<()>,
    starting: oneshot::Receiver<Timeline>,
    finishing: oneshot::Receiver<Stamp>,
}

fn watch(
    assignment: &Assignment,
    feed: FeedReceiver,
    readings: &mpsc::UnboundedSender<Reading>,
    control: Control,
) -> Result<(), ProbeError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    LocalSet::new().block_on(&runtime, async {
        let (sampler, pollers) = open_all(assignment).await?;
        if control.ready.send(()).is_err() {
            return Ok(());
        }
        // Whoever opened the probes may have given up before the start.
        let Ok(timeline) = control.starting.await else {
            return Ok(());
        };
        let watches = pollers.iter().map(|poller| poller.watch.clone());
        let mut tasks = ProbeTasks {
            timeline,
            commits: Rc::new(CommitFanOut {
                feed,
                watches: watches.collect(),
            }),
            tasks: Vec::new(),
            readings: readings.clone(),
        };
        tasks.begin(sampler, pollers);
        tasks.conduct(control.finishing).await?;
        tasks.end().await
    })
}

async fn open_all(assignment: &Assignment) -> Result<(Sampler, Vec<Poller>), ProbeError> {
    let sampler = Sampler::open(assignment).await?;
    let tables: Rc<[_]> = assignment.tables.clone().into();
    let mut pollers = Vec::new();
    if assignment.plan.visibility {
        for target in &assignment.replicas {
            let tick = assignment.plan.tick;
            pollers.push(Poller::open(target.clone(), tables.clone(), tick).await?);
        }
    }
    Ok((sampler, pollers))
}

/// What is going on, as the load tells it, and whom that concerns.
#[derive(Debug)]
struct CommitFanOut {
    feed: FeedReceiver,
    watches: Vec<Rc<RefCell<Watch>>>,
}

impl CommitFanOut {
    /// Brings all commits that have been told of to every node's watch.
    fn distribute(&self) {
        while let Some(commit) = self.feed.take() {
            for watch in &self.watches {
                watch.borrow_mut().commit(commit);
            }
        }
    }

    fn all_seen(&self) -> bool {
        let outstanding = |watch: &Rc<RefCell<Watch>>| watch.borrow().outstanding();
        self.feed.is_over() && self.watches.iter().all(|watch| outstanding(watch) == 0)
    }
}

/// Starts and ends the probes' tasks and hands finished seconds over.
struct ProbeTasks {
    timeline: Timeline,
    commits: Rc<CommitFanOut>,
    tasks: Vec<tokio::task::JoinHandle<io::Result<()>>>,
    readings: mpsc::UnboundedSender<Reading>,
}

impl ProbeTasks {
    fn begin(&mut self, sampler: Sampler, pollers: Vec<Poller>) {
        let (timeline, readings) = (self.timeline, &self.readings);
        self.tasks = vec![
            spawn_local(sampler.run(timeline, readings.clone())),
            spawn_local(watch_host(timeline, readings.clone())),
        ];
        for poller in pollers {
            poller.set_timeline(timeline);
            let running = poller.run(self.commits.clone(), readings.clone());
            self.tasks.push(spawn_local(running));
        }
    }

    /// Runs until all commits have been seen after being told to finish, or until the deadline that came with that.
    async fn conduct(&self, mut finishing: oneshot::Receiver<Stamp>) -> io::Result<()> {
        let mut timer = Timer::new()?;
        let mut flush_due = self.timeline.start;
        let mut deadline = None;
        loop {
            tokio::select! {
                // Asked to finish, or left alone: then at once.
                told = &mut finishing, if deadline.is_none() => {
                    deadline = Some(told.unwrap_or_default());
                }
                slept = timer.sleep_until(flush_due) => {
                    slept?;
                    let now = clock::now();
                    flush_due = now + FLUSH;
                    // Commits acknowledged at the end of a second may still be on their way here.
                    let settled = self.timeline.offset_ns(now - FLUSH);
                    self.hand_over(Some(settled.div_euclid(1_000_000_000)));
                }
            }
            let Some(deadline) = deadline else { continue };
            self.commits.distribute();
            if self.commits.all_seen() || clock::now() >= deadline {
                return Ok(());
            }
            // A commit that is seen does not wake this task, so it looks again soon.
            flush_due = flush_due.min(clock::now() + DRAIN_LOOK);
        }
    }

    /// Hands over the seconds before `before` that are complete, or all there are.
    fn hand_over(&self, before: Option<i64>) {
        for watch in &self.commits.watches {
            for second in watch.borrow_mut().take_seconds(before) {
                // The channel is closed only when the run is being abandoned.
                let _ = self.readings.send(Reading::Visibility(second));
            }
        }
    }

    async fn end(self) -> Result<(), ProbeError> {
        for task in &self.tasks {
            task.abort();
        }
        self.hand_over(None);
        for task in self.tasks {
            match task.await {
                Ok(ended) => ended?,
                Err(ended) if ended.is_cancelled() => {}
                Err(panicked) => return Err(ProbeError::Ended(panicked.to_string())),
            }
        }
        Ok(())
    }
}

async fn watch_host(
    timeline: Timeline,
    readings: mpsc::UnboundedSender<Reading>,
) -> io::Result<()> {
    let mut timer = Timer::new()?;
    timer.sleep_until(timeline.start).await?;
    let (mut times, mut cpu) = (host::read(), clock::thread_cpu());
    for index in timeline.first_second().. {
        timer.sleep_until(timeline.end_of_second(index)).await?;
        let (times_now, cpu_now) = (host::read(), clock::thread_cpu());
        let second = HostSecond {
            index,
            shares: times_now.zip(times).and_then(|(now, then)| now.since(then)),
            probe_cpu: cpu_now.saturating_sub(cpu),
        };
        if readings.send(Reading::Host(second)).is_err() {
            break;
        }
        (times, cpu) = (times_now, cpu_now);
    }
    Ok(())
}
