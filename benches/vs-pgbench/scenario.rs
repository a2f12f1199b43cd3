//! What load both tools offer, and the plan that says so to replbench.

use std::time::Duration;

use replbench::plan::{self, Client, Length, Overrides, Pace, Plan, VisibilityMethod};
use replbench::profile::Profile;
use replbench::units::Rate;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Phases {
    pub(crate) warmup: Duration,
    pub(crate) measure: Duration,
}

/// The built-in profile of single-row inserts into users, reduced to one standby and one mode.
const PROFILE: &str = "users-insert";

/// A load that both tools can offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Scenario {
    /// Closed loop, 8 connections
    #[value(name = "saturated-8")]
    Saturated8,
    /// Closed loop, 32 connections
    #[value(name = "saturated-32")]
    Saturated32,
    /// 1,000 Poisson arrivals a second, 32 connections
    #[value(name = "paced-1000")]
    Paced1000,
    /// 5,000 Poisson arrivals a second, 32 connections
    #[value(name = "paced-5000")]
    Paced5000,
}

impl Scenario {
    pub(crate) const ALL: [Self; 4] = [
        Self::Saturated8,
        Self::Saturated32,
        Self::Paced1000,
        Self::Paced5000,
    ];

    pub(crate) fn connections(self) -> u16 {
        match self {
            Self::Saturated8 => 8,
            Self::Saturated32 | Self::Paced1000 | Self::Paced5000 => 32,
        }
    }

    /// Arrivals a second; `None`: as many as the server answers.
    pub(crate) fn rate(self) -> Option<u32> {
        match self {
            Self::Saturated8 | Self::Saturated32 => None,
            Self::Paced1000 => Some(1_000),
            Self::Paced5000 => Some(5_000),
        }
    }

    pub(crate) fn title(self) -> String {
        match self.rate() {
            None => format!("saturated, {} connections", self.connections()),
            Some(rate) => format!("paced at {rate}/s, {} connections", self.connections()),
        }
    }
}

/// One cell of replbench, with one load thread.
pub(crate) fn plan(
    scenario: Scenario,
    phases: Phases,
    client: Client,
    method: Option<VisibilityMethod>,
    seed: u64,
) -> anyhow::Result<Plan> {
    let pace = match scenario.rate() {
        Some(rate) => Pace::At(Rate::per_second(rate.into())?),
        None => Pace::Max,
    };
    let overrides = Overrides {
        modes: Some(vec!["async".parse()?]),
        rate: Some(pace),
        measure: Some(Length::For(phases.measure)),
        warmup: Some(phases.warmup),
        client: Some(client),
        connections: Some(scenario.connections()),
        threads: Some(1),
        repeats: Some(1),
        seed: Some(seed),
        standbys: Some(1),
        subscribers: Some(0),
        visibility: method,
        no_visibility: method.is_none(),
        ..Overrides::default()
    };
    Ok(plan::resolve(&Profile::load(PROFILE)?, &overrides)?)
}
