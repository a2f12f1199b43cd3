//! Makes the faults of a cell happen when they are due, and undoes each of them, whatever ends the cell.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::time::Duration;

use tokio::sync::Notify;

use crate::clock::{self, Stamp};
use crate::cluster::{Cluster, ClusterError};
use crate::plan::{Fault, FaultKind};
use crate::sample::Timeline;

/// The faults of a cell.
pub(super) struct Script<'a> {
    cluster: &'a Cluster,
    faults: &'a [Fault],
    timeline: Timeline,
    /// Indices of those that have begun and are not undone.
    active: RefCell<BTreeSet<usize>>,
    events: RefCell<Vec<FaultEvent>>,
    ended_early: Notify,
}

/// A fault is about to begin, or has been undone.
#[derive(Debug, Clone)]
pub(super) struct FaultEvent {
    pub(super) fault: Fault,
    pub(super) is_over: bool,
    pub(super) at: Stamp,
}

impl<'a> Script<'a> {
    pub(super) fn new(cluster: &'a Cluster, faults: &'a [Fault], timeline: Timeline) -> Self {
        Self {
            cluster,
            faults,
            timeline,
            active: RefCell::default(),
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
        self.tell(fault, false);
        // Whatever becomes of the attempt, it is undone.
        self.active.borrow_mut().insert(index);
        match fault.kind {
            FaultKind::PauseReplay => self.cluster.pause_replay(&fault.target, true).await,
            FaultKind::StandbyCrash => self.cluster.kill(&fault.target).await,
        }
    }

    async fn undo(&self, index: usize) -> Result<(), ClusterError> {
        let fault = &self.faults[index];
        match fault.kind {
            FaultKind::PauseReplay => self.cluster.pause_replay(&fault.target, false).await?,
            FaultKind::StandbyCrash => self.cluster.restart(&fault.target).await?,
        }
        self.active.borrow_mut().remove(&index);
        self.tell(fault, true);
        Ok(())
    }

    /// What has happened since the last time this was asked.
    pub(super) fn take_events(&self) -> Vec<FaultEvent> {
        self.events.take()
    }

    fn tell(&self, fault: &Fault, is_over: bool) {
        self.events.borrow_mut().push(FaultEvent {
            fault: fault.clone(),
            is_over,
            at: clock::now(),
        });
    }
}
