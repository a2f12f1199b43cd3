//! Gates in profiles.

use std::fs;

use tempfile::TempDir;

use super::{GOOD, accepted, check, refused, replbench, text};

/// A profile with one gate of these lines, on modes with the replicas s1, s2, sub1 and sub2.
fn gated(gate: &str) -> String {
    format!("modes = [\"async\", \"remote_apply\", \"logical\"]\n{GOOD}[[gate]]\n{gate}")
}

#[test]
fn mistakes_in_gates_are_pointed_at_together() {
    let profile = gated(
        r#"metric = "visibilty.p99"
max = "50 ms"
[[gate]]
metric = "visibility.p99"
node = "s1"
max = 50
[[gate]]
metric = "response.p99"
node = "s1"
max = "20 ms"
[[gate]]
metric = "replay_lag_bytes.max"
mode = "remote_aply"
max = "1 MiB"
[[gate]]
metric = "visibility.p99"
mode = "logical"
node = "s1"
max = "1 s"
[[gate]]
metric = "missed"
max = 0
min = 0
"#,
    );
    insta::assert_snapshot!(refused(profile), @r#"
    error: unknown metric `visibilty.p99`
     --> p.toml:5:10
      |
    5 | metric = "visibilty.p99"
      |          ^^^^^^^^^^^^^^^
      |
      = help: did you mean `visibility.p99`?

    error: `max` of `visibility.p99` must be a duration with a unit, such as "300 ms", "5 s" or "2 min", from 0 s to 24 h
      --> p.toml:10:7
       |
    10 | max = 50
       |       ^^

    error: `response.p99` is measured at the primary, not at each replica
      --> p.toml:13:8
       |
    13 | node = "s1"
       |        ^^^^
       |
       = help: leave out `node`

    error: no mode `remote_aply` in this profile
      --> p.toml:17:8
       |
    17 | mode = "remote_aply"
       |        ^^^^^^^^^^^^^
       |
       = help: did you mean `remote_apply`?

    error: mode `logical` has no replica `s1`
      --> p.toml:22:8
       |
    22 | node = "s1"
       |        ^^^^
       |
       = help: replicas are sub1, sub2

    error: `max` and `min` exclude each other
      --> p.toml:27:7
       |
    27 | min = 0
       |       ^
       |
       = help: keep one; a second gate can have the other
    "#);
}

#[test]
fn a_gate_has_a_known_metric() {
    for (metric, help) in [
        ("visibility", "a figure of `visibility` is one of p50"),
        ("visibility.p95", "did you mean `visibility.p9"),
        ("unseen.max", "`unseen` is one number"),
        ("achieved_tsp", "did you mean `achieved_tps`?"),
        ("zzz", "metrics are achieved_tps, failed"),
    ] {
        check(
            gated(&format!("metric = \"{metric}\"\nmax = 1\n")),
            &["p.toml:5:10", &format!("unknown metric `{metric}`"), help],
        );
    }
    check(gated("max = 1\n"), &["p.toml:4:1", "`metric` is missing"]);
    check(
        gated("metrik = \"unseen\"\n"),
        &["p.toml:5:1", "did you mean `metric`?"],
    );
}

#[test]
fn a_bound_has_the_unit_of_its_metric() {
    for (metric, bound, expected) in [
        ("response.p99", "50", "a duration with a unit"),
        ("response.p99", "\"1 MiB\"", "a duration with a unit"),
        ("visibility.max", "\"-1 s\"", "a duration with a unit"),
        (
            "replay_lag_bytes.p99",
            "\"50 ms\"",
            "a number of bytes with a unit",
        ),
        (
            "replay_lag_bytes.p99",
            "1024",
            "a number of bytes with a unit",
        ),
        (
            "replay_lag_bytes.p99",
            "\"-1 B\"",
            "a number of bytes with a unit",
        ),
        ("achieved_tps", "\"500\"", "leave out the quotes"),
        ("achieved_tps", "-1", "a number, 0 or above"),
        ("achieved_tps", "nan", "a number, 0 or above"),
        ("unseen", "0.5", "an integer from 0"),
        ("failed", "-1", "an integer from 0"),
    ] {
        check(
            gated(&format!("metric = \"{metric}\"\nmax = {bound}\n")),
            &[
                "p.toml:6:7",
                &format!("`max` of `{metric}` must be "),
                expected,
            ],
        );
    }
    check(
        gated("metric = \"unseen\"\n"),
        &["p.toml:4:1", "neither `max` nor `min`"],
    );
}

#[test]
fn a_gate_is_about_a_node_that_there_is() {
    let on = |metric: &str, node: &str| {
        gated(&format!(
            "metric = \"{metric}\"\nnode = \"{node}\"\nmax = \"1 s\"\n"
        ))
    };
    check(
        on("visibility.p99", "s3"),
        &[
            "p.toml:6:8",
            "no mode has a replica `s3`",
            "replicas are s1, s2, sub1, sub2",
        ],
    );
    check(
        on("replay_lag.p99", "primary"),
        &["p.toml:6:8", "the primary has no `replay_lag.p99`"],
    );
    for node in ["s2", "sub1", "primary"] {
        accepted(on("visibility.p99", node));
    }
    let alone = gated("metric = \"unseen\"\nmax = 0\n[topology]\nstandbys = 0\n")
        .replace("\"remote_apply\", ", "");
    check(alone, &["p.toml:5:10", "mode `async` has no replica"]);
    // Where a mode is wrong, nothing is said of gates on it.
    let message = refused(
        gated("metric = \"unseen\"\nmode = \"asnyc\"\nmax = 0\n")
            .replace("[\"async\"", "[\"asnyc\""),
    );
    assert!(!message.contains("no mode `asnyc`"), "{message}");
}

#[test]
fn gates_have_names_of_their_own_and_none_steers_the_terminal() {
    let twice = "name = \"a\"\nmetric = \"unseen\"\nmax = 0\n";
    check(
        gated(&format!("{twice}[[gate]]\n{twice}")),
        &["p.toml:9:8", "second gate named `a`"],
    );
    check(
        gated("name = \"\"\n"),
        &["p.toml:5:8", "a name of 1 to 63 characters"],
    );
    let page = accepted(gated(
        "name = \"x\\u001b[31m\\u202e\"\nmetric = \"unseen\"\nmax = 0\n",
    ));
    assert!(page.contains("x\\u{1b}[31m\\u{202e}"), "{page}");
    assert!(!page.contains(['\u{1b}', '\u{202e}']), "{page:?}");
}

#[test]
fn a_gate_whose_mode_is_overridden_away_is_announced_to_fail() {
    let directory = TempDir::new().unwrap();
    let gates =
        "metric = \"unseen\"\nmode = \"async\"\nmax = 0\n[[gate]]\nmetric = \"missed\"\nmax = 0\n";
    fs::write(directory.path().join("p.toml"), gated(gates)).unwrap();
    let arguments = ["check", "p.toml", "--modes", "sync"];
    let output = replbench(directory.path(), &arguments).code(0);
    let page = text(&output.get_output().stdout);
    assert_eq!(page.matches("the gate will fail").count(), 1, "{page}");
}
