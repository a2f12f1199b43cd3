//! The values of a transaction's parameters: drawn from generators, and encoded as the types that its statements want.

use std::error::Error;
use std::fmt;
use std::num::NonZeroU64;

use bytes::{BufMut, BytesMut};
use rand::{Rng, RngExt};
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive as _;
use tokio_postgres::types::{IsNull, Kind, ToSql, Type, to_sql_checked};

use super::texts;
use crate::plan::{Constant, Generator, KeyChooser, Plan, Table, Transaction};

/// A parameter's value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Boolean(bool),
    Integer(i64),
    Decimal(Decimal),
    Float(f64),
    Text(String),
    Uuid(u128),
}

impl Value {
    /// The SQL that makes a value of type `kind` from a parameter that is given this value.
    pub(super) fn cast(&self, parameter: &str, kind: &Type) -> String {
        let own = match self {
            Self::Boolean(_) => "boolean",
            Self::Integer(_) => "bigint",
            Self::Decimal(_) => "numeric",
            Self::Float(_) => "float8",
            Self::Text(_) => "text",
            Self::Uuid(_) => "uuid",
        };
        format!("CAST(:{parameter}::{own} AS {kind})")
    }

    /// Whether a parameter of this type can be given the value.
    pub(super) fn fits(&self, kind: &Type) -> bool {
        let kind = base_of(kind);
        match self {
            Self::Boolean(_) => *kind == Type::BOOL,
            Self::Integer(value) => match *kind {
                Type::INT2 => i16::try_from(*value).is_ok(),
                Type::INT4 => i32::try_from(*value).is_ok(),
                _ => *kind == Type::INT8 || is_number(kind),
            },
            Self::Decimal(_) | Self::Float(_) => is_number(kind),
            Self::Text(_) => is_text(kind),
            Self::Uuid(_) => *kind == Type::UUID,
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean(value) => write!(f, "the boolean {value}"),
            Self::Integer(value) => write!(f, "the integer {value}"),
            Self::Decimal(value) => write!(f, "numbers such as {value}"),
            Self::Float(value) => write!(f, "the number {value}"),
            Self::Text(_) => f.write_str("text"),
            Self::Uuid(_) => f.write_str("a uuid"),
        }
    }
}

impl From<&Constant> for Value {
    fn from(constant: &Constant) -> Self {
        match constant {
            Constant::Boolean(value) => Self::Boolean(*value),
            Constant::Integer(value) => Self::Integer(*value),
            Constant::Float(value) => Self::Float(*value),
            Constant::Text(text) => Self::Text(text.clone()),
        }
    }
}

fn base_of(kind: &Type) -> &Type {
    match kind.kind() {
        Kind::Domain(base) => base_of(base),
        _ => kind,
    }
}

fn is_number(kind: &Type) -> bool {
    [Type::NUMERIC, Type::FLOAT4, Type::FLOAT8].contains(kind)
}

fn is_text(kind: &Type) -> bool {
    let plain = [
        Type::TEXT,
        Type::VARCHAR,
        Type::BPCHAR,
        Type::NAME,
        Type::JSON,
        Type::JSONB,
    ];
    plain.contains(kind) || matches!(kind.kind(), Kind::Enum(_)) || kind.name() == "citext"
}

impl ToSql for Value {
    fn to_sql(
        &self,
        kind: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        let kind = base_of(kind);
        match self {
            Self::Boolean(value) => value.to_sql(kind, out),
            Self::Integer(value) => match *kind {
                Type::INT2 => i16::try_from(*value)?.to_sql(kind, out),
                Type::INT4 => i32::try_from(*value)?.to_sql(kind, out),
                Type::NUMERIC => Decimal::from(*value).to_sql(kind, out),
                Type::FLOAT4 | Type::FLOAT8 => float(*value as f64, kind, out),
                _ => value.to_sql(kind, out),
            },
            Self::Decimal(value) => match *kind {
                Type::NUMERIC => value.to_sql(kind, out),
                _ => float(value.to_f64().ok_or("it fits no double")?, kind, out),
            },
            Self::Float(value) => match *kind {
                Type::NUMERIC => Decimal::try_from(*value)?.to_sql(kind, out),
                _ => float(*value, kind, out),
            },
            Self::Text(text) => {
                if *kind == Type::JSONB {
                    // The version of the binary format of jsonb.
                    out.put_u8(1);
                }
                out.put_slice(text.as_bytes());
                Ok(IsNull::No)
            }
            Self::Uuid(value) => {
                out.put_u128(*value);
                Ok(IsNull::No)
            }
        }
    }

