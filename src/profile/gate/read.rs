//! Reads the gates of a profile and reports the mistakes in them.
//! Knows how a gate is written and which modes and nodes exist, but never a measured value.

use std::time::Duration;

use itertools::Itertools as _;
use toml::Spanned;

use super::super::diagnostics::{self, Diagnostics, Refusal};
use super::super::error::{nearest, suggestion};
use super::super::wire::{self, Value};
use super::{Gate, Limit};
use crate::metric::{Metric, Stat, Unit};
use crate::mode::Mode;
use crate::topology::Topology;

/// Reads the gates. `modes` is `None` if the modes themselves have mistakes; then modes and nodes of gates are not checked.
pub(in crate::profile) fn gates(
    diagnostics: &mut Diagnostics,
    written: &[Spanned<wire::Gate>],
    modes: Option<&[Mode]>,
) -> Vec<Gate> {
    let mut found: Vec<Gate> = Vec::new();
    for entry in written {
        let Some(gate) = gate(diagnostics, entry) else {
            continue;
        };
        if let Some(modes) = modes {
            check_place(diagnostics, entry.get_ref(), &gate, modes);
        }
        if let Some(name) = entry.get_ref().name.as_ref()
            && found
                .iter()
                .any(|other| other.name.is_some() && other.name == gate.name)
        {
            diagnostics.refuse(
                name.span(),
                format!("a second gate named `{}`", gate.name.unwrap_or_default()),
                "give each gate a name of its own, or none",
            );
            continue;
        }
        found.push(gate);
    }
    found
}

fn gate(diagnostics: &mut Diagnostics, entry: &Spanned<wire::Gate>) -> Option<Gate> {
    let fields = entry.get_ref();
    let name = diagnostics.read("name", &fields.name, name);
    let mode = diagnostics.read("mode", &fields.mode, diagnostics::text);
    let node = diagnostics.read("node", &fields.node, diagnostics::text);
    let metric = diagnostics.required("metric", &fields.metric, entry.span(), diagnostics::text);
    let metric = metric.and_then(|text| {
        let parsed = Metric::try_from(text.clone());
        let span = fields.metric.as_ref().map_or(entry.span(), Spanned::span);
        parsed
            .map_err(|error| diagnostics.refuse(span, error.to_string(), &likely_metric(&text)))
            .ok()
    });
    let (key, bound, limit): (_, _, fn(f64) -> Limit) = match (&fields.max, &fields.min) {
        (Some(_), Some(min)) => {
            diagnostics.refuse(
                min.span(),
                "`max` and `min` exclude each other".into(),
                "keep one; a second gate can have the other",
            );
            return None;
        }
        (None, None) => {
            diagnostics.refuse(
                entry.span(),
                "the gate has neither `max` nor `min`".into(),
                "give it one, such as `max = \"50 ms\"`",
            );
            return None;
        }
        (Some(max), None) => ("max", max, Limit::Max),
        (None, Some(min)) => ("min", min, Limit::Min),
    };
    let metric = metric?;
    let subject = format!("`{key}` of `{metric}`");
    let bound = diagnostics.value(&subject, bound, |value| self::bound(metric.unit(), value))?;
    Some(Gate {
        name,
        metric,
        mode,
        node,
        limit: limit(bound),
    })
}

/// Reads a limit, in the base unit of `unit`.
fn bound(unit: Unit, value: &Value) -> Result<f64, Refusal> {
    const DAY: Duration = Duration::from_hours(24);
    // The upper limit of count gates.
    const MOST: u64 = 1_000_000_000_000;
    match unit {
        Unit::Micros => {
            diagnostics::duration(Duration::ZERO..=DAY)(value).map(|it| it.as_secs_f64())
        }
        // No gate can be set on a metric in bytes a second, so that case does not occur.
        Unit::Bytes | Unit::BytesPerSecond => diagnostics::bytes(value).map(|it| it as f64),
        Unit::PerSecond => diagnostics::amount(value),
        Unit::Share => diagnostics::share(value),
        Unit::Count => diagnostics::integer::<u64>(0..=MOST)(value).map(|it| it as f64),
    }
}

/// Reads a gate's name, with whitespace folded so that it fits on one line.
fn name(value: &Value) -> Result<String, Refusal> {
    const LONGEST: usize = 63;
    match value {
        Value::Text(name) if !name.trim().is_empty() && name.chars().count() <= LONGEST => {
            Ok(name.split_whitespace().collect::<Vec<_>>().join(" "))
        }
        _ => Err(Refusal::new("a name of 1 to 63 characters")),
    }
}

