//! The charts of a run. Draws what `analyse` decided; computes places on the page and nothing else.

mod axis;
mod canvas;
mod comparison;
mod forest;
mod frame;
mod heat;
mod host;
mod lag;
mod legend;
mod load;
mod overview;
mod spectrum;
mod stale;
mod time;
mod tradeoff;
mod trend;
mod visibility;

pub(crate) use canvas::{Drawing, style};
pub(crate) use comparison::chart as comparison_chart;
pub(crate) use overview::chart as overview_chart;
pub(crate) use trend::{Plot, PlotDrawing, plot as trend_plot};

use canvas::{Dash, Paint};
use frame::Layout;
use itertools::Itertools as _;

use crate::analyse::{Analysis, Estimate, Interval, ModeFigures};
use crate::units::format_seconds;

/// A chart with its words and the figures it shows.
#[derive(Debug, Clone)]
pub(crate) struct Chart {
    /// Name of the chart's file without the extension; also its anchor on the page.
    pub(crate) id: &'static str,
    pub(crate) title: &'static str,
    /// What the chart shows, in words, for screen readers.
    pub(crate) description: String,
    /// How to read the chart.
    pub(crate) caption: String,
    pub(crate) drawings: Drawings,
    pub(crate) table: Table,
}

impl Chart {
    /// The SVG as a separate file, with its style sheet.
    pub(crate) fn svg(&self) -> String {
        let wide = &self.drawings.wide;
        wide.svg(self.id, self.title, &self.description, Some(&style()))
    }
}

/// A chart at both widths.
#[derive(Debug, Clone)]
pub(crate) struct Drawings {
    pub(crate) wide: Drawing,
    pub(crate) narrow: Drawing,
}

/// Figures under a chart. The first column names the row.
#[derive(Debug, Clone, Default)]
pub(crate) struct Table {
    pub(crate) head: Vec<&'static str>,
    pub(crate) rows: Vec<Vec<String>>,
}

impl Table {
    fn new(head: &[&'static str]) -> Self {
        Self {
            head: head.to_vec(),
            rows: Vec::new(),
        }
    }

    /// The table in words, a sentence for each row.
    fn describe(&self, sentence: impl Fn(&[String]) -> String) -> String {
        self.rows.iter().map(|row| sentence(row)).join(" ")
    }
}

/// The most modes that a chart draws; the others do not fit and are in its table only.
const MOST_MODES: usize = 6;

/// All charts for which there is data. The first is the overview, which stands on the first screen of the page.
pub(crate) fn charts(analysis: &Analysis) -> Vec<Chart> {
    [
        overview::chart(analysis),
        forest::chart(analysis),
        spectrum::chart(analysis),
        visibility::chart(analysis),
        stale::chart(analysis),
        tradeoff::chart(analysis),
        load::chart(analysis),
        host::chart(analysis),
        heat::chart(analysis),
        lag::chart(analysis),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The look of a mode: the same in every chart of a run.
fn mode_paint(analysis: &Analysis, mode: &str) -> (Paint, Dash) {
    let modes = &analysis.modes.modes;
    let index = modes
        .iter()
        .position(|known| known.mode == mode)
        .unwrap_or(0);
    (Paint::Series(index), Dash::nth(index / Paint::SERIES))
}

/// The modes that are drawn if not all of them fit.
fn first_modes<T>(modes: &[T]) -> &[T] {
    &modes[..modes.len().min(MOST_MODES)]
}

/// A sentence about modes that a chart leaves out; empty if it leaves out none.
fn left_out(count: usize) -> String {
    if count > MOST_MODES {
        format!(" The first {MOST_MODES} of {count} modes are drawn; the table has all.")
    } else {
        String::new()
    }
}

/// A time in seconds as text for a table: `not seen` if it is infinite, a dash if it is `None`.
fn seconds(value: Option<f64>) -> String {
    match value {
        Some(value) if value.is_finite() => format_seconds(value),
        Some(_) => "not seen".into(),
        None => "–".into(),
    }
}

/// A time in seconds as text for a table, with its interval over repetitions.
fn with_interval(estimate: Option<Estimate>) -> String {
    let text = seconds(estimate.map(|estimate| estimate.value));
    match estimate.and_then(|estimate| estimate.interval) {
        Some(interval) => format!("{text} ({})", interval_text(interval)),
        None => text,
    }
}

fn interval_text(interval: Interval) -> String {
    let hi = if interval.hi.is_finite() {
        format_seconds(interval.hi)
    } else {
        "∞".into()
    };
    format!("{} to {hi}", format_seconds(interval.lo))
}

/// As [`with_interval`], for the time until a mode's commits are visible. A time that the probe's looks cannot tell from zero is marked
/// as an upper bound.
fn visible(mode: &ModeFigures, estimate: Option<Estimate>) -> String {
    let text = with_interval(estimate);
    if estimate.is_some_and(|estimate| mode.is_upper_bound(estimate.value)) {
        format!("at most {text}")
    } else {
        text
    }
}

/// An estimate and the ends of its interval.
fn values(estimate: &Estimate) -> impl Iterator<Item = f64> + use<> {
    let interval = estimate.interval.map(|interval| [interval.lo, interval.hi]);
    let ends = interval.into_iter().flatten();
    ends.chain([estimate.value])
}

/// The bounds of a delay in seconds, as text for a table. Without `hi` the commit was not seen.
fn delay_bounds(lo: Option<f64>, hi: Option<f64>) -> String {
    match (lo, hi) {
        (_, None) => "not seen".into(),
        (None, Some(hi)) => format!("at most {}", format_seconds(hi)),
        (Some(lo), Some(hi)) => format!("{} to {}", format_seconds(lo), format_seconds(hi)),
    }
}

/// Draws a chart at both widths.
fn both(draw: impl Fn(Layout) -> Drawing) -> Drawings {
    Drawings {
        wide: draw(Layout::Wide),
        narrow: draw(Layout::Narrow),
    }
}
