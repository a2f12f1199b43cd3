//! Draws lines, areas and texts into an SVG. The caller names their role (ink, grid, series 2), not their colour.
//!
//! Each role is a CSS class, to which the style sheet gives a light and a dark colour. The light colour is also an attribute, for viewers
//! that ignore style sheets. Coordinates in the SVG are whole numbers on a grid four times as fine as CSS pixels.

use std::fmt;
use std::fmt::Write as _;

use itertools::Itertools as _;

/// Grid steps per CSS pixel.
const FINE: f64 = 4.0;
/// Font family of all texts, set once on the `svg` element.
const FONT: &str = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif";
/// Width of most lines in grid steps, set once on the `svg` element.
const LINE: i32 = 4;

/// The role of a mark, which determines its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Paint {
    Ink,
    Muted,
    Grid,
    Background,
    /// One of six colours from the palette of Okabe and Ito; index 6 has the first colour again.
    Series(usize),
    /// A shade of a heatmap, from 0 (lowest) to [`Paint::HEAT_STEPS`] - 1.
    Heat(usize),
}

impl Paint {
    pub(super) const SERIES: usize = 6;
    pub(super) const HEAT_STEPS: usize = 8;

    fn id(self) -> usize {
        match self {
            Self::Ink => 0,
            Self::Muted => 1,
            Self::Grid => 2,
            Self::Background => 3,
            Self::Series(index) => 4 + index % Self::SERIES,
            Self::Heat(step) => 4 + Self::SERIES + step.min(Self::HEAT_STEPS - 1),
        }
    }

    /// The attributes of a mark that is filled with this paint. `class` is empty or a further class with a space before it.
    fn fill(self, class: &str) -> String {
        let id = self.id();
        format!(r#" class="f{id}{class}" fill="{}""#, COLOURS[id].0)
    }

    /// The attributes of a line with this paint.
    fn stroke(self) -> String {
        let id = self.id();
        format!(r#" class="s{id}" stroke="{}""#, COLOURS[id].0)
    }
}

/// Light and dark colour of each paint, by [`Paint::id`].
const COLOURS: [(&str, &str); 4 + Paint::SERIES + Paint::HEAT_STEPS] = [
    ("#1b1f24", "#e6e8eb"),
    ("#57606a", "#a3abb5"),
    ("#dfe3e8", "#343a42"),
    ("#ffffff", "#15181c"),
    ("#0072b2", "#4aa3df"),
    ("#d55e00", "#f5813a"),
    ("#009e73", "#2cc295"),
    ("#cc79a7", "#e39bc4"),
    ("#e69f00", "#f0b429"),
    ("#56b4e9", "#9bd7fb"),
    ("#e9f1f8", "#1b2733"),
    ("#cfe1f0", "#1c3850"),
    ("#abcde6", "#1d4b70"),
    ("#7fb4d9", "#1f6192"),
    ("#5098c9", "#2c7db8"),
    ("#2a7ab4", "#559fd4"),
    ("#0f5a97", "#8cc3ea"),
    ("#083f72", "#d3ecff"),
];

/// The dash pattern of a line, so that series can be told apart without colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dash {
    Solid,
    Dashed,
    Dotted,
    Mixed,
}

impl Dash {
    const ALL: [Self; 4] = [Self::Solid, Self::Dashed, Self::Dotted, Self::Mixed];

    /// The pattern of the nth replica, or of the nth group of six series.
    pub(super) fn nth(index: usize) -> Self {
        Self::ALL[index % Self::ALL.len()]
    }

    /// The attribute of a line with this pattern; empty for a solid line.
    fn attribute(self) -> &'static str {
        match self {
            Self::Solid => "",
            Self::Dashed => r#" stroke-dasharray="24 14""#,
            Self::Dotted => r#" stroke-dasharray="6 12""#,
            Self::Mixed => r#" stroke-dasharray="28 12 6 12""#,
        }
    }
}

/// The look of a line. `width` is in CSS pixels, `opacity` is from 0 to 1.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stroke {
    pub(super) paint: Paint,
    pub(super) dash: Dash,
    pub(super) width: f64,
    pub(super) opacity: f64,
}

