//! Figures as text: the table of modes for a terminal, and the words that tables on the page share.

use std::fmt::Write as _;

use super::escape_control;
use crate::analyse::{Estimate, Figure, ModeFigures, ModesTable};
use crate::plan::fold;
use crate::units::{format_bytes, format_ratio, thousands, three_digits};

/// The narrowest table that is drawn: a mode and one figure.
const NARROWEST: usize = 40;
const LONGEST_NAME: usize = 24;
/// Before a figure that is an upper bound only.
pub(crate) const AT_MOST: &str = "≤ ";

/// One column: its head in two lines, and for each mode a figure with its interval below.
struct Column {
    head: [&'static str; 2],
    /// Columns with a higher number are left out first where the terminal is narrow.
    rank: u8,
    cells: Vec<[String; 2]>,
}

/// The modes with means over repetitions and 95 % intervals, no line longer than `width`.
pub fn text_table(table: &ModesTable, width: usize) -> String {
    let width = width.max(NARROWEST);
    let columns = fitting(columns(table), width);
    let mut out = String::new();
    for line in 0..2 {
        let heads: Vec<&str> = columns.iter().map(|column| column.head[line]).collect();
        out.push_str(&row(&columns, &heads));
    }
    let total: usize = columns.iter().map(|column| column.width() + 2).sum();
    out.push_str(&"─".repeat(total.saturating_sub(2)));
    out.push('\n');
    for mode in 0..table.modes.len() {
        for line in 0..2 {
            let cells: Vec<&str> = columns
                .iter()
                .map(|column| column.cells[mode][line].as_str())
                .collect();
            if line == 0 || cells.iter().any(|cell| !cell.is_empty()) {
                out.push_str(&row(&columns, &cells));
            }
        }
    }
    out.push_str(&foot(table, &columns, width));
    out
}

fn foot(table: &ModesTable, columns: &[Column], width: usize) -> String {
    let mut out = String::from("Times in ms. Means over repetitions, 95 % intervals below them.\n");
    if let Some(nodes) = slowest_to_show(table) {
        for line in fold(&nodes, width) {
            let _ = writeln!(out, "{line}");
        }
    }
    let resolutions: Vec<String> = (0..table.modes.len())
        .filter(|mode| {
            let mut shown = columns.iter().map(|column| &column.cells[*mode][0]);
            shown.any(|cell| cell.starts_with(AT_MOST))
        })
        .filter_map(|mode| {
            let mode = &table.modes[mode];
            let resolution = number(mode.visibility_resolution? * 1e3);
            Some(format!("{} {resolution}", short(&mode.mode)))
        })
        .collect();
    if !resolutions.is_empty() {
        let sentence = format!(
            "≤: an upper bound and no more, since the gap between two looks of the probe, its resolution, is as large: {}.{}",
            resolutions.join(", "),
            table.finer()
        );
        for line in fold(&sentence, width) {
            out.push_str(&line);
            out.push('\n');
        }
    }
    let unseen = table.modes.iter().filter(|mode| mode.unseen > 0);
    let unseen: Vec<String> = unseen
        .map(|mode| format!("{} {}", short(&mode.mode), thousands(mode.unseen)))
        .collect();
    if !unseen.is_empty() {
        let _ = writeln!(
            out,
            "Commits never seen on a replica: {}.",
            unseen.join(", ")
        );
    }
    if !table.excluded.is_empty() {
        // Written to a string, which does not fail.
        let _ = writeln!(out, "Left out as invalid: {}.", cells(table.excluded.len()));
    }
    out
}

fn cells(count: usize) -> String {
    format!("{count} cell{}", if count == 1 { "" } else { "s" })
}

impl Column {
    fn width(&self) -> usize {
        let heads = self.head.iter().map(|head| head.chars().count());
        let cells = self.cells.iter().flatten().map(|cell| cell.chars().count());
        heads.chain(cells).max().unwrap_or(0)
    }
}

fn columns(table: &ModesTable) -> Vec<Column> {
    let column = |head, rank, cell: &dyn Fn(&ModeFigures) -> [String; 2]| Column {
        head,
        rank,
        cells: table.modes.iter().map(cell).collect(),
    };
    let one = |text: String| [text, String::new()];
    vec![
        column(["mode", ""], 0, &|mode| one(short(&mode.mode))),
        column(["", "reps"], 3, &|mode| one(repetitions(mode))),
        column(["commits", "a second"], 4, &|mode| {
            stacked(mode.achieved_tps, 1.0, "")
        }),
        column(["commit", "p50"], 0, &|mode| {
            stacked(mode.response_p50, 1e3, "")
        }),
        column(["commit", "p99"], 1, &|mode| {
            stacked(mode.response_p99, 1e3, "")
        }),
        column(["times", "baseline"], 2, &|mode| {
            let ratio = mode.ratios.and_then(|ratios| ratios.response_p50);
            stacked_as(ratio_figure(ratio), "×")
        }),
        column(["visible", "p50"], 5, &|mode| visible(mode, "p50")),
        column(["visible", "p99"], 1, &|mode| visible(mode, "p99")),
        column(["most", "behind"], 2, &|mode| {
            let peak = mode.lag_peak.as_ref();
            peak.map_or_else(
                || one("–".into()),
                |(bytes, node)| [format_bytes(*bytes), short(node)],
            )
        }),
    ]
}

/// Leaves columns out, the least important first, until the rest fit.
fn fitting(mut columns: Vec<Column>, width: usize) -> Vec<Column> {
    let total = |columns: &[Column]| {
        columns
            .iter()
            .map(|column| column.width() + 2)
            .sum::<usize>()
            - 2
    };
    while columns.len() > 2 && total(&columns) > width {
        let Some(last) = (0..columns.len())
            .rev()
            .max_by_key(|index| columns[*index].rank)
        else {
            break;
        };
        columns.remove(last);
    }
    columns
}

fn row(columns: &[Column], cells: &[&str]) -> String {
    let mut line = String::new();
    for (index, (column, cell)) in columns.iter().zip(cells).enumerate() {
        let gap = " ".repeat(column.width().saturating_sub(cell.chars().count()));
        if index == 0 {
            line.push_str(cell);
            line.push_str(&gap);
        } else {
            line.push_str("  ");
            line.push_str(&gap);
            line.push_str(cell);
        }
    }
    format!("{}\n", line.trim_end())
}

pub(super) fn short(name: &str) -> String {
    let name = escape_control(name);
    if name.chars().count() > LONGEST_NAME {
        let start: String = name.chars().take(LONGEST_NAME - 1).collect();
        format!("{start}…")
    } else {
        name.into_owned()
    }
}

/// `6`, or `5/6` where some are invalid.
pub(super) fn repetitions(mode: &ModeFigures) -> String {
    if mode.invalid == 0 {
        mode.valid.to_string()
    } else {
        format!("{}/{}", mode.valid, mode.valid + mode.invalid)
    }
}

fn stacked(estimate: Option<Estimate>, scale: f64, unit: &str) -> [String; 2] {
    stacked_as(figure(estimate, scale), unit)
}

fn stacked_as((value, interval): Shown, unit: &str) -> [String; 2] {
    let unit = if value == NOTHING { "" } else { unit };
    let interval = interval.map(|(lo, hi)| format!("{lo}..{hi}"));
    [format!("{value}{unit}"), interval.unwrap_or_default()]
}

const NOTHING: &str = "–";

/// A figure and its interval.
pub(crate) type Shown = (String, Option<(String, String)>);

/// A figure of a mode and its interval, in the unit that `scale` gives, marked where it is an upper bound only.
pub(crate) fn of_figure(found: Option<&Figure>, scale: f64) -> Shown {
    let (value, interval) = figure(found.and_then(|found| found.estimate), scale);
    if found.is_some_and(Figure::is_unresolved) {
        (format!("{AT_MOST}{value}"), interval)
    } else {
        (value, interval)
    }
}

pub(super) fn ratio_figure(ratio: Option<Estimate>) -> Shown {
    let Some(ratio) = ratio else {
        return (NOTHING.into(), None);
    };
    let interval = ratio.interval;
    let interval = interval.map(|it| (format_ratio(it.lo), format_ratio(it.hi)));
    (format_ratio(ratio.value), interval)
}

/// The replica that the figures of visibility are of, where a mode has several.
fn slowest_to_show(table: &ModesTable) -> Option<String> {
    let modes = table.modes.iter().filter_map(|mode| {
        mode.summary.best("visibility", "p99")?;
        let node = mode.summary.worst("visibility", "p99")?.node.as_deref()?;
        Some(format!("{} under {}", short(node), short(&mode.mode)))
    });
    let modes: Vec<String> = modes.collect();
    (!modes.is_empty()).then(|| {
        format!(
            "Visible p99: of the replica where it is largest, {}.",
            modes.join(", ")
        )
    })
}

/// A time until commits are visible on the replica where that takes longest, in milliseconds.
fn visible(mode: &ModeFigures, stat: &str) -> [String; 2] {
    stacked_as(of_figure(mode.summary.worst("visibility", stat), 1e-3), "")
}

/// A figure and its interval, in the unit that `scale` gives.
pub(crate) fn figure(estimate: Option<Estimate>, scale: f64) -> Shown {
    let Some(estimate) = estimate else {
        return (NOTHING.into(), None);
    };
    if estimate.value.is_infinite() {
        return ("not seen".into(), None);
    }
    let interval = estimate.interval.map(|interval| {
        let hi = if interval.hi.is_finite() {
            number(interval.hi * scale)
        } else {
            "∞".into()
        };
        (number(interval.lo * scale), hi)
    });
    (number(estimate.value * scale), interval)
}

/// Three significant digits, with a true minus sign.
pub(crate) fn number(value: f64) -> String {
    let text = if value.abs() < 0.995 && value != 0.0 {
        format!("{value:.3}")
    } else {
        three_digits(value)
    };
    text.replace('-', "−")
}
