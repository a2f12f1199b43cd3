//! Comparing runs from the command line: verdicts, refusals, forms of output.
#![allow(
    clippy::unwrap_used,
    reason = "a test ends at the first thing that fails"
)]

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
    assert_eq!(comparison["differences"][0]["role"], "subject");
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
fn delays_before_the_acknowledgement_are_compared_by_their_difference() {
    let values = |shift: f64| -> Vec<f64> {
        [-60.0, -55.0, -63.0, -58.0, -61.0, -57.0]
            .iter()
            .map(|it| it + shift)
            .collect()
    };
    let figures = |shift: f64| {
        vec![
            figure("visibility", "p50", Some("s1"), &values(shift)),
            figure("visibility_lo", "p50", Some("s1"), &values(shift - 5.0)),
            figure("visibility_send", "p50", Some("s1"), &values(shift + 960.0)),
        ]
    };
    let results = tempfile::tempdir().unwrap();
    for (id, shift) in [("base", 0.0), ("near", 10.0), ("far", 200.0)] {
        let mut run = LightRun::new(id);
        run.modes = vec![("sync".into(), figures(shift))];
        run.write(results.path());
    }
    // 5 % of 900 us from send to sight are 45 us.
    for (head, verdict, shift) in [("near", "equivalent", 10.0), ("far", "regressed", 200.0)] {
        let said = replbench(
            results.path(),
            &[
                "compare",
                "base",
                head,
                "--format",
                "json",
                "--metric",
                "visibility.p50",
            ],
        );
        let row = &json_of(&said)["rows"][0];
        assert_eq!(row["scale"], "difference");
        assert_eq!(row["verdict"], verdict, "{}", said.out);
        assert!((row["effect"].as_f64().unwrap() - shift).abs() < 1e-6);
    }
}

/// Two runs of visibility p50 on s1, each with the upper and the lower bounds of its repetitions; the only row of their comparison.
fn visibility_row(base: [f64; 2], head: [f64; 2]) -> Value {
    let results = tempfile::tempdir().unwrap();
    for (id, [hi, lo]) in [("base", base), ("head", head)] {
        let values = |delay: f64| -> Vec<f64> {
            let noise = [-3.0, 2.0, 0.0, -1.0, 3.0, -2.0];
            noise.iter().map(|noise| delay + noise).collect()
        };
        let mut run = LightRun::new(id);
        let of = |metric, delay| figure(metric, "p50", Some("s1"), &values(delay));
        run.modes = vec![(
            "sync".into(),
            vec![
                of("visibility", hi),
                of("visibility_lo", lo),
                of("visibility_send", hi + 600.0),
            ],
        )];
        run.write(results.path());
    }
    let arguments = ["compare", "base", "head", "--format", "json", "--metric"];
    let said = replbench(
        results.path(),
        &[&arguments[..], &["visibility.p50"]].concat(),
    );
    json_of(&said)["rows"][0].clone()
}

#[test]
fn visibility_is_judged_by_both_of_its_bounds() {
    for (base, head, verdict) in [
        // The later delay lies wholly beyond the earlier one, wherever between its bounds each lies.
        ([500.0, 450.0], [900.0, 850.0], "regressed"),
        ([900.0, 850.0], [500.0, 450.0], "improved"),
        // By the upper bounds alone it is better; by the lower bound of the base it may be worse.
        ([500.0, 100.0], [150.0, -20.0], "inconclusive"),
        // The upper bounds are alike, and say nothing of delays 400 us apart.
        ([500.0, 100.0], [501.0, 101.0], "below_resolution"),
        ([500.0, 490.0], [501.0, 491.0], "equivalent"),
    ] {
        let row = visibility_row(base, head);
        assert_eq!(row["verdict"], verdict, "{row}");
        let is_noted = row["note"] == "within the resolution of the looks";
        assert_eq!(
            is_noted,
            matches!(verdict, "inconclusive" | "below_resolution")
        );
        assert!(
            (row["base_lo"].as_f64().unwrap() - base[1]).abs() < 1.0,
            "{row}"
        );
    }
}

