//! Measures when each commit becomes visible on the replicas, samples their lag, and watches the host. Knows nodes, a timeline, a feed of
//! commits, and which tables transactions change; knows neither the rate of the load nor how it is offered.
//!
//! One thread samples lag and the host. A look is a query that asks a replica which commits it shows. A thread of the load makes the looks
//! if it can ([`Assignment::is_lent`]); otherwise a separate thread makes them.

mod by_key;
mod by_row;
mod by_transaction;
mod cadence;
mod host;
mod lag;
mod looks;
mod observer;
mod push;
mod question;
mod subscriber;
mod tracker;
mod visibility;

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{LocalSet, spawn_local};

pub use host::HostShares;
pub use visibility::{Delay, VisibilitySecond};

use crate::clock::{self, Stamp, Timer};
use crate::escape::quote_ident;
use crate::mode::SyncLevel;
use crate::pg::{self, ConnectError, Endpoint};
use crate::plan::{Change, Client, Plan, ProbePlan, Table, Transaction, VisibilityMethod};
use crate::sample::{self, FeedReceiver, FeedSender, Fork, LagRow, LentLooks, Looks, Timeline};
use crate::topology::Node;
use crate::units::Lsn;
use lag::Sampler;
use looks::{Finish, ReplicaLooks};

const CONNECT_DEADLINE: Duration = Duration::from_secs(5);

/// A server to watch.
#[derive(Debug, Clone)]
pub struct Target {
    pub node: Node,
    pub endpoint: Endpoint,
}

/// A table by whose rows commits are recognised, at the same index as in the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackedTable {
    /// The table's name, quoted and qualified with its schema.
    pub name: String,
    /// Name of the key column, quoted. Where a subscriber is watched, the column's type is an integer type or uuid.
    pub key: String,
    /// Name of the version column, quoted; `None` if the table has none.
    pub version: Option<String>,
    /// Whether any transaction's last statement inserts a row into this table.
    pub is_inserted: bool,
    /// Whether any transaction's last statement updates or deletes a row of this table.
    pub is_changed: bool,
    /// Whether any statement of a transaction deletes rows of this table. Only then may an inserted row be missing again later.
    pub is_deleted: bool,
}

impl TrackedTable {
    /// The tables of a plan, in the plan's order.
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
    /// What a commit waits for. It decides whether lag is measured from the position that the primary has written or has inserted into the
    /// WAL.
    pub level: SyncLevel,
    /// Whether a thread of the load makes the looks; see [`Probes::open`].
    pub lends_looks: bool,
}

impl Assignment {
    /// Whether a thread of the load makes the looks: the plan's client must be able to, and its method must need few looks.
    pub fn is_lent(plan: &Plan) -> bool {
        let probes = plan.probes;
        plan.client == Client::Wire && probes.visibility && probes.method == VisibilityMethod::Push
    }
}

/// What a probe reports.
#[derive(Debug, Clone, PartialEq)]
pub enum Reading {
    Lag(LagSample),
    Visibility(VisibilitySecond),
    /// A number of looks at a standby saw less than an earlier look there.
    Backwards {
        node: String,
        at: Stamp,
        looks: u64,
    },
    Host(HostSecond),
    /// A probe lost the connection to its server, and goes on trying to connect.
    Trouble {
        node: String,
        detail: String,
    },
}

/// One sample of all WAL positions. A field is `None` if the server that it comes from did not answer.
#[derive(Debug, Clone, PartialEq)]
pub struct LagSample {
    pub at: Stamp,
    pub rows: Vec<LagRow>,
    /// The primary's WAL position, and when the answer with the position had come.
    pub position: Option<(Stamp, Lsn)>,
    pub syncrep_waiters: Option<i64>,
    pub primary_started_us: Option<i64>,
    /// Checkpoints of the primary since its statistics were reset.
    pub checkpoints: Option<i64>,
}

/// How busy the host was in one second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HostSecond {
    /// Seconds from the start of the measurement.
    pub index: i64,
    pub shares: Option<HostShares>,
    /// CPU time of the probes' threads.
    pub probe_cpu: Duration,
}

