//! Statements and catalog queries that build a cluster, switch it to a mode and check it.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio_postgres::Client;

use super::{Failure, quote_literal};
use crate::clock;
use crate::escape::quote_ident;
use crate::units::Lsn;

/// One row of `pg_stat_replication`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sender {
    pub application_name: String,
    /// `startup`, `catchup`, `streaming`, `backup`, `stopping`.
    pub state: String,
    /// `async`, `potential`, `sync`, `quorum`.
    pub sync_state: String,
    pub replay_lsn: Option<Lsn>,
}

/// Non-default settings of a server, and its version.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServerSettings {
    /// The version with the packager's suffix, such as `15.8 (Debian 15.8-0+deb12u1)`.
    pub version: String,
    pub settings: BTreeMap<String, String>,
}

pub(super) type Answer<T> = Result<T, Failure>;

/// Runs statements that return nothing.
pub async fn execute(client: &Client, statements: &str) -> Answer<()> {
    Ok(client.batch_execute(statements).await?)
}

pub async fn create_database(client: &Client, name: &str) -> Answer<()> {
    execute(client, &format!("CREATE DATABASE {}", quote_ident(name))).await
}

pub async fn create_publication(client: &Client, name: &str, tables: &[String]) -> Answer<()> {
    execute(client, &publication(name, tables)).await
}

/// The statement of [`create_publication`]. `tables` are quoted and qualified by the caller, because an apply worker's `search_path` is
/// empty.
pub fn publication(name: &str, tables: &[String]) -> String {
    let (name, tables) = (quote_ident(name), tables.join(", "));
    format!("CREATE PUBLICATION {name} FOR TABLE {tables}")
}

/// Creates a subscription and, on the publisher, a slot with the subscription's name. Begins the initial copy.
pub async fn create_subscription(
    client: &Client,
    name: &str,
    conninfo: &str,
    publication: &str,
) -> Answer<()> {
    execute(client, &subscription(name, conninfo, publication)).await
}

/// The statement of [`create_subscription`].
pub fn subscription(name: &str, conninfo: &str, publication: &str) -> String {
    format!(
        "CREATE SUBSCRIPTION {} CONNECTION {} PUBLICATION {}",
        quote_ident(name),
        quote_literal(conninfo),
        quote_ident(publication)
    )
}

/// Sets a subscription's `synchronous_commit`: what the apply worker's commits wait for before the worker confirms them to the publisher.
pub async fn set_subscription_level(client: &Client, name: &str, level: &str) -> Answer<()> {
    let (name, level) = (quote_ident(name), quote_literal(level));
    let sql = format!("ALTER SUBSCRIPTION {name} SET (synchronous_commit = {level})");
    execute(client, &sql).await
}

/// Reads a subscription's `synchronous_commit`.
pub async fn subscription_level(client: &Client, name: &str) -> Answer<String> {
    let sql = "SELECT subsynccommit FROM pg_subscription WHERE subname = $1";
    Ok(client.query_one(sql, &[&name]).await?.get(0))
}

/// A subscription and the connection string of its publisher, which may contain a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Subscription {
    pub database: String,
    pub name: String,
    pub conninfo: String,
}

impl std::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Subscription({} in {})", self.name, self.database)
    }
}

/// The subscriptions in all databases of a server. Only a superuser may read their connection strings.
pub async fn subscriptions(client: &Client) -> Answer<Vec<Subscription>> {
    let sql = "SELECT datname::text, subname::text, subconninfo \
               FROM pg_subscription JOIN pg_database d ON d.oid = subdbid ORDER BY 1, 2";
    let rows = client.query(sql, &[]).await?;
    let rows = rows.iter().map(|row| Subscription {
        database: row.get(0),
        name: row.get(1),
        conninfo: row.get(2),
    });
    Ok(rows.collect())
}

pub async fn enable_subscription(client: &Client, name: &str, enable: bool) -> Answer<()> {
    let word = if enable { "ENABLE" } else { "DISABLE" };
    let name = quote_ident(name);
    execute(client, &format!("ALTER SUBSCRIPTION {name} {word}")).await
}

