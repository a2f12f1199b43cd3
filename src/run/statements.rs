//! The statements that a run is going to send to servers that replbench did not make, as a page of text.

use std::fmt::Write as _;

use crate::cluster::Servers;
use crate::cluster::existing::Statements;
use crate::load::workload;
use crate::pg::fault::{DeadRows, refuse_rows, resume_after};
use crate::pg::provisioning::RESUME_REPLAY;
use crate::plan::{Fault, FaultKind, Plan, Table};
use crate::topology::Topology;

/// All statements that make or change something, in their order and with their nodes, and what the other statements read.
pub fn statements(plan: &Plan, servers: &Servers) -> String {
    let ddl: Vec<_> = plan.tables.iter().map(|it| it.ddl.clone()).collect();
    let publish: Vec<_> = plan.tables.iter().map(Table::qualified).collect();
    let of_servers = Statements::of(servers, &ddl, &publish, &plan.modes);
    let primary = |sql: String| (Topology::PRIMARY.to_owned(), sql);
    let mut cell: Vec<_> = workload::reset(plan)
        .into_iter()
        .map(|(sql, _)| primary(sql))
        .collect();
    let fence = "SELECT pg_logical_emit_message(true, 'replbench', 'fence')";
    cell.extend([fence, "CHECKPOINT"].map(|it| primary(it.into())));
    let load = plan
        .transactions
        .iter()
        .flat_map(|it| workload::statements(plan, it));
    let faults = plan.faults.iter().flat_map(|it| of_fault(it, &publish));
    let mut page = String::new();
    for (title, all) in [
        ("before the first cell", of_servers.before),
        ("for each mode", of_servers.modes),
        (
            "before each cell; CHECKPOINT on all nodes, where this user may",
            cell,
        ),
        ("load", load.map(primary).collect()),
        ("at each fault", faults.collect()),
        ("at the end", of_servers.end),
    ] {
        if all.is_empty() {
            continue;
        }
        // Writing to a string cannot fail.
        let _ = writeln!(page, "\n-- {title}");
        for (node, sql) in all {
            let sql = sql.split_whitespace().collect::<Vec<_>>().join(" ");
            let _ = writeln!(page, "{node}: {sql};");
        }
    }
    page.push_str(LOOKS);
    page
}

/// The statements of a fault, with their nodes; none for a fault that does not use SQL.
fn of_fault(fault: &Fault, tables: &[String]) -> Vec<(String, String)> {
    let to = |node: &str, sql: String| (node.to_owned(), sql);
    let to_target = |sql: &str| to(&fault.target, sql.into());
    match fault.kind {
        FaultKind::PauseReplay => vec![
            to_target(&resume_after(fault.length)),
            to_target("SELECT pg_wal_replay_pause()"),
            to_target(RESUME_REPLAY),
        ],
        FaultKind::LongQuery => {
            let DeadRows {
                create,
                remove,
                drop,
            } = DeadRows::statements();
            let on_primary = [create].into_iter().chain(remove).chain([drop]);
            on_primary.map(|sql| to(Topology::PRIMARY, sql)).collect()
        }
        FaultKind::ApplyError => {
            let all = tables
                .iter()
                .flat_map(|it| [true, false].map(|refuse| refuse_rows(it, refuse)));
            all.map(|sql| to(&fault.target, sql)).collect()
        }
        _ => Vec::new(),
    }
}

/// What is only read, as the last part of the page.
const LOOKS: &str = "
-- besides, questions that change nothing: to the primary pg_stat_replication, pg_replication_slots, pg_stat_activity, pg_stat_wal and
-- pg_settings; to standbys pg_stat_wal_receiver, replay positions and snapshots; to subscribers pg_stat_subscription and the tables' keys;
-- count(*) of every table at the end of each cell; one advisory lock in each database that is written
";
