//! The tables of a workload: the tables that a profile lists, followed by library tables that its transactions need.

use std::ops::Range;

use toml::Spanned;

use super::diagnostics::{Diagnostics, boolean, identifier, integer, text};
use super::entry::{Entry, LIBRARY, Text, word_of};
use super::generator;
use super::sql;
use super::wire::{self, Field, Value};
use super::workload::{Origin, Table, Transaction};

/// The default number of rows of a table whose rows transactions choose. Other tables are empty by default.
const ROWS: u64 = 10_000;
const ROW_BYTES: u32 = 100;

/// A table whose number of rows may still depend on the transactions.
pub(super) struct OpenTable {
    pub(super) value: Table,
    /// The place of the table in the profile, or of the transaction that needs the table.
    span: Range<usize>,
    /// The number of rows and the place where it is written; `None` if it is not given.
    rows: Option<(u64, Range<usize>)>,
}

pub(super) fn listed_tables(
    diagnostics: &mut Diagnostics,
    text: Text<'_>,
    written: &[Spanned<wire::Table>],
) -> Vec<OpenTable> {
    let mut found: Vec<OpenTable> = Vec::new();
    for own in written {
        let entry = Entry::new(diagnostics, own, text, &LIBRARY.table, |it| &it.kind);
        if let Some(table) = entry.and_then(|entry| table(diagnostics, &entry)) {
            if let Some(title) = clash(&table.value, &found) {
                diagnostics.refuse(own.span(), title, CLASH_HELP);
                continue;
            }
            found.push(table);
        }
    }
    found
}

const CLASH_HELP: &str = "each table has a name of its own, and each `kind` stands once";

/// Why a table conflicts with the other tables; `None` if it does not.
fn clash(table: &Table, others: &[OpenTable]) -> Option<String> {
    let others = || others.iter().map(|it| &it.value);
    if others().any(|other| other.id == table.id && other.id != other.name) {
        Some(format!("a second table of kind \"{}\"", table.id))
    } else if others().any(|other| other.name == table.name || other.id == table.id) {
        Some(format!("a second table named `{}`", table.name))
    } else {
        None
    }
}

fn table(diagnostics: &mut Diagnostics, entry: &Entry<'_, wire::Table>) -> Option<OpenTable> {
    const DDL: (&str, &str) = (
        "ddl",
        "give the statements that make the table, or take one that comes with replbench by its `kind`: product, users, orders",
    );
    const KEY: (&str, &str) = (
        "key",
        "name the column by which a row is found, such as key = \"id\": by it a subscriber shows a commit",
    );
    const NAME: (&str, &str) = ("name", "give one");
    let before = diagnostics.count();
    let name = entry.required(diagnostics, NAME, |it| &it.name, identifier);
    let ddl = entry.required(diagnostics, DDL, |it| &it.ddl, text);
    let key = entry.required(diagnostics, KEY, |it| &it.key, identifier);
    let version = entry.read(diagnostics, "version", |it| &it.version, identifier);
    let rows = integer(0..=Table::MOST_ROWS);
    let rows = entry.read(diagnostics, "rows", |it| &it.rows, rows);
    let fill = entry.read(diagnostics, "fill", |it| &it.fill, text);
    let width = integer(1..=1_048_576);
    let row_bytes = entry.read(diagnostics, "row_bytes", |it| &it.row_bytes, width);
    let audit = entry.read(diagnostics, "audit", |it| &it.audit, boolean);
    if diagnostics.count() > before {
        return None;
    }
    let name = name?;
    let id = match entry.base {
        Some(base) => word_of(&base.kind).to_owned(),
        None => name.clone(),
    };
    let origin_of = |of: fn(&wire::Table) -> &Field| {
        let field = entry.field(of);
        field.map_or_else(Origin::default, |(it, text)| text.origin_of(&it.span()))
    };
    let rows_at = entry
        .field(|it| &it.rows)
        .map_or(entry.own.span(), |(it, _)| it.span());
    Some(OpenTable {
        span: entry.own.span(),
        rows: rows.map(|rows| (rows, rows_at)),
        value: Table {
            id,
            name,
            schema: Table::usual_schema(),
            ddl: ddl?,
            fill: fill.unwrap_or_default(),
            rows: 0,
            row_bytes: row_bytes.unwrap_or(ROW_BYTES),
            key: key?,
            version,
            audit: audit.unwrap_or(true),
            origin: origin_of(|it| &it.ddl),
            fill_origin: origin_of(|it| &it.fill),
        },
    })
}

