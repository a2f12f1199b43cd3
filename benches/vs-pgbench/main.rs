//! replbench against pgbench: the same insert, connections and cluster, in turns (ABBA), with visibility recorded.
//!
//! `cargo bench --bench vs-pgbench -- --help`; what the columns mean stands in `benches/README.md`.
#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]

mod ours;
mod scenario;
mod table;
mod theirs;
mod turn;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use replbench::cluster::{Binaries, Cluster, ClusterConfig};
use replbench::plan::{Client, Plan, Priority, VisibilityMethod};
use scenario::{Phases, Scenario};
use table::Comparison;
use turn::Turn;

/// Connections beyond the load's: probes, counts, administration.
const SPARE_CONNECTIONS: u16 = 20;

/// Compare replbench's load with `pgbench -M prepared`.
#[derive(Debug, Parser)]
#[command(name = "vs-pgbench")]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line"
)]
struct Options {
    /// Rounds of each tool in each scenario
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,

    /// Seconds that are measured in a round
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,

    /// Seconds before them
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=60))]
    warmup: u64,

    /// Scenarios to run; all by default
    #[arg(long, value_delimiter = ',')]
    scenarios: Vec<Scenario>,

    /// Two rounds of three seconds: shows that it works, measures nothing
    #[arg(long)]
    quick: bool,

    /// Print the tables as Markdown
    #[arg(long)]
    markdown: bool,

    /// What sends replbench's transactions: wire or pool
    #[arg(long, default_value = "wire")]
    client: Client,

    /// Of replbench's load thread, as far as it is permitted: normal, raised or realtime
    #[arg(long, default_value = "normal")]
    priority: Priority,

    /// How it is known when a commit is visible: looks or push
    #[arg(long, default_value = "push")]
    visibility: VisibilityMethod,

    /// Leave the visibility probe out, to see what it costs
    #[arg(long)]
    no_visibility: bool,

    /// Directory of PostgreSQL's programs
    #[arg(long, value_name = "DIR")]
    pg_bindir: Option<PathBuf>,

    /// Where the servers keep their data meanwhile
    #[arg(long, value_name = "DIR", default_value = env!("CARGO_TARGET_TMPDIR"))]
    data_dir: PathBuf,

    /// Cargo passes this to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

impl Options {
    /// How visibility is known; `None`: not at all.
    fn method(&self) -> Option<VisibilityMethod> {
        (!self.no_visibility).then_some(self.visibility)
    }

    fn scenarios(&self) -> Vec<Scenario> {
        if self.scenarios.is_empty() {
            Scenario::ALL.to_vec()
        } else {
            self.scenarios.clone()
        }
    }

    fn rounds(&self) -> u32 {
        if self.quick { 2 } else { self.rounds }
    }

    fn phases(&self) -> Phases {
        let (warmup, measure) = if self.quick {
            (1, 3)
        } else {
            (self.warmup, self.seconds)
        };
        Phases {
            warmup: Duration::from_secs(warmup),
            measure: Duration::from_secs(measure),
        }
    }
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    runtime.block_on(run(&options))
}

async fn run(options: &Options) -> anyhow::Result<()> {
    let scratch = tempfile::Builder::new()
        .prefix("vs-pgbench-")
        .tempdir_in(&options.data_dir)
        .context("make a directory for the servers")?;
    let binaries = Binaries::find(options.pg_bindir.as_deref())?;
    let plan = scenario::plan(
        Scenario::Saturated32,
        options.phases(),
        options.client,
        options.method(),
        0,
    )?;
    let version = binaries.version().to_owned();
    let cluster = start(&plan, binaries, &scratch.path().join("cluster")).await?;
    println!(
        "PostgreSQL {}, primary and one standby, async; {} rounds of {} s after {} s of warm-up; visibility {}",
        version,
        options.rounds(),
        options.phases().measure.as_secs(),
        options.phases().warmup.as_secs(),
        if options.no_visibility {
            "not recorded"
        } else {
            "recorded"
        },
    );
    // Whatever happened, the servers are stopped; the first error is the one to tell.
    let compared = tokio::select! {
        compared = compare_all(options, &cluster, scratch.path()) => compared,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    };
    let stopped = cluster.stop().await;
    compared?;
    Ok(stopped?)
}

async fn start(plan: &Plan, binaries: Binaries, directory: &Path) -> anyhow::Result<Cluster> {
    let mode = &plan.modes[0];
    let config = ClusterConfig {
        max_connections: plan.load.connections + SPARE_CONNECTIONS,
        launcher: env!("CARGO_BIN_EXE_replbench").into(),
        schema: plan.tables.iter().map(|it| it.ddl.clone()).collect(),
        ..ClusterConfig::new(mode.topology.clone(), binaries, directory)
    };
    let cluster = Cluster::start(config).await?;
    cluster.apply_mode(mode).await?.keep();
    Ok(cluster)
}

async fn compare_all(options: &Options, cluster: &Cluster, scratch: &Path) -> anyhow::Result<()> {
    for scenario in options.scenarios() {
        let mut comparison = Comparison::new(scenario);
        for round in 0..options.rounds() {
            let seed = u64::from(round) + 1;
            let plan = Plan {
                priority: options.priority,
                ..scenario::plan(
                    scenario,
                    options.phases(),
                    options.client,
                    options.method(),
                    seed,
                )?
            };
            let turn = Turn {
                cluster,
                plan: &plan,
                scenario,
                phases: options.phases(),
                seed,
                scratch,
            };
            // ABBA: a drift of the machine meets both tools alike.
            let (ours, theirs) = if round % 2 == 0 {
                let ours = turn.of("replbench", ours::run).await?;
                (ours, turn.of("pgbench", theirs::run).await?)
            } else {
                let theirs = turn.of("pgbench", theirs::run).await?;
                (turn.of("replbench", ours::run).await?, theirs)
            };
            comparison.add(ours, theirs);
        }
        if options.markdown {
            println!("{}", comparison.markdown());
        } else {
            println!("{}", comparison.text());
        }
    }
    Ok(())
}
