//! Turns the wire form of a profile into domain types: applies defaults, bounds, and the rules between parts of a profile.
//! Collects as many mistakes as it can; reads no file.

use std::ops::Range;
use std::time::Duration;

use toml::Spanned;

use super::diagnostics::{
    self, Diagnostics, Refusal, boolean, duration, integer, pace, share, word,
};
use super::entry::Text;
use super::error::{Mistake, nearest};
use super::mix;
use super::settings;
use super::transactions::NamedTransaction;
use super::wire::{self, Field, Value};
use super::workload::{Arrivals, Client, Length, Pace, Phases, Priority, Table, VisibilityMethod};
use super::{Expect, Load, Probes, Profile, UNSEEN_HELP, unseen_commit};
use crate::mode::{Mode, ModeError, ModeSpec};
use crate::topology::Topology;
use crate::units::Rate;

const DAY: Duration = Duration::from_hours(24);

/// The validated profile, or all its mistakes. `fallback_name` is the profile's name if the file gives none.
pub(super) fn profile(
    wire: &wire::Profile,
    text: Text<'_>,
    fallback_name: &str,
) -> Result<Profile, Vec<Mistake>> {
    let mut diagnostics = Diagnostics::default();
    let profile = read(&mut diagnostics, wire, text, fallback_name);
    let mistakes = diagnostics.into_mistakes();
    if mistakes.is_empty() {
        Ok(profile)
    } else {
        Err(mistakes)
    }
}

/// Reads the profile; a refused value is replaced by its default.
fn read(
    diagnostics: &mut Diagnostics,
    wire: &wire::Profile,
    text: Text<'_>,
    fallback_name: &str,
) -> Profile {
    let nodes = || integer(0..=u64::from(Topology::MOST));
    let standbys = diagnostics.read_or("standbys", &wire.topology.standbys, nodes(), 2);
    let subscribers = diagnostics.read("subscribers", &wire.topology.subscribers, nodes());
    let modes = modes(
        diagnostics,
        &wire.modes,
        standbys,
        subscribers.unwrap_or(standbys),
    );
    // If the modes have mistakes, what gates, faults and node settings say about modes and nodes cannot be checked.
    let known: Option<Vec<Mode>> = (diagnostics.found_nothing())
        .then(|| modes.iter().filter_map(|it| it.mode.clone()).collect());
    let gates = super::gate::gates(diagnostics, &wire.gate, known.as_deref());
    let (tables, transactions) = mix::workload(diagnostics, text, &wire.table, &wire.transaction);
    subscribers_see_every_commit(diagnostics, &modes, &transactions, &tables);
    let (phases, repeats) = phases(diagnostics, &wire.phases);
    let faults = super::fault::faults(diagnostics, &wire.fault, known.as_deref(), phases.measure);
    Profile {
        name: diagnostics
            .read("name", &wire.name, diagnostics::profile_name)
            .unwrap_or_else(|| fallback_name.into()),
        description: diagnostics
            .read("description", &wire.description, diagnostics::text)
            .map(|text| text.split_whitespace().collect::<Vec<_>>().join(" "))
            .unwrap_or_default(),
        seed: diagnostics.read("seed", &wire.seed, integer(0..=u64::MAX)),
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
        settings: settings::settings(diagnostics, &wire.settings),
        node_settings: settings::of_nodes(diagnostics, &wire.node, known.as_deref()),
        gates,
        faults,
    }
}

/// A mode and its resolved form.
struct NamedMode {
    spec: ModeSpec,
    /// The mode on the profile's nodes; `None` if the topology has too few nodes, which has been reported.
    mode: Option<Mode>,
}

