//! From the wire form to the domain: defaults, bounds, and the rules between parts of a profile.
//! Collects every mistake it can; reads no file.

use std::ops::Range;
use std::time::Duration;

use toml::Spanned;

use super::error::{Mistake, nearest};
use super::judge::{self, Judge, Refusal};
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
    let mut judge = Judge::default();
    let profile = read(&mut judge, wire, fallback_name);
    let mistakes = judge.into_mistakes();
    if mistakes.is_empty() {
        Ok(profile)
    } else {
        Err(mistakes)
    }
}

/// The profile with defaults where a value is refused.
fn read(judge: &mut Judge, wire: &wire::Profile, fallback_name: &str) -> Profile {
    let standbys = judge
        .read("standbys", &wire.topology.standbys, nodes(0))
        .unwrap_or(2);
    let subscribers = judge.read("subscribers", &wire.topology.subscribers, nodes(0));
    let modes = modes(
        judge,
        &wire.modes,
        standbys,
        subscribers.unwrap_or(standbys),
    );
    // Where the modes are in doubt, so is everything that a gate says of them.
    let gated: Option<Vec<Mode>> =
        (judge.found_nothing()).then(|| modes.iter().filter_map(|it| it.mode.clone()).collect());
    let gates = super::gate::gates(judge, &wire.gate, gated.as_deref());
    let transactions = transactions(judge, &wire.transaction);
    let tables = tables(judge, &wire.table, &transactions);
    subscribers_see_every_commit(judge, &modes, &transactions);
    let (phases, repeats) = phases(judge, &wire.phases);
    Profile {
        name: judge
            .read("name", &wire.name, judge::profile_name)
            .unwrap_or_else(|| fallback_name.into()),
        description: judge
            .read("description", &wire.description, judge::text)
            .map(|text| text.split_whitespace().collect::<Vec<_>>().join(" "))
            .unwrap_or_default(),
        seed: judge.read("seed", &wire.seed, judge::integer(0..=u64::MAX)),
        modes: modes.into_iter().map(|mode| mode.spec).collect(),
        standbys,
        subscribers,
        load: load(judge, &wire.load),
        phases,
        repeats,
        probes: probes(judge, &wire.probes),
        expect: expect(judge, &wire.expect),
        tables,
        transactions: transactions.into_iter().map(|it| it.value).collect(),
        settings: super::settings::settings(judge, &wire.settings),
        gates,
    }
}

fn nodes(least: u64) -> impl Fn(&Value) -> Result<u8, Refusal> {
    judge::integer(least..=u64::from(Topology::MOST))
}

/// A mode and where it was named.
struct NamedMode {
    spec: ModeSpec,
    /// Absent when the topology cannot carry it, which was reported.
    mode: Option<Mode>,
}

fn modes(judge: &mut Judge, field: &Field, standbys: u8, subscribers: u8) -> Vec<NamedMode> {
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
            judge.value::<()>("`modes`", written, |_| Err(Refusal::new(EXPECTED)));
            return default();
        }
    };
    let mut found: Vec<NamedMode> = Vec::new();
    for item in items {
        let Some(text) = judge.value("a mode", item, judge::text) else {
            continue;
        };
        match text.parse::<ModeSpec>() {
            Ok(spec) if found.iter().any(|other| other.spec.name() == spec.name()) => judge.refuse(
                item.span(),
                format!("mode `{text}` is listed twice"),
                "list each mode once; `repeats` repeats all of them",
            ),
            Ok(spec) => {
                let mode = spec
                    .resolve(standbys, subscribers)
                    .map_err(|error| refuse_mode(judge, item.span(), &error))
                    .ok();
                let same = mode.as_ref().and_then(|mode| {
                    let others = found.iter().filter_map(|other| other.mode.as_ref());
                    others.into_iter().find(|other| other.is_same_as(mode))
                });
                if let Some(same) = same {
                    judge.refuse(
                        item.span(),
                        format!("modes `{}` and `{text}` are the same here", same.name),
                        &format!("keep one: in both, {}", same.explain()),
                    );
                    continue;
                }
                found.push(NamedMode { spec, mode });
            }
            Err(error) => refuse_mode(judge, item.span(), &error),
        }
    }
    found
}

