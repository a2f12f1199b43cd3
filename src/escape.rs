//! Makes text from elsewhere (a server, a file, a name in a profile) safe to show and to write.

use std::borrow::Cow;

/// Replaces control characters, escape sequences, invisible characters and marks that change the writing direction by visible codes,
/// because a name must not repaint a terminal or reorder a page. Line ends and tabs become spaces.
pub fn escape_control(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_hostile) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if c == '\n' || c == '\t' {
            out.push(' ');
        } else if is_hostile(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

fn is_hostile(c: char) -> bool {
    c.is_control() || is_invisible(c)
}

/// Whether a character hides its neighbours or itself, or turns the direction of writing.
pub fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// Puts an apostrophe before a CSV cell that a spreadsheet would run as a formula. Full-width signs are treated like the plain ones,
/// because some spreadsheets do so.
pub fn escape_formula(cell: &str) -> Cow<'_, str> {
    let start = cell.trim_start_matches(' ');
    if start.starts_with(['=', '+', '-', '@', '\t', '\r', '＝', '＋', '－', '＠']) {
        Cow::Owned(format!("'{cell}"))
    } else {
        Cow::Borrowed(cell)
    }
}

/// Applies both [`escape_control`] and [`escape_formula`] to a CSV cell with text from elsewhere.
pub fn escape_cell(text: &str) -> String {
    escape_formula(&escape_control(text)).into_owned()
}

/// The name as a quoted SQL identifier, whatever characters it contains.
pub fn quote_ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_and_turned_writing_become_visible() {
        assert_eq!(escape_control("\u{1b}[31mred"), "\\u{1b}[31mred");
        assert_eq!(escape_control("a\u{202e}b\nc\0"), "a\\u{202e}b c\\u{0}");
        assert!(matches!(escape_control("sync:any-2"), Cow::Borrowed(_)));
    }

    #[test]
    fn what_a_spreadsheet_would_run_is_quoted() {
        for formula in ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "＝1", "  =1"] {
            let cell = escape_cell(formula);
            assert!(cell.starts_with('\''), "{formula:?}: {cell:?}");
        }
        assert_eq!(escape_cell("a = b - c"), "a = b - c");
    }
}
