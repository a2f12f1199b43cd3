//! pgbench's turn. Latencies come from its log of transactions, CPU time from the kernel's scheduler, both over the same window.
//!
//! pgbench runs without `-L`, which drops late transactions from what it reports.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use replbench::clock;
use replbench::cluster::process;
use replbench::histogram::Histogram;
use replbench::load::workload;
use replbench::units::thousands;

use crate::turn::{Figures, Turn};

/// Connecting 32 times with scram takes so long; and so much later than planned the window begins.
const CONNECTING: Duration = Duration::from_millis(400);
/// What pgbench runs beyond the window.
const SLACK: Duration = Duration::from_secs(1);
/// How long it may take to end after that.
const PATIENCE: Duration = Duration::from_secs(20);
/// Digits of the random number that serves as the address.
const ADDRESS_BYTES: u32 = 18;

pub(crate) async fn run(turn: &Turn<'_>) -> anyhow::Result<Figures> {
    let directory = tempfile::Builder::new()
        .prefix("pgbench-")
        .tempdir_in(turn.scratch)?;
    let begun = clock::now();
    let mut child = Reaped(start(turn, directory.path())?);
    let pid = child.0.id();
    until(begun + CONNECTING + turn.phases.warmup).await;
    let from = Edge::of(pid)?;
    until(begun + CONNECTING + turn.phases.warmup + turn.phases.measure).await;
    let to = Edge::of(pid)?;
    child.ended().await?;
    let output = fs::read_to_string(directory.path().join("output"))?;
    let log = fs::read_to_string(directory.path().join(format!("log.{pid}")))
        .context("read pgbench's log")?;
    let figures = figures(&log, &from, &to, turn.scenario.rate().is_some())?;
    let claimed = processed(&output)?;
    ensure!(
        claimed == figures.rows,
        "pgbench reports {} transactions and logs {}",
        thousands(claimed),
        thousands(figures.rows)
    );
    Ok(figures)
}

fn start(turn: &Turn<'_>, directory: &Path) -> anyhow::Result<Child> {
    let plan = turn.plan;
    let script = directory.join("script.sql");
    fs::write(&script, script_text(turn))?;
    let endpoint = &turn.cluster.primary().endpoint;
    // The rows are as wide as replbench's: a fixed name, and an address that pgbench makes up.
    let width = plan.tables[0]
        .row_bytes
        .saturating_sub(ADDRESS_BYTES)
        .max(1);
    let name = "Ingrid Fernandez ".chars().cycle().take(width as usize);
    let whole = turn.phases.warmup + turn.phases.measure + SLACK;
    let output = File::create(directory.join("output"))?;
    let mut command = process::command(program(turn));
    command
        .args(["-M", "prepared", "-n", "-j", "1", "-l"])
        .args(["-h", &endpoint.host, "-p", &endpoint.port.to_string()])
        .args(["-U", &endpoint.user])
        .args(["-c", &turn.scenario.connections().to_string()])
        .args(["-T", &whole.as_secs().to_string()])
        .args(["-D", &format!("name={}", name.collect::<String>())])
        .arg(format!("--random-seed={}", turn.seed))
        .arg("--log-prefix=log")
        .arg("-f")
        .arg(&script);
    if let Some(rate) = turn.scenario.rate() {
        command.args(["-R", &rate.to_string()]);
    }
    command
        .arg(&endpoint.database)
        .envs(turn.cluster.passfile().map(|path| ("PGPASSFILE", path)))
        .current_dir(directory)
        .stdout(output.try_clone()?)
        .stderr(output)
        .spawn()
        .context("start pgbench; it comes with PostgreSQL's server or contrib package")
}

/// pgbench beside the servers' programs, else from the PATH.
fn program(turn: &Turn<'_>) -> PathBuf {
    let programs = turn.cluster.binaries();
    let beside = programs.map(|it| it.directory().join("pgbench"));
    beside
        .filter(|it| it.is_file())
        .unwrap_or_else(|| "pgbench".into())
}

/// replbench's own statement, with pgbench's variables in place of its parameters.
fn script_text(turn: &Turn<'_>) -> String {
    let statements = workload::statements(turn.plan, &turn.plan.transactions[0]);
    let insert = statements[0].replace("$1", ":name").replace("$2", ":email");
    let least = 10_u64.pow(ADDRESS_BYTES - 1);
    let most = 10_u64.pow(ADDRESS_BYTES) - 1;
    format!("\\set email random({least}, {most})\n{insert};\n")
}

