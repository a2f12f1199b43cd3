//! Makes the faults of a cell happen when they are due, and undoes each of them, whatever ends the cell.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};

use crate::clock::{self, Stamp};
use crate::cluster::{
    Cluster, ClusterError, Condition, Promotion, Rejoined, RunningNode, StoppedProcess,
};
use crate::pg::Endpoint;
use crate::plan::{Fault, FaultKind, Slowness};
use crate::probe::{Follower, Target};
use crate::sample::{Fork, Timeline};

/// The faults of a cell.
pub(super) struct Script<'a> {
    cluster: &'a Cluster,
    faults: &'a [Fault],
    timeline: Timeline,
    /// To where the load connects.
    primary: watch::Sender<Arc<Endpoint>>,
    /// Who is told of a new primary, as long as the load runs.
    follower: RefCell<Option<Follower>>,
    promotion: RefCell<Option<Promotion>>,
    rejoined: RefCell<Option<Rejoined>>,
    /// Indices of those that have begun and are not undone.
    active: RefCell<BTreeSet<usize>>,
    /// Processes that are stopped, by the index of the fault.
    stopped: RefCell<BTreeMap<usize, Vec<StoppedProcess>>>,
    events: RefCell<Vec<FaultEvent>>,
    ended_early: Notify,
}

/// A fault is about to begin, or has been undone.
#[derive(Debug, Clone)]
pub(super) struct FaultEvent {
    pub(super) fault: Fault,
    pub(super) what: Happened,
    pub(super) at: Stamp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Happened {
    /// It is about to.
    Began,
    /// The node's server has ended.
    Killed,
    /// Another node is the primary.
    Promoted(String),
    /// It has been undone.
    Ended,
}

impl<'a> Script<'a> {
    pub(super) fn new(
        cluster: &'a Cluster,
        faults: &'a [Fault],
        timeline: Timeline,
        primary: watch::Sender<Arc<Endpoint>>,
        follower: Option<Follower>,
    ) -> Self {
        Self {
            cluster,
            faults,
            timeline,
            primary,
            follower: RefCell::new(follower),
            promotion: RefCell::default(),
            rejoined: RefCell::default(),
            active: RefCell::default(),
            stopped: RefCell::default(),
            events: RefCell::default(),
            ended_early: Notify::new(),
        }
    }

    /// Begins and undoes every fault at its time; returns when all are undone.
    pub(super) async fn play(&self) -> Result<(), ClusterError> {
        let begins = self.faults.iter().enumerate();
        let begins = begins.map(|(index, fault)| (fault.at, false, index));
        let ends = self.faults.iter().enumerate();
        let ends = ends.map(|(index, fault)| (fault.end(), true, index));
        let mut steps: Vec<(Duration, bool, usize)> = begins.chain(ends).collect();
        steps.sort_unstable();
        for (after, is_end, index) in steps {
            let due = self.timeline.measure_from + after;
            tokio::select! {
                () = tokio::time::sleep(due.since(clock::now())) => {}
                () = self.ended_early.notified() => break,
            }
            if is_end {
                self.undo(index).await?;
            } else {
                self.begin(index).await?;
            }
        }
        self.undo_all().await
    }

    /// No further fault is to begin, and those that have begun are to be undone now.
    pub(super) fn end(&self) {
        self.ended_early.notify_one();
    }

    /// The load has ended: no commit comes any more.
    pub(super) fn let_go(&self) {
        self.follower.take();
    }

    /// The nodes as they are now: the primary first.
    pub(super) fn nodes(&self) -> Vec<RunningNode> {
        let Some(promotion) = &*self.promotion.borrow() else {
            return self.cluster.nodes().to_vec();
        };
        let rejoined = self.rejoined.borrow();
        let rejoined = rejoined.iter().map(|it| it.node.clone());
        promotion.nodes.iter().cloned().chain(rejoined).collect()
    }

    /// How the node that had failed became a replica again.
    pub(super) fn rejoined(&self) -> Option<Rejoined> {
        self.rejoined.borrow().clone()
    }

