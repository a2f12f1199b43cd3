//! The newest figures as `OpenMetrics` text 1.0 (prometheus/docs, `docs/specs/om/open_metrics_spec.md`): metadata before the
//! samples of a family, families whole, base units as suffixes of names, backslash, quote and line feed escaped in labels,
//! `# EOF` last.

use std::fmt::Write as _;

use crate::analyse::{Point, Series};
use crate::report::escape_control;

/// The metric families of figures: the metric of replbench; the family's name, which ends with the base unit if it has one; the help text.
const FIGURES: [(&str, &str, &str); 5] = [
    (
        "achieved_tps",
        "replbench_commits_per_second",
        "Acknowledged commits a second.",
    ),
    (
        "service",
        "replbench_service_seconds",
        "From the send of a transaction to its answer.",
    ),
    (
        "response",
        "replbench_response_seconds",
        "From the intended start of a transaction to its answer.",
    ),
    (
        "visibility",
        "replbench_visibility_seconds",
        "From the acknowledgement of a commit until a read on the replica sees it. May be negative.",
    ),
    (
        "replay_lag_bytes",
        "replbench_replay_lag_bytes",
        "WAL that the replica has yet to replay.",
    ),
];

/// The figures of the newest valid run of each series. A censored figure has no sample, because its value is unknown.
pub fn trend_openmetrics(series: &[Series]) -> String {
    let newest = series.iter().filter_map(|one| Some((one, one.newest()?)));
    let newest: Vec<(&Series, &Point)> = newest.collect();
    let mut out = String::new();
    for (metric, name, help) in FIGURES {
        // Times of series are in microseconds.
        let divisor = if unit(name) == Some("seconds") {
            1e6
        } else {
            1.0
        };
        let own = newest.iter().filter(|(one, _)| one.metric == metric);
        let samples = own.filter_map(|(one, point)| {
            let value = point.value? / divisor;
            Some((figure_labels(one), value.to_string()))
        });
        write_family(&mut out, name, "gauge", help, samples);
    }
    let regressed = newest.iter().map(|(one, _)| {
        let value = u8::from(one.has_regressed());
        let mut labels = selectors(one);
        labels.push(("figure", one.figure()));
        (labels, value.to_string())
    });
    let help = "1 when a regression of the series stands that nobody has blessed.";
    write_family(&mut out, "replbench_regressed", "gauge", help, regressed);
    let started = newest.iter().filter_map(|(one, point)| {
        let started: jiff::Timestamp = point.started_at.parse().ok()?;
        let labels = vec![("series", one.id.clone())];
        Some((labels, started.as_second().to_string()))
    });
    let name = "replbench_run_start_time_seconds";
    let help = "When the newest run of the series was started, since 1970.";
    write_family(&mut out, name, "gauge", help, started);
    let runs = newest
        .iter()
        .map(|(one, point)| (run_labels(one, point), "1".to_owned()));
    let help = "The newest run of the series and its conditions.";
    write_family(&mut out, "replbench_run", "info", help, runs);
    out + "# EOF\n"
}

/// The base unit at the end of a family's name; `None` if the name has none.
fn unit(name: &str) -> Option<&str> {
    let (_, last) = name.rsplit_once('_')?;
    ["seconds", "bytes"].contains(&last).then_some(last)
}

type Labels = Vec<(&'static str, String)>;

/// Writes a family with its metadata; nothing if it has no samples.
fn write_family(
    out: &mut String,
    name: &str,
    kind: &str,
    help: &str,
    samples: impl Iterator<Item = (Labels, String)>,
) {
    let suffix = if kind == "info" { "_info" } else { "" };
    for (index, (labels, value)) in samples.enumerate() {
        if index == 0 {
            let _ = writeln!(out, "# TYPE {name} {kind}");
            if let Some(unit) = unit(name) {
                let _ = writeln!(out, "# UNIT {name} {unit}");
            }
            let _ = writeln!(out, "# HELP {name} {help}");
        }
        let labels = labels
            .iter()
            .map(|(label, text)| format!("{label}=\"{}\"", escape(&escape_control(text))));
        let labels = labels.collect::<Vec<_>>().join(",");
        let _ = writeln!(out, "{name}{suffix}{{{labels}}} {value}");
    }
}

/// The labels that a person selects by. The other conditions are labels of `replbench_run_info` with the same `series`.
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
    let text = text.replace('\\', "\\\\").replace('"', "\\\"");
    text.replace('\n', "\\n")
}
