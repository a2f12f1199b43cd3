//! Samples WAL positions and lag at fixed times: all upstreams and all replicas at once, each in one query.
//!
//! A server that does not answer delays no other. A late answer of an upstream still belongs to the sample that asked for it. That sample
//! is handed over when the answer has come or has been given up; until then the upstream is asked nothing else.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_postgres::Statement;

use super::{Assignment, CONNECT_DEADLINE, LagSample, Moved, ProbeError, Reading, Target};
use crate::clock::{self, Stamp, Timer};
use crate::mode::SyncLevel;
use crate::pg::catalog::{self, ReplicaSample, UpstreamSample};
use crate::pg::{self, Session};
use crate::sample::{LagRow, Timeline};
use crate::topology::{Node, Role};

/// A server that has not answered for this long is connected to again.
const GIVE_UP: Duration = Duration::from_secs(5);

#[derive(Debug, Clone)]
enum Answer {
    Upstream(UpstreamSample),
    Replica(ReplicaSample),
}

#[derive(Debug)]
struct Ready {
    session: Session,
    statement: Statement,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum View {
    /// What the server knows about the replicas that are connected to it.
    Upstream { level: SyncLevel },
    /// What the replica knows about itself.
    Replica { physical: bool },
}

/// A server's answer, when it had come, and the session for the next question; or why there is no answer.
type Asked = Result<(Ready, Answer, Stamp), String>;

/// A question that has not been answered yet. Dropping it ends the wait for the answer.
#[derive(Debug)]
struct Question {
    /// The instant of the sample that asked the question.
    sampled: Stamp,
    handle: JoinHandle<Asked>,
}

impl Drop for Question {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

/// One server, asked the same question at every sample.
#[derive(Debug)]
struct Source {
    target: Target,
    view: View,
    ready: Option<Ready>,
    pending: Option<Question>,
    lost: bool,
}

impl Source {
    /// A source that is not connected yet.
    fn of(target: Target, view: View) -> Self {
        Self {
            target,
            view,
            ready: None,
            pending: None,
            lost: false,
        }
    }

    async fn open(target: Target, view: View) -> Result<Self, ProbeError> {
        let ready = Some(connect(&target, view).await?);
        Ok(Self {
            ready,
            ..Self::of(target, view)
        })
    }

    /// Asks the server, unless a question of less than [`GIVE_UP`] ago still waits for its answer.
    fn ask(&mut self, sampled: Stamp) {
        if let Some(Question {
            sampled: since,
            handle,
        }) = &self.pending
        {
            if sampled.since(*since) < GIVE_UP {
                return;
            }
            handle.abort();
            self.ready = None;
        }
        let (target, view, ready) = (self.target.clone(), self.view, self.ready.take());
        let handle = tokio::task::spawn_local(async move {
            let ready = match ready {
                Some(ready) => ready,
                None => connect(&target, view)
                    .await
                    .map_err(|error| error.to_string())?,
            };
            let client = ready.session.client();
            let answer = match view {
                View::Upstream { .. } => catalog::upstream(client, &ready.statement)
                    .await
                    .map(Answer::Upstream),
                View::Replica { .. } => catalog::replica(client, &ready.statement)
                    .await
                    .map(Answer::Replica),
            };
            let answered = clock::now();
            match answer {
                Ok(answer) => Ok((ready, answer, answered)),
                Err(error) => Err(pg::describe(&error).to_string()),
            }
        });
        self.pending = Some(Question { sampled, handle });
    }

    /// The answer, if it comes by `deadline`: the instant of the sample that asked for it, the answer, and when it had come. An error is a
    /// sentence, returned once when the server has been lost.
    async fn answer(&mut self, deadline: Stamp) -> Result<Option<(Stamp, Answer, Stamp)>, String> {
        let Some(mut question) = self.pending.take() else {
            return Ok(None);
        };
        let patience = deadline.since(clock::now());
        match tokio::time::timeout(patience, &mut question.handle).await {
            Err(_elapsed) => {
                self.pending = Some(question);
                Ok(None)
            }
            Ok(Ok(Ok((ready, answer, answered)))) => {
                self.ready = Some(ready);
                self.lost = false;
                Ok(Some((question.sampled, answer, answered)))
            }
            Ok(Ok(Err(message))) if !self.lost => {
                self.lost = true;
                Err(message)
            }
            Ok(_) => Ok(None),
        }
    }

