//! A comparison for people and programs: a table for a terminal, a page, Markdown, CSV and JSON. Only formats figures: `analyse` has
//! decided on the verdicts.

mod markdown;
mod page;
mod text;

use itertools::Itertools as _;

pub use markdown::comparison_markdown;
pub(super) use markdown::escape;
pub use page::write_comparison;
pub(crate) use page::{PAGE, write_framed};
pub use text::{comparison_text, noise_text};

use super::escape_control;
use super::output::{csv_text, plain};
use super::text::{AT_MOST, number};
use crate::analyse::{Comparison, Difference, Kind, Row, Verdict};
use crate::metric::Scale;
use crate::units::format_ratio;

/// The figures of a row as text, in the units that are shown: times in ms, bytes in kiB, shares in %.
struct Shown {
    figure: String,
    base: String,
    head: String,
    effect: String,
    interval: String,
    q: String,
    n: String,
    spread: String,
    detectable: String,
    verdict: String,
}

const NOTHING: &str = "–";

/// The column heads for [`Shown::into_cells`].
const HEADS: [&str; 9] = [
    "figure", "base", "head", "ratio", "95 %", "q", "n", "MDE", "verdict",
];

impl Shown {
    fn of(row: &Row) -> Self {
        let scale = unit_scale(&row.unit);
        let side = |value: Option<f64>, censored: usize, is_unresolved: bool| match value {
            Some(value) if is_unresolved => format!("{AT_MOST}{}", number(value * scale)),
            Some(value) => number(value * scale),
            None if censored > 0 => "not seen".into(),
            None => NOTHING.into(),
        };
        let [base_unresolved, head_unresolved] = row.is_unresolved();
        let change = |value: Option<f64>| match (value, row.scale) {
            (None, _) => NOTHING.into(),
            (Some(value), Scale::Ratio) => share(value),
            (Some(value), Scale::Difference) => number(value * scale),
        };
        Self {
            figure: figure_name(row),
            base: side(row.base, row.base_censored, base_unresolved),
            head: side(row.head, row.head_censored, head_unresolved),
            effect: row.effect.map_or_else(
                || NOTHING.into(),
                |value| match row.scale {
                    Scale::Ratio => format!("{}×", format_ratio(value)),
                    Scale::Difference => signed(value * scale),
                },
            ),
            interval: interval_text(row),
            q: row.q.map_or_else(|| NOTHING.into(), probability),
            n: match row.pairs {
                Some(pairs) => pairs.to_string(),
                None if row.base_n == row.head_n => row.base_n.to_string(),
                None => format!("{}+{}", row.base_n, row.head_n),
            },
            spread: change(row.spread),
            detectable: change(row.detectable),
            verdict: row.word().into(),
        }
    }

    fn into_cells(self) -> [String; 9] {
        [
            self.figure,
            self.base,
            self.head,
            self.effect,
            self.interval,
            self.q,
            self.n,
            self.detectable,
            self.verdict,
        ]
    }
}

/// The name of a row's figure, such as `visibility p99 s1`.
pub(crate) fn figure_name(row: &Row) -> String {
    let metric = match row.metric.as_str() {
        "achieved_tps" => "commits/s",
        "replay_lag_bytes" => "replay lag",
        other => other.trim_end_matches("_share"),
    };
    let stat = if row.stat == "value" { "" } else { &row.stat };
    let node = row.node.as_deref().map(escape_control).unwrap_or_default();
    [metric, stat, &node].join(" ").trim().replace("  ", " ")
}

/// The mode of a row: `sync`, or `sync → remote_apply` if the modes of base and head differ.
pub(crate) fn mode_name(row: &Row) -> String {
    if row.base_mode == row.head_mode {
        escape_control(&row.base_mode).into_owned()
    } else {
        format!(
            "{} → {}",
            escape_control(&row.base_mode),
            escape_control(&row.head_mode)
        )
    }
}

