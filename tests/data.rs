//! docs/data.md describes every file of a run: its columns and keys are those of a run that was recorded.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a test that cannot set up fails, and made-up figures are small"
)]

mod made_up;

use std::collections::BTreeSet;
use std::fs;

use made_up::{Shape, write_run};
use replbench::record::files;
use replbench::report;
use replbench::sample::{AuditCheck, AuditResult, AuditRow, FaultRow};
use serde::Serialize;

const DATA: &str = include_str!("../docs/data.md");

/// The first column of the table below a heading, in order.
fn described(heading: &str) -> Vec<&'static str> {
    let from = DATA.find(&format!("\n## {heading}\n")).unwrap() + 1;
    let section = DATA[from..].split("\n## ").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.map(|row| row.split('`').next().unwrap()).collect()
}

/// The columns of a file that a made-up run does not have.
fn columns(row: &impl Serialize) -> Vec<String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.serialize(row).unwrap();
    let text = String::from_utf8(writer.into_inner().unwrap()).unwrap();
    let head = text.lines().next().unwrap().split(',');
    head.map(Into::into).collect()
}

#[test]
fn every_column_and_key_is_described() {
    let dir = tempfile::tempdir().unwrap();
    let shape = Shape {
        reps: 3,
        ..Shape::tiny()
    };
    write_run(dir.path(), &shape);
    report::write(dir.path()).unwrap();
    for file in [
        files::CELLS,
        files::INTERVALS,
        files::LAG,
        files::VISIBILITY,
        files::EVENTS,
        files::SUMMARY,
    ] {
        let written = fs::read_to_string(dir.path().join(file)).unwrap();
        let columns: Vec<_> = written.lines().next().unwrap().split(',').collect();
        assert_eq!(described(file), columns, "{file}");
    }
    assert_eq!(described(files::FAULTS), columns(&FaultRow::default()));
    let audited = AuditRow {
        cell_id: 1,
        node: "s1".into(),
        check: AuditCheck::Present,
        result: AuditResult::Pass,
        examined: 1,
        violations: 0,
        detail: String::new(),
    };
    assert_eq!(described(files::AUDIT), columns(&audited));
    let manifest = fs::read(dir.path().join(files::MANIFEST)).unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    let keys: BTreeSet<_> = manifest
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    let mut known: BTreeSet<_> = described(files::MANIFEST).into_iter().collect();
    // Not in every run: `session` is in one side of a session, `servers_made` in runs that have real servers.
    for optional in ["session", "servers_made", "load_priority"] {
        assert!(known.remove(optional));
    }
    assert_eq!(keys, known);
}