    /// Whether this server may still answer for a sample, however late. Only upstreams may.
    fn owes(&self, sampled: Stamp) -> bool {
        let is_upstream = matches!(self.view, View::Upstream { .. });
        let pending = self.pending.as_ref();
        is_upstream && pending.is_some_and(|question| question.sampled == sampled)
    }
}

async fn connect(target: &Target, view: View) -> Result<Ready, ProbeError> {
    let session = pg::connect(&target.endpoint, "replbench lag", None, CONNECT_DEADLINE).await?;
    let client = session.client();
    let statement = match view {
        View::Upstream { level } => {
            let row = client
                .query_one("SELECT current_setting('server_version_num')::int", &[])
                .await
                .map_err(|error| ProbeError::query(target, &error))?;
            let version = u32::try_from(row.get::<_, i32>(0)).unwrap_or(0);
            catalog::prepare_upstream(client, version, level).await
        }
        View::Replica { physical } => catalog::prepare_replica(client, physical).await,
    }
    .map_err(|error| ProbeError::query(target, &error))?;
    Ok(Ready { session, statement })
}

/// Samples all servers of a cell until it is aborted.
#[derive(Debug)]
pub(super) struct Sampler {
    sources: Vec<Source>,
    samples: Samples,
    level: SyncLevel,
    interval: Duration,
}

impl Sampler {
    pub(super) async fn open(
        assignment: &Assignment,
        readings: mpsc::UnboundedSender<Reading>,
    ) -> Result<Self, ProbeError> {
        let Assignment {
            primary,
            replicas,
            level,
            ..
        } = assignment;
        let mut opened = Vec::new();
        for (target, view) in sources(primary, replicas, *level) {
            opened.push(Source::open(target, view).await?);
        }
        let interval = assignment.plan.lag_interval;
        Ok(Self {
            sources: opened,
            samples: Samples {
                cell_id: assignment.cell_id,
                primary: primary.node.name.clone(),
                replicas: replicas.iter().map(|target| target.node.clone()).collect(),
                patience: interval,
                timeline: Timeline::default(),
                readings,
                open: VecDeque::new(),
            },
            level: *level,
            interval,
        })
    }

    pub(super) async fn run(
        mut self,
        timeline: Timeline,
        mut following: watch::Receiver<Option<Moved>>,
    ) -> io::Result<()> {
        let mut timer = Timer::new()?;
        let mut due = timeline.start;
        let samples = &mut self.samples;
        samples.timeline = timeline;
        loop {
            timer.sleep_until(due).await?;
            let at = clock::now();
            if following.has_changed().unwrap_or(false)
                && let Some(Moved { primary, replicas }) = following.borrow_and_update().clone()
            {
                if samples.hand_over(|_| true).is_err() {
                    return Ok(());
                }
                samples.primary.clone_from(&primary.node.name);
                samples.replicas = replicas.iter().map(|it| it.node.clone()).collect();
                self.sources = sources(&primary, &replicas, self.level)
                    .map(|(target, view)| Source::of(target, view))
                    .collect();
            }
            // Takes what has been answered since the last sample's deadline, so that those servers can be asked again.
            collect(&mut self.sources, at, samples).await;
            samples.open.push_back(Sample::new(at));
            for source in &mut self.sources {
                source.ask(at);
            }
            let deadline = at + self.interval.mul_f64(0.9);
            collect(&mut self.sources, deadline, samples).await;
            let is_whole = |sampled| !self.sources.iter().any(|source| source.owes(sampled));
            if samples.hand_over(is_whole).is_err() {
                return Ok(());
            }
            // Samples stay on their grid: if one takes longer than the interval, the instants that it missed are left out, not made up
            // for.
            while due <= clock::now() {
                due = due + self.interval;
            }
        }
    }
}

/// Which servers are asked, and which view each is asked for.
fn sources(
    primary: &Target,
    replicas: &[Target],
    level: SyncLevel,
) -> impl Iterator<Item = (Target, View)> {
    let upstream = View::Upstream { level };
    let of_replica = move |target: &Target| {
        let is_upstream = replicas
            .iter()
            .any(|other| other.node.upstream.as_ref() == Some(&target.node.name));
        let as_upstream = is_upstream.then(|| (target.clone(), upstream));
        let physical = target.node.role.is_physical();
        let own = (target.clone(), View::Replica { physical });
        as_upstream.into_iter().chain([own])
    };
    std::iter::once((primary.clone(), upstream)).chain(replicas.iter().flat_map(of_replica))
}

/// Takes in the answers that come by `deadline`.
async fn collect(sources: &mut [Source], deadline: Stamp, samples: &mut Samples) {
    for source in sources {
        match source.answer(deadline).await {
            Ok(Some((sampled, answer, answered))) => {
                samples.take(&source.target.node.name, sampled, answer, answered);
            }
            Ok(None) => {}
            Err(message) => {
                // The channel is closed only when the cell is over.
                let _ = samples.readings.send(Reading::Trouble {
                    node: source.target.node.name.clone(),
                    detail: format!("the lag sampler lost its connection: {message}"),
                });
            }
        }
    }
}

/// The answers for one instant, by server; for upstreams also when each answer had come.
#[derive(Debug)]
struct Sample {
    at: Stamp,
    upstreams: HashMap<String, (UpstreamSample, Stamp)>,
    replicas: HashMap<String, ReplicaSample>,
}

impl Sample {
    fn new(at: Stamp) -> Self {
        Self {
            at,
            upstreams: HashMap::new(),
            replicas: HashMap::new(),
        }
    }
}

/// The samples that have not been handed over, the oldest first. Dropping this value hands all of them over.
#[derive(Debug)]
struct Samples {
    cell_id: u32,
    primary: String,
    replicas: Vec<Node>,
    /// An answer that takes longer than this is late.
    patience: Duration,
    timeline: Timeline,
    readings: mpsc::UnboundedSender<Reading>,
    open: VecDeque<Sample>,
}

impl Samples {
    fn take(&mut self, name: &str, sampled: Stamp, answer: Answer, answered: Stamp) {
        let is_late = answered.since(sampled) > self.patience;
        let Some(sample) = self.open.iter_mut().find(|sample| sample.at == sampled) else {
            return;
        };
        match answer {
            Answer::Upstream(found) => {
                sample.upstreams.insert(name.to_owned(), (found, answered));
            }
            // Its distance from a position of the primary that was read long before would be too small.
            Answer::Replica(_) if is_late => {}
            Answer::Replica(found) => {
                sample.replicas.insert(name.to_owned(), found);
            }
        }
    }

