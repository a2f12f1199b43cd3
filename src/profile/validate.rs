//! From the wire form to the domain: defaults, bounds, and the rules between parts of a profile.
//! Collects every mistake it can; reads no file.

use std::ops::Range;
use std::time::Duration;

use toml::Spanned;

use super::diagnostics::{self, Diagnostics, Refusal};
use super::error::{Mistake, nearest};
use super::wire::{self, Field, Value};
use super::workload::{
    Arrivals, KeyChoice, Length, Pace, Phases, Table, TableKind, Transaction, TransactionKind,
};
use super::{Expect, Load, Probes, Profile, UNSEEN_HELP, unseen_commit, without_rows};
use crate::topology::{Mode, ModeError, ModeSpec, Topology};
use crate::units::Rate;

const DAY: Duration = Duration::from_hours(24);

/// The domain form, or every mistake. `fallback_name` is the profile's name when it gives none.
pub(super) fn profile(wire: &wire::Profile, fallback_name: &str) -> Result<Profile, Vec<Mistake>> {
    let mut diagnostics = Diagnostics::default();
    let profile = read(&mut diagnostics, wire, fallback_name);
    let mistakes = diagnostics.into_mistakes();
    if mistakes.is_empty() {
        Ok(profile)
    } else {
        Err(mistakes)
    }
}

/// The profile with defaults where a value is refused.
fn read(diagnostics: &mut Diagnostics, wire: &wire::Profile, fallback_name: &str) -> Profile {
    let standbys = diagnostics
        .read("standbys", &wire.topology.standbys, nodes(0))
        .unwrap_or(2);
    let subscribers = diagnostics.read("subscribers", &wire.topology.subscribers, nodes(0));
    let modes = modes(
        diagnostics,
        &wire.modes,
        standbys,
        subscribers.unwrap_or(standbys),
    );
    // Where the modes are in doubt, so is everything that a gate says of them.
    let gated: Option<Vec<Mode>> = (diagnostics.found_nothing())
        .then(|| modes.iter().filter_map(|it| it.mode.clone()).collect());
    let gates = super::gate::gates(diagnostics, &wire.gate, gated.as_deref());
    let transactions = transactions(diagnostics, &wire.transaction);
    let tables = tables(diagnostics, &wire.table, &transactions);
    subscribers_see_every_commit(diagnostics, &modes, &transactions);
    let (phases, repeats) = phases(diagnostics, &wire.phases);
    Profile {
        name: diagnostics
            .read("name", &wire.name, diagnostics::profile_name)
            .unwrap_or_else(|| fallback_name.into()),
        description: diagnostics
            .read("description", &wire.description, diagnostics::text)
            .map(|text| text.split_whitespace().collect::<Vec<_>>().join(" "))
            .unwrap_or_default(),
        seed: diagnostics.read("seed", &wire.seed, diagnostics::integer(0..=u64::MAX)),
        modes: modes.into_iter().map(|mode| mode.spec).collect(),
        standbys,
        subscribers,
        load: load(diagnostics, &wire.load),
        phases,
        repeats,
        probes: probes(diagnostics, &wire.probes),
        expect: expect(diagnostics, &wire.expect),
        tables,
        transactions: transactions.into_iter().map(|it| it.value).collect(),
        settings: super::settings::settings(diagnostics, &wire.settings),
        gates,
    }
}

fn nodes(least: u64) -> impl Fn(&Value) -> Result<u8, Refusal> {
    diagnostics::integer(least..=u64::from(Topology::MOST))
}

/// A mode and where it was named.
struct NamedMode {
    spec: ModeSpec,
    /// Absent when the topology cannot carry it, which was reported.
    mode: Option<Mode>,
}

