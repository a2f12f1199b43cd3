//! The words of a workload: its tables, transactions, arrivals and phases. A plan uses the same ones.
//! Plain data; knows neither how it was written nor what order it runs in.

use std::time::Duration;

use serde::Serialize;

use crate::units::{Rate, UnitError};

/// A table of the workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Table {
    pub kind: TableKind,
    /// Unquoted; `Product`, `users` and `orders` by default. 1 to 63 bytes without NUL.
    pub name: String,
    /// Rows before the first transaction of a cell.
    pub rows: u64,
    /// Width to which the text columns of a row are filled, in bytes.
    pub row_bytes: u32,
}

impl Table {
    /// The most rows of one table: beyond it populating alone takes days.
    pub const MOST_ROWS: u64 = 10_000_000_000;
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

impl TableKind {
    pub const ALL: [Self; 3] = [Self::Product, Self::Users, Self::Orders];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Product => "product",
            Self::Users => "users",
            Self::Orders => "orders",
        }
    }

    /// The name of the table when the profile gives none.
    pub fn default_name(self) -> &'static str {
        match self {
            Self::Product => "Product",
            Self::Users => "users",
            Self::Orders => "orders",
        }
    }
}

/// One weighted transaction of the mix.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Transaction {
    pub kind: TransactionKind,
    /// Share of arrivals, relative to the sum of all weights; above 0.
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
    pub const ALL: [Self; 4] = [
        Self::ProductInsert,
        Self::UsersInsert,
        Self::StockUpdate,
        Self::Order,
    ];

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

    /// The table whose existing rows this transaction changes.
    pub fn updates(self) -> Option<TableKind> {
        match self {
            Self::ProductInsert | Self::UsersInsert => None,
            Self::StockUpdate | Self::Order => Some(TableKind::Product),
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

/// How fast transactions are offered.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// Open loop: arrivals at this rate, whatever the server does.
    At(Rate),
    /// Closed loop: as fast as the server answers.
    Max,
}

impl Pace {
    pub const EXPECTED: &'static str =
        "a number of transactions a second, above 0 and at most 10,000,000, or \"max\"";
}

impl std::str::FromStr for Pace {
    type Err = UnitError;

    /// Reads what follows `--rate`: a number or `max`.
    fn from_str(text: &str) -> Result<Self, UnitError> {
        if text == "max" {
            return Ok(Self::Max);
        }
        let rate = text.parse().ok().map(Rate::per_second);
        match rate {
            Some(Ok(rate)) => Ok(Self::At(rate)),
            _ => Err(UnitError::new(text, Self::EXPECTED)),
        }
    }
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

impl Arrivals {
    pub const ALL: [Self; 2] = [Self::Poisson, Self::Uniform];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Poisson => "poisson",
            Self::Uniform => "uniform",
        }
    }
}

impl std::str::FromStr for Arrivals {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let found = Self::ALL.into_iter().find(|it| it.as_str() == text);
        found.ok_or_else(|| UnitError::new(text, "`poisson` or `uniform`"))
    }
}

/// The phases of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Phases {
    pub warmup: Duration,
    pub measure: Length,
    /// How long the cell waits for the last answers, and for replicas to show every commit.
    pub drain: Duration,
}

impl Phases {
    /// The shortest measurement.
    pub const SHORTEST: Duration = Duration::from_millis(1);
}

/// How long a measurement phase lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Length {
    For(Duration),
    /// Exactly so many arrivals.
    Count(u64),
}

impl Length {
    /// The most arrivals of a fixed-count measurement.
    pub const MOST: u64 = 1_000_000_000;
}