    /// Accepts every type that the server may want. If a value cannot be encoded as that type, the statement fails.
    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

#[allow(
    clippy::cast_possible_truncation,
    reason = "a real column holds no more"
)]
fn float(
    value: f64,
    kind: &Type,
    out: &mut BytesMut,
) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
    if *kind == Type::FLOAT4 {
        (value as f32).to_sql(kind, out)
    } else {
        value.to_sql(kind, out)
    }
}

/// Sample values of a generator, which together show the types that its parameter may have.
pub(super) fn extremes(generator: &Generator, tables: &[Table]) -> Vec<Value> {
    match generator {
        Generator::Row { table, .. } => {
            let rows = tables.get(*table).map_or(1, |table| table.rows);
            vec![Value::Integer(rows.cast_signed())]
        }
        Generator::Integer { least, most } => vec![Value::Integer(*least), Value::Integer(*most)],
        Generator::Decimal { most, .. } => vec![Value::Decimal(Decimal::new(*most, 2))],
        Generator::Words(_) | Generator::Person(_) | Generator::Email => {
            vec![Value::Text(String::new())]
        }
        Generator::Uuid => vec![Value::Uuid(0)],
        Generator::Value(constant) => vec![Value::from(constant)],
    }
}

/// Draws the parameters of one transaction of a plan.
#[derive(Debug)]
pub struct Sampler {
    sources: Vec<Source>,
    row_bytes: usize,
}

#[derive(Debug)]
enum Source {
    Row(KeyChooser),
    Other(Generator),
}

impl Sampler {
    pub fn new(plan: &Plan, transaction: &Transaction) -> Self {
        let source = |generator: &Generator| match generator {
            Generator::Row { table, choice } => {
                let rows = NonZeroU64::new(plan.tables[*table].rows);
                let rows = rows.expect("a resolved plan has rows wherever they are chosen");
                Source::Row(KeyChooser::new(*choice, rows))
            }
            other => Source::Other(other.clone()),
        };
        Self {
            sources: transaction
                .parameters
                .iter()
                .map(|it| source(&it.generator))
                .collect(),
            row_bytes: plan.tables[transaction.table].row_bytes as usize,
        }
    }

    /// Draws the values of one transaction, in the order of its parameters. `values` may hold values of an earlier draw, whose memory is
    /// reused.
    pub fn draw(&self, rng: &mut impl Rng, values: &mut Vec<Value>) {
        values.resize_with(self.sources.len(), || Value::Boolean(false));
        for (source, value) in self.sources.iter().zip(values.iter_mut()) {
            source.draw(rng, value);
        }
        let length = |value: &Value| match value {
            Value::Text(text) => text.len(),
            _ => 0,
        };
        for index in 0..values.len() {
            if let Source::Other(Generator::Words(None) | Generator::Person(None)) =
                self.sources[index]
            {
                let others = values.iter().map(length).sum::<usize>() - length(&values[index]);
                if let Value::Text(text) = &mut values[index] {
                    texts::fill(rng, text, self.row_bytes.saturating_sub(others));
                }
            }
        }
    }
}

