//! A series as a sparkline: a line of blocks as high as the figures, and a line below it with a mark under each change.

use std::ops::Range;

use itertools::Itertools as _;

use crate::analyse::{Point, Series, Terms, median};

const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Stands for runs of which none has a valid figure.
const INVALID: char = '·';

/// Stands for a censored figure, which is larger than everything recorded.
const CENSORED: char = '↑';

const MARK: char = '^';

/// The blocks, the marks below them, and the range from the lowest block to the highest.
#[derive(Debug, PartialEq)]
pub(super) struct Sparkline {
    pub(super) blocks: String,
    /// Empty if the series has no change.
    pub(super) marks: String,
    pub(super) range: Option<(f64, f64)>,
}

/// Draws a series at most `width` characters wide. If it has more runs, a block shows the median of several neighbouring runs. A block does
/// not mix runs before and after a change, unless changes are closer together than a block is wide.
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

/// The points of each column, as ranges of indices. Columns have equally many points, except that a column with a change begins with the
/// change.
fn columns(series: &Series, width: usize) -> Vec<Range<usize>> {
    let points = series.points.len();
    let count = points.min(width);
    let mut starts: Vec<usize> = (0..count).map(|column| column * points / count).collect();
    let is_change = |index| series.changes.iter().any(|it| it.index == index);
    for change in &series.changes {
        let column = starts.partition_point(|start| *start <= change.index);
        // The first column must start at the first point. Moving a column a second time would hide the change to which it was moved.
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

/// The block for a figure. If all figures lie within the threshold, they are drawn in the middle third of the height, so that noise does
/// not look like change.
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
