//! The shape of a profile file: which tables and keys exist. Values stay as written, each with its place in the file, so that validation
//! can check all of them and report every mistake at once.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use toml::Spanned;

/// Any value with its place in the file; `None` if the key is absent.
pub(super) type Field = Option<Spanned<Value>>;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Profile {
    pub(super) name: Field,
    pub(super) description: Field,
    pub(super) seed: Field,
    pub(super) modes: Field,
    #[serde(default)]
    pub(super) topology: Topology,
    #[serde(default)]
    pub(super) load: Load,
    #[serde(default)]
    pub(super) phases: Phases,
    #[serde(default)]
    pub(super) probes: Probes,
    #[serde(default)]
    pub(super) expect: Expect,
    #[serde(default)]
    pub(super) table: Vec<Spanned<Table>>,
    #[serde(default)]
    pub(super) transaction: Vec<Spanned<Transaction>>,
    #[serde(default)]
    pub(super) gate: Vec<Spanned<Gate>>,
    #[serde(default)]
    pub(super) fault: Vec<Spanned<Fault>>,
    pub(super) settings: Field,
    /// A table of node settings, by the node's name.
    pub(super) node: Field,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table `[topology]`")]
pub(super) struct Topology {
    pub(super) standbys: Field,
    pub(super) subscribers: Field,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table `[load]`")]
pub(super) struct Load {
    pub(super) rate: Field,
    pub(super) arrivals: Field,
    pub(super) client: Field,
    pub(super) priority: Field,
    pub(super) connections: Field,
    pub(super) threads: Field,
    pub(super) max_in_flight: Field,
    pub(super) transaction_deadline: Field,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table `[phases]`")]
pub(super) struct Phases {
    pub(super) warmup: Field,
    pub(super) duration: Field,
    pub(super) count: Field,
    pub(super) drain: Field,
    pub(super) repeats: Field,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table `[probes]`")]
pub(super) struct Probes {
    pub(super) visibility: Field,
    pub(super) tick: Field,
    pub(super) lag_interval: Field,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table `[expect]`")]
pub(super) struct Expect {
    pub(super) failures: Field,
    pub(super) overload: Field,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table `[[table]]`")]
pub(super) struct Table {
    pub(super) kind: Field,
    pub(super) name: Field,
    pub(super) ddl: Field,
    pub(super) key: Field,
    pub(super) version: Field,
    pub(super) rows: Field,
    pub(super) fill: Field,
    pub(super) row_bytes: Field,
    pub(super) audit: Field,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table `[[transaction]]`")]
pub(super) struct Transaction {
    pub(super) kind: Field,
    pub(super) name: Field,
    pub(super) weight: Field,
    pub(super) keys: Field,
    pub(super) params: Field,
    pub(super) sql: Field,
}

/// The tables and transactions that come with replbench. A profile refers to each by its `kind`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Library {
    pub(super) table: Vec<Spanned<Table>>,
    pub(super) transaction: Vec<Spanned<Transaction>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table `[[gate]]`")]
pub(super) struct Gate {
    pub(super) name: Field,
    pub(super) metric: Field,
    pub(super) mode: Field,
    pub(super) node: Field,
    pub(super) max: Field,
    pub(super) min: Field,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table `[[fault]]`")]
pub(super) struct Fault {
    pub(super) kind: Field,
    pub(super) target: Field,
    pub(super) at: Field,
    #[serde(rename = "for")]
    pub(super) length: Field,
    pub(super) delay: Field,
    pub(super) jitter: Field,
    pub(super) bandwidth: Field,
}

/// The keys and values of a table, in the order in which they are written.
pub(super) type Entries = [(Spanned<String>, Spanned<Value>)];

/// A TOML value as it was written. There is no variant for dates: the toml crate gives dates no place in the file, and no key takes one.
#[derive(Debug)]
pub(super) enum Value {
    Text(String),
    Integer(i128),
    Float(f64),
    Boolean(bool),
    List(Vec<Spanned<Value>>),
    Table(Vec<(Spanned<String>, Spanned<Value>)>),
}

impl Value {
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The value as a number, if it is an integer or a float.
    pub(super) fn number(&self) -> Option<f64> {
        match self {
            Self::Integer(number) => Some(*number as f64),
            Self::Float(number) => Some(*number),
            _ => None,
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.into()))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Integer(value.into()))
    }

    fn visit_i128<E: Error>(self, value: i128) -> Result<Value, E> {
        Ok(Value::Integer(value))
    }

    fn visit_u128<E: Error>(self, value: u128) -> Result<Value, E> {
        Ok(Value::Integer(i128::try_from(value).unwrap_or(i128::MAX)))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Boolean(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut table = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            table.push(entry);
        }
        Ok(Value::Table(table))
    }
}
