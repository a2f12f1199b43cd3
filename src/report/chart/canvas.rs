//! Draws marks by what they mean (ink, grid, series 2) into an SVG, through plotters' backend.
//!
//! plotters knows fixed colours and whole pixels only. So a mark is drawn in a colour that stands for its meaning, on a grid
//! four times as fine, and [`Canvas::finish`] turns that colour into a class with a light and a dark value, and a dash pattern.
//! The light value stays as an attribute, for viewers that read no style sheet.

use std::fmt::Write as _;

use plotters::backend::SVGBackend;
use plotters::prelude::{
    DrawingBackend, FontFamily, FontStyle, FontTransform, RGBColor, TextStyle,
};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{IntoFont, ShapeStyle};

/// Steps of the backend's grid in one CSS pixel.
const FINE: f64 = 4.0;
/// Said once, at the root: plotters repeats it at every text, as [`FONT_OF_A_TEXT`].
const FONT: &str = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif";
const FONT_OF_A_TEXT: &str =
    " font-family=\"system-ui, -apple-system, &apos;Segoe UI&apos;, Roboto, sans-serif\"";
/// Width of most lines, in steps of the grid; said at the root as well.
const LINE: u32 = 4;
/// First component of every stand-in colour; no colour of the palette has it.
const STAND_IN: u8 = 0xFE;

/// What a mark means; its colour follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Paint {
    Ink,
    Muted,
    Grid,
    Background,
    /// One of the six colours of Okabe and Ito; higher numbers start again.
    Series(usize),
    /// From 0 (least) to [`Paint::HEAT_STEPS`] - 1.
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
}

/// Light and dark colour by the number of a paint.
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

/// How a line is broken, so that series differ without colour too.
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

    fn pattern(id: usize) -> Option<&'static str> {
        match id {
            1 => Some("24 14"),
            2 => Some("6 12"),
            3 => Some("28 12 6 12"),
            _ => None,
        }
    }
}

/// A line's look.
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

/// Where a text lies in relation to its point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Anchor {
    /// Starts at the point.
    Start,
    Middle,
    End,
    /// Runs upwards, its middle at the point.
    Upwards,
}

/// A text's look.
#[derive(Debug, Clone, Copy)]
pub(super) struct Type {
    pub(super) size: f64,
    pub(super) paint: Paint,
    pub(super) anchor: Anchor,
    pub(super) bold: bool,
    /// Keeps lines behind the text from crossing it.
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

/// About how wide a text is, in CSS pixels: without a font there is no way to know.
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

/// Top left and bottom right of a rectangle.
pub(super) type Corners = ((f64, f64), (f64, f64));

/// Marks in CSS pixels, from the top left.
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

