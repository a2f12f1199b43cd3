//! Files that are larger than any run makes them, or never were what their name says: told of, and read within little memory.

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use assert_cmd::Command;
use replbench::record::files;
use replbench::report;
use tempfile::TempDir;

use crate::made_up::{Shape, write_run};

/// Two gigabytes of address space, in kilobytes: the program, its threads' stacks and what it reads. The files have three.
const MOST_MEMORY: u64 = 2_000_000;
const FILE_BYTES: u64 = 3 << 30;

fn runs() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for run in ["base", "head"] {
        let run = dir.path().join(run);
        write_run(&run, &Shape::tiny());
        report::write(&run).unwrap();
    }
    dir
}

/// What a command says that may not take more memory than there should be.
fn say(results: &Path, line: &str) -> Output {
    let mut command = Command::new("sh");
    command
        .args([
            "-c",
            &format!("ulimit -v {MOST_MEMORY}; exec $REPLBENCH {line}"),
        ])
        .env("REPLBENCH", env!("CARGO_BIN_EXE_replbench"))
        .current_dir(results)
        .timeout(Duration::from_mins(5));
    command.output().unwrap()
}

/// Every command that reads runs gets by with its memory and says what is wrong with the file `name` of `head`; `readers` of
/// them read it.
fn check(results: &Path, name: &str, readers: &[&str]) {
    for (command, arguments) in [
        ("show", "head"),
        ("report", "head"),
        ("compare", "base head --force"),
        ("trend", "all --repo /"),
        ("publish", "--out site --repo /"),
        ("list", "--runs"),
    ] {
        let results_option = if command == "report" {
            ""
        } else {
            "--results ."
        };
        let output = say(results, &format!("{command} {arguments} {results_option}"));
        let told = String::from_utf8_lossy(&output.stderr).into_owned()
            + &String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.signal(), None, "{name}, {command}: {told}");
        assert!(!told.contains("panicked"), "{name}, {command}: {told}");
        if readers.contains(&command) {
            // Text on the terminal is folded.
            let told = told.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(told.contains(name), "{name}, {command}: {told}");
        }
    }
}

const ALL: [&str; 6] = ["show", "report", "compare", "trend", "publish", "list"];

#[test]
fn gigabytes_of_nothing_take_no_memory() {
    let runs = runs();
    for (name, readers) in [
        (files::CELLS, &ALL[..]),
        (files::INTERVALS, &ALL[..2]),
        (files::LAG, &ALL[..2]),
        (files::VISIBILITY, &ALL[..2]),
        (files::EVENTS, &ALL[..2]),
        ("hist/cell-001.hlog", &ALL[..2]),
        (files::SUMMARY, &[]),
        (files::MANIFEST, &ALL[..]),
    ] {
        let path = runs.path().join("head").join(name);
        let whole = fs::read(&path).unwrap();
        let file = File::create(&path).unwrap();
        file.set_len(FILE_BYTES).unwrap();
        drop(file);
        check(runs.path(), name, readers);
        fs::remove_file(&path).unwrap();
        fs::write(&path, whole).unwrap();
    }
}

#[test]
fn a_row_without_an_end_is_not_taken_into_memory() {
    let runs = runs();
    let path = runs.path().join("head").join(files::LAG);
    // A quote that is opened and never closed makes one field of everything behind it.
    let mut rows = fs::read(&path).unwrap();
    rows.extend_from_slice(b"1,0,\"");
    rows.resize(rows.len() + (3 << 20), b'\n');
    fs::write(&path, rows).unwrap();
    let output = say(runs.path(), "show head --results .");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{told}");
    assert!(told.contains("a row has more than 1 MiB"), "{told}");
}

#[test]
fn more_cells_than_any_plan_has_are_cut_off_with_a_warning() {
    let runs = runs();
    let path = runs.path().join("head").join(files::CELLS);
    let text = fs::read_to_string(&path).unwrap();
    let (head, rows) = text.split_once('\n').unwrap();
    let row = rows.lines().next().unwrap();
    let (_, rest) = row.split_once(',').unwrap();
    let many: Vec<String> = (1..=20_002).map(|id| format!("{id},{rest}")).collect();
    let many = format!("{head}\n{}\n", many.join("\n"));
    fs::write(&path, many).unwrap();
    let run_summary = replbench::record::RunSummary::open(
        &runs.path().join("head"),
        replbench::record::OnMismatch::LeaveOut,
        |_, _| false,
    )
    .unwrap();
    assert_eq!(run_summary.cells.len(), 20_000);
    assert!(
        run_summary.warnings[0].contains("more than 20000 rows, the limit"),
        "{:?}",
        run_summary.warnings
    );
}
