//! Run directories with known content, written as `record` writes them.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};
use rand::SeedableRng;
use rand_distr::{Distribution, LogNormal, Poisson};
use rand_xoshiro::Xoshiro256PlusPlus;
use replbench::histogram::{Histogram, SignedHistogram};
use replbench::mode::{Mode, ModeSpec};
use replbench::plan::{
    Arrivals, Cell, Client, Expect, Length, LoadPlan, Offered, Phases, Plan, ProbePlan,
    VisibilityMethod,
};
use replbench::profile::Profile;
use replbench::record::tags::{self, Bound, Origin};
use replbench::record::{
    Harness, Host, Manifest, NodeInfo, RunStatus, SCHEMA_VERSION, Subject, files,
};
use replbench::sample::{CellRow, EventKind, EventRow, IntervalRow, LagRow, Phase, VisibilityRow};
use replbench::topology::WalLevel;
use replbench::units::Rate;
use serde::Serialize;

type Random = Xoshiro256PlusPlus;

/// How large a run to make up.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    pub modes: Vec<&'static str>,
    pub standbys: u8,
    pub reps: u32,
    pub seconds: u32,
    pub rate: f64,
    /// Samples of lag a second.
    pub samples: u32,
    /// Median gap between two looks of the probe, as `visibility.csv` has it.
    pub resolution_us: f64,
    /// One cell invalid, one second stalled, one replica gone for a while with commits unseen.
    pub incidents: bool,
}

impl Shape {
    pub(crate) fn sync_vs_async() -> Self {
        Self {
            modes: vec!["async", "sync", "remote_apply", "logical"],
            standbys: 2,
            reps: 6,
            seconds: 20,
            rate: 500.0,
            samples: 10,
            resolution_us: 90.0,
            incidents: true,
        }
    }

    /// Enough to read, damage and read again many times.
    pub(crate) fn tiny() -> Self {
        Self {
            modes: vec!["async", "remote_apply"],
            reps: 2,
            seconds: 2,
            rate: 60.0,
            samples: 3,
            ..Self::sync_vs_async()
        }
    }

    /// What the checked-in fixture has.
    pub(crate) fn small() -> Self {
        Self {
            seconds: 2,
            rate: 250.0,
            samples: 4,
            ..Self::sync_vs_async()
        }
    }
}

/// Median seconds of a commit, and of visibility on the first replica and on the others, in a made-up world.
fn medians(mode: &str) -> (f64, f64, f64) {
    match mode {
        "async" => (0.66e-3, 0.34e-3, 0.41e-3),
        "sync" => (1.21e-3, -0.03e-3, 0.38e-3),
        "remote_apply" => (1.38e-3, -0.06e-3, 0.40e-3),
        "logical" => (0.68e-3, 0.92e-3, 0.95e-3),
        _ => (0.9e-3, 0.5e-3, 0.6e-3),
    }
}

struct Rows {
    cells: Vec<CellRow>,
    intervals: Vec<IntervalRow>,
    lag: Vec<LagRow>,
    visibility: Vec<VisibilityRow>,
    events: Vec<EventRow>,
}

/// Writes a run of this shape into `dir`.
pub(crate) fn write_run(dir: &Path, shape: &Shape) {
    fs::create_dir_all(dir.join(files::HISTOGRAMS)).unwrap();
    let plan = plan(shape);
    let mut random = Random::seed_from_u64(plan.seed);
    let mut rows = Rows {
        cells: Vec::new(),
        intervals: Vec::new(),
        lag: Vec::new(),
        visibility: Vec::new(),
        events: Vec::new(),
    };
    for (order, cell) in plan.cells.iter().enumerate() {
        let world = World {
            shape,
            mode: &plan.modes[cell.mode],
            cell: *cell,
            order: u32::try_from(order).unwrap(),
        };
        world.play(dir, &mut rows, &mut random);
    }
    write_csv(dir, files::CELLS, &rows.cells);
    write_csv(dir, files::INTERVALS, &rows.intervals);
    write_csv(dir, files::LAG, &rows.lag);
    write_csv(dir, files::VISIBILITY, &rows.visibility);
    write_csv(dir, files::EVENTS, &rows.events);
    let manifest = serde_json::to_string_pretty(&manifest(&plan)).unwrap();
    fs::write(dir.join(files::MANIFEST), manifest).unwrap();
}

