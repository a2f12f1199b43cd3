//! Turns written values into domain types, one at a time, and collects a mistake for every value that is refused.
//! Knows what a duration, a count or a word of a list looks like, but not what a profile means.

use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use toml::Spanned;

use super::error::{Mistake, nearest};
use super::wire::{Entries, Field, Value};
use super::workload::{KeyChoice, Pace};
use crate::units::{
    BYTES_EXPECTED, Rate, exact_duration, parse_bytes, parse_duration, parse_share, thousands,
};

/// Why a value is refused.
#[derive(Debug)]
pub(super) struct Refusal {
    /// What the value must be: the end of the sentence "... must be ...".
    expected: String,
    help: Option<String>,
}

impl Refusal {
    pub(super) fn new(expected: impl Into<String>) -> Self {
        Self {
            expected: expected.into(),
            help: None,
        }
    }

    /// The refusal of a value that should be a number. A number in quotes is the commonest mistake and gets its own remedy.
    fn of_number(expected: impl Into<String>, value: &Value) -> Self {
        let quoted = matches!(value, Value::Text(text) if text.parse::<f64>().is_ok());
        Self {
            expected: expected.into(),
            help: quoted.then(|| "leave out the quotes".into()),
        }
    }
}

/// Collects mistakes, so that all mistakes of a profile are reported at once.
#[derive(Debug, Default)]
pub(super) struct Diagnostics {
    found: Vec<Mistake>,
}

impl Diagnostics {
    pub(super) fn into_mistakes(self) -> Vec<Mistake> {
        self.found
    }

    /// Whether no mistake has been found so far.
    pub(super) fn found_nothing(&self) -> bool {
        self.found.is_empty()
    }

    /// The number of mistakes found so far.
    pub(super) fn count(&self) -> usize {
        self.found.len()
    }

    /// Like [`Diagnostics::read`], for a key that has no default; `entry` is the place to report if the key is missing.
    pub(super) fn required<'v, T>(
        &mut self,
        key: &str,
        field: &'v Field,
        entry: Range<usize>,
        parse: impl FnOnce(&'v Value) -> Result<T, Refusal>,
    ) -> Option<T> {
        if field.is_none() {
            self.refuse(entry, format!("`{key}` is missing here"), "give one");
            return None;
        }
        self.read(key, field, parse)
    }

    /// The value of a key, or `None` when it is absent or refused.
    pub(super) fn read<'v, T>(
        &mut self,
        key: &str,
        field: &'v Field,
        parse: impl FnOnce(&'v Value) -> Result<T, Refusal>,
    ) -> Option<T> {
        self.value(&format!("`{key}`"), field.as_ref()?, parse)
    }

    /// Like [`Diagnostics::read`], but gives `default` when the key is absent or refused.
    pub(super) fn read_or<T>(
        &mut self,
        key: &str,
        field: &Field,
        parse: impl FnOnce(&Value) -> Result<T, Refusal>,
        default: T,
    ) -> T {
        self.read(key, field, parse).unwrap_or(default)
    }

    /// Like [`Diagnostics::read`], for a value that is present; `subject` names the value in the message.
    pub(super) fn value<'v, T>(
        &mut self,
        subject: &str,
        value: &'v Spanned<Value>,
        parse: impl FnOnce(&'v Value) -> Result<T, Refusal>,
    ) -> Option<T> {
        match parse(value.get_ref()) {
            Ok(parsed) => Some(parsed),
            Err(refusal) => {
                self.found.push(Mistake {
                    span: value.span(),
                    title: format!("{subject} must be {}", refusal.expected),
                    help: refusal.help,
                });
                None
            }
        }
    }

    /// Adds a mistake that is not about a single value.
    pub(super) fn refuse(&mut self, span: Range<usize>, title: String, help: &str) {
        self.found.push(Mistake {
            span,
            title,
            help: Some(help.into()),
        });
    }
}

pub(super) fn text(value: &Value) -> Result<String, Refusal> {
    match value {
        Value::Text(text) => Ok(text.clone()),
        _ => Err(Refusal::new("a string in quotes")),
    }
}

/// Reads a table; `expected` says in a refusal what the table should be.
pub(super) fn table(expected: &'static str) -> impl Fn(&Value) -> Result<&Entries, Refusal> {
    move |value| match value {
        Value::Table(entries) => Ok(entries),
        _ => Err(Refusal::new(expected)),
    }
}

/// Reads an integer within `bounds`, which must fit into `T`.
pub(super) fn integer<T: TryFrom<u64>>(
    bounds: RangeInclusive<u64>,
) -> impl Fn(&Value) -> Result<T, Refusal> {
    move |value| {
        let within = match value {
            Value::Integer(value) => u64::try_from(*value)
                .ok()
                .filter(|value| bounds.contains(value)),
            _ => None,
        };
        within
            .and_then(|value| T::try_from(value).ok())
            .ok_or_else(|| {
                let (least, most) = (thousands(*bounds.start()), thousands(*bounds.end()));
                Refusal::of_number(format!("an integer from {least} to {most}"), value)
            })
    }
}