/// The number of tables of a subscription that are ready, and the number of all its tables.
pub async fn subscribed_tables(client: &Client, subscription: &str) -> Answer<(i64, i64)> {
    let sql = "SELECT count(*) FILTER (WHERE srsubstate = 'r'), count(*) \
               FROM pg_subscription_rel JOIN pg_subscription s ON s.oid = srsubid WHERE subname = $1";
    let row = client.query_one(sql, &[&subscription]).await?;
    Ok((row.get(0), row.get(1)))
}

/// The replicas that receive WAL from this server.
pub async fn senders(client: &Client) -> Answer<Vec<Sender>> {
    let sql = "SELECT application_name, coalesce(state, ''), coalesce(sync_state, ''), replay_lsn \
               FROM pg_stat_replication";
    let rows = client.query(sql, &[]).await?;
    let rows = rows.iter().map(|row| Sender {
        application_name: row.get(0),
        state: row.get(1),
        sync_state: row.get(2),
        replay_lsn: row.get(3),
    });
    Ok(rows.collect())
}

/// The process id of the walsender that streams to the replica of this name; `None` if none does.
pub async fn sender_pid(client: &Client, name: &str) -> Answer<Option<i32>> {
    let sql =
        "SELECT pid FROM pg_stat_replication WHERE application_name = $1 AND state = 'streaming'";
    let row = client.query_opt(sql, &[&name]).await?;
    Ok(row.map(|row| row.get(0)))
}

/// The replay position of a standby.
pub async fn replay_lsn(client: &Client) -> Answer<Option<Lsn>> {
    let sql = "SELECT pg_last_wal_replay_lsn()";
    Ok(client.query_one(sql, &[]).await?.get(0))
}

/// Writes a message into the WAL and returns the position of its end. A replica that has replayed up to there has everything before it.
///
/// `pg_current_wal_insert_lsn()` would not do: at a page boundary it points past the header of a page that is written only with the next
/// record, so on an idle primary a wait for that position would not end.
pub async fn fence(client: &Client) -> Answer<Lsn> {
    let sql = "SELECT pg_logical_emit_message(true, 'replbench', 'fence')";
    Ok(client.query_one(sql, &[]).await?.get(0))
}

/// Ends the current WAL segment, so that it is archived.
pub async fn switch_wal(client: &Client) -> Answer<()> {
    execute(client, "SELECT pg_switch_wal()").await
}

/// Resumes the replay of a standby. Does nothing on a server that has become the primary meanwhile.
pub async fn resume_replay(client: &Client) -> Answer<()> {
    execute(client, RESUME_REPLAY).await
}

/// The statement of [`resume_replay`].
pub const RESUME_REPLAY: &str = "SELECT pg_wal_replay_resume() WHERE pg_is_in_recovery()";

/// Pauses the replay of a standby, and returns when it is paused.
pub async fn pause_replay(client: &Client) -> Answer<()> {
    const DEADLINE: Duration = Duration::from_secs(10);
    execute(client, "SELECT pg_wal_replay_pause()").await?;
    let state = async || {
        let sql = "SELECT pg_get_wal_replay_pause_state()";
        let state: String = client.query_one(sql, &[]).await?.get(0);
        Ok(if state == "paused" {
            Ok(())
        } else {
            Err(state)
        })
    };
    let late = |state| {
        let message = format!("the replay is {state} after {} s", DEADLINE.as_secs());
        Failure::of_server(None, message, None)
    };
    clock::wait_until(DEADLINE, state, late).await
}

pub async fn checkpoint(client: &Client) -> Answer<()> {
    execute(client, "CHECKPOINT").await
}

/// The settings by which commits wait, as ALTER SYSTEM has set them; `None` for a setting that ALTER SYSTEM has not set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Synchronous {
    pub standby_names: Option<String>,
    pub commit: Option<String>,
}

