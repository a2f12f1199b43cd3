//! What generators of load can do when the server answers at once: replbench's two clients and pgbench against a server that speaks the
//! protocol and does nothing. `cargo bench --bench null-server -- --help`; the figures stand in `benches/README.md`.
#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::io::{self, BufReader, Read, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::Parser;
use replbench::clock;
use replbench::cluster::process;
use replbench::load::{Load, Outcomes};
use replbench::pg::Endpoint;
use replbench::plan::{self, Client, Length, Overrides, Pace, Plan};
use replbench::profile::Profile;
use replbench::sample::{Phase, Timeline};
use replbench::units::Rate;

/// Offer load to a server that does nothing.
#[derive(Debug, Parser)]
#[command(name = "null-server")]
struct Options {
    /// Seconds of each turn
    #[arg(long, default_value_t = 5)]
    seconds: u64,

    /// Connections
    #[arg(long, default_value_t = 32)]
    connections: u16,

    /// Arrivals a second of the paced turns
    #[arg(long, default_value_t = 20_000)]
    rate: u32,

    /// Only the paced turn of the client `wire`, to see over a long time whether its memory grows
    #[arg(long)]
    memory: bool,

    /// Cargo passes this to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    std::thread::spawn(move || serve(&listener));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    println!(
        "{} connections, turns of {} s; resident memory is of this process, the server's threads included",
        options.connections, options.seconds
    );
    if options.memory {
        return runtime.block_on(ours(&options, Client::Wire, Some(options.rate), port));
    }
    for rate in [None, Some(options.rate)] {
        for client in Client::ALL {
            runtime.block_on(ours(&options, client, rate, port))?;
        }
        pgbench(&options, rate, port)?;
    }
    Ok(())
}

fn plan(options: &Options, client: Client, rate: Option<u32>) -> anyhow::Result<Plan> {
    let rate = rate.map(|rate| Rate::per_second(rate.into())).transpose()?;
    let overrides = Overrides {
        modes: Some(vec!["async".parse()?]),
        rate: Some(rate.map_or(Pace::Max, Pace::At)),
        measure: Some(Length::For(Duration::from_secs(options.seconds))),
        warmup: Some(Duration::ZERO),
        connections: Some(options.connections),
        threads: Some(1),
        client: Some(client),
        repeats: Some(1),
        seed: Some(1),
        ..Overrides::default()
    };
    Ok(plan::resolve(&Profile::load("users-insert")?, &overrides)?)
}

async fn ours(
    options: &Options,
    client: Client,
    rate: Option<u32>,
    port: u16,
) -> anyhow::Result<()> {
    let plan = plan(options, client, rate)?;
    let endpoint = Endpoint::on_loopback("null", port, "null", None);
    let mut load = Load::open(&plan, &plan.cells[0], endpoint, [], None).await?;
    let start = clock::now() + Duration::from_millis(20);
    load.start(Timeline::new(start, Duration::ZERO));
    let (mut outcomes, mut cpu) = (Outcomes::default(), Duration::ZERO);
    let mut answered = 0;
    // At the end of every second.
    let mut memory = Vec::new();
    while let Some(second) = load.next_second().await {
        outcomes.add(&second.all);
        if second.phase == Phase::Measure {
            answered += second.all.acknowledged();
            cpu += second.cpu;
        }
        memory.push(resident_kib()?);
    }
    load.join()?;
    ensure!(
        outcomes.uncommitted() == 0,
        "transactions failed: {outcomes:?}"
    );
    report(
        &format!("replbench, {client}"),
        rate,
        answered as f64 / options.seconds as f64,
        cpu.as_secs_f64() * 1e6 / answered as f64,
        memory.iter().max().copied(),
    );
    if options.memory {
        let tenth = memory.len().div_ceil(10).max(1);
        let most: Vec<_> = memory
            .chunks(tenth)
            .filter_map(|part| part.iter().max())
            .map(|kib| format!("{:.1}", *kib as f64 / 1024.0))
            .collect();
        println!("most MiB resident in each tenth: {}", most.join(" "));
    }
    Ok(())
}

fn pgbench(options: &Options, rate: Option<u32>, port: u16) -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let script = directory.path().join("script.sql");
    let insert =
        "INSERT INTO users (name, email) VALUES (:name, :email) RETURNING pg_current_xact_id(), id";
    std::fs::write(&script, format!("{insert};\n"))?;
    let mut command = process::command("pgbench");
    command
        .args([
            "-M",
            "prepared",
            "-n",
            "-j",
            "1",
            "-h",
            "127.0.0.1",
            "-U",
            "null",
        ])
        .args([
            "-p",
            &port.to_string(),
            "-c",
            &options.connections.to_string(),
        ])
        .args([
            "-T",
            &options.seconds.to_string(),
            "-D",
            "name=Ingrid",
            "-D",
            "email=i@example.com",
            "-f",
        ])
        .arg(&script)
        .stderr(Stdio::inherit());
    if let Some(rate) = rate {
        command.args(["-R", &rate.to_string()]);
    }
    let before = children_cpu();
    let output = command
        .arg("null")
        .output()
        .context("start pgbench; it comes with PostgreSQL's server or contrib package")?;
    let cpu = children_cpu().saturating_sub(before);
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success(),
        "pgbench ended with {}",
        output.status
    );
    let number = |label: &str| {
        let line = text.lines().find(|line| line.starts_with(label))?;
        let number = line.split(['=', ':']).nth(1)?.trim();
        number.split([' ', '/']).next()?.parse::<f64>().ok()
    };
    let answered =
        number("number of transactions actually processed").context("read pgbench's count")?;
    let tps = number("tps").context("read pgbench's rate")?;
    report(
        "pgbench",
        rate,
        tps,
        cpu.as_secs_f64() * 1e6 / answered,
        None,
    );
    Ok(())
}

