//! The run directory: the waist of replbench. Everything measured ends here as files while the run goes, and everything
//! after it is a function of those files.

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
    /// Only in runs with faults, as the next.
    pub const FAULTS: &str = "faults.csv";
    pub const AUDIT: &str = "audit.csv";
    pub const SUMMARY: &str = "summary.csv";
    pub const HISTOGRAMS: &str = "hist";
    pub const REPORT: &str = "report.html";
    pub const CHARTS: &str = "charts";
    /// In the head of a session: the comparison with its base.
    pub const COMPARISON: &str = "comparison";

    /// The interval log of a cell, inside [`HISTOGRAMS`].
    pub fn histogram(cell_id: u32) -> String {
        format!("cell-{cell_id:03}.hlog")
    }
}

/// Tags of the interval logs `hist/cell-NNN.hlog` (nanoseconds; measurement phase only, warm-up left out).
pub mod tags {
    /// Intended start, or room under `max_in_flight`, to asking the pool: how late the generator itself was.
    pub const DISPATCH_LAG: &str = "dispatch_lag";
    /// Intended start to send.
    pub const START_LAG: &str = "start_lag";
    /// Asking the pool to having a connection.
    pub const POOL_WAIT: &str = "pool_wait";
    /// Send to reply.
    pub const SERVICE: &str = "service";
    /// Intended start to reply.
    pub const RESPONSE: &str = "response";

    /// One side of an interval of visibility on a node, counted from the acknowledgement or from the send. Delays below zero
    /// go, by magnitude, to the tag with `.neg` at its end.
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

    /// From when a visibility delay counts.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub enum Origin {
        Ack,
        Send,
    }

    /// Which end of the interval.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub enum Bound {
        /// Start of the last poll that missed the commit.
        Lo,
        /// End of the first poll that saw it.
        Hi,
    }
}
