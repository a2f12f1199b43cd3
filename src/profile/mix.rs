//! Tables and transactions: what a profile gives of them over what the library has, and whether the parts fit each other.
//! What only a server can tell (types, columns, syntax) is checked there, before a run measures anything.

use std::ops::Range;
use std::sync::LazyLock;

use toml::Spanned;

use super::diagnostics::{self, Diagnostics, Refusal};
use super::error::nearest;
use super::generator;
use super::sql;
use super::wire::{self, Field, Value};
use super::workload::{
    Change, Generator, KeyChoice, Origin, Parameter, Statement, Table, Transaction,
};

/// Rows of a table whose rows transactions choose, when the profile gives no number.
const ROWS: u64 = 10_000;
const ROW_BYTES: u32 = 100;

const LIBRARY_TEXT: &str = include_str!("../../workloads/library.toml");

static LIBRARY: LazyLock<wire::Library> =
    LazyLock::new(|| toml::from_str(LIBRARY_TEXT).expect("a test reads the library"));

/// Where a profile came from, to turn places into lines.
#[derive(Debug, Clone, Copy)]
pub(super) struct Text<'a> {
    pub(super) origin: &'a str,
    pub(super) text: &'a str,
}

impl Text<'_> {
    const LIBRARY: Self = Text {
        origin: "workloads/library.toml",
        text: LIBRARY_TEXT,
    };

    /// The line on which the content of a string begins.
    fn origin_of(self, span: &Range<usize>) -> Origin {
        let before = self.text.get(..span.start).unwrap_or_default();
        let value = self.text.get(span.clone()).unwrap_or_default();
        // TOML leaves out the line end that follows the opening quotes.
        let opens_a_line = ["'''\n", "\"\"\"\n", "'''\r\n", "\"\"\"\r\n"]
            .iter()
            .any(|opening| value.starts_with(opening));
        Origin {
            file: self.origin.to_owned(),
            line: before.matches('\n').count() + 1 + usize::from(opens_a_line),
        }
    }
}

/// An entry of the profile over the one of the library that its `kind` names.
struct Entry<'a, T> {
    own: &'a Spanned<T>,
    base: Option<&'a T>,
    text: Text<'a>,
}

impl<'a, T> Entry<'a, T> {
    /// A key's value and the text it stands in.
    fn field(&self, of: impl Fn(&T) -> &Field) -> Option<(&'a Spanned<Value>, Text<'a>)> {
        let own = of(self.own.get_ref()).as_ref().map(|it| (it, self.text));
        let base = self.base.and_then(|base| of(base).as_ref());
        own.or(base.map(|it| (it, Text::LIBRARY)))
    }

    fn read<V>(
        &self,
        diagnostics: &mut Diagnostics,
        key: &str,
        of: impl Fn(&T) -> &Field,
        parse: impl FnOnce(&Value) -> Result<V, Refusal>,
    ) -> Option<V> {
        let (value, _) = self.field(of)?;
        diagnostics.value(&format!("`{key}`"), value, parse)
    }

    /// As [`Entry::read`]; the help says what the key is for where it is missing.
    fn required<V>(
        &self,
        diagnostics: &mut Diagnostics,
        (key, help): (&str, &str),
        of: impl Fn(&T) -> &Field,
        parse: impl FnOnce(&Value) -> Result<V, Refusal>,
    ) -> Option<V> {
        if self.field(&of).is_none() {
            let title = format!("`{key}` is missing here");
            diagnostics.refuse(self.own.span(), title, help);
            return None;
        }
        self.read(diagnostics, key, of, parse)
    }
}

/// A transaction and where it was named.
#[derive(Debug)]
pub(super) struct NamedTransaction {
    pub(super) value: Transaction,
    pub(super) span: Range<usize>,
}

