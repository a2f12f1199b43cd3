//! The newest figures as `OpenMetrics` text 1.0 (prometheus/docs, `docs/specs/om/open_metrics_spec.md`): metadata before the
//! samples of a family, families whole, base units as suffixes of names, backslash, quote and line feed escaped in labels,
//! `# EOF` last.

use std::fmt::Write as _;

use crate::analyse::{Point, Series};
use crate::report::escape_control;

/// A family: its name, the unit at the end of that, if it is one, and what it is.
struct Family {
    metric: &'static str,
    name: &'static str,
    unit: Option<&'static str>,
    help: &'static str,
    /// From the unit of `summary.csv` to the base unit.
    divisor: f64,
}

const MICROS: f64 = 1e6;

const FAMILIES: [Family; 5] = [
    Family {
        metric: "achieved_tps",
        name: "replbench_commits_per_second",
        unit: None,
        help: "Acknowledged commits a second.",
        divisor: 1.0,
    },
    Family {
        metric: "service",
        name: "replbench_service_seconds",
        unit: Some("seconds"),
        help: "From the send of a transaction to its answer.",
        divisor: MICROS,
    },
    Family {
        metric: "response",
        name: "replbench_response_seconds",
        unit: Some("seconds"),
        help: "From the intended start of a transaction to its answer.",
        divisor: MICROS,
    },
    Family {
        metric: "visibility",
        name: "replbench_visibility_seconds",
        unit: Some("seconds"),
        help: "From the acknowledgement of a commit until a read on the replica sees it. May be negative.",
        divisor: MICROS,
    },
    Family {
        metric: "replay_lag_bytes",
        name: "replbench_replay_lag_bytes",
        unit: Some("bytes"),
        help: "WAL that the replica has yet to replay.",
        divisor: 1.0,
    },
];

/// The newest valid run of each series. A censored figure has no sample, because its value is unknown.
pub fn trend_openmetrics(series: &[Series]) -> String {
    let newest: Vec<(&Series, &Point)> = series
        .iter()
        .filter_map(|one| Some((one, one.newest()?)))
        .collect();
    let mut out = String::new();
    for family in &FAMILIES {
        let own = newest.iter().filter(|(one, _)| one.metric == family.metric);
        let samples = own.filter_map(|(one, point)| {
            let value = point.value? / family.divisor;
            Some((figure_labels(one), value.to_string()))
        });
        write_family(
            &mut out,
            (family.name, "gauge", family.unit, family.help),
            "",
            samples,
        );
    }
    let regressed = newest.iter().map(|(one, _)| {
        let value = if one.has_regressed() { "1" } else { "0" };
        let mut labels = selectors(one);
        labels.push(("figure", one.figure()));
        (labels, value.to_owned())
    });
    write_family(
        &mut out,
        (
            "replbench_regressed",
            "gauge",
            None,
            "1 when a regression of the series stands that nobody has blessed.",
        ),
        "",
        regressed,
    );
    let started = newest.iter().filter_map(|(one, point)| {
        let started: jiff::Timestamp = point.started_at.parse().ok()?;
        Some((
            vec![("series", one.id.clone())],
            started.as_second().to_string(),
        ))
    });
    write_family(
        &mut out,
        (
            "replbench_run_start_time_seconds",
            "gauge",
            Some("seconds"),
            "When the newest run of the series was started, since 1970.",
        ),
        "",
        started,
    );
    let runs = newest
        .iter()
        .map(|(one, point)| (run_labels(one, point), "1".to_owned()));
    write_family(
        &mut out,
        (
            "replbench_run",
            "info",
            None,
            "The newest run of the series and its conditions.",
        ),
        "_info",
        runs,
    );
    out + "# EOF\n"
}

type Labels = Vec<(&'static str, String)>;

fn write_family(
    out: &mut String,
    (name, kind, unit, help): (&str, &str, Option<&str>, &str),
    suffix: &str,
    samples: impl Iterator<Item = (Labels, String)>,
) {
    let mut samples = samples.peekable();
    if samples.peek().is_none() {
        return;
    }
    let _ = writeln!(out, "# TYPE {name} {kind}");
    if let Some(unit) = unit {
        let _ = writeln!(out, "# UNIT {name} {unit}");
    }
    let _ = writeln!(out, "# HELP {name} {help}");
    for (labels, value) in samples {
        let labels: Vec<String> = labels
            .iter()
            .map(|(label, text)| format!("{label}=\"{}\"", escape(&escape_control(text))))
            .collect();
        let _ = writeln!(out, "{name}{suffix}{{{}}} {value}", labels.join(","));
    }
}

/// What a person selects by; the rest is in `replbench_run_info` of the same `series`.
fn selectors(one: &Series) -> Labels {
    let mut labels = vec![
        ("series", one.id.clone()),
        ("profile", one.conditions.profile.clone()),
        ("postgresql", one.conditions.postgresql.clone()),
        ("mode", one.mode.clone()),
    ];
    labels.extend(one.node.clone().map(|node| ("node", node)));
    labels
}

fn figure_labels(one: &Series) -> Labels {
    let mut labels = selectors(one);
    if one.stat != "value" {
        labels.push(("stat", one.stat.clone()));
    }
    labels
}

fn run_labels(one: &Series, point: &Point) -> Labels {
    let of = &one.conditions;
    let mut labels = vec![
        ("series", one.id.clone()),
        ("run", point.run_id.clone()),
        ("host", of.host_id.clone()),
        ("cpu", of.cpu.clone()),
        ("cores", of.cores.to_string()),
        ("filesystem", of.filesystem.clone()),
        ("workload", of.workload_hash.clone()),
        ("settings", one.settings.clone()),
        ("status", point.status.as_str().to_owned()),
    ];
    labels.extend(point.commit.clone().map(|commit| ("commit", commit)));
    labels
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            _ => out.push(c),
        }
    }
    out
}
