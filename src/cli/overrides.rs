//! The arguments that change a profile for one run, shared by `run` and `check`.

use std::time::Duration;

use clap::Args;

use crate::mode::ModeSpec;
use crate::plan::{Arrivals, Client, Fault, Length, Overrides, Pace, VisibilityMethod};
use crate::units::parse_duration;

/// Each one leaves the profile's own value alone when it is absent.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Instead of what the profile says")]
pub(super) struct OverrideArgs {
    /// Modes to compare, such as `async,sync:any-2,logical:3`; the first is the baseline
    #[arg(long, value_name = "MODE,..", value_delimiter = ',')]
    modes: Option<Vec<ModeSpec>>,

    /// Transactions a second, or `max` for a closed loop
    #[arg(long, value_name = "N|max")]
    rate: Option<Pace>,

    /// Gaps between arrivals
    #[arg(long, value_name = "poisson|uniform")]
    arrivals: Option<Arrivals>,

    /// How long each measurement lasts, such as `8 s`
    #[arg(long, value_name = "TIME", value_parser = parse_duration, conflicts_with = "count")]
    duration: Option<Duration>,

    /// How many transactions each measurement has
    #[arg(long, value_name = "N")]
    count: Option<u64>,

    /// How long load runs before it is measured
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    warmup: Option<Duration>,

    /// How long to wait for replicas to show the last commits
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    drain: Option<Duration>,

    /// What befalls a node in every measurement, such as `pause-replay s1 at 2s for 3s` or `pitr primary at 2s`; may be given
    /// several times
    #[arg(long, value_name = "FAULT")]
    fault: Vec<Fault>,

    /// What sends transactions: `wire`, which costs least, or `pool`, a driver and a pool as applications have them
    #[arg(long, value_name = "CLIENT")]
    client: Option<Client>,

    /// How it is known when a standby shows a commit: `looks` by the client, or `push` by the standby, which disturbs less and
    /// resolves a millisecond
    #[arg(long, value_name = "METHOD")]
    visibility: Option<VisibilityMethod>,

    /// Connections that send transactions, 1 to 1,000
    #[arg(long, value_name = "N")]
    connections: Option<u16>,

    /// Threads that send transactions
    #[arg(long, value_name = "N")]
    threads: Option<u16>,

    /// How often every mode is measured, 1 to 1,000
    #[arg(long, value_name = "N")]
    repeats: Option<u32>,

    /// Seed of arrivals, rows and the order of modes; drawn for every run unless given
    #[arg(long, value_name = "N")]
    seed: Option<u64>,

    /// Physical standbys of the primary
    #[arg(long, value_name = "N")]
    standbys: Option<u8>,

    /// Logical subscribers of the primary
    #[arg(long, value_name = "N")]
    subscribers: Option<u8>,

    /// Multiplies the rows that every table has from the start
    #[arg(long, value_name = "FACTOR")]
    scale: Option<f64>,

    /// Three short repetitions: a first look, no verdict
    #[arg(long)]
    quick: bool,
}

impl OverrideArgs {
    pub(super) fn to_overrides(&self) -> Overrides {
        Overrides {
            modes: self.modes.clone(),
            rate: self.rate,
            arrivals: self.arrivals,
            measure: (self.duration.map(Length::For)).or(self.count.map(Length::Count)),
            warmup: self.warmup,
            drain: self.drain,
            faults: self.fault.clone(),
            client: self.client,
            visibility: self.visibility,
            connections: self.connections,
            threads: self.threads,
            repeats: self.repeats,
            seed: self.seed,
            // 32 bits, so that the number is short enough to be typed again.
            drawn_seed: rand::random::<u32>().into(),
            standbys: self.standbys,
            subscribers: self.subscribers,
            scale: self.scale,
            quick: self.quick,
            no_visibility: false,
            given: None,
        }
    }
}
