//! Samples positions and lag at fixed times: all upstreams and all replicas at once, each in one query.
//!
//! A server that does not answer in time leaves its fields empty in that sample, and the others are not held up.

use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_postgres::Statement;

use super::{CONNECT_DEADLINE, LagSample, ProbeError, Reading, Target};
use crate::clock::{self, Stamp, Timer};
use crate::pg::catalog::{self, ReplicaSample, ReplicaState, UpstreamSample};
use crate::pg::{self, Session};
use crate::sample::{LagRow, Timeline};
use crate::topology::{Node, Role};
use crate::units::LsnDistance;

/// A server that has not answered for so long is connected to anew.
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
    /// Of the replicas that hang on the server.
    Upstream,
    /// Of the server itself.
    Replica { physical: bool },
}

type Asked = Result<(Rc<Ready>, Answer, Duration), String>;

/// One server, asked the same question at every sample.
#[derive(Debug)]
struct Source {
    target: Target,
    view: View,
    ready: Option<Rc<Ready>>,
    /// The question that has not been answered yet, and when it was put.
    pending: Option<(Stamp, JoinHandle<Asked>)>,
    lost: bool,
}

impl Source {
    async fn open(target: Target, view: View) -> Result<Self, ProbeError> {
        let ready = Rc::new(connect(&target, view).await?);
        Ok(Self {
            target,
            view,
            ready: Some(ready),
            pending: None,
            lost: false,
        })
    }

    /// Puts the question, unless the last one still waits for its answer.
    fn ask(&mut self) {
        let now = clock::now();
        if let Some((since, handle)) = &self.pending {
            if now.since(*since) < GIVE_UP {
                return;
            }
            handle.abort();
            self.ready = None;
        }
        let (target, view, ready) = (self.target.clone(), self.view, self.ready.take());
        let handle = tokio::task::spawn_local(async move {
            let ready = match ready {
                Some(ready) => ready,
                None => Rc::new(
                    connect(&target, view)
                        .await
                        .map_err(|error| error.to_string())?,
                ),
            };
            let asked = clock::now();
            let client = ready.session.client();
            let answer = match view {
                View::Upstream => catalog::upstream(client, &ready.statement)
                    .await
                    .map(Answer::Upstream),
                View::Replica { .. } => catalog::replica(client, &ready.statement)
                    .await
                    .map(Answer::Replica),
            };
            let rtt = clock::now().since(asked);
            answer
                .map(|answer| (ready.clone(), answer, rtt))
                .map_err(|error| pg::describe(&error).to_string())
        });
        self.pending = Some((now, handle));
    }

    /// The answer to a question put since `sampled`, if it comes by `deadline`; a sentence when the server was lost just now.
    async fn answer(
        &mut self,
        sampled: Stamp,
        deadline: Stamp,
    ) -> Result<Option<(Answer, Duration)>, String> {
        let Some((since, mut handle)) = self.pending.take() else {
            return Ok(None);
        };
        let patience = deadline.since(clock::now());
        match tokio::time::timeout(patience, &mut handle).await {
            Err(_elapsed) => {
                self.pending = Some((since, handle));
                Ok(None)
            }
            Ok(Ok(Ok((ready, answer, rtt)))) => {
                self.ready = Some(ready);
                self.lost = false;
                // An answer to an earlier sample's question says nothing about this one's instant.
                Ok((since >= sampled).then_some((answer, rtt)))
            }
            Ok(Ok(Err(message))) if !self.lost => {
                self.lost = true;
                Err(message)
            }
            Ok(_) => Ok(None),
        }
    }
}

async fn connect(target: &Target, view: View) -> Result<Ready, ProbeError> {
    let session = pg::connect(&target.endpoint, "replbench lag", None, CONNECT_DEADLINE).await?;
    let client = session.client();
    let statement = match view {
        View::Upstream => {
            let row = client
                .query_one("SELECT current_setting('server_version_num')::int", &[])
                .await
                .map_err(|error| ProbeError::query(target, &error))?;
            let version = u32::try_from(row.get::<_, i32>(0)).unwrap_or(0);
            catalog::prepare_upstream(client, version).await
        }
        View::Replica { physical } => catalog::prepare_replica(client, physical).await,
    }
    .map_err(|error| ProbeError::query(target, &error))?;
    Ok(Ready { session, statement })
}

/// Samples all servers of a cell until it is aborted.
#[derive(Debug)]
pub(super) struct Sampler {
    cell_id: u32,
    sources: Vec<Source>,
    replicas: Vec<Node>,
    interval: Duration,
}