fn modes(
    diagnostics: &mut Diagnostics,
    field: &Field,
    standbys: u8,
    subscribers: u8,
) -> Vec<NamedMode> {
    let Some(items) = diagnostics.read("modes", field, mode_list) else {
        let spec: ModeSpec = "async".parse().expect("`async` is a mode");
        let mode = spec.resolve(standbys, subscribers).ok();
        return vec![NamedMode { spec, mode }];
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

fn mode_list(value: &Value) -> Result<&[Spanned<Value>], Refusal> {
    match value {
        Value::List(items) if !items.is_empty() => Ok(items),
        _ => Err(Refusal::new(
            "a list of modes, such as [\"async\", \"sync\"]",
        )),
    }
}

fn refuse_mode(diagnostics: &mut Diagnostics, span: Range<usize>, error: &ModeError) {
    match error {
        ModeError::Unknown(name) => {
            let base = name.split(':').next().unwrap_or_default();
            let help = match nearest(base, ModeSpec::names()) {
                Some(near) if near != base => format!("did you mean `{near}`?"),
                _ => format!(
                    "modes are {}; a synchronous one takes `:first-N` or `:any-N`, a logical one `:N` subscribers",
                    ModeSpec::names().collect::<Vec<_>>().join(", ")
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
        // These errors depend on servers that the command line names, so they are not mistakes of the profile.
        ModeError::NothingFound(_) | ModeError::NotThere { .. } => {}
    }
}

fn subscribers_see_every_commit(
    diagnostics: &mut Diagnostics,
    modes: &[NamedMode],
    transactions: &[NamedTransaction],
    tables: &[Table],
) {
    for transaction in transactions {
        let unseen = modes
            .iter()
            .filter_map(|it| it.mode.as_ref())
            .find_map(|mode| unseen_commit(mode, &transaction.value, tables));
        if let Some(title) = unseen {
            diagnostics.refuse(transaction.span.clone(), title, UNSEEN_HELP);
        }
    }
}

fn load(diagnostics: &mut Diagnostics, wire: &wire::Load) -> Load {
    let default_pace = Pace::At(Rate::per_second(500.0).expect("500/s is a rate"));
    let arrivals = word(&Arrivals::ALL, Arrivals::as_str);
    let client = word(&Client::ALL, Client::as_str);
    let priority = word(&Priority::ALL, Priority::as_str);
    let connections = integer(Load::CONNECTIONS);
    let threads = integer(Load::THREADS);
    let max_in_flight = integer(1..=100_000);
    let deadline = duration(Phases::SHORTEST..=Duration::from_mins(10));
    Load {
        pace: diagnostics.read_or("rate", &wire.rate, pace, default_pace),
        arrivals: diagnostics.read_or("arrivals", &wire.arrivals, arrivals, Arrivals::Poisson),
        client: diagnostics.read_or("client", &wire.client, client, Client::Wire),
        priority: diagnostics.read_or("priority", &wire.priority, priority, Priority::Normal),
        connections: diagnostics.read_or("connections", &wire.connections, connections, 16),
        threads: diagnostics.read_or("threads", &wire.threads, threads, 1),
        max_in_flight: diagnostics.read_or(
            "max_in_flight",
            &wire.max_in_flight,
            max_in_flight,
            1000,
        ),
        transaction_deadline: diagnostics.read_or(
            "transaction_deadline",
            &wire.transaction_deadline,
            deadline,
            Duration::from_secs(10),
        ),
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
    let any = || duration(Duration::ZERO..=DAY);
    let measured = duration(Phases::SHORTEST..=DAY);
    let measured =
        diagnostics.read_or("duration", &wire.duration, measured, Duration::from_secs(8));
    let count = diagnostics.read("count", &wire.count, integer(1..=Length::MOST));
    let phases = Phases {
        warmup: diagnostics.read_or("warmup", &wire.warmup, any(), Duration::from_secs(2)),
        measure: count.map_or(Length::For(measured), Length::Count),
        drain: diagnostics.read_or("drain", &wire.drain, any(), Duration::from_secs(5)),
    };
    let repeats = integer(Profile::REPEATS);
    let repeats = diagnostics.read_or("repeats", &wire.repeats, repeats, 6);
    (phases, repeats)
}

fn probes(diagnostics: &mut Diagnostics, wire: &wire::Probes) -> Probes {
    let tick = duration(Duration::from_micros(100)..=Duration::from_secs(1));
    let interval = duration(Duration::from_millis(10)..=Duration::from_mins(1));
    let method = word(&VisibilityMethod::ALL, VisibilityMethod::as_str);
    Probes {
        visibility: diagnostics.read_or(
            "visibility",
            &wire.visibility,
            method,
            VisibilityMethod::Push,
        ),
        tick: diagnostics.read_or("tick", &wire.tick, tick, Duration::from_millis(10)),
        lag_interval: diagnostics.read_or(
            "lag_interval",
            &wire.lag_interval,
            interval,
            Duration::from_millis(100),
        ),
    }
}

fn expect(diagnostics: &mut Diagnostics, wire: &wire::Expect) -> Expect {
    let default = Expect::default();
    Expect {
        failures: diagnostics.read_or("failures", &wire.failures, share, default.failures),
        overload: diagnostics.read_or("overload", &wire.overload, boolean, default.overload),
    }
}
