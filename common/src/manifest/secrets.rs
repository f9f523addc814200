//! The secrets of a class: a list such as `secrets = ["API_KEY"]`, where each secret sets the variable of the same
//! name, or a table of variables and secrets.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use toml::de::DeValue;

use super::report::{Report, Value, kind};
use super::values;
use crate::ids::{IdError, SecretName, VariableName};
use crate::spec::{MAX_SECRETS, Secrets};

const EXPECTED: &str = "a list such as [\"API_KEY\"], or a table such as { KEY = \"API_KEY\" }";

/// Parses them. No variable may also be in `env`.
pub(super) fn read(report: &mut Report<'_>, value: &Value<'_>, env: Option<&Value<'_>>) -> Option<Secrets> {
    let named = match value.get_ref() {
        DeValue::Array(items) => items.iter().map(|item| alone(report, item)).collect(),
        DeValue::Table(table) => {
            let entry = |(variable, secret)| pair(report, variable, secret);
            table.iter().map(entry).collect::<Vec<_>>()
        }
        _ => {
            report.wrong(value.span().start, format!("found {}; expected {EXPECTED}", kind(value)));
            return None;
        }
    };
    let named: Vec<Named> = named.into_iter().collect::<Option<_>>()?;
    if named.len() > MAX_SECRETS {
        let message = format!("{} secrets; expected at most {MAX_SECRETS}", named.len());
        report.wrong(value.span().start, message);
        return None;
    }
    distinct(report, named, env)
}

/// One secret, the variable that it sets, and its offset in the file.
struct Named {
    variable: VariableName,
    secret: SecretName,
    at: usize,
}

fn alone(report: &mut Report<'_>, item: &Value<'_>) -> Option<Named> {
    let text = values::text(report, item, "each secret")?;
    let at = item.span().start;
    Some(Named { variable: name(report, text, at)?, secret: name(report, text, at)?, at })
}

fn pair(
    report: &mut Report<'_>,
    variable: &toml::Spanned<toml::de::DeString<'_>>,
    secret: &Value<'_>,
) -> Option<Named> {
    let at = variable.span().start;
    let variable = name(report, variable.get_ref(), at);
    let secret = values::text(report, secret, "the name of the secret")
        .and_then(|text| name(report, text, secret.span().start));
    Some(Named { variable: variable?, secret: secret?, at })
}

fn name<T: FromStr<Err = IdError>>(report: &mut Report<'_>, text: &str, at: usize) -> Option<T> {
    let wrong = |report: &mut Report<'_>, error: &dyn fmt::Display| {
        let expected = "a name of ASCII letters, digits and `_` that does not start with a digit";
        report.wrong(at, format!("{text:?} {error}; expected {expected}"));
    };
    text.parse().map_err(|error| wrong(report, &error)).ok()
}

fn distinct(report: &mut Report<'_>, named: Vec<Named>, env: Option<&Value<'_>>) -> Option<Secrets> {
    let env = env.and_then(|env| env.get_ref().as_table());
    let mut secrets = BTreeMap::new();
    let mut sound = true;
    for Named { variable, secret, at } in named {
        let fault = if env.is_some_and(|env| env.contains_key(variable.as_str())) {
            Some(format!("the variable {variable} is in env too; expected it in one of the two"))
        } else {
            let twice = secrets.insert(variable.clone(), secret).is_some();
            twice.then(|| format!("{variable} is there already; expected it once"))
        };
        sound &= fault.is_none();
        if let Some(fault) = fault {
            report.wrong(at, fault);
        }
    }
    sound.then_some(secrets)
}
