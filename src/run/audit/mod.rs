//! What the nodes have after a cell. Rows are counted on every node after every cell. After a cell with faults, every acknowledged commit
//! is looked for on every node as well.

mod checks;
mod counts;
mod ledger;
mod read;
mod reads;
pub(super) mod restored;
mod rows;

use std::io;

pub(super) use checks::Known;
use checks::NodeAccount;
pub(super) use counts::{count, expected, findings};
pub(super) use ledger::{Ledger, SortedLedger};
pub(super) use reads::Reads;
use rows::AsOf;

use crate::clock::Stamp;
use crate::cluster::RunningNode;
use crate::mode::Mode;
use crate::plan::Plan;
use crate::sample::AuditRow;

/// What the audit of a cell has found.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) rows: Vec<AuditRow>,
    /// The acknowledgement times of the commits that the primary does not have.
    pub(super) lost: Vec<Stamp>,
}

/// Ends the account of a cell and sorts it. An error is a sentence.
pub(super) async fn sort(ledger: Ledger) -> Result<SortedLedger, String> {
    let sorted = tokio::task::spawn_blocking(move || ledger.sort()).await;
    let sorted = sorted.map_err(io::Error::other).and_then(|sorted| sorted);
    sorted.map_err(|error| format!("the ledger cannot be sorted: {error}"))
}

/// Looks for every commit of the ledger on every node; the first node is the primary. An error is a sentence about the node that could not
/// be read.
pub(super) async fn audit(
    cell_id: u32,
    (plan, mode): (&Plan, &Mode),
    nodes: &[RunningNode],
    ledger: &mut SortedLedger,
    known: &Known<'_>,
) -> Result<Findings, String> {
    let until = known.primary_died.unwrap_or(Stamp::from_nanos(u64::MAX));
    let mut accounts: Vec<NodeAccount> = Vec::new();
    for node in nodes {
        let reading = read::account(plan, node, ledger, AsOf::TheEnd { until });
        accounts.push(read::in_time(&node.node.name, reading).await?);
    }
    let excuse = checks::excuse(mode, &plan.faults);
    let Some(primary) = accounts.first() else {
        return Ok(Findings::default());
    };
    let check = |node| checks::check(cell_id, plan, node, primary, known, excuse);
    Ok(Findings {
        rows: accounts.iter().flat_map(check).collect(),
        lost: primary
            .tables
            .iter()
            .flat_map(|it| it.account.lost.iter().copied())
            .collect(),
    })
}
