//! What charts share: the two widths at which they are drawn, a plot area with its axes, and labels that do not overlap.

use super::axis::{Axis, Tick};
use super::canvas::{Anchor, Canvas, Drawing, Paint, Stroke, Type, text_width, widest};
use super::legend::{Key, legend, legend_height};

/// The width for which a drawing is made. Phones have their own drawings, because a wide drawing that is scaled down has letters too
/// small to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    Wide,
    Narrow,
}

impl Layout {
    pub(super) fn width(self) -> f64 {
        match self {
            Self::Wide => 880.0,
            Self::Narrow => 350.0,
        }
    }

    pub(super) fn is_narrow(self) -> bool {
        self == Self::Narrow
    }

    pub(super) fn pick<T>(self, wide: T, narrow: T) -> T {
        match self {
            Self::Wide => wide,
            Self::Narrow => narrow,
        }
    }
}

/// A plot area between two axes.
#[derive(Debug, Clone)]
pub(super) struct Frame {
    pub(super) left: f64,
    pub(super) top: f64,
    pub(super) right: f64,
    pub(super) bottom: f64,
    pub(super) x: Axis,
    pub(super) y: Axis,
}

impl Frame {
    /// Draws a vertical line at the factor 1 of a horizontal axis of factors, with `label` above the line.
    pub(super) fn mark_one(&self, canvas: &mut Canvas, label: &str) {
        let one = self.at_x(1.0);
        let (above, below) = ((one, self.top - 4.0), (one, self.bottom));
        canvas.line(above, below, Stroke::new(Paint::Ink, 1.5));
        let word = Type::new(Anchor::Middle).muted();
        canvas.text((one, self.top - 14.0), label, word);
    }

    pub(super) fn at_x(&self, value: f64) -> f64 {
        self.left + self.x.place(value) * (self.right - self.left)
    }

    pub(super) fn at_y(&self, value: f64) -> f64 {
        self.bottom - self.y.place(value) * (self.bottom - self.top)
    }

    pub(super) fn at(&self, (x, y): (f64, f64)) -> (f64, f64) {
        (self.at_x(x), self.at_y(y))
    }

    /// Draws the grid, the labels of the marks, and the titles of both axes.
    pub(super) fn draw(&self, canvas: &mut Canvas) {
        self.draw_without_y_title(canvas);
        // The title stands above the axis and not along it, so that nobody has to turn the head to read it.
        let title = (self.left, self.top - 14.0);
        canvas.text(title, &self.y.title, Type::new(Anchor::Start));
    }

    pub(super) fn draw_without_y_title(&self, canvas: &mut Canvas) {
        self.draw_grid(canvas);
        self.draw_x_labels(canvas);
        self.draw_y_labels(canvas);
        let title = (f64::midpoint(self.left, self.right), self.bottom + 32.0);
        canvas.text(title, &self.x.title, Type::new(Anchor::Middle));
    }

    /// Draws a vertical line at a value of the x axis, over the whole height of the plot area.
    pub(super) fn upright(&self, canvas: &mut Canvas, value: f64, stroke: Stroke) {
        let x = self.at_x(value);
        canvas.line((x, self.top), (x, self.bottom), stroke);
    }

    pub(super) fn draw_grid(&self, canvas: &mut Canvas) {
        let grid = Stroke::new(Paint::Grid, 1.0);
        let fine = grid.faint(0.45);
        for tick in &self.x.ticks {
            let stroke = if tick.label.is_empty() { fine } else { grid };
            self.upright(canvas, tick.at, stroke);
        }
        for tick in &self.y.ticks {
            let y = self.at_y(tick.at);
            let stroke = if tick.label.is_empty() { fine } else { grid };
            canvas.line((self.left, y), (self.right, y), stroke);
        }
        let edge = Stroke::new(Paint::Muted, 1.0);
        canvas.line((self.left, self.bottom), (self.right, self.bottom), edge);
    }

