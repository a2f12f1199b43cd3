//! A finished run of which a file was changed: every command says which, and makes nothing of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use assert_cmd::Command;
use replbench::record::{Manifest, files, seal};
use replbench::report;
use tempfile::TempDir;

use crate::made_up::{Shape, write_run};

/// Two finished runs, `base` and `head`, in a directory of results.
struct Runs(TempDir);

impl Runs {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let shape = Shape {
            reps: 3,
            ..Shape::tiny()
        };
        for run in ["base", "head"] {
            let partial = dir.path().join(format!("{run}.partial"));
            write_run(&partial, &shape);
            report::write(&partial).unwrap();
            let text = fs::read_to_string(partial.join(files::MANIFEST)).unwrap();
            let mut manifest: Manifest = serde_json::from_str(&text).unwrap();
            manifest.run_id = run.into();
            seal(&partial, manifest).unwrap();
        }
        Self(dir)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join("head").join(name)
    }

    fn say(&self, line: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_replbench"));
        command
            .args(line.split_whitespace())
            .current_dir(self.0.path())
            .timeout(Duration::from_mins(3));
        command.output().unwrap()
    }

    /// What a command says of the file `name`, and its exit code.
    fn check(&self, line: &str, name: &str, code: i32) {
        let output = self.say(line);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{name}, {line}: {told}");
        let expected = format!("`{name}` is not as it was recorded");
        assert!(told.contains(&expected), "{name}, {line}: {told}");
    }

    /// Nobody uses the file `name` unknowingly.
    fn is_told_of(&self, name: &str) {
        self.check("show head --results .", name, 6);
        self.check("show head --results . --force", name, 0);
        self.check("publish --results . --out site --repo /", name, 6);
        let site = fs::read_to_string(self.0.path().join("site/index.html")).unwrap();
        assert!(!self.0.path().join("site/runs/head").exists());
        assert!(site.contains("is not as it was recorded"));
        if [files::CELLS, files::SUMMARY].contains(&name) {
            self.check("compare base head --results .", name, 6);
            self.check("trend all --results . --repo /", name, 6);
            self.check("list --runs --results .", name, 0);
        }
    }
}

/// Changes one digit, in the last line.
fn change_digit(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let digit = bytes.iter().rposition(u8::is_ascii_digit).unwrap();
    bytes[digit] = if bytes[digit] == b'9' { b'8' } else { b'9' };
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_run_that_is_as_it_was_recorded_is_used_without_a_word() {
    let runs = Runs::new();
    for line in [
        "show head --results .",
        "report head",
        "compare base head --results .",
        "trend all --results . --repo .",
        "publish --results . --out site --repo .",
        "show head --results .",
    ] {
        let output = runs.say(line);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{line}: {told}");
        assert!(!told.contains("recorded"), "{line}: {told}");
    }
}

#[test]
fn a_changed_digit_is_told_whichever_file_it_is_in() {
    let runs = Runs::new();
    for name in [
        files::CELLS,
        files::INTERVALS,
        files::LAG,
        files::VISIBILITY,
        files::EVENTS,
        files::SUMMARY,
        "hist/cell-001.hlog",
        "charts/overview.svg",
        files::REPORT,
    ] {
        let whole = fs::read(runs.file(name)).unwrap();
        change_digit(&runs.file(name));
        runs.is_told_of(name);
        fs::write(runs.file(name), whole).unwrap();
    }
}

#[test]
fn report_leaves_out_what_was_changed_and_keeps_the_summary_that_was_made_before() {
    let runs = Runs::new();
    let summary = fs::read(runs.file(files::SUMMARY)).unwrap();
    let manifest = fs::read(runs.file(files::MANIFEST)).unwrap();
    change_digit(&runs.file("hist/cell-001.hlog"));
    runs.check("report head", "hist/cell-001.hlog", 6);
    runs.check("report head --quiet", "hist/cell-001.hlog", 6);
    let page = fs::read_to_string(runs.file(files::REPORT)).unwrap();
    assert!(page.contains("is not as it was recorded"));
    runs.check("report head --force", "hist/cell-001.hlog", 0);
    assert_eq!(fs::read(runs.file(files::SUMMARY)).unwrap(), summary);
    assert_eq!(fs::read(runs.file(files::MANIFEST)).unwrap(), manifest);
}

#[test]
fn report_makes_a_changed_summary_anew_and_its_checksum() {
    let runs = Runs::new();
    let summary = fs::read(runs.file(files::SUMMARY)).unwrap();
    change_digit(&runs.file(files::SUMMARY));
    runs.check("report head", files::SUMMARY, 0);
    assert_eq!(fs::read(runs.file(files::SUMMARY)).unwrap(), summary);
    let output = runs.say("compare base head --results .");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[test]
fn checksums_are_renewed_without_another_change_to_the_manifest() {
    let runs = Runs::new();
    let path = runs.file(files::MANIFEST);
    let text = fs::read_to_string(&path).unwrap();
    let newer = text.replacen(
        '{',
        "{\n  \"of_a_newer_version\": 0.10000000000000000001,",
        1,
    );
    fs::write(&path, &newer).unwrap();
    fs::write(runs.file(files::SUMMARY), "cell_id\n").unwrap();
    let sum = |text: &str| {
        text.lines()
            .find(|line| line.contains("summary.csv"))
            .unwrap()
            .to_owned()
    };
    assert_eq!(runs.say("report head").status.code(), Some(0));
    // The page has a list of checksums now that there are some.
    let renewed = fs::read_to_string(&path).unwrap();
    assert_eq!(sum(&renewed), sum(&newer));
    let others = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| !line.contains("report.html"));
        lines.map(str::to_owned).collect()
    };
    assert_eq!(others(&renewed), others(&newer));
}