fn modes(
    diagnostics: &mut Diagnostics,
    field: &Field,
    standbys: u8,
    subscribers: u8,
) -> Vec<NamedMode> {
    const EXPECTED: &str = "a list of modes, such as [\"async\", \"sync\"]";
    let default = || {
        let spec: ModeSpec = "async".parse().expect("`async` is a mode");
        let mode = spec.resolve(standbys, subscribers).ok();
        vec![NamedMode { spec, mode }]
    };
    let Some(written) = field else {
        return default();
    };
    let items = match written.get_ref() {
        Value::List(items) if !items.is_empty() => items,
        _ => {
            diagnostics.value::<()>("`modes`", written, |_| Err(Refusal::new(EXPECTED)));
            return default();
        }
    };
    let mut found: Vec<NamedMode> = Vec::new();
    for item in items {
        let Some(text) = diagnostics.value("a mode", item, diagnostics::text) else {
            continue;
        };
        match text.parse::<ModeSpec>() {
            Ok(spec) if found.iter().any(|other| other.spec.name() == spec.name()) => diagnostics
                .refuse(
                    item.span(),
                    format!("mode `{text}` is listed twice"),
                    "list each mode once; `repeats` repeats all of them",
                ),
            Ok(spec) => {
                let mode = spec
                    .resolve(standbys, subscribers)
                    .map_err(|error| refuse_mode(diagnostics, item.span(), &error))
                    .ok();
                let same = mode.as_ref().and_then(|mode| {
                    let others = found.iter().filter_map(|other| other.mode.as_ref());
                    others.into_iter().find(|other| other.is_same_as(mode))
                });
                if let Some(same) = same {
                    diagnostics.refuse(
                        item.span(),
                        format!("modes `{}` and `{text}` are the same here", same.name),
                        &format!("keep one: in both, {}", same.explain()),
                    );
                    continue;
                }
                found.push(NamedMode { spec, mode });
            }
            Err(error) => refuse_mode(diagnostics, item.span(), &error),
        }
    }
    found
}

fn refuse_mode(diagnostics: &mut Diagnostics, span: Range<usize>, error: &ModeError) {
    match error {
        ModeError::Unknown(name) => {
            let base = name.split(':').next().unwrap_or_default();
            let help = match nearest(base, ModeSpec::NAMES) {
                Some(near) if near != base => format!("did you mean `{near}`?"),
                _ => format!(
                    "modes are {}; a synchronous one takes `:first-N` or `:any-N`, a logical one `:N` subscribers",
                    ModeSpec::NAMES.join(", ")
                ),
            };
            diagnostics.refuse(span, format!("unknown mode `{name}`"), &help);
        }
        ModeError::TooFew {
            mode,
            needed,
            available,
        } => diagnostics.refuse(
            span,
            format!("mode `{mode}` waits for {needed} nodes, and the topology has {available}"),
            "add nodes under `[topology]` or lower the quorum",
        ),
    }
}

/// A transaction and where its kind was named.
struct NamedTransaction {
    value: Transaction,
    span: Range<usize>,
}

