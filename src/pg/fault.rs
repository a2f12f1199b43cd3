//! Statements by which faults come about, and are undone.

use std::time::Duration;

use tokio_postgres::Client;

use super::provisioning::{Answer, execute, set_for_server};
use super::quote_literal;
use crate::units::Lsn;

/// Has rows that nobody needs, so that VACUUM removes them.
const DEAD_ROWS: &str = "replbench_dead_rows";
/// A constraint that no row fulfils.
const REFUSES_ALL: &str = "replbench_apply_error";

/// Begins a transaction whose snapshot stays: what is removed from now on it may still see. Its process.
pub async fn hold_snapshot(client: &Client) -> Answer<i32> {
    // The server notices when replbench is gone, though it is not asked for anything.
    let begin = "SET client_connection_check_interval = '1s'; BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
    execute(client, begin).await?;
    backend(client).await
}

/// Ends the connection that a process serves.
pub async fn terminate(client: &Client, process: i32) -> Answer<()> {
    execute(client, &format!("SELECT pg_terminate_backend({process})")).await
}

/// A query that takes so long.
pub async fn sleep(client: &Client, time: Duration) -> Answer<()> {
    execute(client, &format!("SELECT pg_sleep({})", time.as_secs_f64())).await
}

/// What a long query on a standby needs on the primary.
#[derive(Debug)]
pub struct DeadRows {
    /// Makes a table.
    pub create: String,
    /// Deletes a row of it and removes it, if no transaction of this server still sees it.
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
                // To cut the table's end off takes a lock that a standby's query would be in the way of as well.
                format!("VACUUM (TRUNCATE false) {DEAD_ROWS}"),
            ],
            drop: format!("DROP TABLE IF EXISTS {DEAD_ROWS}"),
        }
    }
}

/// Has the server itself resume replay, 5 s after a pause of this length, whatever becomes of this client.
pub fn resume_after(pause: Duration) -> String {
    let seconds = (pause + Duration::from_secs(5)).as_secs_f64();
    format!(
        "DO $$ BEGIN PERFORM pg_sleep({seconds}); PERFORM pg_wal_replay_resume() WHERE pg_is_in_recovery(); END $$"
    )
}

/// The process that serves this connection.
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

/// From now on a table takes no new row; those that it has stay. Or it takes them again.
pub fn refuse_rows(table: &str, refuse: bool) -> String {
    if refuse {
        format!("ALTER TABLE {table} ADD CONSTRAINT {REFUSES_ALL} CHECK (false) NOT VALID")
    } else {
        format!("ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {REFUSES_ALL}")
    }
}

/// Whether slots keep no WAL older than the current segment, or as much as the server's configuration file says.
pub async fn keep_no_wal(client: &Client, none: bool) -> Answer<()> {
    let settings = [("max_slot_wal_keep_size", "1MB"), ("wal_keep_size", "0")];
    let settings = settings.map(|(name, value)| (name, none.then_some(value)));
    set_for_server(client, &settings).await
}

/// The WAL that a slot keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotWal {
    pub name: String,
    /// `None`: none any more, or none yet.
    pub restart: Option<Lsn>,
    /// Whether some of it has been removed, so that nothing can be streamed from the slot.
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

/// Drops a slot unless somebody streams from it; whether it is gone.
pub async fn drop_slot(client: &Client, name: &str) -> Answer<bool> {
    let name = quote_literal(name);
    let drop = format!(
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = {name} AND NOT active"
    );
    execute(client, &drop).await?;
    let left = format!("SELECT FROM pg_replication_slots WHERE slot_name = {name}");
    Ok(client.query(&left, &[]).await?.is_empty())
}
