//! The input of a comparison: the values of one figure in the valid repetitions of a mode.

use std::collections::BTreeMap;

use itertools::Itertools as _;

use super::super::aggregate::over_repetitions;
use super::{Metric, Scale};
use crate::record::RunSummary;
use crate::units::plural;

/// The valid repetitions of a mode in one run.
#[derive(Debug)]
pub(super) struct Samples {
    run_id: String,
    pub(super) mode: String,
    /// Block number by cell id.
    blocks: BTreeMap<u32, u32>,
    invalid: usize,
    /// Values by figure and cell id; infinite if censored.
    figures: BTreeMap<Key, BTreeMap<u32, f64>>,
}

type Key = (Metric, Option<String>);

impl Samples {
    pub(super) fn of(run_summary: &RunSummary, mode: &str) -> Self {
        let cells = || run_summary.cells.iter().filter(|cell| cell.mode == mode);
        let blocks: BTreeMap<u32, u32> = cells()
            .filter(|cell| cell.valid)
            .map(|cell| (cell.cell_id, cell.block))
            .collect();
        let mut figures: BTreeMap<Key, BTreeMap<u32, f64>> = BTreeMap::new();
        let rows = run_summary.figures.iter().flatten();
        for row in rows.filter(|row| blocks.contains_key(&row.cell_id)) {
            let Some(metric) = Metric::of(&row.metric, &row.stat) else {
                continue;
            };
            let by_cell = figures.entry((metric, row.node.clone())).or_default();
            by_cell.insert(row.cell_id, row.value.unwrap_or(f64::INFINITY));
        }
        Self {
            run_id: run_summary.manifest.run_id.clone(),
            mode: mode.to_owned(),
            invalid: cells().count() - blocks.len(),
            blocks,
            figures,
        }
    }

    pub(super) fn get(&self, metric: Metric, node: Option<&str>) -> Values {
        let key = (metric, node.map(Into::into));
        let by_cell = self.figures.get(&key).into_iter().flatten();
        // A block has each mode once. If a damaged file has a mode twice in a block, the last value is used.
        let by_block = by_cell.map(|(cell, value)| (self.blocks[cell], *value));
        Values(by_block.collect())
    }

    fn nodes(&self) -> impl Iterator<Item = &String> {
        self.figures.keys().filter_map(|(_, node)| node.as_ref())
    }
}

/// The repetitions of a mode on both sides.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) base: Samples,
    pub(super) head: Samples,
}

impl Pair {
    pub(super) fn notes(&self) -> Vec<String> {
        let sides = [&self.base, &self.head];
        let left_out = sides.iter().filter(|side| side.invalid > 0);
        left_out
            .map(|side| {
                let invalid = plural(side.invalid, "invalid repetition");
                format!("{invalid} of {} in {} left out", side.mode, side.run_id)
            })
            .collect()
    }

    /// The replicas of either side, sorted by name.
    pub(super) fn nodes(&self) -> Vec<String> {
        let names = self.base.nodes().chain(self.head.nodes());
        names.sorted().dedup().cloned().collect()
    }
}

/// The values of one figure of a mode by block number; infinite if censored.
#[derive(Debug)]
pub(super) struct Values(BTreeMap<u32, f64>);

impl Values {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &f64> {
        self.0.values()
    }

    pub(super) fn censored(&self) -> usize {
        self.iter().filter(|value| value.is_infinite()).count()
    }

    /// The figure over these repetitions, if it is known.
    pub(super) fn over(&self, metric: Metric) -> Option<f64> {
        let values: Vec<f64> = self.iter().copied().collect();
        let figure = over_repetitions(metric, &values)?.value;
        figure.is_finite().then_some(figure)
    }

    /// The repetitions whose block the other side has as well.
    pub(super) fn in_blocks_of(&self, other: &Self) -> Self {
        let common = self
            .0
            .iter()
            .filter(|(block, _)| other.0.contains_key(block));
        Self(common.map(|(block, value)| (*block, *value)).collect())
    }

    pub(super) fn on(&self, scale: Scale) -> Vec<f64> {
        self.iter().map(|value| scale.to(*value)).collect()
    }

    /// The values of the blocks that both sides have, as (base, head), on `scale`.
    pub(super) fn paired_with(&self, head: &Self, scale: Scale) -> Vec<(f64, f64)> {
        let pairs = self.0.iter().filter_map(|(block, base)| {
            let head = head.0.get(block)?;
            Some((scale.to(*base), scale.to(*head)))
        });
        pairs.collect()
    }
}
