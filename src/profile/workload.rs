//! The words of a workload: its tables, transactions, arrivals and phases. A plan uses the same ones.
//! Plain data; knows neither how it was written nor what order it runs in.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::sql;
pub use super::sql::Change;
use crate::escape::quote_ident;
use crate::units::{Rate, UnitError};

/// A table of the workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// What stands for it in SQL, as `{id}`, and in `of`: the built-in it comes from, or its name.
    pub id: String,
    /// Unquoted, 1 to 63 bytes without NUL.
    pub name: String,
    /// Unquoted.
    #[serde(
        default = "Table::usual_schema",
        skip_serializing_if = "Table::is_usual_schema"
    )]
    pub schema: String,
    /// Statements that make it.
    pub ddl: String,
    /// The statement that makes the rows before each cell; `:rows` and `:row_bytes` stand for the numbers below.
    pub fill: String,
    /// Rows before the first transaction of a cell.
    pub rows: u64,
    /// Width to which the text of a row is filled, in bytes.
    pub row_bytes: u32,
    /// The column by which a row is found.
    pub key: String,
    /// The column that every update raises: by it a subscriber shows an update.
    pub version: Option<String>,
    /// Whether rows are counted after a cell. Not where triggers or cascades change their number.
    pub audit: bool,
    /// Where its DDL stands.
    #[serde(skip)]
    pub origin: Origin,
    #[serde(skip)]
    pub fill_origin: Origin,
}

impl Table {
    /// The most rows of one table: beyond it populating alone takes days.
    pub const MOST_ROWS: u64 = 10_000_000_000;

    pub(super) fn usual_schema() -> String {
        "public".into()
    }

    #[allow(clippy::ptr_arg, reason = "serde asks for it")]
    fn is_usual_schema(schema: &String) -> bool {
        schema == "public"
    }

    /// The name with its schema, quoted.
    pub fn qualified(&self) -> String {
        let name = quote_ident(&self.name);
        if Self::is_usual_schema(&self.schema) {
            return format!("public.{name}");
        }
        format!("{}.{name}", quote_ident(&self.schema))
    }

    /// The statement that makes the rows; `None` where there are none.
    pub fn fill_statement(&self) -> Option<String> {
        let numbers = [("rows", self.rows), ("row_bytes", self.row_bytes.into())];
        (self.rows > 0).then(|| sql::fill_in(&self.fill, &numbers, |_| None))
    }
}

/// The place in a profile where something stands, for messages about what only a server can tell. Places are no part of a
/// workload: two workloads that differ in nothing else are equal.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    pub file: String,
    /// Counts from 1.
    pub line: usize,
}

impl Origin {
    /// The line of a place inside the text that begins here, by its characters before that.
    #[must_use]
    pub fn at(&self, text: &str, characters: usize) -> Self {
        let before = text.chars().take(characters);
        Self {
            file: self.file.clone(),
            line: self.line + before.filter(|it| *it == '\n').count(),
        }
    }
}

impl PartialEq for Origin {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Origin {}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// One weighted transaction of the mix.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Transaction {
    pub name: String,
    /// Share of arrivals, relative to the sum of all weights; above 0.
    pub weight: u32,
    pub parameters: Vec<Parameter>,
    /// At least one. More than one stand between BEGIN and COMMIT, each sent when the one before was answered, as an
    /// application does. The last changes a row of `table`.
    pub statements: Vec<Statement>,
    /// The table whose row shows that the transaction committed, as an index into the profile's tables.
    pub table: usize,
}

impl Transaction {
    /// What the last statement does to its row.
    pub fn change(&self) -> Change {
        let last = self.statements.last().expect("it has a statement");
        last.change.expect("the last statement changes a row").0
    }

    /// Parameters that choose among the rows that a table had before the first transaction.
    pub fn rows_chosen(&self) -> impl Iterator<Item = (usize, KeyChoice)> {
        self.parameters
            .iter()
            .filter_map(|parameter| match parameter.generator {
                Generator::Row { table, choice } => Some((table, choice)),
                _ => None,
            })
    }
}

