//! From a configuration's text to values with offsets: JSON with comments as wrangler reads it, and TOML. Bounded in size
//! and depth.

use std::collections::HashMap;

use jsonc_parser::common::Ranged;
use jsonc_parser::{CollectOptions, ParseOptions, ast, parse_to_ast};
use toml::de::{DeInteger, DeTable, DeValue};

use crate::report::{Report, Source, named};
use crate::value::{Entry, Node, Table, Value};

/// Longest configuration, in bytes: real ones have a few thousand.
pub(super) const MAX_BYTES: usize = 1 << 20;
/// Deepest nesting of values. Below what either parser allows.
const MAX_DEPTH: usize = 64;

/// The language of a configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Language {
    Json,
    Toml,
}

/// The table that the file is. None if there is no telling what else it means; then there is a problem in the report.
pub(super) fn parse(report: &mut Report, source: &Source, language: Language) -> Option<Table> {
    match language {
        Language::Json => json(report, source),
        Language::Toml => toml(report, source),
    }
}

/// A value that cannot be represented: its offset, and why.
type Fault = (usize, String);

fn json(report: &mut Report, source: &Source) -> Option<Table> {
    // A byte order mark is no blank to the parser. The offsets stay those of the file.
    let skipped = source.text.len() - source.text.trim_start_matches('\u{feff}').len();
    let options = ParseOptions {
        allow_comments: true,
        allow_trailing_commas: true,
        allow_loose_object_property_names: false,
        allow_missing_commas: false,
        allow_single_quoted_strings: false,
        allow_hexadecimal_numbers: false,
        allow_unary_plus_numbers: false,
        allow_bare_decimal_point_numbers: false,
        allow_non_finite_numbers: false,
        allow_extended_string_escapes: false,
    };
    let parsed = match parse_to_ast(&source.text[skipped..], &CollectOptions::default(), &options) {
        Ok(parsed) => parsed.value,
        Err(error) => {
            let message =
                format!("cannot be read as JSON with comments: {}", lower_first(&error.kind().to_string()));
            report.wrong(source, skipped + error.range().start, message);
            return None;
        }
    };
    let mut reading = Reading { report, source, skipped };
    match parsed.map(|value| reading.json_node(&value, 0)) {
        Some(Ok(Node { value: Value::Table(table), .. })) => Some(table),
        Some(Ok(other)) => {
            report.wrong(source, other.at, format!("found {}; expected an object in braces", other.kind()));
            None
        }
        Some(Err((at, message))) => {
            report.wrong(source, at, message);
            None
        }
        None => {
            report.wrong(
                source,
                0,
                "is empty; expected an object such as { \"name\": \"hello\", \"main\": \"src/index.ts\" }",
            );
            None
        }
    }
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

struct Reading<'r> {
    report: &'r mut Report,
    source: &'r Source,
    skipped: usize,
}

impl Reading<'_> {
    fn json_node(&mut self, value: &ast::Value<'_>, depth: usize) -> Result<Node, Fault> {
        let at = self.skipped + value.range().start;
        if depth > MAX_DEPTH {
            return Err(too_deep(at));
        }
        let value = match value {
            ast::Value::NullKeyword(_) => Value::Null,
            ast::Value::BooleanLit(literal) => Value::Boolean(literal.value),
            ast::Value::StringLit(literal) => Value::Text(literal.value.to_string()),
            ast::Value::NumberLit(literal) => Value::Number(number(literal.value, at)?),
            ast::Value::Array(array) => {
                let items = array.elements.iter().map(|item| self.json_node(item, depth + 1));
                Value::List(items.collect::<Result<_, _>>()?)
            }
            ast::Value::Object(object) => Value::Table(self.json_table(object, depth)?),
        };
        Ok(Node { at, value })
    }

    fn json_table(&mut self, object: &ast::Object<'_>, depth: usize) -> Result<Table, Fault> {
        let mut table = Table::default();
        let mut places: HashMap<&str, usize> = HashMap::new();
        for property in &object.properties {
            let (key, at) = (property.name.as_str(), self.skipped + property.name.range().start);
            let entry = Entry { key: key.to_owned(), at, node: self.json_node(&property.value, depth + 1)? };
            match places.get(key) {
                Some(place) => {
                    let message = format!("{} is there twice; the last one counts", named(key));
                    self.report.warn(self.source, at, message);
                    table.entries[*place] = entry;
                }
                None => {
                    places.insert(key, table.entries.len());
                    table.entries.push(entry);
                }
            }
        }
        Ok(table)
    }
}

fn too_deep(at: usize) -> Fault {
    (at, format!("is nested too deeply; expected at most {MAX_DEPTH} levels"))
}

fn number(text: &str, at: usize) -> Result<serde_json::Number, Fault> {
    serde_json::from_str(text).map_err(|_| (at, format!("{text} is too large for a number")))
}

fn toml(report: &mut Report, source: &Source) -> Option<Table> {
    let (parsed, errors) = DeTable::parse_recoverable(&source.text);
    for error in &errors {
        let at = error.span().map_or(0, |span| span.start);
        report.wrong(source, at, format!("cannot be read as TOML: {}", error.message().replace('\n', "; ")));
    }
    if !errors.is_empty() {
        return None;
    }
    match toml_table(parsed.get_ref(), 0) {
        Ok(table) => Some(table),
        Err((at, message)) => {
            report.wrong(source, at, message);
            None
        }
    }
}

fn toml_table(table: &DeTable<'_>, depth: usize) -> Result<Table, Fault> {
    let mut entries = Vec::with_capacity(table.len());
    for (key, value) in table {
        let (name, at) = (key.get_ref().to_string(), key.span().start);
        entries.push(Entry { key: name, at, node: toml_node(value, depth + 1)? });
    }
    // The parser's tables are sorted by key.
    entries.sort_by_key(|entry| entry.at);
    Ok(Table { entries })
}

fn toml_node(value: &toml::Spanned<DeValue<'_>>, depth: usize) -> Result<Node, Fault> {
    let at = value.span().start;
    if depth > MAX_DEPTH {
        return Err(too_deep(at));
    }
    let value = match value.get_ref() {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Boolean(value) => Value::Boolean(*value),
        DeValue::Integer(integer) => Value::Number(number(&decimal(integer, at)?, at)?),
        DeValue::Float(float) => Value::Number(number(&finite(float.as_str(), at)?, at)?),
        // As wrangler's own examples have it, dates are quoted; one that is not can only be meant the same.
        DeValue::Datetime(date) => Value::Text(date.to_string()),
        DeValue::Array(items) => {
            Value::List(items.iter().map(|item| toml_node(item, depth + 1)).collect::<Result<_, _>>()?)
        }
        DeValue::Table(table) => Value::Table(toml_table(table, depth)?),
    };
    Ok(Node { at, value })
}

fn decimal(integer: &DeInteger<'_>, at: usize) -> Result<String, Fault> {
    let whole = i64::from_str_radix(integer.as_str(), integer.radix());
    whole
        .map(|whole| whole.to_string())
        .map_err(|_| (at, format!("{} is too large for a number", integer.as_str())))
}

fn finite(text: &str, at: usize) -> Result<String, Fault> {
    let value: Option<f64> = text.parse().ok().filter(|value: &f64| value.is_finite());
    value
        .map(|value| format!("{value:?}"))
        .ok_or_else(|| (at, format!("{text} is not a number that JSON has")))
}
