//! Series, their order, their changes and blessings, from runs in memory.

use replbench::analyse::{Blessing, Series, Verdict, trend};
use replbench::metric::Scale;
use replbench::plan::Side;
use replbench::record::{RunStatus, RunSummary, Session};
use replbench::sample::SummaryRow;
use serde_json::Value;

use crate::made::{Made, NOISE, blessing, hash, node, response, run_summaries, step};

#[test]
fn a_step_is_a_regression_of_its_commit_and_for_a_rate_too() {
    let (runs, order) = step(12, 7, 1.2);
    let all = trend(&run_summaries(&runs), &order, &[]);
    let figures: Vec<String> = all.iter().map(Series::figure).collect();
    assert_eq!(figures, ["achieved_tps", "response.p99", "visibility.p99"]);
    for (series, effect) in all[..2].iter().zip([1.0 / 1.2, 1.2]) {
        let [change] = series.changes.as_slice() else {
            panic!("{:?}", series.changes)
        };
        assert_eq!((change.index, change.previous), (7, 6));
        assert_eq!(change.verdict, Verdict::Regressed);
        assert!((change.effect.unwrap() / effect - 1.0).abs() < 0.01);
        assert!(change.p <= 0.05 && series.has_regressed());
    }
    assert_eq!(all[2].changes, []);
    let point = &all[1].points[0];
    assert_eq!((point.n, point.censored), (3, 0));
    // The geometric mean of 1,000 and as much on both sides of it.
    assert!((point.value.unwrap() - 1_000.0).abs() < 0.1, "{point:?}");
    assert!(point.lo.unwrap() < 1_000.0 && 1_000.0 < point.hi.unwrap());
}

#[test]
fn half_a_recovery_leaves_a_regression_standing_and_a_whole_one_does_not() {
    for (last, stands) in [(1.25, true), (1.01, false)] {
        let order: Vec<String> = (0..36).map(hash).collect();
        let level = |index: usize| match index {
            0..12 => 1.0,
            12..24 => 1.5,
            _ => last,
        };
        let runs: Vec<Made> = (0..36)
            .map(|index| Made::new(index, &order[index], 1_000.0 * level(index)))
            .collect();
        let series = response(trend(&run_summaries(&runs), &order, &[]));
        assert_eq!(series.changes.len(), 2, "{:?}", series.changes);
        assert_eq!(series.standing().unwrap().verdict, Verdict::Improved);
        assert_eq!(series.has_regressed(), stands, "{last}");
    }
}

#[test]
fn a_shift_within_the_threshold_is_shown_as_equivalent() {
    let (runs, order) = step(24, 12, 1.04);
    let series = response(trend(&run_summaries(&runs), &order, &[]));
    assert_eq!(series.changes.len(), 1);
    assert_eq!(series.changes[0].verdict, Verdict::Equivalent);
    assert!(series.standing().is_none() && !series.has_regressed());
}

#[test]
fn runs_stand_by_commit_then_changes_then_the_unknown() {
    let order: Vec<String> = (0..4).map(hash).collect();
    let run = |number: usize, commit: Option<String>| Made {
        commit,
        ..Made::new(number, "", 1_000.0)
    };
    let runs = [
        run(0, None),
        run(1, Some(hash(2))),
        run(2, Some(format!("{}-dirty", hash(1)))),
        run(3, Some("elsewhere".into())),
        run(4, Some(hash(1))),
        run(5, Some(hash(1))),
        run(6, Some(hash(3))),
        run(7, None),
    ];
    let series = response(trend(&run_summaries(&runs), &order, &[]));
    let ids: Vec<&str> = series.points.iter().map(|it| it.run_id.as_str()).collect();
    // 0 was before any known commit; 3 came after 2 had been run, however old what followed.
    let expected = [0, 4, 5, 2, 1, 3, 6, 7].map(|number| format!("run-{number:03}"));
    assert_eq!(ids, expected);
}

#[test]
fn time_is_not_text() {
    let mut runs = [Made::new(0, "a", 1.0), Made::new(1, "b", 1.0)];
    runs[0].started_at = "2026-07-01T09:15:03.105Z".into();
    runs[1].started_at = "2026-07-01T09:15:03Z".into();
    let series = response(trend(&run_summaries(&runs), &[], &[]));
    assert_eq!(series.points[0].run_id, "run-001");
}

/// Changes what the plan says.
fn replan(run: &mut RunSummary, change: impl FnOnce(&mut Value)) {
    let mut plan = Value::from(run.manifest.plan.clone());
    change(&mut plan);
    run.manifest.plan = plan.into();
}

