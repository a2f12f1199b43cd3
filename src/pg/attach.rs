//! Queries and statements for a server that replbench did not make, and the one schema that replbench makes there.

use tokio_postgres::Client;

use super::provisioning::{Answer, execute, publication};
use super::quote_literal;
use crate::escape::quote_ident;

/// What a server reports about itself and about the rights of the connected user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The server's version, such as `17.5`.
    pub version: String,
    /// `server_version_num`, such as 170005.
    pub version_number: i32,
    pub in_recovery: bool,
    /// The system identifier, which a primary and all its physical replicas share.
    pub system: String,
    /// The timeline on which a primary writes; `None` for a standby.
    pub timeline: Option<u32>,
    pub user: String,
    pub database: String,
    /// Whether this user may create a schema in this database.
    pub may_create: bool,
    /// Whether this user sees other users' rows in the statistics.
    pub may_monitor: bool,
    /// The number of connections that this user may still open.
    pub free_connections: i64,
    /// `synchronous_standby_names` and `synchronous_commit` of a new session.
    pub standby_names: String,
    pub level: String,
    pub wal_level: String,
}

/// Reads the identity of a server, as the connected user sees it.
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

/// The server from which a standby receives WAL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The connection string without its secrets.
    pub conninfo: String,
    /// The `application_name` of the standby, for a connection string that contains none.
    pub cluster_name: String,
    pub timeline: u32,
}

/// Reads from where a standby receives WAL. `None` if it has no walreceiver.
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
    /// The address from which the standby connects; `None` if it connects through a Unix-domain socket.
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

/// Takes the lock that only one replbench at a time holds in a database, until the session ends. `false` if another replbench holds it.
/// From then on no statement of the session may take longer than a minute, because each may have to wait for another user's lock.
pub async fn lock(client: &Client) -> Answer<bool> {
    execute(client, "SET statement_timeout = '1min'").await?;
    let sql = "SELECT pg_try_advisory_lock(hashtextextended('replbench', 0))";
    Ok(client.query_one(sql, &[]).await?.get(0))
}

/// The comment on a schema: empty if the schema has none, `None` if the schema does not exist.
pub async fn schema_comment(client: &Client, schema: &str) -> Answer<Option<String>> {
    let sql = "SELECT coalesce(obj_description(oid, 'pg_namespace'), '') FROM pg_namespace WHERE nspname = $1";
    let row = client.query_opt(sql, &[&schema]).await?;
    Ok(row.map(|row| row.get(0)))
}

/// Statements that create a schema and its comment in one transaction.
pub fn create_schema(schema: &str, comment: &str) -> String {
    let named = quote_ident(schema);
    let comment = comment_schema(schema, comment);
    format!("BEGIN; CREATE SCHEMA {named}; {comment}; COMMIT")
}

/// The statement that drops a schema and everything in it.
pub fn drop_schema(schema: &str) -> String {
    format!("DROP SCHEMA {} CASCADE", quote_ident(schema))
}

pub fn comment_schema(schema: &str, comment: &str) -> String {
    let (schema, comment) = (quote_ident(schema), quote_literal(comment));
    format!("COMMENT ON SCHEMA {schema} IS {comment}")
}

/// Whether this user may change `synchronous_standby_names` for the whole server.
pub async fn may_set_standby_names(client: &Client, version_number: i32) -> Answer<bool> {
    // Servers before version 15 have no such privilege: only a superuser may change the setting.
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

/// Whether this user may create subscriptions.
pub async fn may_subscribe(client: &Client) -> Answer<bool> {
    // Servers before version 16 have no such role: only a superuser may create subscriptions.
    let sql = "SELECT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) \
                   OR EXISTS (SELECT FROM pg_roles \
                              WHERE rolname = 'pg_create_subscription' AND pg_has_role(oid, 'USAGE'))";
    Ok(client.query_one(sql, &[]).await?.get(0))
}

/// One of these names that a slot or a subscription of this server already has; `None` if all of them are free.
pub async fn taken(client: &Client, names: &[String]) -> Answer<Option<String>> {
    let sql = "SELECT name::text FROM (SELECT slot_name FROM pg_replication_slots \
                                       UNION ALL SELECT subname FROM pg_subscription) all_names (name) \
               WHERE name = ANY ($1)";
    let rows = client.query(sql, &[&names]).await?;
    Ok(rows.first().map(|row| row.get(0)))
}

/// Statements that create a publication and its comment in one transaction. `tables` are quoted and qualified by the caller.
pub fn create_publication(name: &str, comment: &str, tables: &[String]) -> String {
    let create = publication(name, tables);
    let (name, comment) = (quote_ident(name), quote_literal(comment));
    format!("BEGIN; {create}; COMMENT ON PUBLICATION {name} IS {comment}; COMMIT")
}

/// Drops a publication if it exists and has this comment.
pub async fn drop_publication(client: &Client, name: &str, comment: &str) -> Answer<()> {
    let sql = "SELECT FROM pg_publication WHERE pubname = $1 AND obj_description(oid, 'pg_publication') = $2";
    let found = client.query_opt(sql, &[&name, &comment]).await?;
    if found.is_some() {
        execute(client, &format!("DROP PUBLICATION {}", quote_ident(name))).await?;
    }
    Ok(())
}

/// Drops a subscription if it exists, together with its slot if the publisher can be reached.
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

/// Drops the logical slots of this database that have one of these names.
pub async fn drop_slots(client: &Client, names: &[String]) -> Answer<()> {
    let sql = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots \
               WHERE slot_name = ANY ($1) AND slot_type = 'logical' AND database = current_database()";
    client.query(sql, &[&names]).await?;
    Ok(())
}
