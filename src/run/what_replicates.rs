//! Which kinds of change arrive on replicas: each is made on a primary and looked for on a standby and on a subscriber, next to what
//! PostgreSQL's documentation says.

use std::time::Duration;

use tokio_postgres::error::SqlState;

use super::{Options, RunError};
use crate::cluster::{Binaries, Cluster, ClusterConfig, RunningNode, create_reachable};
use crate::pg::{self, Session};
use crate::topology::{NodeCounts, Role};

const ANSWER: Duration = Duration::from_secs(10);
const CATCH_UP: Duration = Duration::from_mins(1);

/// The tables and the sequence that exist on all nodes from the beginning. Only the first two tables are published.
const SCHEMA: [&str; 4] = [
    "CREATE TABLE thing (id bigint PRIMARY KEY, name text NOT NULL)",
    "CREATE TABLE emptied (id bigint PRIMARY KEY)",
    "CREATE TABLE untouched (id bigint PRIMARY KEY, name text NOT NULL)",
    "CREATE SEQUENCE counter",
];
const PUBLISHED: [&str; 2] = ["public.thing", "public.emptied"];

/// A kind of change.
struct Change {
    name: &'static str,
    /// The statements that make the change, sent one after the other in one session.
    sql: &'static [&'static str],
    /// A query that returns one boolean: whether the change has arrived.
    look: &'static str,
    /// Whether the change arrives on a standby according to the documentation of all supported versions.
    standby: bool,
    /// Whether the change arrives on a subscriber according to the documentation of all supported versions.
    subscriber: bool,
}