fn transactions(
    diagnostics: &mut Diagnostics,
    written: &[Spanned<wire::Transaction>],
) -> Vec<NamedTransaction> {
    let mut found: Vec<NamedTransaction> = Vec::new();
    let mut refused = false;
    for entry in written {
        let fields = entry.get_ref();
        let keys = diagnostics.read("keys", &fields.keys, diagnostics::keys);
        let weight = diagnostics.read(
            "weight",
            &fields.weight,
            diagnostics::integer(0..=1_000_000),
        );
        let word = diagnostics::word(&TransactionKind::ALL, TransactionKind::as_str);
        let Some(kind) = diagnostics.required("kind", &fields.kind, entry.span(), word) else {
            refused = true;
            continue;
        };
        let span = fields.kind.as_ref().map_or(entry.span(), Spanned::span);
        if found.iter().any(|other| other.value.kind == kind) {
            diagnostics.refuse(
                span,
                format!("transaction `{}` is listed twice", kind.as_str()),
                "list it once and give it a weight",
            );
            continue;
        }
        let value = Transaction {
            kind,
            weight: weight.unwrap_or(1),
            keys: keys.unwrap_or(KeyChoice::Uniform),
        };
        found.push(NamedTransaction { value, span });
    }
    if !refused {
        refuse_an_empty_mix(diagnostics, &found);
    }
    found.retain(|transaction| transaction.value.weight > 0);
    found
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

/// The tables as listed, then those that the transactions need besides.
fn tables(
    diagnostics: &mut Diagnostics,
    written: &[Spanned<wire::Table>],
    transactions: &[NamedTransaction],
) -> Vec<Table> {
    let mix: Vec<_> = transactions.iter().map(|it| it.value).collect();
    let mut found: Vec<Table> = Vec::new();
    for entry in written {
        let Some(table) = table(diagnostics, entry, &mix) else {
            continue;
        };
        if let Some(title) = clash(&table, &found) {
            diagnostics.refuse(entry.span(), title, CLASH_HELP);
            continue;
        }
        if let Some(needs) = without_rows(std::slice::from_ref(&table), &mix) {
            let rows = entry.get_ref().rows.as_ref();
            diagnostics.refuse(
                rows.map_or(entry.span(), Spanned::span),
                format!(
                    "transaction `{}` updates rows of `{}`, which has none",
                    needs.as_str(),
                    table.name
                ),
                "give the table rows, or leave `rows` out for 10,000",
            );
        }
        found.push(table);
    }
    for kind in TableKind::ALL {
        let user = transactions
            .iter()
            .find(|it| it.value.kind.tables().contains(&kind));
        let Some(user) = user.filter(|_| found.iter().all(|table| table.kind != kind)) else {
            continue;
        };
        let table = default_table(kind, &mix);
        if let Some(title) = clash(&table, &found) {
            diagnostics.refuse(user.span.clone(), title, CLASH_HELP);
        }
        found.push(table);
    }
    found
}

const CLASH_HELP: &str = "a profile has one table of each kind, each with a name of its own";

/// Why a table cannot stand beside the others.
fn clash(table: &Table, others: &[Table]) -> Option<String> {
    if others.iter().any(|other| other.kind == table.kind) {
        Some(format!(
            "a second table of kind \"{}\"",
            table.kind.as_str()
        ))
    } else if others.iter().any(|other| other.name == table.name) {
        Some(format!("a second table named `{}`", table.name))
    } else {
        None
    }
}

fn table(
    diagnostics: &mut Diagnostics,
    entry: &Spanned<wire::Table>,
    mix: &[Transaction],
) -> Option<Table> {
    let fields = entry.get_ref();
    let name = diagnostics.read("name", &fields.name, diagnostics::identifier);
    let rows = diagnostics.read(
        "rows",
        &fields.rows,
        diagnostics::integer(0..=Table::MOST_ROWS),
    );
    let width = diagnostics::integer(1..=1_048_576);
    let row_bytes = diagnostics.read("row_bytes", &fields.row_bytes, width);
    let word = diagnostics::word(&TableKind::ALL, TableKind::as_str);
    let kind = diagnostics.required("kind", &fields.kind, entry.span(), word)?;
    let default = default_table(kind, mix);
    Some(Table {
        kind,
        name: name.unwrap_or(default.name),
        rows: rows.unwrap_or(default.rows),
        row_bytes: row_bytes.unwrap_or(default.row_bytes),
    })
}

fn default_table(kind: TableKind, mix: &[Transaction]) -> Table {
    let is_updated = mix.iter().any(|it| it.kind.updates() == Some(kind));
    Table {
        kind,
        name: kind.default_name().into(),
        rows: if is_updated { 10_000 } else { 0 },
        row_bytes: 100,
    }
}

fn subscribers_see_every_commit(
    diagnostics: &mut Diagnostics,
    modes: &[NamedMode],
    transactions: &[NamedTransaction],
) {
    for transaction in transactions {
        let unseen = modes
            .iter()
            .filter_map(|it| it.mode.as_ref())
            .find_map(|mode| unseen_commit(mode, transaction.value.kind));
        if let Some(title) = unseen {
            diagnostics.refuse(transaction.span.clone(), title, UNSEEN_HELP);
        }
    }
}

fn load(diagnostics: &mut Diagnostics, wire: &wire::Load) -> Load {
    let arrivals = diagnostics::word(&Arrivals::ALL, Arrivals::as_str);
    let deadline = diagnostics::duration(Phases::SHORTEST..=Duration::from_mins(10));
    Load {
        pace: diagnostics
            .read("rate", &wire.rate, diagnostics::pace)
            .unwrap_or_else(|| Pace::At(Rate::per_second(500.0).expect("500/s is a rate"))),
        arrivals: diagnostics
            .read("arrivals", &wire.arrivals, arrivals)
            .unwrap_or(Arrivals::Poisson),
        connections: diagnostics
            .read(
                "connections",
                &wire.connections,
                diagnostics::integer(Load::CONNECTIONS),
            )
            .unwrap_or(16),
        threads: diagnostics
            .read(
                "threads",
                &wire.threads,
                diagnostics::integer(Load::THREADS),
            )
            .unwrap_or(1),
        max_in_flight: diagnostics
            .read(
                "max_in_flight",
                &wire.max_in_flight,
                diagnostics::integer(1..=100_000),
            )
            .unwrap_or(1000),
        transaction_deadline: diagnostics
            .read("transaction_deadline", &wire.transaction_deadline, deadline)
            .unwrap_or(Duration::from_secs(10)),
    }
}

fn phases(diagnostics: &mut Diagnostics, wire: &wire::Phases) -> (Phases, u32) {
    if let (Some(_), Some(count)) = (&wire.duration, &wire.count) {
        diagnostics.refuse(
            count.span(),
            "`duration` and `count` exclude each other".into(),
            "keep one: how long a measurement lasts, or how many arrivals it has",
        );
    }
    let any = || diagnostics::duration(Duration::ZERO..=DAY);
    let duration = diagnostics.read(
        "duration",
        &wire.duration,
        diagnostics::duration(Phases::SHORTEST..=DAY),
    );
    let count = diagnostics.read("count", &wire.count, diagnostics::integer(1..=Length::MOST));
    let phases = Phases {
        warmup: diagnostics
            .read("warmup", &wire.warmup, any())
            .unwrap_or(Duration::from_secs(2)),
        measure: match count {
            Some(count) => Length::Count(count),
            None => Length::For(duration.unwrap_or(Duration::from_secs(8))),
        },
        drain: diagnostics
            .read("drain", &wire.drain, any())
            .unwrap_or(Duration::from_secs(5)),
    };
    let repeats = diagnostics.read(
        "repeats",
        &wire.repeats,
        diagnostics::integer(Profile::REPEATS),
    );
    (phases, repeats.unwrap_or(6))
}

fn probes(diagnostics: &mut Diagnostics, wire: &wire::Probes) -> Probes {
    let tick = diagnostics::duration(Duration::from_micros(100)..=Duration::from_secs(1));
    let interval = diagnostics::duration(Duration::from_millis(10)..=Duration::from_mins(1));
    Probes {
        tick: diagnostics
            .read("tick", &wire.tick, tick)
            .unwrap_or(Duration::from_millis(10)),
        lag_interval: diagnostics
            .read("lag_interval", &wire.lag_interval, interval)
            .unwrap_or(Duration::from_millis(100)),
    }
}

fn expect(diagnostics: &mut Diagnostics, wire: &wire::Expect) -> Expect {
    let default = Expect::default();
    Expect {
        failures: diagnostics
            .read("failures", &wire.failures, diagnostics::share)
            .unwrap_or(default.failures),
        overload: diagnostics
            .read("overload", &wire.overload, diagnostics::boolean)
            .unwrap_or(default.overload),
    }
}