/// Sets with ALTER SYSTEM what commits wait for.
pub async fn set_synchronous(client: &Client, synchronous: &Synchronous) -> Answer<()> {
    let names = synchronous.standby_names.as_deref();
    let commit = synchronous.commit.as_deref();
    let settings = [
        ("synchronous_standby_names", names),
        ("synchronous_commit", commit),
    ];
    set_for_server(client, &settings).await
}

/// Sets server settings with ALTER SYSTEM and reloads them. They take effect some milliseconds later. `None` resets a setting.
pub async fn set_for_server(client: &Client, settings: &[(&str, Option<&str>)]) -> Answer<()> {
    // Each ALTER SYSTEM is sent on its own, because it cannot run in a transaction block.
    for (name, value) in settings {
        execute(client, &alter_system(name, *value)).await?;
    }
    execute(client, "SELECT pg_reload_conf()").await
}

/// The ALTER SYSTEM statement for a setting. With `None` it removes any value that ALTER SYSTEM has set before.
pub fn alter_system(name: &str, value: Option<&str>) -> String {
    match value {
        Some(value) => format!("ALTER SYSTEM SET {name} = {}", quote_literal(value)),
        None => format!("ALTER SYSTEM RESET {name}"),
    }
}

/// The value of `synchronous_standby_names` that ALTER SYSTEM has set; `None` if it has set none. The user must be allowed to read all
/// settings.
pub async fn written_standby_names(client: &Client) -> Answer<Option<String>> {
    let sql = "SELECT setting FROM pg_settings \
               WHERE name = 'synchronous_standby_names' AND sourcefile LIKE '%/postgresql.auto.conf'";
    let row = client.query_opt(sql, &[]).await?;
    Ok(row.map(|row| row.get(0)))
}

/// The settings that [`set_synchronous`] would replace.
pub async fn written_synchronous(client: &Client) -> Answer<Synchronous> {
    let sql = "SELECT max(setting) FILTER (WHERE name = 'synchronous_standby_names'), \
                      max(setting) FILTER (WHERE name = 'synchronous_commit') \
               FROM pg_file_settings WHERE sourcefile LIKE '%/postgresql.auto.conf'";
    let row = client.query_one(sql, &[]).await?;
    Ok(Synchronous {
        standby_names: row.get(0),
        commit: row.get(1),
    })
}

/// `synchronous_standby_names` and `synchronous_commit` as this session has them.
pub async fn synchronous(client: &Client) -> Answer<(String, String)> {
    let sql = "SELECT current_setting('synchronous_standby_names'), current_setting('synchronous_commit')";
    let row = client.query_one(sql, &[]).await?;
    Ok((row.get(0), row.get(1)))
}

/// The settings that differ from PostgreSQL's defaults and affect its behaviour. Settings that differ in every cluster and mean nothing are
/// left out: ports, paths, connection strings, names. For build options such as assertions and block sizes the default in `pg_settings` is
/// the build's own value, so they are compared with the values of a usual build.
pub async fn settings(client: &Client) -> Answer<ServerSettings> {
    let rows = client
        .query(
            "SELECT name, current_setting(name) FROM pg_settings \
             WHERE setting IS DISTINCT FROM CASE name WHEN 'debug_assertions' THEN 'off' WHEN 'block_size' THEN '8192' \
                                                      WHEN 'wal_block_size' THEN '8192' ELSE boot_val END \
               AND source NOT IN ('session', 'client') \
               AND name NOT IN ('port', 'cluster_name', 'primary_conninfo', 'primary_slot_name', 'data_directory', \
                                'config_file', 'hba_file', 'ident_file', 'external_pid_file', 'application_name', \
                                'transaction_isolation', 'transaction_read_only', 'transaction_deferrable') \
             ORDER BY name",
            &[],
        )
        .await?;
    let version = "SELECT current_setting('server_version')";
    Ok(ServerSettings {
        version: client.query_one(version, &[]).await?.get(0),
        settings: rows.iter().map(|row| (row.get(0), row.get(1))).collect(),
    })
}