fn write_csv<T: Serialize>(dir: &Path, name: &str, rows: &[T]) {
    let mut writer = csv::Writer::from_path(dir.join(name)).unwrap();
    for row in rows {
        writer.serialize(row).unwrap();
    }
    writer.flush().unwrap();
}

struct World<'a> {
    shape: &'a Shape,
    mode: &'a Mode,
    cell: Cell,
    order: u32,
}

/// The histograms of one second.
#[derive(Default)]
struct Second {
    plain: BTreeMap<&'static str, Histogram>,
    delays: BTreeMap<(String, &'static str, &'static str), SignedHistogram>,
}

impl World<'_> {
    fn play(&self, dir: &Path, rows: &mut Rows, random: &mut Random) {
        let id = self.cell.id;
        let mut file = Vec::new();
        let mut serializer = V2DeflateSerializer::new();
        let base = std::time::UNIX_EPOCH + Duration::from_secs(1_784_020_503);
        let mut log = IntervalLogWriterBuilder::new()
            .add_comment("made up by replbench's tests")
            .with_start_time(base)
            .with_base_time(base)
            .with_max_value_divisor(1e9)
            .begin_log_with(&mut file, &mut serializer)
            .unwrap();
        let drift = LogNormal::new(0.0, 0.025).unwrap().sample(random);
        let mut counts = (0, 0);
        for second in 0..self.shape.seconds {
            let (histograms, arrivals) = self.second(second, drift, rows, random);
            counts.0 += arrivals;
            let start = Duration::from_secs(second.into());
            let mut write = |tag: &str, histogram: &Histogram| {
                if !histogram.is_empty() {
                    log.write_histogram(
                        histogram.as_hdr(),
                        start,
                        Duration::from_secs(1),
                        Tag::new(tag),
                    )
                    .unwrap();
                }
            };
            for (tag, histogram) in &histograms.plain {
                write(tag, histogram);
            }
            for ((node, origin, bound), delays) in &histograms.delays {
                let origin = if *origin == "ack" {
                    Origin::Ack
                } else {
                    Origin::Send
                };
                let bound = if *bound == "lo" { Bound::Lo } else { Bound::Hi };
                write(
                    &tags::visibility(node, origin, bound, true),
                    &delays.negative,
                );
                write(
                    &tags::visibility(node, origin, bound, false),
                    &delays.positive,
                );
            }
            counts.1 += 1;
        }
        fs::write(dir.join(files::HISTOGRAMS).join(files::histogram(id)), file).unwrap();
        let invalid = self.shape.incidents && self.mode.name == "logical" && self.cell.rep == 6;
        rows.cells.push(CellRow {
            cell_id: id,
            mode: self.mode.name.clone(),
            rep: self.cell.rep,
            block: self.cell.block,
            order_idx: self.order,
            started_at: "2026-07-14T09:15:03Z".into(),
            warmup_s: 2.0,
            measured_s: self.shape.seconds.into(),
            offered_tps: Some(self.shape.rate),
            achieved_tps: counts.0 as f64 / f64::from(self.shape.seconds),
            offered: counts.0,
            acked: counts.0,
            acked_with_warning: 0,
            failed: 0,
            indeterminate: 0,
            missed: 0,
            peak_backlog: 3,
            peak_in_flight: 9,
            dispatch_lag_p99_us: None,
            timer_early_us: None,
            load_cpu_share: Some(0.11),
            probe_cpu_share: Some(0.05),
            host_busy_share: Some(if invalid { 0.93 } else { 0.52 }),
            host_steal_share: Some(0.004),
            wal_bytes: Some(i64::try_from(counts.0).unwrap() * 240),
            discarded: false,
            checkpoints: None,
            autovacuums: None,
            full_page_images: None,
            overloaded: None,
            valid: !invalid,
            notes: if invalid {
                "achieved 91 % of the offered rate: load threads were starved of CPU".into()
            } else {
                String::new()
            },
        });
        if self.shape.incidents && self.mode.name == "async" && self.cell.rep == 3 {
            rows.events.push(EventRow {
                cell_id: Some(id),
                t_us: 1_200_000,
                node: Some("s2".into()),
                kind: EventKind::Other("state".into()),
                sqlstate: None,
                count: None,
                detail: "walreceiver gone </script> \u{202e}\u{1b}[31m".into(),
            });
        }
    }

    fn second(
        &self,
        second: u32,
        drift: f64,
        rows: &mut Rows,
        random: &mut Random,
    ) -> (Second, u64) {
        let (commit, first, other) = medians(&self.mode.name);
        let mut out = Second::default();
        let arrivals = Poisson::new(self.shape.rate).unwrap().sample(random) as u64;
        let last = second + 1 == self.shape.seconds;
        let stalled =
            self.shape.incidents && self.mode.name == "sync" && self.cell.rep == 2 && last;
        let service = LogNormal::new((commit * drift).ln(), 0.32).unwrap();
        let tail = LogNormal::new(0.004_f64.ln(), 0.5).unwrap();
        for _ in 0..arrivals {
            let mut seconds = service.sample(random);
            if rand::RngExt::random_bool(random, 0.012) {
                seconds += tail.sample(random);
            }
            if stalled && rand::RngExt::random_bool(random, 0.15) {
                seconds += tail.sample(random) * 25.0;
            }
            let lag = LogNormal::new(2.5e-5_f64.ln(), 0.5).unwrap().sample(random);
            out.record(tags::SERVICE, seconds);
            out.record(tags::START_LAG, lag);
            out.record(tags::POOL_WAIT, lag / 10.0);
            out.record(tags::RESPONSE, seconds + lag);
        }
        let replicas: Vec<_> = self.mode.topology.replicas().collect();
        for (index, node) in replicas.iter().enumerate() {
            let centre = if index == 0 { first } else { other };
            let gone = self.shape.incidents
                && self.mode.name == "async"
                && self.cell.rep == 3
                && node.name == "s2"
                && last;
            let unseen = if gone { 7 } else { 0 };
            self.visibility(
                &mut out, rows, random, second, &node.name, centre, arrivals, unseen,
            );
            self.lag(rows, random, second, &node.name, gone);
        }
        rows.intervals
            .push(self.interval(second, arrivals, stalled, &out));
        (out, arrivals)
    }

    #[allow(clippy::too_many_arguments, reason = "a made-up world in one place")]
    fn visibility(
        &self,
        out: &mut Second,
        rows: &mut Rows,
        random: &mut Random,
        second: u32,
        node: &str,
        centre: f64,
        arrivals: u64,
        unseen: u64,
    ) {
        let (commit, ..) = medians(&self.mode.name);
        let spread = LogNormal::new(0.30e-3_f64.ln(), 0.55).unwrap();
        let seen = arrivals - unseen.min(arrivals);
        let mut width_us = Vec::new();
        for _ in 0..seen {
            let truth = centre + spread.sample(random) - 0.30e-3;
            let width = 0.05e-3 + 0.08e-3 * rand::RngExt::random::<f64>(random);
            let lo = truth - width * rand::RngExt::random::<f64>(random);
            // What a commit waits for is there when it is acknowledged.
            let awaited = self.mode.name == "remote_apply" && node == "s1";
            let lo = if awaited { lo.min(-1e-5) } else { lo };
            width_us.push(width * 1e6);
            for (origin, shift) in [("ack", 0.0), ("send", commit)] {
                for (bound, value) in [("lo", lo), ("hi", lo + width)] {
                    let nanos = ((value + shift) * 1e9) as i64;
                    out.delays
                        .entry((node.to_owned(), origin, bound))
                        .or_default()
                        .record(nanos);
                }
            }
        }
        let quantile = |bound, q| {
            let delays = out.delays.get(&(node.to_owned(), "ack", bound))?;
            delays.quantile_of(q, arrivals).map(|seconds| seconds * 1e6)
        };
        rows.visibility.push(VisibilityRow {
            cell_id: self.cell.id,
            t_us: i64::from(second) * 1_000_000,
            node: node.to_owned(),
            commits: arrivals,
            seen,
            unseen: arrivals - seen,
            p50_lo_us: quantile("lo", 0.5),
            p50_hi_us: quantile("hi", 0.5),
            p99_lo_us: quantile("lo", 0.99),
            p99_hi_us: quantile("hi", 0.99),
            max_hi_us: quantile("hi", 1.0),
            resolution_us: Some(self.shape.resolution_us),
            commits_behind: None,
        });
    }

    fn lag(&self, rows: &mut Rows, random: &mut Random, second: u32, node: &str, gone: bool) {
        for sample in 0..self.shape.samples {
            let t_us =
                i64::from(second) * 1_000_000 + i64::from(sample * 1_000_000 / self.shape.samples);
            let mut row = LagRow {
                cell_id: self.cell.id,
                t_us,
                node: node.to_owned(),
                sampler_rtt_us: Some(310),
                ..LagRow::default()
            };
            if !gone {
                let burst = LogNormal::new(600_f64.ln(), 1.6).unwrap().sample(random);
                let bytes = if burst < 250.0 { 0 } else { burst as i64 };
                row.state = Some("streaming".into());
                row.sync_state = Some("async".into());
                row.sent_lag_bytes = Some(0);
                row.write_lag_bytes = Some(bytes / 3);
                row.flush_lag_bytes = Some(bytes / 2);
                row.replay_lag_bytes = Some(bytes);
                row.replay_lag_us = Some(400 + bytes / 10);
                row.reply_age_us = Some(2_000);
                row.slot_retained_bytes = Some(bytes + 50_000);
            }
            rows.lag.push(row);
        }
    }

    fn interval(&self, second: u32, arrivals: u64, stalled: bool, out: &Second) -> IntervalRow {
        let us = |tag, q| {
            let found: &Histogram = out.plain.get(tag)?;
            found.quantile(q).map(|value| value.as_secs_f64() * 1e6)
        };
        IntervalRow {
            cell_id: self.cell.id,
            t_us: i64::from(second) * 1_000_000,
            length_us: 1_000_000,
            phase: Phase::Measure,
            offered: arrivals,
            sent: arrivals,
            acked: if stalled { arrivals * 8 / 10 } else { arrivals },
            failed: 0,
            missed: Some(0),
            backlog: if stalled { arrivals / 5 } else { 0 },
            in_flight: 2,
            start_lag_p50_us: us(tags::START_LAG, 0.5),
            start_lag_p99_us: us(tags::START_LAG, 0.99),
            pool_wait_p50_us: us(tags::POOL_WAIT, 0.5),
            pool_wait_p99_us: us(tags::POOL_WAIT, 0.99),
            service_p50_us: us(tags::SERVICE, 0.5),
            service_p99_us: us(tags::SERVICE, 0.99),
            service_max_us: us(tags::SERVICE, 1.0),
            response_p50_us: us(tags::RESPONSE, 0.5),
            response_p99_us: us(tags::RESPONSE, 0.99),
            response_max_us: us(tags::RESPONSE, 1.0),
            wal_bytes: Some(i64::try_from(arrivals).unwrap() * 240),
            syncrep_waiters: Some(1),
            host_busy_share: Some(0.5),
            host_steal_share: Some(0.0),
            host_iowait_share: Some(0.02),
            load_cpu_share: Some(0.1),
            probe_cpu_share: Some(0.05),
        }
    }
}

