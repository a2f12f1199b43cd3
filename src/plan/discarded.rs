//! The discarded cell: it runs first on servers that were just made, and is left out of all figures.

use std::time::Duration;

use super::order::{Stream, derive};
use super::{Cell, Length, Phases, Plan};
use crate::topology::Topology;

impl Plan {
    /// The longest first discarded cell of a run; it lasts as long as a counted cell if that is shorter. In published runs the first cell
    /// was slower than all later cells of its mode during all of its 10 s, from the warm-up on.
    const FIRST_DISCARDED: Duration = Duration::from_secs(10);
    /// The longest discarded cell of later servers. The host is already warm by then; only the servers' own pages and WAL are touched for
    /// the first time.
    const LATER_DISCARDED: Duration = Duration::from_secs(2);

    /// The cell to run first on the `made`th cluster of a run (counted from 1), which has this topology, and the plan for that cell.
    /// Without a discarded cell the first counted cell would differ from the others.
    pub fn discarded(&self, topology: &Topology, made: u32) -> (Self, Cell) {
        let mode = self.modes.iter().position(|it| it.topology == *topology);
        let cell = Cell {
            // Ids of discarded cells follow those of the counted cells, so that counted cells keep their numbers.
            id: u32::try_from(self.cells.len())
                .unwrap_or(u32::MAX)
                .saturating_add(made),
            mode: mode.expect("clusters are made for the plan's modes"),
            rep: 0,
            block: 0,
            seed: derive(self.seed, Stream::Discarded, made.into()),
        };
        let length = self.discarded_length(made);
        let phases = Phases {
            warmup: Duration::ZERO,
            measure: Length::For(length.max(Phases::SHORTEST)),
            drain: self.phases.drain.min(length),
        };
        let plan = Self {
            phases,
            faults: Vec::new(),
            ..self.clone()
        };
        (plan, cell)
    }

    pub(super) fn discarded_length(&self, made: u32) -> Duration {
        let most = match made {
            0 | 1 => Self::FIRST_DISCARDED,
            _ => Self::LATER_DISCARDED,
        };
        self.offered_length().min(most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Overrides, resolve};
    use crate::profile::Profile;

    #[test]
    fn the_first_is_as_long_as_a_cell_and_later_ones_are_short() {
        let plan = |quick| {
            let overrides = Overrides {
                quick,
                ..Overrides::default()
            };
            resolve(&Profile::load("sync-vs-async").unwrap(), &overrides).unwrap()
        };
        let measured = |plan: &Plan, made| {
            let (plan, cell) = plan.discarded(&plan.modes[3].topology, made);
            assert!(cell.is_discarded() && plan.modes[cell.mode].name == "logical");
            assert!(plan.cells.iter().all(|other| other.id != cell.id));
            (plan.phases.warmup, plan.phases.measure)
        };
        let seconds = |count| (Duration::ZERO, Length::For(Duration::from_secs(count)));
        let whole = plan(false);
        assert_eq!(
            [1, 2, 3].map(|made| measured(&whole, made)),
            [10, 2, 2].map(seconds)
        );
        assert_eq!(
            [1, 2].map(|made| measured(&plan(true), made)),
            [4, 2].map(seconds)
        );
    }
}
