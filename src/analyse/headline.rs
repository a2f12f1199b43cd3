//! The answer in sentences: what does synchronous replication cost, how stale are reads, how far did a replica fall behind. No sentence is
//! made without data, and none claims a difference that its interval does not show.

use itertools::Itertools as _;

use super::cautions::join;
use super::compare::{Bounds, Terms, server_differences};
use super::gate::{self, GateLine};
use super::modes::{ModeFigures, ModesTable};
use super::staleness::ReplicaCurve;
use super::verdict::Verdict;
use crate::metric::Scale;
use crate::mode::{Mode, Quorum, SyncLevel};
use crate::record::Run;
use crate::topology::Role;
use crate::units::{format_bytes, format_ratio, format_seconds, format_share_band, plural};

/// The sentences for a run, most important first.
pub(super) fn sentences(
    run: &Run,
    table: &ModesTable,
    curves: &[ReplicaCurve],
    gates: &[GateLine],
) -> Vec<String> {
    let passed = gates.iter().all(|line| line.passed);
    let mut out: Vec<String> = gate::sentence(gates)
        .filter(|_| passed)
        .into_iter()
        .collect();
    let base = table
        .modes
        .first()
        .filter(|base| base.response_p50.is_some());
    match base {
        Some(base) => {
            let told = costs(run, table, base);
            if told.is_empty() {
                out.extend(alone(base));
            }
            out.extend(told);
        }
        None => out.push(
            "No valid repetition of the baseline was measured: nothing can be said of costs."
                .into(),
        ),
    }
    out.extend(staleness(table, curves));
    out.extend(furthest_behind(table));
    out
}

fn alone(base: &ModeFigures) -> Option<String> {
    let p50 = base
        .response_p50
        .filter(|estimate| estimate.value.is_finite())?;
    let p99 = base
        .response_p99
        .filter(|estimate| estimate.value.is_finite());
    let tail = p99.map(|p99| format!(", the 99th percentile {}", format_seconds(p99.value)));
    Some(format!(
        "Under {} the median commit took {}{} (mean of {}).",
        base.mode,
        format_seconds(p50.value),
        tail.unwrap_or_default(),
        plural(p50.n, "repetition"),
    ))
}

/// What the headline says about one mode.
enum Cost {
    /// A sentence of its own.
    Told(String),
    /// Part of the sentence that names all modes without a difference that matters.
    Equivalent(String),
    /// Part of the sentence that names all modes for which nothing is shown.
    Inconclusive(String),
}

/// One sentence for each mode that costs or saves something, one for all equivalent modes and one for all inconclusive modes.
fn costs(run: &Run, table: &ModesTable, base: &ModeFigures) -> Vec<String> {
    let (mut told, mut alike, mut open) = (Vec::new(), Vec::new(), Vec::new());
    for mode in table.modes.iter().skip(1) {
        match cost(run, table, mode, base) {
            Some(Cost::Told(text)) => told.push(text),
            Some(Cost::Equivalent(part)) => alike.push(part),
            Some(Cost::Inconclusive(part)) => open.push(part),
            None => {}
        }
    }
    let threshold = format!("{} %", Terms::THRESHOLD * 100.0);
    if !alike.is_empty() {
        told.push(format!(
            "Equivalent: the median commit under {} takes as long as under {}, to within {threshold}.",
            join(&alike),
            base.mode,
        ));
    }
    if !open.is_empty() {
        told.push(format!(
            "Inconclusive: whether the median commit under {} differs from that under {} by more than {threshold} is not shown.",
            join(&open),
            base.mode,
        ));
    }
    told
}

/// The cost of one mode compared with the baseline, from the figures and the verdict of the comparison of modes. `None` if there is no
/// comparison.
fn cost(run: &Run, table: &ModesTable, mode: &ModeFigures, base: &ModeFigures) -> Option<Cost> {
    let row = table.row(&mode.mode, "response", "p50")?;
    let ratio = row.effect.filter(|_| row.scale == Scale::Ratio)?;
    let (own, other, pairs) = (row.head?, row.base?, row.pairs?);
    let wait = run.mode(&mode.mode).and_then(waiting);
    let subject = wait.map_or_else(
        || format!("Under {} the median commit took", mode.mode),
        |wait| format!("{wait} ({}) made the median commit take", mode.mode),
    );
    let differences = server_differences(&run.manifest, &mode.mode, &base.mode)
        .map_or_else(String::new, |text| format!(", with {text}"));
    let against = format!(
        "{} against {}{differences}",
        format_seconds(own / 1e6),
        format_seconds(other / 1e6)
    );
    let factor = format_ratio(ratio);
    let baseline = &base.mode;
    let Some(interval) = row.interval.and_then(Bounds::closed) else {
        return Some(Cost::Told(format!(
            "{subject} {factor} times as long as under {baseline}: {against}; {} too few for an interval, so this is no verdict.",
            if pairs == 1 {
                "one pair of repetitions is".into()
            } else {
                format!("{pairs} pairs of repetitions are")
            },
        )));
    };
    let evidence = format!(
        "95 % interval {} to {}, {}",
        format_ratio(interval.lo),
        format_ratio(interval.hi),
        plural(pairs, "paired repetition"),
    );
    let part = format!(
        "{} ({factor} times as long, {evidence}{differences})",
        mode.mode
    );
    Some(match row.verdict {
        Verdict::Regressed | Verdict::Improved => Cost::Told(format!(
            "{subject} {factor} times as long as under {baseline} ({evidence}): {against}."
        )),
        Verdict::Equivalent | Verdict::BelowResolution => Cost::Equivalent(part),
        Verdict::Inconclusive => Cost::Inconclusive(match &row.withheld {
            Some(why) => format!("{part}, not called better because {why},"),
            None => part,
        }),
        Verdict::NotComparable => return None,
    })
}

