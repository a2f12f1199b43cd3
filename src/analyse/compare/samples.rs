//! What a comparison is made of: the values of one figure in the valid repetitions of a mode.

use std::collections::BTreeMap;

use super::super::stats::median;
use super::Scale;
use crate::record::Sheet;

/// The valid repetitions of a mode in one run.
#[derive(Debug)]
pub(super) struct Samples {
    run_id: String,
    pub(super) mode: String,
    /// Block by cell.
    blocks: BTreeMap<u32, u32>,
    invalid: usize,
    /// Value by cell; infinite when censored.
    figures: BTreeMap<Key, BTreeMap<u32, f64>>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    metric: String,
    stat: String,
    standby: Option<String>,
}

impl Samples {
    pub(super) fn of(sheet: &Sheet, mode: &str) -> Self {
        let cells = || sheet.cells.iter().filter(|cell| cell.mode == mode);
        let blocks: BTreeMap<u32, u32> = cells()
            .filter(|cell| cell.valid)
            .map(|cell| (cell.cell_id, cell.block))
            .collect();
        let mut figures: BTreeMap<Key, BTreeMap<u32, f64>> = BTreeMap::new();
        let rows = sheet.figures.iter().flatten();
        for row in rows.filter(|row| blocks.contains_key(&row.cell_id)) {
            let key = Key {
                metric: row.metric.clone(),
                stat: row.stat.clone(),
                standby: row.standby.clone(),
            };
            let value = row.value.unwrap_or(f64::INFINITY);
            figures.entry(key).or_default().insert(row.cell_id, value);
        }
        Self {
            run_id: sheet.manifest.run_id.clone(),
            mode: mode.to_owned(),
            invalid: cells().count() - blocks.len(),
            blocks,
            figures,
        }
    }

    pub(super) fn get(&self, metric: &str, stat: &str, standby: Option<&str>) -> Values {
        let key = Key {
            metric: metric.into(),
            stat: stat.into(),
            standby: standby.map(Into::into),
        };
        let by_cell = self.figures.get(&key).into_iter().flatten();
        // A block holds a mode once; a damaged file that says otherwise keeps its last.
        let by_block = by_cell.map(|(cell, value)| (self.blocks[cell], *value));
        Values(by_block.collect())
    }

    fn standbys(&self) -> impl Iterator<Item = &String> {
        self.figures.keys().filter_map(|key| key.standby.as_ref())
    }
}

/// A mode on both sides.
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
                let plural = if side.invalid == 1 { "" } else { "s" };
                format!(
                    "{} invalid repetition{plural} of {} in {} left out",
                    side.invalid, side.mode, side.run_id
                )
            })
            .collect()
    }

    /// In the order of their names, those of either side.
    pub(super) fn standbys(&self) -> Vec<String> {
        let mut names: Vec<String> = self
            .base
            .standbys()
            .chain(self.head.standbys())
            .cloned()
            .collect();
        names.sort();
        names.dedup();
        names
    }
}

/// One figure of a mode by block; infinite when censored.
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

    /// The median, if it is known.
    pub(super) fn middle(&self) -> Option<f64> {
        let values: Vec<f64> = self.iter().copied().collect();
        let middle = median(&values)?.value;
        middle.is_finite().then_some(middle)
    }

    pub(super) fn on(&self, scale: Scale) -> Vec<f64> {
        self.iter().map(|value| scale.to(*value)).collect()
    }

    /// The blocks that both have, each side on the scale: base, head.
    pub(super) fn paired_with(&self, head: &Self, scale: Scale) -> Vec<(f64, f64)> {
        let pairs = self.0.iter().filter_map(|(block, base)| {
            let head = head.0.get(block)?;
            Some((scale.to(*base), scale.to(*head)))
        });
        pairs.collect()
    }
}
