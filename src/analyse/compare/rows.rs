//! One figure of one mode on both sides: the values of the repetitions, the test and the verdict.

use serde::Serialize;

use super::super::aggregate::is_unresolved;
use super::super::stats::{Interval, Method, paired, unpaired};
use super::super::verdict::{Evidence, Limits, Verdict, judge};
use super::samples::{Pair, Samples, Values};
use super::{Kind, Metric, Scale, Terms, Unit};
use crate::sample::Direction;

/// A figure of a mode, base against head.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    pub base_mode: String,
    pub head_mode: String,
    pub node: Option<String>,
    pub metric: String,
    pub stat: String,
    pub unit: String,
    pub direction: Direction,
    /// The figure of each side in `unit`, over the repetitions (see `aggregate`); over the paired repetitions only, if repetitions are
    /// paired. In that case, if none is censored, the effect is head over base or head less base. `null` if unknown: no repetition has the
    /// figure, or it falls among the censored.
    pub base: Option<f64>,
    pub head: Option<f64>,
    /// For a visibility delay, which is an upper bound: its lower bound, and the median distance between the looks, in `unit`. `null` for
    /// others.
    pub base_lo: Option<f64>,
    pub head_lo: Option<f64>,
    pub base_resolution: Option<f64>,
    pub head_resolution: Option<f64>,
    /// Valid repetitions with this figure.
    pub base_n: usize,
    pub head_n: usize,
    /// Repetitions in which the figure is censored: known only to be larger than everything recorded.
    pub base_censored: usize,
    pub head_censored: usize,
    /// Pairs of repetitions behind the effect; `null` if repetitions are not paired.
    pub pairs: Option<usize>,
    pub scale: Scale,
    /// Head over base, or head less base in `unit`: see `scale`.
    pub effect: Option<f64>,
    /// 95 % interval of the effect; a bound that is `null` is infinite.
    pub interval: Option<Bounds>,
    pub method: Option<Method>,
    pub p: Option<f64>,
    /// `p` corrected for multiple tests after Benjamini and Hochberg, over all rows of the comparison.
    pub q: Option<f64>,
    /// Standard deviation of the repetitions, pooled over both sides (each about its own mean), as a share or in `unit`: see `scale`.
    pub spread: Option<f64>,
    /// The smallest change, as a share or in `unit`, that such a test finds in 80 % of cases.
    pub detectable: Option<f64>,
    pub verdict: Verdict,
    /// A remark on the figure: why there is no verdict or interval, or what else differs between the sides.
    pub note: Option<String>,
    /// Why the figure is not called improved, although the figure alone shows an improvement; `None` if it is not withheld.
    #[serde(skip)]
    pub withheld: Option<String>,
    /// Whether two modes of one run are compared: a slower mode is then called worse, not a regression.
    #[serde(skip)]
    pub of_modes: bool,
}

impl Row {
    /// About how many repetitions each side needs to find a change of this share in 80 % of cases; the detectable change shrinks with the
    /// square root of their number. `None` if the effect is not a ratio or the spread is unknown.
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

    /// For base and head: whether the distance between the looks is as large as the figure or larger, so that the figure is only an upper
    /// bound.
    pub fn is_unresolved(&self) -> [bool; 2] {
        [
            is_unresolved(self.base, self.base_resolution),
            is_unresolved(self.head, self.head_resolution),
        ]
    }

    /// The verdict in words; of two modes of one run, one is worse or better than the other.
    pub fn word(&self) -> &'static str {
        match self.verdict {
            Verdict::Regressed if self.of_modes => "worse",
            Verdict::Improved if self.of_modes => "better",
            verdict => verdict.as_str(),
        }
    }

    /// Whether the figure is a share that is zero on both sides: nothing failed.
    pub fn is_none_lost(&self) -> bool {
        self.unit == Unit::Share.as_str() && (self.base, self.head) == (Some(0.0), Some(0.0))
    }

    /// Whether a difference was found.
    pub fn is_told(&self) -> bool {
        matches!(self.verdict, Verdict::Regressed | Verdict::Improved)
    }
}

/// The smallest number of pairs with an interval.
const FEWEST_PAIRS: u64 = 3;

/// A range; an end that is `None` is infinite.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Bounds {
    pub lo: Option<f64>,
    pub hi: Option<f64>,
}

impl Bounds {
    /// The range, if both ends are finite.
    pub(in crate::analyse) fn closed(self) -> Option<Interval> {
        let (lo, hi) = (self.lo?, self.hi?);
        Some(Interval { lo, hi })
    }
}

/// A row whose verdict waits for the q-value.
pub(super) struct Tested {
    row: Row,
    /// What the verdict is derived from; `None` if the row already has its final verdict.
    evidence: Option<(Evidence, Limits)>,
}

impl Tested {
    pub(super) fn p(&self) -> Option<f64> {
        self.row.p
    }

    pub(super) fn judged(mut self, q: Option<f64>) -> Row {
        self.row.q = q;
        let Some((evidence, limits)) = self.evidence else {
            return self.row;
        };
        let direction = self.row.direction;
        self.row.verdict = judge(&evidence, q, limits, direction);
        let alone = Evidence::exact(&evidence.shift);
        if self.row.verdict != judge(&alone, q, limits, direction) {
            self.row.note = Some("within the resolution of the looks".into());
        }
        self.row
    }
}