#[test]
fn other_conditions_make_another_series() {
    type Change = fn(&mut RunSummary);
    let apart: [(&str, Change); 9] = [
        ("host", |it| it.manifest.host.host_id = "other".into()),
        ("cores", |it| it.manifest.host.cores = 4),
        ("file system", |it| {
            it.manifest.host.filesystem = "xfs".into();
        }),
        ("workload", |it| it.manifest.workload_hash = "other".into()),
        ("profile", |it| {
            replan(it, |plan| plan["profile"] = "x".into());
        }),
        ("probes", |it| {
            replan(it, |plan| plan["probes"]["visibility"] = false.into());
        }),
        ("mode", |it| {
            replan(it, |plan| plan["modes"][0]["level"] = "off".into());
        }),
        ("major", |it| it.manifest.nodes[0].version = "18.0".into()),
        ("setting", |it| {
            let settings = &mut it.manifest.nodes[0].settings;
            settings.insert("wal_compression".into(), "lz4".into());
        }),
    ];
    let together: [(&str, Change); 5] = [
        ("minor", |it| it.manifest.nodes[0].version = "17.5".into()),
        ("path", |it| {
            let settings = &mut it.manifest.nodes[0].settings;
            settings.insert("archive_command".into(), "cp %p '/tmp/x/%f'".into());
        }),
        ("servers of another mode", |it| {
            let other = node("1 primary, 1 subscriber", "primary");
            it.manifest.nodes.push(other);
        }),
        ("harness", |it| it.manifest.harness.version = "9".into()),
        ("seed", |it| it.manifest.seed = 2),
    ];
    let count = |change: Change| {
        let (runs, order) = step(2, 9, 1.0);
        let mut run_summaries = run_summaries(&runs);
        change(&mut run_summaries[1]);
        let all = trend(&run_summaries, &order, &[]);
        all.iter()
            .filter(|it| it.figure() == "response.p99")
            .count()
    };
    for (what, change) in apart {
        assert_eq!(count(change), 2, "{what}");
    }
    for (what, change) in together {
        assert_eq!(count(change), 1, "{what}");
    }
}

#[test]
fn other_binaries_of_a_session_are_another_series() {
    let (runs, order) = step(2, 9, 1.0);
    let mut run_summaries = run_summaries(&runs);
    let session = |side, items: &[&str]| {
        Some(Session {
            id: "session".into(),
            side,
            other: String::new(),
            items: items.iter().map(|item| (*item).to_owned()).collect(),
        })
    };
    run_summaries[0].manifest.session = session(Side::Base, &[]);
    run_summaries[1].manifest.session = session(Side::Head, &["git=v2"]);
    assert_eq!(trend(&run_summaries, &order, &[]).len(), 3);
    run_summaries[1].manifest.session = session(Side::Head, &["bindir=/opt/patched/bin"]);
    assert_eq!(trend(&run_summaries, &order, &[]).len(), 6);
}

#[test]
fn servers_made_for_every_block_are_another_series_than_those_of_a_whole_run() {
    let (runs, order) = step(2, 9, 1.0);
    let mut run_summaries = run_summaries(&runs);
    run_summaries[1].manifest.session = Some(Session {
        id: "session".into(),
        side: Side::Head,
        other: String::new(),
        items: Vec::new(),
    });
    assert_eq!(trend(&run_summaries, &order, &[]).len(), 6);
}

#[test]
fn lag_within_a_page_of_wal_does_not_regress() {
    let (runs, order) = step(14, 7, 1.0);
    let changed_to = |late: f64| {
        let mut run_summaries = run_summaries(&runs);
        for (number, run_summary) in run_summaries.iter_mut().enumerate() {
            let level = if number < 7 { 500.0 } else { late };
            let rows = run_summary.figures.as_mut().unwrap();
            let lags = rows.iter().filter(|row| row.stat == "p999").cloned();
            let lags: Vec<_> = lags
                .map(|row| SummaryRow {
                    node: Some("s1".into()),
                    metric: "replay_lag_bytes".into(),
                    stat: "p99".into(),
                    value: Some(level * NOISE[number % NOISE.len()]),
                    unit: "B".into(),
                    ..row
                })
                .collect();
            rows.extend(lags);
        }
        let all = trend(&run_summaries, &order, &[]);
        let lag = all.into_iter().find(|it| it.metric == "replay_lag_bytes");
        let change = lag.unwrap().changes.remove(0);
        (change.index, change.scale, change.verdict)
    };
    let expected = |verdict| (7, Scale::Difference, verdict);
    assert_eq!(changed_to(2_000.0), expected(Verdict::BelowResolution));
    assert_eq!(changed_to(20_000.0), expected(Verdict::Regressed));
}