impl Second {
    fn record(&mut self, tag: &'static str, seconds: f64) {
        let histogram = self.plain.entry(tag).or_default();
        histogram.record(Duration::from_secs_f64(seconds));
    }
}

fn plan(shape: &Shape) -> Plan {
    let modes: Vec<Mode> = shape
        .modes
        .iter()
        .map(|name| {
            name.parse::<ModeSpec>()
                .unwrap()
                .resolve(shape.standbys, 1)
                .unwrap()
        })
        .collect();
    let mut cells = Vec::new();
    for rep in 1..=shape.reps {
        for index in 0..modes.len() {
            let mode = if rep % 2 == 1 {
                index
            } else {
                modes.len() - 1 - index
            };
            let id = u32::try_from(cells.len()).unwrap() + 1;
            cells.push(Cell {
                id,
                mode,
                rep,
                block: rep,
                seed: u64::from(rep),
            });
        }
    }
    let workload = "[[table]]\nkind = \"product\"\nrows = 10_000\nrow_bytes = 120\n\
                    [[transaction]]\nkind = \"product-insert\"\n";
    let profile = Profile::parse("p.toml", workload).unwrap();
    Plan {
        given: None,
        left_out: Vec::new(),
        wal_level: WalLevel::Logical,
        quick: false,
        profile: "sync-vs-async".into(),
        description: "What synchronous replication costs, and how stale reads on replicas are."
            .into(),
        seed: 20_260_714,
        tables: profile.tables,
        transactions: profile.transactions,
        client: Client::Pool,
        priority: replbench::plan::Priority::Normal,
        load: LoadPlan {
            offered: Offered::Open {
                rate: Rate::per_second(shape.rate).unwrap(),
                arrivals: Arrivals::Poisson,
            },
            connections: 8,
            threads: 1,
            max_in_flight: 1_000,
            transaction_deadline: Duration::from_secs(10),
        },
        phases: Phases {
            warmup: Duration::from_secs(2),
            measure: Length::For(Duration::from_secs(shape.seconds.into())),
            drain: Duration::from_secs(5),
        },
        probes: ProbePlan {
            visibility: true,
            method: VisibilityMethod::Looks,
            tick: Duration::from_millis(1),
            lag_interval: Duration::from_millis(100),
        },
        expect: Expect::default(),
        modes,
        repeats: shape.reps,
        cells,
        settings: BTreeMap::new(),
        gates: Vec::new(),
        faults: Vec::new(),
    }
}

