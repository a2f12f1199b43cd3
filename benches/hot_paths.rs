//! What replbench itself spends on an arrival, a sample and a row: the parts of the load's and the recorder's hot paths
//! that need no server.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::hint::black_box;
use std::num::NonZeroU64;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use replbench::histogram::Histogram;
use replbench::load::values::Sampler;
use replbench::plan::{Arrivals, KeyChoice, KeyChooser, Mix, Overrides, Schedule, resolve, rng};
use replbench::profile::Profile;
use replbench::record::{
    Harness, Host, Manifest, RecordedPlan, Recorder, RunStatus, SCHEMA_VERSION, Subject,
};
use replbench::sample::{IntervalRow, LagRow, Phase};
use replbench::units::Rate;
use tempfile::TempDir;

/// Rows, arrivals or values handled in one iteration.
const BATCH: u64 = 1_000;
const SEED: u64 = 20_260_714;

fn arrivals(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("arrivals");
    group.throughput(Throughput::Elements(BATCH));
    let rate = Rate::per_second(5_000.0).expect("a rate that can be offered");
    for arrivals in Arrivals::ALL {
        let mut schedule = Schedule::new(rate, arrivals, SEED);
        group.bench_function(arrivals.as_str(), |bencher| {
            bencher.iter(|| {
                for _ in 0..BATCH {
                    black_box(schedule.next());
                }
            });
        });
    }
    group.finish();
}

/// From an arrival's number to the row that it sends: its generator, its transaction, its key, its text.
fn work(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("work");
    group.throughput(Throughput::Elements(BATCH));
    let profile = Profile::load("ecommerce").expect("it is built in");
    let plan = resolve(&profile, &Overrides::default()).expect("it needs no option");
    let mix = Mix::new(&plan.transactions);
    let rows = NonZeroU64::new(100_000).expect("not zero");
    let uniform = KeyChooser::new(KeyChoice::Uniform, rows);
    let zipf = KeyChooser::new(KeyChoice::Zipf(1.0), rows);
    let mut slots = 0..;
    let mut slot = || slots.next().unwrap_or(u64::MAX);
    let mut measure = |name: &str, one: &dyn Fn(u64)| {
        group.bench_function(name, |bencher| {
            bencher.iter(|| (0..BATCH).for_each(|_| one(slot())));
        });
    };
    measure("rng", &|slot| {
        black_box(rng(SEED, slot));
    });
    measure("mix", &|slot| {
        black_box(mix.pick(&mut rng(SEED, slot)));
    });
    measure("key_uniform", &|slot| {
        black_box(uniform.pick(&mut rng(SEED, slot)));
    });
    measure("key_zipf", &|slot| {
        black_box(zipf.pick(&mut rng(SEED, slot)));
    });
    for transaction in &plan.transactions {
        let sampler = Sampler::new(&plan, transaction);
        let values = RefCell::new(Vec::new());
        measure(&transaction.name, &|slot| {
            sampler.draw(&mut rng(SEED, slot), &mut values.borrow_mut());
            black_box(&values);
        });
    }
    group.finish();
}

/// Latencies between 100 µs and 10 ms or so, as a server's are.
fn latencies() -> Vec<Duration> {
    let rate = Rate::per_second(1_000.0).expect("a rate that can be offered");
    let mut last = 0;
    Schedule::new(rate, Arrivals::Poisson, SEED)
        .take(usize::try_from(BATCH).expect("a small number"))
        .map(|due| {
            let gap = due - last;
            last = due;
            Duration::from_nanos(100_000 + gap)
        })
        .collect()
}

fn histogram(criterion: &mut Criterion) {
    let latencies = latencies();
    let mut filled = Histogram::new();
    for value in &latencies {
        filled.record(*value);
    }
    let mut group = criterion.benchmark_group("histogram");
    group.bench_function("new", |bencher| bencher.iter(Histogram::new));
    group.bench_function("p99", |bencher| {
        bencher.iter(|| black_box(&filled).quantile(0.99));
    });
    group.bench_function("merge", |bencher| {
        let mut merged = Histogram::new();
        bencher.iter(|| merged.merge(black_box(&filled)));
    });
    group.throughput(Throughput::Elements(BATCH));
    group.bench_function("record", |bencher| {
        let mut histogram = Histogram::new();
        bencher.iter(|| {
            for latency in &latencies {
                histogram.record(black_box(*latency));
            }
        });
    });
    group.finish();
}