#[test]
fn invalid_runs_are_shown_and_not_counted() {
    let (mut runs, order) = step(14, 7, 1.2);
    runs[3].response = Some(9_000.0);
    runs[3].status = RunStatus::Invalid;
    runs[10].invalid_cells = true;
    runs[12].status = RunStatus::Interrupted;
    let series = response(trend(&run_summaries(&runs), &order, &[]));
    assert_eq!(series.points.len(), 14);
    assert!(!series.points[3].counts() && series.points[3].value.is_some());
    assert!(!series.points[10].counts() && series.points[10].value.is_none());
    assert!(series.points[12].counts());
    assert_eq!(series.changes.len(), 1);
    // Places are those among all points.
    assert_eq!(
        (series.changes[0].index, series.changes[0].previous),
        (7, 6)
    );
}

#[test]
fn a_run_that_was_found_twice_counts_once() {
    let (mut runs, order) = step(8, 9, 1.0);
    runs.extend(runs.clone());
    let series = response(trend(&run_summaries(&runs), &order, &[]));
    assert_eq!(series.points.len(), 8);
}

#[test]
fn censored_figures_are_worse_than_all_others() {
    let (mut runs, order) = step(14, 7, 1.0);
    for run in &mut runs[7..] {
        run.visibility = None;
    }
    let all = trend(&run_summaries(&runs), &order, &[]);
    let series = all.iter().find(|it| it.metric == "visibility").unwrap();
    let change = &series.changes[0];
    assert_eq!((change.index, change.after, change.effect), (7, None, None));
    assert!(change.before.is_some());
    assert_eq!(change.verdict, Verdict::Regressed);
}

#[test]
fn values_that_are_not_above_zero_have_differences() {
    let (mut runs, order) = step(14, 7, 1.0);
    for (number, run) in runs.iter_mut().enumerate() {
        let delay = if number < 7 { -30.0 } else { 100.0 };
        run.visibility = Some(delay + 10.0 * NOISE[number % NOISE.len()]);
    }
    let visibility = |runs: &[Made]| {
        let all = trend(&run_summaries(runs), &order, &[]);
        all.into_iter()
            .find(|it| it.metric == "visibility")
            .unwrap()
    };
    let series = visibility(&runs);
    let change = &series.changes[0];
    assert_eq!((change.index, change.scale), (7, Scale::Difference));
    assert!((change.effect.unwrap() - 130.0).abs() < 1.0);
    assert_eq!(change.verdict, Verdict::Regressed);
    // From the send a commit takes 1 ms here, of which 20 µs are 2 %.
    for (number, run) in runs.iter_mut().enumerate() {
        let delay = if number < 7 { -30.0 } else { -10.0 };
        run.visibility = Some(delay + NOISE[number % NOISE.len()]);
    }
    assert_eq!(visibility(&runs).changes[0].verdict, Verdict::Equivalent);
}

#[test]
fn a_blessing_accepts_what_came_in_with_its_commit() {
    let (mut runs, order) = step(14, 8, 1.2);
    // Nobody has run commit 7: the step may be of 7 or of 8.
    runs.remove(7);
    let accepted = |blessings: &[Blessing], runs: &[Made]| {
        let series = response(trend(&run_summaries(runs), &order, blessings));
        assert_eq!(series.changes.len(), 1);
        assert_eq!(series.has_regressed(), !series.changes[0].blessed);
        series.changes[0].blessed
    };
    for (commit, expected) in [(8, true), (7, true), (6, false), (9, false), (99, false)] {
        assert_eq!(
            accepted(&[blessing(&hash(commit))], &runs),
            expected,
            "{commit}"
        );
    }
    let of = |metric: Option<&str>, mode: Option<&str>| Blessing {
        metric: metric.map(Into::into),
        mode: mode.map(Into::into),
        ..blessing(&hash(8))
    };
    for (metric, mode, expected) in [
        (Some("response"), None, true),
        (Some("response.p99"), Some("async"), true),
        (Some("response.p50"), None, false),
        (Some("visibility"), None, false),
        (None, Some("sync"), false),
    ] {
        let blessings = [of(metric, mode)];
        assert_eq!(accepted(&blessings, &runs), expected, "{metric:?} {mode:?}");
    }
    // A change on top of commit 6 that was never committed is not what 6 or 8 brought.
    runs[7].commit = Some(format!("{}-dirty", hash(6)));
    assert!(!accepted(&[blessing(&hash(6))], &runs));
    assert!(!accepted(&[blessing(&hash(8))], &runs));
    // Without an order only the very commit is known.
    runs[7].commit = Some(hash(8));
    let by_time = |commit| {
        let series = response(trend(
            &run_summaries(&runs),
            &[],
            &[blessing(&hash(commit))],
        ));
        series.changes[0].blessed
    };
    assert!(by_time(8) && !by_time(7));
}