/// Sentences that explain how the figures were computed and what the verdicts mean.
pub(crate) fn legend(comparison: &Comparison) -> Vec<String> {
    let any = |is: fn(&Row) -> bool| comparison.rows.iter().any(is);
    let threshold = format!("{} %", comparison.threshold * 100.0);
    let values = if comparison.kind.is_paired() {
        "Base and head: means of the paired repetitions, geometric where the effect is a ratio; medians where one is censored"
    } else {
        "Base and head: means of the repetitions, geometric where the effect is a ratio; medians where one is censored. The effect is the \
         median of all differences between the repetitions of both sides, which the two means need not have between them"
    };
    let (worse, better) = if comparison.kind == Kind::Modes {
        ("Worse", "better")
    } else {
        ("Regressed", "improved")
    };
    let mut out = vec![
        format!("{values}; {UNITS}."),
        format!(
            "{worse} or {better}: the 95 % interval lies beyond {threshold} and q is at most 0.05. Equivalent: the 90 % interval \
             lies within {threshold}. MDE: the smallest change that a test like this finds in four of five cases; to be \
             {} or {better} a change has to exceed {threshold} by about as much.",
            worse.to_lowercase()
        ),
    ];
    if any(|row| row.scale == Scale::Difference) {
        out.push(format!(
            "Visibility, lag and shares are compared by their difference, which has a sign: there the threshold is {threshold} of the \
             time from send until visible (visibility) or of the larger side."
        ));
    }
    if any(|row| row.verdict == Verdict::BelowResolution) {
        out.push(
            "Below what can be told: what there is of a difference is within 8 kiB of lag, or within the resolution of the looks at visibility."
                .into(),
        );
    }
    if any(|row| row.is_unresolved() != [false; 2]) {
        out.push(format!(
            "{}: the looks lie as far apart as the figure is large; it is an upper bound only.",
            AT_MOST.trim()
        ));
    }
    if comparison.kind == Kind::Runs {
        out.push(
            "Two runs did not take turns: what else changed on the host between them counts as a change too. A session of replbench ab rules that out."
                .into(),
        );
    }
    if any(|row| row.verdict == Verdict::Inconclusive) {
        out.push(
            "Inconclusive: neither a change that matters nor its absence is shown; more --repeats or a quieter host would tell."
                .into(),
        );
    }
    if any(|row| row.verdict == Verdict::NotComparable) {
        out.push("Not comparable: only one side has such a figure.".into());
    }
    out
}

/// The factor from a unit of `summary.csv` to the unit that is shown.
pub(crate) fn unit_scale(unit: &str) -> f64 {
    match unit {
        "us" => 1e-3,
        "B" => 1.0 / 1024.0,
        "1" => 100.0,
        _ => 1.0,
    }
}

/// The unit of a value that has been multiplied by [`unit_scale`].
pub(crate) fn shown_unit(unit: &str) -> &str {
    match unit {
        "us" => "ms",
        "B" => "kiB",
        "1" => "%",
        other => other,
    }
}

const UNITS: &str = "times in ms, replay lag in kiB, shares of arrivals and of commits in %";

/// The interval of a row's effect, such as `1.38..1.65`. An unknown end is shown as 0, −∞ or ∞.
pub(crate) fn interval_text(row: &Row) -> String {
    let Some(bounds) = row.interval else {
        return NOTHING.into();
    };
    let scale = unit_scale(&row.unit);
    let end = |end: Option<f64>, open: &str| match (end, row.scale) {
        (None, _) => open.to_owned(),
        (Some(value), Scale::Ratio) => format_ratio(value),
        (Some(value), Scale::Difference) => signed(value * scale),
    };
    let open = match row.scale {
        Scale::Ratio => "0",
        Scale::Difference => "−∞",
    };
    format!("{}..{}", end(bounds.lo, open), end(bounds.hi, "∞"))
}

fn signed(value: f64) -> String {
    let text = number(value);
    if value > 0.0 {
        format!("+{text}")
    } else {
        text
    }
}

fn probability(p: f64) -> String {
    if p < 0.001 {
        "<.001".into()
    } else {
        format!("{p:.3}")
    }
}

fn share(value: f64) -> String {
    let percent = value * 100.0;
    if percent < 9.95 {
        format!("{percent:.1} %")
    } else {
        format!("{percent:.0} %")
    }
}

/// The number of figures with each verdict, such as `3 regressed, 10 equivalent`. Shares that are zero on both sides are not counted.
pub(crate) fn tally(rows: &[Row]) -> String {
    let order = [
        Verdict::Regressed,
        Verdict::Improved,
        Verdict::Equivalent,
        Verdict::BelowResolution,
        Verdict::Inconclusive,
        Verdict::NotComparable,
    ];
    let mut words = order.into_iter().filter_map(|verdict| {
        let of_verdict = |row: &&Row| row.verdict == verdict && !row.is_none_lost();
        let found: Vec<&Row> = rows.iter().filter(of_verdict).collect();
        Some(format!("{} {}", found.len(), found.first()?.word()))
    });
    let words = words.join(", ");
    if words.is_empty() {
        "nothing to compare".into()
    } else {
        words
    }
}