/// `Waiting for one standby's flush`; `None` for modes that wait for no replica.
fn waiting(mode: &Mode) -> Option<String> {
    let set = mode.sync.as_ref()?;
    let what = match mode.level {
        SyncLevel::RemoteWrite => "write",
        SyncLevel::On => "flush",
        SyncLevel::RemoteApply => "replay",
        SyncLevel::Off | SyncLevel::Local => return None,
    };
    let kind = if mode.topology.has(Role::Subscriber) {
        "subscriber"
    } else {
        "standby"
    };
    let who = match (set.quorum, set.nodes.len()) {
        (Quorum::Any(count), all) if usize::from(count) < all => {
            format!("any {count} of {all} {kind}s'")
        }
        (quorum, _) if quorum.count() == 1 => format!("one {kind}'s"),
        (quorum, _) => format!("{} {kind}s'", quorum.count()),
    };
    Some(format!("Waiting for {who} {what}"))
}

/// How often a read misses a commit, as bounds: a commit became visible at some time between two of the probe's looks.
fn staleness(table: &ModesTable, curves: &[ReplicaCurve]) -> Option<String> {
    let worst: Vec<&ReplicaCurve> = table
        .modes
        .iter()
        .filter_map(|mode| worst_curve(curves, &mode.mode))
        .collect();
    let after = telling_moment(&worst)?;
    let parts: Vec<String> = worst
        .iter()
        .enumerate()
        .map(|(index, curve)| stale_part(curves, curve, after, index == 0))
        .collect();
    let of_worst = if curves.iter().map(|curve| &curve.mode).all_unique() {
        "a replica"
    } else {
        "the most stale replica"
    };
    Some(format!(
        "A read on {of_worst} {} after the acknowledgement misses the row in {}.",
        format_seconds(after).replace(".00", ""),
        join(&parts),
    ))
}

/// `0.35 to 8.1 % of cases under async`: the share on the mode's most stale replica, followed by the share on the replica that its commits
/// wait for, if that is another one.
fn stale_part(curves: &[ReplicaCurve], worst: &ReplicaCurve, after: f64, is_first: bool) -> String {
    let share = |curve: &ReplicaCurve| {
        let band = format_share_band(curve.stale(after));
        if curve.is_never_stale() {
            format!("{band} by definition")
        } else {
            band
        }
    };
    let of_cases = if is_first { " of cases" } else { "" };
    let part = format!("{}{of_cases} under {}", share(worst), worst.mode);
    if worst.is_awaited() {
        return format!("{part}, whose commits wait for the replay there");
    }
    let of_mode = curves.iter().filter(|other| other.mode == worst.mode);
    let awaited = of_mode
        .filter(|other| other.is_awaited())
        .max_by(|a, b| a.stale(after).1.total_cmp(&b.stale(after).1));
    match awaited {
        Some(awaited) => format!(
            "{part} ({} on {}, whose replay its commits wait for)",
            share(awaited),
            awaited.node
        ),
        None => part,
    }
}

/// The curve of the mode's most stale replica: by the share of stale reads a millisecond after the acknowledgement, then by the 99th
/// percentile of the delay.
pub(super) fn worst_curve<'a>(curves: &'a [ReplicaCurve], mode: &str) -> Option<&'a ReplicaCurve> {
    let tail = |curve: &ReplicaCurve| curve.quantile(0.99).unwrap_or(f64::INFINITY);
    curves
        .iter()
        .filter(|curve| curve.mode == mode)
        .max_by(|a, b| {
            let (a1, b1) = (a.stale(1e-3).1, b.stale(1e-3).1);
            a1.total_cmp(&b1).then(tail(a).total_cmp(&tail(b)))
        })
}

/// The first of 1 ms, 10 ms ... after the acknowledgement at which the least stale mode has shown at least half of its commits, in seconds.
/// Modes that are never stale do not count.
fn telling_moment(curves: &[&ReplicaCurve]) -> Option<f64> {
    let least = |after: f64| {
        let open = curves.iter().filter(|curve| !curve.is_never_stale());
        let shares = open.map(|curve| curve.stale(after).1);
        shares.min_by(f64::total_cmp)
    };
    (!curves.is_empty()).then_some(())?;
    let moments = [1e-3, 1e-2, 0.1, 1.0, 10.0];
    Some(
        moments
            .into_iter()
            .find(|after| least(*after).is_none_or(|share| share <= 0.5))
            .unwrap_or(10.0),
    )
}

/// A sentence about the largest replay lag of any replica.
fn furthest_behind(table: &ModesTable) -> Option<String> {
    let (mode, (bytes, node)) = table
        .modes
        .iter()
        .filter_map(|mode| Some((mode, mode.lag_peak.clone()?)))
        .max_by(|a, b| a.1.0.total_cmp(&b.1.0))?;
    let gaps: u64 = table.modes.iter().map(|mode| mode.gaps).sum();
    let unanswered: u64 = table.modes.iter().map(|mode| mode.unanswered).sum();
    let gone = (gaps > 0).then(|| format!("; in {gaps} samples a replica was gone"));
    let unknown = (unanswered > 0).then(|| format!("; {unanswered} samples were not answered"));
    let unknown: String = gone.into_iter().chain(unknown).collect();
    (bytes > 0.0).then(|| {
        format!(
            "The furthest that a replica fell behind was {} of WAL ({node} under {}){unknown}.",
            format_bytes(bytes),
            mode.mode,
        )
    })
}
