//! What is asked of a server that somebody else made, and the one schema that is made there.

use tokio_postgres::Client;

use super::provisioning::{Answer, execute, publication};
use super::quote_literal;
use crate::escape::quote_ident;

/// What a server says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Such as `17.5`.
    pub version: String,
    /// Such as 170005.
    pub version_number: i32,
    pub in_recovery: bool,
    /// The same on a primary and all that descends from it.
    pub system: String,
    /// On which a primary writes; `None` of a standby.
    pub timeline: Option<u32>,
    pub user: String,
    pub database: String,
    /// Whether this user may make a schema in this database.
    pub may_create: bool,
    /// Whether this user sees other users' rows in the statistics.
    pub may_monitor: bool,
    /// Connections that this user may still open.
    pub free_connections: i64,
    /// `synchronous_standby_names` and `synchronous_commit` of a new session.
    pub standby_names: String,
    pub level: String,
    pub wal_level: String,
}

/// What a server says of itself to this user.
pub async fn identity(client: &Client) -> Answer<Identity> {
    let sql = "SELECT current_setting('server_version'), current_setting('server_version_num')::int, \
                 pg_is_in_recovery(), (SELECT system_identifier::text FROM pg_control_system()), \
                 current_user::text, current_database()::text, \
                 has_database_privilege(current_database(), 'CREATE'), \
                 pg_has_role('pg_monitor', 'USAGE'), \
                 current_setting('max_connections')::bigint \
                   - current_setting('superuser_reserved_connections')::bigint \
                   - (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'), \
                 current_setting('synchronous_standby_names'), current_setting('synchronous_commit'), \
                 current_setting('wal_level'), \
                 CASE WHEN NOT pg_is_in_recovery() THEN pg_walfile_name(pg_current_wal_lsn()) END";
    let row = client.query_one(sql, &[]).await?;
    Ok(Identity {
        version: row.get(0),
        version_number: row.get(1),
        in_recovery: row.get(2),
        system: row.get(3),
        user: row.get(4),
        database: row.get(5),
        may_create: row.get(6),
        may_monitor: row.get(7),
        free_connections: row.get(8),
        standby_names: row.get(9),
        level: row.get(10),
        wal_level: row.get(11),
        timeline: row.get::<_, Option<&str>>(12).and_then(timeline),
    })
}

/// The timeline in the name of a WAL file.
fn timeline(file: &str) -> Option<u32> {
    u32::from_str_radix(file.get(..8)?, 16).ok()
}

/// From where a standby receives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The connection string without its secrets.
    pub conninfo: String,
    /// The name under which it does so where the string says nothing else.
    pub cluster_name: String,
    pub timeline: u32,
}

/// From where a standby receives. `None`: from nobody.
pub async fn source(client: &Client) -> Answer<Option<Source>> {
    let sql = "SELECT coalesce(conninfo, ''), current_setting('cluster_name'), received_tli FROM pg_stat_wal_receiver";
    let row = client.query_opt(sql, &[]).await?;
    Ok(row.map(|row| Source {
        conninfo: row.get(0),
        cluster_name: row.get(1),
        timeline: row.get::<_, i32>(2).cast_unsigned(),
    }))
}

/// A standby that streams from this server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receiver {
    pub name: String,
    /// From where it connects; `None`: through a Unix-domain socket.
    pub address: Option<String>,
}

/// The standbys that stream from this server.
pub async fn receivers(client: &Client) -> Answer<Vec<Receiver>> {
    let sql = "SELECT application_name, host(client_addr) FROM pg_stat_replication r \
               WHERE state = 'streaming' \
                 AND NOT EXISTS (SELECT FROM pg_replication_slots s WHERE s.active_pid = r.pid AND slot_type = 'logical') \
               ORDER BY 1";
    let rows = client.query(sql, &[]).await?;
    let rows = rows.iter().map(|row| Receiver {
        name: row.get(0),
        address: row.get(1),
    });
    Ok(rows.collect())
}

/// Takes the lock that one replbench at a time holds in a database, until its session ends. `false`: another one has it. From then on
/// no statement of the session takes longer than a minute: each may have to wait for somebody else's lock.
pub async fn lock(client: &Client) -> Answer<bool> {
    execute(client, "SET statement_timeout = '1min'").await?;
    let sql = "SELECT pg_try_advisory_lock(hashtextextended('replbench', 0))";
    Ok(client.query_one(sql, &[]).await?.get(0))
}

/// The comment on a schema; `None` where there is no such schema.
pub async fn schema_comment(client: &Client, schema: &str) -> Answer<Option<String>> {
    let sql = "SELECT coalesce(obj_description(oid, 'pg_namespace'), '') FROM pg_namespace WHERE nspname = $1";
    let row = client.query_opt(sql, &[&schema]).await?;
    Ok(row.map(|row| row.get(0)))
}

