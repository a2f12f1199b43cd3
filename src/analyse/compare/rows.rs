//! One figure of one mode on both sides: the values of the repetitions, the test, the verdict.

use std::collections::BTreeMap;

use serde::Serialize;

use super::super::stats::{Interval, Method, Shift, median, paired, unpaired};
use super::super::verdict::{Verdict, judge};
use super::{Kind, Metric, Terms};
use crate::record::Sheet;
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

/// What an effect is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// Head over base.
    Ratio,
    /// Head less base: a value is not above zero, or lag within a page of WAL, and has no ratio.
    Difference,
}

/// A range whose ends may be open.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Bounds {
    pub lo: Option<f64>,
    pub hi: Option<f64>,
}

/// The valid repetitions of a mode in one run.
#[derive(Debug)]
pub(super) struct Samples {
    run_id: String,
    mode: String,
    /// Block by cell.
    blocks: BTreeMap<u32, u32>,
    invalid: usize,
    /// Value by cell; infinite when censored.
    figures: BTreeMap<Key, BTreeMap<u32, f64>>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    metric: String,
    stat: String,
    standby: Option<String>,
}

impl Samples {
    pub(super) fn of(sheet: &Sheet, mode: &str) -> Self {
        let cells = || sheet.cells.iter().filter(|cell| cell.mode == mode);
        let blocks: BTreeMap<u32, u32> = cells()
            .filter(|cell| cell.valid)
            .map(|cell| (cell.cell_id, cell.block))
            .collect();
        let mut figures: BTreeMap<Key, BTreeMap<u32, f64>> = BTreeMap::new();
        let rows = sheet.figures.iter().flatten();
        for row in rows.filter(|row| blocks.contains_key(&row.cell_id)) {
            let key = Key {
                metric: row.metric.clone(),
                stat: row.stat.clone(),
                standby: row.standby.clone(),
            };
            let value = row.value.unwrap_or(f64::INFINITY);
            figures.entry(key).or_default().insert(row.cell_id, value);
        }
        Self {
            run_id: sheet.manifest.run_id.clone(),
            mode: mode.to_owned(),
            invalid: cells().count() - blocks.len(),
            blocks,
            figures,
        }
    }

    fn get(&self, metric: &str, stat: &str, standby: Option<&str>) -> BTreeMap<u32, f64> {
        let key = Key {
            metric: metric.into(),
            stat: stat.into(),
            standby: standby.map(Into::into),
        };
        let by_cell = self.figures.get(&key).into_iter().flatten();
        // A block holds a mode once; a damaged file that says otherwise keeps its last.
        by_cell
            .map(|(cell, value)| (self.blocks[cell], *value))
            .collect()
    }

    fn standbys(&self) -> impl Iterator<Item = &String> {
        self.figures.keys().filter_map(|key| key.standby.as_ref())
    }
}

/// A mode on both sides.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) base: Samples,
    pub(super) head: Samples,
}

impl Pair {
    pub(super) fn notes(&self) -> Vec<String> {
        let sides = [&self.base, &self.head];
        let left_out = sides.iter().filter(|side| side.invalid > 0);
        left_out
            .map(|side| {
                let plural = if side.invalid == 1 { "" } else { "s" };
                format!(
                    "{} invalid repetition{plural} of {} in {} left out",
                    side.invalid, side.mode, side.run_id
                )
            })
            .collect()
    }

    /// In the order of their names, those of either side.
    fn standbys(&self) -> Vec<String> {
        let mut names: Vec<String> = self
            .base
            .standbys()
            .chain(self.head.standbys())
            .cloned()
            .collect();
        names.sort();
        names.dedup();
        names
    }
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
            .filter(move |metric| metric.of_replica == of_replica)
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
    let base = pair.base.get(metric.metric, metric.stat, standby);
    let head = pair.head.get(metric.metric, metric.stat, standby);
    let scale = Scale::of(base.values().chain(head.values()), metric.floor);
    let censored =
        |side: &BTreeMap<u32, f64>| side.values().filter(|value| value.is_infinite()).count();
    let mut row = Row {
        base_mode: pair.base.mode.clone(),
        head_mode: pair.head.mode.clone(),
        standby: standby.map(Into::into),
        metric: metric.metric.into(),
        stat: metric.stat.into(),
        unit: metric.unit.as_str().into(),
        direction: metric.direction,
        base: middle(&base),
        head: middle(&head),
        base_n: base.len(),
        head_n: head.len(),
        base_censored: censored(&base),
        head_censored: censored(&head),
        scale,
        effect: None,
        interval: None,
        method: None,
        p: None,
        q: None,
        spread: spread(scale, &base, &head),
        detectable: None,
        verdict: Verdict::NotComparable,
        note: missing(pair, &base, &head),
    };
    if row.note.is_some() {
        return Tested { row, shift: None };
    }
    let shift = shift(kind, scale, &base, &head);
    let threshold = match scale {
        Scale::Ratio => terms.threshold.ln_1p(),
        Scale::Difference => (terms.threshold * yardstick(pair, metric, standby)).max(metric.floor),
    };
    let bounds = |interval: Interval| Bounds {
        lo: Some(scale.out_of(interval.lo)).filter(|lo| lo.is_finite() && interval.lo.is_finite()),
        hi: Some(scale.out_of(interval.hi)).filter(|hi| hi.is_finite()),
    };
    if shift.method == Method::PairedT {
        (row.base, row.head) = paired_means(scale, &base, &head);
    }
    row.effect = shift
        .estimate
        .map(|effect| scale.out_of(effect))
        .filter(|effect| effect.is_finite());
    row.interval = shift.interval95.map(bounds);
    row.method = Some(shift.method);
    row.p = shift.p;
    row.detectable = shift.detectable.map(|change| match scale {
        Scale::Ratio => change.exp_m1(),
        Scale::Difference => change,
    });
    row.note =
        (shift.p.is_none() || shift.interval95.is_none()).then(|| too_few(kind, &base, &head));
    Tested {
        row,
        shift: Some((shift, threshold)),
    }
}

