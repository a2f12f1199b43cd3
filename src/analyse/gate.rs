//! Evaluates the gates of a run: one line for each gate, mode and replica. A gate is evaluated on the figure over the valid repetitions
//! that every table shows for its mode (see `aggregate`).
//!
//! A gate passes or fails. It has no interval, since a bound is a promise about what happened in this run. A gate whose figure is unknown
//! fails: a gate that passes for lack of data would guard nothing.

use itertools::Itertools as _;
use serde::{Deserialize as _, Serialize};

use super::aggregate::over_repetitions;
use super::cell::cell_figures;
use crate::metric::{CellFigures, Measured, Metric, Population, Stat};
use crate::plan::{Gate, Limit};
use crate::record::Run;
use crate::sample::{CellRow, EventKind, EventRow};
use crate::topology::Topology;

/// The result of a gate for one mode and, for a metric of replicas, one replica.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct GateLine {
    /// The gate's number in the plan, counted from 1; one gate may have several lines.
    pub number: usize,
    /// `None` if the manifest's gate cannot be read.
    pub gate: Option<Gate>,
    /// `None` if the gate names no mode and the run has none, or if the gate cannot be read.
    pub mode: Option<String>,
    pub node: Option<String>,
    /// In seconds, bytes, transactions a second, or a count; `None` if there is no figure, or it is censored.
    pub value: Option<f64>,
    /// A lower limit of a figure that is unknown because it falls among the censored observations; in the unit of `value`.
    pub beyond: Option<f64>,
    /// Observations behind the figure.
    pub n: u64,
    pub passed: bool,
    /// Why there is no figure, or a remark on it.
    pub reason: Option<String>,
}

impl GateLine {
    /// What is judged, as text: `browse: visibility.max on s1 under async`.
    pub fn subject(&self) -> String {
        let Some(gate) = &self.gate else {
            return format!("gate {}", self.number);
        };
        let mut text = gate.metric.to_string();
        if let Some(name) = &gate.name {
            text = format!("{name}: {text}");
        }
        for (word, place) in [("on", &self.node), ("under", &self.mode)] {
            if let Some(place) = place {
                text = format!("{text} {word} {place}");
            }
        }
        text
    }

    /// The figure as text: `4.21 ms`, `more than 5.03 s`, or `no data`.
    pub fn found(&self) -> String {
        let Some(gate) = &self.gate else {
            return "no data".into();
        };
        let unit = gate.metric.unit();
        match (self.value, self.beyond) {
            (Some(value), _) => {
                let (Limit::Max(bound) | Limit::Min(bound)) = gate.limit;
                let rounded = unit.rounded(value);
                // A value that differs from its bound but is rounded to the same text is shown exactly. Rounded, it would look as if it had
                // passed, or failed.
                if value.total_cmp(&bound).is_ne() && rounded == unit.rounded(bound) {
                    unit.exactly(value)
                } else {
                    rounded
                }
            }
            (None, Some(beyond)) => format!("more than {}", unit.rounded(beyond)),
            (None, None) => "no data".into(),
        }
    }

    /// The bound as text: `at most 5 s`.
    pub fn wanted(&self) -> String {
        self.gate.as_ref().map_or_else(String::new, Gate::wanted)
    }
}

/// A figure of a mode.
#[derive(Default)]
struct Figure {
    value: Option<f64>,
    beyond: Option<f64>,
    n: u64,
    /// Whether the figure of some repetition is censored, that is, larger than everything recorded: such a figure fails every `max` gate.
    is_open: bool,
    reason: Option<String>,
}

/// Evaluates the gates in a run's manifest; empty if it has none.
pub fn gates(run: &Run) -> Vec<GateLine> {
    if run.manifest.plan.gates().is_empty() {
        return Vec::new();
    }
    gates_of(run, &cell_figures(run))
}

/// Like [`gates`], with the figures given, one element for each cell of the run.
pub(super) fn gates_of(run: &Run, figures: &[CellFigures]) -> Vec<GateLine> {
    let evaluator = GateEvaluator { run, figures };
    let mut lines = Vec::new();
    for (index, gate) in run.manifest.plan.gates().iter().enumerate() {
        let number = index + 1;
        match Gate::deserialize(gate) {
            Ok(gate) => lines.extend(evaluator.lines(number, &gate)),
            Err(error) => lines.push(GateLine {
                number,
                reason: Some(format!("the manifest's gate cannot be read: {error}")),
                ..GateLine::default()
            }),
        }
    }
    lines
}

