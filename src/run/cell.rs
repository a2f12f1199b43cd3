//! One cell from its preparation to its row: reset, switch the mode, warm up, measure, drain, count.

use std::pin::pin;
use std::time::{Duration, SystemTime};

use super::audit::Reads;
use super::cell_row::{CellProgress, cell_row};
use super::faults::{Happened, Script, target};
use super::figures::{CellHeadline, Distributions, Figures};
use super::lag_evidence::Expected;
use super::maintenance::Watch;
use super::outages::Outages;
use super::validity::{self, Validity};
use super::watchdog::{Standstill, Watchdog};
use super::{Interrupt, LiveSecond, Observer, Progress, RunError};
use crate::clock;
use crate::cluster::{Cluster, Restore};
use crate::load::check::Mistake;
use crate::load::{Load, Second, Uncommitted, Watched, workload};
use crate::mode::Mode;
use crate::pg::{self, Endpoint};
use crate::plan::{Cell, Plan, Table};
use crate::probe::{Assignment, Probes, Reading, TrackedTable};
use crate::record::Recorder;
use crate::record::tags::{self, Bound, Origin};
use crate::sample::{CellRow, EventKind, EventRow, Phase, Timeline};
use crate::topology::Role;
use crate::units::format_duration;

/// Time from when load and probes are ready to the first arrival.
const LEAD: Duration = Duration::from_millis(20);
/// The longest that replicas may take to apply the reset of the tables.
const CATCH_UP: Duration = Duration::from_mins(1);
/// The longest that checkpoints on all nodes may take, including their writes to disk.
const SETTLE: Duration = Duration::from_mins(2);
const RESET: Duration = Duration::from_mins(5);
const CONNECT: Duration = Duration::from_secs(10);

/// What a cell works with.
pub(super) struct CellContext<'a> {
    pub(super) plan: &'a Plan,
    pub(super) cell: &'a Cell,
    pub(super) mode: &'a Mode,
    pub(super) cluster: &'a Cluster,
    pub(super) recorder: &'a mut Recorder,
    pub(super) observer: &'a mut dyn Observer,
    pub(super) interrupt: &'a mut Interrupt,
}

/// How a cell ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) row: CellRow,
    pub(super) validity: Validity,
    pub(super) headline: CellHeadline,
}

impl<'a> CellContext<'a> {
    /// Runs the cell. What was measured is in the recorder even when this fails.
    pub(super) async fn run(mut self) -> Result<Ended, RunError> {
        // Nothing has been measured yet: one signal is enough.
        let mut interrupt = self.interrupt.clone();
        let mode = tokio::select! {
            prepared = self.prepare() => prepared?,
            _ = interrupt.raised() => return Err(RunError::Stopped),
        };
        let (mut probes, feed, looks) = Probes::open(self.assignment()).await?;
        let moves = self.plan.changes_primary();
        let follower = moves.then(|| probes.follower(&feed));
        let watches = self.plan.probes.visibility;
        let watched = watches.then_some(Watched { feed, looks });
        let primary = self.cluster.load_endpoint(self.mode);
        let successors = self.cluster.successors().filter(|_| moves);
        let successors = successors.map(|it| it.endpoint.clone());
        let opened = Load::open(self.plan, self.cell, primary, successors, watched).await;
        let mut load = match opened {
            Ok(load) => load,
            Err(error) => {
                probes.finish(clock::now());
                probes.join()?;
                return Err(error.into());
            }
        };
        let priority = Some(load.priority());
        if self.recorder.manifest().load_priority != priority {
            self.recorder.amend(|it| it.load_priority = priority)?;
        }
        let watchdog = Watchdog::start().map_err(RunError::Watchdog)?;
        let timeline = Timeline::new(clock::now() + LEAD, self.plan.phases.warmup);
        let started = SystemTime::from(clock::wall()) + LEAD + self.plan.phases.warmup;
        let watch = Watch::begin(self.cluster, timeline.measure_from);
        probes.start(timeline);
        load.start(timeline);
        let mut progress = CellProgress {
            figures: Figures::new(self.cell.id, timeline, self.expected(timeline)),
            started,
            live: LiveSecond::new(self.plan),
            timer_early: load.timer_early(),
            outages: Outages::default(),
            ledger: self.ledger()?,
            reads: Reads::default(),
        };
        let faults = &self.plan.faults;
        let script = Script::new(self.cluster, faults, timeline, follower);
        let outcome = self
            .measure(&mut load, &mut probes, &mut progress, &script)
            .await;
        let undone = script.undo_all().await;
        let noted = self.take_faults(&script, &mut progress);
        // Both threads end by themselves from here on. Their errors are returned only if the cell itself had none.
        load.stopper().stop();
        probes.finish(clock::now());
        let joined = load.join().map_err(RunError::from);
        let probed = probes.join().map_err(RunError::from);
        let standstill = watchdog.finish();
        self.write_intervals(&mut progress.figures, true)?;
        outcome?;
        undone?;
        noted?;
        progress.figures.maintenance = watch.end().await;
        joined?;
        probed?;
        let ended = self.conclude(progress, &standstill, &script).await?;
        if moves {
            // These servers are not used again.
            mode.keep();
        } else if let Err(error) = mode.undo().await {
            self.observer
                .on(Progress::Note(format!("the mode is not undone: {error}")));
        }
        Ok(ended)
    }

