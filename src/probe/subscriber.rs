//! How the rows of a subscriber show commits: which rows a look asks for, and which commits its answer shows.

use std::collections::HashMap;
use std::sync::Arc;

use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error};

use super::TrackedTable;
use super::by_key::ByKey;
use super::by_row::ByRow;
use super::tracker::CommitVisibility;
use crate::clock::Stamp;
use crate::pg::Uuid;
use crate::sample::{ChangedRow, Commit, RowChange, RowKey};

/// The commits of one subscriber. Inserts with growing keys are recognised by the new rows, all other commits by the keys of their rows.
#[derive(Debug)]
pub(super) struct SubscriberTracker {
    by_row: ByRow,
    by_key: ByKey,
    pub(super) keys: Arc<[KeyKind]>,
    pub(super) tables: Arc<[TrackedTable]>,
}

/// The type of a table's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyKind {
    Number,
    Uuid,
}

impl SubscriberTracker {
    /// `highest`: the highest key of each table before the first commit, from [`highest_rows`].
    pub(super) fn new(
        highest: Vec<i64>,
        keys: Arc<[KeyKind]>,
        tables: Arc<[TrackedTable]>,
    ) -> Self {
        Self {
            by_row: ByRow::new(highest),
            by_key: ByKey::default(),
            keys,
            tables,
        }
    }

    pub(super) fn outstanding(&self) -> usize {
        self.by_row.outstanding() + self.by_key.outstanding()
    }

    pub(super) fn commit(&mut self, commit: Commit) -> Option<CommitVisibility> {
        let row = commit.row?;
        if let ChangedRow {
            table,
            key: RowKey::Number(key),
            change: RowChange::Inserted,
        } = row
        {
            return self.by_row.commit(commit, table, key);
        }
        self.by_key.commit(commit, row);
        None
    }

    /// What the next look asks for, by table.
    pub(super) fn question(&mut self) -> Vec<Asked> {
        let by_key = self.by_key.question(self.keys.len());
        let by_row = self.by_row.question().into_iter();
        let asked = by_row
            .zip(by_key)
            .map(|((above, gaps), keys)| Asked { above, gaps, keys });
        asked.collect()
    }

    /// Takes the rows that a look found.
    pub(super) fn poll(
        &mut self,
        start: Stamp,
        end: Stamp,
        rows: &[FoundRow],
        out: &mut Vec<CommitVisibility>,
    ) {
        let (mut new, mut found) = (Vec::new(), HashMap::new());
        for row in rows {
            let Some(table) = row.table.and_then(|it| u8::try_from(it).ok()) else {
                continue;
            };
            match row.key {
                Some(RowKey::Number(number)) if row.is_new => new.push((table, number)),
                Some(key) => {
                    found.insert((table, key), row.version);
                }
                None => {}
            }
        }
        let before = out.len();
        self.by_row.poll(start, end, &new, out);
        let is_to_come = |(table, key)| match key {
            RowKey::Number(row) => self.by_row.awaits(table, row),
            RowKey::Uuid(_) => false,
        };
        self.by_key.poll(start, end, &found, is_to_come, out);
        // Transactions are applied in the order of their commits.
        let latest = out[before..].iter().map(|seen| seen.commit.sent).max();
        if let Some(sent) = latest {
            // In a table from which nothing is deleted, a missing row is a lost one: its commit stays unseen.
            let may_be_gone = |(table, key): (u8, RowKey)| {
                let table_of = self.tables.get(usize::from(table));
                table_of.is_some_and(|it| it.is_deleted) && !found.contains_key(&(table, key))
            };
            self.by_row.applied(sent, end, may_be_gone, out);
            self.by_key.applied(sent, end, may_be_gone, out);
        }
    }

    pub(super) fn oldest(&self) -> Option<Commit> {
        let both = [self.by_row.oldest(), self.by_key.oldest()];
        both.into_iter().flatten().min_by_key(|commit| commit.acked)
    }
}

/// A row that a look found: the columns of [`rows_sql`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FoundRow {
    pub(super) table: Option<u16>,
    /// Whether the look asked for the row as a new row.
    pub(super) is_new: bool,
    pub(super) key: Option<RowKey>,
    pub(super) version: Option<i64>,
}

/// What one look asks of a table.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Asked {
    /// The highest key that has been seen; new rows have a higher one.
    above: i64,
    /// Keys below `above` whose rows have not been seen.
    gaps: Vec<i64>,
    /// Keys of rows that awaited commits changed.
    keys: Vec<RowKey>,
}

/// How the rows of a table are looked for.
#[derive(Debug, Clone, Copy)]
struct Lookup {
    /// Whether to look for rows above the highest one seen, and for those in the gaps below it.
    new: bool,
    /// Whether to look for rows by the keys that commits changed.
    by_key: bool,
}

impl Lookup {
    fn of(table: &TrackedTable, kind: KeyKind) -> Self {
        let is_number = kind == KeyKind::Number;
        Self {
            new: table.is_inserted && is_number,
            by_key: table.is_changed || (table.is_inserted && !is_number),
        }
    }
}

