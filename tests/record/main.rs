//! The run directory: what is written into it, and what its readers make of one that is not what it was.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a test ends at the first thing that fails, and made-up figures are small"
)]

#[path = "../made_up/mod.rs"]
mod made_up;

mod altered;
mod bounded;
mod written;