    /// Brings tables, mode and replicas into the state in which every cell begins.
    async fn prepare(&self) -> Result<Restore<'a>, RunError> {
        let primary = &self.cluster.primary().endpoint;
        let options = Some("-c synchronous_commit=local");
        reset(primary, options, workload::reset(self.plan)).await?;
        let before = self.cluster.apply_mode(self.mode).await?;
        if self.plan.changes_primary() {
            self.cluster.prepare_failover(self.mode).await?;
        }
        self.cluster.await_caught_up(CATCH_UP).await?;
        self.vacuum_subscribers().await?;
        if self.plan.is_restored() {
            self.cluster.back_up_for_restores().await?;
        }
        tokio::time::timeout(SETTLE, self.cluster.checkpoint())
            .await
            .map_err(|_| RunError::CheckpointTooSlow(SETTLE))??;
        Ok(before)
    }

    /// Vacuums the tables of subscribers. Standbys have replayed the primary's vacuum.
    async fn vacuum_subscribers(&self) -> Result<(), RunError> {
        let nodes = self.cluster.nodes().iter();
        for node in nodes.filter(|node| node.node.role == Role::Subscriber) {
            let vacuum = vec![(workload::vacuum(self.plan), None)];
            reset(&node.endpoint, None, vacuum).await?;
        }
        Ok(())
    }

    fn expected(&self, timeline: Timeline) -> Expected {
        let nodes = self.cluster.nodes().iter().map(|node| &node.node);
        let measure = self.plan.phases.measure.duration();
        Expected {
            streaming: nodes
                .filter(|node| node.upstream.is_some())
                .map(|node| node.name.clone())
                .collect(),
            synchronous: self.mode.sync.as_ref().map(|set| set.quorum.count()),
            measure_until: measure.map(|duration| timeline.measure_from + duration),
        }
    }

    fn assignment(&self) -> Assignment {
        Assignment {
            cell_id: self.cell.id,
            plan: self.plan.probes,
            level: self.mode.level,
            primary: target(self.cluster.primary()),
            replicas: self.cluster.replicas().map(target).collect(),
            tables: TrackedTable::of(self.plan),
            lends_looks: Assignment::is_lent(self.plan),
        }
    }

    /// Takes in what load, probes and faults report until all have ended.
    async fn measure(
        &mut self,
        load: &mut Load,
        probes: &mut Probes,
        progress: &mut CellProgress,
        script: &Script<'_>,
    ) -> Result<(), RunError> {
        let (mut loading, mut probing, mut acting) = (true, true, true);
        let mut acts = pin!(script.play());
        while loading || probing || acting {
            tokio::select! {
                second = load.next_second(), if loading => {
                    loading = second.is_some();
                    if let Some(second) = second {
                        self.take_second(&second, progress)?;
                    } else {
                        script.end();
                        script.release_follower();
                        probes.finish(clock::now() + self.plan.phases.drain);
                    }
                }
                reading = probes.next(), if probing => {
                    // Probes that end before the load have failed: joining them gives the reason.
                    probing = reading.is_some();
                    if let Some(reading) = reading {
                        // Faults that happened before this reading are recorded before it.
                        self.take_faults(script, progress)?;
                        self.take_reading(reading, progress)?;
                    }
                }
                acted = &mut acts, if acting => {
                    acting = false;
                    acted?;
                }
                level = self.interrupt.raised() => {
                    load.stopper().stop();
                    if level > 1 {
                        load.stopper().abort();
                        return Err(RunError::Stopped);
                    }
                }
            }
            if !probing && loading {
                load.stopper().stop();
            }
            self.take_faults(script, progress)?;
        }
        Ok(())
    }

    /// An event of this cell, without a node.
    pub(super) fn event(&self, t_us: i64, kind: EventKind, detail: impl Into<String>) -> EventRow {
        EventRow::new(Some(self.cell.id), t_us, kind, detail)
    }

    fn take_faults(
        &mut self,
        script: &Script<'_>,
        progress: &mut CellProgress,
    ) -> Result<(), RunError> {
        for event in script.take_events() {
            progress.figures.lag.fault(&event);
            progress.outages.event(&event);
            let mut node = event.fault.target.clone();
            let mut detail = event.fault.to_string();
            let mut sqlstate = None;
            let kind = match event.what {
                Happened::Began => EventKind::FaultBegan,
                // `Killed` follows `Began` at once, so it gets no row.
                Happened::Killed => continue,
                Happened::Promoted(promoted, _) => {
                    node = promoted;
                    EventKind::Promoted
                }
                Happened::QueryCancelled(failure) => {
                    sqlstate = failure.sqlstate.map(|it| it.code().to_owned());
                    detail = failure.message;
                    EventKind::QueryCancelled
                }
                Happened::Ended => EventKind::FaultEnded,
            };
            self.recorder.event(&EventRow {
                node: Some(node),
                sqlstate,
                ..self.event(progress.figures.timeline.t_us(event.at), kind, detail)
            })?;
        }
        Ok(())
    }

    fn take_second(
        &mut self,
        second: &Second,
        progress: &mut CellProgress,
    ) -> Result<(), RunError> {
        progress.figures.second(second);
        progress.outages.commits(&second.commits);
        if let Some(ledger) = &mut progress.ledger {
            ledger.add(&second.commits).map_err(RunError::Ledger)?;
        }
        for failure in second.failures.iter() {
            let kind = match failure.how {
                Uncommitted::Failed => EventKind::Error,
                Uncommitted::Indeterminate => EventKind::Indeterminate,
                Uncommitted::NoConnection => EventKind::NoConnection,
            };
            self.recorder.event(&EventRow {
                node: Some("primary".into()),
                sqlstate: Some(failure.sqlstate.clone()).filter(|state| !state.is_empty()),
                count: Some(failure.count),
                ..self.event(second.start_ns / 1_000, kind, &failure.detail)
            })?;
        }
        if second.phase != Phase::Warmup {
            let start = Duration::from_nanos(u64::try_from(second.start_ns).unwrap_or(0));
            let tagged = [
                (tags::DISPATCH_LAG.to_owned(), &second.dispatch_lag),
                (tags::START_LAG.to_owned(), &second.start_lag),
                (tags::POOL_WAIT.to_owned(), &second.pool_wait),
                (tags::SERVICE.to_owned(), &second.service),
                (tags::RESPONSE.to_owned(), &second.response),
            ];
            let length = second.length();
            self.recorder
                .histograms(self.cell.id, progress.started, start, length, &tagged)?;
        }
        progress.live.take_second(second);
        self.observer.on(Progress::Second(&progress.live));
        self.write_intervals(&mut progress.figures, false)?;
        // Without this check, the death of a primary would show only as failing transactions.
        for (node, how) in self.cluster.exited() {
            self.trouble(progress, &node, EventKind::Exit, &how)?;
        }
        self.recorder.flush()?;
        Ok(())
    }

    fn take_reading(
        &mut self,
        reading: Reading,
        progress: &mut CellProgress,
    ) -> Result<(), RunError> {
        match reading {
            Reading::Lag(sample) => {
                progress.figures.lag(&sample);
                progress.outages.lag(&sample);
                progress.live.take_lag(&sample);
                for row in &sample.rows {
                    self.recorder.lag(row)?;
                }
            }
            Reading::Host(mut second) => {
                // The servers run on another machine, so this host's processor shares say nothing about them.
                second.shares = second.shares.filter(|_| self.cluster.is_on_this_machine());
                progress.figures.host(second);
                self.write_intervals(&mut progress.figures, false)?;
            }
            Reading::Visibility(second) => {
                progress.outages.visibility(&second);
                progress.reads.visibility(&second);
                let (row, distributions) = progress.figures.visibility(&second);
                progress.live.take_visibility(&row);
                self.recorder.visibility(&row)?;
                let tag = |origin, bound, is_negative| {
                    tags::visibility(&second.node, origin, bound, is_negative)
                };
                let Distributions {
                    lo,
                    hi,
                    hi_from_send,
                } = &distributions;
                let tagged = [
                    (tag(Origin::Ack, Bound::Lo, false), &lo.positive),
                    (tag(Origin::Ack, Bound::Lo, true), &lo.negative),
                    (tag(Origin::Ack, Bound::Hi, false), &hi.positive),
                    (tag(Origin::Ack, Bound::Hi, true), &hi.negative),
                    (tag(Origin::Send, Bound::Hi, false), hi_from_send),
                ];
                let start = Duration::from_secs(u64::try_from(second.index).unwrap_or(0));
                let length = Duration::from_secs(1);
                self.recorder
                    .histograms(self.cell.id, progress.started, start, length, &tagged)?;
            }
            Reading::Backwards { node, at, looks } => {
                progress.reads.backwards(&node, looks);
                let t_us = progress.figures.timeline.t_us(at);
                let detail = "looks saw less than an earlier one";
                self.recorder.event(&EventRow {
                    node: Some(node),
                    count: Some(looks),
                    ..self.event(t_us, EventKind::Backwards, detail)
                })?;
            }
            Reading::Trouble { node, detail } => {
                self.trouble(progress, &node, EventKind::Reconnect, &detail)?;
            }
        }
        Ok(())
    }

    fn trouble(
        &mut self,
        progress: &mut CellProgress,
        node: &str,
        kind: EventKind,
        detail: &str,
    ) -> Result<(), RunError> {
        if kind == EventKind::Exit && !progress.live.exited.insert(node.to_owned()) {
            return Ok(());
        }
        let t_us = progress.figures.timeline.t_us(clock::now());
        self.recorder.event(&EventRow {
            node: Some(node.into()),
            ..self.event(t_us, kind, detail)
        })?;
        self.observer
            .on(Progress::Note(format!("`{node}`: {detail}")));
        Ok(())
    }

    fn write_intervals(&mut self, figures: &mut Figures, all: bool) -> Result<(), RunError> {
        for row in figures.take_intervals(all) {
            self.recorder.interval(&row)?;
        }
        Ok(())
    }

    /// Judges the cell, audits the nodes, and writes the cell's row.
    async fn conclude(
        &mut self,
        mut progress: CellProgress,
        standstill: &Standstill,
        script: &Script<'_>,
    ) -> Result<Ended, RunError> {
        let figures = &progress.figures;
        let interrupted = self.interrupt.level() > 0;
        let mut validity = validity::judge(self.plan, self.mode, figures, standstill, interrupted);
        for stall in &standstill.stalls {
            let t_us = figures.timeline.t_us(stall.from);
            let length = format_duration(stall.length);
            let detail = format!("replbench itself stood still for {length}");
            let event = self.event(t_us, EventKind::Stall, detail);
            self.recorder.event(&event)?;
        }
        for node in &progress.live.exited {
            validity
                .invalid
                .push(format!("the server of `{node}` ended during the cell"));
        }
        self.audit(&mut progress, script, &mut validity).await?;
        let row = cell_row(self.plan, self.cell, self.mode, &progress, &validity);
        self.recorder.cell(&row)?;
        self.recorder.flush()?;
        Ok(Ended {
            row,
            validity,
            headline: progress.figures.headline(),
        })
    }
}

