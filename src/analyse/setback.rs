//! How far a fault sets a node back, and how long the node takes to catch up.

use crate::metric::{SetbackFigures, Spread};
use crate::record::Run;
use crate::sample::{CellRow, FaultRow, LagRow, VisibilityRow};

/// Bytes up to which a node does not count as behind, a page of WAL: which record was in flight when the sample was taken is chance.
const BEHIND: i64 = 8_192;

/// What the lag samples show of one fault.
#[derive(Debug, Clone, Copy, PartialEq)]
struct FaultLag {
    peak: Option<f64>,
    took: Option<f64>,
    rate: Option<f64>,
    /// When the node had caught up, in microseconds from the start of the measurement phase; `None` if it never had.
    caught_us: Option<i64>,
}

/// How faults set back a node in a cell. `None` if no fault that left the primary running concerned the node, or if the node became the
/// primary, which is behind nobody.
pub(super) fn setback(run: &Run, cell: &CellRow, node: &str) -> Option<SetbackFigures> {
    let of_cell = |fault: &&FaultRow| fault.cell_id == cell.cell_id;
    let faults: Vec<_> = run.faults.iter().filter(of_cell).collect();
    if faults.iter().any(|it| it.promoted.as_deref() == Some(node)) {
        return None;
    }
    let lag: Vec<_> = run
        .lag_of(cell.cell_id)
        .iter()
        .filter(|row| row.node == node)
        .collect();
    // Faults that stop the primary are left out: if another node is the primary afterwards, there is no lag to make up for.
    let own = |it: &&FaultRow| it.node == node && !it.stops_primary;
    let faults: Vec<&FaultRow> = faults.into_iter().filter(own).collect();
    if faults.is_empty() {
        return None;
    }
    let sampled = faults.iter();
    let sampled = sampled.filter_map(|fault| Some((*fault, fault_lag(fault, &lag)?)));
    let sampled: Vec<(&FaultRow, FaultLag)> = sampled.collect();
    let rows: Vec<_> = run
        .visibility_of(cell.cell_id)
        .iter()
        .filter(|row| row.node == node)
        .collect();
    let behind = |(fault, of): &(&FaultRow, FaultLag)| most_behind(fault, of.caught_us, &rows);
    let rates = sampled.iter().filter_map(|(_, of)| of.rate);
    let seen = faults.iter().filter(|fault| fault.commits > Some(0));
    let slowest = seen.map(|fault| Some(fault.slowest_us? as f64 / 1e6));
    let sum = |count: fn(&FaultRow) -> Option<u64>| {
        let counts = faults.iter().map(|fault| count(fault));
        counts.sum::<Option<u64>>()
    };
    Some(SetbackFigures {
        peak_bytes: spread(sampled.iter().map(|(_, of)| of.peak)),
        catch_up: spread(sampled.iter().map(|(_, of)| of.took)),
        catch_up_rate: rates.reduce(f64::min),
        behind: sampled.iter().filter_map(behind).max(),
        slowest: spread(slowest),
        stale: sum(|it| it.commits).zip(sum(|it| it.stale_hi)),
    })
}

/// The most commits that the node did not show at the end of a second, from the beginning of the fault until the node had caught up.
fn most_behind(fault: &FaultRow, caught_us: Option<i64>, rows: &[&VisibilityRow]) -> Option<u64> {
    let until = caught_us.unwrap_or(i64::MAX);
    let ends = |row: &&&VisibilityRow| (fault.began_us..=until).contains(&(row.t_us + 1_000_000));
    rows.iter()
        .filter(ends)
        .filter_map(|row| row.commits_behind)
        .max()
}

/// The distribution of the values. A value that is `None` is unknown and larger than all known ones. `None` if there are no values.
fn spread(values: impl Iterator<Item = Option<f64>>) -> Option<Spread> {
    let (known, unknown): (Vec<_>, Vec<_>) = values.partition(Option::is_some);
    let known = known.into_iter().flatten().collect();
    let censored = unknown.len() as u64;
    let unknown = (censored > 0).then(|| Spread::unknown(censored));
    Spread::of_samples(known, censored).or(unknown)
}

/// `None` if the fault was not undone, or if there is no lag sample from its beginning until the node had caught up.
fn fault_lag(fault: &FaultRow, lag: &[&LagRow]) -> Option<FaultLag> {
    let before = lag.iter().filter(|row| row.t_us < fault.began_us);
    let usual = before.filter_map(|row| row.replay_lag_bytes).max();
    let usual = usual.unwrap_or(0).max(BEHIND);
    let ended = fault.ended_us?;
    let has_caught_up =
        |row: &&&LagRow| row.t_us >= ended && row.replay_lag_bytes.is_some_and(|it| it <= usual);
    let caught = lag.iter().find(has_caught_up).map(|row| row.t_us);
    let until = caught.unwrap_or(i64::MAX);
    let mut during = lag
        .iter()
        .filter(|row| (fault.began_us..=until).contains(&row.t_us))
        .peekable();
    during.peek()?;
    let peak = during.try_fold(0, |most, row| Some(row.replay_lag_bytes?.max(most)));
    let took = caught.map(|at| (at - ended) as f64 / 1e6);
    let at_end = lag.iter().rfind(|row| row.t_us <= ended);
    let at_end = at_end.and_then(|row| row.replay_lag_bytes);
    let to_make_up = at_end.map(|bytes| bytes - usual).filter(|it| *it > 0);
    let rate = to_make_up.and_then(|bytes| match took {
        None => Some(0.0),
        // The sample that shows the node behind is also the one that shows that it had caught up.
        Some(0.0) => None,
        Some(took) => Some(bytes as f64 / took),
    });
    Some(FaultLag {
        peak: peak.map(|bytes| bytes as f64),
        took,
        rate,
        caught_us: caught,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(bytes: &[Option<i64>]) -> Vec<LagRow> {
        let row = |(index, bytes): (i64, &Option<i64>)| LagRow {
            t_us: index * 100_000,
            replay_lag_bytes: *bytes,
            ..LagRow::default()
        };
        (0..).zip(bytes).map(row).collect()
    }

    #[test]
    fn a_node_has_caught_up_when_it_is_as_far_behind_as_before() {
        let fault = FaultRow {
            began_us: 150_000,
            ended_us: Some(350_000),
            ..FaultRow::default()
        };
        let of = |bytes: &[Option<i64>]| {
            let rows = samples(bytes);
            let found = fault_lag(&fault, &rows.iter().collect::<Vec<_>>());
            found.map(|it| (it.peak, it.took, it.rate))
        };
        let usual = [
            Some(0),
            Some(9_000),
            Some(50_000),
            Some(60_000),
            Some(90_000),
        ];
        let then = |rest: &[Option<i64>]| [&usual[..], rest].concat();
        // The fifth sample is 50 ms after the end, the seventh 250 ms.
        assert_eq!(
            of(&then(&[Some(10_000), Some(8_900)])),
            // 60,000 bytes at the end of the fault, 9,000 as usual.
            Some((Some(90_000.0), Some(0.25), Some(51_000.0 / 0.25)))
        );
        assert_eq!(
            of(&then(&[Some(10_000)])),
            Some((Some(90_000.0), None, Some(0.0))),
            "it never had"
        );
        assert_eq!(
            of(&then(&[None, Some(0)])),
            Some((None, Some(0.25), Some(51_000.0 / 0.25))),
            "it was gone meanwhile"
        );
        assert_eq!(of(&usual[..1]), None, "no sample of the fault");
    }
}