/// The tables as listed, then those of the library that transactions need besides; and the transactions with a weight.
pub(super) fn workload(
    diagnostics: &mut Diagnostics,
    text: Text<'_>,
    tables: &[Spanned<wire::Table>],
    transactions: &[Spanned<wire::Transaction>],
) -> (Vec<Table>, Vec<NamedTransaction>) {
    let entries = transaction_entries(diagnostics, text, transactions);
    let mut found = listed_tables(diagnostics, text, tables);
    add_from_library(diagnostics, &mut found, &entries);
    let mut named: Vec<NamedTransaction> = Vec::new();
    let mut is_refused = entries.len() < transactions.len();
    for entry in &entries {
        let before = diagnostics.count();
        match transaction(diagnostics, entry, &found) {
            Some(transaction) => {
                if named
                    .iter()
                    .any(|it| it.value.name == transaction.value.name)
                {
                    diagnostics.refuse(
                        transaction.span.clone(),
                        format!("transaction `{}` is listed twice", transaction.value.name),
                        "list it once and give it a weight, or give it another `name`",
                    );
                }
                named.push(transaction);
            }
            None => is_refused |= diagnostics.count() > before,
        }
    }
    if !is_refused {
        refuse_an_empty_mix(diagnostics, &named);
    }
    named.retain(|transaction| transaction.value.weight > 0);
    let mix: Vec<_> = named.iter().map(|it| &it.value).collect();
    let found = finished_tables(diagnostics, found, &mix);
    (found, named)
}

fn refuse_an_empty_mix(diagnostics: &mut Diagnostics, transactions: &[NamedTransaction]) {
    const EXAMPLE: &str = "add one, such as\n\n[[transaction]]\nkind = \"users-insert\"";
    match transactions.last() {
        None => diagnostics.refuse(0..0, "the profile has no transaction".into(), EXAMPLE),
        Some(last) if transactions.iter().all(|it| it.value.weight == 0) => diagnostics.refuse(
            last.span.clone(),
            "the weights of all transactions sum to 0".into(),
            "give at least one transaction a weight above 0",
        ),
        Some(_) => {}
    }
}

/// A table whose number of rows may still depend on the transactions.
struct OpenTable {
    value: Table,
    /// Where it stands, or the transaction that needs it.
    span: Range<usize>,
    /// `None`: not given.
    rows: Option<(u64, Range<usize>)>,
}