/// Why the probes could not be set up, or why one of their threads failed. A server that is lost later is a [`Reading::Trouble`] instead.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    #[error("a probe cannot connect: {0}")]
    Connect(#[from] ConnectError),
    #[error("a probe cannot connect: {0}")]
    Refused(String),
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

/// The probes of one cell, on threads of their own.
#[derive(Debug)]
pub struct Probes {
    samplers: JoinHandle<Result<(), ProbeError>>,
    looks: JoinHandle<io::Result<()>>,
    readings: mpsc::UnboundedReceiver<Reading>,
    start: Option<oneshot::Sender<Timeline>>,
    /// The looks, if no thread of the load has borrowed them: [`Probes::start`] hands them to the probes' own thread.
    unlent: Option<LentLooks>,
    finish: Arc<Finish>,
    moved: watch::Sender<Option<Moved>>,
}

/// Tells the probes that another server is the primary.
#[derive(Debug)]
pub struct Follower {
    feed: FeedSender,
    moved: watch::Sender<Option<Moved>>,
}

/// The servers whose lag is sampled after a failover.
#[derive(Debug, Clone)]
struct Moved {
    primary: Target,
    replicas: Vec<Target>,
}

impl Follower {
    /// Reports a failover. Looks go on at the same nodes as before; lag is sampled at `primary` and `replicas` from here on.
    pub fn follow(&self, fork: Fork, primary: Target, replicas: Vec<Target>) {
        self.feed.fork(fork);
        self.sample(primary, replicas);
    }

    /// Samples lag at other servers from here on.
    pub fn sample(&self, primary: Target, replicas: Vec<Target>) {
        self.moved.send_replace(Some(Moved { primary, replicas }));
    }
}

impl Probes {
    /// A handle for the code that changes the primary. The handle contains a clone of the feed, so it must be dropped when there are no
    /// more commits.
    pub fn follower(&self, feed: &FeedSender) -> Follower {
        Follower {
            feed: feed.clone(),
            moved: self.moved.clone(),
        }
    }

    /// Connects to all servers. The feed takes the transactions in flight and every acknowledged commit; dropping all clones of the feed
    /// says that there are no more commits. The looks are returned if the assignment lends them: the borrower makes them until it gives
    /// them back.
    pub async fn open(
        assignment: Assignment,
    ) -> Result<(Self, FeedSender, Option<LentLooks>), ProbeError> {
        let (feed, receiver) = sample::feed()?;
        let (sender, readings) = mpsc::unbounded_channel();
        let (end, looks_ended) = oneshot::channel::<()>();
        let (start, starting) = oneshot::channel();
        let (ready, is_ready) = oneshot::channel();
        let (moved, following) = watch::channel(None);
        let finish = Arc::<Finish>::default();
        let lends = assignment.lends_looks;
        let control = Control {
            ready,
            starting,
            finish: finish.clone(),
            looks_ended,
            following,
        };
        let samplers = std::thread::Builder::new()
            .name("samplers".into())
            .spawn(move || sample_all(&assignment, receiver, &sender, control))?;
        // The sender was dropped without a message: the thread failed, and joining it gives the reason.
        let Ok(looks) = is_ready.await else {
            return Err(match ended(samplers) {
                Err(error) => error,
                Ok(()) => ProbeError::Ended("before it was ready".into()),
            });
        };
        let (give_back, given_back) = oneshot::channel();
        let looks = LentLooks { looks, give_back };
        let (lent, unlent) = if lends {
            (Some(looks), None)
        } else {
            (None, Some(looks))
        };
        let told = finish.clone();
        let looks = std::thread::Builder::new()
            .name("looks".into())
            .spawn(move || {
                let _end = end;
                match given_back.blocking_recv() {
                    Ok(mut looks) => looks::run(looks.as_mut(), &told),
                    // The thread of the load that had borrowed the looks failed, and reports that itself; or the caller gave up before the
                    // start.
                    Err(_) => Ok(()),
                }
            })?;
        let probes = Self {
            samplers,
            looks,
            readings,
            start: Some(start),
            unlent,
            finish,
            moved,
        };
        Ok((probes, feed, lent))
    }

    /// Lets the probes begin.
    pub fn start(&mut self, timeline: Timeline) {
        // A thread that has ended is noticed when it is joined.
        if let Some(start) = self.start.take() {
            let _ = start.send(timeline);
        }
        if let Some(mut unlent) = self.unlent.take() {
            unlent.looks.set_timeline(timeline);
            let _ = unlent.give_back.send(unlent.looks);
        }
    }

    /// The next reading; `None` when the probes have ended.
    pub async fn next(&mut self) -> Option<Reading> {
        self.readings.recv().await
    }

    /// Ends the probes as soon as every commit has been seen on every replica, and at `deadline` in any case. The feed must have been
    /// dropped, and lent looks must have been given back.
    pub fn finish(&self, deadline: Stamp) {
        self.finish.tell(deadline);
    }

    /// Joins the threads. Call it when [`Probes::next`] has returned `None`.
    pub fn join(self) -> Result<(), ProbeError> {
        drop((self.start, self.unlent, self.readings));
        ended(self.samplers)?;
        Ok(self.looks.join().map_err(|_| panicked())??)
    }
}

fn ended(thread: JoinHandle<Result<(), ProbeError>>) -> Result<(), ProbeError> {
    thread.join().map_err(|_| panicked())?
}

fn panicked() -> ProbeError {
    ProbeError::Ended("it panicked; please report this".into())
}

/// The channels between the conductor and the samplers' thread.
struct Control {
    ready: oneshot::Sender<Box<dyn Looks>>,
    starting: oneshot::Receiver<Timeline>,
    finish: Arc<Finish>,
    /// The sender is dropped after the last look.
    looks_ended: oneshot::Receiver<()>,
    following: watch::Receiver<Option<Moved>>,
}

/// Opens all probes, hands over the looks, and samples lag and the host until the last look has been made.
fn sample_all(
    assignment: &Assignment,
    feed: FeedReceiver,
    readings: &mpsc::UnboundedSender<Reading>,
    control: Control,
) -> Result<(), ProbeError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    LocalSet::new().block_on(&runtime, async {
        let sampler = Sampler::open(assignment, readings.clone()).await?;
        let looks = ReplicaLooks::open(assignment, feed, readings).await?;
        if control.ready.send(Box::new(looks)).is_err() {
            return Ok(());
        }
        // The caller that opened the probes may have given up before the start.
        let Ok(timeline) = control.starting.await else {
            return Ok(());
        };
        let mut tasks = [
            spawn_local(sampler.run(timeline, control.following)),
            spawn_local(watch_host(
                timeline,
                readings.clone(),
                control.finish.clone(),
            )),
        ];
        // The sender is dropped without sending anything, so an error is the normal end.
        let _ = control.looks_ended.await;
        for task in &tasks {
            task.abort();
        }
        for task in &mut tasks {
            match task.await {
                Ok(ended) => ended?,
                Err(ended) if ended.is_cancelled() => {}
                Err(panicked) => return Err(ProbeError::Ended(panicked.to_string())),
            }
        }
        Ok(())
    })
}

async fn watch_host(
    timeline: Timeline,
    readings: mpsc::UnboundedSender<Reading>,
    finish: Arc<Finish>,
) -> io::Result<()> {
    let mut timer = Timer::new()?;
    timer.sleep_until(timeline.start).await?;
    let cpu_now = || clock::thread_cpu() + finish.cpu();
    let (mut times, mut cpu) = (host::read(), cpu_now());
    for index in timeline.first_second().. {
        timer.sleep_until(timeline.end_of_second(index)).await?;
        let (times_now, cpu_now) = (host::read(), cpu_now());
        let second = HostSecond {
            index,
            shares: host::shares(times.as_ref(), times_now.as_ref()),
            probe_cpu: cpu_now.saturating_sub(cpu),
        };
        if readings.send(Reading::Host(second)).is_err() {
            break;
        }
        (times, cpu) = (times_now, cpu_now);
    }
    Ok(())
}