/// A change of the tables' contents, which physical and logical replication both carry.
const fn of_rows(name: &'static str, sql: &'static [&'static str], look: &'static str) -> Change {
    Change {
        name,
        sql,
        look,
        standby: true,
        subscriber: true,
    }
}

/// A change that logical replication leaves out.
const fn physical(name: &'static str, sql: &'static [&'static str], look: &'static str) -> Change {
    Change {
        subscriber: false,
        ..of_rows(name, sql, look)
    }
}

/// A change that stays on the primary.
const fn nowhere(name: &'static str, sql: &'static [&'static str], look: &'static str) -> Change {
    Change {
        standby: false,
        ..physical(name, sql, look)
    }
}

static CHANGES: [Change; 21] = [
    of_rows(
        "INSERT",
        &["INSERT INTO thing VALUES (1, 'a'), (2, 'b')"],
        "SELECT EXISTS (SELECT FROM thing WHERE id = 1)",
    ),
    of_rows(
        "UPDATE",
        &["UPDATE thing SET name = 'changed' WHERE id = 1"],
        "SELECT EXISTS (SELECT FROM thing WHERE id = 1 AND name = 'changed')",
    ),
    of_rows(
        "DELETE",
        &["DELETE FROM thing WHERE id = 2"],
        "SELECT NOT EXISTS (SELECT FROM thing WHERE id = 2)",
    ),
    of_rows(
        "TRUNCATE",
        &[
            "INSERT INTO emptied VALUES (1)",
            "TRUNCATE emptied",
            "INSERT INTO emptied VALUES (2)",
        ],
        "SELECT array_agg(id) = '{2}' FROM emptied",
    ),
    physical(
        "CREATE TABLE",
        &["CREATE TABLE later (id bigint PRIMARY KEY)"],
        "SELECT to_regclass('later') IS NOT NULL",
    ),
    physical(
        "ADD COLUMN",
        &["ALTER TABLE untouched ADD COLUMN note text"],
        "SELECT EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'untouched'::regclass AND attname = 'note')",
    ),
    physical(
        "index",
        &["CREATE INDEX untouched_name ON untouched (name)"],
        "SELECT to_regclass('untouched_name') IS NOT NULL",
    ),
    physical(
        "constraint",
        &["ALTER TABLE untouched ADD CONSTRAINT has_name CHECK (name <> '')"],
        "SELECT EXISTS (SELECT FROM pg_constraint WHERE conname = 'has_name')",
    ),
    physical(
        "function",
        &["CREATE FUNCTION answer() RETURNS int LANGUAGE sql AS 'SELECT 42'"],
        "SELECT to_regproc('answer') IS NOT NULL",
    ),
    physical(
        "trigger",
        &[
            "CREATE FUNCTION quiet() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
            "CREATE TRIGGER quiet BEFORE INSERT ON untouched FOR EACH ROW EXECUTE FUNCTION quiet()",
        ],
        "SELECT EXISTS (SELECT FROM pg_trigger WHERE tgname = 'quiet')",
    ),
    physical(
        "view",
        &["CREATE VIEW names AS SELECT name FROM thing"],
        "SELECT to_regclass('names') IS NOT NULL",
    ),
    physical(
        "materialized view",
        &["CREATE MATERIALIZED VIEW counted AS SELECT count(*) AS n FROM thing"],
        "SELECT n = 1 FROM counted",
    ),
    physical(
        "sequence's value",
        &["SELECT nextval('counter') FROM generate_series(1, 100)"],
        "SELECT is_called AND last_value >= 100 FROM counter",
    ),
    physical(
        "rows of a table that is not published",
        &["INSERT INTO untouched VALUES (1, 'a')"],
        "SELECT EXISTS (SELECT FROM untouched)",
    ),
    physical(
        "large object",
        &["SELECT lo_from_bytea(4711, 'x')"],
        "SELECT EXISTS (SELECT FROM pg_largeobject_metadata WHERE oid = 4711)",
    ),
    physical(
        "role",
        &["CREATE ROLE newcomer NOLOGIN"],
        "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = 'newcomer')",
    ),
    physical(
        "ALTER DATABASE SET",
        &["ALTER DATABASE replbench SET work_mem = '5MB'"],
        "SELECT EXISTS (SELECT FROM pg_db_role_setting WHERE setconfig @> '{work_mem=5MB}')",
    ),
    physical(
        "database",
        &["CREATE DATABASE another"],
        "SELECT EXISTS (SELECT FROM pg_database WHERE datname = 'another')",
    ),
    nowhere(
        "rows of an unlogged table",
        &[
            "CREATE UNLOGGED TABLE light (id int)",
            "INSERT INTO light VALUES (1)",
        ],
        "SELECT EXISTS (SELECT FROM light)",
    ),
    nowhere(
        "rows of a temporary table",
        &[
            "CREATE TEMPORARY TABLE passing (id int)",
            "INSERT INTO passing VALUES (1)",
        ],
        "SELECT EXISTS (SELECT FROM passing)",
    ),
    nowhere(
        "ALTER SYSTEM",
        &["ALTER SYSTEM SET application_name = 'of the primary'"],
        "SELECT EXISTS (SELECT FROM pg_file_settings WHERE name = 'application_name' AND setting = 'of the primary')",
    ),
];

/// What was seen of one kind of change, or of a write on the replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub name: &'static str,
    pub standby: Side,
    pub subscriber: Side,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Side {
    pub arrived: bool,
    /// Whether the change should arrive according to the documentation.
    pub documented: bool,
}

impl Side {
    pub fn is_as_documented(self) -> bool {
        self.arrived == self.documented
    }
}

/// Tries all kinds of changes on a new cluster. Returns the version of PostgreSQL and what was seen.
pub async fn what_replicates(options: &Options) -> Result<(String, Vec<Seen>), RunError> {
    let binaries = Binaries::find(options.pg_bindir.as_deref())?;
    let version = binaries.version().to_owned();
    let counts = NodeCounts {
        standbys: 1,
        subscribers: 1,
        ..NodeCounts::default()
    };
    let results = options.data_dir.as_ref().unwrap_or(&options.results);
    // If the directory cannot be made, the cluster reports that.
    let _ = create_reachable(results);
    let place = results.join(format!(".what-replicates-{}", std::process::id()));
    let config = ClusterConfig {
        schema: SCHEMA.map(Into::into).to_vec(),
        publish: PUBLISHED.map(Into::into).to_vec(),
        ..ClusterConfig::new(counts, binaries, place)
    };
    let cluster = Cluster::start(config).await?;
    let seen = look_at_all(&cluster).await;
    let stopped = cluster.stop().await;
    let seen = seen?;
    stopped?;
    Ok((version, seen))
}

async fn look_at_all(cluster: &Cluster) -> Result<Vec<Seen>, RunError> {
    let of_role = |role| {
        let mut nodes = cluster.nodes().iter();
        nodes
            .find(|it: &&RunningNode| it.node.role == role)
            .expect("it was asked for")
    };
    let (primary, standby, subscriber) = (
        session(cluster.primary()).await?,
        session(of_role(Role::Standby)).await?,
        session(of_role(Role::Subscriber)).await?,
    );
    let mut seen = Vec::new();
    for change in &CHANGES {
        for sql in change.sql {
            let done = primary.client().batch_execute(sql).await;
            done.map_err(|error| RunError::Check(pg::describe(&error)))?;
        }
    }
    cluster.await_caught_up(CATCH_UP).await?;
    for change in &CHANGES {
        seen.push(Seen {
            name: change.name,
            standby: look(&standby, change.look, change.standby).await?,
            subscriber: look(&subscriber, change.look, change.subscriber).await?,
        });
    }
    seen.push(Seen {
        name: "a write on the replica itself",
        standby: write(&standby, false).await?,
        subscriber: write(&subscriber, true).await?,
    });
    for session in [primary, standby, subscriber] {
        session.close().await;
    }
    Ok(seen)
}

/// Whether a change has arrived. A relation that does not exist, or that a standby cannot read because it is unlogged, counts as having no
/// rows.
async fn look(session: &Session, sql: &str, documented: bool) -> Result<Side, RunError> {
    let arrived = match session.client().query_one(sql, &[]).await {
        Ok(row) => row.get::<_, Option<bool>>(0) == Some(true),
        Err(error) => match error.code() {
            Some(&SqlState::UNDEFINED_TABLE | &SqlState::FEATURE_NOT_SUPPORTED) => false,
            _ => return Err(RunError::Check(pg::describe(&error))),
        },
    };
    Ok(Side {
        arrived,
        documented,
    })
}

/// Whether a node takes a write. A standby refuses writes with SQLSTATE 25006.
async fn write(session: &Session, documented: bool) -> Result<Side, RunError> {
    let written = session
        .client()
        .batch_execute("INSERT INTO untouched (id, name) VALUES (9, 'x')");
    let arrived = match written.await {
        Ok(()) => true,
        Err(error) if error.code() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION) => false,
        Err(error) => return Err(RunError::Check(pg::describe(&error))),
    };
    Ok(Side {
        arrived,
        documented,
    })
}

async fn session(node: &RunningNode) -> Result<Session, RunError> {
    let connected = pg::connect(&node.endpoint, "replbench what-replicates", None, ANSWER).await;
    Ok(connected?)
}
