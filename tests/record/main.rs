//! The run directory: what is written into it, and what its readers make of one that is not what it was.
#![allow(
    clippy::unwrap_used,
    reason = "a test ends at the first thing that fails"
)]

mod written;
