//! The run directory. Everything measured is written to its files while the run goes, and everything after the run is computed from these
//! files.

mod checksums;
mod hlog;
mod library;
mod manifest;
mod packed;
mod read;
mod recorded_plan;
mod rows;
mod run_summary;
mod write;

pub use checksums::{Altered, OnMismatch, is_drawn, verify};
pub use library::{is_run, run_directories, runs_named};
pub use manifest::{
    Fdatasync, Harness, Host, Manifest, NodeInfo, RunStatus, SCHEMA_VERSION, Session, Subject,
};
pub use read::{CellHistograms, ReadError, ResponseSecond, Run};
pub use recorded_plan::{RecordedMode, RecordedPlan};
pub(crate) use rows::read_file;
pub use run_summary::RunSummary;

pub use write::{Recorder, WriteError, renew_checksums, seal, write_manifest};

/// Names of the files in a run directory.
pub mod files {
    pub const MANIFEST: &str = "manifest.json";
    pub const CELLS: &str = "cells.csv";
    pub const INTERVALS: &str = "intervals.csv";
    pub const LAG: &str = "lag.csv";
    pub const VISIBILITY: &str = "visibility.csv";
    pub const EVENTS: &str = "events.csv";
    /// This file and `audit.csv` exist only in runs with faults.
    pub const FAULTS: &str = "faults.csv";
    pub const AUDIT: &str = "audit.csv";
    pub const SUMMARY: &str = "summary.csv";
    pub const HISTOGRAMS: &str = "hist";
    pub const REPORT: &str = "report.html";
    pub const CHARTS: &str = "charts";
    /// Folder in the run directory of a session's head: the comparison with its base.
    pub const COMPARISON: &str = "comparison";

    /// The interval log of a cell, inside [`HISTOGRAMS`].
    pub fn histogram(cell_id: u32) -> String {
        format!("cell-{cell_id:03}.hlog")
    }
}

/// Tags of the interval logs `hist/cell-NNN.hlog` (in nanoseconds; measurement phase only, without the warm-up).
pub mod tags {
    /// How late the generator itself was: from the intended start, or from when `max_in_flight` left room if that was later, until the pool
    /// was asked for a connection.
    pub const DISPATCH_LAG: &str = "dispatch_lag";
    /// From the intended start to the send.
    pub const START_LAG: &str = "start_lag";
    /// From asking the pool until there is a connection.
    pub const POOL_WAIT: &str = "pool_wait";
    /// From the send to the reply.
    pub const SERVICE: &str = "service";
    /// From the intended start to the reply.
    pub const RESPONSE: &str = "response";

    /// The tag of one bound of the visibility delays on a node, counted from the acknowledgement or from the send. Delays below zero are
    /// recorded by magnitude under the tag with `.neg` at its end.
    pub fn visibility(node: &str, origin: Origin, bound: Bound, negative: bool) -> String {
        let origin = match origin {
            Origin::Ack => "ack",
            Origin::Send => "send",
        };
        let bound = match bound {
            Bound::Lo => "lo",
            Bound::Hi => "hi",
        };
        let sign = if negative { ".neg" } else { "" };
        format!("visibility.{node}.{origin}.{bound}{sign}")
    }

    /// The event from which a visibility delay counts.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub enum Origin {
        Ack,
        Send,
    }

    /// One of the two bounds of a visibility delay.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub enum Bound {
        /// Start of the last look that missed the commit.
        Lo,
        /// End of the first look that saw the commit.
        Hi,
    }
}
