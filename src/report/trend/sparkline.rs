//! A series in one line of text: blocks as high as the figures, and a mark under each change.

use std::ops::Range;

use itertools::Itertools as _;

use crate::analyse::{Point, Series, Terms, median};

const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Runs of which no figure counts.
const INVALID: char = '·';

/// Larger than everything recorded.
const CENSORED: char = '↑';

const MARK: char = '^';

/// The blocks, the marks below them, and the range from the lowest block to the highest.
#[derive(Debug, PartialEq)]
pub(super) struct Sparkline {
    pub(super) blocks: String,
    /// Empty without changes.
    pub(super) marks: String,
    pub(super) range: Option<(f64, f64)>,
}

/// Draws a series at most `width` characters wide. Where it is longer, a block is the median of neighbours, and no block
/// has neighbours on both sides of a change unless changes are closer than a block is wide.
pub(super) fn sparkline(series: &Series, width: usize) -> Sparkline {
    let columns = columns(series, width.max(1));
    let values = columns
        .iter()
        .map(|column| middle(&series.points[column.clone()]));
    let values: Vec<Option<f64>> = values.collect();
    let known = values.iter().flatten().copied();
    let known = known.filter(|value| value.is_finite());
    let range = known.minmax().into_option();
    let marks: String = columns.iter().map(|column| mark(series, column)).collect();
    Sparkline {
        blocks: values.iter().map(|value| block(*value, range)).collect(),
        marks: marks.trim_end().to_owned(),
        range,
    }
}

/// The points of each column: as many in each, but a column that a change falls into begins with it.
fn columns(series: &Series, width: usize) -> Vec<Range<usize>> {
    let points = series.points.len();
    let count = points.min(width);
    let mut starts: Vec<usize> = (0..count).map(|column| column * points / count).collect();
    let is_change = |index| series.changes.iter().any(|it| it.index == index);
    for change in &series.changes {
        let column = starts.partition_point(|start| *start <= change.index);
        // The first column begins the series; a column moved twice would swallow the change before.
        if column > 1 && !is_change(starts[column - 1]) {
            starts[column - 1] = change.index;
        }
    }
    let bounds = starts.into_iter().chain([points]).tuple_windows();
    bounds.map(|(start, end)| start..end).collect()
}

fn mark(series: &Series, column: &Range<usize>) -> char {
    let mut changes = series.changes.iter();
    if changes.any(|change| column.contains(&change.index)) {
        MARK
    } else {
        ' '
    }
}

fn middle(points: &[Point]) -> Option<f64> {
    let counted = points.iter().filter(|point| point.counts());
    let values: Vec<f64> = counted.map(Point::magnitude).collect();
    median(&values).map(|estimate| estimate.value)
}

/// Where all figures lie within the threshold, they are drawn in the middle third: noise must not look like a mountain range.
fn block(value: Option<f64>, range: Option<(f64, f64)>) -> char {
    let (Some(value), Some((lowest, highest))) = (value, range) else {
        return if value.is_some() { CENSORED } else { INVALID };
    };
    if value.is_infinite() {
        return CENSORED;
    }
    let centre = f64::midpoint(lowest, highest);
    let least = Terms::THRESHOLD * centre.abs() * 3.0;
    let span = (highest - lowest).max(least);
    if span <= 0.0 {
        return BLOCKS[BLOCKS.len() / 2];
    }
    let share = (value - centre) / span + 0.5;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "from 0 to 8; what rounding puts below 0 becomes 0"
    )]
    let height = (share * BLOCKS.len() as f64) as usize;
    BLOCKS[height.min(BLOCKS.len() - 1)]
}
