//! What a server reports about itself, about its replicas, and about the server from which it replicates. Works with PostgreSQL 14 to 18.

use tokio_postgres::{Client, Error, Row};

use crate::units::Lsn;

/// The state of a server that answers.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    pub version: String,
    pub in_recovery: bool,
    pub standby_names: String,
    pub senders: Vec<Sender>,
    pub slots: Vec<Slot>,
    /// The walreceiver of a standby; `None` if there is none.
    pub receiver: Option<Receiver>,
    pub is_replay_paused: bool,
    /// Queries that replay has cancelled since the statistics were reset.
    pub conflicts: i64,
    pub subscriptions: Vec<Subscription>,
}

/// A replica, as its upstream sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Sender {
    pub name: String,
    pub state: String,
    pub sync_state: String,
    /// Bytes of WAL that the upstream has not sent to the replica; `None` if unknown. `unflushed` counts the bytes that the replica does
    /// not have on disk, and `unreplayed` those that it has not replayed.
    pub unsent: Option<i64>,
    pub unflushed: Option<i64>,
    pub unreplayed: Option<i64>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Slot {
    pub name: String,
    pub is_active: bool,
    /// Bytes of WAL that the slot holds back; `None` if it holds back none.
    pub retained: Option<i64>,
    /// `reserved`, `extended`, `unreserved` or `lost`, as in `pg_replication_slots`.
    pub wal_status: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Receiver {
    pub status: String,
    /// Seconds since the last message from the upstream; `None` if no message has come.
    pub silent_s: Option<f64>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Subscription {
    pub name: String,
    pub is_enabled: bool,
    pub has_worker: bool,
    pub silent_s: Option<f64>,
}

/// The positions up to which a replica has WAL on disk and has replayed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reached {
    pub received: Option<Lsn>,
    pub replayed: Option<Lsn>,
}

pub async fn facts(client: &Client) -> Result<Facts, Error> {
    let own = client
        .query_one(
            "SELECT current_setting('server_version'), pg_is_in_recovery(), \
                    current_setting('synchronous_standby_names'), \
                    pg_is_in_recovery() AND pg_get_wal_replay_pause_state() <> 'not paused', \
                    (SELECT coalesce(sum(confl_tablespace + confl_lock + confl_snapshot + confl_bufferpin + confl_deadlock), 0)::bigint \
                     FROM pg_stat_database_conflicts)",
            &[],
        )
        .await?;
    let in_recovery = own.try_get(1)?;
    Ok(Facts {
        version: own.try_get(0)?,
        in_recovery,
        standby_names: own.try_get(2)?,
        senders: senders(client).await?,
        slots: slots(client).await?,
        receiver: receiver(client).await?,
        is_replay_paused: own.try_get(3)?,
        conflicts: own.try_get(4)?,
        subscriptions: if in_recovery {
            Vec::new()
        } else {
            subscriptions(client).await?
        },
    })
}

/// The position up to which a server can send WAL: on a standby the received position.
const POSITION: &str =
    "CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() ELSE pg_current_wal_lsn() END";

async fn senders(client: &Client) -> Result<Vec<Sender>, Error> {
    let sql = format!(
        "SELECT application_name, coalesce(state, ''), coalesce(sync_state, ''), \
                ({POSITION} - sent_lsn)::bigint, ({POSITION} - flush_lsn)::bigint, ({POSITION} - replay_lsn)::bigint \
         FROM pg_stat_replication WHERE state IS DISTINCT FROM 'backup' ORDER BY application_name"
    );
    let rows = client.query(&sql, &[]).await?;
    let sender = |row: &Row| {
        Ok(Sender {
            name: row.try_get(0)?,
            state: row.try_get(1)?,
            sync_state: row.try_get(2)?,
            unsent: row.try_get(3)?,
            unflushed: row.try_get(4)?,
            unreplayed: row.try_get(5)?,
        })
    };
    rows.iter().map(sender).collect()
}

async fn slots(client: &Client) -> Result<Vec<Slot>, Error> {
    let sql = format!(
        "SELECT slot_name::text, active, ({POSITION} - restart_lsn)::bigint, wal_status \
         FROM pg_replication_slots ORDER BY 1"
    );
    let rows = client.query(&sql, &[]).await?;
    let slot = |row: &Row| {
        Ok(Slot {
            name: row.try_get(0)?,
            is_active: row.try_get(1)?,
            retained: row.try_get(2)?,
            wal_status: row.try_get(3)?,
        })
    };
    rows.iter().map(slot).collect()
}

async fn receiver(client: &Client) -> Result<Option<Receiver>, Error> {
    let sql = "SELECT status, extract(epoch FROM clock_timestamp() - last_msg_receipt_time)::float8 \
               FROM pg_stat_wal_receiver";
    let Some(row) = client.query_opt(sql, &[]).await? else {
        return Ok(None);
    };
    Ok(Some(Receiver {
        status: row.try_get::<_, Option<String>>(0)?.unwrap_or_default(),
        silent_s: row.try_get(1)?,
    }))
}

async fn subscriptions(client: &Client) -> Result<Vec<Subscription>, Error> {
    // From PostgreSQL 16 on a subscription may have several apply workers: the leader and parallel ones.
    let sql = "SELECT s.subname::text, s.subenabled, count(a.pid) > 0, \
                      extract(epoch FROM clock_timestamp() - max(a.last_msg_receipt_time))::float8 \
               FROM pg_subscription AS s LEFT JOIN pg_stat_subscription AS a ON a.subid = s.oid AND a.relid IS NULL \
               WHERE s.subdbid = (SELECT oid FROM pg_database WHERE datname = current_database()) \
               GROUP BY s.subname, s.subenabled ORDER BY 1";
    let rows = client.query(sql, &[]).await?;
    let subscription = |row: &Row| {
        Ok(Subscription {
            name: row.try_get(0)?,
            is_enabled: row.try_get(1)?,
            has_worker: row.try_get(2)?,
            silent_s: row.try_get(3)?,
        })
    };
    rows.iter().map(subscription).collect()
}

/// The names of the subscriptions in this database.
pub async fn subscription_names(client: &Client) -> Result<Vec<String>, Error> {
    let sql = "SELECT subname::text FROM pg_subscription \
               WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database()) ORDER BY 1";
    let rows = client.query(sql, &[]).await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

/// The positions that a standby reports about itself.
pub async fn reached(client: &Client) -> Result<Reached, Error> {
    let sql = "SELECT pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()";
    reached_in(&client.query_one(sql, &[]).await?)
}

/// The positions that a subscriber has reported to its publisher.
pub async fn confirmed(client: &Client, name: &str) -> Result<Reached, Error> {
    let sql = "SELECT flush_lsn, replay_lsn FROM pg_stat_replication WHERE application_name = $1";
    let row = client.query_opt(sql, &[&name]).await?;
    row.as_ref().map_or(Ok(Reached::default()), reached_in)
}

fn reached_in(row: &Row) -> Result<Reached, Error> {
    Ok(Reached {
        received: row.try_get(0)?,
        replayed: row.try_get(1)?,
    })
}
