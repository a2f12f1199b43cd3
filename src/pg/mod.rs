//! Connections to PostgreSQL, every catalog query, and what differs between versions.
//! Knows servers and SQL; never who is measured, nor why.

pub mod catalog;
mod connection;
pub mod conninfo;
pub mod provisioning;
mod types;
pub mod wire;

pub use connection::{
    ConnectError, Endpoint, Failure, Password, Session, Warnings, connect, describe, quote_literal,
};
pub use types::{Uuid, Xid8};
