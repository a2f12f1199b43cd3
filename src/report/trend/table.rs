//! A complete trend: JSON with everything, CSV with a row for each point.

use serde::Serialize;

use crate::analyse::{Series, TREND_VERSION, Terms};
use crate::report::output::{csv_text, plain};

/// All series as JSON, with a line end.
pub fn trend_json(series: &[Series]) -> String {
    #[derive(Serialize)]
    struct Whole<'a> {
        schema_version: u32,
        /// Relative change of a level that does not matter: 0.05 is 5 %.
        threshold: f64,
        series: &'a [Series],
    }
    let whole = Whole {
        schema_version: TREND_VERSION,
        threshold: Terms::THRESHOLD,
        series,
    };
    serde_json::to_string_pretty(&whole).expect("plain data becomes JSON") + "\n"
}

/// All series as CSV, with a row for each point.
pub fn trend_csv(series: &[Series]) -> Result<String, csv::Error> {
    // Each line of names here belongs to a line of values below.
    const COLUMNS: [&str; 9] = [
        "series,profile,workload_hash,host_id",
        "cores,filesystem,postgresql,settings",
        "mode,node,metric",
        "stat,unit,direction",
        "run_id,commit,started_at",
        "status,value,lo,hi,n,censored",
        "change,scale",
        "before,after,effect",
        "p,blessed",
    ];
    let rows = series.iter().flat_map(|one| {
        let of = &one.conditions;
        one.points.iter().enumerate().map(move |(index, it)| {
            // The change that begins with this point.
            let change = one.changes.iter().find(|change| change.index == index);
            let node = one.node.as_deref().map(plain);
            let commit = it.commit.as_deref().map(plain);
            (
                (&one.id, plain(&of.profile), &of.workload_hash, &of.host_id),
                (of.cores, &of.filesystem, &of.postgresql, &one.settings),
                (plain(&one.mode), node, &one.metric),
                (&one.stat, &one.unit, one.direction),
                (plain(&it.run_id), commit, plain(&it.started_at)),
                (it.status, it.value, it.lo, it.hi, it.n, it.censored),
                (change.map(|it| it.verdict), change.map(|it| it.scale)),
                (
                    change.and_then(|it| it.before),
                    change.and_then(|it| it.after),
                    change.and_then(|it| it.effect),
                ),
                (change.map(|it| it.p), change.map(|it| it.blessed)),
            )
        })
    });
    csv_text(&COLUMNS.join(","), rows)
}