fn report(who: &str, rate: Option<u32>, tps: f64, cpu_us: f64, memory_kib: Option<u64>) {
    let pace = rate.map_or("saturated".to_owned(), |rate| format!("{rate}/s"));
    let memory = memory_kib.map_or(String::new(), |kib| {
        format!("{:6.1} MiB resident", kib as f64 / 1024.0)
    });
    println!(
        "{pace:>10}  {who:<16} {tps:>8.0} tps  {cpu_us:>6.2} us of CPU a transaction  {memory}"
    );
}

fn resident_kib() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    kib.context("read VmRSS")
}

/// Processor time of children that have been waited for.
fn children_cpu() -> Duration {
    let ticks = || {
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        let fields: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let of = |index: usize| fields.get(index)?.parse::<u64>().ok();
        Some(of(13)? + of(14)?)
    };
    // A hundred a second, on every Linux.
    Duration::from_millis(ticks().unwrap_or(0) * 10)
}

fn serve(listener: &TcpListener) {
    let ids = Arc::new(AtomicU64::new(1_000));
    for stream in listener.incoming().flatten() {
        let ids = ids.clone();
        // A connection that ends is the end of its thread.
        std::thread::spawn(move || drop(answer(stream, &ids)));
    }
}

/// Answers everything that a session of one insert asks.
fn answer(stream: TcpStream, ids: &AtomicU64) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut input = BufReader::new(stream.try_clone()?);
    let mut stream = stream;
    let mut out = Vec::new();
    loop {
        let mut start = [0; 8];
        input.read_exact(&mut start)?;
        let [length, protocol] =
            [&start[..4], &start[4..]].map(|it| u32::from_be_bytes([it[0], it[1], it[2], it[3]]));
        skip(&mut input, length.saturating_sub(8))?;
        if protocol == 196_608 {
            break;
        }
        // No encryption, and nothing to cancel.
        stream.write_all(b"N")?;
    }
    message(&mut out, b'R', &0_u32.to_be_bytes());
    for (name, value) in [
        ("client_encoding", "UTF8"),
        ("server_version", "17.0"),
        ("standard_conforming_strings", "on"),
    ] {
        message(&mut out, b'S', format!("{name}\0{value}\0").as_bytes());
    }
    message(&mut out, b'Z', b"I");
    stream.write_all(&out)?;
    out.clear();
    loop {
        let mut header = [0; 5];
        input.read_exact(&mut header)?;
        let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]);
        let mut first = [0];
        let body = length.saturating_sub(4);
        if body > 0 {
            input.read_exact(&mut first)?;
            skip(&mut input, body - 1)?;
        }
        match header[0] {
            b'P' => message(&mut out, b'1', b""),
            b'B' => message(&mut out, b'2', b""),
            b'C' => message(&mut out, b'3', b""),
            b'D' => {
                // A portal has its parameters.
                if first == *b"S" {
                    message(&mut out, b't', b"\0\x02\0\0\0\x19\0\0\0\x19");
                }
                let mut columns = 2_u16.to_be_bytes().to_vec();
                for (name, kind) in [("xid", 5069_u32), ("id", 20)] {
                    columns.extend(format!("{name}\0").bytes());
                    columns.extend([0; 6]);
                    columns.extend(kind.to_be_bytes());
                    columns.extend([0, 8, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0]);
                }
                message(&mut out, b'T', &columns);
            }
            b'E' => {
                let id = ids.fetch_add(1, Ordering::Relaxed).to_be_bytes();
                let row = [b"\0\x02\0\0\0\x08".as_slice(), &id, b"\0\0\0\x08", &id].concat();
                message(&mut out, b'D', &row);
                message(&mut out, b'C', b"INSERT 0 1\0");
            }
            b'Q' => {
                message(&mut out, b'C', b"SELECT 0\0");
                message(&mut out, b'Z', b"I");
            }
            b'S' => message(&mut out, b'Z', b"I"),
            b'X' => return Ok(()),
            _ => {}
        }
        if matches!(header[0], b'S' | b'Q' | b'H') {
            stream.write_all(&out)?;
            out.clear();
        }
    }
}

fn message(out: &mut Vec<u8>, tag: u8, body: &[u8]) {
    let length = u32::try_from(body.len() + 4).expect("a short message");
    out.push(tag);
    out.extend(length.to_be_bytes());
    out.extend(body);
}

fn skip(input: &mut impl Read, length: u32) -> io::Result<()> {
    io::copy(&mut input.take(length.into()), &mut io::sink()).map(drop)
}
