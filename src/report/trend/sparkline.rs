//! A series in one line of text: blocks as high as the figures, and a mark under each change.

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
    let points = &series.points;
    let starts = starts(points.len(), width.max(1), series);
    let ends = starts.iter().skip(1).copied().chain([points.len()]);
    let values: Vec<Option<f64>> = starts
        .iter()
        .zip(ends)
        .map(|(start, end)| middle(&points[*start..end]))
        .collect();
    let known = || values.iter().flatten().filter(|value| value.is_finite());
    let lowest = known().copied().reduce(f64::min);
    let highest = known().copied().reduce(f64::max);
    let range = lowest.zip(highest);
    let mut marks = String::new();
    let mut changes = series.changes.iter().map(|change| change.index).peekable();
    for (column, start) in starts.iter().enumerate() {
        let end = starts.get(column + 1).copied().unwrap_or(points.len());
        let mut here = false;
        while changes
            .next_if(|index| *start <= *index && *index < end)
            .is_some()
        {
            here = true;
        }
        marks.push(if here { MARK } else { ' ' });
    }
    Sparkline {
        blocks: values.iter().map(|value| block(*value, range)).collect(),
        marks: marks.trim_end().to_owned(),
        range,
    }
}

/// The first point of each column: evenly, but a column that a change falls into begins with it.
fn starts(points: usize, width: usize, series: &Series) -> Vec<usize> {
    let columns = points.min(width);
    let mut starts: Vec<usize> = (0..columns)
        .map(|column| column * points / columns)
        .collect();
    for change in &series.changes {
        let column = starts.partition_point(|start| *start <= change.index);
        // The first column begins the series; a column moved twice would swallow the change before.
        if column > 1
            && !series
                .changes
                .iter()
                .any(|it| it.index == starts[column - 1])
        {
            starts[column - 1] = change.index;
        }
    }
    starts
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
    let last = BLOCKS.len() - 1;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "from 0 to 7 by the clamp"
    )]
    let height = (share * BLOCKS.len() as f64)
        .floor()
        .clamp(0.0, last as f64) as usize;
    BLOCKS[height]
}
