//! What a load thread counts, whichever client sends: every arrival by what became of it, second by second.

use std::time::Duration;

use rand_xoshiro::Xoshiro256PlusPlus;
use smallvec::SmallVec;
use tokio::sync::mpsc;

use super::share::{Arrival, Backlog, Population};
use super::stats::{Second, Uncommitted};
use super::values::Sampler;
use crate::clock::{self, Stamp};
use crate::pg::Failure;
use crate::plan::{self, Change, Mix, Transaction};
use crate::sample::{ChangedRow, Commit, Phase, RowChange, RowKey, Timeline};

/// A transaction of the mix, ready to draw values for it and to count what it did.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) sampler: Sampler,
    /// What each statement does to a table of the plan.
    changes: Vec<Option<(Change, usize)>>,
    /// The row that the last statement changes was there before the first transaction.
    was_there: bool,
}

impl Entry {
    pub(super) fn new(plan: &plan::Plan, transaction: &Transaction) -> Self {
        Self {
            sampler: Sampler::new(plan, transaction),
            changes: transaction.statements.iter().map(|it| it.change).collect(),
            was_there: transaction
                .rows_chosen()
                .any(|(table, _)| table == transaction.table),
        }
    }

    fn count_rows(&self, met: &[u64], second: &mut Second) {
        for (change, met) in self.changes.iter().zip(met) {
            let met = i64::try_from(*met).unwrap_or(i64::MAX);
            match change {
                Some((Change::Insert, table)) => second.change_rows(*table, met),
                Some((Change::Delete, table)) => second.change_rows(*table, -met),
                Some((Change::Update, _)) | None => {}
            }
        }
    }

    /// The row by which a subscriber shows a commit; `None` of an update without a version.
    fn changed_row(&self, key: RowKey, version: Option<i64>) -> Option<ChangedRow> {
        let (change, table) = (*self.changes.last()?)?;
        Some(ChangedRow {
            table: u8::try_from(table).ok()?,
            key,
            change: match change {
                Change::Insert => RowChange::Inserted,
                Change::Delete => RowChange::Deleted {
                    was_there: self.was_there,
                },
                Change::Update => RowChange::Updated {
                    version: version?,
                    was_there: self.was_there,
                },
            },
        })
    }
}

/// Which transaction an arrival is, and the values of its parameters: the same for every mode and every client.
#[derive(Debug)]
pub(super) struct Draws {
    pub(super) mix: Mix,
    pub(super) seed: u64,
}

impl Draws {
    /// An index into the transactions of the mix, and where its values come from.
    pub(super) fn of_arrival(&self, number: u64) -> (usize, Xoshiro256PlusPlus) {
        let mut rng = plan::rng(self.seed, number);
        (self.mix.pick(&mut rng), rng)
    }
}

/// An arrival that a client has taken on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attempt {
    pub(super) arrival: Arrival,
    /// An index into the transactions of the mix.
    pub(super) transaction: usize,
    /// When it was handed to a connection, and how long it had waited for one.
    pub(super) sent: Option<(Stamp, Duration)>,
}

/// How an attempt ended.
#[derive(Debug)]
pub(super) enum Ending {
    Committed(Reply),
    Uncommitted(Uncommitted, Failure),
    /// The deadline passed before it could be sent.
    Missed,
}

impl Ending {
    /// The deadline passed without an answer.
    pub(super) fn unanswered(deadline: Duration) -> Self {
        let message = format!("no answer within {} s", deadline.as_secs_f64());
        Self::Uncommitted(Uncommitted::Indeterminate, Failure::lost(message))
    }
}

/// What a committed transaction told.
#[derive(Debug, Default)]
pub(super) struct Reply {
    pub(super) row: Option<ReturnedRow>,
    /// Rows that each statement met.
    pub(super) met: SmallVec<[u64; 4]>,
    /// When COMMIT was sent, if it was a message of its own.
    pub(super) commit_sent: Option<Stamp>,
    /// The server warned that the commit may not have been replicated.
    pub(super) warned: bool,
    /// As in [`Commit`].
    pub(super) server: u8,
}

/// What the last statement returned of a row that it changed.
#[derive(Debug, Clone, Copy)]
pub(super) struct ReturnedRow {
    pub(super) xid: u64,
    /// `None`: of a type that cannot be looked for.
    pub(super) key: Option<RowKey>,
    pub(super) version: Option<i64>,
}

