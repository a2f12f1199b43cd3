//! The building blocks of pages: sections, and tables with labels for screen readers.

use maud::{Markup, Render, html};

/// A section with a heading. A link to `#id` leads to the section.
pub(crate) fn section(id: &str, title: impl Render, content: &Markup) -> Markup {
    let heading = format!("{id}-h");
    html! {
        section id=(id) aria-labelledby=(heading) {
            h2 id=(heading) { (title) }
            (content)
        }
    }
}

/// Content that may be wider than the page and then scrolls by itself. `label` names the content for screen readers.
pub(crate) fn scrolling(label: &str, content: &Markup) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label=(label) { (content) }
    }
}

/// A table with the column heads `heads`. `rows` holds complete `tr` elements; `label` names the table for screen readers.
pub(crate) fn table(label: &str, class: &str, heads: &[&str], rows: &Markup) -> Markup {
    let content = html! {
        table class=(class) {
            thead { tr { @for head in heads { th scope="col" { (head) } } } }
            tbody { (rows) }
        }
    };
    scrolling(label, &content)
}