fn csv(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("csv");
    group
        .throughput(Throughput::Elements(BATCH))
        .sample_size(20);
    let lag = lag_row();
    group.bench_function("lag_row", |bencher| {
        bencher.iter_batched_ref(
            recorder,
            |(recorder, _directory)| append(recorder, |it| it.lag(&lag)),
            BatchSize::PerIteration,
        );
    });
    let interval = interval_row();
    group.bench_function("interval_row", |bencher| {
        bencher.iter_batched_ref(
            recorder,
            |(recorder, _directory)| append(recorder, |it| it.interval(&interval)),
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

/// A batch of rows and the flush that ends every second of a run.
fn append<E: std::fmt::Debug>(
    recorder: &mut Recorder,
    mut one: impl FnMut(&mut Recorder) -> Result<(), E>,
) {
    for _ in 0..BATCH {
        one(recorder).expect("the temporary directory takes rows");
    }
    recorder
        .flush()
        .expect("the temporary directory takes rows");
}

fn recorder() -> (Recorder, TempDir) {
    let directory = TempDir::new().expect("a temporary directory can be made");
    let manifest = Manifest {
        schema_version: SCHEMA_VERSION,
        run_id: "bench".into(),
        status: RunStatus::Running,
        invalid_reasons: Vec::new(),
        warnings: Vec::new(),
        started_at: String::new(),
        ended_at: None,
        argv: Vec::new(),
        plan: RecordedPlan::default(),
        workload_hash: String::new(),
        seed: SEED,
        harness: Harness {
            version: env!("CARGO_PKG_VERSION").into(),
            git: None,
        },
        subject: Subject::default(),
        session: None,
        servers_made: None,
        load_priority: None,
        host: Host::default(),
        nodes: Vec::new(),
        files: BTreeMap::new(),
    };
    let recorder = Recorder::create(directory.path(), manifest);
    (
        recorder.expect("a temporary directory can be written"),
        directory,
    )
}

fn lag_row() -> LagRow {
    LagRow {
        cell_id: 3,
        t_us: 1_234_567,
        node: "s1".into(),
        state: Some("streaming".into()),
        sync_state: Some("async".into()),
        sent_lag_bytes: Some(0),
        write_lag_bytes: Some(8_192),
        flush_lag_bytes: Some(16_384),
        replay_lag_bytes: Some(16_384),
        write_lag_us: Some(210),
        flush_lag_us: Some(820),
        replay_lag_us: Some(860),
        reply_age_us: Some(1_900),
        slot_retained_bytes: Some(24_576),
        slot_wal_status: Some("reserved".into()),
        received_lag_bytes: Some(0),
        replayed_lag_bytes: Some(0),
        replay_timestamp_age_us: Some(1_200),
        sampler_rtt_us: Some(430),
    }
}

fn interval_row() -> IntervalRow {
    IntervalRow {
        cell_id: 3,
        t_us: 5_000_000,
        length_us: 1_000_000,
        phase: Phase::Measure,
        offered: 1_000,
        sent: 1_000,
        acked: 998,
        failed: 0,
        missed: Some(0),
        backlog: 0,
        in_flight: 2,
        start_lag_p50_us: Some(22.016),
        start_lag_p99_us: Some(180.223),
        pool_wait_p50_us: Some(1.023),
        pool_wait_p99_us: Some(2.047),
        service_p50_us: Some(1_204.223),
        service_p99_us: Some(4_431.871),
        service_max_us: Some(9_961.471),
        response_p50_us: Some(1_230.847),
        response_p99_us: Some(4_489.215),
        response_max_us: Some(9_977.855),
        wal_bytes: Some(401_408),
        syncrep_waiters: Some(0),
        host_busy_share: Some(0.412_5),
        host_steal_share: Some(0.002_5),
        host_iowait_share: Some(0.061),
        load_cpu_share: Some(0.042_113),
        probe_cpu_share: Some(0.030_871),
    }
}

criterion_group!(benches, arrivals, work, histogram, csv);
criterion_main!(benches);