/// The names of the shares that are zero on both sides, as in `failed, missed, unseen: none on either side`; `None` if there are none.
pub(crate) fn none_lost(rows: &[&Row]) -> Option<String> {
    let lost = rows.iter().filter(|row| row.is_none_lost());
    let names = lost.map(|row| row.metric.trim_end_matches("_share"));
    let names = names.unique().join(", ");
    (!names.is_empty()).then(|| format!("{names}: none on either side"))
}

/// The notes of the rows without repetitions. Each note names its figures, unless it is about all rows.
pub(crate) fn notes(rows: &[&Row]) -> Vec<String> {
    let mut found: Vec<(&str, Vec<String>)> = Vec::new();
    let parts = rows.iter().flat_map(|row| {
        let parts = row.note.as_deref().unwrap_or_default().split("; ");
        let parts = parts.filter(|part| !part.is_empty());
        parts.map(move |part| (part, figure_name(row)))
    });
    for (part, figure) in parts {
        match found.iter_mut().find(|(note, _)| *note == part) {
            Some((_, figures)) => figures.push(figure),
            None => found.push((part, vec![figure])),
        }
    }
    let words = found.into_iter().map(|(note, figures)| {
        let note = escape_control(note);
        if figures.len() == rows.len() {
            note.into_owned()
        } else {
            format!("{}: {note}", figures.join(", "))
        }
    });
    words.collect()
}

/// The rows in groups by mode, with the mode's name.
pub(crate) fn by_mode(comparison: &Comparison) -> Vec<(String, Vec<&Row>)> {
    let groups = comparison
        .rows
        .chunk_by(|a, b| mode_name(a) == mode_name(b));
    let named = groups.map(|rows| (mode_name(&rows[0]), rows.iter().collect()));
    named.collect()
}

/// A difference between base and head, such as `setting wal_compression (primary): off → on`.
pub(crate) fn difference_text(difference: &Difference) -> String {
    let value = |text: &str| match escape_control(text) {
        empty if empty.is_empty() => NOTHING.to_owned(),
        text => text.into_owned(),
    };
    format!(
        "{}: {} → {}",
        escape_control(&difference.field),
        value(&difference.base),
        value(&difference.head)
    )
}

/// The comparison as JSON with a line end, in the format that `schemas/comparison-1.json` describes.
pub fn comparison_json(comparison: &Comparison) -> String {
    let text = serde_json::to_string_pretty(comparison).expect("plain data becomes JSON");
    text + "\n"
}

/// The comparison as CSV, with a row for each figure.
pub fn comparison_csv(comparison: &Comparison) -> Result<String, csv::Error> {
    // Each line of names here belongs to a line of values below.
    const COLUMNS: [&str; 10] = [
        "base_run,head_run",
        "base_mode,head_mode",
        "node,metric,stat,unit",
        "base,head,base_lo,head_lo",
        "base_resolution,head_resolution",
        "base_n,head_n,base_censored,head_censored",
        "pairs,scale",
        "effect,effect_lo,effect_hi",
        "p,q,spread,detectable",
        "verdict,note",
    ];
    let rows = comparison.rows.iter().map(|row| {
        let node = row.node.as_deref().map(plain);
        let lo = row.interval.and_then(|bounds| bounds.lo);
        let hi = row.interval.and_then(|bounds| bounds.hi);
        (
            (&comparison.base.run_id, &comparison.head.run_id),
            (plain(&row.base_mode), plain(&row.head_mode)),
            (node, &row.metric, &row.stat, &row.unit),
            (row.base, row.head, row.base_lo, row.head_lo),
            (row.base_resolution, row.head_resolution),
            (row.base_n, row.head_n, row.base_censored, row.head_censored),
            (row.pairs, row.scale),
            (row.effect, lo, hi),
            (row.p, row.q, row.spread, row.detectable),
            (row.verdict, &row.note),
        )
    });
    csv_text(&COLUMNS.join(","), rows)
}
