//! Profiles through the binary: what is accepted, what each wrong one is told, and the exit code.
#![allow(clippy::unwrap_used, reason = "a test that cannot set up fails")]

mod faults;
mod gates;

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use tempfile::TempDir;

pub(crate) const GOOD: &str = "[[transaction]]\nkind = \"users-insert\"\n";

pub(crate) fn replbench(directory: &Path, arguments: &[&str]) -> assert_cmd::assert::Assert {
    Command::new(env!("CARGO_BIN_EXE_replbench"))
        .current_dir(directory)
        .env("NO_COLOR", "1")
        .args(arguments)
        .assert()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// What `check` says about these bytes in a file `p.toml`, which it refuses.
pub(crate) fn refused(profile: impl AsRef<[u8]>) -> String {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("p.toml"), profile).unwrap();
    let output = replbench(directory.path(), &["check", "p.toml"])
        .code(2)
        .stdout("");
    text(&output.get_output().stderr)
}

/// What `check` says about these bytes in a file `p.toml`, which it accepts.
pub(crate) fn accepted(profile: impl AsRef<[u8]>) -> String {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("p.toml"), profile).unwrap();
    let output = replbench(directory.path(), &["check", "p.toml"])
        .code(0)
        .stderr("");
    text(&output.get_output().stdout)
}

#[track_caller]
pub(crate) fn check(profile: impl AsRef<[u8]>, expected: &[&str]) {
    let message = refused(profile);
    for part in expected {
        assert!(message.contains(part), "`{part}` is not in:\n{message}");
    }
}