    /// Draws the labels below the plot area: first those at both ends, then the others that touch no label.
    pub(super) fn draw_x_labels(&self, canvas: &mut Canvas) {
        const GAP: f64 = 6.0;
        let span = |tick: &Tick| {
            let (x, half) = (self.at_x(tick.at), text_width(&tick.label, 12.0) / 2.0);
            (x - half, x + half)
        };
        for tick in free_labels(&self.x.ticks, GAP, span) {
            let at = (self.at_x(tick.at), self.bottom + 13.0);
            canvas.text(at, &tick.label, Type::new(Anchor::Middle).muted());
        }
    }

    fn draw_y_labels(&self, canvas: &mut Canvas) {
        let span = |tick: &Tick| (self.at_y(tick.at) - 6.5, self.at_y(tick.at) + 6.5);
        for tick in free_labels(&self.y.ticks, 0.0, span) {
            let at = (self.left - 6.0, self.at_y(tick.at));
            canvas.text(at, &tick.label, Type::new(Anchor::End).muted());
        }
    }
}

/// The ticks whose labels are drawn, at least `gap` apart. The first and the last tick take precedence over the others. `span` gives the
/// start and the end of a label.
fn free_labels(ticks: &[Tick], gap: f64, span: impl Fn(&Tick) -> (f64, f64)) -> Vec<&Tick> {
    let mut labelled: Vec<&Tick> = ticks.iter().filter(|tick| !tick.label.is_empty()).collect();
    if labelled.len() > 2 {
        labelled[1..].rotate_right(1);
    }
    let mut placed: Vec<(f64, f64)> = Vec::new();
    labelled.retain(|tick| {
        let (from, to) = span(tick);
        let is_free = placed
            .iter()
            .all(|(other_from, other_to)| to + gap <= *other_from || *other_to + gap <= from);
        if is_free {
            placed.push((from, to));
        }
        is_free
    });
    labelled
}

/// Writes names at the right ends of lines, each at the height of its line's end; names that would touch are moved apart. Draws nothing
/// on a phone, where the names are in the legend.
pub(super) fn label_ends(
    canvas: &mut Canvas,
    layout: Layout,
    frame: &Frame,
    ends: &[((f64, f64), &Key)],
) {
    const GAP: f64 = 15.0;
    if layout.is_narrow() {
        return;
    }
    let mut order: Vec<usize> = (0..ends.len()).collect();
    // If two lines end at the same height, the one that ends further right has the higher label, so that leader lines do not cross.
    order.sort_by(|a, b| {
        let ((a_x, a_y), (b_x, b_y)) = (ends[*a].0, ends[*b].0);
        a_y.total_cmp(&b_y).then(b_x.total_cmp(&a_x))
    });
    let wanted: Vec<f64> = order.iter().map(|index| ends[*index].0.1).collect();
    let placed = spread(&wanted, GAP, frame.top, frame.bottom);
    for (index, y) in order.into_iter().zip(placed) {
        let ((end_x, end_y), key) = &ends[index];
        let label_x = frame.right + 34.0;
        // Many lines end at the bottom of the plot area. Their leader lines could not be told apart, so they have none.
        let on_floor = *end_y > frame.bottom - 1.0;
        if !on_floor {
            let (bend, end) = ((frame.right + 6.0, y), (frame.right + 10.0, y));
            let leader = Stroke::new(key.paint, 1.0).faint(0.55);
            canvas.path(&[(*end_x, *end_y), bend, end], leader);
        }
        key.draw_sample(canvas, frame.right + 10.0, label_x - 4.0, y);
        canvas.text((label_x, y), &key.name, Type::new(Anchor::Start));
    }
}

/// The width in CSS pixels that [`label_ends`] needs to the right of the frame.
pub(super) fn label_room(keys: &[Key]) -> f64 {
    let names = keys.iter().map(|key| key.name.as_str());
    (widest(names, 12.0) + 42.0).min(260.0)
}

