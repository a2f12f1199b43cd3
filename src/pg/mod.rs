//! Connections to PostgreSQL, every catalog query, and the differences between versions. Knows servers and SQL; never which server is
//! measured, nor why.

pub mod attach;
pub mod catalog;
mod connection;
pub mod conninfo;
pub mod failover;
pub mod fault;
pub mod health;
mod locate;
pub mod provisioning;
pub mod recovery;
pub mod tls;
mod types;
pub mod wire;

pub use connection::{
    ConnectError, Endpoint, Failure, Password, Session, TAKES_NO_WRITES, Warnings, connect,
    describe, quote_literal,
};
pub use locate::{LocateError, locate};
pub use types::{Uuid, Xid8};