impl Sampler {
    pub(super) async fn open(
        cell_id: u32,
        primary: &Target,
        replicas: &[Target],
        interval: Duration,
    ) -> Result<Self, ProbeError> {
        let mut sources = vec![Source::open(primary.clone(), View::Upstream).await?];
        for target in replicas {
            let is_upstream = replicas
                .iter()
                .any(|other| other.node.upstream.as_ref() == Some(&target.node.name));
            if is_upstream {
                sources.push(Source::open(target.clone(), View::Upstream).await?);
            }
            let view = View::Replica {
                physical: target.node.role.is_physical(),
            };
            sources.push(Source::open(target.clone(), view).await?);
        }
        Ok(Self {
            cell_id,
            sources,
            replicas: replicas.iter().map(|target| target.node.clone()).collect(),
            interval,
        })
    }

    pub(super) async fn run(
        mut self,
        timeline: Timeline,
        readings: mpsc::UnboundedSender<Reading>,
    ) -> io::Result<()> {
        let mut timer = Timer::new()?;
        let mut due = timeline.start;
        loop {
            timer.sleep_until(due).await?;
            let at = clock::now();
            for source in &mut self.sources {
                source.ask();
            }
            let deadline = at + self.interval.mul_f64(0.9);
            let mut answers = HashMap::new();
            for source in &mut self.sources {
                let name = source.target.node.name.clone();
                match source.answer(at, deadline).await {
                    Ok(Some((answer, rtt))) => {
                        answers.insert((name, source.view == View::Upstream), (answer, rtt));
                    }
                    Ok(None) => {}
                    Err(message) => {
                        let _ = readings.send(Reading::Trouble {
                            node: name,
                            at,
                            detail: format!("the lag sampler lost its connection: {message}"),
                        });
                    }
                }
            }
            if readings
                .send(Reading::Lag(self.sample(at, timeline, &answers)))
                .is_err()
            {
                return Ok(());
            }
            // Samples stay on their grid; those that a slow one ran over are left out, not made up.
            while due <= clock::now() {
                due = due + self.interval;
            }
        }
    }

    fn sample(
        &self,
        at: Stamp,
        timeline: Timeline,
        answers: &HashMap<(String, bool), (Answer, Duration)>,
    ) -> LagSample {
        let upstream = |name: &str| match answers.get(&(name.to_owned(), true)) {
            Some((Answer::Upstream(sample), rtt)) => Some((sample, *rtt)),
            _ => None,
        };
        let primary = upstream(&self.sources[0].target.node.name);
        let rows = self
            .replicas
            .iter()
            .map(|node| {
                let above = node.upstream.as_deref().and_then(upstream);
                let own = match answers.get(&(node.name.clone(), false)) {
                    Some((Answer::Replica(sample), _)) => Some(sample),
                    _ => None,
                };
                let mut row = LagRow {
                    cell_id: self.cell_id,
                    t_us: at.signed_since(timeline.measure_from) / 1_000,
                    node: node.name.clone(),
                    sampler_rtt_us: above
                        .or(primary)
                        .map(|(_, rtt)| i64::try_from(rtt.as_micros()).unwrap_or(i64::MAX)),
                    ..LagRow::default()
                };
                if let Some((sample, _)) = above {
                    let state = sample.replicas.iter().find(|state| state.name == node.name);
                    fill_upstream_view(&mut row, state);
                }
                if let (Some((sample, _)), Some(own)) = (primary, own) {
                    let behind =
                        |lsn: Option<_>| lsn.map(|lsn| sample.position.distance_from(lsn).bytes());
                    row.received_lag_bytes = behind(own.received);
                    row.replayed_lag_bytes = behind(own.replayed);
                    row.replay_timestamp_age_us = own.replay_timestamp_age_us;
                    if node.role == Role::ArchiveStandby {
                        // Nobody streams to it: its own word is all there is.
                        row.replay_lag_bytes = row.replayed_lag_bytes;
                    }
                }
                row
            })
            .collect();
        LagSample {
            at,
            rows,
            position: primary.map(|(sample, _)| sample.position),
            syncrep_waiters: primary.map(|(sample, _)| sample.syncrep_waiters),
            primary_started_us: primary.map(|(sample, _)| sample.started_us),
            checkpoints: primary.map(|(sample, _)| sample.checkpoints),
        }
    }
}

fn fill_upstream_view(row: &mut LagRow, state: Option<&ReplicaState>) {
    let Some(state) = state else { return };
    let bytes = |distance: Option<LsnDistance>| distance.map(LsnDistance::bytes);
    row.state.clone_from(&state.state);
    row.sync_state.clone_from(&state.sync_state);
    row.sent_lag_bytes = bytes(state.sent_lag);
    row.write_lag_bytes = bytes(state.write_lag);
    row.flush_lag_bytes = bytes(state.flush_lag);
    row.replay_lag_bytes = bytes(state.replay_lag);
    row.write_lag_us = state.write_lag_us;
    row.flush_lag_us = state.flush_lag_us;
    row.replay_lag_us = state.replay_lag_us;
    row.reply_age_us = state.reply_age_us;
    row.slot_retained_bytes = bytes(state.slot_retained);
    row.slot_wal_status.clone_from(&state.slot_wal_status);
}