impl Scale {
    /// What the values allow: those up to the floor of their metric have no ratio worth the name.
    pub(in crate::analyse) fn of<'a>(
        mut values: impl Iterator<Item = &'a f64>,
        floor: f64,
    ) -> Self {
        if values.all(|value| *value > floor) {
            Self::Ratio
        } else {
            Self::Difference
        }
    }

    pub(in crate::analyse) fn to(self, value: f64) -> f64 {
        match self {
            Self::Ratio => value.ln(),
            Self::Difference => value,
        }
    }

    fn out_of(self, value: f64) -> f64 {
        match self {
            Self::Ratio => value.exp(),
            Self::Difference => value,
        }
    }
}

fn shift(kind: Kind, scale: Scale, base: &BTreeMap<u32, f64>, head: &BTreeMap<u32, f64>) -> Shift {
    if kind.is_paired() {
        let pairs: Vec<_> = base
            .iter()
            .filter_map(|(block, base)| Some((scale.to(*base), scale.to(*head.get(block)?))))
            .collect();
        paired(&pairs)
    } else {
        let values = |side: &BTreeMap<u32, f64>| {
            side.values()
                .map(|value| scale.to(*value))
                .collect::<Vec<_>>()
        };
        unpaired(&values(base), &values(head))
    }
}

/// Means over the blocks that both sides have, on the scale of the comparison, so that what lies between them is the effect.
fn paired_means(
    scale: Scale,
    base: &BTreeMap<u32, f64>,
    head: &BTreeMap<u32, f64>,
) -> (Option<f64>, Option<f64>) {
    let mean = |one: &BTreeMap<u32, f64>, other: &BTreeMap<u32, f64>| {
        let shared = one.iter().filter(|(block, _)| other.contains_key(block));
        let values: Vec<f64> = shared.map(|(_, value)| scale.to(*value)).collect();
        let mean = scale.out_of(values.iter().sum::<f64>() / values.len() as f64);
        mean.is_finite().then_some(mean)
    };
    (mean(base, head), mean(head, base))
}

/// What a share of is meant where values are not above zero. Delays of visibility count from the acknowledgement and may be negative; from the
/// send they are whole. Other figures are measured against the larger of their medians.
fn yardstick(pair: &Pair, metric: Metric, standby: Option<&str>) -> f64 {
    let own = || {
        let sides = [&pair.base, &pair.head];
        let medians = sides.map(|side| middle(&side.get(metric.metric, metric.stat, standby)));
        medians
            .into_iter()
            .flatten()
            .map(f64::abs)
            .fold(0.0, f64::max)
    };
    let from_send = (metric.metric == "visibility")
        .then(|| middle(&pair.base.get(Metric::YARDSTICK, metric.stat, standby)))
        .flatten();
    from_send.unwrap_or_else(own)
}

/// From run to run, on the scale of the comparison.
fn spread(scale: Scale, base: &BTreeMap<u32, f64>, head: &BTreeMap<u32, f64>) -> Option<f64> {
    let mut squares = 0.0;
    let mut degrees = 0;
    for side in [base, head] {
        let values: Vec<f64> = side.values().map(|value| scale.to(*value)).collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        squares += values
            .iter()
            .map(|value| (value - mean).powi(2))
            .sum::<f64>();
        degrees += values.len().saturating_sub(1);
    }
    let deviation = (squares / degrees as f64).sqrt();
    (degrees > 0 && deviation.is_finite()).then(|| match scale {
        Scale::Ratio => deviation.exp_m1(),
        Scale::Difference => deviation,
    })
}

/// The median, if it is known.
fn middle(values: &BTreeMap<u32, f64>) -> Option<f64> {
    let values: Vec<f64> = values.values().copied().collect();
    median(&values)
        .map(|it| it.value)
        .filter(|value| value.is_finite())
}

fn missing(pair: &Pair, base: &BTreeMap<u32, f64>, head: &BTreeMap<u32, f64>) -> Option<String> {
    match (base.is_empty(), head.is_empty()) {
        (false, false) => None,
        (true, true) => Some("neither side has one".into()),
        (true, false) => Some(format!("the base ({}) has none", pair.base.mode)),
        (false, true) => Some(format!("the head ({}) has none", pair.head.mode)),
    }
}

fn too_few(kind: Kind, base: &BTreeMap<u32, f64>, head: &BTreeMap<u32, f64>) -> String {
    let (needed, found) = if kind.is_paired() {
        let pairs = base.keys().filter(|block| head.contains_key(block)).count();
        ("3 pairs, or 6 with censored ones", pairs.to_string())
    } else {
        (
            "4 repetitions a side",
            format!("{} and {}", base.len(), head.len()),
        )
    };
    format!("no interval: needs {needed}, has {found}")
}