fn refuse_mode(judge: &mut Judge, span: Range<usize>, error: &ModeError) {
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
            judge.refuse(span, format!("unknown mode `{name}`"), &help);
        }
        ModeError::TooFew {
            mode,
            needed,
            available,
        } => judge.refuse(
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
    judge: &mut Judge,
    written: &[Spanned<wire::Transaction>],
) -> Vec<NamedTransaction> {
    let mut found: Vec<NamedTransaction> = Vec::new();
    let mut refused = false;
    for entry in written {
        let fields = entry.get_ref();
        let keys = judge.read("keys", &fields.keys, judge::keys);
        let weight = judge.read("weight", &fields.weight, judge::integer(0..=1_000_000));
        let word = judge::word(&TransactionKind::ALL, TransactionKind::as_str);
        let Some(kind) = judge.required("kind", &fields.kind, entry.span(), word) else {
            refused = true;
            continue;
        };
        let span = fields.kind.as_ref().map_or(entry.span(), Spanned::span);
        if found.iter().any(|other| other.value.kind == kind) {
            judge.refuse(
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
        refuse_an_empty_mix(judge, &found);
    }
    found.retain(|transaction| transaction.value.weight > 0);
    found
}

fn refuse_an_empty_mix(judge: &mut Judge, transactions: &[NamedTransaction]) {
    const EXAMPLE: &str = "add one, such as\n\n[[transaction]]\nkind = \"users-insert\"";
    match transactions.last() {
        None => judge.refuse(0..0, "the profile has no transaction".into(), EXAMPLE),
        Some(last) if transactions.iter().all(|it| it.value.weight == 0) => judge.refuse(
            last.span.clone(),
            "the weights of all transactions sum to 0".into(),
            "give at least one transaction a weight above 0",
        ),
        Some(_) => {}
    }
}

/// The tables as listed, then those that the transactions need besides.
fn tables(
    judge: &mut Judge,
    written: &[Spanned<wire::Table>],
    transactions: &[NamedTransaction],
) -> Vec<Table> {
    let mix: Vec<_> = transactions.iter().map(|it| it.value).collect();
    let mut found: Vec<Table> = Vec::new();
    for entry in written {
        let Some(table) = table(judge, entry, &mix) else {
            continue;
        };
        if let Some(title) = clash(&table, &found) {
            judge.refuse(entry.span(), title, CLASH_HELP);
            continue;
        }
        if let Some(needs) = without_rows(std::slice::from_ref(&table), &mix) {
            let rows = entry.get_ref().rows.as_ref();
            judge.refuse(
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
            judge.refuse(user.span.clone(), title, CLASH_HELP);
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

fn table(judge: &mut Judge, entry: &Spanned<wire::Table>, mix: &[Transaction]) -> Option<Table> {
    let fields = entry.get_ref();
    let name = judge.read("name", &fields.name, judge::identifier);
    let rows = judge.read("rows", &fields.rows, judge::integer(0..=Table::MOST_ROWS));
    let width = judge::integer(1..=1_048_576);
    let row_bytes = judge.read("row_bytes", &fields.row_bytes, width);
    let word = judge::word(&TableKind::ALL, TableKind::as_str);
    let kind = judge.required("kind", &fields.kind, entry.span(), word)?;
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
    judge: &mut Judge,
    modes: &[NamedMode],
    transactions: &[NamedTransaction],
) {
    for transaction in transactions {
        let unseen = modes
            .iter()
            .filter_map(|it| it.mode.as_ref())
            .find_map(|mode| unseen_commit(mode, transaction.value.kind));
        if let Some(title) = unseen {
            judge.refuse(transaction.span.clone(), title, UNSEEN_HELP);
        }
    }
}

fn load(judge: &mut Judge, wire: &wire::Load) -> Load {
    let arrivals = judge::word(&Arrivals::ALL, Arrivals::as_str);
    let deadline = judge::duration(Phases::SHORTEST..=Duration::from_mins(10));
    Load {
        pace: judge
            .read("rate", &wire.rate, judge::pace)
            .unwrap_or_else(|| Pace::At(Rate::per_second(500.0).expect("500/s is a rate"))),
        arrivals: judge
            .read("arrivals", &wire.arrivals, arrivals)
            .unwrap_or(Arrivals::Poisson),
        connections: judge
            .read(
                "connections",
                &wire.connections,
                judge::integer(Load::CONNECTIONS),
            )
            .unwrap_or(16),
        threads: judge
            .read("threads", &wire.threads, judge::integer(Load::THREADS))
            .unwrap_or(1),
        max_in_flight: judge
            .read(
                "max_in_flight",
                &wire.max_in_flight,
                judge::integer(1..=100_000),
            )
            .unwrap_or(1000),
        transaction_deadline: judge
            .read("transaction_deadline", &wire.transaction_deadline, deadline)
            .unwrap_or(Duration::from_secs(10)),
    }
}

fn phases(judge: &mut Judge, wire: &wire::Phases) -> (Phases, u32) {
    if let (Some(_), Some(count)) = (&wire.duration, &wire.count) {
        judge.refuse(
            count.span(),
            "`duration` and `count` exclude each other".into(),
            "keep one: how long a measurement lasts, or how many arrivals it has",
        );
    }
    let any = || judge::duration(Duration::ZERO..=DAY);
    let duration = judge.read(
        "duration",
        &wire.duration,
        judge::duration(Phases::SHORTEST..=DAY),
    );
    let count = judge.read("count", &wire.count, judge::integer(1..=Length::MOST));
    let phases = Phases {
        warmup: judge
            .read("warmup", &wire.warmup, any())
            .unwrap_or(Duration::from_secs(2)),
        measure: match count {
            Some(count) => Length::Count(count),
            None => Length::For(duration.unwrap_or(Duration::from_secs(8))),
        },
        drain: judge
            .read("drain", &wire.drain, any())
            .unwrap_or(Duration::from_secs(5)),
    };
    let repeats = judge.read("repeats", &wire.repeats, judge::integer(Profile::REPEATS));
    (phases, repeats.unwrap_or(6))
}

fn probes(judge: &mut Judge, wire: &wire::Probes) -> Probes {
    let tick = judge::duration(Duration::from_micros(100)..=Duration::from_secs(1));
    let interval = judge::duration(Duration::from_millis(10)..=Duration::from_mins(1));
    Probes {
        tick: judge
            .read("tick", &wire.tick, tick)
            .unwrap_or(Duration::from_millis(10)),
        lag_interval: judge
            .read("lag_interval", &wire.lag_interval, interval)
            .unwrap_or(Duration::from_millis(100)),
    }
}

fn expect(judge: &mut Judge, wire: &wire::Expect) -> Expect {
    let default = Expect::default();
    Expect {
        failures: judge
            .read("failures", &wire.failures, judge::share)
            .unwrap_or(default.failures),
        overload: judge
            .read("overload", &wire.overload, judge::boolean)
            .unwrap_or(default.overload),
    }
}
