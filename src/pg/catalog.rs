//! Queries of the system views for lag samples, visibility and server counters. A sample takes one query.
//!
//! A figure that is NULL in the view stays `None`, because NULL is not zero.

use tokio_postgres::{Client, Error, Row, Statement};

use crate::mode::SyncLevel;
use crate::sample::LagRow;
use crate::units::Lsn;

/// A sample of an upstream: all its replicas, and the position from which their lags are measured.
#[derive(Debug, Clone, PartialEq)]
pub struct UpstreamSample {
    pub position: Lsn,
    /// One row for each replica or slot, with the columns that the upstream knows. `node` is the `application_name`, or the slot's name if
    /// nobody streams from the slot; replbench gives both the node's name.
    pub replicas: Vec<LagRow>,
    /// The number of backends that wait for synchronous replication now.
    pub syncrep_waiters: i64,
    /// When the server started, in microseconds since 1970. A changed value means that the server restarted.
    pub started_us: i64,
    /// Checkpoints and restartpoints since the statistics were reset.
    pub checkpoints: i64,
}

/// The WAL positions that a replica reports about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReplicaSample {
    pub received: Option<Lsn>,
    /// The replay position. On a subscriber it is the end of the publisher's last transaction that the subscriber has committed.
    pub replayed: Option<Lsn>,
    pub replay_timestamp_age_us: Option<i64>,
}

/// Prepares the query of [`upstream`]; `version` is `server_version_num`.
///
/// Distances are measured from the position up to which commits may have been acknowledged. That is the position up to which WAL has been
/// written or, with `synchronous_commit = off`, which does not wait for the write, inserted into the WAL buffers. A standby that has
/// replicas of its own has neither, so there the received position is used.
pub async fn prepare_upstream(
    client: &Client,
    version: u32,
    level: SyncLevel,
) -> Result<Statement, Error> {
    let position = match level {
        SyncLevel::Off => "pg_current_wal_insert_lsn()",
        _ => "pg_current_wal_lsn()",
    };
    let checkpoints = if version >= 170_000 {
        "(SELECT num_timed + num_requested + restartpoints_done FROM pg_stat_checkpointer)"
    } else {
        "(SELECT checkpoints_timed + checkpoints_req FROM pg_stat_bgwriter)"
    };
    let sql = format!(
        "WITH here AS MATERIALIZED ( \
           SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() \
                       ELSE {position} END AS lsn) \
         SELECT here.lsn, \
           (SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'), \
           (extract(epoch FROM pg_postmaster_start_time()) * 1e6)::bigint, \
           {checkpoints}::bigint, \
           coalesce(r.application_name, s.slot_name), r.state, r.sync_state, \
           pg_wal_lsn_diff(here.lsn, r.sent_lsn)::bigint, \
           pg_wal_lsn_diff(here.lsn, r.write_lsn)::bigint, \
           pg_wal_lsn_diff(here.lsn, r.flush_lsn)::bigint, \
           pg_wal_lsn_diff(here.lsn, r.replay_lsn)::bigint, \
           (extract(epoch FROM r.write_lag) * 1e6)::bigint, \
           (extract(epoch FROM r.flush_lag) * 1e6)::bigint, \
           (extract(epoch FROM r.replay_lag) * 1e6)::bigint, \
           (extract(epoch FROM clock_timestamp() - r.reply_time) * 1e6)::bigint, \
           pg_wal_lsn_diff(here.lsn, s.restart_lsn)::bigint, s.wal_status \
         FROM here LEFT JOIN ( \
           pg_stat_replication r FULL JOIN pg_replication_slots s ON s.slot_name = r.application_name \
         ) ON true"
    );
    client.prepare(&sql).await
}

/// Samples an upstream and all its replicas in one query, so that all positions belong to the same instant.
pub async fn upstream(client: &Client, statement: &Statement) -> Result<UpstreamSample, Error> {
    let rows = client.query(statement, &[]).await?;
    let mut sample = UpstreamSample {
        position: Lsn::default(),
        replicas: Vec::with_capacity(rows.len()),
        syncrep_waiters: 0,
        started_us: 0,
        checkpoints: 0,
    };
    for row in rows {
        sample.position = row.try_get::<_, Option<Lsn>>(0)?.unwrap_or_default();
        sample.syncrep_waiters = row.try_get(1)?;
        sample.started_us = row.try_get(2)?;
        sample.checkpoints = row.try_get(3)?;
        if let Some(replica) = replica_state(&row)? {
            sample.replicas.push(replica);
        }
    }
    Ok(sample)
}