/// Adds the tables of the library that transactions name and the profile does not list.
pub(super) fn add_from_library(
    diagnostics: &mut Diagnostics,
    found: &mut Vec<OpenTable>,
    entries: &[Entry<'_, wire::Transaction>],
) {
    for own in &LIBRARY.table {
        let kind = word_of(&own.get_ref().kind);
        let user = entries.iter().find(|entry| mentions(entry, kind));
        let Some(user) = user.filter(|_| found.iter().all(|it| it.value.id != kind)) else {
            continue;
        };
        let text = Text::LIBRARY;
        let base = Some(own.get_ref());
        if let Some(mut table) = table(diagnostics, &Entry { own, base, text }) {
            let named = user.own.get_ref().kind.as_ref();
            table.span = named.map_or(user.own.span(), Spanned::span);
            if let Some(title) = clash(&table.value, found) {
                diagnostics.refuse(table.span.clone(), title, CLASH_HELP);
            }
            found.push(table);
        }
    }
}

/// Whether a transaction uses the library table of this kind, in its SQL or as the table that a parameter chooses rows of.
fn mentions(entry: &Entry<'_, wire::Transaction>, kind: &str) -> bool {
    let name = format!("{{{kind}}}");
    let in_sql = |value: &Value| value.text().is_some_and(|sql| sql.contains(&name));
    let sql = entry
        .field(|it| &it.sql)
        .is_some_and(|(sql, _)| match sql.get_ref() {
            Value::List(list) => list.iter().any(|it| in_sql(it.get_ref())),
            value => in_sql(value),
        });
    sql || entry
        .field(|it| &it.params)
        .is_some_and(|(params, _)| generator::chooses_from(params.get_ref(), kind))
}

/// The tables with their final numbers of rows, which depend on the tables whose rows the transactions choose.
pub(super) fn finished_tables(
    diagnostics: &mut Diagnostics,
    open: Vec<OpenTable>,
    mix: &[&Transaction],
) -> Vec<Table> {
    let names: Vec<_> = open
        .iter()
        .map(|it| (it.value.id.clone(), it.value.qualified()))
        .collect();
    let named = |text: &str| {
        sql::fill_in(text, &[], |id| {
            let name = names.iter().find(|(known, _)| known == id);
            name.map(|(_, name)| name.clone())
        })
    };
    let mut tables = Vec::with_capacity(open.len());
    for (index, table) in open.into_iter().enumerate() {
        let chooser = mix
            .iter()
            .find(|it| it.rows_chosen().any(|(table, _)| table == index));
        let (rows, span) = match table.rows {
            Some((rows, span)) => (rows, span),
            None => (if chooser.is_some() { ROWS } else { 0 }, table.span),
        };
        if rows > 0 && table.value.fill.is_empty() {
            diagnostics.refuse(
                span,
                format!("table `{}` is to have rows and has no `fill`", table.value.name),
                "give the statement that makes them, such as\n\nfill = \"INSERT INTO {t} (name) SELECT 'row ' || n FROM generate_series(1, :rows) AS n\"",
            );
        } else if rows == 0
            && let Some(chooser) = chooser
        {
            diagnostics.refuse(
                span,
                format!(
                    "transaction `{}` chooses rows of `{}`, which has none",
                    chooser.name, table.value.name
                ),
                "give the table rows, or leave `rows` out for 10,000",
            );
        }
        tables.push(Table {
            rows,
            ddl: named(&table.value.ddl),
            fill: named(&table.value.fill),
            ..table.value
        });
    }
    tables
}