async fn until(due: clock::Stamp) {
    tokio::time::sleep(due.since(clock::now())).await;
}

/// pgbench, which does not outlive its turn.
struct Reaped(Child);

impl Reaped {
    async fn ended(&mut self) -> anyhow::Result<()> {
        let due = clock::now() + SLACK + PATIENCE;
        loop {
            if let Some(status) = self.0.try_wait()? {
                ensure!(status.success(), "pgbench ended with {status}");
                return Ok(());
            }
            ensure!(clock::now() < due, "pgbench does not end");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Reaped {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            // It may have ended by itself just now; either way it is reaped.
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}

/// One end of the window.
struct Edge {
    /// Of the epoch, by the clock that pgbench logs with.
    at_us: i64,
    cpu: Duration,
}

impl Edge {
    /// Reads the CPU time that the scheduler has accounted to pgbench's threads: exact to a tick, some 4 ms.
    fn of(pid: u32) -> anyhow::Result<Self> {
        let mut cpu = Duration::ZERO;
        for task in fs::read_dir(format!("/proc/{pid}/task")).context("pgbench has ended early")? {
            let text = fs::read_to_string(task?.path().join("schedstat"))?;
            let nanos = text
                .split_ascii_whitespace()
                .next()
                .context("an empty schedstat")?;
            cpu += Duration::from_nanos(nanos.parse()?);
        }
        Ok(Self {
            at_us: clock::wall().as_microsecond(),
            cpu,
        })
    }
}

/// One line of the log: `client_id transaction_no time script_no time_epoch time_us [schedule_lag]`.
struct Line {
    /// When the transaction ended, in microseconds of the epoch.
    ended: i64,
    /// From the scheduled start, in microseconds: with `-R` it includes the lag.
    time: i64,
    lag: Option<i64>,
}

impl Line {
    fn parse(text: &str) -> anyhow::Result<Self> {
        let fields: Vec<_> = text.split_ascii_whitespace().collect();
        let number = |index: usize| -> anyhow::Result<i64> {
            let field = fields.get(index).context("a field is missing")?;
            Ok(field.parse()?)
        };
        Ok(Self {
            time: number(2)?,
            ended: number(4)? * 1_000_000 + number(5)?,
            lag: fields.get(6).map(|_| number(6)).transpose()?,
        })
    }
}

fn figures(log: &str, from: &Edge, to: &Edge, paced: bool) -> anyhow::Result<Figures> {
    let window = from.at_us..to.at_us;
    let (mut rows, mut answered, mut offered) = (0, 0, 0);
    let (mut service, mut start_lag) = (Histogram::new(), Histogram::new());
    for text in log.lines() {
        let line = Line::parse(text).with_context(|| format!("pgbench's log says `{text}`"))?;
        rows += 1;
        let due_us = line.ended - line.time;
        offered += u64::from(window.contains(&due_us));
        answered += u64::from(window.contains(&line.ended));
        // As with replbench, the distributions are those of the arrivals that were due in the window.
        if window.contains(&due_us) {
            let lag = line.lag.unwrap_or(0);
            service.record(micros(line.time - lag));
            start_lag.record(micros(lag));
        }
    }
    let cpu = to.cpu.saturating_sub(from.cpu);
    Ok(Figures {
        window: micros(to.at_us - from.at_us),
        answered,
        offered: paced.then_some(offered),
        load_cpu: cpu,
        probe_cpu: Duration::ZERO,
        process_cpu: cpu,
        service,
        start_lag,
        rows,
        visibility: None,
    })
}

fn micros(count: i64) -> Duration {
    Duration::from_micros(u64::try_from(count).unwrap_or(0))
}

/// From `number of transactions actually processed: 12345`, with `/12345` behind it for a fixed count.
fn processed(output: &str) -> anyhow::Result<u64> {
    let number = output
        .lines()
        .find_map(|line| line.strip_prefix("number of transactions actually processed: "))
        .with_context(|| format!("pgbench did not say what it processed: {output}"))?;
    Ok(number.trim().parse()?)
}
