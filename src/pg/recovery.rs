//! Statements for a restore to a point in time: they commit known rows before and after a target, set the target, and read which of the
//! rows a restored server has.

use tokio_postgres::types::PgLsn;
use tokio_postgres::{Client, SimpleQueryMessage};

use super::provisioning::{Answer, execute};
use super::{Failure, quote_literal};
use crate::units::Lsn;

/// The table of known commits, which has a schema of its own.
const MARKERS: &str = "replbench_pitr.marker";

/// Creates the table of known commits, unless it exists.
pub async fn create_markers(client: &Client) -> Answer<()> {
    let sql = format!(
        "CREATE SCHEMA IF NOT EXISTS replbench_pitr; \
         CREATE TABLE IF NOT EXISTS {MARKERS} (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY)"
    );
    execute(client, &sql).await
}

/// Commits a row and returns its id.
pub async fn add_marker(client: &Client) -> Answer<i64> {
    let sql = format!("INSERT INTO {MARKERS} DEFAULT VALUES RETURNING id");
    Ok(client.query_one(&sql, &[]).await?.get(0))
}

/// The ids among `ids` whose rows exist.
pub async fn markers(client: &Client, ids: &[i64]) -> Answer<Vec<i64>> {
    let sql = format!("SELECT id FROM {MARKERS} WHERE id = ANY ($1) ORDER BY id");
    let rows = client.query(&sql, &[&ids]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Writes a restore point of this name into the WAL. Returns the position of its end, and the server's time then, for
/// `recovery_target_time`.
pub async fn restore_point(client: &Client, name: &str) -> Answer<(Lsn, String)> {
    // The select list is evaluated from left to right. A simple query is one message, so little happens between the request and the answer.
    let sql = format!(
        "SELECT pg_create_restore_point({}), \
                to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || '+00'",
        quote_literal(name)
    );
    let messages = client.simple_query(&sql).await?;
    let told = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some((row.get(0)?.parse().ok()?, row.get(1)?.to_owned())),
        _ => None,
    });
    told.ok_or_else(|| {
        let message = "pg_create_restore_point() returned no position";
        Failure::of_server(None, message.into(), None)
    })
}

/// The name of the WAL file that holds the WAL just before a position.
pub async fn wal_file(client: &Client, position: Lsn) -> Answer<String> {
    let sql = "SELECT pg_walfile_name($1)";
    let position = PgLsn::from(position.as_u64());
    Ok(client.query_one(sql, &[&position]).await?.get(0))
}
