//! PostgreSQL's protocol, version 3.0, over a socket that never blocks: for a client that runs many connections in one loop.
//!
//! What is sent is written by `postgres-protocol`; what is received is cut into messages here, in memory that is bounded
//! whatever the server sends. What is wrong with it is an error, never a panic.
//! Source: PostgreSQL documentation, "Frontend/Backend Protocol".

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