fn listed_tables(
    diagnostics: &mut Diagnostics,
    text: Text<'_>,
    written: &[Spanned<wire::Table>],
) -> Vec<OpenTable> {
    let mut found: Vec<OpenTable> = Vec::new();
    for own in written {
        let fields = own.get_ref();
        let kinds = || LIBRARY.table.iter().map(|it| word_of(&it.get_ref().kind));
        let base = match &fields.kind {
            None => None,
            Some(kind) => {
                let Some(kind) = diagnostics.value("`kind`", kind, one_of(kinds())) else {
                    continue;
                };
                library_table(&kind)
            }
        };
        if let Some(table) = table(diagnostics, &Entry { own, base, text }) {
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

/// Why a table cannot stand beside the others.
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
    let name = entry.required(diagnostics, NAME, |it| &it.name, diagnostics::identifier);
    let ddl = entry.required(diagnostics, DDL, |it| &it.ddl, diagnostics::text);
    let key = entry.required(diagnostics, KEY, |it| &it.key, diagnostics::identifier);
    let version = entry.read(
        diagnostics,
        "version",
        |it| &it.version,
        diagnostics::identifier,
    );
    let rows = entry.read(
        diagnostics,
        "rows",
        |it| &it.rows,
        diagnostics::integer(0..=Table::MOST_ROWS),
    );
    let fill = entry.read(diagnostics, "fill", |it| &it.fill, diagnostics::text);
    let width = diagnostics::integer(1..=1_048_576);
    let row_bytes = entry.read(diagnostics, "row_bytes", |it| &it.row_bytes, width);
    let audit = entry.read(diagnostics, "audit", |it| &it.audit, diagnostics::boolean);
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
fn add_from_library(
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

/// Whether a transaction names a table, in its SQL or as where rows are chosen.
fn mentions(entry: &Entry<'_, wire::Transaction>, kind: &str) -> bool {
    let in_sql = |value: &Value| match value {
        Value::Text(sql) => sql.contains(&format!("{{{kind}}}")),
        _ => false,
    };
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

/// Numbers of rows, now that it is known whose rows are chosen.
fn finished_tables(
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

fn transaction_entries<'a>(
    diagnostics: &mut Diagnostics,
    text: Text<'a>,
    written: &'a [Spanned<wire::Transaction>],
) -> Vec<Entry<'a, wire::Transaction>> {
    let kinds = || {
        LIBRARY
            .transaction
            .iter()
            .map(|it| word_of(&it.get_ref().kind))
    };
    let mut entries = Vec::with_capacity(written.len());
    for own in written {
        let base = match &own.get_ref().kind {
            None => None,
            Some(kind) => {
                let Some(kind) = diagnostics.value("`kind`", kind, one_of(kinds())) else {
                    continue;
                };
                let mut known = LIBRARY.transaction.iter().map(Spanned::get_ref);
                known.find(|it| word_of(&it.kind) == kind)
            }
        };
        entries.push(Entry { own, base, text });
    }
    entries
}

fn transaction(
    diagnostics: &mut Diagnostics,
    entry: &Entry<'_, wire::Transaction>,
    tables: &[OpenTable],
) -> Option<NamedTransaction> {
    const SQL: (&str, &str) = (
        "sql",
        "give a statement or a list of them, or take a transaction that comes with replbench by its `kind`: product-insert, users-insert, stock-update, order",
    );
    let fields = entry.own.get_ref();
    let named = fields.name.as_ref().or(fields.kind.as_ref());
    let span = named.map_or(entry.own.span(), Spanned::span);
    let before = diagnostics.count();
    let name = match (&fields.name, entry.base) {
        (None, Some(base)) => Some(word_of(&base.kind).to_owned()),
        (name, _) => {
            diagnostics.required("name", name, entry.own.span(), diagnostics::profile_name)
        }
    };
    let weight = diagnostics::integer(0..=1_000_000);
    let weight = entry.read(diagnostics, "weight", |it| &it.weight, weight);
    let keys = entry.read(diagnostics, "keys", |it| &it.keys, diagnostics::keys);
    let parameters = parameters(diagnostics, entry, tables, keys);
    let sql = entry.required(
        diagnostics,
        SQL,
        |it| &it.sql,
        |value| match value {
            Value::Text(_) => Ok(()),
            Value::List(list)
                if !list.is_empty()
                    && list.iter().all(|it| matches!(it.get_ref(), Value::Text(_))) =>
            {
                Ok(())
            }
            _ => Err(Refusal::new(
                "a statement in quotes, or a list of statements",
            )),
        },
    );
    sql?;
    let (sql, text) = entry.field(|it| &it.sql)?;
    let (statements, table) = statements(diagnostics, (sql, text), &parameters, tables)?;
    if diagnostics.count() > before {
        return None;
    }
    let used = |index: usize| statements.iter().any(|it| it.parameters.contains(&index));
    if let Some(unused) = (0..parameters.len()).find(|index| !used(*index)) {
        let params = entry
            .field(|it| &it.params)
            .map_or(span, |(it, _)| it.span());
        diagnostics.refuse(
            params,
            format!(
                "parameter `{}` stands in no statement",
                parameters[unused].name
            ),
            &format!(
                "write `:{}` where it belongs, or leave it out",
                parameters[unused].name
            ),
        );
        return None;
    }
    Some(NamedTransaction {
        value: Transaction {
            name: name?,
            weight: weight.unwrap_or(1),
            parameters,
            statements,
            table,
        },
        span,
    })
}

fn parameters(
    diagnostics: &mut Diagnostics,
    entry: &Entry<'_, wire::Transaction>,
    tables: &[OpenTable],
    keys: Option<KeyChoice>,
) -> Vec<Parameter> {
    let Some((written, _)) = entry.field(|it| &it.params) else {
        return Vec::new();
    };
    let ids: Vec<_> = tables.iter().map(|it| it.value.id.as_str()).collect();
    let mut parameters = generator::parameters(diagnostics, written, &ids);
    for parameter in &mut parameters {
        if let (Generator::Row { choice, .. }, Some(keys)) = (&mut parameter.generator, keys) {
            *choice = keys;
        }
    }
    parameters
}

/// The statements of a transaction, and the table whose row the last of them changes.
fn statements(
    diagnostics: &mut Diagnostics,
    (written, text): (&Spanned<Value>, Text<'_>),
    parameters: &[Parameter],
    tables: &[OpenTable],
) -> Option<(Vec<Statement>, usize)> {
    let items: Vec<(&str, Range<usize>)> = match written.get_ref() {
        Value::Text(sql) => vec![(sql, written.span())],
        Value::List(list) => list
            .iter()
            .filter_map(|item| match item.get_ref() {
                Value::Text(sql) => Some((sql.as_str(), item.span())),
                _ => None,
            })
            .collect(),
        _ => return None,
    };
    let name_of = |id: &str| {
        let table = tables.iter().find(|it| it.value.id == id);
        table.map(|it| it.value.qualified())
    };
    let last = items.len() - 1;
    let mut statements = Vec::with_capacity(items.len());
    let mut shown = None;
    for (number, (sql, span)) in items.into_iter().enumerate() {
        let mut refuse = |title: String, help: &str| diagnostics.refuse(span.clone(), title, help);
        let read = match sql::read(sql, name_of) {
            Ok(read) => read,
            Err(title) => {
                refuse(title, "each statement is sent and answered by itself");
                continue;
            }
        };
        if !["select", "insert", "update", "delete"].contains(&read.verb.as_str()) {
            refuse(
                format!("a statement must not begin with `{}`", read.verb),
                "write SELECT, INSERT INTO, UPDATE or DELETE FROM; BEGIN and COMMIT stand around a list by themselves",
            );
            continue;
        }
        if read.is_upsert {
            refuse(
                "this INSERT may update instead, and which of the two it did cannot be told".into(),
                "write ON CONFLICT DO NOTHING, or an UPDATE",
            );
        }
        if read.has_returning && number == last {
            refuse(
                "the last statement has a RETURNING of its own".into(),
                "leave it out: replbench adds the one by which it knows the transaction and the row",
            );
        }
        let change = read.change.as_ref().and_then(|(change, name)| {
            let table = tables.iter().position(|it| it.value.name == *name);
            table.map(|table| (*change, table))
        });
        let mut indices = Vec::with_capacity(read.parameters.len());
        for name in &read.parameters {
            match parameters.iter().position(|it| it.name == *name) {
                Some(index) => indices.push(index),
                None => refuse(
                    format!("parameter `:{name}` has no generator"),
                    &missing_generator(name, parameters),
                ),
            }
        }
        if number == last {
            match change {
                None => refuse(
                    "the last statement changes no table of this profile".into(),
                    "end with INSERT INTO, UPDATE or DELETE FROM one of its tables: by that row replbench knows when the commit is visible",
                ),
                Some((Change::Update, table)) => {
                    let table = &tables[table].value;
                    if let Some(version) = table.version.as_ref().filter(|it| !read.sets(it)) {
                        refuse(
                            format!(
                                "this update does not set `{version}`, the version of `{}`",
                                table.name
                            ),
                            &format!(
                                "raise it with every update, by \"{version}\" = \"{version}\" + 1: by it a subscriber shows the update"
                            ),
                        );
                    }
                }
                Some(_) => {}
            }
            shown = change.map(|(_, table)| table);
        }
        statements.push(Statement {
            sql: read.sql,
            parameters: indices,
            change,
            origin: text.origin_of(&span),
        });
    }
    Some((statements, shown?))
}

fn missing_generator(name: &str, parameters: &[Parameter]) -> String {
    let known = parameters.iter().map(|it| it.name.as_str());
    match nearest(name, known) {
        Some(near) => format!("did you mean `:{near}`?"),
        None => format!("give one, such as params = {{ {name} = {{ integer = [1, 100] }} }}"),
    }
}

fn library_table(kind: &str) -> Option<&'static wire::Table> {
    let mut tables = LIBRARY.table.iter().map(Spanned::get_ref);
    tables.find(|it| word_of(&it.kind) == kind)
}

/// The text of a `kind` in the library.
fn word_of(field: &Field) -> &str {
    match field.as_ref().map(Spanned::get_ref) {
        Some(Value::Text(text)) => text,
        _ => "",
    }
}

/// One of the words that the library knows.
fn one_of<'a>(
    words: impl Iterator<Item = &'a str>,
) -> impl FnOnce(&Value) -> Result<String, Refusal> {
    let words: Vec<&str> = words.collect();
    move |value| {
        let index = diagnostics::word_index(&words)(value)?;
        Ok(words[index].to_owned())
    }
}
