//! What a load thread is told to do: plain data, the same whether the thread runs here or on another machine.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use tokio::sync::mpsc::UnboundedSender;

use super::counters::{Counters, Draws, Entry};
use super::share::{Backlog, Share};
use super::stats::Second;
use super::workload;
use crate::clock::Stamp;
use crate::plan::{Cell, Length, Mix, Offered, Plan, Schedule};
use crate::sample::Timeline;

/// The share of a cell's load that one thread offers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ThreadOrders {
    pub plan: Plan,
    pub cell: Cell,
    /// The thread's index among the plan's load threads. The thread takes every arrival whose number leaves this remainder when divided by
    /// the number of threads.
    pub index: u16,
}

/// A transaction as a connection runs it.
#[derive(Debug, Clone)]
pub(super) struct Script {
    /// For each statement its SQL, and the transaction's values that are its `$1`, `$2` .., as indices.
    pub(super) statements: Vec<(String, Vec<usize>)>,
}

impl ThreadOrders {
    /// The number of connections of this thread.
    pub(super) fn connections(&self) -> usize {
        self.share(self.plan.load.connections.into()) as usize
    }

    /// Arrivals that this thread may have in flight.
    pub(super) fn max_in_flight(&self) -> u32 {
        self.share(self.plan.load.max_in_flight)
    }

    /// A nearly equal part of `total`, at least 1.
    fn share(&self, total: u32) -> u32 {
        let (count, index) = (u32::from(self.plan.load.threads), u32::from(self.index));
        (total / count + u32::from(index < total % count)).max(1)
    }

    /// The arrivals of this thread; `None` in a closed loop.
    pub(super) fn backlog(&self, timeline: Timeline) -> Option<Backlog> {
        let Offered::Open { rate, arrivals } = self.plan.load.offered else {
            return None;
        };
        let schedule = Schedule::new(rate, arrivals, self.cell.seed);
        let (index, of) = self.remainder();
        let share = Share::new(schedule, index, of, timeline, self.plan.phases.measure);
        Some(Backlog::new(share))
    }

    /// When the measurement phase ends; `None` if it ends after a number of arrivals.
    pub(super) fn end(&self, timeline: Timeline) -> Option<Stamp> {
        match self.plan.phases.measure {
            Length::For(duration) => Some(timeline.measure_from + duration),
            Length::Count(_) => None,
        }
    }

    /// Every transaction of the mix as a connection runs it.
    pub(super) fn scripts(&self) -> Arc<[Script]> {
        let scripts = self.plan.transactions.iter().map(|transaction| {
            let parameters = transaction.statements.iter();
            let parameters = parameters.map(|statement| statement.parameters.clone());
            Script {
                statements: workload::statements(&self.plan, transaction)
                    .into_iter()
                    .zip(parameters)
                    .collect(),
            }
        });
        scripts.collect()
    }

    /// Every transaction of the mix, with what is needed to draw its values and to count its effects.
    pub(super) fn entries(&self) -> Vec<Entry> {
        let transactions = self.plan.transactions.iter();
        transactions
            .map(|transaction| Entry::new(&self.plan, transaction))
            .collect()
    }

    /// The counters of this thread. Must be called on the thread itself, whose CPU time is read.
    pub(super) fn counters(
        &self,
        timeline: Timeline,
        seconds: UnboundedSender<(u16, Second)>,
    ) -> Counters {
        let keeps_commits = self.plan.is_audited_row_by_row();
        let in_flight = self.max_in_flight();
        Counters::new(timeline, self.index, in_flight, keeps_commits, seconds)
    }

    /// The remainder that the numbers of this thread's arrivals leave, and the divisor.
    fn remainder(&self) -> (u64, u64) {
        (self.index.into(), self.plan.load.threads.into())
    }

    /// The numbers of this thread's arrivals in a closed loop.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u64> + use<> {
        let (index, of) = self.remainder();
        (index..).step_by(usize::try_from(of).unwrap_or(1))
    }

    /// The number of measured arrivals of this thread in a closed loop; `u64::MAX` if the clock ends the phase.
    pub(super) fn budget(&self) -> u64 {
        let (index, of) = self.remainder();
        match self.plan.phases.measure {
            Length::For(_) => u64::MAX,
            Length::Count(count) => count / of + u64::from(index < count % of),
        }
    }
}

impl Draws {
    pub(super) fn of(orders: &ThreadOrders) -> Self {
        Self {
            mix: Mix::new(&orders.plan.transactions),
            seed: orders.cell.seed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Overrides, resolve};
    use crate::profile::Profile;

    fn orders(connections: u16, threads: u16) -> Vec<ThreadOrders> {
        let profile = Profile::load("ecommerce").unwrap();
        let mut plan = resolve(&profile, &Overrides::default()).unwrap();
        plan.load.connections = connections;
        plan.load.threads = threads;
        let cell = plan.cells[0];
        let orders = (0..threads).map(|index| ThreadOrders {
            plan: plan.clone(),
            cell,
            index,
        });
        orders.collect()
    }

    #[test]
    fn shares_add_up() {
        let connections: usize = orders(16, 3).iter().map(ThreadOrders::connections).sum();
        assert_eq!(connections, 16);
    }

    #[test]
    fn orders_arrive_as_they_were_sent() {
        for sent in orders(16, 2) {
            let text = serde_json::to_string(&sent).unwrap();
            assert_eq!(serde_json::from_str::<ThreadOrders>(&text).unwrap(), sent);
        }
    }
}
