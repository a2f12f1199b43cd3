//! Statements by which a standby becomes the primary, and others follow it.

use tokio_postgres::Client;

use super::provisioning::{Answer, execute, set_for_server};
use super::{Xid8, quote_literal};
use crate::units::Lsn;

/// From where a standby streams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// In libpq's form, for `primary_conninfo`.
    pub conninfo: String,
    pub slot: String,
}

impl Upstream {
    /// The lines of a configuration file.
    pub fn conf(&self) -> String {
        format!(
            "primary_conninfo = {}\nprimary_slot_name = {}\n",
            quote_literal(&self.conninfo),
            quote_literal(&self.slot)
        )
    }
}

/// A physical slot that keeps WAL from now on, unless there is one of that name.
pub async fn create_slot(client: &Client, name: &str) -> Answer<()> {
    let name = quote_literal(name);
    let sql = format!(
        "SELECT pg_create_physical_replication_slot({name}, true) \
         WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = {name})"
    );
    execute(client, &sql).await
}

/// How a standby reaches the server that it streams from, in libpq's form.
pub async fn conninfo(client: &Client) -> Answer<String> {
    let sql = "SELECT current_setting('primary_conninfo')";
    Ok(client.query_one(sql, &[]).await?.get(0))
}

/// Has a standby stream from another server.
pub async fn follow(client: &Client, upstream: &Upstream) -> Answer<()> {
    let settings = [
        ("primary_conninfo", Some(upstream.conninfo.as_str())),
        ("primary_slot_name", Some(upstream.slot.as_str())),
    ];
    set_for_server(client, &settings).await
}

/// Up to where a standby has WAL on disk; `None`: it still receives. What a walreceiver has read it flushes before it ends.
pub async fn received(client: &Client) -> Answer<Option<Option<Lsn>>> {
    let sql = "SELECT pg_last_wal_receive_lsn(), \
               EXISTS (SELECT FROM pg_stat_wal_receiver WHERE status = 'streaming')";
    let row = client.query_one(sql, &[]).await?;
    let (position, is_receiving): (Option<Lsn>, bool) = (row.get(0), row.get(1));
    Ok((!is_receiving).then_some(position))
}

/// Asks a standby to end its recovery; does not wait until it has.
pub async fn promote(client: &Client) -> Answer<()> {
    execute(client, "SELECT pg_promote(false)").await
}

pub async fn is_in_recovery(client: &Client) -> Answer<bool> {
    let sql = "SELECT pg_is_in_recovery()";
    Ok(client.query_one(sql, &[]).await?.get(0))
}

/// The transaction id that will be given out next.
pub async fn next_xid(client: &Client) -> Answer<u64> {
    let sql = "SELECT pg_snapshot_xmax(pg_current_snapshot())";
    let Xid8(next) = client.query_one(sql, &[]).await?.get(0);
    Ok(next)
}
