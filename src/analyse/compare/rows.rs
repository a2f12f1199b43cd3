//! One figure of one mode on both sides: the values of the repetitions, the test, the verdict.

use serde::Serialize;

use super::super::stats::{Method, Shift, paired, unpaired};
use super::super::verdict::{Verdict, judge};
use super::samples::{Pair, Values};
use super::{Kind, Metric, Scale, Terms};
use crate::sample::Direction;

/// A figure of a mode, base against head.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    pub base_mode: String,
    pub head_mode: String,
    pub standby: Option<String>,
    pub metric: String,
    pub stat: String,
    pub unit: String,
    pub direction: Direction,
    /// In `unit`: where `method` is `paired_t` the mean, geometric where `scale` is `ratio`, so that head over or less base is the effect; else
    /// the median over the repetitions. `null` when unknown: no repetition has it, or it falls among the censored.
    pub base: Option<f64>,
    pub head: Option<f64>,
    /// Valid repetitions with this figure.
    pub base_n: usize,
    pub head_n: usize,
    /// Repetitions of which nothing is known but that the figure is larger than everything recorded.
    pub base_censored: usize,
    pub head_censored: usize,
    pub scale: Scale,
    /// Head over base, or head less base in `unit`: see `scale`.
    pub effect: Option<f64>,
    /// 95 % interval of the effect; a bound that is `null` is unbounded.
    pub interval: Option<Bounds>,
    pub method: Option<Method>,
    pub p: Option<f64>,
    /// After Benjamini and Hochberg, over all rows of the comparison.
    pub q: Option<f64>,
    /// Standard deviation of the repetitions of a side, as a share or in `unit`; of both sides together, each about its own mean.
    pub spread: Option<f64>,
    /// The smallest change, as a share or in `unit`, that a test like this finds in 80 % of cases.
    pub detectable: Option<f64>,
    pub verdict: Verdict,
    /// Why there is no more to say.
    pub note: Option<String>,
}

impl Row {
    /// About how many repetitions a side would find a change of this share in 80 % of cases; the detectable change shrinks with the root of their number.
    /// `None` where the effect is no ratio, or the spread unknown.
    pub fn repetitions_to_find(&self, share: f64) -> Option<u64> {
        let detectable = self.detectable.filter(|_| self.scale == Scale::Ratio)?;
        let repetitions = self.base_n.min(self.head_n) as f64;
        let needed = repetitions * (detectable.ln_1p() / share.ln_1p()).powi(2);
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "not negative; beyond u64 it saturates"
        )]
        needed
            .is_finite()
            .then(|| (needed.ceil() as u64).max(FEWEST_PAIRS))
    }

    /// Whether a difference was found.
    pub fn is_told(&self) -> bool {
        matches!(self.verdict, Verdict::Regressed | Verdict::Improved)
    }
}

/// Fewer pairs have no interval.
const FEWEST_PAIRS: u64 = 3;

/// A range whose ends may be open.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Bounds {
    pub lo: Option<f64>,
    pub hi: Option<f64>,
}

/// A row whose verdict waits for the q-value.
pub(super) struct Tested {
    row: Row,
    shift: Option<(Shift, f64)>,
}

impl Tested {
    pub(super) fn p(&self) -> Option<f64> {
        self.row.p
    }

    pub(super) fn judged(mut self, q: Option<f64>) -> Row {
        self.row.q = q;
        if let Some((shift, threshold)) = &self.shift {
            self.row.verdict = judge(shift, q, *threshold, self.row.direction);
        }
        self.row
    }
}

/// Every declared figure of a mode.
pub(super) fn test(pair: &Pair, kind: Kind, terms: &Terms) -> Vec<Tested> {
    let standbys = pair.standbys();
    let of = |of_replica: bool| {
        terms
            .metrics
            .iter()
            .filter(move |metric| metric.is_of_replica() == of_replica)
    };
    let mut rows: Vec<Tested> = of(false)
        .map(|metric| row(pair, kind, terms, *metric, None))
        .collect();
    for standby in &standbys {
        rows.extend(of(true).map(|metric| row(pair, kind, terms, *metric, Some(standby))));
    }
    // A figure that neither side measured is no finding.
    rows.retain(|tested| tested.row.base_n + tested.row.head_n > 0);
    rows
}

