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

/// A profile with the overrides of the command line applied.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    pub profile: String,
    pub description: String,
    /// The seed from which arrivals, row contents and the order of cells are derived. Drawn for the run unless it was given.
    pub seed: u64,
    pub tables: Vec<Table>,
    pub transactions: Vec<Transaction>,
    pub load: LoadPlan,
    /// The client that sends the transactions. Every client sends the same arrivals, so the client is not part of the workload hash.
    #[serde(default = "Client::of_older_runs")]
    pub client: Client,
    /// The requested priority of the load's threads, which the system may refuse. Every priority sends the same arrivals, so the priority
    /// is not part of the workload hash.
    #[serde(default = "Priority::of_older_runs")]
    pub priority: Priority,
    pub phases: Phases,
    pub probes: ProbePlan,
    pub expect: Expect,
    /// The modes in the order of the profile; the first is the baseline of comparisons.
    pub modes: Vec<Mode>,
    pub repeats: u32,
    /// Whether the run is a first look (`--quick`), too short for a verdict.
    pub quick: bool,
    /// The cells in the order in which they run.
    pub cells: Vec<Cell>,
    /// The `wal_level` of every cluster of the run: the highest level that any mode needs.
    pub wal_level: WalLevel,
    /// Settings of every node, in addition to those that replbench sets itself.
    pub settings: BTreeMap<String, String>,
    /// Limits on figures of the run. Gates judge a run; they do not change what is measured.
    pub gates: Vec<Gate>,
    /// The faults of every cell, in the order of the profile.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<Fault>,
    /// How often the servers are made if they are given; `None` if that follows from the modes.
    #[serde(skip)]
    pub given: Option<ServersMade>,
    /// Sentences about modes of the profile that are impossible on the servers, each with the reason.
    #[serde(skip)]
    pub left_out: Vec<String>,
}

/// How often the servers of a run are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServersMade {
    Once,
    EveryBlock,
    /// The servers exist already and replbench does not make them.
    Never,
    /// Once, by docker compose.
    Compose,
    /// By docker compose, anew for every cell, because each cell ends with another primary.
    ComposeEveryCell,
    /// Anew for every cell, because each cell ends with another primary.
    EveryCell,
}

/// One repetition of one mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    /// The cell's number, counted from 1 in the order of running.
    pub id: u32,
    /// An index into [`Plan::modes`].
    pub mode: usize,
    /// The repetition, counted from 1; 0 for a discarded cell.
    pub rep: u32,
    /// The block, which equals `rep`. Cells of one block are neighbours in time and have the same arrivals, so they may be compared in
    /// pairs.
    pub block: u32,
    /// Seed of the cell's arrivals and rows; the same for all modes of a block.
    pub seed: u64,
}

impl Cell {
    /// Whether the cell is left out of all figures: see [`Plan::discarded`].
    pub fn is_discarded(&self) -> bool {
        self.rep == 0
    }
}

/// The load that is offered, and the connections and threads that send it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LoadPlan {
    pub offered: Offered,
    /// The number of connections of all threads together.
    pub connections: u16,
    /// The number of load threads, each with its own runtime and its own share of the connections; at most `connections`.
    pub threads: u16,
    /// The most arrivals that may be handed to connections and not yet answered. Further arrivals wait in the backlog, which is counted.
    pub max_in_flight: u32,
    /// How long a transaction may take; after that it counts as indeterminate and its connection is discarded.
    pub transaction_deadline: Duration,
}

/// Open or closed loop.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Offered {
    /// Arrivals follow a schedule, whatever the server does.
    Open { rate: Rate, arrivals: Arrivals },
    /// Every connection sends its next transaction when its previous transaction is answered (`--rate max`).
    Closed,
}

/// What the probes measure, and how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbePlan {
    /// Whether visibility is probed at all. It is off only to measure the cost of the probe itself.
    pub visibility: bool,
    /// How visibility on physical standbys is probed.
    #[serde(default = "VisibilityMethod::of_older_runs")]
    pub method: VisibilityMethod,
    /// Time between two checks of a replica that has shown every commit so far.
    pub tick: Duration,
    pub lag_interval: Duration,
}

impl Plan {
    /// The distinct topologies of the modes, in order of first use. One cluster is made for each topology.
    pub fn topologies(&self) -> Vec<&Topology> {
        let mut found = Vec::new();
        for mode in &self.modes {
            if !found.contains(&&mode.topology) {
                found.push(&mode.topology);
            }
        }
        found
    }

    /// How often the servers are made. Modes of one topology share their servers, so the servers' placement on disk and in memory affects
    /// all modes alike. Modes of several topologies have different servers: if these were made only once, an effect of their placement
    /// would look like a difference between the modes, however many repetitions there are.
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

    /// Whether the audit after a cell looks for every acknowledged commit on every node.
    pub fn is_audited_row_by_row(&self) -> bool {
        !self.faults.is_empty()
    }

    /// Whether replicas replicate over a network that replbench can delay, throttle or cut.
    pub fn has_network_faults(&self) -> bool {
        self.faults.iter().any(|it| it.kind.is_of_the_network())
    }

    /// Whether the primary is restored to a point in time after each cell.
    pub fn is_restored(&self) -> bool {
        self.faults.iter().any(|it| it.kind == FaultKind::Pitr)
    }

    /// Whether each cell ends with another primary.
    pub fn changes_primary(&self) -> bool {
        self.faults.iter().any(|it| it.kind.changes_primary())
    }

    /// The SHA-256 hash, in hexadecimal, of what was asked of every server alike: tables, transactions, load, phases and faults. Runs
    /// with different hashes are not comparable. Seed, repetitions and modes are not part of the hash.
    pub fn workload_hash(&self) -> String {
        // Fields are hashed in the order in which the types declare them, so reordering the fields of a type changes every hash.
        let workload = (
            "replbench workload 1",
            &self.tables,
            &self.transactions,
            &self.load,
            &self.phases,
        );
        let mut digest = Sha256::new_with_prefix(to_json(&workload));
        // Faults are hashed only if there are any, so that older runs without faults keep their hash.
        if !self.faults.is_empty() {
            digest.update(to_json(&self.faults));
        }
        hex::encode(digest.finalize())
    }
}

fn to_json(part: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(part).expect("plain data without maps becomes JSON")
}
