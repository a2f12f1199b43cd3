//! replbench's turn: its load and its probes as in a cell of a run, the load on one thread.

use std::time::Duration;

use anyhow::ensure;
use replbench::clock::{self, Stamp, Timer};
use replbench::cluster::RunningNode;
use replbench::histogram::{Histogram, SignedHistogram};
use replbench::load::{Load, Outcomes, Second, Watched};
use replbench::probe::{Assignment, Probes, Reading, Target, TrackedTable, VisibilitySecond};
use replbench::sample::{Phase, Timeline};

use crate::turn::{Figures, Turn, Visibility};

/// From both sides being ready to the first arrival.
const LEAD: Duration = Duration::from_millis(20);

pub(crate) async fn run(turn: &Turn<'_>) -> anyhow::Result<Figures> {
    let (mut probes, feed, looks) = Probes::open(assignment(turn)).await?;
    let watched = turn
        .plan
        .probes
        .visibility
        .then_some(Watched { feed, looks });
    let primary = turn.cluster.primary().endpoint.clone();
    let mut load = Load::open(turn.plan, &turn.plan.cells[0], primary, [], watched).await?;
    let timeline = Timeline::new(clock::now() + LEAD, turn.phases.warmup);
    probes.start(timeline);
    load.start(timeline);
    let mut notes = Notes::default();
    let watched = notes.take_all(turn, &mut load, &mut probes, timeline).await;
    // Both threads end by themselves from here on; an error of theirs comes after one of ours.
    load.stopper().stop();
    probes.finish(clock::now());
    let (joined, probed) = (load.join(), probes.join());
    watched?;
    joined?;
    probed?;
    notes.into_figures(turn)
}

fn assignment(turn: &Turn<'_>) -> Assignment {
    let target = |node: &RunningNode| Target {
        node: node.node.clone(),
        endpoint: node.endpoint.clone(),
    };
    let (cluster, plan) = (turn.cluster, turn.plan);
    Assignment {
        cell_id: plan.cells[0].id,
        plan: plan.probes,
        level: plan.modes[0].level,
        primary: target(cluster.primary()),
        replicas: cluster.replicas().map(target).collect(),
        tables: TrackedTable::of(plan),
        lends_looks: Assignment::is_lent(plan),
    }
}

/// What load and probes said, summed as the conductor of a run does.
#[derive(Debug, Default)]
struct Notes {
    /// CPU time of the process at both ends of the window.
    process_cpu: Vec<Duration>,
    window: Duration,
    arrivals: Outcomes,
    answered: u64,
    load_cpu: Duration,
    probe_cpu: Duration,
    service: Histogram,
    start_lag: Histogram,
    committed: u64,
    unknown: u64,
    visible_by: SignedHistogram,
    invisible_at: SignedHistogram,
    visible_from_send: Histogram,
    commits: u64,
}

impl Notes {
    async fn take_all(
        &mut self,
        turn: &Turn<'_>,
        load: &mut Load,
        probes: &mut Probes,
        timeline: Timeline,
    ) -> anyhow::Result<()> {
        let ends = [
            timeline.measure_from,
            timeline.measure_from + turn.phases.measure,
        ];
        let seconds = turn.phases.measure.as_secs().cast_signed();
        let mut timer = Timer::new()?;
        let (mut loading, mut probing) = (true, true);
        while loading || probing {
            let edge = ends.get(self.process_cpu.len()).copied();
            tokio::select! {
                slept = timer.sleep_until(edge.unwrap_or(Stamp::from_nanos(u64::MAX / 2))), if edge.is_some() => {
                    slept?;
                    self.process_cpu.push(clock::process_cpu());
                }
                second = load.next_second(), if loading => if let Some(second) = second {
                    self.second(&second);
                } else {
                    loading = false;
                    probes.finish(clock::now() + turn.plan.phases.drain);
                },
                reading = probes.next(), if probing => match reading {
                    Some(reading) => self.reading(reading, seconds)?,
                    None => probing = false,
                },
            }
            if !probing && loading {
                load.stopper().stop();
            }
        }
        Ok(())
    }

    fn second(&mut self, second: &Second) {
        // Every transaction inserts one row.
        let inserted = second.row_changes.iter().sum::<i64>();
        self.committed += u64::try_from(inserted).expect("nothing is deleted");
        self.unknown += second.unknown;
        if second.phase != Phase::Warmup {
            self.arrivals.add(&second.measured);
            self.service.merge(&second.service);
            self.start_lag.merge(&second.start_lag);
        }
        if second.phase == Phase::Measure {
            self.window += second.length();
            self.answered += second.all.acknowledged();
            self.load_cpu += second.cpu;
        }
    }

    fn reading(&mut self, reading: Reading, seconds: i64) -> anyhow::Result<()> {
        match reading {
            Reading::Host(second) if (0..seconds).contains(&second.index) => {
                self.probe_cpu += second.probe_cpu;
            }
            Reading::Visibility(second) => self.visibility(&second),
            Reading::Trouble { node, detail, .. } => anyhow::bail!("`{node}`: {detail}"),
            Reading::Host(_) | Reading::Lag(_) | Reading::Backwards { .. } => {}
        }
        Ok(())
    }

    fn visibility(&mut self, second: &VisibilitySecond) {
        self.commits += second.commits;
        for delay in &second.delays {
            self.invisible_at.record(delay.lo);
            self.visible_by.record(delay.hi);
            self.visible_from_send.record_nanos(delay.hi_from_send);
        }
    }

    fn into_figures(self, turn: &Turn<'_>) -> anyhow::Result<Figures> {
        let arrivals = &self.arrivals;
        ensure!(
            arrivals.failed == 0 && self.unknown == 0,
            "{} transactions failed, the outcome of {} is unknown",
            arrivals.failed,
            self.unknown
        );
        ensure!(
            self.process_cpu.len() == 2,
            "the load ended before its time"
        );
        let visibility = turn.plan.probes.visibility.then(|| Visibility {
            p50_us: self
                .visible_by
                .quantile_of(0.5, self.commits)
                .map(|seconds| seconds * 1e6),
            commits: self.commits,
            unseen: self.commits - self.visible_by.count(),
        });
        Ok(Figures {
            window: self.window,
            answered: self.answered,
            offered: turn.scenario.rate().map(|_| arrivals.offered),
            load_cpu: self.load_cpu,
            probe_cpu: self.probe_cpu,
            process_cpu: self.process_cpu[1].saturating_sub(self.process_cpu[0]),
            service: self.service,
            start_lag: self.start_lag,
            rows: self.committed,
            visibility,
        })
    }
}