/// Makes a schema with a comment, both or neither.
pub fn create_schema(schema: &str, comment: &str) -> String {
    let named = quote_ident(schema);
    let comment = comment_schema(schema, comment);
    format!("BEGIN; CREATE SCHEMA {named}; {comment}; COMMIT")
}

/// Removes a schema with all that is in it.
pub fn drop_schema(schema: &str) -> String {
    format!("DROP SCHEMA {} CASCADE", quote_ident(schema))
}

pub fn comment_schema(schema: &str, comment: &str) -> String {
    let (schema, comment) = (quote_ident(schema), quote_literal(comment));
    format!("COMMENT ON SCHEMA {schema} IS {comment}")
}

/// Whether this user may change `synchronous_standby_names` for the whole server.
pub async fn may_set_standby_names(client: &Client, version_number: i32) -> Answer<bool> {
    // Older servers have no such privilege: a superuser may.
    let sql = if version_number >= 150_000 {
        "SELECT has_parameter_privilege('synchronous_standby_names', 'ALTER SYSTEM') \
                AND has_function_privilege('pg_reload_conf()', 'EXECUTE')"
    } else {
        "SELECT rolsuper FROM pg_roles WHERE rolname = current_user"
    };
    Ok(client.query_one(sql, &[]).await?.get(0))
}

/// Whether this user may pause and resume the replay of a standby.
pub async fn may_pause_replay(client: &Client) -> Answer<bool> {
    let sql = "SELECT has_function_privilege('pg_wal_replay_pause()', 'EXECUTE') \
                  AND has_function_privilege('pg_wal_replay_resume()', 'EXECUTE')";
    Ok(client.query_one(sql, &[]).await?.get(0))
}

/// Whether this user may make subscriptions.
pub async fn may_subscribe(client: &Client) -> Answer<bool> {
    // Older servers have no such role: a superuser may.
    let sql = "SELECT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) \
                   OR EXISTS (SELECT FROM pg_roles \
                              WHERE rolname = 'pg_create_subscription' AND pg_has_role(oid, 'USAGE'))";
    Ok(client.query_one(sql, &[]).await?.get(0))
}

/// The first of these names that a slot or a subscription of this server has.
pub async fn taken(client: &Client, names: &[String]) -> Answer<Option<String>> {
    let sql = "SELECT name::text FROM (SELECT slot_name FROM pg_replication_slots \
                                       UNION ALL SELECT subname FROM pg_subscription) all_names (name) \
               WHERE name = ANY ($1)";
    let rows = client.query(sql, &[&names]).await?;
    Ok(rows.first().map(|row| row.get(0)))
}

/// Makes a publication with a comment, both or neither. `tables` are quoted and qualified by the caller.
pub fn create_publication(name: &str, comment: &str, tables: &[String]) -> String {
    let create = publication(name, tables);
    let (name, comment) = (quote_ident(name), quote_literal(comment));
    format!("BEGIN; {create}; COMMENT ON PUBLICATION {name} IS {comment}; COMMIT")
}

/// Removes a publication if it is there and bears this comment.
pub async fn drop_publication(client: &Client, name: &str, comment: &str) -> Answer<()> {
    let sql = "SELECT FROM pg_publication WHERE pubname = $1 AND obj_description(oid, 'pg_publication') = $2";
    let found = client.query_opt(sql, &[&name, &comment]).await?;
    if found.is_some() {
        execute(client, &format!("DROP PUBLICATION {}", quote_ident(name))).await?;
    }
    Ok(())
}

/// Removes a subscription if it is there, with its slot where the publisher can be reached.
pub async fn drop_subscription(client: &Client, name: &str) -> Answer<()> {
    let sql = "SELECT FROM pg_subscription WHERE subname = $1";
    if client.query_opt(sql, &[&name]).await?.is_none() {
        return Ok(());
    }
    let name = quote_ident(name);
    let drop = format!("DROP SUBSCRIPTION {name}");
    if execute(client, &drop).await.is_ok() {
        return Ok(());
    }
    for statement in [
        format!("ALTER SUBSCRIPTION {name} DISABLE"),
        format!("ALTER SUBSCRIPTION {name} SET (slot_name = NONE)"),
        drop,
    ] {
        execute(client, &statement).await?;
    }
    Ok(())
}

/// Removes those of these logical slots of the database that are there.
pub async fn drop_slots(client: &Client, names: &[String]) -> Answer<()> {
    let sql = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots \
               WHERE slot_name = ANY ($1) AND slot_type = 'logical' AND database = current_database()";
    client.query(sql, &[&names]).await?;
    Ok(())
}
