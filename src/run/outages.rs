//! What the faults of a cell did to its commits: the rows of `faults.csv`.

use std::time::Duration;

use super::audit::Findings;
use super::faults::{FaultEvent, Happened};
use crate::clock::Stamp;
use crate::cluster::Rejoined;
use crate::plan::Fault;
use crate::probe::{Delay, LagSample, VisibilitySecond};
use crate::sample::{Commit, FaultRow, Timeline};
use crate::units::Lsn;

/// A read this many nanoseconds after the acknowledgement of a commit is stale if it does not see the commit.
const STALE: i64 = 100_000_000;

/// The faults that have begun, and what each did to commits.
#[derive(Debug, Default)]
pub(super) struct Outages {
    all: Vec<Outage>,
    /// The latest acknowledgement so far.
    last_ack: Option<Stamp>,
    /// The latest known WAL position of the primary.
    written: Option<Lsn>,
}

#[derive(Debug)]
struct Outage {
    fault: Fault,
    began: Stamp,
    /// When the primary's processes had ended; `None` for faults that do not stop the primary.
    killed: Option<Stamp>,
    promoted: Option<String>,
    /// The position up to which the new primary had the old primary's WAL.
    parted: Option<Lsn>,
    /// The last known WAL position of the old primary.
    written: Option<Lsn>,
    ended: Option<Stamp>,
    /// The latest acknowledgement of a transaction that was sent before the primary had ended.
    last_before: Option<Stamp>,
    /// The earliest acknowledgement of a transaction that was sent after the primary had ended.
    first_after: Option<Stamp>,
    /// Acknowledged commits that were sent after the primary had ended.
    acked_after: u64,
    /// How many of `acked_after` the primary from before the fault acknowledged.
    acked_by_old: u64,
    syncrep_waiters: Option<i64>,
    /// Measured commits acknowledged while the fault lasted.
    commits: u64,
    seen: Seen,
}

/// Commits that were acknowledged while a fault lasted, as the fault's node showed them.
#[derive(Debug, Default)]
struct Seen {
    commits: u64,
    /// Commits that a read after [`STALE`] certainly misses.
    stale_lo: u64,
    /// Commits that a read after [`STALE`] possibly misses.
    stale_hi: u64,
    /// The longest delay until a commit was seen, in nanoseconds from its acknowledgement.
    slowest: i64,
}

impl Outage {
    fn lasts(&self, at: Stamp) -> bool {
        at >= self.began && self.ended.is_none_or(|ended| at < ended)
    }
}

impl Seen {
    fn add(&mut self, delay: &Delay) {
        self.commits += 1;
        self.stale_lo += u64::from(delay.lo > STALE);
        self.stale_hi += u64::from(delay.hi > STALE);
        self.slowest = self.slowest.max(delay.hi);
    }
}

impl Outages {
    pub(super) fn event(&mut self, event: &FaultEvent) {
        if event.what == Happened::Began {
            self.all.push(Outage {
                fault: event.fault.clone(),
                began: event.at,
                killed: None,
                promoted: None,
                parted: None,
                written: None,
                ended: None,
                last_before: self.last_ack,
                first_after: None,
                acked_after: 0,
                acked_by_old: 0,
                syncrep_waiters: None,
                commits: 0,
                seen: Seen::default(),
            });
        }
        let mut begun = self.all.iter_mut();
        let Some(outage) = begun.find(|it| it.fault == event.fault) else {
            return;
        };
        match &event.what {
            Happened::Began | Happened::QueryCancelled(_) => {}
            Happened::Killed => {
                outage.killed = Some(event.at).filter(|_| outage.fault.kind.stops_primary());
                outage.written = self.written;
            }
            Happened::Promoted(node, parted) => {
                outage.promoted = Some(node.clone());
                outage.parted = *parted;
            }
            Happened::Ended => outage.ended = Some(event.at),
        }
    }

    /// Takes the commits of a second of the load. The events of that second have been taken before.
    pub(super) fn commits(&mut self, commits: &[Commit]) {
        for Commit {
            sent,
            acked,
            measured,
            server,
            ..
        } in commits
        {
            self.last_ack = self.last_ack.max(Some(*acked));
            for outage in &mut self.all {
                outage.commits += u64::from(*measured && outage.lasts(*acked));
                match outage.killed {
                    Some(killed) if *sent >= killed => {
                        let first = outage.first_after.get_or_insert(*acked);
                        *first = (*first).min(*acked);
                        outage.acked_after += 1;
                        outage.acked_by_old += u64::from(*server == 0);
                    }
                    _ => outage.last_before = outage.last_before.max(Some(*acked)),
                }
            }
        }
    }

    /// Takes what a node showed of the commits of a second. The events of that second have been taken before.
    pub(super) fn visibility(&mut self, second: &VisibilitySecond) {
        let own = |it: &&mut Outage| it.fault.target == second.node;
        for outage in self.all.iter_mut().filter(own) {
            for delay in &second.delays {
                if outage.lasts(delay.acked) {
                    outage.seen.add(delay);
                }
            }
        }
    }

