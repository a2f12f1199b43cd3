//! The rows of `events.csv`, and the kinds of events.

use serde::{Deserialize, Serialize};

/// A row of `events.csv`: an event at a time, or a count of such events.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EventRow {
    /// The cell in which the event happened; empty outside a cell.
    pub cell_id: Option<u32>,
    /// Microseconds from the start of the cell's measurement phase or, outside a cell, from the start of the run.
    pub t_us: i64,
    pub node: Option<String>,
    pub kind: EventKind,
    pub sqlstate: Option<String>,
    pub count: Option<u64>,
    pub detail: String,
}

impl EventRow {
    /// The row of an event that concerns no node and has no count.
    pub fn new(
        cell_id: Option<u32>,
        t_us: i64,
        kind: EventKind,
        detail: impl Into<String>,
    ) -> Self {
        Self {
            cell_id,
            t_us,
            node: None,
            kind,
            sqlstate: None,
            count: None,
            detail: detail.into(),
        }
    }
}

/// What an event is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum EventKind {
    /// A cluster was created.
    Provisioned,
    /// Transactions that the server refused within a second, with the SQLSTATE that it sent.
    Error,
    /// Transactions that were sent and never answered.
    Indeterminate,
    /// Transactions for which no connection could be opened.
    NoConnection,
    /// A probe lost its server.
    Reconnect,
    /// Looks at a standby that saw less than an earlier look.
    Backwards,
    /// A server process ended.
    Exit,
    /// replbench itself was not running for a while.
    Stall,
    /// A fault is about to begin on a node; `detail` is the fault as the plan writes it.
    FaultBegan,
    /// A node has become the primary.
    Promoted,
    /// A standby has cancelled a long query, because replay had waited for it long enough.
    QueryCancelled,
    /// A fault has been undone.
    FaultEnded,
    /// The number of rows of a table (named in `detail`) on a node, counted after the cell.
    Rows,
    /// A number of rows that does not agree with the acknowledged transactions.
    RowsWrong,
    /// A kind that this version does not know, from a run that another version recorded.
    Other(String),
}

impl EventKind {
    const KNOWN: [Self; 14] = [
        Self::Provisioned,
        Self::Error,
        Self::Indeterminate,
        Self::NoConnection,
        Self::Reconnect,
        Self::Backwards,
        Self::Exit,
        Self::Stall,
        Self::FaultBegan,
        Self::Promoted,
        Self::QueryCancelled,
        Self::FaultEnded,
        Self::Rows,
        Self::RowsWrong,
    ];

    pub fn as_str(&self) -> &str {
        match self {
            Self::Provisioned => "provisioned",
            Self::Error => "error",
            Self::Indeterminate => "indeterminate",
            Self::NoConnection => "no_connection",
            Self::Reconnect => "reconnect",
            Self::Backwards => "backwards",
            Self::Exit => "exit",
            Self::Stall => "stall",
            Self::FaultBegan => "fault_began",
            Self::Promoted => "promoted",
            Self::QueryCancelled => "query_cancelled",
            Self::FaultEnded => "fault_ended",
            Self::Rows => "rows",
            Self::RowsWrong => "rows_wrong",
            Self::Other(word) => word,
        }
    }
}

impl From<String> for EventKind {
    fn from(word: String) -> Self {
        let known = Self::KNOWN.into_iter().find(|it| it.as_str() == word);
        known.unwrap_or(Self::Other(word))
    }
}

impl From<EventKind> for String {
    fn from(kind: EventKind) -> Self {
        match kind {
            EventKind::Other(word) => word,
            known => known.as_str().to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_read_as_it_is_written() {
        let other = EventKind::Other("of a later version".into());
        for kind in EventKind::KNOWN.into_iter().chain([other]) {
            assert_eq!(EventKind::from(String::from(kind.clone())), kind);
        }
    }
}
