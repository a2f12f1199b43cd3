//! Begins the faults of a cell when they are due, and undoes each of them, however the cell ends.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::sync::{Mutex, watch};

use crate::clock::{self, Stamp};
use crate::cluster::{
    Cluster, ClusterError, Condition, Conflict, LongQuery, PausedReplay, Promotion, RecoveryPoint,
    Rejoined, RunningNode, StoppedProcess,
};
use crate::pg::Failure;
use crate::plan::{Fault, FaultKind, Slowness};
use crate::probe::{Follower, Target};
use crate::sample::{Fork, Timeline};
use crate::units::Lsn;

/// The faults of a cell.
pub(super) struct Script<'a> {
    cluster: &'a Cluster,
    faults: &'a [Fault],
    timeline: Timeline,
    /// The follower that is told of a new primary; `None` once the load has ended, and if no fault changes the primary.
    follower: RefCell<Option<Follower>>,
    promotion: RefCell<Option<Promotion>>,
    /// Nodes that were made replicas again, by index into `faults`.
    rejoined: RefCell<BTreeMap<usize, Rejoined>>,
    /// Points in time to which the primary is to be restored.
    points: RefCell<Vec<RecoveryPoint>>,
    /// Faults that have begun and have not been undone, by index into `faults`.
    active: RefCell<BTreeMap<usize, FaultGuard>>,
    events: RefCell<Vec<FaultEvent>>,
    /// Held while a fault is begun, so that faults begin one after the other.
    begins: Mutex<()>,
    ended: watch::Sender<bool>,
}

/// What keeps a fault in effect; ending or dropping it undoes the fault.
#[derive(Default)]
enum FaultGuard {
    /// The fault stays in effect until a statement or a command undoes it.
    #[default]
    Unguarded,
    PausedReplay(Box<PausedReplay>),
    LongQuery(LongQuery),
    Processes(Vec<StoppedProcess>),
}

/// What happened to a fault, and when.
#[derive(Debug, Clone)]
pub(super) struct FaultEvent {
    pub(super) fault: Fault,
    pub(super) what: Happened,
    pub(super) at: Stamp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Happened {
    /// The fault is about to begin.
    Began,
    /// The server of the fault's node has ended.
    Killed,
    /// Another node has become the primary: its name, and the position up to which it had the old primary's WAL.
    Promoted(String, Option<Lsn>),
    /// The standby has cancelled the long query itself, for this reason.
    QueryCancelled(Failure),
    /// The fault has been undone.
    Ended,
}

impl<'a> Script<'a> {
    pub(super) fn new(
        cluster: &'a Cluster,
        faults: &'a [Fault],
        timeline: Timeline,
        follower: Option<Follower>,
    ) -> Self {
        Self {
            cluster,
            faults,
            timeline,
            follower: RefCell::new(follower),
            promotion: RefCell::default(),
            rejoined: RefCell::default(),
            points: RefCell::default(),
            active: RefCell::default(),
            events: RefCell::default(),
            begins: Mutex::new(()),
            ended: watch::Sender::new(false),
        }
    }

    /// Begins every fault at its time, one after the other, and undoes each at its time, however long the others take. Returns when all
    /// have been undone.
    pub(super) async fn play(&self) -> Result<(), ClusterError> {
        try_join_all((0..self.faults.len()).map(|index| self.act(index))).await?;
        Ok(())
    }

    async fn act(&self, index: usize) -> Result<(), ClusterError> {
        let fault = &self.faults[index];
        if !self.ends_before(fault.at).await {
            {
                // Faults begin in their order: a later one may end the server that an earlier one sends statements to.
                let _turn = self.begins.lock().await;
                self.begin(index).await?;
            }
            self.ends_before(fault.end()).await;
            self.undo(index).await?;
        }
        Ok(())
    }

    /// Waits until `after` has passed since the start of the measurement phase; true if [`Script::end`] came first.
    async fn ends_before(&self, after: Duration) -> bool {
        let due = self.timeline.measure_from + after;
        let mut ended = self.ended.subscribe();
        tokio::select! {
            biased;
            _ = ended.wait_for(|ended| *ended) => true,
            () = tokio::time::sleep(due.since(clock::now())) => false,
        }
    }