    /// Undoes what [`Script::play`] has left undone, because it failed or was dropped.
    pub(super) async fn undo_all(&self) -> Result<(), ClusterError> {
        let active = self.active.borrow().clone();
        let mut outcome = Ok(());
        for index in active {
            // The others are undone even so.
            outcome = outcome.and(self.undo(index).await);
        }
        outcome
    }

    async fn begin(&self, index: usize) -> Result<(), ClusterError> {
        let fault = &self.faults[index];
        self.tell(fault, Happened::Began);
        // Whatever becomes of the attempt, it is undone.
        self.active.borrow_mut().insert(index);
        match fault.kind {
            FaultKind::PauseReplay => self.cluster.pause_replay(&fault.target, true).await?,
            FaultKind::PauseSending => {
                let stopped = self.cluster.pause_sending(&fault.target).await?;
                self.stopped.borrow_mut().insert(index, vec![stopped]);
            }
            FaultKind::Partition => {
                let cut = Condition {
                    is_cut: true,
                    ..Condition::default()
                };
                self.cluster.set_network(&fault.target, cut)?;
            }
            FaultKind::SlowNetwork => {
                let Slowness {
                    delay,
                    jitter,
                    bandwidth,
                } = fault.slowness;
                let slow = Condition {
                    is_cut: false,
                    delay,
                    jitter,
                    bandwidth,
                };
                self.cluster.set_network(&fault.target, slow)?;
            }
            FaultKind::FrozenStandby => {
                let stopped = self.cluster.freeze(&fault.target)?;
                self.stopped.borrow_mut().insert(index, stopped);
            }
            FaultKind::StandbyCrash | FaultKind::PrimaryCrash => {
                self.cluster.kill(&fault.target).await?;
                self.tell(fault, Happened::Killed);
            }
            FaultKind::Failover | FaultKind::Switchover => self.fail_over(fault).await?,
        }
        Ok(())
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
                at: clock::now(),
                next_xid: promotion.next_xid,
                promoted: primary.node.name.clone(),
            };
            follower.follow(fork, target(primary), replicas.iter().map(target).collect());
        }
        self.primary
            .send_replace(Arc::new(primary.endpoint.clone()));
        self.tell(fault, Happened::Promoted(primary.node.name.clone()));
        self.promotion.replace(Some(promotion.clone()));
        self.cluster.follow(&promotion).await
    }

    /// Takes the node that was killed back as a standby.
    async fn rejoin(&self) -> Result<(), ClusterError> {
        let Some(promotion) = self.promotion.borrow().clone() else {
            // The failover failed, and the servers are not used any more.
            return Ok(());
        };
        let rejoined = self.cluster.rejoin(&promotion).await?;
        self.rejoined.replace(Some(rejoined));
        let nodes = self.nodes();
        let (primary, replicas) = nodes.split_first().expect("the new primary");
        if let Some(follower) = &*self.follower.borrow() {
            follower.sample(target(primary), replicas.iter().map(target).collect());
        }
        Ok(())
    }

    async fn undo(&self, index: usize) -> Result<(), ClusterError> {
        let fault = &self.faults[index];
        match fault.kind {
            FaultKind::PauseReplay => self.cluster.pause_replay(&fault.target, false).await?,
            FaultKind::Partition | FaultKind::SlowNetwork => {
                self.cluster
                    .set_network(&fault.target, Condition::default())?;
            }
            FaultKind::PauseSending | FaultKind::FrozenStandby => {
                self.stopped.borrow_mut().remove(&index);
            }
            FaultKind::StandbyCrash | FaultKind::PrimaryCrash => {
                self.cluster.restart(&fault.target).await?;
            }
            FaultKind::Failover | FaultKind::Switchover => self.rejoin().await?,
        }
        self.active.borrow_mut().remove(&index);
        self.tell(fault, Happened::Ended);
        Ok(())
    }

    /// What has happened since the last time this was asked.
    pub(super) fn take_events(&self) -> Vec<FaultEvent> {
        self.events.take()
    }

    fn tell(&self, fault: &Fault, what: Happened) {
        self.events.borrow_mut().push(FaultEvent {
            fault: fault.clone(),
            what,
            at: clock::now(),
        });
    }
}

fn target(node: &RunningNode) -> Target {
    Target {
        node: node.node.clone(),
        endpoint: node.endpoint.clone(),
    }
}