/// The query for the rows of all tables. Its columns: index of the table, whether the row was looked for as a new row, its key as a
/// number, its key as a UUID, its version, and NULL. One more row has only the last column, the server's clock after the snapshot was
/// taken. [`parameters`] makes the parameters.
pub(super) fn rows_sql(tables: &[TrackedTable], keys: &[KeyKind]) -> String {
    let mut arms = Vec::new();
    let mut number = 0;
    let mut next = || {
        number += 1;
        number
    };
    for (index, (table, kind)) in tables.iter().zip(keys).enumerate() {
        let TrackedTable { name, key, .. } = table;
        let lookup = Lookup::of(table, *kind);
        if lookup.new {
            let new = format!(
                "SELECT {index}::int2, true, {key}::bigint, NULL::uuid, NULL::bigint, NULL::timestamptz FROM {name}"
            );
            arms.push(format!("{new} WHERE {key} > ${}::bigint", next()));
            arms.push(format!("{new} WHERE {key} = ANY(${}::bigint[])", next()));
        }
        if lookup.by_key {
            let version = table.version.as_deref().unwrap_or("NULL");
            let (columns, of) = match kind {
                KeyKind::Number => (format!("{key}::bigint, NULL::uuid"), "bigint"),
                KeyKind::Uuid => (format!("NULL::bigint, {key}"), "uuid"),
            };
            arms.push(format!(
                "SELECT {index}::int2, false, {columns}, {version}::bigint, NULL::timestamptz FROM {name} WHERE {key} = ANY(${}::{of}[])",
                next()
            ));
        }
    }
    arms.push(
        "SELECT NULL::int2, false, NULL::bigint, NULL::uuid, NULL::bigint, clock_timestamp()"
            .into(),
    );
    arms.join(" UNION ALL ")
}

/// A parameter and its type.
pub(super) type Typed<'a> = (Box<dyn ToSql + Sync + 'a>, Type);

/// The parameters of [`rows_sql`].
pub(super) fn parameters<'a>(
    keys: &[KeyKind],
    tables: &[TrackedTable],
    asked: &'a [Asked],
) -> Vec<Typed<'a>> {
    let mut parameters: Vec<Typed<'a>> = Vec::new();
    for ((table, kind), asked) in tables.iter().zip(keys).zip(asked) {
        let lookup = Lookup::of(table, *kind);
        if lookup.new {
            parameters.push((Box::new(asked.above), Type::INT8));
            parameters.push((Box::new(&asked.gaps), Type::INT8_ARRAY));
        }
        if lookup.by_key {
            parameters.push(match kind {
                KeyKind::Number => (Box::new(numbers(&asked.keys)), Type::INT8_ARRAY),
                KeyKind::Uuid => (Box::new(uuids(&asked.keys)), Type::UUID_ARRAY),
            });
        }
    }
    parameters
}

fn numbers(keys: &[RowKey]) -> Vec<i64> {
    let number = |key: &RowKey| match key {
        RowKey::Number(number) => Some(*number),
        RowKey::Uuid(_) => None,
    };
    keys.iter().filter_map(number).collect()
}

fn uuids(keys: &[RowKey]) -> Vec<Uuid> {
    let uuid = |key: &RowKey| match key {
        RowKey::Uuid(uuid) => Some(Uuid(*uuid)),
        RowKey::Number(_) => None,
    };
    keys.iter().filter_map(uuid).collect()
}

/// The type of each table's key.
pub(super) async fn key_kinds(
    client: &Client,
    tables: &[TrackedTable],
) -> Result<Arc<[KeyKind]>, Error> {
    let mut kinds = Vec::with_capacity(tables.len());
    for TrackedTable { name, key, .. } in tables {
        let key = client.prepare(&format!("SELECT {key} FROM {name}")).await?;
        let is_uuid = key
            .columns()
            .first()
            .is_some_and(|it| *it.type_() == Type::UUID);
        kinds.push(if is_uuid {
            KeyKind::Uuid
        } else {
            KeyKind::Number
        });
    }
    Ok(kinds.into())
}

/// The highest key of each table whose new rows are looked for, and 0 for the others.
pub(super) async fn highest_rows(
    client: &Client,
    tables: &[TrackedTable],
    keys: &[KeyKind],
) -> Result<Vec<i64>, Error> {
    let mut highest = Vec::with_capacity(tables.len());
    for (table, kind) in tables.iter().zip(keys) {
        if !Lookup::of(table, *kind).new {
            highest.push(0);
            continue;
        }
        let TrackedTable { name, key, .. } = table;
        let sql = format!("SELECT coalesce(max({key}), 0)::bigint FROM {name}");
        highest.push(client.query_one(&sql, &[]).await?.get(0));
    }
    Ok(highest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_parameter_of_the_sql_has_a_value() {
        let table = |is_inserted, is_changed| TrackedTable {
            name: "public.\"t\"".into(),
            key: "\"id\"".into(),
            version: None,
            is_inserted,
            is_changed,
            is_deleted: false,
        };
        for (is_inserted, is_changed) in
            [(true, false), (false, true), (true, true), (false, false)]
        {
            for kind in [KeyKind::Number, KeyKind::Uuid] {
                let tables = [table(is_inserted, is_changed), table(true, true)];
                let kinds = [kind, KeyKind::Number];
                let asked = || Asked {
                    above: 0,
                    gaps: Vec::new(),
                    keys: Vec::new(),
                };
                let asked = [asked(), asked()];
                let given = parameters(&kinds, &tables, &asked).len();
                let sql = rows_sql(&tables, &kinds);
                assert!(sql.contains(&format!("${given}::")), "{sql}");
                assert!(!sql.contains(&format!("${}", given + 1)), "{sql}");
            }
        }
    }
}
