//! What pages are put together from: sections, and tables with the words that a reader needs who does not see them.

use maud::{Markup, Render, html};

/// A section with a heading; `#id` leads to it.
pub(crate) fn section(id: &str, title: impl Render, content: &Markup) -> Markup {
    let heading = format!("{id}-h");
    html! {
        section id=(id) aria-labelledby=(heading) {
            h2 id=(heading) { (title) }
            (content)
        }
    }
}

/// What may be wider than the page, and scrolls by itself then. `label` says what it is.
pub(crate) fn scrolling(label: &str, content: &Markup) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label=(label) { (content) }
    }
}

/// A table under these heads, of rows that are whole.
pub(crate) fn table(label: &str, class: &str, heads: &[&str], rows: &Markup) -> Markup {
    let content = html! {
        table class=(class) {
            thead { tr { @for head in heads { th scope="col" { (head) } } } }
            tbody { (rows) }
        }
    };
    scrolling(label, &content)
}
