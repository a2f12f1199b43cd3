//! What all valid repetitions of a mode observed of one metric, merged: one population, of which some observations are known
//! only to be larger than all others.

use crate::histogram::{Histogram, SignedHistogram, rank};
use crate::plan::{Distribution, Stat};
use crate::record::Run;
use crate::record::tags::{self, Bound, Origin};
use crate::sample::{CellRow, LagRow};

use super::super::cell::{LagSamples, censored as unrecorded, commits_and_unseen, lag_rows};

/// One population. Times are seconds, sizes bytes.
#[derive(Debug, Clone)]
pub(super) struct Pool {
    recorded: Recorded,
    /// Observations that are missing because they were too large to be made.
    censored: u64,
    /// What became of those, in words.
    fate: &'static str,
}

#[derive(Debug, Clone)]
enum Recorded {
    Times(Histogram),
    Delays(SignedHistogram),
    /// Sorted.
    Samples(Vec<f64>),
}

impl Pool {
    /// The merged population of `cells`, or why it is no population to judge by.
    pub(super) fn of(
        run: &Run,
        cells: &[&CellRow],
        distribution: Distribution,
        node: Option<&str>,
    ) -> Result<Self, String> {
        let pool = match distribution {
            Distribution::Response => Self::times(run, cells, tags::RESPONSE)?,
            Distribution::Service => Self::times(run, cells, tags::SERVICE)?,
            Distribution::StartLag => Self::times(run, cells, tags::START_LAG)?,
            Distribution::Visibility => Self::delays(run, cells, node.unwrap_or_default())?,
            Distribution::ReplayLagBytes => {
                Self::samples(run, cells, node.unwrap_or_default(), |row| {
                    row.replay_lag_bytes.map(|bytes| bytes as f64)
                })?
            }
            Distribution::ReplayLag => {
                Self::samples(run, cells, node.unwrap_or_default(), |row| {
                    row.replay_lag_us.map(|us| us as f64 / 1e6)
                })?
            }
        };
        if pool.n() == 0 {
            return Err(format!("no `{}` was recorded", distribution.as_str()));
        }
        Ok(pool)
    }

    fn times(run: &Run, cells: &[&CellRow], tag: &str) -> Result<Self, String> {
        let mut merged = Histogram::new();
        let mut pool = Vec::new();
        let mut censored = 0_u64;
        for cell in cells {
            let found = run
                .histograms
                .get(&cell.cell_id)
                .and_then(|all| all.get(tag));
            pool.push((*cell, found.as_ref().map_or(0, Histogram::count)));
            if let Some(found) = &found {
                merged.merge(found);
            }
            censored = censored.saturating_add(unrecorded(cell, tag));
        }
        covers_every_commit(&pool)?;
        Ok(Self {
            recorded: Recorded::Times(merged),
            censored,
            fate: match tag {
                tags::START_LAG => "never sent",
                tags::SERVICE => "failed or never answered",
                _ => "missed, failed or never answered",
            },
        })
    }

    fn delays(run: &Run, cells: &[&CellRow], node: &str) -> Result<Self, String> {
        let mut merged = SignedHistogram::default();
        let mut counts = Vec::new();
        let mut censored = 0_u64;
        for cell in cells {
            let (_, unseen) = commits_and_unseen(run, cell, node);
            let found = run.histograms.get(&cell.cell_id);
            let found = found.map(|all| all.visibility(node, Origin::Ack, Bound::Hi));
            let seen = found.as_ref().map_or(0, SignedHistogram::count);
            counts.push((*cell, seen.saturating_add(unseen)));
            if let Some(found) = &found {
                merged.merge(found);
            }
            censored = censored.saturating_add(unseen);
        }
        covers_every_commit(&counts)?;
        Ok(Self {
            recorded: Recorded::Delays(merged),
            censored,
            fate: "not seen before the drain ended",
        })
    }

    fn samples(
        run: &Run,
        cells: &[&CellRow],
        node: &str,
        column: fn(&LagRow) -> Option<f64>,
    ) -> Result<Self, String> {
        let mut rows: Vec<&LagRow> = Vec::new();
        for cell in cells {
            let others = rows.len();
            rows.extend(lag_rows(run, cell).filter(|row| row.node == node));
            if rows.len() == others {
                return Err(format!("cell {} has no sample of it", cell.cell_id));
            }
        }
        let mut samples = LagSamples::of(rows, column);
        if samples.values.is_empty() {
            return Err("no sample has a value".into());
        }
        samples.values.sort_by(f64::total_cmp);
        Ok(Self {
            censored: samples.censored(),
            fate: match (samples.gone, samples.unanswered) {
                (_, 0) => "taken while the replica was gone",
                (0, _) => "not answered by its upstream",
                _ => "taken while the replica was gone or its upstream did not answer",
            },
            recorded: Recorded::Samples(samples.values),
        })
    }

    /// Observations, the censored among them.
    pub(super) fn n(&self) -> u64 {
        let recorded = match &self.recorded {
            Recorded::Times(times) => times.count(),
            Recorded::Delays(delays) => delays.count(),
            Recorded::Samples(samples) => samples.len() as u64,
        };
        recorded.saturating_add(self.censored)
    }

    /// `None` where it falls among the censored.
    pub(super) fn quantile(&self, stat: Stat) -> Option<f64> {
        self.nearest_rank(stat.share(), self.n())
    }

    /// The largest that was recorded: every censored observation is larger.
    pub(super) fn largest(&self) -> Option<f64> {
        self.nearest_rank(1.0, self.n() - self.censored)
    }

    /// Why a quantile has no value.
    pub(super) fn fate(&self) -> String {
        let (censored, n) = (self.censored, self.n());
        format!("{censored} of {n} were {}", self.fate)
    }

    fn nearest_rank(&self, share: f64, population: u64) -> Option<f64> {
        match &self.recorded {
            Recorded::Times(times) => {
                let value = times.quantile_of(share, population);
                value.map(|value| value.as_secs_f64())
            }
            Recorded::Delays(delays) => delays.quantile_of(share, population),
            Recorded::Samples(samples) => {
                let rank = usize::try_from(rank(share, population)).ok()?;
                samples.get(rank.checked_sub(1)?).copied()
            }
        }
    }
}

/// What acknowledged commits left in a damaged directory must not pass for all of them.
pub(super) fn covers_every_commit(counts: &[(&CellRow, u64)]) -> Result<(), String> {
    if counts.iter().all(|(_, count)| *count == 0) {
        return Err("none was recorded".into());
    }
    match counts.iter().find(|(cell, count)| *count < cell.acked) {
        Some((cell, count)) => Err(format!(
            "cell {} has {count} of {} commits on record",
            cell.cell_id, cell.acked
        )),
        None => Ok(()),
    }
}