/// Reads a duration within `bounds`.
pub(super) fn duration(
    bounds: RangeInclusive<Duration>,
) -> impl Fn(&Value) -> Result<Duration, Refusal> {
    move |value| {
        let parsed = value.text().and_then(|text| parse_duration(text).ok());
        parsed
            .filter(|parsed| bounds.contains(parsed))
            .ok_or_else(|| {
                Refusal::new(format!(
                    "a duration with a unit, such as \"300 ms\", \"5 s\" or \"2 min\", from {} to {}",
                    exact_duration(*bounds.start()),
                    exact_duration(*bounds.end())
                ))
            })
    }
}

/// Reads a number of bytes with a unit.
pub(super) fn bytes(value: &Value) -> Result<u64, Refusal> {
    let parsed = value.text().and_then(|text| parse_bytes(text).ok());
    parsed.ok_or_else(|| Refusal::new(BYTES_EXPECTED))
}

/// Reads a share from 0 to 1, written as a percentage or a number.
pub(super) fn share(value: &Value) -> Result<f64, Refusal> {
    let parsed = match value {
        Value::Text(text) if text.trim_end().ends_with('%') => parse_share(text).ok(),
        Value::Integer(0) => Some(0.0),
        Value::Float(share) => Some(*share),
        _ => None,
    };
    parsed
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| Refusal::new("a share, such as \"5 %\" or 0.05, at most \"100 %\""))
}

pub(super) fn boolean(value: &Value) -> Result<bool, Refusal> {
    match value {
        Value::Boolean(value) => Ok(*value),
        _ => Err(Refusal::new("true or false")),
    }
}

/// Reads a finite number that is 0 or above.
pub(super) fn amount(value: &Value) -> Result<f64, Refusal> {
    let amount = value.number();
    amount
        .filter(|amount| amount.is_finite() && *amount >= 0.0)
        .ok_or_else(|| Refusal::of_number("a number, 0 or above", value))
}

/// Reads one of the given words.
pub(super) fn word<T: Copy>(
    words: &[T],
    name: impl Fn(T) -> &'static str,
) -> impl Fn(&Value) -> Result<T, Refusal> {
    let names: Vec<_> = words.iter().map(|word| name(*word)).collect();
    move |value| word_index(&names)(value).map(|index| words[index])
}

/// Reads one of the given words; gives its index in `words`.
pub(super) fn word_index(words: &[&str]) -> impl Fn(&Value) -> Result<usize, Refusal> {
    move |value| {
        let written = value.text().unwrap_or_default();
        if let Some(index) = words.iter().position(|word| *word == written) {
            return Ok(index);
        }
        let quoted: Vec<_> = words.iter().map(|name| format!("\"{name}\"")).collect();
        Err(Refusal {
            expected: format!("one of {}", quoted.join(", ")),
            help: nearest(written, words.iter().copied())
                .map(|name| format!("did you mean \"{name}\"?")),
        })
    }
}

pub(super) fn pace(value: &Value) -> Result<Pace, Refusal> {
    if value.text() == Some("max") {
        return Ok(Pace::Max);
    }
    let rate = value.number().and_then(|it| Rate::per_second(it).ok());
    rate.map(Pace::At)
        .ok_or_else(|| Refusal::of_number(Pace::EXPECTED, value))
}

/// Reads `"uniform"`, or a table with the exponent of Zipf's law.
pub(super) fn keys(value: &Value) -> Result<KeyChoice, Refusal> {
    let zipf = match value {
        Value::Text(text) if text == "uniform" => return Ok(KeyChoice::Uniform),
        Value::Table(entries) => match entries.as_slice() {
            [(key, value)] if key.get_ref() == "zipf" => exponent(value.get_ref()).ok(),
            _ => None,
        },
        _ => None,
    };
    zipf.map(KeyChoice::Zipf).ok_or_else(|| {
        Refusal::new("\"uniform\" or { zipf = EXPONENT } with an exponent above 0 and at most 10")
    })
}

/// Reads the exponent of Zipf's law.
pub(super) fn exponent(value: &Value) -> Result<f64, Refusal> {
    // With a larger exponent nearly every draw is row 1, and the sampler's powers overflow.
    const STEEPEST: f64 = 10.0;
    let exponent = value.number();
    exponent
        .filter(|exponent| *exponent > 0.0 && *exponent <= STEEPEST)
        .ok_or_else(|| Refusal::of_number("a number above 0 and at most 10", value))
}

/// Reads a name of at most 63 bytes, because PostgreSQL silently truncates longer names.
pub(super) fn identifier(value: &Value) -> Result<String, Refusal> {
    match value {
        Value::Text(name) if (1..=63).contains(&name.len()) && !name.contains('\0') => {
            Ok(name.clone())
        }
        _ => Err(Refusal::new("a name of 1 to 63 bytes without NUL")),
    }
}

/// Reads a name that is safe as part of a directory's name.
pub(super) fn profile_name(value: &Value) -> Result<String, Refusal> {
    match value {
        Value::Text(name) if is_profile_name(name) => Ok(name.clone()),
        _ => Err(Refusal::new(
            "1 to 63 letters, digits, `-` or `_`, since it becomes part of a directory's name",
        )),
    }
}

fn is_profile_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    (1..=63).contains(&name.len()) && !name.starts_with('-') && name.bytes().all(allowed)
}
