//! `replbench status`: shows whether servers replicate.

use std::io::{IsTerminal as _, stdout};
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, ValueEnum};

use super::health::{exit, members_of, text};
use super::servers::{named, read};
use super::signals::EndSignals;
use super::{Exit, OrExit as _, Stop, print};
use crate::cluster::RunningNode;
use crate::cluster::health::{self, Health, Limits};
use crate::pg::locate;
use crate::topology::{Role, Topology};
use crate::units::{parse_bytes, parse_duration};

/// The time between two checks of `--watch`.
const PAUSE: Duration = Duration::from_secs(2);

/// Whether servers replicate: a record is written into the primary's WAL, into no table, and each replica must have it.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("which").args(["data_dir", "compose", "primary"])))]
#[command(after_help = "\
GOOD: what was just written has arrived everywhere and been replayed. WARN: it works, and something is over a limit. BAD: it does not \
replicate, or a server cannot be reached.
Exit codes: 0 all are GOOD, 1 at least one is to be warned of, 3 at least one is BAD, 2 usage.")]
pub(super) struct StatusArgs {
    /// The directory of a cluster that `cluster up` has started
    #[arg(long, value_name = "DIR", default_value = "replbench-cluster")]
    data_dir: PathBuf,

    /// Instead, the project of a compose file, as `cluster up --compose` has told
    #[arg(long, value_name = "PROJECT")]
    compose: Option<String>,

    /// Instead, a primary that exists, as libpq takes it
    #[arg(long, value_name = "CONNINFO")]
    primary: Option<String>,

    /// A standby of it, by the name under which it replicates; may be given several times
    #[arg(long, value_name = "[NAME=]CONNINFO", requires = "primary")]
    standby: Vec<String>,

    /// A subscriber of it, by the name of its subscription; may be given several times
    #[arg(long, value_name = "[NAME=]CONNINFO", requires = "primary")]
    subscriber: Vec<String>,

    /// A replica that has this much to replay is to be warned of
    #[arg(long, value_name = "BYTES", default_value = "16 MiB", value_parser = parse_bytes)]
    max_lag: u64,

    /// What was written must be everywhere within this
    #[arg(long, value_name = "TIME", default_value = "3 s", value_parser = parse_duration)]
    within: Duration,

    /// A slot that holds this much WAL back is to be warned of
    #[arg(long, value_name = "BYTES", default_value = "1 GiB", value_parser = parse_bytes)]
    max_retained: u64,

    /// Look again every two seconds, until Ctrl-C
    #[arg(long)]
    watch: bool,

    /// For people, or for programs: one JSON object a look
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

pub(super) fn run(arguments: &StatusArgs) -> Result<Exit, Stop> {
    let limits = Limits {
        patience: arguments.within,
        lag_bytes: arguments.max_lag,
        retained_bytes: arguments.max_retained,
    };
    super::cluster::with_runtime(async {
        let mut signals = EndSignals::listen().or_exit(Exit::Server)?;
        let mut members = members(arguments).await?;
        loop {
            let health = tokio::select! {
                health = health::check(&members, limits) => health,
                () = signals.came() => return Ok(Exit::Incomplete),
            };
            show(&health, arguments)?;
            if !arguments.watch {
                return Ok(exit(health.verdict));
            }
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = signals.came() => return Ok(exit(health.verdict)),
            }
            // A server may have been restarted at another address.
            if let Ok(again) = self::members(arguments).await {
                members = again;
            }
        }
    })
}

async fn members(arguments: &StatusArgs) -> Result<Vec<RunningNode>, Stop> {
    if let Some(primary) = &arguments.primary {
        return given(primary, arguments).await;
    }
    Ok(members_of(arguments.compose.as_deref(), &arguments.data_dir).await?)
}

/// The servers that connection strings name.
async fn given(primary: &str, arguments: &StatusArgs) -> Result<Vec<RunningNode>, Stop> {
    let mut texts = vec![primary.to_owned()];
    let mut replicas = Vec::new();
    for (prefix, role, given) in [
        ("s", Role::Standby, &arguments.standby),
        ("sub", Role::Subscriber, &arguments.subscriber),
    ] {
        for (text, number) in given.iter().zip(1_u32..) {
            let (name, conninfo) = named(text);
            replicas.push((name.unwrap_or_else(|| format!("{prefix}{number}")), role));
            texts.push(conninfo);
        }
    }
    let topology = Topology::of_replicas(replicas);
    let mut members = Vec::new();
    for (node, text) in topology.nodes().iter().zip(&texts) {
        let parameters = read(text)?;
        let located = locate(&node.name, &parameters, "replbench status").await;
        let (endpoint, session) = located.or_exit(Exit::Server)?;
        session.close().await;
        members.push(RunningNode {
            node: node.clone(),
            endpoint,
            process: None,
        });
    }
    Ok(members)
}

fn show(health: &Health, arguments: &StatusArgs) -> Result<(), Stop> {
    match arguments.format {
        Format::Json => {
            let json = serde_json::to_string(health).or_exit(Exit::Results)?;
            print(&format!("{json}\n"))
        }
        Format::Text if arguments.watch && stdout().is_terminal() => {
            // Clears the screen and starts at its top.
            print(&format!("\u{1b}[H\u{1b}[2J{}", text(health)))
        }
        Format::Text if arguments.watch => print(&format!("{}\n", text(health))),
        Format::Text => print(&text(health)),
    }
}
