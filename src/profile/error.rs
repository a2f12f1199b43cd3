//! Shows what is wrong with a profile: file, line, column, a caret and a remedy.
//! Knows only text and byte ranges in it; does not decide what is a mistake.

use std::fmt::{self, Write as _};
use std::io;
use std::ops::Range;
use std::path::PathBuf;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use itertools::Itertools as _;

use crate::escape::is_invisible;
use crate::units::format_bytes;

/// A profile that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    #[error("unknown profile `{}`; {}", visible(.name), nearest_profiles(.nearest))]
    Unknown {
        name: String,
        /// Names of the most similar built-in profiles, the most similar first.
        nearest: Vec<&'static str>,
    },
    #[error("profile `{}` cannot be read: {source}", visible(&.path.to_string_lossy()))]
    Read { path: PathBuf, source: io::Error },
    #[error(
        "profile `{}` is larger than {}; a profile is a page of text",
        visible(&.path.to_string_lossy()),
        format_bytes(*.limit as f64)
    )]
    TooLarge { path: PathBuf, limit: u64 },
    #[error(
        "{}:{line}:{column}: the profile is not UTF-8 from here; save it as UTF-8",
        visible(&.path.to_string_lossy())
    )]
    NotUtf8 {
        path: PathBuf,
        line: usize,
        /// Counted in characters, from 1.
        column: usize,
    },
    #[error("{0}")]
    Wrong(Box<Mistakes>),
}

impl ProfileError {
    /// The text of [`Display`](fmt::Display), with colours as ANSI escapes for mistakes in a profile's text.
    pub fn styled(&self) -> String {
        match self {
            Self::Wrong(mistakes) => mistakes.render(&Renderer::styled()),
            other => format!("error: {other}"),
        }
    }
}

fn nearest_profiles(nearest: &[&str]) -> String {
    let names: Vec<_> = nearest.iter().map(|name| format!("`{name}`")).collect();
    format!(
        "the nearest are {}; `replbench list` shows all, and a file is named by a path with `/` or `.toml`",
        names.join(", ")
    )
}

/// Every mistake found in one text.
#[derive(Debug)]
pub struct Mistakes {
    origin: String,
    text: String,
    found: Vec<Mistake>,
}

/// One mistake and its place in the text.
#[derive(Debug)]
pub(super) struct Mistake {
    /// The range of bytes in the text that is wrong.
    pub(super) span: Range<usize>,
    pub(super) title: String,
    /// A remedy, which may have several lines. It is printed unescaped, so it contains only replbench's own words.
    pub(super) help: Option<String>,
}

impl Mistakes {
    /// The most mistakes that are shown in full, so that the message fits on about a screen; the rest are only counted.
    const MOST_SHOWN: usize = 10;

    pub(super) fn new(origin: &str, text: &str, mut found: Vec<Mistake>) -> Self {
        found.sort_by_key(|mistake| mistake.span.start);
        Self {
            origin: visible(origin),
            text: neutralised(text),
            found,
        }
    }

    fn render(&self, renderer: &Renderer) -> String {
        let groups: Vec<_> = self
            .found
            .iter()
            .take(Self::MOST_SHOWN)
            .map(|mistake| {
                let snippet = Snippet::source(self.text.as_str())
                    .path(self.origin.as_str())
                    .annotation(AnnotationKind::Primary.span(self.one_line(&mistake.span)));
                Level::ERROR
                    .primary_title(visible(&mistake.title))
                    .element(snippet)
                    .elements(mistake.help.iter().map(|help| Level::HELP.message(help)))
            })
            .collect();
        let mut out = groups
            .iter()
            .map(|group| renderer.render(std::slice::from_ref(group)))
            .join("\n\n");
        let hidden = self.found.len().saturating_sub(Self::MOST_SHOWN);
        if hidden > 0 {
            let _ = write!(out, "\n\nand {hidden} more mistakes");
        }
        out
    }

    /// The part of a span on its first line, because the span of a whole table also covers lines that are correct.
    fn one_line(&self, span: &Range<usize>) -> Range<usize> {
        // The parser counts bytes, and its offset may be inside a character.
        let start = self.text.floor_char_boundary(span.start);
        let end = self.text.floor_char_boundary(span.end.max(start));
        let length = self.text[start..end]
            .find(['\r', '\n'])
            .unwrap_or(end - start);
        start..start + length
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(&Renderer::plain()))
    }
}

/// The candidate most similar to `text`; `None` if no candidate is similar enough to be what was meant.
pub(super) fn nearest<'a>(
    text: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(text, candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// The remedy for a word that is not in `known`: the most similar known word, or the list of all. `what` says what the known words are.
pub(super) fn suggestion(word: &str, known: &[&str], what: &str) -> String {
    match nearest(word, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("{what} are {}", known.join(", ")),
    }
}

/// Makes untrusted text safe to print on a terminal: control, bidirectional and invisible characters are written as escapes.
pub fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() || is_invisible(character) {
            out.extend(character.escape_unicode());
        } else {
            out.push(character);
        }
    }
    out
}

/// Like [`visible`], but the result has the same length in bytes, so that byte offsets stay valid.
/// ASCII control characters stay: the renderer draws them itself and keeps line ends.
fn neutralised(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        let steers = (character.is_control() && !character.is_ascii()) || is_invisible(character);
        out.push_str(match (steers, character.len_utf8()) {
            (true, 2) => "\u{bf}",
            (true, 3) => "\u{fffd}",
            (true, 4) => "\u{fffd}?",
            _ => {
                out.push(character);
                continue;
            }
        });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_steers_a_terminal_is_escaped() {
        assert_eq!(
            visible("a\u{1b}[31mb\u{202e}c\u{9b}d\n"),
            "a\\u{1b}[31mb\\u{202e}c\\u{9b}d\\u{a}"
        );
        assert_eq!(visible("Größe 表"), "Größe 表");
    }

    #[test]
    fn neutralised_text_keeps_every_place() {
        let text = "a\u{9b}b\u{202e}c\u{e0041}d";
        let safe = neutralised(text);
        assert_eq!(safe.len(), text.len());
        assert_eq!(safe.find('d'), text.find('d'));
        assert!(!safe.chars().any(is_invisible));
    }

    #[test]
    fn the_nearest_is_offered_only_when_it_is_near() {
        assert_eq!(
            nearest("raet", ["rate", "threads", "arrivals"]),
            Some("rate")
        );
        assert_eq!(nearest("zzz", ["rate", "threads"]), None);
    }
}