    /// Hands over samples in order, up to the first that an answer can still be added to. An error means that the channel is closed.
    fn hand_over(
        &mut self,
        is_whole: impl Fn(Stamp) -> bool,
    ) -> Result<(), mpsc::error::SendError<Reading>> {
        while let Some(sample) = self.open.pop_front_if(|sample| is_whole(sample.at)) {
            self.readings.send(Reading::Lag(self.reading(&sample)))?;
        }
        Ok(())
    }

    fn reading(&self, sample: &Sample) -> LagSample {
        let primary = sample.upstreams.get(&self.primary);
        let rows = self.replicas.iter().map(|node| self.row(sample, node));
        LagSample {
            at: sample.at,
            rows: rows.collect(),
            position: primary.map(|(found, answered)| (*answered, found.position)),
            syncrep_waiters: primary.map(|(found, _)| found.syncrep_waiters),
            primary_started_us: primary.map(|(found, _)| found.started_us),
            checkpoints: primary.map(|(found, _)| found.checkpoints),
        }
    }

    fn row(&self, sample: &Sample, node: &Node) -> LagRow {
        let since = |answered: Stamp| {
            i64::try_from(answered.since(sample.at).as_micros()).unwrap_or(i64::MAX)
        };
        let upstream = node.upstream.as_ref();
        let upstream = upstream.and_then(|name| sample.upstreams.get(name));
        let mut replicas = upstream.iter().flat_map(|(found, _)| &found.replicas);
        let seen = replicas.find(|row| row.node == node.name);
        let mut row = LagRow {
            cell_id: self.cell_id,
            t_us: self.timeline.t_us(sample.at),
            node: node.name.clone(),
            sampler_rtt_us: upstream.map(|(_, answered)| since(*answered)),
            ..seen.cloned().unwrap_or_default()
        };
        let in_time = |answered: Stamp| answered.since(sample.at) <= self.patience;
        if let Some(own) = sample.replicas.get(&node.name)
            && let Some((primary, answered)) = sample.upstreams.get(&self.primary)
            && in_time(*answered)
        {
            let behind =
                |lsn: Option<_>| lsn.map(|lsn| primary.position.distance_from(lsn).bytes());
            row.received_lag_bytes = behind(own.received);
            row.replayed_lag_bytes = behind(own.replayed);
            row.replay_timestamp_age_us = own.replay_timestamp_age_us;
            if node.role == Role::ArchiveStandby {
                // No upstream reports the position of an archive standby, so the standby's own report is used.
                row.replay_lag_bytes = row.replayed_lag_bytes;
                row.sampler_rtt_us = Some(since(*answered));
            }
        }
        row
    }
}

impl Drop for Samples {
    fn drop(&mut self) {
        // The cell is over: no answers come any more. The channel is closed only when the run is being abandoned.
        let _ = self.hand_over(|_| true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Presence;
    use crate::topology::{NodeCounts, Topology};
    use crate::units::Lsn;

    const PATIENCE: Duration = Duration::from_millis(100);

    fn at(millis: u64) -> Stamp {
        Stamp::from_nanos(millis * 1_000_000)
    }

    fn samples() -> (Samples, mpsc::UnboundedReceiver<Reading>) {
        let (readings, receiver) = mpsc::unbounded_channel();
        let counts = NodeCounts {
            standbys: 1,
            cascading: 1,
            archive: 1,
            subscribers: 0,
        };
        let samples = Samples {
            cell_id: 1,
            primary: "primary".into(),
            replicas: Topology::from(counts).replicas().cloned().collect(),
            patience: PATIENCE,
            timeline: Timeline::new(at(0), Duration::ZERO),
            readings,
            open: [at(100), at(200)].map(Sample::new).into(),
        };
        (samples, receiver)
    }

    fn upstream(position: u64, replica: Option<&str>) -> Answer {
        let states = replica.map(|name| LagRow {
            node: name.into(),
            state: Some("streaming".into()),
            replay_lag_bytes: Some(64),
            ..LagRow::default()
        });
        Answer::Upstream(UpstreamSample {
            position: Lsn::new(position),
            replicas: states.into_iter().collect(),
            syncrep_waiters: 0,
            started_us: 0,
            checkpoints: 0,
        })
    }

    fn own(replayed: u64) -> Answer {
        Answer::Replica(ReplicaSample {
            received: Some(Lsn::new(replayed)),
            replayed: Some(Lsn::new(replayed)),
            replay_timestamp_age_us: None,
        })
    }

    fn rows(receiver: &mut mpsc::UnboundedReceiver<Reading>) -> Option<Vec<LagRow>> {
        match receiver.try_recv().ok()? {
            Reading::Lag(sample) => Some(sample.rows),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_late_answer_is_kept_in_its_own_sample_with_its_age() {
        let (mut samples, mut receiver) = samples();
        samples.take("primary", at(200), upstream(900, Some("s1")), at(201));
        let owed = |sampled| sampled != at(100);
        samples.hand_over(owed).unwrap();
        assert_eq!(rows(&mut receiver), None, "the order is kept");
        samples.take("primary", at(100), upstream(700, Some("s1")), at(450));
        samples.hand_over(|_| true).unwrap();
        for age in [350_000, 1_000] {
            let rows = rows(&mut receiver).unwrap();
            assert_eq!(rows[0].sampler_rtt_us, Some(age));
            assert_eq!(rows[0].replay_lag_bytes, Some(64));
            assert_eq!(rows[0].presence(), Presence::Present);
        }
    }

    #[test]
    fn a_replica_is_gone_only_when_its_own_upstream_answered_and_did_not_know_it() {
        let (mut samples, mut receiver) = samples();
        samples.take("primary", at(100), upstream(900, None), at(101));
        samples.take("primary", at(200), upstream(900, Some("s1")), at(201));
        samples.take("s1", at(200), upstream(900, None), at(201));
        drop(samples);
        let presence = |rows: Vec<LagRow>| rows.iter().map(LagRow::presence).collect::<Vec<_>>();
        let first = presence(rows(&mut receiver).unwrap());
        assert_eq!(
            first,
            [Presence::Gone, Presence::Unanswered, Presence::Unanswered]
        );
        let second = presence(rows(&mut receiver).unwrap());
        assert_eq!(
            second,
            [Presence::Present, Presence::Gone, Presence::Unanswered]
        );
    }

    #[test]
    fn positions_of_two_instants_are_not_subtracted() {
        let (mut samples, mut receiver) = samples();
        samples.take("primary", at(100), upstream(900, Some("s1")), at(101));
        samples.take("s1", at(100), own(800), at(101));
        samples.take("a1", at(100), own(500), at(101));
        samples.take("primary", at(200), upstream(900, Some("s1")), at(450));
        samples.take("s1", at(200), own(800), at(201));
        samples.take("a1", at(200), own(500), at(460));
        drop(samples);
        let found = rows(&mut receiver).unwrap();
        assert_eq!(found[0].replayed_lag_bytes, Some(100));
        assert_eq!(found[2].replay_lag_bytes, Some(400));
        assert_eq!(found[2].presence(), Presence::Present);
        let late = rows(&mut receiver).unwrap();
        assert_eq!(late[0].replay_lag_bytes, Some(64));
        assert_eq!(
            (late[0].received_lag_bytes, late[0].replayed_lag_bytes),
            (None, None)
        );
        assert_eq!(late[2].presence(), Presence::Unanswered);
    }
}
