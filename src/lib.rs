//! replbench: load generator and replication-lag benchmark for PostgreSQL.
//!
//! ARCHITECTURE.md lists the layers, lowest first; `tests/layers.rs` checks that modules use only lower layers.

pub mod analyse;
pub mod cli;
pub mod clock;
pub mod cluster;
pub mod escape;
pub mod histogram;
pub mod load;
pub mod metric;
pub mod mode;
pub mod pg;
pub mod plan;
pub mod poll;
pub mod probe;
pub mod profile;
pub mod publish;
pub mod record;
pub mod report;
pub mod run;
pub mod sample;
pub mod server_settings;
pub mod topology;
pub mod units;