/// The counts of one thread. Seconds that are over go to the conductor.
#[derive(Debug)]
pub(super) struct Counters {
    pub(super) timeline: Timeline,
    /// Arrivals that this thread may have in flight.
    pub(super) max_in_flight: u32,
    /// Whether its seconds are to have every acknowledged commit.
    keeps_commits: bool,
    index: u16,
    seconds: mpsc::UnboundedSender<(u16, Second)>,
    second: Second,
    /// Dispatched and not ended.
    in_flight: u32,
    /// Those of them that were sent.
    unanswered: Population,
    /// Those of them that wait for a connection.
    unsent: Population,
    /// Due and not dispatched.
    undispatched: Population,
    /// When `max_in_flight` last left room again.
    room_since: Stamp,
    /// This thread's CPU time at the start of the second.
    cpu: Duration,
}

impl Counters {
    /// Those of the thread that calls.
    pub(super) fn new(
        timeline: Timeline,
        index: u16,
        max_in_flight: u32,
        keeps_commits: bool,
        seconds: mpsc::UnboundedSender<(u16, Second)>,
    ) -> Self {
        Self {
            timeline,
            max_in_flight,
            keeps_commits,
            index,
            seconds,
            second: Second::new(
                timeline.first_second(),
                timeline.phase_at(timeline.start),
                timeline.offset_ns(timeline.start),
            ),
            in_flight: 0,
            unanswered: Population::default(),
            unsent: Population::default(),
            undispatched: Population::default(),
            room_since: timeline.start,
            cpu: clock::thread_cpu(),
        }
    }

    /// Whether `max_in_flight` lets another arrival be dispatched.
    pub(super) fn has_room(&self) -> bool {
        self.in_flight < self.max_in_flight
    }

    pub(super) fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Whether every arrival that was due has ended.
    pub(super) fn is_idle(&self) -> bool {
        self.in_flight == 0 && self.undispatched.all == 0
    }

    pub(super) fn phase(&self) -> Phase {
        self.second.phase
    }

    /// Arrivals that are due and not sent.
    fn backlog(&self) -> Population {
        Population {
            all: self.undispatched.all + self.unsent.all,
            measured: self.undispatched.measured + self.unsent.measured,
        }
    }

    /// To be called when the thread wakes, before it dispatches: what has only just become due waits for nothing yet.
    pub(super) fn note_backlog(&mut self) {
        self.second.peak_backlog = self.second.peak_backlog.max(self.backlog().all);
    }

    fn note_in_flight(&mut self) {
        let in_flight = u64::from(self.in_flight);
        self.second.peak_in_flight = self.second.peak_in_flight.max(in_flight);
    }

    /// Takes in what has become due by `now`, each arrival in the second in which it did, and closes the seconds that are over.
    pub(super) fn pass_time(&mut self, backlog: &mut Backlog, now: Stamp) {
        while now >= self.second_end() {
            let end = self.second_end();
            self.become_due(backlog, end);
            self.close_second(end, None);
        }
        self.become_due(backlog, now);
    }

    fn become_due(&mut self, backlog: &mut Backlog, until: Stamp) {
        let due = backlog.become_due(until);
        self.second.all.offered += due.all;
        self.second.measured.offered += due.measured;
        self.undispatched = backlog.waiting();
    }

    /// Takes the arrival that has waited longest, and since when it could have been dispatched, if that was not up to this
    /// generator. `None`: nothing is due, or `max_in_flight` leaves no room.
    pub(super) fn dispatch(&mut self, backlog: &mut Backlog) -> Option<(Arrival, Stamp)> {
        if !self.has_room() {
            return None;
        }
        let arrival = backlog.pop()?;
        self.undispatched = backlog.waiting();
        let ready = arrival.due.max(self.room_since);
        self.begin(arrival.measured);
        Some((arrival, ready))
    }

    /// Takes in an arrival of a closed loop, which is due when it is sent.
    pub(super) fn offer(&mut self, measured: bool) {
        self.begin(measured);
        self.second
            .count(measured, |outcomes| outcomes.offered += 1);
    }

    fn begin(&mut self, measured: bool) {
        self.in_flight += 1;
        self.unsent.add(measured);
        self.note_in_flight();
    }

    /// A connection was asked for at `asked`, for an arrival that could have been dispatched at `ready`.
    pub(super) fn note_dispatch(&mut self, measured: bool, ready: Stamp, asked: Stamp) {
        if self.second.records(measured) {
            self.second.dispatch_lag.record(asked.since(ready));
        }
    }

    /// An arrival was handed to a connection.
    pub(super) fn count_sent(&mut self, measured: bool) {
        self.unsent.remove(measured);
        self.unanswered.add(measured);
        self.second.count(measured, |outcomes| outcomes.sent += 1);
    }