#[test]
fn swapped_histograms_are_told() {
    let runs = Runs::new();
    let (one, other) = (
        runs.file("hist/cell-001.hlog"),
        runs.file("hist/cell-002.hlog"),
    );
    fs::rename(&one, runs.file("swap")).unwrap();
    fs::rename(&other, &one).unwrap();
    fs::rename(runs.file("swap"), &other).unwrap();
    runs.is_told_of("hist/cell-001.hlog");
    runs.is_told_of("hist/cell-002.hlog");
}

#[test]
fn a_duplicated_row_is_told() {
    let runs = Runs::new();
    for name in [files::CELLS, files::INTERVALS, files::SUMMARY] {
        let whole = fs::read_to_string(runs.file(name)).unwrap();
        let last = whole.lines().last().unwrap();
        fs::write(runs.file(name), format!("{whole}{last}\n")).unwrap();
        runs.is_told_of(name);
        fs::write(runs.file(name), whole).unwrap();
    }
}

#[test]
fn a_missing_file_and_one_that_nothing_vouches_for_are_told() {
    let runs = Runs::new();
    let log = runs.file("hist/cell-002.hlog");
    let bytes = fs::read(&log).unwrap();
    fs::remove_file(&log).unwrap();
    runs.is_told_of("hist/cell-002.hlog");
    fs::write(&log, bytes).unwrap();
    let path = runs.file(files::MANIFEST);
    let text = fs::read_to_string(&path).unwrap();
    let lines = text.lines().filter(|line| !line.contains("cells.csv"));
    fs::write(&path, lines.collect::<Vec<_>>().join("\n")).unwrap();
    runs.is_told_of(files::CELLS);
}

#[test]
fn force_uses_what_was_changed_and_says_so() {
    let runs = Runs::new();
    change_digit(&runs.file(files::SUMMARY));
    runs.check("trend all --results . --repo / --force", files::SUMMARY, 0);
    runs.check(
        "publish --results . --out site --repo / --force",
        files::SUMMARY,
        0,
    );
    let page = fs::read_to_string(runs.0.path().join("site/runs/head/index.html")).unwrap();
    assert!(page.contains("is not as it was recorded"));
    let output = runs.say("compare base head --results . --force");
    let said = String::from_utf8_lossy(&output.stdout).replace('\n', " ");
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(
        said.contains("head: `summary.csv` is not as it was"),
        "{said}"
    );
}

#[test]
fn a_forced_site_shows_the_figures_of_a_changed_file_in_its_overview_too() {
    let runs = Runs::new();
    fs::remove_dir_all(runs.0.path().join("base")).unwrap();
    change_digit(&runs.file(files::LAG));
    runs.check(
        "publish --results . --out site --repo / --force",
        files::LAG,
        0,
    );
    let page = fs::read_to_string(runs.0.path().join("site/index.html")).unwrap();
    assert!(page.contains("fell behind"), "{page}");
}

#[test]
fn a_run_that_has_not_ended_has_no_checksums_and_is_read_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    write_run(&dir.path().join("run.partial"), &Shape::tiny());
    let mut command = Command::new(env!("CARGO_BIN_EXE_replbench"));
    command.args(["show", "run.partial", "--results", "."]);
    let output = command.current_dir(dir.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(said.contains("checksums   none"), "{said}");
}
