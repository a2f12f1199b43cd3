//! Figures as text: the table of modes for a terminal, and functions that the tables on the page use too.

use std::fmt::Write as _;

use itertools::Itertools as _;

use super::escape_control;
use crate::analyse::{Estimate, Figure, ModeFigures, ModesTable};
use crate::plan::fold;
use crate::units::{format_bytes, format_ratio, plural, thousands, three_digits};

/// The least width in characters that a table is fitted to: enough for a mode and one figure.
const NARROWEST: usize = 40;
const LONGEST_NAME: usize = 24;
/// Stands before a figure that is only an upper bound.
pub(crate) const AT_MOST: &str = "≤ ";

/// A column of the table: its head in two lines, and for each mode a figure with its interval below.
struct Column {
    head: [&'static str; 2],
    /// On a narrow terminal, columns with the highest rank are left out first.
    rank: u8,
    cells: Vec<[String; 2]>,
}

/// The table of modes, with means over repetitions and 95 % intervals. No line is longer than `width` characters, or 40 if that is more.
pub fn text_table(table: &ModesTable, width: usize) -> String {
    let width = width.max(NARROWEST);
    let columns = fitting(columns(table), width);
    let mut out = String::new();
    for line in 0..2 {
        let heads: Vec<&str> = columns.iter().map(|column| column.head[line]).collect();
        out.push_str(&row(&columns, &heads));
    }
    out.push_str(&"─".repeat(total_width(&columns)));
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
        out += &folded(&nodes, width, ["", ""]);
    }
    let is_bound = |mode: usize| {
        let mut shown = columns.iter().map(|column| &column.cells[mode][0]);
        shown.any(|cell| cell.starts_with(AT_MOST))
    };
    let bounded = (0..table.modes.len()).filter(|mode| is_bound(*mode));
    let mut resolutions = bounded.filter_map(|mode| {
        let mode = &table.modes[mode];
        let resolution = number(mode.visibility_resolution? * 1e3);
        Some(format!("{} {resolution}", short(&mode.mode)))
    });
    let resolutions = resolutions.join(", ");
    if !resolutions.is_empty() {
        let sentence = format!(
            "≤: an upper bound and no more, since the gap between two looks of the probe, its resolution, is as large: {resolutions}.{}",
            table.finer()
        );
        out += &folded(&sentence, width, ["", ""]);
    }
    let unseen = table.modes.iter().filter(|mode| mode.unseen > 0);
    let mut unseen = unseen.map(|mode| format!("{} {}", short(&mode.mode), thousands(mode.unseen)));
    let unseen = unseen.join(", ");
    // Writing to a string does not fail.
    if !unseen.is_empty() {
        let _ = writeln!(out, "Commits never seen on a replica: {unseen}.");
    }
    if !table.excluded.is_empty() {
        let cells = plural(table.excluded.len(), "cell");
        let _ = writeln!(out, "Left out as invalid: {cells}.");
    }
    out
}

/// Folds text into lines of at most `width` characters. `first` is put before the first line and `rest` before each further line; neither
/// counts towards `width`.
pub(super) fn folded(text: &str, width: usize, [first, rest]: [&str; 2]) -> String {
    let lines = fold(text, width).join(&format!("\n{rest}"));
    format!("{first}{lines}\n")
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
    let time = |estimate| stacked(figure(estimate, 1e3));
    vec![
        column(["mode", ""], 0, &|mode| one(short(&mode.mode))),
        column(["", "reps"], 3, &|mode| one(repetitions(mode))),
        column(["commits", "a second"], 4, &|mode| {
            stacked(figure(mode.achieved_tps, 1.0))
        }),
        column(["commit", "p50"], 0, &|mode| time(mode.response_p50)),
        column(["commit", "p99"], 1, &|mode| time(mode.response_p99)),
        column(["times", "baseline"], 2, &|mode| {
            stacked(ratio_figure(mode.ratios.and_then(|it| it.response_p50)))
        }),
        column(["visible", "p50"], 5, &|mode| visible(mode, "p50")),
        column(["visible", "p99"], 1, &|mode| visible(mode, "p99")),
        column(["most", "behind"], 2, &|mode| match &mode.lag_peak {
            Some((bytes, node)) => [format_bytes(*bytes), short(node)],
            None => one(NOTHING.into()),
        }),
    ]
}

/// Leaves columns out, the least important first, until the rest fit.
fn fitting(mut columns: Vec<Column>, width: usize) -> Vec<Column> {
    while columns.len() > 2 && total_width(&columns) > width {
        let least = columns.iter().map(|column| column.rank).max();
        let index = columns.iter().position(|column| Some(column.rank) == least);
        columns.remove(index.expect("one has the highest rank"));
    }
    columns
}

/// The width of all columns in characters, with two spaces between columns.
fn total_width(columns: &[Column]) -> usize {
    let widths = columns.iter().map(|column| column.width() + 2);
    widths.sum::<usize>() - 2
}

/// A line of the table. The first column is aligned to the left, the others to the right.
fn row(columns: &[Column], cells: &[&str]) -> String {
    let mut line = String::new();
    for (column, cell) in columns.iter().zip(cells) {
        let width = column.width();
        let _ = if line.is_empty() {
            write!(line, "{cell:<width$}")
        } else {
            write!(line, "  {cell:>width$}")
        };
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

/// The number of valid repetitions: `6`, or `5/6` if one of six is invalid.
pub(super) fn repetitions(mode: &ModeFigures) -> String {
    if mode.invalid == 0 {
        mode.valid.to_string()
    } else {
        format!("{}/{}", mode.valid, mode.valid + mode.invalid)
    }
}

/// A figure with its interval in the line below.
fn stacked((value, interval): Shown) -> [String; 2] {
    let interval = interval.map(|(lo, hi)| format!("{lo}..{hi}"));
    [value, interval.unwrap_or_default()]
}

const NOTHING: &str = "–";

/// A figure as text, and the two ends of its interval if it has one.
pub(crate) type Shown = (String, Option<(String, String)>);

/// A figure of a mode and its interval, multiplied by `scale`. [`AT_MOST`] stands before a figure that is only an upper bound.
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
    (format!("{}×", format_ratio(ratio.value)), interval)
}

/// A sentence that names the replica with the largest visibility p99 of each mode that has several replicas; `None` if no mode has.
fn slowest_to_show(table: &ModesTable) -> Option<String> {
    let mut modes = table.modes.iter().filter_map(|mode| {
        mode.summary.best("visibility", "p99")?;
        let node = mode.summary.worst("visibility", "p99")?.node.as_deref()?;
        Some(format!("{} under {}", short(node), short(&mode.mode)))
    });
    let modes = modes.join(", ");
    (!modes.is_empty())
        .then(|| format!("Visible p99: of the replica where it is largest, {modes}."))
}

/// The time in milliseconds until commits are visible, on the replica where it is longest.
fn visible(mode: &ModeFigures, stat: &str) -> [String; 2] {
    stacked(of_figure(mode.summary.worst("visibility", stat), 1e-3))
}

/// A figure and its interval, multiplied by `scale`.
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

/// A number with three decimals below 1 and about three significant digits above, and with a typographic minus sign.
pub(crate) fn number(value: f64) -> String {
    let text = if value.abs() < 0.995 && value != 0.0 {
        format!("{value:.3}")
    } else {
        three_digits(value)
    };
    text.replace('-', "−")
}