/// Tests every figure of a mode: those of the mode as a whole, then those of each replica.
pub(super) fn test(pair: &Pair, kind: Kind, terms: &Terms) -> Vec<Tested> {
    let nodes = pair.nodes();
    let of = |of_replica: bool| {
        terms
            .metrics
            .iter()
            .filter(move |metric| metric.is_of_replica() == of_replica)
    };
    let mut rows: Vec<Tested> = of(false)
        .map(|metric| row(pair, kind, terms, *metric, None))
        .collect();
    for node in &nodes {
        rows.extend(of(true).map(|metric| row(pair, kind, terms, *metric, Some(node))));
    }
    // Figures that neither side measured have no row.
    rows.retain(|tested| tested.row.base_n + tested.row.head_n > 0);
    rows
}

fn row(pair: &Pair, kind: Kind, terms: &Terms, metric: Metric, node: Option<&str>) -> Tested {
    let base = pair.base.get(metric, node);
    let head = pair.head.get(metric, node);
    let scale = metric.scale(base.iter().chain(head.iter()));
    let resolution = |side: &Samples| {
        let metric = metric.resolution()?;
        side.get(metric, node).over(metric)
    };
    let mut row = Row {
        base_mode: pair.base.mode.clone(),
        head_mode: pair.head.mode.clone(),
        node: node.map(Into::into),
        metric: metric.name().into(),
        stat: metric.stat.as_str().into(),
        unit: metric.unit().as_str().into(),
        direction: metric.direction(),
        base: base.over(metric),
        head: head.over(metric),
        base_lo: None,
        head_lo: None,
        base_resolution: resolution(&pair.base),
        head_resolution: resolution(&pair.head),
        base_n: base.len(),
        head_n: head.len(),
        base_censored: base.censored(),
        head_censored: head.censored(),
        pairs: None,
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
        withheld: None,
        of_modes: kind == Kind::Modes,
    };
    if row.note.is_some() {
        let evidence = None;
        return Tested { row, evidence };
    }
    if metric.unit() == Unit::Share && base.iter().chain(head.iter()).all(|share| *share == 0.0) {
        // There is nothing to test, and no test for which the other p-values must be corrected.
        row.verdict = Verdict::Equivalent;
        row.pairs = kind.is_paired().then(|| base.in_blocks_of(&head).len());
        let evidence = None;
        return Tested { row, evidence };
    }
    let limits = Limits {
        matters: match scale {
            Scale::Ratio => terms.threshold.ln_1p(),
            Scale::Difference => terms.threshold * yardstick(pair, metric, node, &row),
        },
        floor: metric.floor(),
    };
    let evidence = tested(&mut row, pair, kind, metric, [&base, &head]);
    let evidence = Some((evidence, limits));
    Tested { row, evidence }
}

/// Runs the test and fills its results into the row.
fn tested(
    row: &mut Row,
    pair: &Pair,
    kind: Kind,
    metric: Metric,
    [base, head]: [&Values; 2],
) -> Evidence {
    let scale = row.scale;
    let shift = |base: &Values, head: &Values| {
        if kind.is_paired() {
            paired(&base.paired_with(head, scale))
        } else {
            unpaired(&base.on(scale), &head.on(scale))
        }
    };
    let over = |own: &Values, other: &Values, metric: Metric| {
        if kind.is_paired() {
            own.in_blocks_of(other).over(metric)
        } else {
            own.over(metric)
        }
    };
    let of_figure = shift(base, head);
    row.pairs = kind.is_paired().then(|| base.in_blocks_of(head).len());
    row.base = over(base, head, metric);
    row.head = over(head, base, metric);
    let mut evidence = Evidence::exact(&of_figure);
    if let Some(lower) = metric.lower_bound() {
        let [base_lo, head_lo] =
            [&pair.base, &pair.head].map(|side| side.get(lower, row.node.as_deref()));
        row.base_lo = over(&base_lo, head, lower);
        row.head_lo = over(&head_lo, base, lower);
        evidence.least = shift(base, &head_lo);
        evidence.most = shift(&base_lo, head);
    }
    let finite = |value: f64| Some(scale.out_of(value)).filter(|value| value.is_finite());
    row.effect = of_figure.estimate.and_then(finite);
    row.interval = of_figure.interval95.map(|interval| Bounds {
        // A lower end of minus infinity would become the factor 0; it is reported as infinite.
        lo: finite(interval.lo).filter(|_| interval.lo.is_finite()),
        hi: finite(interval.hi),
    });
    row.method = Some(of_figure.method);
    row.p = of_figure.p;
    row.detectable = of_figure.detectable.map(|change| scale.share(change));
    row.note = (of_figure.p.is_none() || of_figure.interval95.is_none())
        .then(|| too_few(row.pairs, base, head));
    evidence
}

/// The value of which the threshold is a share, if effects are differences. Delays of visibility count from the acknowledgement and may be
/// negative, so the delay from the send is used for them. For other figures it is the larger side.
fn yardstick(pair: &Pair, metric: Metric, node: Option<&str>, row: &Row) -> f64 {
    let from_send = metric.from_send();
    let from_send = from_send.and_then(|whole| pair.base.get(whole, node).over(whole));
    let sides = [row.base, row.head].into_iter().flatten().map(f64::abs);
    from_send.unwrap_or_else(|| sides.fold(0.0, f64::max))
}

/// The standard deviation of the repetitions, pooled over both sides: a share or in the unit of the figure. `None` if it is unknown.
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

fn too_few(pairs: Option<usize>, base: &Values, head: &Values) -> String {
    match pairs {
        Some(pairs) => {
            format!("no interval: needs 3 pairs, or 6 with censored ones, has {pairs}")
        }
        None => format!(
            "no interval: needs 4 repetitions a side, has {} and {}",
            base.len(),
            head.len()
        ),
    }
}
