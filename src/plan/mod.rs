//! What a run will do, fully resolved: every cell, its order, seed, phases, load and probes. Printable before anything runs.
//! Pure; knows neither servers nor files.

mod arrivals;
mod describe;
mod discarded;
mod estimate;
mod modes;
mod needs;
mod order;
mod own_schema;
mod resolve;
mod session;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::mode::Mode;
use crate::topology::{Topology, WalLevel};
use crate::units::Rate;

pub use crate::profile::{
    Arrivals, Change, Client, Constant, Expect, Fault, FaultKind, Gate, Generator, KeyChoice,
    Length, Limit, Origin, Pace, Parameter, Phases, Priority, Slowness, Statement, Table,
    Transaction, VisibilityMethod,
};
pub use arrivals::{KeyChooser, Mix, Schedule, rng};
pub use describe::about;
pub(crate) use describe::fold;
pub use own_schema::OWN_SCHEMA;
pub use resolve::{Overrides, PlanError, resolve};
pub use session::{Incomparable, Side, Sides, Turn, turns};

/// A profile resolved against the overrides of the command line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    pub profile: String,
    pub description: String,
    /// The one seed: arrivals, row contents and the order of cells derive from it. Drawn for the run unless it was given.
    pub seed: u64,
    pub tables: Vec<Table>,
    pub transactions: Vec<Transaction>,
    pub load: LoadPlan,
    /// It sends the same arrivals whichever it is, and is no part of what servers were asked.
    #[serde(default = "Client::of_older_runs")]
    pub client: Client,
    /// As it is wanted. It sends the same arrivals, and is no part of what servers were asked either.
    #[serde(default = "Priority::of_older_runs")]
    pub priority: Priority,
    pub phases: Phases,
    pub probes: ProbePlan,
    pub expect: Expect,
    /// In the order of the profile; the first is the baseline of comparisons.
    pub modes: Vec<Mode>,
    pub repeats: u32,
    /// `--quick`: a first look, too short for a verdict.
    pub quick: bool,
    /// In the order in which they run.
    pub cells: Vec<Cell>,
    /// Of all clusters of the run: what the mode that needs most of it needs.
    pub wal_level: WalLevel,
    /// Server settings beyond replbench's own, applied to every node.
    pub settings: BTreeMap<String, String>,
    /// What the run must keep to. They judge a run and do not change what is measured.
    pub gates: Vec<Gate>,
    /// What happens to nodes in every cell, in the order of the profile.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<Fault>,
    /// How its servers are made, where somebody gives them; else it follows from the modes.
    #[serde(skip)]
    pub given: Option<ServersMade>,
    /// Modes of the profile that the servers cannot have, each with the reason.
    #[serde(skip)]
    pub left_out: Vec<String>,
}

/// How often the servers of a run are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServersMade {
    Once,
    EveryBlock,
    /// They exist, and somebody else made them.
    Never,
    /// Once, by docker compose.
    Compose,
    /// By docker compose, anew for every cell, because each ends with another primary.
    ComposeEveryCell,
    /// Anew for every cell, because each ends with another primary.
    EveryCell,
}

/// One repetition of one mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    /// Counts from 1 in the order of running.
    pub id: u32,
    /// An index into [`Plan::modes`].
    pub mode: usize,
    /// Counts from 1; 0 is a discarded cell.
    pub rep: u32,
    /// Cells of one block are neighbours in time and share arrivals: they may be compared in pairs. Equals `rep`.
    pub block: u32,
    /// Seed of the cell's arrivals and rows; the same for all modes of a block.
    pub seed: u64,
}

impl Cell {
    /// Whether it belongs to no figure: see [`Plan::discarded`].
    pub fn is_discarded(&self) -> bool {
        self.rep == 0
    }
}

/// What load is offered, and through what.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LoadPlan {
    pub offered: Offered,
    /// Connections in all pools together.
    pub connections: u16,
    /// Load threads, each with a runtime and a pool of its own; at most `connections`.
    pub threads: u16,
    /// Arrivals handed to the pools and not yet answered; beyond it they wait in the backlog, counted.
    pub max_in_flight: u32,
    /// After this a transaction is given up as indeterminate and its connection discarded.
    pub transaction_deadline: Duration,
}

/// Open or closed loop.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Offered {
    /// Arrivals follow a schedule, whatever the server does.
    Open { rate: Rate, arrivals: Arrivals },
    /// Every connection sends its next transaction when the last one is answered (`--rate max`).
    Closed,
}

/// What the probes watch, and how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbePlan {
    /// Whether visibility is probed at all; off only to measure the probe's own cost.
    pub visibility: bool,
    /// How that of physical standbys is.
    #[serde(default = "VisibilityMethod::of_older_runs")]
    pub method: VisibilityMethod,
    /// Time between two looks at a replica on which nothing is outstanding.
    pub tick: Duration,
    pub lag_interval: Duration,
}

impl Plan {
    /// The distinct topologies of the modes, in order of first use. Each becomes one cluster.
    pub fn topologies(&self) -> Vec<&Topology> {
        let mut found = Vec::new();
        for mode in &self.modes {
            if !found.contains(&&mode.topology) {
                found.push(&mode.topology);
            }
        }
        found
    }

    /// Modes of one topology share their servers, and whatever these owe to their place on the disk and in memory is alike for
    /// all of them. Modes of several topologies have different servers: made once, their place would pass for a difference
    /// between the modes, and no number of repetitions could tell.
    pub fn servers_made(&self) -> ServersMade {
        if self.changes_primary() {
            return match self.given {
                Some(ServersMade::Compose) => ServersMade::ComposeEveryCell,
                _ => ServersMade::EveryCell,
            };
        }
        match (self.given, self.topologies().len()) {
            (Some(given), _) => given,
            (None, 0 | 1) => ServersMade::Once,
            (None, _) => ServersMade::EveryBlock,
        }
    }

    /// The cells of one block, in their order.
    pub fn block(&self, block: u32) -> impl Iterator<Item = &Cell> {
        self.cells.iter().filter(move |cell| cell.block == block)
    }

    /// Whether every acknowledged commit is looked for on every node after a cell.
    pub fn is_audited_row_by_row(&self) -> bool {
        !self.faults.is_empty()
    }

    /// Whether replicas are to replicate over a network that can be made worse.
    pub fn has_network_faults(&self) -> bool {
        self.faults.iter().any(|it| it.kind.is_of_the_network())
    }

    /// Whether the primary of a cell is restored to a point in time after it.
    pub fn is_restored(&self) -> bool {
        self.faults.iter().any(|it| it.kind == FaultKind::Pitr)
    }

    /// Whether each cell ends with another primary.
    pub fn changes_primary(&self) -> bool {
        self.faults.iter().any(|it| it.kind.changes_primary())
    }

    /// Names what was asked of every server alike: tables, transactions, load, phases and faults, in hexadecimal.
    /// Runs with different hashes are not comparable. Seed, repetitions and modes do not enter.
    pub fn workload_hash(&self) -> String {
        // The order of fields is that of the types; reordering them changes every hash.
        let workload = (
            "replbench workload 1",
            &self.tables,
            &self.transactions,
            &self.load,
            &self.phases,
        );
        let mut digest = Sha256::new_with_prefix(to_json(&workload));
        // Without faults the hash is what it was before there were any.
        if !self.faults.is_empty() {
            digest.update(to_json(&self.faults));
        }
        hex::encode(digest.finalize())
    }
}

fn to_json(part: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(part).expect("plain data without maps becomes JSON")
}