    pub(super) fn lag(&mut self, sample: &LagSample) {
        if let Some((answered, position)) = sample.position {
            self.written = Some(position);
            for outage in &mut self.all {
                // The primary answered before it had ended, but the answer may be taken in after that event.
                if outage.killed.is_some_and(|killed| answered < killed) {
                    outage.written = outage.written.max(Some(position));
                }
            }
        }
        let Some(waiters) = sample.syncrep_waiters else {
            return;
        };
        for outage in &mut self.all {
            if outage.lasts(sample.at) {
                outage.syncrep_waiters = outage.syncrep_waiters.max(Some(waiters));
            }
        }
    }

    /// Commits that were sent after the replaced primary had been stopped, and how many of them that primary acknowledged.
    pub(super) fn acked_after_replacing(&self) -> (u64, u64) {
        let replaced = self.all.iter().find(|it| it.fault.kind.changes_primary());
        replaced.map_or((0, 0), |it| (it.acked_after, it.acked_by_old))
    }

    /// When all processes of the primary had first ended because of a fault.
    pub(super) fn primary_died(&self) -> Option<Stamp> {
        self.all.iter().filter_map(|it| it.killed).min()
    }

    /// The rows of `faults.csv`. `watches` says whether it is known when commits became visible.
    pub(super) fn rows(
        &self,
        cell_id: u32,
        timeline: Timeline,
        watches: bool,
        found: Option<&Findings>,
        rejoined: &[(&Fault, Rejoined)],
    ) -> Vec<FaultRow> {
        let row = |it: &Outage| {
            let stops_primary = it.fault.kind.stops_primary();
            let since = |from: Stamp, to: Stamp| to.signed_since(from) / 1_000;
            let found = found.filter(|_| stops_primary);
            let span = found.map(|found| {
                let first = found.lost.iter().min();
                first.map_or(0, |first| since(*first, it.began))
            });
            let watched = (watches && !it.fault.kind.is_of_primary()).then_some(&it.seen);
            let unseen = it.commits.saturating_sub(it.seen.commits);
            FaultRow {
                cell_id,
                fault: it.fault.to_string(),
                node: it.fault.target.clone(),
                stops_primary,
                began_us: timeline.t_us(it.began),
                ended_us: it.ended.map(|at| timeline.t_us(at)),
                promoted: it.promoted.clone(),
                rto_us: it.first_after.map(|first| since(it.began, first)),
                unavailable_us: it
                    .first_after
                    .zip(it.last_before)
                    .map(|(first, last)| since(last, first)),
                lost: found.map(|found| found.lost.len() as u64),
                lost_span_us: span,
                lost_wal_bytes: it
                    .written
                    .zip(it.parted)
                    .map(|(written, parted)| written.distance_from(parted).bytes().max(0)),
                rejoin_us: rejoined
                    .iter()
                    .find(|(fault, _)| **fault == it.fault)
                    .map(|(_, it)| micros(it.took)),
                syncrep_waiters: it.syncrep_waiters,
                commits: watched.map(|_| it.commits),
                stale_lo: watched.map(|seen| seen.stale_lo + unseen),
                stale_hi: watched.map(|seen| seen.stale_hi + unseen),
                slowest_us: watched
                    .filter(|seen| unseen == 0 && seen.commits > 0)
                    .map(|seen| seen.slowest / 1_000),
            }
        };
        self.all.iter().map(row).collect()
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Stamp {
        Stamp::from_nanos(millis * 1_000_000)
    }

    fn commit(sent: u64, acked: u64) -> Commit {
        Commit {
            sent: at(sent),
            acked: at(acked),
            ..Commit::default()
        }
    }

    #[test]
    fn an_outage_ends_with_the_first_answer_to_what_was_sent_after_the_death() {
        let mut outages = Outages::default();
        outages.commits(&[commit(900, 910)]);
        let fault: Fault = "failover primary at 1s for 2s".parse().unwrap();
        for (what, millis) in [
            (Happened::Began, 1_000),
            (Happened::Killed, 1_005),
            (Happened::Promoted("s1".into(), None), 1_200),
        ] {
            outages.event(&FaultEvent {
                fault: fault.clone(),
                what,
                at: at(millis),
            });
        }
        // The second commit was sent before the old primary had ended, and heard of afterwards: it does not show that a primary is back.
        let by_new = |sent, acked| Commit {
            server: 1,
            ..commit(sent, acked)
        };
        outages.commits(&[
            by_new(1_210, 1_220),
            commit(990, 1_006),
            by_new(1_150, 1_215),
        ]);
        assert_eq!(outages.acked_after_replacing(), (2, 0));
        let rows = outages.rows(7, Timeline::new(at(0), Duration::ZERO), true, None, &[]);
        let [row] = rows.as_slice() else {
            panic!("{rows:?}")
        };
        assert_eq!(row.rto_us, Some(215_000));
        assert_eq!(row.unavailable_us, Some(209_000));
        assert_eq!(row.promoted.as_deref(), Some("s1"));
        assert_eq!((row.ended_us, row.lost, row.rejoin_us), (None, None, None));
        outages.commits(&[commit(1_300, 1_310)]);
        assert_eq!(outages.acked_after_replacing(), (3, 1));
    }
}