#[test]
fn an_unknown_key_is_pointed_at_and_the_right_one_suggested() {
    insta::assert_snapshot!(refused("[load]\nraet = 5\n"), @r"
    error: unknown key `raet`
     --> p.toml:2:1
      |
    2 | raet = 5
      | ^^^^
      |
      = help: did you mean `rate`?
    ");
    check(
        "[zzz]\n",
        &["unknown key `zzz`", "p.toml:1:2", "keys here are name,"],
    );
}

#[test]
fn independent_mistakes_are_shown_together() {
    let profile =
        "modes = [\"async\", \"asnyc\"]\n[load]\nconnections = \"16\"\n[phases]\nwarmup = 5\n"
            .to_owned();
    insta::assert_snapshot!(refused(profile + GOOD), @r#"
    error: unknown mode `asnyc`
     --> p.toml:1:19
      |
    1 | modes = ["async", "asnyc"]
      |                   ^^^^^^^
      |
      = help: did you mean `async`?

    error: `connections` must be an integer from 1 to 1,000
     --> p.toml:3:15
      |
    3 | connections = "16"
      |               ^^^^
      |
      = help: leave out the quotes

    error: `warmup` must be a duration with a unit, such as "300 ms", "5 s" or "2 min", from 0 s to 24 h
     --> p.toml:5:10
      |
    5 | warmup = 5
      |          ^
    "#);
}

#[test]
fn rates_that_cannot_be_offered_are_refused() {
    for rate in [
        "0", "-1", "0.0", "nan", "inf", "-inf", "1e300", "\"fast\"", "true",
    ] {
        let profile = format!("[load]\nrate = {rate}\n{GOOD}");
        check(
            profile,
            &[
                "p.toml:2:8",
                "`rate` must be a number of transactions a second",
            ],
        );
    }
    for rate in ["0.5", "10_000", "\"max\""] {
        accepted(format!("[load]\nrate = {rate}\n{GOOD}"));
    }
}

#[test]
fn durations_need_a_unit_and_a_bound() {
    for duration in [
        "5",
        "\"5\"",
        "\"-5 s\"",
        "\"99999999999 h\"",
        "\"25 h\"",
        "\"soon\"",
    ] {
        let profile = format!("[phases]\nduration = {duration}\n{GOOD}");
        check(profile, &["p.toml:2:12", "a duration with a unit"]);
    }
}

#[test]
fn values_of_the_wrong_type_are_refused() {
    check(
        format!("modes = \"async\"\n{GOOD}"),
        &["`modes` must be a list of modes"],
    );
    check(
        format!("modes = []\n{GOOD}"),
        &["`modes` must be a list of modes"],
    );
    check("load = 5\n", &["p.toml:1:8", "expected a table `[load]`"]);
    check(
        format!("seed = 2026-01-01\n{GOOD}"),
        &["p.toml:1:8", "date or time"],
    );
    check(format!("seed = -1\n{GOOD}"), &["`seed` must be an integer"]);
    check(
        format!("settings = 1\n{GOOD}"),
        &["`settings` must be a table"],
    );
}

#[test]
fn weights_that_sum_to_nothing_are_refused() {
    check(format!("{GOOD}weight = 0\n"), &["p.toml:2:8", "sum to 0"]);
    check(
        format!("{GOOD}weight = -1\n"),
        &["p.toml:3:10", "`weight` must be"],
    );
}

#[test]
fn duplicates_are_refused() {
    check("[load]\n[load]\n", &["p.toml:2:2", "duplicate"]);
    check(
        format!("modes = [\"sync\", \"sync\"]\n{GOOD}"),
        &["p.toml:1:18", "`sync` is listed twice"],
    );
    check(
        format!("{GOOD}{GOOD}"),
        &["p.toml:4:8", "`users-insert` is listed twice"],
    );
    let table = "[[table]]\nkind = \"users\"\n";
    check(
        format!("{GOOD}{table}{table}"),
        &["p.toml:5:1", "second table named `users`"],
    );
    let alike = "[[table]]\nkind = \"orders\"\nname = \"users\"\n";
    check(
        format!("{GOOD}{table}{alike}"),
        &["second table named `users`"],
    );
    let derived =
        "[[transaction]]\nkind = \"order\"\n[[table]]\nkind = \"users\"\nname = \"orders\"\n";
    check(derived, &["p.toml:2:8", "second table named `orders`"]);
}

#[test]
fn exponents_of_zipf_are_above_zero() {
    for keys in [
        "{ zipf = 0 }",
        "{ zipf = -1.1 }",
        "{ zipf = nan }",
        "{ zipf = inf }",
        "{}",
        "\"zipf\"",
    ] {
        let profile = format!("[[transaction]]\nkind = \"order\"\nkeys = {keys}\n");
        check(profile, &["p.toml:3:8", "an exponent above 0"]);
    }
}

#[test]
fn row_counts_beyond_what_can_be_stored_are_refused() {
    for rows in [
        "9223372036854775808",
        "99999999999999999999999999999999999999999",
        "-1",
        "1.5",
    ] {
        let table = format!("{GOOD}[[table]]\nkind = \"users\"\nrows = {rows}\n");
        check(table, &["p.toml:5:8"]);
    }
}

#[test]
fn table_names_are_what_postgresql_takes() {
    let named = |name: &str| format!("{GOOD}[[table]]\nkind = \"users\"\nname = {name}\n");
    for name in ["\"a\\u0000b\"", "\"\"", &format!("\"{}\"", "x".repeat(64))] {
        check(named(name), &["p.toml:5:8", "1 to 63 bytes without NUL"]);
    }
    let page = accepted(named(r#"'x"; DROP SCHEMA public; --'"#));
    assert!(page.contains(r#"x"; DROP SCHEMA public; --"#), "{page}");
}

#[test]
fn hostile_characters_never_reach_the_terminal() {
    let hostile = ['\u{1b}', '\u{202e}', '\u{9b}', '\u{7f}', '\u{200b}'];
    let name = "a\\u001b[31m\\u202e\\u009b\\u007f\\u200bz";
    let page = accepted(format!(
        "{GOOD}[[table]]\nkind = \"users\"\nname = \"{name}\"\n"
    ));
    assert!(page.contains("a\\u{1b}[31m"), "{page}");
    let raw = "x\u{1b}[31m\u{202e}\u{9b}\u{200b}red = 5\n";
    let key = format!("\"{name}\" = 1\n");
    for shown in [
        page,
        refused(raw),
        refused(key),
        refused(format!("modes = [\"{name}\"]\n{GOOD}")),
    ] {
        assert!(!shown.contains(hostile), "{shown:?}");
    }
}

#[test]
fn text_that_is_not_utf8_is_refused_with_its_place() {
    check(b"# ok\nname = \"caf\xe9\"\n", &["p.toml:2:12", "not UTF-8"]);
}

#[test]
fn a_byte_order_mark_and_carriage_returns_are_accepted() {
    accepted(format!("\u{feff}{}", GOOD.replace('\n', "\r\n")));
    let wrong = format!("\u{feff}seed = -1\r\n{}", GOOD.replace('\n', "\r\n"));
    check(wrong, &["p.toml:1:8", "\n1 | seed = -1\n"]);
}

#[test]
fn a_file_that_is_too_large_is_refused_before_it_is_read() {
    let directory = TempDir::new().unwrap();
    let file = fs::File::create(directory.path().join("p.toml")).unwrap();
    file.set_len(100 << 20).unwrap();
    let output = replbench(directory.path(), &["check", "p.toml"]).code(2);
    let message = text(&output.get_output().stderr);
    assert!(message.contains("larger than 1.00 MiB"), "{message}");
}

#[test]
fn deep_nesting_is_refused_without_a_crash() {
    check(
        format!("a = {}", "[".repeat(100_000)),
        &["nested too deeply"],
    );
    check(
        format!("a = {}", "{a=".repeat(100_000)),
        &["nested too deeply"],
    );
    check(
        format!("{}b = 1", "a.".repeat(100_000)),
        &["nested too deeply"],
    );
    check(
        format!("[{}b]", "a.".repeat(100_000)),
        &["nested too deeply"],
    );
}

#[test]
fn an_empty_file_is_told_what_a_profile_needs() {
    for empty in ["", "\n\n", "# nothing\n", "\u{feff}"] {
        check(empty, &["p.toml:1:1", "no transaction", "[[transaction]]"]);
    }
}

#[test]
fn an_unknown_profile_lists_the_nearest() {
    let directory = TempDir::new().unwrap();
    let output = replbench(directory.path(), &["check", "sync-vs-asnc"]).code(2);
    let message = text(&output.get_output().stderr);
    assert!(
        message.contains("the nearest are `sync-vs-async`"),
        "{message}"
    );
    let output = replbench(directory.path(), &["check", "./missing"]).code(2);
    let message = text(&output.get_output().stderr);
    assert!(message.contains("`./missing` cannot be read"), "{message}");
}

#[test]
fn a_commit_that_a_subscriber_cannot_show_is_refused() {
    let profile = "modes = [\"async\", \"logical\"]\n[[transaction]]\nname = \"rename\"\n\
                   params = { id = { uniform = \"users\" } }\n\
                   sql = \"UPDATE {users} SET name = 'x' WHERE id = :id\"\n";
    check(
        profile,
        &[
            "p.toml:3:8",
            "`rename` updates `users`, which has no `version`",
            "mode `logical`",
        ],
    );
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("p.toml");
    fs::write(&path, profile.replace(", \"logical\"", "")).unwrap();
    replbench(directory.path(), &["check", "p.toml"]).code(0);
    let arguments = ["check", "p.toml", "--modes", "async,logical"];
    let output = replbench(directory.path(), &arguments).code(2);
    let message = text(&output.get_output().stderr);
    assert!(message.contains("`rename` updates `users`"), "{message}");
    let arguments = ["check", "ecommerce", "--modes", "async,logical"];
    replbench(directory.path(), &arguments).code(0);
}

#[test]
fn updates_need_rows() {
    let profile = "[[transaction]]\nkind = \"order\"\n";
    let page = accepted(profile);
    assert!(page.contains("10,000 rows"), "{page}");
    check(
        format!("{profile}[[table]]\nkind = \"product\"\nrows = 0\n"),
        &["p.toml:5:8", "chooses rows of `Product`"],
    );
    let directory = TempDir::new().unwrap();
    replbench(directory.path(), &["check", "ecommerce", "--scale", "0"]).code(2);
}

#[test]
fn modes_that_mean_the_same_are_refused() {
    let modes = |modes: &str| {
        GOOD.replace(
            "[[transaction]]",
            &format!("modes = [{modes}]\n[[transaction]]"),
        )
    };
    for same in ["\"sync\", \"sync:first-1\"", "\"sync\", \"on\""] {
        check(modes(same), &["p.toml:1:", "are the same"]);
    }
    accepted(modes("\"sync\", \"sync:any-1\", \"async\", \"local\""));
    let directory = TempDir::new().unwrap();
    replbench(
        directory.path(),
        &[
            "check",
            "quorum",
            "--modes",
            "sync,sync:any-1",
            "--standbys",
            "1",
        ],
    )
    .code(2);
}

#[test]
fn max_connections_below_what_a_run_needs_is_refused_by_check() {
    let directory = TempDir::new().unwrap();
    let profile = format!("{GOOD}[settings]\nmax_connections = 10\n");
    fs::write(directory.path().join("p.toml"), profile).unwrap();
    let refused = replbench(directory.path(), &["check", "./p.toml"]).code(2);
    let said = text(&refused.get_output().stderr);
    assert!(said.contains("this run needs at least"), "{said}");
}

#[test]
fn settings_that_a_mode_decides_are_refused() {
    for setting in [
        "synchronous_commit = \"off\"",
        "fsync = false",
        "Port = 1",
        "ssl = true",
        "ssl_cert_file = \"x\"",
        "include = \"x\"",
        "include_if_exists = \"x\"",
        "config_file = \"x\"",
        "recovery_target_time = \"now\"",
        "default_transaction_read_only = true",
    ] {
        check(
            format!("{GOOD}[settings]\n{setting}\n"),
            &["p.toml:4:1", "belongs to replbench"],
        );
    }
    check(
        format!("{GOOD}[settings]\nwork_mem = \"a\\nb\"\n"),
        &["p.toml:4:12"],
    );
    let page = accepted(format!(
        "{GOOD}[settings]\nwal_compression = true\nmax_wal_size = \"2GB\"\n"
    ));
    assert!(page.contains("wal_compression = on"), "{page}");
    assert!(page.contains("max_wal_size = 2GB"), "{page}");
}

#[test]
fn how_long_a_run_takes_is_said_before_it_starts() {
    let directory = TempDir::new().unwrap();
    let said = |arguments: &[&str]| {
        let output = replbench(directory.path(), arguments).code(0);
        text(&output.get_output().stdout)
    };
    let list = said(&["list"]);
    let profiles = list.lines().filter(|line| !line.starts_with([' ', 'r']));
    let profiles = profiles.filter(|line| !line.is_empty()).count();
    let unfolded = list.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(unfolded.matches("; about ").count(), profiles, "{list}");
    let json: serde_json::Value =
        serde_json::from_str(&said(&["list", "--format", "json"])).unwrap();
    let estimates = json.as_array().unwrap().iter();
    assert!(
        estimates
            .clone()
            .all(|it| it["estimated_s"].as_u64() > Some(10)),
        "{json}"
    );
    let page = said(&["run", "sync-vs-async", "--dry-run"]);
    for words in ["takes about", "made anew for every block", "discarded cell"] {
        assert!(page.contains(words), "`{words}` is not in:\n{page}");
    }
}

#[test]
fn every_run_has_arrivals_of_its_own_unless_a_seed_is_given() {
    let directory = TempDir::new().unwrap();
    let seed = |given: &[&str]| {
        let arguments = [&["run", "quorum", "--dry-run"], given].concat();
        let output = replbench(directory.path(), &arguments).code(0);
        let page = text(&output.get_output().stdout);
        let line = page.lines().find(|line| line.trim().starts_with("seed"));
        line.unwrap().to_owned()
    };
    // Three draws of 32 bits are alike once in 10^19.
    let drawn = [seed(&[]), seed(&[]), seed(&[])];
    assert!(drawn.iter().any(|line| *line != drawn[0]), "{drawn:?}");
    assert!(seed(&["--seed", "7"]).contains("--seed 7"));
}

#[test]
fn what_is_expected_of_a_cell_is_a_share_and_a_yes_or_no() {
    let page = accepted(format!(
        "{GOOD}[expect]\nfailures = \"12.5 %\"\noverload = true\n"
    ));
    assert!(
        page.contains("at most 12.5 % of arrivals to fail, also under overload"),
        "{page}"
    );
    for (wrong, title) in [
        ("failures = \"120 %\"", "`failures` must be a share"),
        ("failures = 5", "`failures` must be a share"),
        ("failures = \"many\"", "`failures` must be a share"),
        ("overload = \"yes\"", "`overload` must be true or false"),
    ] {
        check(format!("{GOOD}[expect]\n{wrong}\n"), &[title, wrong]);
    }
}

#[test]
fn duration_and_count_exclude_each_other() {
    let profile = format!("[phases]\nduration = \"5 s\"\ncount = 10\n{GOOD}");
    check(profile, &["p.toml:3:9", "exclude each other"]);
}

#[test]
fn overrides_out_of_range_are_refused() {
    let directory = TempDir::new().unwrap();
    for arguments in [
        ["--connections", "0"],
        ["--connections", "1001"],
        ["--repeats", "0"],
        ["--rate", "0"],
        ["--rate", "nan"],
        ["--modes", "asnyc"],
        ["--modes", "async,async"],
        ["--duration", "5"],
        ["--duration", "0 s"],
        ["--count", "0"],
        ["--scale", "nan"],
        ["--scale", "-1"],
        ["--standbys", "17"],
        ["--standbys", "0"],
    ] {
        let arguments = [&["check", "sync-vs-async"], arguments.as_slice()].concat();
        let output = replbench(directory.path(), &arguments).code(2);
        let message = text(&output.get_output().stderr);
        assert!(message.starts_with("error: "), "{arguments:?}: {message}");
    }
}

#[test]
fn pages_fit_eighty_columns() {
    let directory = TempDir::new().unwrap();
    let list = text(
        &replbench(directory.path(), &["list"])
            .code(0)
            .get_output()
            .stdout,
    );
    assert!(
        list.lines().all(|line| line.chars().count() <= 80),
        "{list}"
    );
    let names: Vec<_> = list
        .lines()
        .filter_map(|line| line.split(' ').next())
        .filter(|it| !it.is_empty())
        .collect();
    assert!(names.contains(&"sync-vs-async"), "{names:?}");
    for name in names.iter().filter(|it| **it != "replbench") {
        let page = replbench(directory.path(), &["check", name]).code(0);
        let page = text(&page.get_output().stdout);
        assert!(
            page.lines().all(|line| line.chars().count() <= 80),
            "{page}"
        );
    }
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    #[allow(
        clippy::disallowed_methods,
        reason = "assert_cmd always reads standard output to its end"
    )]
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_replbench"))
        .arg("list")
        .stdout(writer)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(text(&output.stderr), "");
}

#[test]
fn the_documented_defaults_are_the_defaults() {
    let guide = include_str!("../../workloads/README.md");
    let example = guide
        .split("```")
        .nth(1)
        .and_then(|it| it.strip_prefix("toml\n"))
        .unwrap();
    let documented = accepted(example);
    let bare =
        "name = \"mine\"\ndescription = \"What do I ask?\"\n[[transaction]]\nkind = \"order\"\n";
    assert_eq!(sorted(&documented), sorted(&accepted(bare)));
}

#[test]
fn the_documented_gate_is_one() {
    let guide = include_str!("../../workloads/README.md");
    let blocks = guide
        .split("```")
        .filter_map(|it| it.strip_prefix("toml\n"));
    let gate = blocks.skip(1).find(|it| it.contains("[[gate]]")).unwrap();
    let page = accepted(format!("{GOOD}{gate}"));
    assert!(
        page.contains("visibility.p99 on s1 under async: at most 50 ms"),
        "{page}"
    );
}

/// Without the workload's hash, because tables are in the order in which they are listed, and without the drawn seed.
fn sorted(page: &str) -> Vec<&str> {
    page.lines()
        .filter(|line| !line.starts_with("  workload ") && !line.starts_with("  seed "))
        .collect()
}
