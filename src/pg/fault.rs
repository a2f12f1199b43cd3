//! Statements that cause faults and undo them.

use std::time::Duration;

use tokio_postgres::Client;

use super::provisioning::{Answer, execute, set_for_server};
use super::quote_literal;
use crate::units::Lsn;

/// A table whose rows are deleted at once, so that VACUUM has dead rows to remove.
const DEAD_ROWS: &str = "replbench_dead_rows";
/// The name of a CHECK constraint that every new row violates.
const REFUSES_ALL: &str = "replbench_apply_error";

/// Begins a transaction that keeps its snapshot, so that rows removed from now on may still be visible to it. Returns the process id of its
/// backend.
pub async fn hold_snapshot(client: &Client) -> Answer<i32> {
    // With this setting the server notices that replbench is gone, although replbench sends no further request.
    let begin = "SET client_connection_check_interval = '1s'; BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
    execute(client, begin).await?;
    backend(client).await
}

/// Ends the connection that this backend process serves.
pub async fn terminate(client: &Client, process: i32) -> Answer<()> {
    execute(client, &format!("SELECT pg_terminate_backend({process})")).await
}

/// Runs a query that takes this long.
pub async fn sleep(client: &Client, time: Duration) -> Answer<()> {
    execute(client, &format!("SELECT pg_sleep({})", time.as_secs_f64())).await
}

/// Statements on the primary that make a long query on a standby conflict with replay.
#[derive(Debug)]
pub struct DeadRows {
    /// Creates the table.
    pub create: String,
    /// Inserts a row, deletes it, and removes it with VACUUM, provided that no transaction of this server still sees the row.
    pub remove: [String; 3],
    pub drop: String,
}

impl DeadRows {
    pub fn statements() -> Self {
        Self {
            create: format!("CREATE TABLE IF NOT EXISTS {DEAD_ROWS} (n int)"),
            remove: [
                format!("INSERT INTO {DEAD_ROWS} VALUES (1)"),
                format!("DELETE FROM {DEAD_ROWS}"),
                // Truncating the end of the table would take a lock that conflicts with a standby's query too.
                format!("VACUUM (TRUNCATE false) {DEAD_ROWS}"),
            ],
            drop: format!("DROP TABLE IF EXISTS {DEAD_ROWS}"),
        }
    }
}

/// A statement with which the server itself resumes replay, 5 s after a pause of this length, even if this client is gone by then.
pub fn resume_after(pause: Duration) -> String {
    let seconds = (pause + Duration::from_secs(5)).as_secs_f64();
    format!(
        "DO $$ BEGIN PERFORM pg_sleep({seconds}); PERFORM pg_wal_replay_resume() WHERE pg_is_in_recovery(); END $$"
    )
}

/// The process id of the backend that serves this connection.
pub async fn backend(client: &Client) -> Answer<i32> {
    let sql = "SELECT pg_backend_pid()";
    Ok(client.query_one(sql, &[]).await?.get(0))
}

/// The tables of a subscription, quoted and qualified.
pub async fn subscribed(client: &Client, subscription: &str) -> Answer<Vec<String>> {
    let sql = "SELECT format('%I.%I', nspname, relname) \
               FROM pg_subscription_rel JOIN pg_subscription s ON s.oid = srsubid \
               JOIN pg_class c ON c.oid = srrelid JOIN pg_namespace n ON n.oid = relnamespace \
               WHERE subname = $1 ORDER BY 1";
    let rows = client.query(sql, &[&subscription]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// The statement that makes a table refuse every new row but keep the rows that it has or, with `refuse` false, accept new rows again.
pub fn refuse_rows(table: &str, refuse: bool) -> String {
    if refuse {
        format!("ALTER TABLE {table} ADD CONSTRAINT {REFUSES_ALL} CHECK (false) NOT VALID")
    } else {
        format!("ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {REFUSES_ALL}")
    }
}

/// With `none`, makes slots keep no WAL older than the current segment. Without it, restores the limits of the server's configuration file.
pub async fn keep_no_wal(client: &Client, none: bool) -> Answer<()> {
    let settings = [("max_slot_wal_keep_size", "1MB"), ("wal_keep_size", "0")];
    let settings = settings.map(|(name, value)| (name, none.then_some(value)));
    set_for_server(client, &settings).await
}

/// The WAL that a slot keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotWal {
    pub name: String,
    /// The oldest position of the WAL that the slot keeps; `None` if it keeps no WAL any more, or none yet.
    pub restart: Option<Lsn>,
    /// Whether some of the slot's WAL has been removed, so that nothing can be streamed from it.
    pub is_lost: bool,
}

pub async fn slots(client: &Client) -> Answer<Vec<SlotWal>> {
    let sql = "SELECT slot_name::text, restart_lsn, coalesce(wal_status = 'lost', false) \
               FROM pg_replication_slots WHERE NOT temporary";
    let rows = client.query(sql, &[]).await?;
    let rows = rows.iter().map(|row| SlotWal {
        name: row.get(0),
        restart: row.get(1),
        is_lost: row.get(2),
    });
    Ok(rows.collect())
}

/// Drops a slot unless somebody streams from it. Returns whether the slot is gone.
pub async fn drop_slot(client: &Client, name: &str) -> Answer<bool> {
    let name = quote_literal(name);
    let drop = format!(
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = {name} AND NOT active"
    );
    execute(client, &drop).await?;
    let left = format!("SELECT FROM pg_replication_slots WHERE slot_name = {name}");
    Ok(client.query(&left, &[]).await?.is_empty())
}