/// The sentence about all gates for the headline; `None` if there are none.
pub(super) fn sentence(lines: &[GateLine]) -> Option<String> {
    const MOST_TOLD: usize = 3;
    let broken: Vec<&GateLine> = lines.iter().filter(|line| !line.passed).collect();
    let all = lines.iter().map(|line| line.number).dedup().count();
    let failed = broken.iter().map(|line| line.number).dedup().count();
    match (all, failed) {
        (0, _) => return None,
        (1, 0) => return Some("The gate passed.".into()),
        (_, 0) => return Some(format!("All {all} gates passed.")),
        _ => {}
    }
    let mut parts: Vec<String> = broken
        .iter()
        .take(MOST_TOLD)
        .map(|line| told(line))
        .collect();
    if let Some(more) = broken.len().checked_sub(MOST_TOLD).filter(|more| *more > 0) {
        parts.push(format!("and {more} more"));
    }
    let head = match all {
        1 => "The gate failed".into(),
        _ => format!("{failed} of {all} gates failed"),
    };
    Some(format!("{head}: {}.", parts.join("; ")))
}

/// A failed line as a few words.
fn told(line: &GateLine) -> String {
    match (line.value, line.beyond, &line.reason) {
        (None, None, Some(reason)) => format!("{} has no data ({reason})", line.subject()),
        _ => format!(
            "{} is {} and must be {}",
            line.subject(),
            line.found(),
            line.wanted()
        ),
    }
}

/// Evaluates gates on a run.
struct GateEvaluator<'a> {
    run: &'a Run,
    /// The figures of the run's cells, one element for each cell.
    figures: &'a [CellFigures],
}

impl GateEvaluator<'_> {
    fn lines(&self, number: usize, gate: &Gate) -> Vec<GateLine> {
        let names = self.run.mode_names();
        let concerned = names.iter().filter(|mode| gate.concerns(mode));
        let mut lines = Vec::new();
        for mode in concerned {
            match self.nodes(gate, mode) {
                Ok(nodes) => lines.extend(nodes.into_iter().map(|node| {
                    let figure = self.figure(gate.metric, mode, node.as_deref());
                    line(number, gate, Some(mode), node, figure)
                })),
                Err(reason) => lines.push(line(number, gate, Some(mode), None, Err(reason))),
            }
        }
        if lines.is_empty() {
            let reason = match (&gate.mode, &gate.node) {
                (Some(mode), _) if !names.contains(mode) => "this run has no such mode",
                (_, Some(_)) => "this run has no such replica there",
                _ => "this run has no mode",
            };
            let (mode, node) = (gate.mode.as_ref(), gate.node.clone());
            lines.push(line(number, gate, mode, node, Err(reason.into())));
        }
        lines
    }

    /// The nodes of a mode that a gate applies to; `None` stands for the mode as a whole. A gate that names a replica applies only to the
    /// modes that have this replica. A gate on every replica of a mode that has none is an error: it has no data.
    fn nodes(&self, gate: &Gate, mode: &str) -> Result<Vec<Option<String>>, String> {
        if !gate.metric.is_of_replica() {
            return Ok(vec![None]);
        }
        let nodes = match (self.run.mode(mode), &gate.node) {
            (Some(planned), _) => gate.nodes_in(planned),
            (None, Some(node)) => vec![node.clone()],
            (None, None) => {
                return Err("the manifest does not say which replicas there were".into());
            }
        };
        if nodes.is_empty() && gate.node.is_none() {
            return Err("the mode has no replica".into());
        }
        Ok(nodes.into_iter().map(Some).collect())
    }

    fn figure(&self, metric: Metric, mode: &str, node: Option<&str>) -> Result<Figure, String> {
        let cells = self.run.cells_of(mode);
        let valid: Vec<&CellRow> = cells.iter().copied().filter(|cell| cell.valid).collect();
        let on_primary = node == Some(Topology::PRIMARY);
        if on_primary && let Some(wrong) = lost_rows(self.run, &cells) {
            return Err(wrong);
        }
        if valid.is_empty() {
            return Err(if cells.is_empty() {
                "no repetition was measured".into()
            } else {
                "no repetition is valid".into()
            });
        }
        if on_primary && metric.is_visibility() {
            return audited(self.run, &valid);
        }
        let found = valid.iter().map(|cell| self.measured(metric, cell, node));
        over_cells(metric, &found.collect::<Result<Vec<_>, _>>()?)
    }

    /// The figure of one cell, or the reason why it cannot be judged.
    fn measured(
        &self,
        metric: Metric,
        cell: &CellRow,
        node: Option<&str>,
    ) -> Result<Measured, String> {
        let id = cell.cell_id;
        let figures = self.figures.iter().find(|figures| figures.cell_id == id);
        let measured = figures.and_then(|figures| match node {
            None => metric.in_cell(cell, figures),
            Some(node) => {
                let mut replicas = figures.replicas.iter();
                metric.in_replica(replicas.find(|replica| replica.node == node)?)
            }
        });
        let measured = measured.ok_or_else(|| format!("cell {id} has no `{metric}` on record"))?;
        // In a damaged directory, the acknowledged commits that are left must not pass for all of them.
        let commits = match metric.gated().map(|gated| gated.population) {
            Some(Population::Acknowledged) => measured.n.saturating_sub(measured.censored),
            Some(Population::Commits) => measured.n,
            Some(Population::Arrivals) if cell.offered == 0 => {
                return Err(format!("nothing was offered in cell {id}"));
            }
            Some(Population::Arrivals | Population::Samples) | None => return Ok(measured),
        };
        if commits < cell.acked {
            let acked = cell.acked;
            return Err(format!(
                "cell {id} has {commits} of {acked} commits on record"
            ));
        }
        Ok(measured)
    }
}