    /// Ends the faults: no further fault begins, and active ones are undone now.
    pub(super) fn end(&self) {
        self.ended.send_replace(true);
    }

    /// Drops the follower and its clone of the feed. The load has ended, so no more commits come.
    pub(super) fn release_follower(&self) {
        self.follower.take();
    }

    /// The current nodes, the primary first.
    pub(super) fn nodes(&self) -> Vec<RunningNode> {
        let Some(promotion) = &*self.promotion.borrow() else {
            return self.cluster.nodes().to_vec();
        };
        let back = self.replaced().and_then(|(_, back)| back);
        promotion.nodes.iter().cloned().chain(back).collect()
    }

    /// How nodes became replicas again, each with its fault.
    pub(super) fn rejoined(&self) -> Vec<(&'a Fault, Rejoined)> {
        let rejoined = self.rejoined.borrow();
        let with_fault =
            |(index, rejoined): (&usize, &Rejoined)| (&self.faults[*index], rejoined.clone());
        rejoined.iter().map(with_fault).collect()
    }

    /// The points in time to which the primary is to be restored.
    pub(super) fn recovery_points(&self) -> Vec<RecoveryPoint> {
        self.points.borrow().clone()
    }

    /// The node that was the primary before a failover, and its current state if it is a replica again. `None` if no other node has become
    /// the primary.
    pub(super) fn replaced(&self) -> Option<(&str, Option<RunningNode>)> {
        self.promotion.borrow().as_ref()?;
        let old = self.cluster.primary().node.name.as_str();
        let rejoined = self.rejoined.borrow();
        let back = rejoined.values().find(|it| it.node.node.name == old);
        Some((old, back.map(|it| it.node.clone())))
    }

    /// Undoes the faults that [`Script::play`] has not undone, because it failed or was dropped.
    pub(super) async fn undo_all(&self) -> Result<(), ClusterError> {
        let active: Vec<usize> = self.active.borrow().keys().copied().collect();
        let mut outcome = Ok(());
        for index in active {
            // If undoing one fault fails, the other faults are undone even so.
            outcome = outcome.and(self.undo(index).await);
        }
        outcome
    }

    async fn begin(&self, index: usize) -> Result<(), ClusterError> {
        let fault = &self.faults[index];
        self.tell(fault, Happened::Began);
        // The fault counts as active even if the attempt to begin it fails, so that it is undone.
        self.active
            .borrow_mut()
            .insert(index, FaultGuard::default());
        let guard = self.make(fault).await?;
        self.active.borrow_mut().insert(index, guard);
        Ok(())
    }

    async fn make(&self, fault: &Fault) -> Result<FaultGuard, ClusterError> {
        match fault.kind {
            FaultKind::PauseReplay => {
                let pause = self.cluster.pause_replay(&fault.target, fault.length);
                return Ok(FaultGuard::PausedReplay(Box::new(pause.await?)));
            }
            FaultKind::PauseSending => {
                let stopped = self.cluster.pause_sending(&fault.target).await?;
                return Ok(FaultGuard::Processes(vec![stopped]));
            }
            FaultKind::Partition | FaultKind::SlowNetwork => {
                let Slowness {
                    delay,
                    jitter,
                    bandwidth,
                } = fault.slowness;
                let worse = Condition {
                    is_cut: fault.kind == FaultKind::Partition,
                    delay,
                    jitter,
                    bandwidth,
                };
                self.cluster.set_network(&fault.target, worse).await?;
            }
            FaultKind::FrozenStandby => {
                let stopped = self.cluster.freeze(&fault.target).await?;
                return Ok(FaultGuard::Processes(stopped));
            }
            FaultKind::StandbyCrash | FaultKind::PrimaryCrash => {
                self.cluster.kill(&fault.target).await?;
                self.tell(fault, Happened::Killed);
            }
            FaultKind::LongQuery => {
                let query = self.cluster.begin_long_query(&fault.target, fault.length);
                return Ok(FaultGuard::LongQuery(query.await?));
            }
            FaultKind::SlotLoss => self.cluster.lose_slot(&fault.target).await?,
            FaultKind::ApplyError => self.cluster.refuse_rows(&fault.target, true).await?,
            FaultKind::Failover | FaultKind::Switchover => self.fail_over(fault).await?,
            FaultKind::Pitr => {
                let point = self.cluster.take_recovery_point().await?;
                self.points.borrow_mut().push(point);
            }
        }
        Ok(FaultGuard::Unguarded)
    }

