//! The section of the page about the effects of faults: outages and losses of each mode, setbacks of replicas, the audit, and restores.

use maud::{Markup, html};

use super::super::audit::{restored, word};
use super::super::escape_control;
use super::layout::{section, table};
use crate::analyse::{Analysis, AuditLine, Estimate, ModeOutages, ModeSetback, RestoreLine};
use crate::metric::Unit;
use crate::sample::AuditResult;
use crate::units::{format_bytes, format_seconds, format_share_band, thousands};

/// The section of faults; empty for a run without faults.
pub(crate) fn faults(analysis: &Analysis) -> Markup {
    if analysis.audit.is_empty() && analysis.setbacks.is_empty() {
        return Markup::default();
    }
    let content = html! {
        @if !analysis.outages.is_empty() { (outages(&analysis.outages)) }
        @if !analysis.setbacks.is_empty() { (setbacks(&analysis.setbacks)) }
        @if !analysis.audit.is_empty() { (audit(&analysis.audit)) }
        @if !analysis.restores.is_empty() { (restores(&analysis.restores)) }
    };
    section(
        "faults",
        "Faults: what they cost, and what was lost",
        &content,
    )
}

fn outages(lines: &[ModeOutages]) -> Markup {
    let heads = [
        "mode",
        "reps",
        "lost",
        "in each",
        "of commits",
        "before fault",
        "WAL",
        "RTO",
        "silent for",
        "rejoin",
    ];
    let rows = html! { @for line in lines { tr {
        th scope="row" { (escape_control(&line.mode)) }
        td { (line.lost.len()) }
        td { (thousands(line.lost.iter().sum())) }
        td { (line.lost.iter().map(|it| thousands(*it)).collect::<Vec<_>>().join(", ")) }
        td { (thousands(line.looked_for)) }
        td { @if let Some(span) = line.lost_span.filter(|it| *it > 0.0) { "up to " (format_seconds(span)) } @else { "–" } }
        td { @if let Some(bytes) = line.lost_wal.filter(|it| *it > 0) { "≥ " (format_bytes(bytes as f64)) } @else { "–" } }
        td { (time(line.rto.as_ref())) }
        td { (time(line.unavailability.as_ref())) }
        td { (time(line.rejoin.as_ref())) }
    } } };
    html! {
        (table("Table of outages", "dense", &heads, &rows))
        p.caption {
            "Lost: acknowledged commits that are not there any more; the first of them was acknowledged so long before the fault. "
            "WAL: written by the old primary by the last sample of its position, for commits that were acknowledged or not, and not on the new one; "
            "the most of all repetitions. "
            "RTO: from the fault to the first acknowledgement of a transaction that was sent after the primary had died. "
            "Silent: from the last acknowledgement before that one. Rejoin: until the node that had died streamed from the new primary. "
            "Means over repetitions, 95 % intervals below them; where nothing was acknowledged after the fault of a repetition, the median. The fault itself is known at once here; a failover manager needs time to notice it."
        }
    }
}

fn setbacks(lines: &[ModeSetback]) -> Markup {
    let heads = [
        "mode",
        "replica",
        "fault",
        "commits",
        "stale reads",
        "slowest commit",
        "commits behind",
        "WAL behind",
        "caught up after",
        "at",
        "waiting",
    ];
    let rows = html! { @for line in lines { tr {
        th scope="row" { (escape_control(&line.mode)) }
        td { (escape_control(&line.node)) }
        td.found { (escape_control(&line.faults.join(", "))) }
        td { (thousands(line.commits)) }
        td { (line.stale.map_or_else(|| "–".into(), format_share_band)) }
        td { (largest(line.slowest, "", Unit::Micros)) }
        td { (largest(line.behind, "", Unit::Count)) }
        td { (largest(line.lag, "", Unit::Bytes)) }
        td { (largest(line.catch_up, "≤ ", Unit::Micros)) }
        td { (largest(line.rate, "≥ ", Unit::BytesPerSecond)) }
        td { @if let Some(waiters) = line.waiters { (waiters) } @else { "–" } }
    } } };
    html! {
        (table("Table of replicas that faults befell", "dense", &heads, &rows))
        p.caption {
            "Commits: acknowledged during the fault. Stale reads: of these, the ones that a read on the replica 100 ms later missed, between what is certain "
            "and what is possible. Slowest commit: the longest until one of them was visible there. Commits behind: acknowledged and not visible at the end "
            "of a second, the most of all seconds. WAL behind: to be replayed, the most of all samples; unknown where the replica was gone. Caught up after: "
            "from the end of the fault to the first sample, every 100 ms unless the profile says otherwise, in which it was as far behind as before; at: the rate of that. Waiting: sessions that waited for "
            "synchronous replication, the most of all samples. Commits are sums over repetitions, the rate is a mean, the others are the largest of all."
        }
    }
}

/// A figure as text with `bound` before it: `unknown` if it is infinite, a dash if it is `None`.
fn largest(figure: Option<Estimate>, bound: &str, unit: Unit) -> String {
    match figure {
        Some(found) if found.value.is_finite() => format!("{bound}{}", unit.rounded(found.value)),
        Some(_) => "unknown".into(),
        None => "–".into(),
    }
}

fn time(estimate: Option<&Estimate>) -> Markup {
    html! {
        @if let Some(found) = estimate {
            @if found.value.is_finite() { (format_seconds(found.value)) } @else { "no end" }
            @if let Some(interval) = found.interval {
                span.ci { (format_seconds(interval.lo)) " to " (format_seconds(interval.hi)) }
            }
        }
    }
}

fn audit(lines: &[AuditLine]) -> Markup {
    let heads = [
        "promise",
        "verdict",
        "mode",
        "looked at",
        "violations",
        "worst",
    ];
    let rows = html! { @for line in lines { tr.failed[line.result == AuditResult::Fail] {
        th scope="row" { (line.check.promise()) }
        td.verdict { (word(line.check, line.result)) }
        td { (escape_control(&line.mode)) }
        td { (thousands(line.examined)) }
        td { (thousands(line.violations)) }
        td.found { span.ci { (escape_control(&line.evidence)) } }
    } } };
    html! {
        h3 { "Audit" }
        (table("Table of the audit", "dense gates", &heads, &rows))
        p.caption {
            "Every acknowledged commit was looked for on every node, after all of them had what the primary then had. "
            "Numbers are sums over repetitions on the node with most violations, and the last column is the worst repetition. "
            "`permitted` in audit.csv is LOST where commits are gone that the mode does not promise to keep, and NOTE for what else a fault explains."
        }
    }
}

fn restores(lines: &[RestoreLine]) -> Markup {
    html! {
        h3 { "Restores to a point in time" }
        ul { @for (word, sentence) in lines.iter().map(restored) {
            li { (word) ": " (escape_control(&sentence)) "." }
        } }
        p.caption {
            "Each was restored from the base backup of before the load and the archived WAL into a server of its own, which was removed "
            "afterwards. The time is that of the copying, the start and the replay, until the server had left recovery. In flight: sent before "
            "the target had been taken and not acknowledged before it was asked for; such commits may be there or not."
        }
    }
}
