//! What a verdict makes of figures that are bounds, of figures with a floor, and of what failed.

use serde_json::Value;

use crate::light::{LightRun, figure};
use crate::{json_of, replbench, times};

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
    // 5 % of 900 us from send until visible are 45 us.
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