fn manifest(plan: &Plan) -> Manifest {
    let settings: BTreeMap<String, String> = [
        ("fsync", "on"),
        ("shared_buffers", "128MB"),
        ("wal_level", "logical"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    let node = |cluster: &str, name: &str, role: &str| NodeInfo {
        cluster: cluster.into(),
        name: name.into(),
        role: role.into(),
        version: "17.2".into(),
        reached: None,
        settings: settings.clone(),
    };
    Manifest {
        schema_version: SCHEMA_VERSION,
        run_id: "20260714T091503Z-sync-vs-async-3f2a91c".into(),
        status: RunStatus::Complete,
        invalid_reasons: Vec::new(),
        warnings: vec!["made up: no server was measured".into()],
        started_at: "2026-07-14T09:15:03Z".into(),
        ended_at: Some("2026-07-14T09:26:41Z".into()),
        argv: ["replbench", "run", "sync-vs-async"]
            .map(str::to_owned)
            .into(),
        plan: plan.into(),
        workload_hash: String::new(),
        seed: plan.seed,
        harness: Harness {
            version: "0.1.0".into(),
            git: Some("3f2a91c".into()),
        },
        subject: Subject {
            git: Some("3f2a91c".into()),
            tags: BTreeMap::new(),
        },
        session: None,
        servers_made: None,
        load_priority: None,
        host: Host {
            host_id: "5d41402abc4b".into(),
            cpu: "AMD EPYC 7763".into(),
            cores: 2,
            memory_bytes: 8 << 30,
            kernel: "6.1.0".into(),
            filesystem: "ext4".into(),
            virtualisation: Some("kvm".into()),
            fdatasync: None,
        },
        nodes: vec![
            node("1 primary, 2 standbys", "primary", "primary"),
            node("1 primary, 2 standbys", "s1", "standby"),
            node("1 primary, 2 standbys", "s2", "standby"),
            node("1 primary, 1 subscriber", "primary", "primary"),
            node("1 primary, 1 subscriber", "sub1", "subscriber"),
        ],
        files: BTreeMap::new(),
    }
}
