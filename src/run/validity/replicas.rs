//! Whether the replicas replicated all the time, except while a fault kept them from it.

use super::Validity;
use crate::mode::Mode;
use crate::run::lag_evidence::{LagEvidence, Streamed};

pub(super) fn judge(mode: &Mode, lag: &LagEvidence, validity: &mut Validity) {
    if lag.samples == 0 {
        validity
            .invalid
            .push("no lag sample was taken: whether the replicas streamed is unknown".into());
    }
    for (node, samples) in &lag.streaming {
        let answered = samples.len() as u64;
        let gone = |it: &&Streamed| !it.streamed && !lag.excuses(node, it.at);
        let not_streaming = samples.iter().filter(gone).count();
        if answered == 0 {
            validity.invalid.push(format!(
                "whether `{node}` streamed is unknown: its upstream answered none of {} samples",
                lag.samples
            ));
        } else if not_streaming > 0 {
            validity.invalid.push(format!(
                "`{node}` was not streaming in {not_streaming} of {answered} samples"
            ));
        }
        let is_promoted = lag
            .faults
            .iter()
            .any(|it| it.promoted.as_ref() == Some(node));
        if answered > 0 && answered < lag.samples && !is_promoted {
            validity.notes.push(format!(
                "the lag of `{node}` is unknown in {} of {} samples, which its upstream did not answer",
                lag.samples - answered,
                lag.samples
            ));
        }
    }
    let too_few = lag.too_few_sync.iter().filter(|at| !lag.excuses_any(**at));
    let too_few = too_few.count();
    if too_few > 0
        && let Some(set) = &mode.sync
    {
        validity.invalid.push(format!(
            "fewer than {} synchronous nodes in {too_few} of {} samples",
            set.quorum.count(),
            lag.answered
        ));
    }
    if lag.primary_starts.len() > 1 && !lag.primary_was_stopped() {
        validity
            .invalid
            .push("the primary restarted during the cell".into());
    }
    for window in &lag.faults {
        validity.notes.push(format!(
            "fault {}: the figures include it and what follows from it",
            window.fault
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Stamp;
    use crate::mode::{Quorum, SyncLevel, SyncSet};
    use crate::run::lag_evidence::FaultWindow;
    use crate::topology::NodeCounts;

    fn mode() -> Mode {
        Mode {
            name: "cascade".into(),
            level: SyncLevel::On,
            sync: Some(SyncSet {
                quorum: Quorum::First(1),
                nodes: vec!["c1".into()],
            }),
            topology: NodeCounts {
                standbys: 1,
                cascading: 1,
                archive: 0,
                subscribers: 0,
            }
            .into(),
        }
    }

    /// Evidence from 40 samples. The upstream of `c1` answered `answered` of them; `c1` did not stream in the first `not_streaming` of
    /// these.
    fn evidence(answered: usize, not_streaming: usize) -> LagEvidence {
        let samples = (0..answered).map(|index| Streamed {
            at: Stamp::from_nanos(index as u64),
            streamed: index >= not_streaming,
        });
        LagEvidence {
            samples: 40,
            answered: 40,
            streaming: [("c1".to_owned(), samples.collect())].into(),
            ..LagEvidence::default()
        }
    }

    fn check(lag: &LagEvidence) -> (String, String) {
        let mut validity = Validity::default();
        judge(&mode(), lag, &mut validity);
        (validity.invalid.join("; "), validity.notes.join("; "))
    }

    #[test]
    fn an_upstream_that_answered_late_once_is_a_note_and_a_node_that_was_gone_invalidates() {
        let (invalid, notes) = check(&evidence(39, 0));
        assert_eq!(invalid, "");
        assert!(
            notes.contains("`c1` is unknown in 1 of 40 samples"),
            "{notes}"
        );
        let (invalid, _) = check(&evidence(39, 2));
        assert_eq!(invalid, "`c1` was not streaming in 2 of 39 samples");
        let (invalid, notes) = check(&evidence(0, 0));
        assert!(
            invalid.contains("whether `c1` streamed is unknown"),
            "{invalid}"
        );
        assert_eq!(notes, "");
        assert_eq!(check(&evidence(40, 0)), (String::new(), String::new()));
    }

    #[test]
    fn a_node_that_was_gone_because_of_a_fault_does_not_invalidate() {
        let mut lag = evidence(40, 2);
        lag.too_few_sync = vec![Stamp::from_nanos(1)];
        assert!(
            check(&lag)
                .0
                .contains("fewer than 1 synchronous nodes in 1 of 40")
        );
        lag.faults.push(FaultWindow {
            fault: "standby-crash c1 at 0s for 1s".parse().unwrap(),
            from: Stamp::from_nanos(0),
            until: Some(Stamp::from_nanos(1)),
            killed: None,
            promoted: None,
        });
        let (invalid, notes) = check(&lag);
        assert_eq!(invalid, "");
        assert!(
            notes.starts_with("fault standby-crash c1 at 0 s for 1 s"),
            "{notes}"
        );
    }
}