/// The remedy for an unknown metric: what the user may have meant.
fn likely_metric(text: &str) -> String {
    let (name, stat) = text.split_once('.').unwrap_or((text, ""));
    let stats: Vec<_> = Metric::gateable()
        .filter(|metric| metric.name() == name)
        .map(|metric| metric.stat)
        .collect();
    if stats == [Stat::Value] {
        return format!("`{name}` is one number: leave out what follows");
    }
    if !stats.is_empty() {
        let stats: Vec<_> = stats.iter().map(|stat| stat.as_str()).collect();
        return match nearest(stat, stats.iter().copied()) {
            Some(near) if !stat.is_empty() => format!("did you mean `{name}.{near}`?"),
            _ => format!(
                "a figure of `{name}` is one of {}, such as `{name}.p99`",
                stats.join(", ")
            ),
        };
    }
    let names: Vec<String> = Metric::gateable().map(|it| it.to_string()).collect();
    if let Some(near) = nearest(text, names.iter().map(String::as_str)) {
        return format!("did you mean `{near}`?");
    }
    let (single, several): (Vec<Metric>, Vec<Metric>) =
        Metric::gateable().partition(|metric| metric.stat == Stat::Value);
    let names = |metrics: Vec<Metric>| {
        let mut names: Vec<_> = metrics.iter().map(|it| it.name()).collect();
        names.dedup();
        names.join(", ")
    };
    format!(
        "metrics are {}, and, with a statistic such as `.p99`, {}",
        names(single),
        names(several)
    )
}

/// Refuses a gate about a mode or a node that the profile does not have, since it could never pass.
fn check_place(diagnostics: &mut Diagnostics, written: &wire::Gate, gate: &Gate, modes: &[Mode]) {
    let concerned: Vec<&Mode> = modes.iter().filter(|it| gate.concerns(&it.name)).collect();
    if let (Some(field), Some(mode), []) = (&written.mode, &gate.mode, concerned.as_slice()) {
        let names: Vec<&str> = modes.iter().map(|mode| mode.name.as_str()).collect();
        let help = suggestion(mode, &names, "the modes here");
        diagnostics.refuse(
            field.span(),
            format!("no mode `{mode}` in this profile"),
            &help,
        );
        return;
    }
    match (&written.node, &gate.node) {
        (Some(field), Some(node)) => {
            if let Some((title, help)) = wrong_node(gate, node, &concerned) {
                diagnostics.refuse(field.span(), title, &help);
            }
        }
        _ if gate.metric.is_of_replica() => {
            let bare = concerned.iter().find(|mode| gate.nodes_in(mode).is_empty());
            if let (Some(mode), Some(metric)) = (bare, &written.metric) {
                diagnostics.refuse(
                    metric.span(),
                    format!(
                        "mode `{}` has no replica with a `{}`",
                        mode.name, gate.metric
                    ),
                    "name another `mode`, or add nodes under `[topology]`",
                );
            }
        }
        _ => {}
    }
}

/// Why a gate cannot be about this node, and the remedy.
fn wrong_node(gate: &Gate, node: &str, concerned: &[&Mode]) -> Option<(String, String)> {
    let metric = gate.metric;
    if !metric.is_of_replica() {
        let title = format!("`{metric}` is measured at the primary, not at each replica");
        return Some((title, "leave out `node`".into()));
    }
    if node == Topology::PRIMARY {
        return (!metric.is_visibility()).then(|| {
            let title = format!("the primary has no `{metric}`: it follows nobody");
            (title, "name a replica, or leave out `node` for all".into())
        });
    }
    if concerned.iter().any(|mode| !gate.nodes_in(mode).is_empty()) {
        return None;
    }
    let replicas = concerned.iter().flat_map(|mode| mode.topology.replicas());
    let names: Vec<_> = replicas.map(|node| node.name.as_str()).unique().collect();
    let title = match &gate.mode {
        Some(mode) => format!("mode `{mode}` has no replica `{node}`"),
        None => format!("no mode has a replica `{node}`"),
    };
    let help = match names.as_slice() {
        [] => "it has none; add nodes under `[topology]`".into(),
        names => format!("replicas are {}", names.join(", ")),
    };
    Some((title, help))
}
