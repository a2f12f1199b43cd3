//! A trend as text and in the forms of other tools.

use replbench::analyse::{Blessing, Series, trend};
use replbench::record::RunStatus;
use replbench::report;
use replbench::sample::Direction;
use serde_json::Value;

use crate::made::{blessing, hash, run_summaries, step};

/// Two modes, one with a hostile name; a regression, an invalid run, and a figure that is censored in the newest run.
fn colourful() -> Vec<Series> {
    let (mut runs, order) = step(10, 5, 1.25);
    for run in &mut runs {
        run.modes.push("a\"b\\c=\u{1b}[31m|\n</script>".into());
    }
    runs[2].status = RunStatus::Invalid;
    runs[9].visibility = None;
    let reason = Some("asked for".to_owned());
    let blessed = Blessing {
        mode: Some("async".into()),
        reason,
        ..blessing(&hash(5))
    };
    trend(&run_summaries(&runs), &order, &[blessed])
}

#[test]
fn the_text_is_as_it_was() {
    insta::assert_snapshot!(report::trend_text(&colourful(), 80));
}

#[test]
fn the_csv_has_a_row_a_point() {
    let series = colourful();
    let text = report::trend_csv(&series).unwrap();
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let columns = reader.headers().unwrap().len();
    let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    assert!(rows.iter().all(|row| row.len() == columns));
    assert_eq!(rows.len(), 60);
    let async_response: Vec<_> = text
        .lines()
        .filter(|line| line.contains(",async,,response,"))
        .collect();
    insta::assert_snapshot!(format!(
        "{}\n{}",
        text.lines().next().unwrap(),
        async_response.join("\n")
    ));
}

#[test]
fn the_export_for_github_action_benchmark_holds_one_direction() {
    let series = colourful();
    let lower = report::trend_github_action_benchmark(&series, Direction::LowerIsBetter);
    let entries: Vec<Value> = serde_json::from_str(&lower).unwrap();
    // The newest visibility is censored: it has no number, and no older one stands for it.
    assert_eq!(entries.len(), 2, "{lower}");
    insta::assert_snapshot!(lower);
    let higher = report::trend_github_action_benchmark(&series, Direction::HigherIsBetter);
    let entries: Vec<Value> = serde_json::from_str(&higher).unwrap();
    assert_eq!(entries.len(), 2);
    assert_eq!(entries[0]["unit"], "1/s");
}

#[test]
fn series_of_one_name_get_their_id_as_well() {
    let (runs, order) = step(2, 9, 1.0);
    let mut run_summaries = run_summaries(&runs);
    run_summaries[1].manifest.host.host_id = "other".into();
    let series = trend(&run_summaries, &order, &[]);
    let text = report::trend_github_action_benchmark(&series, Direction::LowerIsBetter);
    let entries: Vec<Value> = serde_json::from_str(&text).unwrap();
    let mut names: Vec<&str> = entries
        .iter()
        .map(|it| it["name"].as_str().unwrap())
        .collect();
    assert_eq!(names.len(), 4);
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 4, "{text}");
}

#[test]
fn the_export_for_otava_has_a_row_a_run() {
    let text = report::trend_otava(&colourful()).unwrap();
    assert_eq!(text.lines().count(), 10);
    insta::assert_snapshot!(text);
}

#[test]
fn otava_sees_every_run_in_the_order_of_commits_whatever_its_modes() {
    let (mut runs, order) = step(6, 9, 1.0);
    runs[1].modes = vec!["sync".into()];
    runs[4].modes = vec!["sync".into(), "async".into()];
    let text = report::trend_otava(&trend(&run_summaries(&runs), &order, &[])).unwrap();
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    let ids: Vec<&str> = rows.iter().map(|row| &row[2]).collect();
    assert_eq!(
        ids,
        [
            "run-000", "run-001", "run-002", "run-003", "run-004", "run-005"
        ]
    );
    let filled = |row: &csv::StringRecord| row.iter().skip(3).filter(|it| !it.is_empty()).count();
    assert_eq!(
        rows.iter().map(filled).collect::<Vec<_>>(),
        [3, 3, 3, 3, 6, 3]
    );
}

#[test]
fn the_openmetrics_are_as_they_were() {
    insta::assert_snapshot!(report::trend_openmetrics(&colourful()));
}

#[test]
fn the_text_fits_the_terminal_however_long_the_history_and_its_names() {
    let (mut runs, order) = step(300, 150, 1.2);
    for run in &mut runs {
        run.modes = vec!["sync:any-2".repeat(12), "\u{202e}x y\t".repeat(9)];
    }
    runs[150].commit = None;
    runs[150].id = "a-very-long-run-id-".repeat(6);
    let reason = Some("because ".repeat(40));
    let blessed = Blessing {
        reason,
        ..blessing(&hash(151))
    };
    let series = trend(&run_summaries(&runs), &order, &[blessed]);
    for width in [60, 80] {
        let text = report::trend_text(&series, width);
        for line in text.lines() {
            assert!(line.chars().count() <= width, "{line}");
        }
        assert!(!text.contains('\u{202e}'));
        let lines: Vec<&str> = text.lines().collect();
        let mark = lines.iter().position(|line| line.trim() == "^").unwrap();
        let column = lines[mark].find('^').unwrap();
        let blocks: Vec<char> = lines[mark - 1].chars().collect();
        let before: Vec<char> = blocks[2..column].to_vec();
        let after: Vec<char> = blocks[column..].to_vec();
        // Higher figures have higher blocks, and the code points go up with the height.
        assert!(
            before.iter().max() < after.iter().min() || before.iter().min() > after.iter().max()
        );
    }
}
