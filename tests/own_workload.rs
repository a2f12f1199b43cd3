//! A workload of a user's own: the example of workloads/README.md, and mistakes that only a server can tell.
//!
//! Real servers, started by the product. Without PostgreSQL every test here fails.
#![allow(clippy::unwrap_used, reason = "a test that cannot set up fails")]

mod support;

use replbench::profile::Profile;
use support::{Run, valid};

const README: &str = include_str!("../workloads/README.md");

/// The profile in the README that has tables of its own.
fn example() -> &'static str {
    let mut blocks = README
        .split("```")
        .filter_map(|it| it.strip_prefix("toml\n"));
    blocks
        .find(|it| it.contains("[[transaction]]\nname = \"pay\""))
        .unwrap()
}

/// The example with each of these pieces replaced, and the line on which a marked piece stands.
fn spoilt(replacements: &[(&str, &str)]) -> String {
    replacements
        .iter()
        .fold(example().to_owned(), |text, (from, to)| {
            assert_eq!(text.matches(from).count(), 1, "{from}");
            text.replace(from, to)
        })
}

fn line_of(text: &str, piece: &str) -> usize {
    text[..text.find(piece).unwrap()].matches('\n').count() + 1
}

/// What a run of this profile says when the server does not take it; it leaves nothing behind.
fn refused(profile: &str) -> String {
    let mut run = Run::start(profile, &["--repeats", "1"]);
    let ended = run.ends();
    assert_eq!(ended.code, 2, "{}", ended.text);
    assert!(
        run.record().is_none(),
        "a directory is left: {}",
        ended.text
    );
    run.dir.no_process_is_left();
    ended.text
}

#[test]
fn the_example_is_measured_with_visibility_in_every_mode() {
    let phases = [
        "--repeats",
        "1",
        "--warmup",
        "1s",
        "--duration",
        "3s",
        "--seed",
        "7",
    ];
    let (run, _) = valid(|| Run::start(example(), &phases));
    let record = run.record().unwrap();
    let cells = record.cells();
    assert_eq!(cells.len(), 3);
    for cell in cells {
        assert!(cell.valid && cell.acked > 300, "{cell:?}");
        for node in if cell.mode == "logical" {
            ["sub1", "sub2"]
        } else {
            ["s1", "s2"]
        } {
            let seconds = record.visibility(cell.cell_id, node);
            let commits: u64 = seconds.iter().map(|it| it.commits).sum();
            let seen: u64 = seconds.iter().map(|it| it.seen).sum();
            assert_eq!(seen, commits, "{} on {node}", cell.mode);
            // A delete of a row that is gone already shows nowhere.
            assert!(commits > cell.acked * 9 / 10, "{commits} of {}", cell.acked);
        }
    }
}

#[test]
fn what_the_server_does_not_take_is_told_with_its_line_before_anything_is_measured() {
    let profile = spoilt(&[
        ("balance - :amount,", "balanse - :amount,"),
        ("id = \"uuid\", owner", "id = \"email\", owner"),
        ("key = \"id\"\nddl", "key = \"nr\"\nddl"),
        ("'Owner ' || n", "'Owner ' || x"),
    ]);
    let said = refused(&profile);
    for (piece, what) in [
        (
            "'Owner ' || x",
            "`fill` of table `accounts`: column \"x\" does not exist",
        ),
        (
            "CREATE TABLE {payments}",
            "`key` of table `payments`: column \"nr\" does not exist",
        ),
        (
            "INSERT INTO {accounts} (id",
            "transaction `open-account`: `:id` is to be of type uuid, and its generator makes text",
        ),
        (
            "balanse",
            "statement 2 of transaction `pay`: column \"balanse\" does not exist",
        ),
    ] {
        let expected = format!(":{}: {what}", line_of(&profile, piece));
        assert!(said.contains(&expected), "{expected}\n{said}");
    }
    assert!(said.contains("CAST(:id::text AS uuid)"), "{said}");
    assert_eq!(said.matches("help:").count(), 4, "{said}");
}

#[test]
fn an_integer_that_its_column_cannot_hold_is_refused() {
    let said = refused(&spoilt(&[
        ("account bigint NOT NULL", "account smallint NOT NULL"),
        (
            "account = { uniform = \"accounts\" }, amount",
            "account = { integer = [1, 40_000] }, amount",
        ),
    ]));
    assert!(said.contains("the integer 40000"), "{said}");
}

#[test]
fn rows_that_cannot_be_filled_in_are_told_with_the_line_of_their_statement() {
    let profile = spoilt(&[("SELECT n, 'Owner ' || n", "SELECT 1, 'Owner ' || n")]);
    let mut run = Run::start(&profile, &["--repeats", "1"]);
    let ended = run.ends();
    assert_eq!(ended.code, 2, "{}", ended.text);
    let line = line_of(&profile, "INSERT INTO {accounts} (number");
    let expected = format!(":{line}: `fill` of table `accounts`: duplicate key");
    assert!(ended.text.contains(&expected), "{expected}\n{}", ended.text);
    run.dir.no_process_is_left();
}

#[test]
fn refused_ddl_is_told_with_the_line_of_its_table() {
    let profile = spoilt(&[(
        "    amount numeric(12,2) NOT NULL\n",
        "    amount numeric(12,2) NUT NULL\n",
    )]);
    let said = refused(&profile);
    let expected = format!(
        ":{}: `ddl` of table `payments`: syntax error",
        line_of(&profile, "CREATE TABLE {payments}")
    );
    assert!(said.contains(&expected), "{expected}\n{said}");
}

#[test]
fn what_can_be_seen_in_the_file_is_told_without_a_server() {
    for (from, to, what, remedy) in [
        (
            "owner = \"person\"",
            "owner = \"persom\"",
            "unknown generator `persom`",
            "did you mean `person`?",
        ),
        (
            "{ zipf = 1.1, of = \"accounts\" }",
            "{ zipf = 1.1 }",
            "`of` is missing here",
            "name the table whose rows are chosen",
        ),
        (
            "key = \"id\"                      # the column by which a row is found\n",
            "",
            "`key` is missing here",
            "name the column by which a row is found",
        ),
        (
            "(:id, :owner, 0)\"",
            "(:id, :ownr, 0)\"",
            "parameter `:ownr` has no generator",
            "did you mean `:owner`?",
        ),
        (
            "(:id, :owner, 0)\"",
            "(:id, :owner, 0) ON CONFLICT (id) DO UPDATE SET balance = 0\"",
            "this INSERT may update instead",
            "ON CONFLICT DO NOTHING",
        ),
        (
            "(:id, :owner, 0)\"",
            "(:id, :owner, 0) RETURNING id\"",
            "a RETURNING of its own",
            "leave it out",
        ),
        (
            "balance = balance + :amount, version = version + 1",
            "balance = balance + :amount",
            "does not set `version`",
            "raise it with every update",
        ),
        (
            "sql = \"DELETE FROM {accounts}",
            "sql = \"TRUNCATE {accounts}",
            "",
            "INSERT INTO, UPDATE or DELETE FROM",
        ),
    ] {
        let profile = spoilt(&[(from, to)]);
        let said = Profile::parse("p.toml", &profile).unwrap_err().to_string();
        assert!(
            said.contains(what) && said.contains(remedy),
            "{what}\n{said}"
        );
        assert!(said.contains("--> p.toml:"), "{said}");
    }
}
