//! What reaches the files.

use std::fs;

use replbench::record::{
    Harness, Host, Manifest, RecordedPlan, Recorder, RunStatus, SCHEMA_VERSION, Subject, files,
};
use replbench::sample::{EventKind, EventRow};

fn manifest() -> Manifest {
    Manifest {
        schema_version: SCHEMA_VERSION,
        run_id: "run".into(),
        status: RunStatus::Running,
        invalid_reasons: Vec::new(),
        warnings: Vec::new(),
        started_at: String::new(),
        ended_at: None,
        argv: Vec::new(),
        plan: RecordedPlan::default(),
        workload_hash: String::new(),
        seed: 1,
        harness: Harness {
            version: "0".into(),
            git: None,
        },
        subject: Subject::default(),
        session: None,
        servers_made: None,
        load_priority: None,
        host: Host::default(),
        nodes: Vec::new(),
        files: std::collections::BTreeMap::new(),
    }
}

#[test]
fn what_a_server_says_is_written_as_text() {
    let results = tempfile::tempdir().unwrap();
    let mut recorder = Recorder::create(results.path(), manifest()).unwrap();
    let hostile = [
        "=HYPERLINK(\"http://x\")",
        "+1",
        "-1",
        "@SUM(A1)",
        "\t=1",
        "\u{1b}[2J",
        "a\u{202e}b",
        "two\r\nlines",
    ];
    for text in hostile {
        let row = EventRow {
            cell_id: Some(1),
            t_us: -5,
            node: Some(text.into()),
            kind: EventKind::Error,
            sqlstate: Some(text.into()),
            count: Some(2),
            detail: text.into(),
        };
        recorder.event(&row).unwrap();
    }
    let directory = recorder.close().unwrap();
    let mut reader = csv::Reader::from_path(directory.join(files::EVENTS)).unwrap();
    let records: Vec<_> = reader.records().map(Result::unwrap).collect();
    assert_eq!(records.len(), hostile.len());
    for (record, text) in records.iter().zip(hostile) {
        for field in [2, 4, 6].map(|column| &record[column]) {
            let is_bare = field.starts_with(['=', '+', '-', '@']);
            let is_hostile = field.contains(|c: char| c.is_control() || c == '\u{202e}');
            assert!(!is_bare && !is_hostile, "{text:?} became {field:?}");
        }
    }
    assert_eq!(&records[0][6], "'=HYPERLINK(\"http://x\")");
    // Figures are figures, whatever their sign.
    assert_eq!(&records[0][1], "-5");
    assert!(
        fs::read_to_string(directory.join(files::EVENTS))
            .unwrap()
            .contains("\\u{1b}[2J")
    );
}
