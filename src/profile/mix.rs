//! Reads tables and transactions, combines them with the library's, and checks that they fit together.
//! Types, columns and syntax are checked by the server, before a run measures anything.

use toml::Spanned;

use super::diagnostics::Diagnostics;
use super::entry::{Entry, LIBRARY, Text};
use super::tables::{add_from_library, finished_tables, listed_tables};
use super::transactions::{NamedTransaction, transaction};
use super::wire;
use super::workload::Table;

/// The listed tables, followed by library tables that transactions need in addition; and the transactions with a weight above 0.
pub(super) fn workload(
    diagnostics: &mut Diagnostics,
    text: Text<'_>,
    tables: &[Spanned<wire::Table>],
    transactions: &[Spanned<wire::Transaction>],
) -> (Vec<Table>, Vec<NamedTransaction>) {
    let library = &LIBRARY.transaction;
    let entries = transactions.iter();
    let entries: Vec<_> = entries
        .filter_map(|own| Entry::new(diagnostics, own, text, library, |it| &it.kind))
        .collect();
    let mut found = listed_tables(diagnostics, text, tables);
    add_from_library(diagnostics, &mut found, &entries);
    let mut named: Vec<NamedTransaction> = Vec::new();
    let mut is_refused = entries.len() < transactions.len();
    for entry in &entries {
        let before = diagnostics.count();
        match transaction(diagnostics, entry, &found) {
            Some(transaction) => {
                let name = &transaction.value.name;
                if named.iter().any(|it| it.value.name == *name) {
                    diagnostics.refuse(
                        transaction.span.clone(),
                        format!("transaction `{name}` is listed twice"),
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