    async fn fail_over(&self, fault: &Fault) -> Result<(), ClusterError> {
        if fault.kind == FaultKind::Switchover {
            self.cluster.shut_down(&fault.target).await?;
        } else {
            self.cluster.kill(&fault.target).await?;
        }
        self.tell(fault, Happened::Killed);
        let promotion = self.cluster.fail_over().await?;
        let (primary, replicas) = promotion.nodes.split_first().expect("the new primary");
        if let Some(follower) = &*self.follower.borrow() {
            let fork = Fork {
                next_xid: promotion.next_xid,
                promoted: primary.node.name.clone(),
            };
            follower.follow(fork, target(primary), replicas.iter().map(target).collect());
        }
        let promoted = Happened::Promoted(primary.node.name.clone(), promotion.parted);
        self.tell(fault, promoted);
        self.promotion.replace(Some(promotion.clone()));
        self.cluster.follow(&promotion).await
    }

    /// Makes the killed primary a standby of the new one; false if it stays stopped.
    async fn rejoin(&self, index: usize) -> Result<bool, ClusterError> {
        let Some(promotion) = self.promotion.borrow().clone() else {
            // The failover failed, and the servers are not used any more.
            return Ok(true);
        };
        let Some(rejoined) = self.cluster.rejoin(&promotion).await? else {
            return Ok(false);
        };
        self.rejoined.borrow_mut().insert(index, rejoined);
        let nodes = self.nodes();
        let (primary, replicas) = nodes.split_first().expect("the new primary");
        if let Some(follower) = &*self.follower.borrow() {
            follower.sample(target(primary), replicas.iter().map(target).collect());
        }
        Ok(true)
    }

    async fn undo(&self, index: usize) -> Result<(), ClusterError> {
        let fault = &self.faults[index];
        let mut is_undone = true;
        // The fault stays active until all of it has been undone.
        let guard = self
            .active
            .borrow_mut()
            .insert(index, FaultGuard::default());
        match guard.unwrap_or_default() {
            FaultGuard::Unguarded => {}
            FaultGuard::PausedReplay(paused) => paused.end().await?,
            FaultGuard::LongQuery(query) => {
                if let Some(Conflict { at, failure }) = query.end().await? {
                    self.tell_at(at, fault, Happened::QueryCancelled(failure));
                }
            }
            FaultGuard::Processes(stopped) => drop(stopped),
        }
        match fault.kind {
            FaultKind::PauseReplay
            | FaultKind::PauseSending
            | FaultKind::LongQuery
            | FaultKind::Pitr => {}
            FaultKind::Partition | FaultKind::SlowNetwork => {
                self.cluster
                    .set_network(&fault.target, Condition::default())
                    .await?;
            }
            FaultKind::FrozenStandby => self.cluster.unfreeze(&fault.target).await?,
            FaultKind::StandbyCrash | FaultKind::PrimaryCrash => {
                self.cluster.restart(&fault.target).await?;
            }
            FaultKind::SlotLoss => {
                let anew = self.cluster.make_anew(&fault.target).await?;
                self.rejoined.borrow_mut().insert(index, anew);
            }
            FaultKind::ApplyError => self.cluster.refuse_rows(&fault.target, false).await?,
            FaultKind::Failover | FaultKind::Switchover => is_undone = self.rejoin(index).await?,
        }
        self.active.borrow_mut().remove(&index);
        if is_undone {
            self.tell(fault, Happened::Ended);
        }
        Ok(())
    }

    /// The events since the last call.
    pub(super) fn take_events(&self) -> Vec<FaultEvent> {
        self.events.take()
    }

    fn tell(&self, fault: &Fault, what: Happened) {
        self.tell_at(clock::now(), fault, what);
    }

    fn tell_at(&self, at: Stamp, fault: &Fault, what: Happened) {
        self.events.borrow_mut().push(FaultEvent {
            fault: fault.clone(),
            what,
            at,
        });
    }
}

/// What the probes are told about a node.
pub(super) fn target(node: &RunningNode) -> Target {
    Target {
        node: node.node.clone(),
        endpoint: node.endpoint.clone(),
    }
}
