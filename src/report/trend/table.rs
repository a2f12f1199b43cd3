//! A trend whole: JSON with everything, CSV with a row a point.

use serde::Serialize;

use crate::analyse::{Change, Series, TREND_VERSION, Terms, Verdict};
use crate::metric::Scale;
use crate::record::RunStatus;
use crate::report::output::{csv_text, plain};
use crate::sample::Direction;

/// The series as JSON, with a line end.
pub fn trend_json(series: &[Series]) -> String {
    #[derive(Serialize)]
    struct Whole<'a> {
        schema_version: u32,
        /// Share by which a level may change without mattering.
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

#[derive(Serialize)]
struct Line<'a> {
    series: &'a str,
    profile: String,
    workload_hash: &'a str,
    host_id: &'a str,
    cores: u32,
    filesystem: &'a str,
    postgresql: &'a str,
    settings: &'a str,
    mode: String,
    node: Option<String>,
    metric: &'a str,
    stat: &'a str,
    unit: &'a str,
    direction: Direction,
    run_id: String,
    commit: Option<String>,
    started_at: String,
    status: RunStatus,
    value: Option<f64>,
    lo: Option<f64>,
    hi: Option<f64>,
    n: usize,
    censored: usize,
    /// Of the change that begins with this point.
    change: Option<Verdict>,
    scale: Option<Scale>,
    before: Option<f64>,
    after: Option<f64>,
    effect: Option<f64>,
    p: Option<f64>,
    blessed: Option<bool>,
}

/// One row a point. Its head is there also without any.
pub fn trend_csv(series: &[Series]) -> Result<String, csv::Error> {
    const HEAD: &str = "series,profile,workload_hash,host_id,cores,filesystem,postgresql,settings,mode,node,metric,stat,unit,\
                        direction,run_id,commit,started_at,status,value,lo,hi,n,censored,change,scale,before,after,effect,p,blessed\n";
    let mut writer = csv::WriterBuilder::new()
        .has_headers(false)
        .from_writer(HEAD.as_bytes().to_vec());
    for one in series {
        for index in 0..one.points.len() {
            writer.serialize(line(one, index))?;
        }
    }
    csv_text(writer)
}

fn line(one: &Series, index: usize) -> Line<'_> {
    let point = &one.points[index];
    let of = &one.conditions;
    let change: Option<&Change> = one.changes.iter().find(|change| change.index == index);
    Line {
        series: &one.id,
        profile: plain(&of.profile),
        workload_hash: &of.workload_hash,
        host_id: &of.host_id,
        cores: of.cores,
        filesystem: &of.filesystem,
        postgresql: &of.postgresql,
        settings: &one.settings,
        mode: plain(&one.mode),
        node: one.node.as_deref().map(plain),
        metric: &one.metric,
        stat: &one.stat,
        unit: &one.unit,
        direction: one.direction,
        run_id: plain(&point.run_id),
        commit: point.commit.as_deref().map(plain),
        started_at: plain(&point.started_at),
        status: point.status,
        value: point.value,
        lo: point.lo,
        hi: point.hi,
        n: point.n,
        censored: point.censored,
        change: change.map(|change| change.verdict),
        scale: change.map(|change| change.scale),
        before: change.and_then(|change| change.before),
        after: change.and_then(|change| change.after),
        effect: change.and_then(|change| change.effect),
        p: change.map(|change| change.p),
        blessed: change.map(|change| change.blessed),
    }
}
