//! What a run will do, fully resolved: every cell, its order, seed, phases, load and probes. Printable before anything runs.
//! Pure; knows neither servers nor files.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::topology::{Mode, Topology};
use crate::units::Rate;

/// A profile resolved against the overrides of the command line.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plan {
    pub profile: String,
    pub description: String,
    /// The one seed: arrivals, row contents and the order of cells derive from it.
    pub seed: u64,
    pub tables: Vec<Table>,
    pub transactions: Vec<Transaction>,
    pub load: LoadPlan,
    pub phases: Phases,
    pub probes: ProbePlan,
    /// In the order of the profile; the first is the baseline of comparisons.
    pub modes: Vec<Mode>,
    pub repeats: u32,
    /// In the order in which they run.
    pub cells: Vec<Cell>,
    /// Server settings beyond replbench's own, applied to every node.
    pub settings: BTreeMap<String, String>,
}

/// One repetition of one mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Cell {
    /// Counts from 1 in the order of running.
    pub id: u32,
    /// An index into [`Plan::modes`].
    pub mode: usize,
    /// Counts from 1.
    pub rep: u32,
    /// Cells of one block are neighbours in time and share arrivals: they may be compared in pairs. Equals `rep`.
    pub block: u32,
    /// Seed of the cell's arrivals and rows; the same for all modes of a block.
    pub seed: u64,
}

/// A table of the workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Table {
    pub kind: TableKind,
    /// Unquoted; `"Product"` and `users` by default.
    pub name: String,
    /// Rows before the first transaction of a cell.
    pub rows: u64,
    /// Width to which the text columns of a row are filled, in bytes.
    pub row_bytes: u32,
}

/// The shape of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TableKind {
    /// `"Id", "Name", "Price", "Stock", "CreatedAt"`, as Entity Framework makes it.
    Product,
    /// `id, name, email, created_at`.
    Users,
    /// `id, product_id, quantity, created_at`.
    Orders,
}

/// One weighted transaction of the mix.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Transaction {
    pub kind: TransactionKind,
    /// Share of arrivals, relative to the sum of all weights.
    pub weight: u32,
    /// How existing rows are chosen; of no effect on pure inserts.
    pub keys: KeyChoice,
}

/// What a transaction does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TransactionKind {
    /// INSERT of one product.
    ProductInsert,
    /// INSERT of one user.
    UsersInsert,
    /// UPDATE of one product: its stock falls by 5.
    StockUpdate,
    /// UPDATE of a product's stock and INSERT of an order, between BEGIN and COMMIT.
    Order,
}

impl TransactionKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ProductInsert => "product-insert",
            Self::UsersInsert => "users-insert",
            Self::StockUpdate => "stock-update",
            Self::Order => "order",
        }
    }

    /// The table that receives this transaction's new row, by which a subscriber shows the commit.
    pub fn inserts_into(self) -> Option<TableKind> {
        match self {
            Self::ProductInsert => Some(TableKind::Product),
            Self::UsersInsert => Some(TableKind::Users),
            Self::StockUpdate => None,
            Self::Order => Some(TableKind::Orders),
        }
    }

    /// The tables this transaction touches.
    pub fn tables(self) -> &'static [TableKind] {
        match self {
            Self::ProductInsert | Self::StockUpdate => &[TableKind::Product],
            Self::UsersInsert => &[TableKind::Users],
            Self::Order => &[TableKind::Product, TableKind::Orders],
        }
    }
}

/// How a transaction chooses among the rows that were there before.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyChoice {
    Uniform,
    /// Zipf's law with this exponent, above 0.
    Zipf(f64),
}

/// What load is offered, and through what.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
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
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Offered {
    /// Arrivals follow a schedule, whatever the server does.
    Open { rate: Rate, arrivals: Arrivals },
    /// Every connection sends its next transaction when the last one is answered (`--rate max`).
    Closed,
}

/// The gaps between arrivals of an open loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Arrivals {
    /// Exponential gaps: independent users.
    Poisson,
    /// Equal gaps.
    Uniform,
}

/// The phases of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Phases {
    pub warmup: Duration,
    pub measure: Length,
    /// How long the cell waits for the last answers, and for replicas to show every commit.
    pub drain: Duration,
}

/// How long a measurement phase lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Length {
    For(Duration),
    /// Exactly so many arrivals.
    Count(u64),
}

/// What the probes watch, and how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ProbePlan {
    /// Whether visibility is probed at all; off only to measure the probe's own cost.
    pub visibility: bool,
    /// Time between two looks at a replica on which nothing is outstanding.
    pub tick: Duration,
    pub lag_interval: Duration,
}

impl Plan {
    /// The distinct topologies of the modes, in order of first use. Each becomes one cluster.
    pub fn topologies(&self) -> Vec<Topology> {
        let mut found = Vec::new();
        for mode in &self.modes {
            if !found.contains(&mode.topology) {
                found.push(mode.topology);
            }
        }
        found
    }

    /// The position of the table of this kind, if the plan has one.
    pub fn table_of(&self, kind: TableKind) -> Option<usize> {
        self.tables.iter().position(|table| table.kind == kind)
    }
}