/// A plot as wide as the page. Its lines have their names at their right ends (see [`label_ends`]) or, on a phone, in the legend.
pub(super) fn plot_of_lines(
    layout: Layout,
    lines: &[Key],
    meaning: &[Key],
    (left, height): (f64, f64),
    x: Axis,
    y: Axis,
) -> (Canvas, Frame) {
    let keys = [layout.pick(&[][..], lines), meaning].concat();
    let top = 44.0 + legend_height(4.0, layout.width(), &keys);
    let frame = Frame {
        left,
        top,
        right: layout.width() - layout.pick(label_room(lines), 14.0),
        bottom: top + height,
        x,
        y,
    };
    let mut canvas = Canvas::new(layout.width(), frame.bottom + 46.0);
    frame.draw(&mut canvas);
    legend(&mut canvas, 4.0, 4.0, layout.width(), &keys);
    (canvas, frame)
}

/// Moves sorted places apart until neighbours have a distance of at least `gap`. The places stay between `lo` and `hi` if there is room.
pub(super) fn spread(wanted: &[f64], gap: f64, lo: f64, hi: f64) -> Vec<f64> {
    // Clusters of labels that touch: the mean of the places that the members want, and the number of members.
    let mut clusters: Vec<(f64, usize)> = Vec::new();
    let start = |(centre, count): (f64, usize)| {
        let length = gap * (count.max(1) - 1) as f64;
        (centre - length / 2.0).min(hi - length).max(lo)
    };
    for place in wanted {
        clusters.push((*place, 1));
        while let [.., before, last] = clusters.as_slice() {
            let (before, last) = (*before, *last);
            if start(last) - start(before) >= gap * before.1 as f64 {
                break;
            }
            let count = before.1 + last.1;
            let centre = (before.0 * before.1 as f64 + last.0 * last.1 as f64) / count as f64;
            clusters.truncate(clusters.len() - 2);
            clusters.push((centre, count));
        }
    }
    clusters
        .into_iter()
        .flat_map(|cluster| (0..cluster.1).map(move |index| start(cluster) + gap * index as f64))
        .collect()
}

/// The rectangle of one panel, including its title and labels.
#[derive(Debug, Clone, Copy)]
pub(super) struct Area {
    pub(super) left: f64,
    pub(super) top: f64,
    pub(super) right: f64,
    pub(super) bottom: f64,
}

/// Lays out panels of the same height below `top`, two in a row where there is room. Returns the areas row by row, and the bottom of the
/// last row.
pub(super) fn panels(layout: Layout, count: usize, top: f64, height: f64) -> (Vec<Area>, f64) {
    const GAP: f64 = 20.0;
    let columns = layout.pick(2, 1).clamp(1, count.max(1));
    let width = (layout.width() - GAP * (columns - 1) as f64) / columns as f64;
    let areas = (0..count).map(|index| {
        let left = (width + GAP) * (index % columns) as f64;
        let row_top = top + height * (index / columns) as f64;
        Area {
            left,
            top: row_top,
            right: left + width,
            bottom: row_top + height,
        }
    });
    let bottom = top + height * count.div_ceil(columns) as f64;
    (areas.collect(), bottom)
}

/// Draws a legend and, below it, a panel for each of `things`.
pub(super) fn panels_with_legend<T>(
    layout: Layout,
    keys: &[Key],
    things: &[T],
    height: f64,
    panel: impl Fn(&mut Canvas, &T, Area),
) -> Drawing {
    let top = legend_height(4.0, layout.width(), keys) + 8.0;
    let (areas, bottom) = panels(layout, things.len(), top, height);
    let mut canvas = Canvas::new(layout.width(), bottom);
    legend(&mut canvas, 4.0, 4.0, layout.width(), keys);
    for (thing, area) in things.iter().zip(areas) {
        panel(&mut canvas, thing, area);
    }
    canvas.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_that_would_touch_move_apart_and_stay_inside() {
        let placed = spread(&[10.0, 11.0, 12.0, 100.0], 15.0, 0.0, 100.0);
        for pair in placed.windows(2) {
            assert!(pair[1] - pair[0] >= 15.0 - 1e-9, "{placed:?}");
        }
        assert!(placed[0] >= 0.0 && placed[3] <= 100.0, "{placed:?}");
    }

    #[test]
    fn labels_far_apart_stay_where_they_are() {
        assert_eq!(spread(&[10.0, 50.0], 15.0, 0.0, 100.0), [10.0, 50.0]);
    }
}
