//! Statements that make a standby the primary, and make other standbys follow the new primary.

use tokio_postgres::Client;

use super::provisioning::{Answer, execute, set_for_server};
use super::{Xid8, quote_literal};
use crate::units::Lsn;

/// The server from which a standby streams, and the slot that it uses there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// The connection string in libpq's form, for `primary_conninfo`.
    pub conninfo: String,
    pub slot: String,
}

impl Upstream {
    /// The lines of a configuration file that make a standby follow this upstream.
    pub fn conf(&self) -> String {
        format!(
            "primary_conninfo = {}\nprimary_slot_name = {}\n",
            quote_literal(&self.conninfo),
            quote_literal(&self.slot)
        )
    }
}

/// Creates a physical slot that keeps WAL from now on, unless a slot of that name exists.
pub async fn create_slot(client: &Client, name: &str) -> Answer<()> {
    let name = quote_literal(name);
    let sql = format!(
        "SELECT pg_create_physical_replication_slot({name}, true) \
         WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = {name})"
    );
    execute(client, &sql).await
}

/// The connection string with which a standby reaches its upstream, in libpq's form.
pub async fn conninfo(client: &Client) -> Answer<String> {
    let sql = "SELECT current_setting('primary_conninfo')";
    Ok(client.query_one(sql, &[]).await?.get(0))
}

/// Makes a standby stream from another server.
pub async fn follow(client: &Client, upstream: &Upstream) -> Answer<()> {
    let settings = [
        ("primary_conninfo", Some(upstream.conninfo.as_str())),
        ("primary_slot_name", Some(upstream.slot.as_str())),
    ];
    set_for_server(client, &settings).await
}

/// The position up to which a standby has WAL on disk. The outer `None` means that it still receives, the inner one that it has never
/// received any. A walreceiver flushes everything that it has read before it ends.
pub async fn received(client: &Client) -> Answer<Option<Option<Lsn>>> {
    let sql = "SELECT pg_last_wal_receive_lsn(), \
               EXISTS (SELECT FROM pg_stat_wal_receiver WHERE status = 'streaming')";
    let row = client.query_one(sql, &[]).await?;
    let (position, is_receiving): (Option<Lsn>, bool) = (row.get(0), row.get(1));
    Ok((!is_receiving).then_some(position))
}

/// Asks a standby to end its recovery, and does not wait until that has happened.
pub async fn promote(client: &Client) -> Answer<()> {
    execute(client, "SELECT pg_promote(false)").await
}

pub async fn is_in_recovery(client: &Client) -> Answer<bool> {
    let sql = "SELECT pg_is_in_recovery()";
    Ok(client.query_one(sql, &[]).await?.get(0))
}

/// The next transaction id that the server will assign.
pub async fn next_xid(client: &Client) -> Answer<u64> {
    let sql = "SELECT pg_snapshot_xmax(pg_current_snapshot())";
    let Xid8(next) = client.query_one(sql, &[]).await?.get(0);
    Ok(next)
}