impl Source {
    fn draw(&self, rng: &mut impl Rng, value: &mut Value) {
        let generator = match self {
            Self::Row(keys) => {
                *value = Value::Integer(keys.pick(rng).cast_signed());
                return;
            }
            Self::Other(generator) => generator,
        };
        *value = match generator {
            Generator::Row { .. } => unreachable!("a chooser of rows is its own source"),
            Generator::Integer { least, most } => Value::Integer(rng.random_range(*least..=*most)),
            Generator::Decimal { least, most } => {
                Value::Decimal(Decimal::new(rng.random_range(*least..=*most), 2))
            }
            Generator::Uuid => Value::Uuid(uuid(rng)),
            Generator::Words(width) => {
                let text = emptied(value);
                texts::words(rng, text);
                return fill(rng, text, *width);
            }
            Generator::Person(width) => {
                let text = emptied(value);
                texts::person(rng, text);
                return fill(rng, text, *width);
            }
            Generator::Email => return texts::email(rng, emptied(value)),
            Generator::Value(Constant::Text(text)) => return emptied(value).push_str(text),
            Generator::Value(constant) => Value::from(constant),
        };
    }
}

/// Makes the value an empty text. If it was a text, its memory is reused.
fn emptied(value: &mut Value) -> &mut String {
    if !matches!(value, Value::Text(_)) {
        *value = Value::Text(String::new());
    }
    let Value::Text(text) = value else {
        unreachable!("it was made a text");
    };
    text.clear();
    text
}

fn fill(rng: &mut impl Rng, text: &mut String, width: Option<u32>) {
    if let Some(width) = width {
        texts::fill(rng, text, width as usize);
    }
}

/// A UUID of version 4 (RFC 9562): 122 bits are random.
fn uuid(rng: &mut impl Rng) -> u128 {
    let random: u128 = rng.random();
    random & !(0xF << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_xoshiro::Xoshiro256PlusPlus;

    use super::*;
    use crate::plan::{Overrides, resolve};
    use crate::profile::Profile;

    fn sampler(kind: &str, row_bytes: u32) -> Sampler {
        let text = format!(
            "[[transaction]]\nkind = \"{kind}\"\n[[table]]\nkind = \"product\"\nrow_bytes = {row_bytes}\n\
             [[table]]\nkind = \"users\"\nrow_bytes = {row_bytes}\n"
        );
        let profile = Profile::parse("p.toml", &text).unwrap();
        let plan = resolve(&profile, &Overrides::default()).unwrap();
        Sampler::new(&plan, &plan.transactions[0])
    }

    #[test]
    fn the_same_seed_draws_the_same_values() {
        let sampler = sampler("product-insert", 100);
        let draw = |seed, mut values: Vec<Value>| {
            sampler.draw(&mut Xoshiro256PlusPlus::seed_from_u64(seed), &mut values);
            values
        };
        let (seven, eight) = (draw(7, Vec::new()), draw(8, Vec::new()));
        assert_ne!(seven, eight);
        assert_eq!(draw(7, eight), seven);
    }

    #[test]
    fn the_texts_of_a_row_together_have_the_width_that_was_asked_for() {
        for kind in ["product-insert", "users-insert"] {
            let sampler = sampler(kind, 200);
            for seed in 0..200 {
                let mut values = Vec::new();
                sampler.draw(&mut Xoshiro256PlusPlus::seed_from_u64(seed), &mut values);
                let width: usize = values
                    .iter()
                    .map(|value| match value {
                        Value::Text(text) => text.len(),
                        _ => 0,
                    })
                    .sum();
                assert!((197..=200).contains(&width), "{values:?}");
            }
        }
    }

    #[test]
    fn a_uuid_says_its_version_and_variant() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        for _ in 0..100 {
            let text = format!("{:032x}", uuid(&mut rng));
            assert_eq!(&text[12..13], "4", "{text}");
            assert!("89ab".contains(&text[16..17]), "{text}");
        }
    }

    #[test]
    fn a_value_fits_the_types_it_can_be_written_as() {
        let whole = Value::Integer(1);
        assert!(whole.fits(&Type::INT2) && whole.fits(&Type::NUMERIC) && !whole.fits(&Type::TEXT));
        assert!(
            !Value::Integer(40_000).fits(&Type::INT2) && Value::Integer(40_000).fits(&Type::INT4)
        );
        assert!(Value::Uuid(1).fits(&Type::UUID) && !Value::Uuid(1).fits(&Type::TEXT));
        assert!(Value::Text(String::new()).fits(&Type::VARCHAR));
        assert!(!Value::Text(String::new()).fits(&Type::INT4));
    }
}