    /// Draws through a backend of its own, and keeps the elements without the document around them.
    fn draw(&mut self, draw: impl FnOnce(&mut SVGBackend<'_>)) {
        let mut document = String::new();
        {
            let mut backend = SVGBackend::with_string(&mut document, (1, 1));
            draw(&mut backend);
        }
        let start = document.find(">\n").map_or(0, |end| end + 2);
        let end = document.rfind("</svg>").unwrap_or(document.len());
        self.body
            .push_str(document.get(start..end).unwrap_or_default());
    }

    pub(super) fn line(&mut self, from: (f64, f64), to: (f64, f64), stroke: Stroke) {
        self.path(&[from, to], stroke);
    }

    pub(super) fn path(&mut self, points: &[(f64, f64)], stroke: Stroke) {
        if points.len() < 2 {
            return;
        }
        let style = ShapeStyle {
            color: stand_in(stroke.paint, stroke.dash as u8).to_rgba_with(stroke.opacity),
            filled: false,
            stroke_width: grid(stroke.width).unsigned_abs(),
        };
        let points = dedup(points);
        // Writing to a string does not fail.
        self.draw(|backend| drop(backend.draw_path(points, &style)));
    }

    pub(super) fn polygon(&mut self, points: &[(f64, f64)], paint: Paint, opacity: f64) {
        let color = stand_in(paint, 0).to_rgba_with(opacity);
        let points = dedup(points);
        self.draw(|backend| drop(backend.fill_polygon(points, &color)));
    }

    pub(super) fn rect(&mut self, from: (f64, f64), to: (f64, f64), paint: Paint, opacity: f64) {
        let color = stand_in(paint, 0).to_rgba_with(opacity);
        let (from, to) = (fine(from), fine(to));
        self.draw(|backend| drop(backend.draw_rect(from, to, &color, true)));
    }

    /// Many rectangles of one paint as a single element: a heatmap has thousands.
    pub(super) fn rects(&mut self, corners: &[Corners], paint: Paint) {
        if corners.is_empty() {
            return;
        }
        self.body.push_str("<path d=\"");
        for (from, to) in corners {
            let ((x, y), (right, bottom)) = (fine(*from), fine(*to));
            let (width, height) = (right - x, bottom - y);
            // Written to a string, which does not fail.
            let _ = write!(self.body, "M{x} {y}h{width}v{height}h-{width}z");
        }
        let _ = writeln!(self.body, "\" fill=\"#FE{:02X}00\"/>", paint.id());
    }

    /// Many discs of one paint as a single element: a history has a thousand.
    pub(super) fn specks(&mut self, at: &[(f64, f64)], radius: f64, paint: Paint) {
        let places = at.iter().copied().map(fine);
        let path = places.fold(String::new(), |mut path, (x, y)| {
            // Written to a string, which does not fail. A line of no length with round ends is a disc.
            let _ = write!(path, "M{x} {y}h0");
            path
        });
        self.strokes(&path, 2.0 * radius, paint, 1.0, "round");
    }

    /// Many upright lines of one paint as a single element, each from a place up or down to a height.
    pub(super) fn whiskers(&mut self, ends: &[((f64, f64), f64)], stroke: Stroke) {
        let path = ends.iter().fold(String::new(), |mut path, (from, to)| {
            let (x, y) = fine(*from);
            let _ = write!(path, "M{x} {y}V{}", grid(*to));
            path
        });
        self.strokes(&path, stroke.width, stroke.paint, stroke.opacity, "butt");
    }

    fn strokes(&mut self, path: &str, width: f64, paint: Paint, opacity: f64, cap: &str) {
        if path.is_empty() {
            return;
        }
        let _ = writeln!(
            self.body,
            "<path d=\"{path}\" fill=\"none\" stroke=\"#FE{:02X}00\" stroke-width=\"{}\" stroke-opacity=\"{opacity}\" stroke-linecap=\"{cap}\"/>",
            paint.id(),
            grid(width)
        );
    }

    /// A disc with a rim in the background's colour, so that it stands out from lines below it.
    pub(super) fn dot(&mut self, at: (f64, f64), radius: f64, paint: Paint) {
        for (radius, paint) in [(radius + 1.5, Paint::Background), (radius, paint)] {
            let color = stand_in(paint, 0);
            let radius = grid(radius).unsigned_abs();
            self.draw(|backend| drop(backend.draw_circle(fine(at), radius, &color, true)));
        }
    }

    /// As [`Canvas::dot`], hollow.
    pub(super) fn ring(&mut self, at: (f64, f64), radius: f64, paint: Paint) {
        self.dot(at, radius, paint);
        let color = stand_in(Paint::Background, 0);
        let radius = grid(radius - 2.0).unsigned_abs();
        self.draw(|backend| drop(backend.draw_circle(fine(at), radius, &color, true)));
    }

    pub(super) fn text(&mut self, at: (f64, f64), text: &str, kind: Type) {
        let text = crate::report::escape_control(text);
        let style = if kind.bold {
            FontStyle::Bold
        } else {
            FontStyle::Normal
        };
        // plotters divides sizes by 1.24.
        let font = (FontFamily::Name(FONT), kind.size * FINE * 1.24, style);
        let font = font.into_font();
        let font = if kind.anchor == Anchor::Upwards {
            font.transform(FontTransform::Rotate270)
        } else {
            font
        };
        let horizontal = match kind.anchor {
            Anchor::Start => HPos::Left,
            Anchor::Middle | Anchor::Upwards => HPos::Center,
            Anchor::End => HPos::Right,
        };
        let color = stand_in(kind.paint, u8::from(kind.halo));
        let style = TextStyle::from(font)
            .color(&color)
            .pos(Pos::new(horizontal, VPos::Center));
        self.draw(|backend| drop(backend.draw_text(&text, &style, fine(at))));
    }

    /// The drawing with meanings resolved to classes.
    pub(super) fn finish(self) -> Drawing {
        Drawing {
            body: resolve(&self.body),
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
    /// In CSS pixels, at its own size.
    pub(crate) fn width(&self) -> f64 {
        self.width
    }

    /// The `svg` element. `id` is unique on the page; the style sheet is left out where the page brings [`style`].
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

/// The classes of all paints, light and dark.
pub(crate) fn style() -> String {
    let rules = |dark: bool| {
        let mut out = String::new();
        for (id, (light_colour, dark_colour)) in COLOURS.iter().enumerate() {
            let colour = if dark { dark_colour } else { light_colour };
            // Written to a string, which does not fail.
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

trait WithAlpha {
    fn to_rgba_with(self, alpha: f64) -> plotters::style::RGBAColor;
}

impl WithAlpha for RGBColor {
    fn to_rgba_with(self, alpha: f64) -> plotters::style::RGBAColor {
        plotters::style::RGBAColor(self.0, self.1, self.2, alpha)
    }
}

fn stand_in(paint: Paint, look: u8) -> RGBColor {
    RGBColor(STAND_IN, u8::try_from(paint.id()).unwrap_or(0), look)
}

/// Replaces every stand-in colour in the backend's output, such as `fill="#FE0400"`.
fn resolve(body: &str) -> String {
    let mut out = String::with_capacity(body.len());
    let mut rest = body;
    while let Some(at) = rest.find("=\"#FE") {
        let (before, token) = rest.split_at(at);
        let number = |range| {
            token
                .get(range)
                .and_then(|hex| usize::from_str_radix(hex, 16).ok())
        };
        let (Some(id), Some(look)) = (number(5..7), number(7..9)) else {
            break;
        };
        let Some((light, _)) = COLOURS.get(id) else {
            break;
        };
        rest = token.get(10..).unwrap_or_default();
        if let Some(start) = before.strip_suffix("stroke") {
            out.push_str(start);
            let _ = write!(out, "class=\"s{id}\" stroke=\"{light}\"");
            if let Some(pattern) = Dash::pattern(look) {
                let _ = write!(out, " stroke-dasharray=\"{pattern}\"");
            }
        } else {
            out.push_str(before.strip_suffix("fill").unwrap_or(before));
            let halo = if look == 1 { " halo" } else { "" };
            let _ = write!(out, "class=\"f{id}{halo}\" fill=\"{light}\"");
        }
    }
    out.push_str(rest);
    // What is inherited or the default need not be said at every mark: it was a sixth of a page.
    let line = format!(" stroke-width=\"{LINE}\"");
    [
        (FONT_OF_A_TEXT, ""),
        (" opacity=\"1\"", ""),
        (" text-anchor=\"start\"", ""),
        (" fill=\"none\"", ""),
        (&line, ""),
        (" \"/>", "\"/>"),
        ("\">\n", "\">"),
        ("\n</text>", "</text>"),
    ]
    .into_iter()
    .fold(out, |text, (repeated, short)| text.replace(repeated, short))
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

/// Points on the grid, without those that repeat the one before.
fn dedup(points: &[(f64, f64)]) -> Vec<(i32, i32)> {
    let mut points: Vec<_> = points.iter().copied().map(fine).collect();
    points.dedup();
    points
}
