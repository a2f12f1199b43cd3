//! What a load thread counts, whichever client sends: every arrival by its outcome, second by second.

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

/// A transaction of the mix, with what is needed to draw its values and to count its effects.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) sampler: Sampler,
    /// The change that each statement makes, and the changed table as an index into the plan's tables. `None` for a statement that changes
    /// no table.
    changes: Vec<Option<(Change, usize)>>,
    /// Whether the row that the last statement changes existed before the first transaction.
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

    fn count_rows(&self, affected: &[u64], second: &mut Second) {
        for (change, affected) in self.changes.iter().zip(affected) {
            let affected = i64::try_from(*affected).unwrap_or(i64::MAX);
            match change {
                Some((Change::Insert, table)) => second.change_rows(*table, affected),
                Some((Change::Delete, table)) => second.change_rows(*table, -affected),
                Some((Change::Update, _)) | None => {}
            }
        }
    }

    /// The row whose change on a subscriber shows that a commit was applied. `None` for an update that returned no version.
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

/// Draws the transaction of an arrival and the values of its parameters: the same for every mode and every client.
#[derive(Debug)]
pub(super) struct Draws {
    pub(super) mix: Mix,
    pub(super) seed: u64,
}

impl Draws {
    /// The arrival's transaction as an index into the mix, and the random generator for its values.
    pub(super) fn of_arrival(&self, number: u64) -> (usize, Xoshiro256PlusPlus) {
        let mut rng = plan::rng(self.seed, number);
        (self.mix.pick(&mut rng), rng)
    }
}

/// An arrival that a client has dispatched.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attempt {
    pub(super) arrival: Arrival,
    /// An index into the transactions of the mix.
    pub(super) transaction: usize,
    /// When the arrival was handed to a connection, and how long it had waited for that connection. `None` if it was not sent.
    pub(super) sent: Option<(Stamp, Duration)>,
}

/// How an attempt ended.
#[derive(Debug)]
pub(super) enum Ending {
    Committed(Reply),
    Uncommitted(Uncommitted, Failure),
    /// The deadline passed before the transaction could be sent.
    Missed,
}

impl Ending {
    /// An ending for a transaction that was sent and not answered by the deadline.
    pub(super) fn unanswered(deadline: Duration) -> Self {
        let message = format!("no answer within {} s", deadline.as_secs_f64());
        Self::Uncommitted(Uncommitted::Indeterminate, Failure::lost(message))
    }
}

/// What the server answered to a committed transaction.
#[derive(Debug, Default)]
pub(super) struct Reply {
    pub(super) row: Option<ReturnedRow>,
    /// The number of rows that each statement affected.
    pub(super) affected: SmallVec<[u64; 4]>,
    /// When COMMIT was sent; `None` if the transaction is a single statement, without a COMMIT of its own.
    pub(super) commit_sent: Option<Stamp>,
    /// Whether the server warned that the commit may not have been replicated.
    pub(super) warned: bool,
    /// The server that acknowledged, as in [`Commit::server`].
    pub(super) server: u8,
}

/// What the last statement of a transaction returned about the row that it changed.
#[derive(Debug, Clone, Copy)]
pub(super) struct ReturnedRow {
    pub(super) xid: u64,
    /// `None` if the key has a type that the probes cannot look for.
    pub(super) key: Option<RowKey>,
    pub(super) version: Option<i64>,
}

/// The counts of one thread. Completed seconds are sent to the conductor.
#[derive(Debug)]
pub(super) struct Counters {
    pub(super) timeline: Timeline,
    /// Arrivals that this thread may have in flight.
    pub(super) max_in_flight: u32,
    /// Whether the seconds list every acknowledged commit.
    keeps_commits: bool,
    index: u16,
    seconds: mpsc::UnboundedSender<(u16, Second)>,
    second: Second,
    /// Arrivals that were dispatched and have not ended.
    in_flight: u32,
    /// Arrivals in flight that were sent and not answered.
    unanswered: Population,
    /// Arrivals in flight that wait for a connection.
    unsent: Population,
    /// Arrivals that are due and not dispatched.
    undispatched: Population,
    /// When the number in flight last fell below `max_in_flight`.
    room_since: Stamp,
    /// This thread's CPU time at the start of the current second.
    cpu: Duration,
}

impl Counters {
    /// The counters of the calling thread, whose CPU time they read.
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

    /// Updates the peak of the backlog. Call this when the thread wakes, before [`Counters::pass_time`]: an arrival that becomes due just
    /// then has not had to wait yet.
    pub(super) fn note_backlog(&mut self) {
        self.second.peak_backlog = self.second.peak_backlog.max(self.backlog().all);
    }

    fn note_in_flight(&mut self) {
        let in_flight = u64::from(self.in_flight);
        self.second.peak_in_flight = self.second.peak_in_flight.max(in_flight);
    }

    /// Counts every arrival that has become due by `now` in the second in which it became due, and closes the seconds that are over.
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

    /// Takes the arrival that has waited longest, and the instant from which the generator could have dispatched it: when it became due or,
    /// if that is later, when `max_in_flight` left room for it. `None` if nothing is due or `max_in_flight` leaves no room.
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

    /// Counts an arrival of a closed loop, which is due when it is sent.
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

    /// Records the dispatch lag of an arrival that could have been dispatched at `ready` and asked for a connection at `asked`.
    pub(super) fn note_dispatch(&mut self, measured: bool, ready: Stamp, asked: Stamp) {
        if self.second.records(measured) {
            self.second.dispatch_lag.record(asked.since(ready));
        }
    }

    /// Counts an arrival that was handed to a connection.
    pub(super) fn count_sent(&mut self, measured: bool) {
        self.unsent.remove(measured);
        self.unanswered.add(measured);
        self.second.count(measured, |outcomes| outcomes.sent += 1);
    }

    /// Counts an attempt that ended at `now`. Returns the commit, if the attempt committed and the last statement returned a row.
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
                entry.count_rows(&reply.affected, second);
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
            // An arrival that was not sent cannot have been acknowledged.
            (Ending::Committed(_) | Ending::Missed, _) => {
                second.count(measured, |outcomes| outcomes.missed += 1);
                None
            }
        }
    }

    /// Counts arrivals that have not ended by the end of the drain: as indeterminate if they were sent, else as missed.
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

    /// Ends the measurement phase: whatever follows belongs to the drain.
    pub(super) fn begin_drain(&mut self, now: Stamp) {
        if self.second.start_ns >= self.timeline.offset_ns(now) {
            // The thread has not waited since this second began, so nothing has been counted in it.
            self.second.phase = Phase::Drain;
        } else {
            self.close_second(now, Some(Phase::Drain));
        }
    }

    /// Sends the current second to the conductor and begins the next one, in `phase` if that is given.
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
        // If the conductor has ended, nobody needs the second.
        let _ = self.seconds.send((self.index, closed));
    }
}
