//! The functions of numbers that SQLite has only where it is built with them. What is no number, or has no result, gives NULL.

use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, Result};

type OfOne = fn(f64) -> f64;
type OfTwo = fn(f64, f64) -> f64;

/// Functions of one number.
const ONE: [(&str, OfOne); 20] = [
    ("acos", f64::acos),
    ("acosh", f64::acosh),
    ("asin", f64::asin),
    ("asinh", f64::asinh),
    ("atan", f64::atan),
    ("atanh", f64::atanh),
    ("cos", f64::cos),
    ("cosh", f64::cosh),
    ("degrees", f64::to_degrees),
    ("exp", f64::exp),
    ("ln", logarithm),
    ("log", decadic),
    ("log10", decadic),
    ("log2", binary),
    ("radians", f64::to_radians),
    ("sin", f64::sin),
    ("sinh", f64::sinh),
    ("sqrt", f64::sqrt),
    ("tan", f64::tan),
    ("tanh", f64::tanh),
];
/// Those that leave integers as they are.
const ROUNDING: [(&str, OfOne); 4] =
    [("ceil", f64::ceil), ("ceiling", f64::ceil), ("floor", f64::floor), ("trunc", f64::trunc)];
/// Functions of two numbers.
const TWO: [(&str, OfTwo); 5] =
    [("atan2", f64::atan2), ("log", based), ("mod", |a, b| a % b), ("pow", f64::powf), ("power", f64::powf)];

/// Adds them.
pub(super) fn give(connection: &Connection) -> Result<()> {
    let flags =
        FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_INNOCUOUS | FunctionFlags::SQLITE_DETERMINISTIC;
    for (name, function) in ONE {
        connection.create_scalar_function(name, 1, flags, move |context| {
            Ok(number(context, 0).and_then(|value| result(function(value))))
        })?;
    }
    for (name, function) in ROUNDING {
        connection.create_scalar_function(name, 1, flags, move |context| {
            if let ValueRef::Integer(whole) = context.get_raw(0) {
                return Ok(Value::Integer(whole));
            }
            let rounded = number(context, 0).and_then(|value| result(function(value)));
            Ok(rounded.map_or(Value::Null, Value::Real))
        })?;
    }
    for (name, function) in TWO {
        connection.create_scalar_function(name, 2, flags, move |context| {
            let both = number(context, 0).zip(number(context, 1));
            Ok(both.and_then(|(one, other)| result(function(one, other))))
        })?;
    }
    connection.create_scalar_function("pi", 0, flags, |_| Ok(std::f64::consts::PI))
}

/// An argument as a number, which a text may be.
#[expect(clippy::cast_precision_loss, reason = "as SQLite does")]
fn number(context: &Context<'_>, index: usize) -> Option<f64> {
    match context.get_raw(index) {
        ValueRef::Integer(whole) => Some(whole as f64),
        ValueRef::Real(real) => Some(real),
        ValueRef::Text(text) => std::str::from_utf8(text).ok()?.trim().parse().ok(),
        ValueRef::Null | ValueRef::Blob(_) => None,
    }
}

fn result(value: f64) -> Option<f64> {
    (!value.is_nan()).then_some(value)
}

/// Of what has no logarithm there is none.
fn logarithm(value: f64) -> f64 {
    if value > 0.0 { value.ln() } else { f64::NAN }
}

fn decadic(value: f64) -> f64 {
    if value > 0.0 { value.log10() } else { f64::NAN }
}

fn binary(value: f64) -> f64 {
    if value > 0.0 { value.log2() } else { f64::NAN }
}

fn based(base: f64, value: f64) -> f64 {
    let below = logarithm(base);
    if below > 0.0 { logarithm(value) / below } else { f64::NAN }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_give_what_sqlite_gives_where_it_has_them() {
        let connection = Connection::open_in_memory().unwrap();
        give(&connection).unwrap();
        let text = |sql: &str| -> String {
            connection.query_row(&format!("SELECT quote({sql})"), (), |row| row.get(0)).unwrap()
        };
        for (sql, expected) in [
            ("sqrt(4)", "2.0"),
            ("sqrt('4')", "2.0"),
            ("sqrt(-1)", "NULL"),
            ("sqrt('x')", "NULL"),
            ("sqrt(NULL)", "NULL"),
            ("ln(0)", "NULL"),
            ("log(100)", "2.0"),
            ("log(2, 8)", "3.0"),
            ("log(1, 3)", "NULL"),
            ("pow(2, 3)", "8.0"),
            ("mod(7, 3)", "1.0"),
            ("mod(7, 0)", "NULL"),
            ("typeof(ceil(2))", "'integer'"),
            ("ceil(1.5)", "2.0"),
            ("trunc(-1.5)", "-1.0"),
            ("degrees(pi())", "180.0"),
        ] {
            assert_eq!(text(sql), expected, "{sql}");
        }
    }
}