impl Stroke {
    pub(super) fn new(paint: Paint, width: f64) -> Self {
        Self {
            paint,
            dash: Dash::Solid,
            width,
            opacity: 1.0,
        }
    }

    pub(super) fn dashed(self, dash: Dash) -> Self {
        Self { dash, ..self }
    }

    pub(super) fn faint(self, opacity: f64) -> Self {
        Self { opacity, ..self }
    }
}

/// The horizontal alignment of a text to its point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Anchor {
    /// The text starts at the point.
    Start,
    Middle,
    End,
}

/// The look of a text. `size` is in CSS pixels.
#[derive(Debug, Clone, Copy)]
pub(super) struct Type {
    pub(super) size: f64,
    pub(super) paint: Paint,
    pub(super) anchor: Anchor,
    pub(super) bold: bool,
    /// Whether the text has an outline in the background's colour, so that lines behind it do not cross its letters.
    pub(super) halo: bool,
}

impl Type {
    pub(super) fn new(anchor: Anchor) -> Self {
        Self {
            size: 12.0,
            paint: Paint::Ink,
            anchor,
            bold: false,
            halo: false,
        }
    }

    pub(super) fn size(self, size: f64) -> Self {
        Self { size, ..self }
    }

    pub(super) fn muted(self) -> Self {
        Self {
            paint: Paint::Muted,
            ..self
        }
    }

    pub(super) fn bold(self) -> Self {
        Self { bold: true, ..self }
    }

    pub(super) fn halo(self) -> Self {
        Self { halo: true, ..self }
    }
}

/// The estimated width of a text in CSS pixels. The exact width depends on the viewer's font, which is not known.
pub(super) fn text_width(text: &str, size: f64) -> f64 {
    let ems: f64 = text
        .chars()
        .map(|c| match c {
            'i' | 'j' | 'l' | '.' | ',' | ':' | ' ' | '\'' | '|' | '1' | 't' | 'f' => 0.36,
            'm' | 'w' | 'M' | 'W' | '%' => 0.88,
            'A'..='Z' | '_' => 0.66,
            _ => 0.56,
        })
        .sum();
    ems * size
}

/// The estimated width of the widest of several texts, in CSS pixels; 0 without texts.
pub(super) fn widest<'a>(texts: impl IntoIterator<Item = &'a str>, size: f64) -> f64 {
    let widths = texts.into_iter().map(|text| text_width(text, size));
    widths.fold(0.0, f64::max)
}

/// Top left and bottom right of a rectangle.
pub(super) type Corners = ((f64, f64), (f64, f64));

/// An SVG that is being drawn. Coordinates and sizes are in CSS pixels, from the top left corner.
pub(super) struct Canvas {
    body: String,
    width: f64,
    height: f64,
}

impl Canvas {
    pub(super) fn new(width: f64, height: f64) -> Self {
        let mut canvas = Self {
            body: String::new(),
            width,
            height,
        };
        canvas.rect((0.0, 0.0), (width, height), Paint::Background, 1.0);
        canvas
    }

    fn element(&mut self, element: fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = writeln!(self.body, "{element}");
    }

    pub(super) fn line(&mut self, from: (f64, f64), to: (f64, f64), stroke: Stroke) {
        self.path(&[from, to], stroke);
    }

    pub(super) fn path(&mut self, points: &[(f64, f64)], stroke: Stroke) {
        if points.len() < 2 {
            return;
        }
        let (opacity, paint) = (opaque(stroke.opacity), stroke.paint.stroke());
        let (dash, width) = (stroke.dash.attribute(), line_width(stroke.width));
        let points = corners(points);
        self.element(format_args!(
            r#"<polyline{opacity}{paint}{dash}{width} points="{points}"/>"#
        ));
    }

    pub(super) fn polygon(&mut self, points: &[(f64, f64)], paint: Paint, opacity: f64) {
        let (opacity, fill) = (opaque(opacity), paint.fill(""));
        let points = corners(points);
        self.element(format_args!(
            r#"<polygon{opacity}{fill} points="{points}"/>"#
        ));
    }