/// The columns that come from the upstream. The slot columns describe the slot that has the node's name.
fn replica_state(row: &Row) -> Result<Option<LagRow>, Error> {
    let Some(node) = row.try_get(4)? else {
        return Ok(None);
    };
    Ok(Some(LagRow {
        node,
        state: row.try_get(5)?,
        sync_state: row.try_get(6)?,
        sent_lag_bytes: row.try_get(7)?,
        write_lag_bytes: row.try_get(8)?,
        flush_lag_bytes: row.try_get(9)?,
        replay_lag_bytes: row.try_get(10)?,
        write_lag_us: row.try_get(11)?,
        flush_lag_us: row.try_get(12)?,
        replay_lag_us: row.try_get(13)?,
        reply_age_us: row.try_get(14)?,
        slot_retained_bytes: row.try_get(15)?,
        slot_wal_status: row.try_get(16)?,
        ..LagRow::default()
    }))
}

/// Prepares the query of [`replica`]: the standby's WAL positions, or those of the subscriber's apply worker.
pub async fn prepare_replica(client: &Client, physical: bool) -> Result<Statement, Error> {
    let sql = if physical {
        "SELECT pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn(), \
         (extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()) * 1e6)::bigint"
    } else {
        // Only the apply worker: workers of the initial copy have a relid, and parallel workers (PostgreSQL 16 and later) have a leader.
        // `latest_end_lsn` is a received position too; the applied position is the progress of the subscription's origin.
        "SELECT received_lsn, pg_replication_origin_progress('pg_' || subid, false), NULL::bigint \
         FROM pg_stat_subscription WHERE pid IS NOT NULL AND relid IS NULL ORDER BY received_lsn DESC NULLS LAST LIMIT 1"
    };
    client.prepare(sql).await
}

/// Reads a replica's own positions; all are `None` if a subscriber has no apply worker.
pub async fn replica(client: &Client, statement: &Statement) -> Result<ReplicaSample, Error> {
    let Some(row) = client.query_opt(statement, &[]).await? else {
        return Ok(ReplicaSample::default());
    };
    Ok(ReplicaSample {
        received: row.try_get(0)?,
        replayed: row.try_get(1)?,
        replay_timestamp_age_us: row.try_get(2)?,
    })
}

/// The transactions that a reader on a physical standby sees.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VisibleTransactions {
    /// All transactions with a smaller id are visible or aborted.
    pub xmin: u64,
    /// No transaction with this id or a larger one is visible.
    pub xmax: u64,
    /// The transactions asked about that lie between `xmin` and `xmax` and have committed.
    pub committed: Vec<u64>,
}

/// The query for the transactions that a reader on a standby sees now. Its columns are xmin, xmax, the ids in `$1` between them that have
/// committed, and the server's clock after the snapshot was taken.
///
/// On a standby `pg_current_snapshot()` lists no transaction as in progress, although some between xmin and xmax are (recovery keeps them
/// elsewhere), so the query asks for the status of each one. `pg_xact_status` refuses ids from the future, hence the CASE.
pub const VISIBLE_TRANSACTIONS: &str = "SELECT pg_snapshot_xmin(s), pg_snapshot_xmax(s), ARRAY( \
       SELECT x FROM unnest($1::xid8[]) AS x \
       WHERE CASE WHEN x < pg_snapshot_xmin(s) THEN false \
                  WHEN x < pg_snapshot_xmax(s) THEN pg_xact_status(x) = 'committed' \
                  ELSE false END), clock_timestamp() \
     FROM pg_current_snapshot() AS s";

/// The number of errors of this subscriber's apply and copy workers; `None` before PostgreSQL 15, which does not count them.
pub async fn apply_errors(client: &Client) -> Result<Option<i64>, Error> {
    let sql = "SELECT current_setting('server_version_num')::int";
    let version: i32 = client.query_one(sql, &[]).await?.try_get(0)?;
    if version < 150_000 {
        return Ok(None);
    }
    let sql = "SELECT coalesce(sum(apply_error_count + sync_error_count), 0)::bigint \
               FROM pg_stat_subscription_stats";
    client.query_one(sql, &[]).await?.try_get(0)
}

/// Counters of a server's background work since its statistics were reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaintenanceCounters {
    /// Runs of autovacuum (vacuum or analyze) on tables of this database.
    pub autovacuums: i64,
    pub full_page_images: i64,
}

/// Reads the counters. The views and columns exist in PostgreSQL 14 to 18.
pub async fn maintenance(client: &Client) -> Result<MaintenanceCounters, Error> {
    let sql = "SELECT (SELECT coalesce(sum(autovacuum_count + autoanalyze_count), 0)::bigint FROM pg_stat_all_tables), \
                      (SELECT wal_fpi::bigint FROM pg_stat_wal)";
    let row = client.query_one(sql, &[]).await?;
    Ok(MaintenanceCounters {
        autovacuums: row.try_get(0)?,
        full_page_images: row.try_get(1)?,
    })
}
