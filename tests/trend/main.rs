//! Made-up runs become a trend: in the order of commits, with the change where it was put, blessed, exported.
#![allow(
    clippy::unwrap_used,
    reason = "a test ends at the first thing that fails"
)]

mod commands;
mod exports;
mod history;
mod made;