/// Sends statements in a session opened for them. Each comes with the table that the statement fills, if it fills one.
async fn reset(
    endpoint: &Endpoint,
    options: Option<&str>,
    statements: Vec<(String, Option<&Table>)>,
) -> Result<(), RunError> {
    let reset = async {
        let session = pg::connect(endpoint, "replbench reset", options, CONNECT).await?;
        for (statement, filled) in statements {
            let done = session.client().batch_execute(&statement).await;
            done.map_err(|error| reset_failed(filled, &error))?;
        }
        session.close().await;
        Ok(())
    };
    tokio::time::timeout(RESET, reset)
        .await
        .map_err(|_| RunError::ResetTooSlow(RESET))?
}

/// If the server accepts a `fill` statement and the statement fails on its rows, the profile has a mistake. A full disk or a lost
/// connection is another matter.
fn reset_failed(filled: Option<&Table>, error: &tokio_postgres::Error) -> RunError {
    let failure = pg::describe(error);
    let is_of_the_statement = failure.sqlstate.as_ref().is_some_and(|state| {
        let classes = ["22", "23", "42", "P0"];
        classes.iter().any(|class| state.code().starts_with(class))
    });
    match filled.filter(|_| is_of_the_statement) {
        Some(table) => RunError::Workload(vec![Mistake::of_fill(table, &failure)]),
        None => RunError::Reset(failure),
    }
}
