//! PostgreSQL's protocol, version 3.0, over a socket that never blocks, for a client that runs many connections in one loop.
//!
//! `postgres-protocol` writes the messages to the server. Messages from the server are split here, in memory that is bounded whatever the
//! server sends. An invalid message is an error, never a panic. Source: PostgreSQL documentation, "Frontend/Backend Protocol".

mod answer;
mod input;
mod session;
mod socket;
mod start_up;

pub use answer::{Answer, Keeps, Ready};
pub use input::{Broken, Input, Message};
pub use session::{Event, Opening, Session};
pub use socket::{Address, Socket, resolve};
pub use start_up::{CancelKey, StartUp};