    /// Fills the area between two lines.
    pub(super) fn band(
        &mut self,
        line: &[(f64, f64)],
        other: &[(f64, f64)],
        paint: Paint,
        opacity: f64,
    ) {
        let outline: Vec<_> = line.iter().chain(other.iter().rev()).copied().collect();
        self.polygon(&outline, paint, opacity);
    }

    pub(super) fn rect(&mut self, from: (f64, f64), to: (f64, f64), paint: Paint, opacity: f64) {
        let ((x, y), (right, bottom)) = (fine(from), fine(to));
        let (width, height) = (right - x, bottom - y);
        let (opacity, fill) = (opaque(opacity), paint.fill(""));
        self.element(format_args!(
            r#"<rect x="{x}" y="{y}" width="{width}" height="{height}"{opacity}{fill} stroke="none"/>"#
        ));
    }

    /// Draws many rectangles of one paint as a single element, because a heatmap has thousands of them.
    pub(super) fn rects(&mut self, rects: &[Corners], paint: Paint) {
        if rects.is_empty() {
            return;
        }
        let path = rects.iter().format_with("", |(from, to), write| {
            let ((x, y), (right, bottom)) = (fine(*from), fine(*to));
            let (width, height) = (right - x, bottom - y);
            write(&format_args!("M{x} {y}h{width}v{height}h-{width}z"))
        });
        let fill = paint.fill("");
        self.element(format_args!(r#"<path d="{path}"{fill}/>"#));
    }

    /// Draws many discs of one paint as a single element, because a history may have a thousand of them.
    pub(super) fn specks(&mut self, at: &[(f64, f64)], radius: f64, paint: Paint) {
        // A line of length zero with round ends is a disc.
        let path = at.iter().format_with("", |at, write| {
            let (x, y) = fine(*at);
            write(&format_args!("M{x} {y}h0"))
        });
        let stroke = Stroke::new(paint, 2.0 * radius);
        self.strokes(&path.to_string(), stroke, "round");
    }

    /// Draws many vertical lines as a single element, each from a point to another y coordinate.
    pub(super) fn whiskers(&mut self, ends: &[((f64, f64), f64)], stroke: Stroke) {
        let path = ends.iter().format_with("", |(from, to), write| {
            let ((x, y), end) = (fine(*from), grid(*to));
            write(&format_args!("M{x} {y}V{end}"))
        });
        self.strokes(&path.to_string(), stroke, "butt");
    }

    fn strokes(&mut self, path: &str, stroke: Stroke, cap: &str) {
        if path.is_empty() {
            return;
        }
        let (paint, width) = (stroke.paint.stroke(), line_width(stroke.width));
        let opacity = stroke.opacity;
        self.element(format_args!(
            r#"<path d="{path}"{paint}{width} stroke-opacity="{opacity}" stroke-linecap="{cap}"/>"#
        ));
    }

    /// Draws a disc with a rim in the background's colour, so that it stands out from lines below it.
    pub(super) fn dot(&mut self, at: (f64, f64), radius: f64, paint: Paint) {
        self.disc(at, radius + 1.5, Paint::Background);
        self.disc(at, radius, paint);
    }

    /// Draws a disc as [`Canvas::dot`] does, but hollow.
    pub(super) fn ring(&mut self, at: (f64, f64), radius: f64, paint: Paint) {
        self.dot(at, radius, paint);
        self.disc(at, radius - 2.0, Paint::Background);
    }

    fn disc(&mut self, at: (f64, f64), radius: f64, paint: Paint) {
        let ((x, y), radius) = (fine(at), grid(radius));
        let fill = paint.fill("");
        self.element(format_args!(
            r#"<circle cx="{x}" cy="{y}" r="{radius}"{fill} stroke="none" stroke-width="1"/>"#
        ));
    }

    pub(super) fn text(&mut self, at: (f64, f64), text: &str, kind: Type) {
        let (x, y) = fine(at);
        let size = kind.size * FINE;
        let anchor = match kind.anchor {
            Anchor::Start => "",
            Anchor::Middle => r#" text-anchor="middle""#,
            Anchor::End => r#" text-anchor="end""#,
        };
        let fill = kind.paint.fill(if kind.halo { " halo" } else { "" });
        let weight = if kind.bold {
            r#" font-weight="bold""#
        } else {
            ""
        };
        let text = escape(text).replace('"', "&quot;").replace('\'', "&apos;");
        self.element(format_args!(
            r#"<text x="{x}" y="{y}" dy="0.5ex"{anchor} font-size="{size}"{fill}{weight}>{text}</text>"#
        ));
    }

    pub(super) fn finish(self) -> Drawing {
        Drawing {
            body: self.body,
            width: self.width,
            height: self.height,
        }
    }
}

/// A finished drawing.
#[derive(Debug, Clone)]
pub(crate) struct Drawing {
    body: String,
    width: f64,
    height: f64,
}

impl Drawing {
    /// The unscaled width in CSS pixels.
    pub(crate) fn width(&self) -> f64 {
        self.width
    }

    /// The `svg` element. `id` must be unique on the page; `style` is `None` where the page itself contains [`style()`].
    pub(crate) fn svg(
        &self,
        id: &str,
        title: &str,
        description: &str,
        style: Option<&str>,
    ) -> String {
        let (width, height) = (self.width, self.height);
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"rb\" font-family=\"{FONT}\" stroke-linejoin=\"round\" fill=\"none\" stroke-width=\"{LINE}\" role=\"img\" aria-labelledby=\"{id}-t {id}-d\" width=\"{width:.0}\" \
             height=\"{height:.0}\" viewBox=\"0 0 {:.0} {:.0}\">\n<title id=\"{id}-t\">{}</title>\n<desc id=\"{id}-d\">{}</desc>\n",
            width * FINE,
            height * FINE,
            escape(title),
            escape(description),
        );
        if let Some(style) = style {
            out.push_str("<style>");
            out.push_str(style);
            out.push_str("</style>\n");
        }
        out.push_str(&self.body);
        out.push_str("</svg>\n");
        out
    }
}

/// The style sheet with the classes of all paints, light and dark.
pub(crate) fn style() -> String {
    let rules = |dark: bool| {
        let mut out = String::new();
        for (id, (light_colour, dark_colour)) in COLOURS.iter().enumerate() {
            let colour = if dark { dark_colour } else { light_colour };
            // Writing to a string does not fail.
            let _ = write!(
                out,
                ".rb .f{id}{{fill:{colour}}}.rb .s{id}{{stroke:{colour}}}"
            );
        }
        let background = if dark { COLOURS[3].1 } else { COLOURS[3].0 };
        let _ = write!(out, ".rb .halo{{stroke:{background}}}");
        out
    };
    format!(
        ".rb .halo{{paint-order:stroke;stroke-width:14px;stroke-linejoin:round}}{}@media (prefers-color-scheme:dark){{{}}}",
        rules(false),
        rules(true)
    )
}

fn escape(text: &str) -> String {
    let text = crate::report::escape_control(text);
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// The opacity attribute; empty for an opaque mark, since that is the default.
fn opaque(opacity: f64) -> String {
    if opacity < 1.0 {
        format!(r#" opacity="{opacity}""#)
    } else {
        String::new()
    }
}

/// The width attribute of a line; empty for [`LINE`], which is inherited from the `svg` element.
fn line_width(pixels: f64) -> String {
    match grid(pixels) {
        LINE => String::new(),
        width => format!(r#" stroke-width="{width}""#),
    }
}

#[allow(
    clippy::cast_possible_truncation,
    reason = "clamped to a range that an i32 holds"
)]
fn grid(pixels: f64) -> i32 {
    (pixels * FINE).round().clamp(-40_000.0, 40_000.0) as i32
}

fn fine((x, y): (f64, f64)) -> (i32, i32) {
    (grid(x), grid(y))
}

/// Points on the grid as a list of coordinates, without points that repeat the previous one.
fn corners(points: &[(f64, f64)]) -> String {
    let points = points.iter().copied().map(fine).dedup();
    points.map(|(x, y)| format!("{x},{y}")).join(" ")
}