/// A statement of a transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    /// With `$1`, `$2` .. for its parameters and names in place of `{id}`; without a RETURNING of its own.
    pub sql: String,
    /// What `$1`, `$2` .. are, as indices into the transaction's parameters.
    pub parameters: Vec<usize>,
    /// What it does to a table of the profile, as an index into its tables.
    pub change: Option<(Change, usize)>,
    #[serde(skip)]
    pub origin: Origin,
}

/// A named value that every transaction gets anew.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Parameter {
    pub name: String,
    pub generator: Generator,
}

/// Where the values of a parameter come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Generator {
    /// The number of a row that a table had before the first transaction, from 1.
    Row { table: usize, choice: KeyChoice },
    /// An integer between these, both included.
    Integer { least: i64, most: i64 },
    /// A number with two decimals between these, in hundredths, both included.
    Decimal { least: i64, most: i64 },
    /// Words, filled to so many bytes; `None`: until the texts of the row together have the table's `row_bytes`.
    Words(Option<u32>),
    /// A person's name, filled in the same way.
    Person(Option<u32>),
    /// An address of electronic mail, some 30 bytes.
    Email,
    /// A random UUID, version 4.
    Uuid,
    /// Always the same.
    Value(Constant),
}

/// A value that a profile gives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Constant {
    Boolean(bool),
    Integer(i64),
    Float(f64),
    Text(String),
}

/// How a transaction chooses among the rows that were there before.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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

/// What sends the transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Client {
    /// One loop a thread that speaks the protocol itself: as little as can be between an arrival and the server.
    Wire,
    /// tokio-postgres behind a deadpool, as many applications have it.
    Pool,
}

impl Client {
    pub const ALL: [Self; 2] = [Self::Wire, Self::Pool];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Wire => "wire",
            Self::Pool => "pool",
        }
    }

    /// The one of runs that were recorded before there was a choice.
    pub fn of_older_runs() -> Self {
        Self::Pool
    }
}

impl std::fmt::Display for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::str::FromStr for Client {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let found = Self::ALL.into_iter().find(|it| it.as_str() == text);
        found.ok_or_else(|| UnitError::new(text, "`wire` or `pool`"))
    }
}

/// How much sooner than others the kernel lets the load's threads go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// As every process.
    Normal,
    /// nice -10, where that is permitted.
    Raised,
    /// `SCHED_FIFO` at its lowest priority, where that is permitted; else raised.
    Realtime,
}

impl Priority {
    pub const ALL: [Self; 3] = [Self::Normal, Self::Raised, Self::Realtime];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Raised => "raised",
            Self::Realtime => "realtime",
        }
    }

    /// The one of runs that were recorded before there was a choice.
    pub fn of_older_runs() -> Self {
        Self::Normal
    }
}

impl std::str::FromStr for Priority {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let found = Self::ALL.into_iter().find(|it| it.as_str() == text);
        found.ok_or_else(|| UnitError::new(text, "`normal`, `raised` or `realtime`"))
    }
}

impl std::fmt::Display for Priority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// How it is known when a commit is visible on a physical standby.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VisibilityMethod {
    /// The client asks.
    Looks,
    /// The standby tells.
    Push,
}

impl VisibilityMethod {
    pub const ALL: [Self; 2] = [Self::Looks, Self::Push];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Looks => "looks",
            Self::Push => "push",
        }
    }

    /// The one of runs that were recorded before there was a choice.
    pub fn of_older_runs() -> Self {
        Self::Looks
    }
}

impl std::str::FromStr for VisibilityMethod {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let found = Self::ALL.into_iter().find(|it| it.as_str() == text);
        found.ok_or_else(|| UnitError::new(text, "`looks` or `push`"))
    }
}

/// The phases of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Length {
    For(Duration),
    /// Exactly so many arrivals.
    Count(u64),
}

impl Length {
    /// The most arrivals of a fixed-count measurement.
    pub const MOST: u64 = 1_000_000_000;

    /// How long it takes, if that is known beforehand.
    pub fn duration(self) -> Option<Duration> {
        match self {
            Self::For(duration) => Some(duration),
            Self::Count(_) => None,
        }
    }
}