fn row(pair: &Pair, kind: Kind, terms: &Terms, metric: Metric, standby: Option<&str>) -> Tested {
    let base = pair.base.get(metric.name(), metric.stat.as_str(), standby);
    let head = pair.head.get(metric.name(), metric.stat.as_str(), standby);
    let scale = metric.scale(base.iter().chain(head.iter()));
    let row = Row {
        base_mode: pair.base.mode.clone(),
        head_mode: pair.head.mode.clone(),
        standby: standby.map(Into::into),
        metric: metric.name().into(),
        stat: metric.stat.as_str().into(),
        unit: metric.unit().as_str().into(),
        direction: metric.direction(),
        base: base.middle(),
        head: head.middle(),
        base_n: base.len(),
        head_n: head.len(),
        base_censored: base.censored(),
        head_censored: head.censored(),
        scale,
        effect: None,
        interval: None,
        method: None,
        p: None,
        q: None,
        spread: spread(scale, [&base, &head]),
        detectable: None,
        verdict: Verdict::NotComparable,
        note: missing(pair, &base, &head),
    };
    if row.note.is_some() {
        return Tested { row, shift: None };
    }
    let threshold = match scale {
        Scale::Ratio => terms.threshold.ln_1p(),
        Scale::Difference => {
            (terms.threshold * yardstick(pair, metric, standby, &row)).max(metric.floor())
        }
    };
    tested(row, kind, &base, &head, threshold)
}

/// Fills in what the test says.
fn tested(mut row: Row, kind: Kind, base: &Values, head: &Values, threshold: f64) -> Tested {
    let scale = row.scale;
    let pairs = base.paired_with(head, scale);
    let shift = if kind.is_paired() {
        paired(&pairs)
    } else {
        unpaired(&base.on(scale), &head.on(scale))
    };
    if shift.method == Method::PairedT {
        (row.base, row.head) = paired_means(scale, &pairs);
    }
    let finite = |value: f64| Some(scale.out_of(value)).filter(|value| value.is_finite());
    row.effect = shift.estimate.and_then(finite);
    row.interval = shift.interval95.map(|interval| Bounds {
        // The factor 0 is the end of a scale that goes down to minus infinity.
        lo: finite(interval.lo).filter(|_| interval.lo.is_finite()),
        hi: finite(interval.hi),
    });
    row.method = Some(shift.method);
    row.p = shift.p;
    row.detectable = shift.detectable.map(|change| scale.share(change));
    row.note = (shift.p.is_none() || shift.interval95.is_none())
        .then(|| too_few(kind, pairs.len(), base, head));
    Tested {
        row,
        shift: Some((shift, threshold)),
    }
}

/// Means over the pairs on the scale of the comparison, so that what lies between them is the effect.
fn paired_means(scale: Scale, pairs: &[(f64, f64)]) -> (Option<f64>, Option<f64>) {
    let mean = |side: fn(&(f64, f64)) -> f64| {
        let mean = scale.out_of(pairs.iter().map(side).sum::<f64>() / pairs.len() as f64);
        mean.is_finite().then_some(mean)
    };
    (mean(|pair| pair.0), mean(|pair| pair.1))
}

/// What a share of is meant where values are not above zero. Delays of visibility count from the acknowledgement and may be
/// negative; from the send they are whole. Other figures are measured against the larger of their medians.
fn yardstick(pair: &Pair, metric: Metric, standby: Option<&str>, row: &Row) -> f64 {
    let from_send = (metric.name() == "visibility")
        .then(|| {
            pair.base
                .get(Metric::FROM_SEND, metric.stat.as_str(), standby)
                .middle()
        })
        .flatten();
    let medians = [row.base, row.head].into_iter().flatten().map(f64::abs);
    from_send.unwrap_or_else(|| medians.fold(0.0, f64::max))
}

/// From run to run, on the scale of the comparison.
fn spread(scale: Scale, sides: [&Values; 2]) -> Option<f64> {
    let mut squares = 0.0;
    let mut degrees = 0;
    for side in sides {
        let values = side.on(scale);
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let side = values.iter().map(|value| (value - mean).powi(2));
        squares += side.sum::<f64>();
        degrees += values.len().saturating_sub(1);
    }
    let deviation = (squares / degrees as f64).sqrt();
    (degrees > 0 && deviation.is_finite()).then(|| scale.share(deviation))
}

fn missing(pair: &Pair, base: &Values, head: &Values) -> Option<String> {
    match (base.is_empty(), head.is_empty()) {
        (false, false) => None,
        (true, true) => Some("neither side has one".into()),
        (true, false) => Some(format!("the base ({}) has none", pair.base.mode)),
        (false, true) => Some(format!("the head ({}) has none", pair.head.mode)),
    }
}

fn too_few(kind: Kind, pairs: usize, base: &Values, head: &Values) -> String {
    let (needed, found) = if kind.is_paired() {
        ("3 pairs, or 6 with censored ones", pairs.to_string())
    } else {
        let found = format!("{} and {}", base.len(), head.len());
        ("4 repetitions a side", found)
    };
    format!("no interval: needs {needed}, has {found}")
}