    /// Counts an attempt that ended at `now`. The commit, if it made one that a replica can show.
    pub(super) fn end(
        &mut self,
        entries: &[Entry],
        attempt: &Attempt,
        ending: Ending,
        now: Stamp,
    ) -> Option<Commit> {
        let Arrival { due, measured, .. } = attempt.arrival;
        if !self.has_room() {
            self.room_since = now;
        }
        self.in_flight -= 1;
        match attempt.sent {
            Some(_) => self.unanswered.remove(measured),
            None => self.unsent.remove(measured),
        }
        let second = &mut self.second;
        let records = second.records(measured);
        if let Some((sent, pool_wait)) = attempt.sent
            && records
        {
            second.pool_wait.record(pool_wait);
            second.start_lag.record(sent.since(due));
        }
        match (ending, attempt.sent) {
            (Ending::Uncommitted(kind, failure), _) => {
                second.count(measured, |outcomes| outcomes.end_uncommitted(kind));
                second.count_failure(kind, failure, 1);
                if kind == Uncommitted::Indeterminate {
                    second.unknown += 1;
                }
                None
            }
            (Ending::Committed(reply), Some((sent, _))) => {
                second.count(measured, |outcomes| {
                    if reply.warned {
                        outcomes.acked_with_warning += 1;
                    } else {
                        outcomes.acked += 1;
                    }
                });
                let Reply { warned, server, .. } = reply;
                let entry = &entries[attempt.transaction];
                entry.count_rows(&reply.met, second);
                if records {
                    second.service.record(now.since(sent));
                    second.response.record(now.since(due));
                }
                let ReturnedRow { xid, key, version } = reply.row?;
                let commit = Commit {
                    xid,
                    row: key.and_then(|key| entry.changed_row(key, version)),
                    sent: reply.commit_sent.unwrap_or(sent),
                    acked: now,
                    measured,
                    server,
                    warned,
                };
                if self.keeps_commits {
                    second.commits.push(commit);
                }
                Some(commit)
            }
            // Without a send there is no acknowledgement.
            (Ending::Committed(_) | Ending::Missed, _) => {
                second.count(measured, |outcomes| outcomes.missed += 1);
                None
            }
        }
    }

    /// Counts what has not ended by the end of the drain: indeterminate if it was sent, else missed.
    pub(super) fn give_up(&mut self) {
        let (unanswered, unsent) = (self.unanswered, self.backlog());
        let second = &mut self.second;
        second.measured.indeterminate += unanswered.measured;
        second.all.indeterminate += unanswered.all;
        second.measured.missed += unsent.measured;
        second.all.missed += unsent.all;
        if unanswered.all > 0 {
            second.unknown += unanswered.all;
            let failure = Failure::lost("no answer by the end of the drain");
            second.count_failure(Uncommitted::Indeterminate, failure, unanswered.all);
        }
        self.in_flight = 0;
        self.unanswered = Population::default();
        self.unsent = Population::default();
        self.undispatched = Population::default();
        self.close_second(clock::now(), None);
    }

    pub(super) fn second_end(&self) -> Stamp {
        self.timeline.end_of_second(self.second.index)
    }

    /// Closes every second that has ended by `now`.
    pub(super) fn close_seconds(&mut self, now: Stamp) {
        while now >= self.second_end() {
            let end = self.second_end();
            self.close_second(end, None);
        }
    }

    /// The phase is over: what follows belongs to the drain.
    pub(super) fn begin_drain(&mut self, now: Stamp) {
        if self.second.start_ns >= self.timeline.offset_ns(now) {
            // Nothing was awaited since this second began, so nothing is in it.
            self.second.phase = Phase::Drain;
        } else {
            self.close_second(now, Some(Phase::Drain));
        }
    }

    /// Hands the current second over and begins the next one, in another phase if told so.
    fn close_second(&mut self, end: Stamp, phase: Option<Phase>) {
        let cpu = clock::thread_cpu();
        let index = self.second.index;
        let next_index = if end >= self.timeline.end_of_second(index) {
            index + 1
        } else {
            index
        };
        let next_phase = phase.unwrap_or(if self.second.phase == Phase::Drain {
            Phase::Drain
        } else {
            self.timeline.phase_at(end)
        });
        let end_ns = self.timeline.offset_ns(end);
        let next = Second::new(next_index, next_phase, end_ns);
        let mut closed = std::mem::replace(&mut self.second, next);
        closed.end_ns = end_ns;
        closed.backlog = self.backlog().all;
        closed.in_flight = u64::from(self.in_flight);
        closed.cpu = cpu.saturating_sub(self.cpu);
        self.cpu = cpu;
        self.note_in_flight();
        // A conductor that has gone needs no more seconds.
        let _ = self.seconds.send((self.index, closed));
    }
}
