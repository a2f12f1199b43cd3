//! Estimates how long a plan takes, to show it before the run starts. Pure; coarse on purpose.

use std::time::Duration;

use super::{Cell, Length, Offered, Plan, ServersMade, Sides};
use crate::topology::{Role, Topology};

/// Time per cell for connecting, resetting the tables, checkpoints and the last answers. It is 0.2 s on an idle host with two cores and a
/// fast disk.
const AROUND_CELL: Duration = Duration::from_millis(500);
/// Time for initdb, the start and the removal of a primary. With two standbys all of it takes 1 to 3 s on the same host.
const PRIMARY: Duration = Duration::from_millis(1_500);
/// Time to make one replica, by a base backup or an initial copy.
const REPLICA: Duration = Duration::from_millis(500);
/// Time per cell with a `pitr` fault: a base backup before the cell, which waits until its WAL is archived, and three restores after the
/// cell.
const RESTORES: Duration = Duration::from_secs(6);
/// The assumed rate of a closed loop in transactions a second: the real rate depends on the server and is unknown beforehand.
const GUESSED_RATE: f64 = 2_000.0;

impl Plan {
    /// How long the run takes on an otherwise idle host, including the time to make the servers.
    pub fn estimate(&self) -> Duration {
        self.estimate_cells()
            .saturating_add(self.estimate_servers())
    }

    /// The part of [`Plan::estimate`] in which servers are made, run a discarded cell and are removed.
    pub fn estimate_servers(&self) -> Duration {
        match self.servers_made() {
            ServersMade::Once | ServersMade::Never | ServersMade::Compose => {
                self.estimate_provisioning(1)
            }
            ServersMade::EveryBlock => self.estimate_provisioning(self.repeats),
            ServersMade::EveryCell | ServersMade::ComposeEveryCell => {
                let cells = self.cells.iter();
                cells
                    .map(|cell| Self::estimate_making(&self.modes[cell.mode].topology))
                    .sum()
            }
        }
    }

    fn estimate_cells(&self) -> Duration {
        let cells = self.cells.iter().map(|cell| self.estimate_cell(cell));
        cells.fold(Duration::ZERO, Duration::saturating_add)
    }

    fn estimate_cell(&self, cell: &Cell) -> Duration {
        // The drain of an archive standby waits until the last WAL segment is archived; other replicas show the last commit almost at
        // once.
        let drain = if self.modes[cell.mode].topology.has(Role::ArchiveStandby) {
            self.phases.drain
        } else {
            Duration::ZERO
        };
        let points = self.faults.iter().filter(|it| it.kind.is_instant()).count();
        let restores = RESTORES.saturating_mul(u32::try_from(points).unwrap_or(u32::MAX));
        [self.offered_length(), drain, AROUND_CELL, restores]
            .into_iter()
            .fold(Duration::ZERO, Duration::saturating_add)
    }

    /// How long load is offered in a cell: warm-up and measurement.
    pub(super) fn offered_length(&self) -> Duration {
        let measure = match self.phases.measure {
            Length::For(duration) => duration,
            Length::Count(count) => {
                let rate = match self.load.offered {
                    Offered::Open { rate, .. } => rate.as_per_second(),
                    Offered::Closed => GUESSED_RATE,
                };
                Duration::try_from_secs_f64(count as f64 / rate).unwrap_or(Duration::MAX)
            }
        };
        self.phases.warmup.saturating_add(measure)
    }

    /// How long it takes to make all servers this many times, including their discarded cells.
    fn estimate_provisioning(&self, times: u32) -> Duration {
        let topologies = self.topologies();
        let cluster = |topology: &&Topology| {
            Self::estimate_making(topology) + AROUND_CELL + self.discarded_length(2)
        };
        let all: Duration = topologies.iter().map(cluster).sum();
        let first = self
            .discarded_length(1)
            .saturating_sub(self.discarded_length(2));
        all.saturating_mul(times).saturating_add(first)
    }

    fn estimate_making(topology: &Topology) -> Duration {
        let replicas = u32::try_from(topology.replicas().count()).unwrap_or(u32::MAX);
        PRIMARY + REPLICA * replicas
    }
}

impl Sides<Plan> {
    /// How long the session takes on an otherwise idle host, including the time to make the servers of every turn.
    pub fn estimate(&self) -> Duration {
        let side = |plan: &Plan| {
            plan.estimate_cells()
                .saturating_add(plan.estimate_provisioning(plan.repeats))
        };
        side(&self.base).saturating_add(side(&self.head))
    }
}
