//! What the lag samples of a cell say about its replicas' health.

use std::collections::{BTreeMap, BTreeSet};

use super::faults::{FaultEvent, Happened};
use crate::clock::Stamp;
use crate::plan::Fault;
use crate::probe::LagSample;
use crate::sample::{LagRow, Presence};

/// What a healthy sample shows.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Expected {
    /// Nodes that an upstream streams to.
    pub(super) streaming: BTreeSet<String>,
    /// The least number of synchronous nodes; `None` if the mode has no synchronous set.
    pub(super) synchronous: Option<u8>,
    /// The end of the measurement phase; `None` if it is not known beforehand.
    pub(super) measure_until: Option<Stamp>,
}

/// What the lag samples of the measurement phase showed.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct LagEvidence {
    /// Samples that were taken.
    pub(super) samples: u64,
    /// Samples that the primary answered.
    pub(super) answered: u64,
    /// For each node that an upstream streams to: the samples that the upstream answered.
    pub(super) streaming: BTreeMap<String, Vec<Streamed>>,
    /// When samples showed fewer synchronous nodes than the mode asks for.
    pub(super) too_few_sync: Vec<Stamp>,
    /// The start times of the primary that were seen, in microseconds since 1970.
    pub(super) primary_starts: Vec<i64>,
    /// Checkpoint counts of the primary in the first and the last sample.
    pub(super) checkpoints: Option<(i64, i64)>,
    pub(super) faults: Vec<FaultWindow>,
}

/// Whether a node streamed at the time of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Streamed {
    pub(super) at: Stamp,
    pub(super) streamed: bool,
}

/// A fault that has begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FaultWindow {
    pub(super) fault: Fault,
    pub(super) from: Stamp,
    /// When the fault was undone; `None` if it has not been.
    pub(super) until: Option<Stamp>,
    /// When the server of the fault's node had ended, which takes a while in a container.
    pub(super) killed: Option<Stamp>,
    /// The node that has become the primary because of the fault.
    pub(super) promoted: Option<String>,
}

impl LagEvidence {
    pub(super) fn add(&mut self, sample: &LagSample, expected: &Expected) {
        self.samples += 1;
        let is_awaited = |row: &&LagRow| expected.streaming.contains(&row.node);
        for row in sample.rows.iter().filter(is_awaited) {
            let node = self.streaming.entry(row.node.clone()).or_default();
            if row.presence() != Presence::Unanswered {
                node.push(Streamed {
                    at: sample.at,
                    streamed: row.state.as_deref() == Some("streaming"),
                });
            }
        }
        if sample.position.is_none() {
            return;
        }
        self.answered += 1;
        let is_sync = |row: &&LagRow| matches!(row.sync_state.as_deref(), Some("sync" | "quorum"));
        let synchronous = sample.rows.iter().filter(is_sync).count();
        if expected
            .synchronous
            .is_some_and(|least| synchronous < usize::from(least))
        {
            self.too_few_sync.push(sample.at);
        }
    }

    /// Takes an event of a fault.
    pub(super) fn fault(&mut self, event: &FaultEvent) {
        if event.what == Happened::Began {
            self.faults.push(FaultWindow {
                fault: event.fault.clone(),
                from: event.at,
                until: None,
                killed: None,
                promoted: None,
            });
        }
        let mut begun = self.faults.iter_mut();
        if let Some(window) = begun.find(|it| it.fault == event.fault) {
            match &event.what {
                Happened::Began | Happened::QueryCancelled(_) => {}
                Happened::Killed => window.killed = Some(event.at),
                Happened::Promoted(node, _) => window.promoted = Some(node.clone()),
                Happened::Ended => window.until = Some(event.at),
            }
        }
    }

    /// Whether a fault kept the node from streaming at this time: from the beginning of the fault until the node streams again after the
    /// fault's end.
    ///
    /// No node streams without a primary, so a fault that stops the primary counts for every node.
    pub(super) fn excuses(&self, node: &str, at: Stamp) -> bool {
        let own = |it: &&FaultWindow| {
            let kind = it.fault.kind;
            kind.stops_primary() || (it.fault.target == node && kind.stops_streaming())
        };
        self.faults.iter().filter(own).any(|window| {
            if window.promoted.as_deref() == Some(node) {
                return at >= window.from;
            }
            let since = match &window.promoted {
                // Other nodes stream from the new primary while the old one is still down.
                Some(_) => Some(window.killed.unwrap_or(window.from)),
                None => window.until,
            };
            let again = since.and_then(|until| {
                let samples = self.streaming.get(node)?;
                samples.iter().find(|it| it.streamed && it.at >= until)
            });
            at >= window.from && again.is_none_or(|again| at < again.at)
        })
    }

