//! Reads the generators of parameters: where a profile says that a parameter's values come from.

use toml::Spanned;

use super::diagnostics::{self, Diagnostics, Refusal};
use super::error::suggestion;
use super::wire::Value;
use super::workload::{Constant, Generator, KeyChoice, Parameter};

/// The names of all generators.
const NAMES: [&str; 9] = [
    "uniform", "zipf", "integer", "decimal", "words", "person", "email", "uuid", "value",
];

/// The parameters of a transaction, in the order in which they are written; `tables` are the ids of the profile's tables.
pub(super) fn parameters(
    diagnostics: &mut Diagnostics,
    written: &Spanned<Value>,
    tables: &[&str],
) -> Vec<Parameter> {
    const EXPECTED: &str =
        "a table of generators, such as { id = { uniform = \"users\" }, name = \"person\" }";
    let Some(entries) = diagnostics.value("`params`", written, diagnostics::table(EXPECTED)) else {
        return Vec::new();
    };
    let mut parameters = Vec::with_capacity(entries.len());
    for (name, value) in entries {
        // A refused parameter is kept with a placeholder generator, so that statements that name it are not refused as well.
        let generator = generator(diagnostics, value, tables);
        parameters.push(Parameter {
            name: name.get_ref().clone(),
            generator: generator.unwrap_or(Generator::Uuid),
        });
    }
    parameters
}

/// Whether any parameter chooses among the rows of this table.
pub(super) fn chooses_from(params: &Value, table: &str) -> bool {
    let Value::Table(entries) = params else {
        return false;
    };
    entries.iter().any(|(_, value)| match value.get_ref() {
        Value::Table(keys) => keys.iter().any(|(key, value)| {
            let is_table = value.get_ref().text() == Some(table);
            is_table && ["uniform", "of"].contains(&key.get_ref().as_str())
        }),
        _ => false,
    })
}

fn generator(
    diagnostics: &mut Diagnostics,
    written: &Spanned<Value>,
    tables: &[&str],
) -> Option<Generator> {
    const EXPECTED: &str = "a generator, such as \"person\" or { integer = [1, 100] }";
    match written.get_ref() {
        Value::Text(name) => match name.as_str() {
            "words" => Some(Generator::Words(None)),
            "person" => Some(Generator::Person(None)),
            "email" => Some(Generator::Email),
            "uuid" => Some(Generator::Uuid),
            _ => unknown(diagnostics, written, name),
        },
        Value::Table(entries) => {
            let of = entries.iter().find(|(key, _)| key.get_ref() == "of");
            let mut others = entries.iter().filter(|(key, _)| key.get_ref() != "of");
            let Some((name, value)) = others.next() else {
                return diagnostics.value("a parameter", written, |_| Err(Refusal::new(EXPECTED)));
            };
            let of_other = of.filter(|_| name.get_ref() != "zipf");
            if let Some((extra, _)) = others.next().or(of_other) {
                let title = format!(
                    "`{}` does not belong to generator `{}`",
                    extra.get_ref(),
                    name.get_ref()
                );
                diagnostics.refuse(extra.span(), title, "leave it out");
                return None;
            }
            match name.get_ref().as_str() {
                "uniform" => Some(Generator::Row {
                    table: diagnostics.value("`uniform`", value, |it| table(it, tables))?,
                    choice: KeyChoice::Uniform,
                }),
                "zipf" => {
                    let exponent = diagnostics.value("`zipf`", value, diagnostics::exponent)?;
                    let Some((_, of)) = of else {
                        let help = "name the table whose rows are chosen, as in { zipf = 1.1, of = \"users\" }";
                        diagnostics.refuse(written.span(), "`of` is missing here".into(), help);
                        return None;
                    };
                    Some(Generator::Row {
                        table: diagnostics.value("`of`", of, |it| table(it, tables))?,
                        choice: KeyChoice::Zipf(exponent),
                    })
                }
                "integer" => {
                    let (least, most) = diagnostics.value("`integer`", value, integers)?;
                    Some(Generator::Integer { least, most })
                }
                "decimal" => {
                    let (least, most) = diagnostics.value("`decimal`", value, hundredths)?;
                    Some(Generator::Decimal { least, most })
                }
                "words" => Some(Generator::Words(Some(width(
                    diagnostics,
                    "`words`",
                    value,
                )?))),
                "person" => Some(Generator::Person(Some(width(
                    diagnostics,
                    "`person`",
                    value,
                )?))),
                "value" => Some(Generator::Value(
                    diagnostics.value("`value`", value, constant)?,
                )),
                other => unknown(diagnostics, name, other),
            }
        }
        _ => diagnostics.value("a parameter", written, |_| Err(Refusal::new(EXPECTED))),
    }
}

fn unknown<T>(diagnostics: &mut Diagnostics, at: &Spanned<T>, name: &str) -> Option<Generator> {
    let help = suggestion(name, &NAMES, "generators");
    diagnostics.refuse(at.span(), format!("unknown generator `{name}`"), &help);
    None
}

fn table(value: &Value, tables: &[&str]) -> Result<usize, Refusal> {
    diagnostics::word_index(tables)(value)
}

fn width(diagnostics: &mut Diagnostics, subject: &str, value: &Spanned<Value>) -> Option<u32> {
    diagnostics.value(subject, value, diagnostics::integer(1..=1_048_576))
}

fn integers(value: &Value) -> Result<(i64, i64), Refusal> {
    let number = |value: &Value| match value {
        Value::Integer(number) => i64::try_from(*number).ok(),
        _ => None,
    };
    bounds(value, number)
        .ok_or_else(|| Refusal::new("two integers, such as [1, 100], the smaller first"))
}

#[allow(
    clippy::cast_possible_truncation,
    reason = "within bounds that a double holds exactly"
)]
fn hundredths(value: &Value) -> Result<(i64, i64), Refusal> {
    const MOST: f64 = 1e12;
    let number = |value: &Value| {
        let number = value.number().filter(|number| number.abs() <= MOST);
        number.map(|number| (number * 100.0).round() as i64)
    };
    bounds(value, number)
        .ok_or_else(|| Refusal::new("two numbers, such as [0.99, 99.99], the smaller first"))
}

fn bounds(value: &Value, number: impl Fn(&Value) -> Option<i64>) -> Option<(i64, i64)> {
    let Value::List(items) = value else {
        return None;
    };
    let [least, most] = items.as_slice() else {
        return None;
    };
    let bounds = (number(least.get_ref())?, number(most.get_ref())?);
    (bounds.0 <= bounds.1).then_some(bounds)
}

fn constant(value: &Value) -> Result<Constant, Refusal> {
    match value {
        Value::Boolean(value) => Ok(Constant::Boolean(*value)),
        Value::Float(value) => Ok(Constant::Float(*value)),
        Value::Text(text) if !text.contains('\0') => Ok(Constant::Text(text.clone())),
        Value::Integer(value) => i64::try_from(*value)
            .map(Constant::Integer)
            .map_err(|_| Refusal::new("an integer of 64 bits")),
        _ => Err(Refusal::new("a number, true, false or a text")),
    }
}
