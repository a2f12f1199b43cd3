//! A head on which more transactions failed is not called better: no other figure includes the work that was not done or that nobody saw.

use super::super::verdict::Verdict;
use super::rows::Row;

/// The metrics that are shares of arrivals or commits: failed, without a known outcome, never sent, never seen.
const SHARES: [&str; 4] = [
    "failed_share",
    "indeterminate_share",
    "missed_share",
    "unseen_share",
];

/// Changes `improved` to `inconclusive` in all rows if the head failed more. `rows` are the rows of one mode.
pub(super) fn withhold_improvements(rows: &mut [Row]) {
    let Some(why) = rows.iter().find_map(more_failed) else {
        return;
    };
    for row in rows
        .iter_mut()
        .filter(|row| row.verdict == Verdict::Improved)
    {
        row.verdict = Verdict::Inconclusive;
        row.note = Some(match row.note.take() {
            Some(note) => format!("not called improved, because {why}; {note}"),
            None => format!("not called improved, because {why}"),
        });
        row.withheld = Some(why.clone());
    }
}

/// Says what failed more often at the head; `None` if nothing did. If the base has no failures, any failure counts; otherwise the interval
/// must show an increase. The size of the increase does not matter here: the question is only whether both sides did the same work.
fn more_failed(row: &Row) -> Option<String> {
    SHARES.contains(&row.metric.as_str()).then_some(())?;
    let (base, head) = (row.base?, row.head?);
    let is_shown = row
        .interval
        .and_then(|bounds| bounds.lo)
        .is_some_and(|lo| lo > 0.0);
    (head > base && (base == 0.0 || is_shown)).then(|| {
        let what = row.metric.trim_end_matches("_share");
        let of = if row.node.is_some() {
            "commits"
        } else {
            "arrivals"
        };
        format!(
            "the head has more {what}: {} of {of} against {}",
            percent(head),
            percent(base)
        )
    })
}

fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent > 0.0 && percent < 0.01 {
        "less than 0.01 %".into()
    } else {
        format!("{percent:.2} %")
    }
}
