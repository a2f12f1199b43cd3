//! `replbench run what-replicates`: a table of which changes arrive on a standby and on a subscriber.

use std::fmt::Write as _;

use super::{Exit, Stop, print};
use crate::run::{Seen, Side};

/// The name that `run` accepts in place of a profile.
pub(super) const NAME: &str = "what-replicates";

/// Prints the table; the exit code is 1 if anything differs from PostgreSQL's documentation.
pub(super) fn show(version: &str, seen: &[Seen]) -> Result<Exit, Stop> {
    print(&table(version, seen))?;
    let as_documented =
        |it: &Seen| it.standby.is_as_documented() && it.subscriber.is_as_documented();
    Ok(if seen.iter().all(as_documented) {
        Exit::Fine
    } else {
        Exit::Regression
    })
}

fn table(version: &str, seen: &[Seen]) -> String {
    let mut out =
        format!("PostgreSQL {version}: what is made on the primary, and where it arrives\n\n");
    // Writing to a string does not fail.
    let _ = writeln!(out, "{:<39} {:<17} subscriber", "", "standby");
    let word = |side: Side| {
        let found = if side.arrived { "yes" } else { "no" };
        if side.is_as_documented() {
            found.to_owned()
        } else {
            format!("{found}, NOT AS DOCUMENTED")
        }
    };
    for it in seen {
        let (standby, subscriber) = (word(it.standby), word(it.subscriber));
        let _ = writeln!(out, "{:<39} {standby:<17} {subscriber}", it.name);
    }
    out
}
