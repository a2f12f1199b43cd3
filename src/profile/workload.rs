//! The types of a workload: its tables, transactions, arrivals and phases. A plan uses the same types.
//! Plain data; knows neither how a profile writes it nor in which order cells run.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::sql;
pub use super::sql::Change;
use crate::escape::quote_ident;
use crate::units::{Rate, UnitError};

/// A table of the workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// The id by which SQL (`{id}`) and generators (`of`) refer to the table: the `kind` of the library table that it comes from, or its
    /// name.
    pub id: String,
    /// The table's name without quotes: 1 to 63 bytes without NUL.
    pub name: String,
    /// The table's schema without quotes.
    #[serde(
        default = "Table::usual_schema",
        skip_serializing_if = "Table::is_usual_schema"
    )]
    pub schema: String,
    /// The statements that create the table.
    pub ddl: String,
    /// The statement that inserts the rows before each cell; `:rows` and `:row_bytes` stand for the fields of these names.
    pub fill: String,
    /// The number of rows before the first transaction of a cell.
    pub rows: u64,
    /// The width to which the text of a row is filled, in bytes.
    pub row_bytes: u32,
    /// The name of the column by which a row is found.
    pub key: String,
    /// The name of a column that every update raises, so that a subscriber can show that an update was applied. `None` if there is none.
    pub version: Option<String>,
    /// Whether rows are counted after a cell. False for a table in which triggers or cascades change the number of rows.
    pub audit: bool,
    /// The place of `ddl` in the profile or library.
    #[serde(skip)]
    pub origin: Origin,
    #[serde(skip)]
    pub fill_origin: Origin,
}

impl Table {
    /// The most rows that one table may have; populating more would take days.
    pub const MOST_ROWS: u64 = 10_000_000_000;

    pub(super) fn usual_schema() -> String {
        "public".into()
    }

    #[allow(clippy::ptr_arg, reason = "serde asks for it")]
    fn is_usual_schema(schema: &String) -> bool {
        schema == "public"
    }

    /// The table's name with its schema, quoted for SQL.
    pub fn qualified(&self) -> String {
        let name = quote_ident(&self.name);
        if Self::is_usual_schema(&self.schema) {
            return format!("public.{name}");
        }
        format!("{}.{name}", quote_ident(&self.schema))
    }

    /// The statement that inserts the rows, with its numbers filled in; `None` if the table has no rows.
    pub fn fill_statement(&self) -> Option<String> {
        let numbers = [("rows", self.rows), ("row_bytes", self.row_bytes.into())];
        (self.rows > 0).then(|| sql::fill_in(&self.fill, &numbers, |_| None))
    }
}

/// A place in a profile, for messages about mistakes that only a server can find. Places are not part of a workload: two workloads that
/// differ only in places are equal.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    pub file: String,
    /// The line, counted from 1.
    pub line: usize,
}

impl Origin {
    /// The place inside the text that begins here, `characters` characters after its start.
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
    /// The transaction's share of arrivals, relative to the sum of all weights; above 0.
    pub weight: u32,
    pub parameters: Vec<Parameter>,
    /// The statements, at least one. Several statements run between BEGIN and COMMIT; each is sent after the previous one was answered,
    /// as an application does. The last one changes a row of `table`.
    pub statements: Vec<Statement>,
    /// The table whose row shows that the transaction committed, as an index into the profile's tables.
    pub table: usize,
}

impl Transaction {
    /// What the last statement does to the row that shows the commit.
    pub fn change(&self) -> Change {
        let last = self.statements.last().expect("it has a statement");
        last.change.expect("the last statement changes a row").0
    }

    /// For each parameter that chooses a row that was inserted before the first transaction: the table's index and the distribution.
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
    /// The SQL with `$1`, `$2` .. for its parameters and table names in place of `{id}`. The last statement of a transaction has no
    /// RETURNING of its own.
    pub sql: String,
    /// The parameters `$1`, `$2` .. as indices into the transaction's parameters.
    pub parameters: Vec<usize>,
    /// What the statement does to a table of the profile, and the table's index; `None` if it changes no table of the profile.
    pub change: Option<(Change, usize)>,
    #[serde(skip)]
    pub origin: Origin,
}

/// A named value that is generated anew for every transaction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Parameter {
    pub name: String,
    pub generator: Generator,
}

/// Where the values of a parameter come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Generator {
    /// The number, counted from 1, of a row that the table had before the first transaction.
    Row { table: usize, choice: KeyChoice },
    /// An integer from `least` to `most`, both included.
    Integer { least: i64, most: i64 },
    /// A number with two decimals from `least` to `most`, both included and given in hundredths.
    Decimal { least: i64, most: i64 },
    /// Words, up to this number of bytes; `None` if the texts of the row together are filled to the table's `row_bytes`.
    Words(Option<u32>),
    /// A person's name, filled to a width in the same way as [`Generator::Words`].
    Person(Option<u32>),
    /// An email address of about 30 bytes.
    Email,
    /// A random UUID, version 4.
    Uuid,
    /// The same constant for every transaction.
    Value(Constant),
}

/// A constant value that a profile gives for a parameter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Constant {
    Boolean(bool),
    Integer(i64),
    Float(f64),
    Text(String),
}

/// How a transaction chooses among the rows that a table had before the first transaction.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyChoice {
    Uniform,
    /// Zipf's law with this exponent, which is above 0.
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
    /// Exponentially distributed gaps, as from independent users.
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
    /// One event loop per thread that speaks the protocol itself, to add as little time as possible between an arrival and the server.
    Wire,
    /// tokio-postgres with a deadpool connection pool, as in many applications.
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

    /// The client of runs that were recorded before the client could be chosen.
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

/// The scheduling priority of the load's threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// The default priority of a process.
    Normal,
    /// A nice value of -10 if that is permitted.
    Raised,
    /// `SCHED_FIFO` at its lowest priority if that is permitted; otherwise as [`Priority::Raised`].
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

    /// The priority of runs that were recorded before the priority could be chosen.
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

/// How replbench learns when a commit is visible on a physical standby.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VisibilityMethod {
    /// The probe queries the standby repeatedly.
    Looks,
    /// The standby reports it to the probe.
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

    /// The method of runs that were recorded before the method could be chosen.
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
    /// The shortest measurement phase.
    pub const SHORTEST: Duration = Duration::from_millis(1);
}

/// How long a measurement phase lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Length {
    For(Duration),
    /// Until exactly this number of arrivals.
    Count(u64),
}

impl Length {
    /// The most arrivals of a measurement phase with a fixed count.
    pub const MOST: u64 = 1_000_000_000;

    /// How long the measurement phase lasts; `None` if it has a fixed number of arrivals.
    pub fn duration(self) -> Option<Duration> {
        match self {
            Self::For(duration) => Some(duration),
            Self::Count(_) => None,
        }
    }
}
