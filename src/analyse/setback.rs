//! How far a fault sets its node back, and how long the node takes to make up for it.

use crate::metric::Spread;
use crate::record::Run;
use crate::sample::{CellRow, FaultRow, LagRow};

/// Below a page of WAL a node is not behind: which record was in flight when the sample was taken is chance.
const BEHIND: i64 = 8_192;

/// The faults of one node in one cell.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub(super) struct Setback {
    /// The most that it had to replay, from the beginning of a fault until it had caught up. Censored where it was gone meanwhile, or its
    /// upstream did not answer: by how much it was behind then is unknown.
    pub(super) peak_bytes: Option<Spread>,
    /// From the end of a fault to the first sample in which it had no more to replay than before the fault, seconds. Censored where there
    /// is none.
    pub(super) catch_up: Option<Spread>,
}

/// `None`: no fault befell it, or it became the primary, which is behind nobody.
pub(super) fn setback(run: &Run, cell: &CellRow, node: &str) -> Option<Setback> {
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
    // Where the primary is another one afterwards, there is nothing to make up for.
    let own = |it: &&FaultRow| it.node == node && !it.stops_primary;
    let faults = faults.into_iter().filter(own);
    let found: Vec<_> = faults.filter_map(|fault| of_fault(fault, &lag)).collect();
    if found.is_empty() {
        return None;
    }
    Some(Setback {
        peak_bytes: Some(spread(found.iter().map(|(peak, _)| *peak))),
        catch_up: Some(spread(found.iter().map(|(_, took)| *took))),
    })
}

/// `None` is larger than all that is known.
fn spread(values: impl Iterator<Item = Option<f64>>) -> Spread {
    let (known, unknown): (Vec<_>, Vec<_>) = values.partition(Option::is_some);
    let known = known.into_iter().flatten().collect();
    let censored = unknown.len() as u64;
    Spread::of_samples(known, censored).unwrap_or(Spread::unknown(censored))
}

/// The peak, and the time to catch up; `None`: the fault was not undone, or there is no sample of it.
fn of_fault(fault: &FaultRow, lag: &[&LagRow]) -> Option<(Option<f64>, Option<f64>)> {
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
    Some((peak.map(|bytes| bytes as f64), took))
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
            of_fault(&fault, &rows.iter().collect::<Vec<_>>())
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
            Some((Some(90_000.0), Some(0.25)))
        );
        assert_eq!(
            of(&then(&[Some(10_000)])),
            Some((Some(90_000.0), None)),
            "it never had"
        );
        assert_eq!(
            of(&then(&[None, Some(0)])),
            Some((None, Some(0.25))),
            "it was gone meanwhile"
        );
        assert_eq!(of(&usual[..1]), None, "no sample of the fault");
    }
}