#[test]
fn a_delay_that_the_looks_do_not_resolve_is_marked() {
    let results = tempfile::tempdir().unwrap();
    for id in ["base", "head"] {
        let mut run = LightRun::new(id);
        let of = |metric, value: f64| figure(metric, "p50", Some("s1"), &[value; 6]);
        run.modes = vec![(
            "sync".into(),
            vec![
                of("visibility", 150.0),
                of("visibility_lo", -600.0),
                figure("resolution", "value", Some("s1"), &[750.0; 6]),
            ],
        )];
        run.write(results.path());
    }
    let said = replbench(results.path(), &["compare", "base", "head"]);
    assert!(said.out.contains("≤ 0.150"), "{}", said.out);
    assert!(said.out.contains("upper bound only"), "{}", said.out);
}

#[test]
fn lag_within_a_page_of_wal_is_below_what_can_be_told() {
    let lag = |id: &str, bytes: f64| {
        let noise = [0.9, 1.1, 1.0, 0.95, 1.05, 1.02];
        let values: Vec<f64> = noise.iter().map(|noise| bytes * noise).collect();
        let mut run = LightRun::new(id);
        let lag = figure("replay_lag_bytes", "p99", Some("s1"), &values);
        run.modes = vec![("async".into(), vec![lag])];
        run
    };
    let results = tempfile::tempdir().unwrap();
    for (id, bytes) in [("base", 500.0), ("near", 2_000.0), ("far", 80_000.0)] {
        lag(id, bytes).write(results.path());
    }
    for (head, verdict, code) in [("near", "below_resolution", 7), ("far", "regressed", 1)] {
        let arguments = ["compare", "base", head, "--strict", "--format", "json"];
        let said = replbench(results.path(), &arguments);
        assert_eq!(json_of(&said)["verdict"], verdict, "{}", said.out);
        assert_eq!(said.code, code, "{}", said.err);
    }
    let text = replbench(results.path(), &["compare", "base", "near"]);
    assert!(text.out.contains("below what can be told"), "{}", text.out);
}

#[test]
fn nothing_is_called_improved_on_the_side_that_failed_more() {
    let with_failures = |id: &str, factor: f64, failed: [f64; 6]| {
        let mut run = LightRun::of_response(id, &times(factor));
        let figures = &mut run.modes[0].1;
        figures.push(figure("failed", "value", None, &failed));
        run
    };
    let results = tempfile::tempdir().unwrap();
    with_failures("base", 1.0, [0.0; 6]).write(results.path());
    with_failures("sound", 0.8, [0.0; 6]).write(results.path());
    with_failures("once", 0.8, [0.0, 0.0, 3.0, 0.0, 0.0, 0.0]).write(results.path());
    with_failures("often", 0.8, [900.0, 910.0, 905.0, 920.0, 890.0, 915.0]).write(results.path());
    let rows = |head: &str| -> Vec<Value> {
        let said = replbench(
            results.path(),
            &["compare", "base", head, "--format", "json"],
        );
        json_of(&said)["rows"].as_array().unwrap().clone()
    };
    let verdict_of = |rows: &[Value], metric: &str| -> (String, Value) {
        let row = rows.iter().find(|row| row["metric"] == metric).unwrap();
        (
            row["verdict"].as_str().unwrap().to_owned(),
            row["note"].clone(),
        )
    };
    let sound = rows("sound");
    assert_eq!(verdict_of(&sound, "response").0, "improved");
    // Zero on both sides is no test, and none to correct the others for.
    assert_eq!(verdict_of(&sound, "failed_share").0, "equivalent");
    let share = sound.iter().find(|row| row["metric"] == "failed_share");
    assert_eq!(share.unwrap()["q"], Value::Null);
    // Three failures in one repetition of six are no difference between the sides, and no better work either.
    for (head, of_shares) in [("once", "equivalent"), ("often", "regressed")] {
        let rows = rows(head);
        assert_eq!(verdict_of(&rows, "failed_share").0, of_shares, "{head}");
        let (verdict, note) = verdict_of(&rows, "response");
        assert_eq!(verdict, "inconclusive", "{head}");
        let note = note.as_str().unwrap();
        assert!(note.contains("the head has more failed"), "{note}");
    }
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
    let gate = json!([{"name": "quick", "metric": "response.p99", "mode": null, "standby": null, "limit": {"max": 1.0}}]);
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