/// Combines the figures of a mode's valid repetitions.
fn over_cells(metric: Metric, found: &[Measured]) -> Result<Figure, String> {
    let scale = 1.0 / metric.unit().per_base();
    let values: Vec<f64> = found
        .iter()
        .map(|measured| measured.value.unwrap_or(f64::INFINITY))
        .collect();
    let estimate = over_repetitions(metric, &values).ok_or("a value on record is no number")?;
    let sum = |count: fn(&Measured) -> u64| found.iter().map(count).fold(0, u64::saturating_add);
    let open: Vec<&Measured> = found.iter().filter(|it| it.value.is_none()).collect();
    let value = Some(estimate.value * scale).filter(|value| value.is_finite());
    let reason = (!open.is_empty()).then(|| {
        let (censored, n) = (sum(|it| it.censored), sum(|it| it.n));
        let of = if value.is_some() {
            let (open, all) = (open.len(), found.len());
            format!("in {open} of {all} repetitions it is not known: ")
        } else {
            String::new()
        };
        let fate = metric.gated().map_or("censored", |gated| gated.censored);
        format!("{of}{censored} of {n} were {fate}")
    });
    Ok(Figure {
        value,
        beyond: least_beyond(metric, &open).filter(|_| value.is_none()),
        n: sum(|it| it.n),
        is_open: !open.is_empty(),
        reason,
    })
}

/// A lower limit of a censored figure, in base units. `open` are the repetitions in which it is censored. A maximum is larger than the
/// largest value that any of them recorded, a mean is larger than the smallest of their largest values.
fn least_beyond(metric: Metric, open: &[&Measured]) -> Option<f64> {
    let recorded = open.iter().filter_map(|measured| measured.largest);
    let largest = recorded.reduce(if metric.stat == Stat::Max {
        f64::max
    } else {
        f64::min
    });
    Some(largest? / metric.unit().per_base())
}

fn line(
    number: usize,
    gate: &Gate,
    mode: Option<&String>,
    node: Option<String>,
    figure: Result<Figure, String>,
) -> GateLine {
    let figure = figure.unwrap_or_else(|reason| Figure {
        reason: Some(reason),
        ..Figure::default()
    });
    let passed = match (figure.value, figure.beyond, gate.limit) {
        (Some(_), _, Limit::Max(_)) if figure.is_open => false,
        (Some(value), ..) => gate.limit.allows(value),
        // A censored value passes `min` if its known lower limit does.
        (None, Some(beyond), Limit::Min(_)) => gate.limit.allows(beyond),
        _ => false,
    };
    GateLine {
        number,
        gate: Some(gate.clone()),
        mode: mode.cloned(),
        node,
        value: figure.value,
        beyond: figure.beyond,
        n: figure.n,
        passed,
        reason: figure.reason,
    }
}

/// A mismatch that the count of the primary's rows after a cell has found, as a sentence; `None` if there is none. Such a cell is invalid,
/// but a mode with one fails the gate nevertheless.
fn lost_rows(run: &Run, cells: &[&CellRow]) -> Option<String> {
    cells
        .iter()
        .find_map(|cell| primary_events(run, cell, &EventKind::RowsWrong).next())
        .map(|wrong| wrong.detail.clone())
}

/// The visibility delay on the primary itself, which is 0: a read there sees at once what the primary acknowledged, as long as no row is
/// lost. The count of its rows after each cell shows that none is. An error if the rows were not counted after one of the cells.
fn audited(run: &Run, cells: &[&CellRow]) -> Result<Figure, String> {
    let tables = run.manifest.plan.tables.unwrap_or(0).max(1);
    let uncounted = |cell: &&&CellRow| primary_events(run, cell, &EventKind::Rows).count() < tables;
    if let Some(cell) = cells.iter().find(uncounted) {
        return Err(format!(
            "its rows were not counted after cell {}",
            cell.cell_id
        ));
    }
    let acked = cells.iter().map(|cell| cell.acked);
    Ok(Figure {
        value: Some(0.0),
        n: acked.fold(0, u64::saturating_add),
        reason: Some("every acknowledged row was counted there".into()),
        ..Figure::default()
    })
}

fn primary_events<'a>(
    run: &'a Run,
    cell: &CellRow,
    kind: &'static EventKind,
) -> impl Iterator<Item = &'a EventRow> {
    let id = cell.cell_id;
    run.events.iter().filter(move |event| {
        event.cell_id == Some(id)
            && event.kind == *kind
            && event.node.as_deref() == Some(Topology::PRIMARY)
    })
}
