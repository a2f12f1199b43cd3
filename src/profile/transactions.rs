//! The transactions of a workload: their statements, parameters, and the row that the last statement changes.

use std::ops::Range;

use toml::Spanned;

use super::diagnostics::{self, Diagnostics, Refusal};
use super::entry::{Entry, Text, word_of};
use super::error::nearest;
use super::generator;
use super::sql;
use super::tables::OpenTable;
use super::wire::{self, Value};
use super::workload::{Change, Generator, KeyChoice, Parameter, Statement, Transaction};

/// A transaction, and the place of its name in the profile.
#[derive(Debug)]
pub(super) struct NamedTransaction {
    pub(super) value: Transaction,
    pub(super) span: Range<usize>,
}

pub(super) fn transaction(
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
    let (sql, text) = entry.present(diagnostics, SQL, |it| &it.sql)?;
    let expected = "a statement in quotes, or a list of statements";
    let texts = diagnostics.value("`sql`", sql, |_| {
        statement_texts(sql).ok_or_else(|| Refusal::new(expected))
    });
    let (statements, table) = statements(diagnostics, (texts?, text), &parameters, tables)?;
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

/// The statements of a text or of a list of texts, each with its place in the profile. At least one; `None` if the value is neither.
fn statement_texts(written: &Spanned<Value>) -> Option<Vec<(&str, Range<usize>)>> {
    let items = match written.get_ref() {
        Value::List(items) if !items.is_empty() => items,
        _ => std::slice::from_ref(written),
    };
    let texts = items
        .iter()
        .map(|it| Some((it.get_ref().text()?, it.span())));
    texts.collect()
}

/// The statements of a transaction, and the table whose row the last of them changes.
fn statements(
    diagnostics: &mut Diagnostics,
    (texts, text): (Vec<(&str, Range<usize>)>, Text<'_>),
    parameters: &[Parameter],
    tables: &[OpenTable],
) -> Option<(Vec<Statement>, usize)> {
    let name_of = |id: &str| {
        let table = tables.iter().find(|it| it.value.id == id);
        table.map(|it| it.value.qualified())
    };
    let last = texts.len() - 1;
    let mut statements = Vec::with_capacity(texts.len());
    let mut shown = None;
    for (number, (sql, span)) in texts.into_iter().enumerate() {
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
