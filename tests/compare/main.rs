//! Comparing runs from the command line: verdicts, refusals, forms of output.
#![allow(
    clippy::unwrap_used,
    reason = "a test ends at the first thing that fails"
)]

mod figures;
mod library;
#[path = "../made_up/light.rs"]
mod light;

use std::path::Path;

use assert_cmd::Command;
use light::{LightRun, figure};
use serde_json::{Value, json};

const BASE: [f64; 6] = [900.0, 912.0, 905.0, 921.0, 898.0, 909.0];

/// The base's values times a factor, shaken so that no two sides are exact multiples.
fn times(factor: f64) -> Vec<f64> {
    let shaken = BASE.iter().zip([1.004, 0.997, 1.006, 0.995, 1.001, 0.999]);
    shaken
        .map(|(value, noise)| value * factor * noise)
        .collect()
}

struct Said {
    code: i32,
    out: String,
    err: String,
}

fn replbench(results: &Path, arguments: &[&str]) -> Said {
    let output = Command::cargo_bin("replbench")
        .unwrap()
        .args(&arguments[..1])
        .arg("--results")
        .arg(results)
        .args(&arguments[1..])
        .current_dir(results)
        .output()
        .unwrap();
    Said {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A base as it is and a head as `change` makes it, compared.
fn compare(change: impl FnOnce(&mut LightRun), arguments: &[&str]) -> Said {
    let results = tempfile::tempdir().unwrap();
    LightRun::of_response("base", &BASE).write(results.path());
    let mut head = LightRun::of_response("head", &times(1.0));
    change(&mut head);
    head.write(results.path());
    let mut all = vec!["compare", "base", "head"];
    all.extend(arguments);
    replbench(results.path(), &all)
}

fn response(factor: f64) -> impl FnOnce(&mut LightRun) {
    move |head| head.modes = LightRun::of_response("head", &times(factor)).modes
}

fn json_of(said: &Said) -> Value {
    serde_json::from_str(&said.out)
        .unwrap_or_else(|error| panic!("{error}: {} {}", said.out, said.err))
}

#[test]
fn a_verdict_follows_the_interval_and_sets_the_exit_code() {
    for (factor, verdict, code) in [
        (1.20, "regressed", 1),
        (0.80, "improved", 0),
        (1.00, "equivalent", 0),
        (1.05, "inconclusive", 0),
    ] {
        let said = compare(response(factor), &["--format", "json"]);
        let comparison = json_of(&said);
        assert_eq!(comparison["verdict"], verdict, "{factor}: {}", said.out);
        assert_eq!(said.code, code, "{factor}");
        let effect = comparison["rows"][0]["effect"].as_f64().unwrap();
        assert!(
            (effect / factor - 1.0).abs() < 0.02,
            "{effect} is not about {factor}"
        );
    }
}

#[test]
fn strict_makes_an_undecided_comparison_fail() {
    assert_eq!(compare(response(1.05), &["--strict"]).code, 7);
    assert_eq!(
        compare(response(1.0), &["--strict", "--metric", "response.p50"]).code,
        0
    );
    assert_eq!(compare(response(1.2), &["--strict"]).code, 1);
}

#[test]
fn a_threshold_says_what_matters() {
    assert_eq!(compare(response(1.2), &["--threshold", "50%"]).code, 0);
    assert_eq!(compare(response(1.03), &["--threshold", "0.01"]).code, 1);
    for wrong in ["0", "-1%", "x", "nan", "2000%", "5"] {
        assert_eq!(
            compare(response(1.0), &[&format!("--threshold={wrong}")]).code,
            2,
            "{wrong}"
        );
    }
    // Taken for 500 %, it let a run pass that is slower by half.
    let said = compare(response(1.5), &["--threshold", "5"]);
    assert!(said.err.contains("did you mean 5%?"), "{}", said.err);
}

#[test]
fn what_is_not_comparable_is_refused_by_its_field_and_forced_in_sight() {
    let changes: [(&str, &str, Value); 9] = [
        ("host_id", "/host/host_id", json!("h2")),
        ("host.cpu", "/host/cpu", json!("another")),
        ("host.cores", "/host/cores", json!(4)),
        ("host.filesystem", "/host/filesystem", json!("tmpfs")),
        (
            "load.offered.open.rate",
            "/profile/load/offered/open/rate",
            json!(900.0),
        ),
        (
            "probes.visibility",
            "/profile/probes/visibility",
            json!(false),
        ),
        ("PostgreSQL major", "/nodes/0/version", json!("16.4")),
        (
            "setting max_wal_size (primary)",
            "/nodes/0/settings/max_wal_size",
            json!("1GB"),
        ),
        ("status of the head is invalid", "/status", json!("invalid")),
    ];
    for (field, pointer, value) in changes {
        let change = |head: &mut LightRun| {
            *head.manifest.pointer_mut(pointer).unwrap() = value.clone();
            if field.starts_with("load") {
                head.manifest["workload_hash"] = json!("beef");
            }
        };
        let refused = compare(change, &[]);
        assert_eq!(refused.code, 7, "{field}");
        assert!(refused.err.contains(field), "{field}: {}", refused.err);
        assert!(refused.err.contains("--force"), "{}", refused.err);
        let forced = compare(change, &["--force"]);
        assert_eq!(forced.code, 0, "{field}: {}", forced.err);
        assert!(forced.out.contains("NOT COMPARABLE"), "{}", forced.out);
        let forced = json_of(&compare(change, &["--force", "--format", "json"]));
        assert_eq!(forced["forced"], true);
    }
}

#[test]
fn what_servers_compute_from_the_kernel_and_their_directories_is_no_difference() {
    let said = compare(
        |head| {
            let settings = &mut head.manifest["nodes"][0]["settings"];
            settings["max_stack_depth"] = json!("7680kB");
            settings["shared_memory_size_in_huge_pages"] = json!("71");
            settings["restore_command"] = json!("cp '/tmp/x/%f' %p");
        },
        &["--format", "json"],
    );
    assert_eq!(json_of(&said)["differences"], json!([]));
}

#[test]
fn a_minor_release_a_kernel_and_the_life_of_servers_are_noted_only() {
    let said = compare(
        |head| {
            head.manifest["nodes"][0]["version"] = json!("17.4");
            head.manifest["host"]["kernel"] = json!("6.2");
            head.manifest["session"] =
                json!({"id": "s", "side": "head", "other": "x", "items": []});
        },
        &[],
    );
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(
        said.out.contains("PostgreSQL version: 17.2 → 17.4"),
        "{}",
        said.out
    );
    assert!(said.out.contains("host.kernel: 6.1 → 6.2"), "{}", said.out);
    let servers = "servers: made once → made anew for every block";
    assert!(said.out.contains(servers), "{}", said.out);
}

#[test]
fn servers_that_are_reached_in_another_way_are_not_compared() {
    for (made, words) in [
        ("compose", "made by docker compose"),
        ("never", "there before"),
    ] {
        let said = compare(|head| head.manifest["servers_made"] = json!(made), &[]);
        assert_ne!(said.code, 0, "{}", said.out);
        let servers = format!("servers differs (made once against {words})");
        assert!(
            said.err.contains(&servers),
            "no `{servers}` in: {}",
            said.err
        );
    }
}

#[test]
fn sides_of_one_session_pair_by_block_and_their_settings_are_the_subject() {
    let session = |side: &str| json!({"id": "s", "side": side, "other": "x", "items": ["wal_compression=on"]});
    let results = tempfile::tempdir().unwrap();
    // A drift that hides the effect from two samples, and not from pairs.
    let drifting: Vec<f64> = [1.0, 1.2, 1.44, 1.7, 2.1, 2.5]
        .iter()
        .map(|drift| 900.0 * drift)
        .collect();
    let slower: Vec<f64> = drifting
        .iter()
        .zip(times(1.15))
        .map(|(one, noise)| one * noise / 900.0)
        .collect();
    let mut base = LightRun::of_response("base", &drifting);
    base.manifest["session"] = session("base");
    base.write(results.path());
    let mut head = LightRun::of_response("head", &slower);
    head.manifest["session"] = session("head");
    head.manifest["nodes"][0]["settings"]["wal_compression"] = json!("on");
    head.write(results.path());
    let said = replbench(
        results.path(),
        &["compare", "base", "head", "--format", "json"],
    );
    let comparison = json_of(&said);
    assert_eq!(comparison["kind"], "session");
    assert_eq!(comparison["verdict"], "regressed", "{}", said.out);
    assert_eq!(comparison["differences"][0]["consequence"], "subject");
}

#[test]
fn what_lies_between_the_values_of_a_pair_is_the_effect() {
    let results = tempfile::tempdir().unwrap();
    let lag = |values: &[f64]| figure("replay_lag_bytes", "p99", Some("s1"), values);
    let response = |values: &[f64]| figure("response", "p50", None, values);
    let mut run = LightRun::new("run");
    // Medians, 900 and 1,000 bytes, would say that the head lags further behind.
    run.modes = vec![
        (
            "async".into(),
            vec![
                lag(&[900.0, 900.0, 9_000.0]),
                response(&[900.0, 905.0, 990.0]),
            ],
        ),
        (
            "sync".into(),
            vec![
                lag(&[1_000.0, 1_000.0, 2_000.0]),
                response(&[950.0, 990.0, 999.0]),
            ],
        ),
    ];
    run.write(results.path());
    let said = replbench(
        results.path(),
        &["compare", "run", "--by", "mode", "--format", "json"],
    );
    let comparison = json_of(&said);
    let rows = comparison["rows"].as_array().unwrap();
    let of = |row: &Value, name: &str| row[name].as_f64().unwrap();
    let scales: Vec<_> = rows.iter().map(|row| row["scale"].as_str()).collect();
    assert_eq!(scales, [Some("ratio"), Some("difference")]);
    assert!((of(&rows[0], "head") / of(&rows[0], "base") - of(&rows[0], "effect")).abs() < 1e-12);
    assert!((of(&rows[1], "base") - 3_600.0).abs() < 1e-9);
    assert!((of(&rows[1], "effect") + 6_800.0 / 3.0).abs() < 1e-9);
    assert!((of(&rows[1], "head") - of(&rows[1], "base") - of(&rows[1], "effect")).abs() < 1e-9);
}

#[test]
fn modes_of_one_run_pair_with_the_first() {
    let results = tempfile::tempdir().unwrap();
    let mut run = LightRun::of_response("run", &BASE);
    run.modes.push((
        "sync".into(),
        vec![figure("response", "p50", None, &times(1.5))],
    ));
    run.write(results.path());
    let by_mode = ["compare", "run", "--by", "mode"];
    let said = replbench(results.path(), &by_mode);
    // A mode that waits costs what it costs.
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.out.contains("async → sync"), "{}", said.out);
    assert!(said.out.contains(" worse\n"), "{}", said.out);
    assert!(!said.out.contains("regressed"), "{}", said.out);
    let asked = [&by_mode[..], &["--fail-on-regression"]].concat();
    assert_eq!(replbench(results.path(), &asked).code, 1);
    let two_runs = ["compare", "run", "run", "--fail-on-regression"];
    assert_eq!(replbench(results.path(), &two_runs).code, 2);
    assert!(
        said.out.lines().all(|line| line.chars().count() <= 80),
        "{}",
        said.out
    );
}

#[test]
fn invalid_repetitions_are_left_out_and_told_of() {
    let said = compare(
        |head| {
            head.modes = LightRun::of_response("head", &times(1.0)).modes;
            head.modes[0].1[0].values[2] = Some(1e9);
            head.invalid.push(("async".into(), 3));
        },
        &["--format", "json"],
    );
    let comparison = json_of(&said);
    let rows = comparison["rows"].as_array().unwrap();
    let row = rows
        .iter()
        .find(|row| row["metric"] == "response" && row["stat"] == "p50")
        .unwrap();
    assert_eq!(
        (row["base_n"].as_u64(), row["head_n"].as_u64()),
        (Some(6), Some(5))
    );
    assert_ne!(row["verdict"], "regressed");
    assert!(
        comparison["notes"][0]
            .as_str()
            .unwrap()
            .contains("1 invalid repetition"),
        "{}",
        said.out
    );
}

#[test]
fn a_censored_head_is_a_regression_and_not_a_gap() {
    let said = compare(
        |head| head.modes[0].1[0].values = vec![None; 6],
        &["--format", "json"],
    );
    let comparison = json_of(&said);
    assert_eq!(comparison["verdict"], "regressed", "{}", said.out);
    let rows = comparison["rows"].as_array().unwrap();
    let row = rows
        .iter()
        .find(|row| row["verdict"] == "regressed")
        .unwrap();
    assert_eq!(row["head"], Value::Null);
    assert_eq!(row["head_censored"], 6);
    assert_eq!(row["interval"]["hi"], Value::Null);
}

#[test]
fn two_repetitions_have_no_verdict() {
    let results = tempfile::tempdir().unwrap();
    for id in ["base", "head"] {
        LightRun::of_response(id, &BASE[..2]).write(results.path());
    }
    let said = replbench(
        results.path(),
        &[
            "compare",
            "base",
            "head",
            "--metric",
            "response.p50",
            "--strict",
            "--format",
            "json",
        ],
    );
    assert_eq!(said.code, 7);
    let row = &json_of(&said)["rows"][0];
    assert_eq!(row["verdict"], "inconclusive");
    assert!(
        row["note"]
            .as_str()
            .unwrap()
            .contains("needs 4 repetitions a side"),
        "{row}"
    );
}

#[test]
fn the_json_form_keeps_its_schema() {
    let mut schemas = boon::Schemas::new();
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/schemas/comparison-1.json");
    let schema = boon::Compiler::new().compile(file, &mut schemas).unwrap();
    for change in [1.0, 1.2] {
        let comparison = json_of(&compare(response(change), &["--format", "json"]));
        schemas.validate(&comparison, schema).unwrap();
    }
    let mut broken = json_of(&compare(response(1.0), &["--format", "json"]));
    broken["rows"][0]["verdict"] = json!("splendid");
    assert!(schemas.validate(&broken, schema).is_err());
}

#[test]
fn markdown_begins_with_the_marker_and_escapes_names() {
    let said = compare(
        |head| {
            head.modes = LightRun::of_response("head", &times(1.2)).modes;
            head.manifest["session"] = json!({"id": "other", "side": "head", "other": "x", "items": ["a`|</details>\u{202e}"]});
        },
        &["--format", "md"],
    );
    assert!(
        said.out
            .starts_with("<!-- replbench-comparison -->\n### replbench: 1 regressed"),
        "{}",
        said.out
    );
    assert!(said.out.contains("**regressed**"), "{}", said.out);
    assert!(!said.out.contains('\u{202e}'), "{}", said.out);
    assert_eq!(
        said.out.matches("</details>").count(),
        2,
        "the hostile one stays inside backticks: {}",
        said.out
    );
}

#[test]
fn gates_of_the_head_are_judged_and_fail_the_comparison() {
    let gate = json!([{"name": "quick", "metric": "response.p99", "mode": null, "node": null, "limit": {"max": 1.0}}]);
    let change = |head: &mut LightRun| head.manifest["profile"]["gates"] = gate.clone();
    // These runs have no distributions, and a gate without data fails.
    let said = compare(change, &["--format", "json"]);
    assert_eq!(said.code, 1, "{}", said.err);
    assert_eq!(json_of(&said)["verdict"], "equivalent");
    assert_eq!(json_of(&said)["gates"][0]["passed"], false);
    for (format, line) in [("text", "FAIL  quick"), ("md", "| **FAIL** | quick |")] {
        let said = compare(change, &["--format", format]);
        assert!(said.out.contains(line), "{}", said.out);
    }
}

#[test]
fn csv_has_a_line_a_figure() {
    let said = compare(
        response(1.2),
        &["--format", "csv", "--metric", "response.p50"],
    );
    let mut reader = csv::Reader::from_reader(said.out.as_bytes());
    let head = reader.headers().unwrap().clone();
    let rows: Vec<_> = reader.records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 1);
    let column = |name: &str| head.iter().position(|field| field == name).unwrap();
    assert_eq!(&rows[0][column("verdict")], "regressed");
}