    /// When a fault first stopped the primary.
    pub(super) fn primary_stopped_at(&self) -> Option<Stamp> {
        let stops = self
            .faults
            .iter()
            .filter(|it| it.fault.kind.stops_primary());
        stops.map(|it| it.from).min()
    }

    pub(super) fn primary_was_stopped(&self) -> bool {
        self.primary_stopped_at().is_some()
    }

    /// Whether a fault kept any node from streaming at this time.
    pub(super) fn excuses_any(&self, at: Stamp) -> bool {
        self.streaming.keys().any(|node| self.excuses(node, at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Lsn;

    fn row(node: &str, answered: bool, state: Option<&str>) -> LagRow {
        LagRow {
            node: node.into(),
            sampler_rtt_us: answered.then_some(300),
            state: state.map(Into::into),
            sync_state: state.map(|_| "sync".into()),
            ..LagRow::default()
        }
    }

    /// Evidence from samples that are one second apart.
    fn evidence(samples: &[&[LagRow]], primary_answered: bool) -> LagEvidence {
        let expected = Expected {
            streaming: ["s1".to_owned(), "c1".to_owned()].into(),
            synchronous: Some(1),
            measure_until: None,
        };
        let mut evidence = LagEvidence::default();
        for (at, rows) in (0..).map(second).zip(samples) {
            let sample = LagSample {
                at,
                rows: rows.to_vec(),
                position: primary_answered.then_some((at, Lsn::new(7))),
                syncrep_waiters: None,
                primary_started_us: None,
                checkpoints: None,
            };
            evidence.add(&sample, &expected);
        }
        evidence
    }

    fn second(index: u64) -> Stamp {
        Stamp::from_nanos(index * 1_000_000_000)
    }

    #[test]
    fn a_node_whose_upstream_did_not_answer_is_not_one_that_did_not_stream() {
        let there = [
            row("s1", true, Some("streaming")),
            row("c1", true, Some("streaming")),
        ];
        let late = [row("s1", true, Some("streaming")), row("c1", false, None)];
        let gone = [row("s1", true, Some("streaming")), row("c1", true, None)];
        let found = evidence(&[&there, &late, &gone], true);
        let streamed = |node: &str| -> Vec<bool> {
            let samples = found.streaming[node].iter();
            samples.map(|it| it.streamed).collect()
        };
        assert_eq!(streamed("s1"), [true, true, true]);
        assert_eq!(streamed("c1"), [true, false]);
        assert_eq!((found.samples, found.answered), (3, 3));
        assert_eq!(found.too_few_sync, []);
    }

    #[test]
    fn a_primary_that_did_not_answer_says_nothing_of_synchronous_nodes() {
        let unknown = [row("s1", false, None), row("c1", false, None)];
        let found = evidence(&[&unknown], false);
        assert_eq!((found.samples, found.answered), (1, 0));
        assert_eq!(found.too_few_sync, []);
        let none = [row("s1", true, None), row("c1", true, None)];
        assert_eq!(evidence(&[&none], true).too_few_sync, [second(0)]);
    }

    #[test]
    fn a_fault_excuses_its_node_until_it_streams_again() {
        let there = [row("s1", true, Some("streaming"))];
        let gone = [row("s1", true, None)];
        let samples: [&[LagRow]; 7] = [&there, &gone, &gone, &gone, &gone, &there, &gone];
        let mut found = evidence(&samples, true);
        let mut tell = |what, at| {
            found.fault(&FaultEvent {
                fault: "standby-crash s1 at 1s for 2s".parse().unwrap(),
                what,
                at: second(at),
            });
        };
        tell(Happened::Began, 1);
        tell(Happened::Ended, 3);
        let excused: Vec<bool> = (0..7).map(|at| found.excuses("s1", second(at))).collect();
        assert_eq!(excused, [false, true, true, true, true, false, false]);
        assert!(!found.excuses("c1", second(2)) && found.excuses_any(second(2)));

        // A failover at 0 s. The old primary is gone at 1 s; `s1` no longer streams, and streams from the new primary at 5 s.
        let window = &mut found.faults[0];
        window.fault = "failover primary at 0s for 2s".parse().unwrap();
        (window.from, window.killed) = (second(0), Some(second(1)));
        window.promoted = Some("s2".into());
        assert!(found.excuses("s1", second(4)) && !found.excuses("s1", second(5)));

        found.faults[0].fault = "pause-replay s1 at 1s for 2s".parse().unwrap();
        assert!(!found.excuses("s1", second(2)), "it streams meanwhile");
    }
}
