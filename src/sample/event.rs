//! The rows of `events.csv`, and the kinds of events that there are.

use serde::{Deserialize, Serialize};

/// A row of `events.csv`: something that happened at a time, or a count of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EventRow {
    /// Empty outside a cell.
    pub cell_id: Option<u32>,
    /// From the start of the cell's measurement phase; outside a cell, from the start of the run.
    pub t_us: i64,
    pub node: Option<String>,
    pub kind: EventKind,
    pub sqlstate: Option<String>,
    pub count: Option<u64>,
    pub detail: String,
}

impl EventRow {
    /// The row of an event of no node, with nothing counted.
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
    /// A cluster was made.
    Provisioned,
    /// Transactions that the server refused within a second, with its SQLSTATE.
    Error,
    /// Transactions that were sent and never answered.
    Indeterminate,
    /// Transactions for which no connection could be had.
    NoConnection,
    /// A probe lost its server.
    Reconnect,
    /// Looks at a standby that saw less than an earlier one.
    Backwards,
    /// A server ended.
    Exit,
    /// replbench itself stood still.
    Stall,
    /// A fault is about to befall a node; `detail` is as the plan has it.
    FaultBegan,
    /// A node has become the primary.
    Promoted,
    /// A standby has ended a long query, because replay had waited for it long enough.
    QueryCancelled,
    /// A fault has been undone.
    FaultEnded,
    /// Rows of a table (in `detail`) on a node, counted after the cell.
    Rows,
    /// They are not as many as were acknowledged.
    RowsWrong,
    /// One that this version does not know, from a record of another.
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
