//! A table or transaction of a profile, combined with the library entry that its `kind` names.

use std::ops::Range;
use std::sync::LazyLock;

use toml::Spanned;

use super::diagnostics::{self, Diagnostics, Refusal};
use super::wire::{self, Field, Value};
use super::workload::Origin;

const LIBRARY_TEXT: &str = include_str!("../../workloads/library.toml");

pub(super) static LIBRARY: LazyLock<wire::Library> =
    LazyLock::new(|| toml::from_str(LIBRARY_TEXT).expect("a test reads the library"));

/// A profile's text and its path, to turn byte offsets into line numbers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Text<'a> {
    pub(super) origin: &'a str,
    pub(super) text: &'a str,
}

impl Text<'_> {
    pub(super) const LIBRARY: Self = Text {
        origin: "workloads/library.toml",
        text: LIBRARY_TEXT,
    };

    /// The line on which the content of a string begins.
    pub(super) fn origin_of(self, span: &Range<usize>) -> Origin {
        let before = self.text.get(..span.start).unwrap_or_default();
        let value = self.text.get(span.clone()).unwrap_or_default();
        // TOML leaves out the line end that follows the opening quotes.
        let opens_a_line = ["'''\n", "\"\"\"\n", "'''\r\n", "\"\"\"\r\n"]
            .iter()
            .any(|opening| value.starts_with(opening));
        Origin {
            file: self.origin.to_owned(),
            line: before.matches('\n').count() + 1 + usize::from(opens_a_line),
        }
    }
}

/// A table or transaction of a profile; a key that it lacks is taken from the library entry that its `kind` names.
pub(super) struct Entry<'a, T> {
    pub(super) own: &'a Spanned<T>,
    pub(super) base: Option<&'a T>,
    pub(super) text: Text<'a>,
}

impl<'a, T> Entry<'a, T> {
    /// Finds the library entry that `kind` names. `None` if the library has no such kind, which is reported in `diagnostics`.
    pub(super) fn new(
        diagnostics: &mut Diagnostics,
        own: &'a Spanned<T>,
        text: Text<'a>,
        library: &'static [Spanned<T>],
        kind_of: fn(&T) -> &Field,
    ) -> Option<Self> {
        let base = match kind_of(own.get_ref()) {
            None => None,
            Some(written) => {
                let kinds = library.iter().map(|it| word_of(kind_of(it.get_ref())));
                let kinds: Vec<_> = kinds.collect();
                let kind = diagnostics::word_index(&kinds);
                let index = diagnostics.value("`kind`", written, kind)?;
                Some(library[index].get_ref())
            }
        };
        Some(Self { own, base, text })
    }

    /// A key's value, and the text (profile or library) in which it is written.
    pub(super) fn field(
        &self,
        of: impl Fn(&T) -> &Field,
    ) -> Option<(&'a Spanned<Value>, Text<'a>)> {
        let own = of(self.own.get_ref()).as_ref().map(|it| (it, self.text));
        let base = self.base.and_then(|base| of(base).as_ref());
        own.or(base.map(|it| (it, Text::LIBRARY)))
    }

    pub(super) fn read<V>(
        &self,
        diagnostics: &mut Diagnostics,
        key: &str,
        of: impl Fn(&T) -> &Field,
        parse: impl FnOnce(&Value) -> Result<V, Refusal>,
    ) -> Option<V> {
        let (value, _) = self.field(of)?;
        diagnostics.value(&format!("`{key}`"), value, parse)
    }

    /// Like [`Entry::read`], but a missing key is refused with `help`, which says what the key is for.
    pub(super) fn required<V>(
        &self,
        diagnostics: &mut Diagnostics,
        (key, help): (&str, &str),
        of: impl Fn(&T) -> &Field,
        parse: impl FnOnce(&Value) -> Result<V, Refusal>,
    ) -> Option<V> {
        let (value, _) = self.present(diagnostics, (key, help), of)?;
        diagnostics.value(&format!("`{key}`"), value, parse)
    }

    /// Like [`Entry::field`], but a missing key is refused with `help`, which says what the key is for.
    pub(super) fn present(
        &self,
        diagnostics: &mut Diagnostics,
        (key, help): (&str, &str),
        of: impl Fn(&T) -> &Field,
    ) -> Option<(&'a Spanned<Value>, Text<'a>)> {
        let field = self.field(of);
        if field.is_none() {
            let title = format!("`{key}` is missing here");
            diagnostics.refuse(self.own.span(), title, help);
        }
        field
    }
}

/// The text of a `kind`; empty if there is none.
pub(super) fn word_of(field: &Field) -> &str {
    let value = field.as_ref().map(Spanned::get_ref);
    value.and_then(Value::text).unwrap_or_default()
}
