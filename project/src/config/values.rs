//! Keys with plain values: name, entry module, variables, secrets, crons, limits.

use std::collections::{BTreeMap, HashMap};
use std::path::{Component, Path, PathBuf};

use berth_common::cron::Cron;
use berth_common::ids::{AppName, SecretName, StoreName, VariableName};
use berth_common::spec::{MAX_CRONS, MAX_ENV_BYTES, MAX_SECRETS};

use super::Main;
use super::environment::{Found, View};
use super::section::Reading;
use crate::report::{named, quoted};
use crate::value::{Node, Value};

/// Most variables.
const MAX_VARS: usize = 4096;
/// Longest CPU time of one event that can be asked for, in milliseconds: the reference's bound.
const MAX_CPU_MS: u64 = 300_000;
/// Most subrequests of one event that can be asked for: the reference's bound.
const MAX_SUBREQUESTS: u64 = 10_000_000;

const NAME_RULE: &str = "expected up to 63 letters, digits, `-`, `_` and `.`, the first a letter or digit";
const VARIABLE_RULE: &str = "expected ASCII letters, digits and `_`, the first no digit";

/// A variable's value.
#[derive(Clone, PartialEq)]
pub enum Var {
    /// A text.
    Text(String),
    /// Anything else that JSON has.
    Json(serde_json::Value),
}

/// Leaves the value out: it may be a secret.
impl std::fmt::Debug for Var {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if matches!(self, Self::Text(_)) { "Text(…)" } else { "Json(…)" })
    }
}

/// A secret of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreSecret {
    /// Its name in `env`.
    pub binding: String,
    /// The store.
    pub store: StoreName,
    /// Its name there.
    pub secret: SecretName,
}

/// What one event may use. None is the default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// CPU time, in milliseconds.
    pub cpu_ms: Option<u64>,
    /// Requests to others.
    pub subrequests: Option<u64>,
}

/// The names in `env`, each of which can be there once.
#[derive(Default)]
pub(super) struct Names(HashMap<String, String>);

impl Names {
    /// Takes a name, if it can be one and is free.
    pub(super) fn take(&mut self, reading: &mut Reading<'_>, name: &str, at: usize, path: &str) -> bool {
        if name.is_empty() || name.contains('\0') {
            reading.wrong(
                at,
                format!("{path}: {} cannot be a name in `env`; expected an identifier", quoted(name)),
            );
            return false;
        }
        if let Some(other) = self.0.get(name) {
            reading.wrong(
                at,
                format!("{path}: {} is a name in `env` already, by {other}; expected another", named(name)),
            );
            return false;
        }
        self.0.insert(name.to_owned(), path.to_owned());
        true
    }
}

/// The app's name: in an environment the environment's own, or both.
pub(super) fn name(reading: &mut Reading<'_>, view: &View<'_>) -> Option<AppName> {
    let Some(Found { node, path }) = view.given("name") else {
        reading.wrong(view.at(), "name is missing; expected the app's name, such as \"hello\"");
        return None;
    };
    let text = reading.text(node, &path)?;
    let full = match view.environment {
        Some(environment) if view.own("name").is_none() => format!("{text}-{environment}"),
        _ => text.to_owned(),
    };
    full.parse()
        .map_err(|error| reading.wrong(node.at, format!("{path}: {} {error}; {NAME_RULE}", quoted(&full))))
        .ok()
}

pub(super) fn main(reading: &mut Reading<'_>, view: &View<'_>) -> Option<Main> {
    let Found { node, path } = view.given("main")?;
    let text = reading.text(node, &path)?;
    let relative = relative_path(reading, text, node.at, &path)?;
    if relative.extension().is_some_and(|extension| extension == "py") {
        reading.wrong(
            node.at,
            format!("{path}: Python cannot be run; expected a JavaScript or TypeScript module"),
        );
        return None;
    }
    Some(Main { path: relative, position: reading.source.position(node.at) })
}

/// A path from the project's directory, without `.`.
pub(super) fn relative_path(reading: &mut Reading<'_>, text: &str, at: usize, path: &str) -> Option<PathBuf> {
    let given = Path::new(text);
    let clean: PathBuf = given.components().filter(|part| *part != Component::CurDir).collect();
    if given.is_absolute() || text.is_empty() || text.contains('\0') {
        let expected = "expected a path from the configuration's directory";
        reading.wrong(at, format!("{path}: {} cannot be used; {expected}", quoted(text)));
        return None;
    }
    Some(clean)
}

pub(super) fn vars(reading: &mut Reading<'_>, view: &View<'_>, names: &mut Names) -> BTreeMap<String, Var> {
    let mut vars = BTreeMap::new();
    let Some(Found { node, path }) = view.given("vars") else { return vars };
    let Some(section) = reading.section(node, &path) else { return vars };
    if section.table.entries.len() > MAX_VARS {
        reading.wrong(
            node.at,
            format!("{path} has {} entries; expected at most {MAX_VARS}", section.table.entries.len()),
        );
        return vars;
    }
    let mut bytes = 0;
    for entry in &section.table.entries {
        let value = match &entry.node.value {
            Value::Text(text) => Var::Text(text.clone()),
            _ => Var::Json(entry.node.to_json()),
        };
        bytes += entry.key.len() + length(&value);
        if names.take(reading, &entry.key, entry.at, &path) {
            vars.insert(entry.key.clone(), value);
        }
    }
    if bytes > MAX_ENV_BYTES {
        let message =
            format!("{path} takes {bytes} bytes; expected at most {MAX_ENV_BYTES} for all names and values");
        reading.wrong(node.at, message);
    }
    vars
}

fn length(value: &Var) -> usize {
    match value {
        Var::Text(text) => text.len(),
        Var::Json(json) => json.to_string().len(),
    }
}

pub(super) fn secrets(reading: &mut Reading<'_>, view: &View<'_>, names: &mut Names) -> Vec<VariableName> {
    let Some(Found { node, path }) = view.given("secrets") else { return Vec::new() };
    let Some(section) = reading.section(node, &path) else { return Vec::new() };
    reading.unknown_keys(&section, &["required"]);
    let Some(required) = section.get("required") else { return Vec::new() };
    let path = section.key("required");
    let items = reading.list(required, &path, MAX_SECRETS).iter();
    let mut taken = Vec::new();
    for item in items {
        let name: Option<VariableName> = reading.parsed(item, &path, VARIABLE_RULE);
        taken.extend(name.filter(|name| names.take(reading, name.as_str(), item.at, &path)));
    }
    taken
}

pub(super) fn store_secrets(
    reading: &mut Reading<'_>,
    view: &View<'_>,
    names: &mut Names,
) -> Vec<StoreSecret> {
    let Some(Found { node, path }) = view.given("secrets_store_secrets") else { return Vec::new() };
    let sections = reading.sections(node, &path, MAX_SECRETS);
    let mut secrets = Vec::new();
    for section in sections {
        reading.unknown_keys(&section, &["binding", "store_id", "secret_name"]);
        let binding: Option<&Node> =
            reading.required(&section, "binding", "a name in `env`, such as binding = \"KEY\"");
        let binding = binding.and_then(|node| {
            let text = reading.text(node, &section.key("binding"))?.to_owned();
            Some((text, node.at))
        });
        let store: Option<&Node> = reading.required(&section, "store_id", "the store's name");
        let store = store.and_then(|node| reading.parsed(node, &section.key("store_id"), NAME_RULE));
        let secret: Option<&Node> =
            reading.required(&section, "secret_name", "the secret's name in the store");
        let secret = secret.and_then(|node| reading.parsed(node, &section.key("secret_name"), VARIABLE_RULE));
        if let (Some((binding, at)), Some(store), Some(secret)) = (binding, store, secret)
            && names.take(reading, &binding, at, &section.key("binding"))
        {
            secrets.push(StoreSecret { binding, store, secret });
        }
    }
    secrets
}

pub(super) fn crons(reading: &mut Reading<'_>, view: &View<'_>) -> Vec<Cron> {
    let Some(Found { node, path }) = view.given("triggers") else { return Vec::new() };
    let Some(section) = reading.section(node, &path) else { return Vec::new() };
    reading.unknown_keys(&section, &["crons"]);
    let Some(crons) = section.get("crons").filter(|node| node.value != Value::Null) else {
        return Vec::new();
    };
    let path = section.key("crons");
    let items = reading.list(crons, &path, MAX_CRONS).iter();
    let mut found: Vec<Cron> = Vec::new();
    for item in items {
        let Some(text) = reading.text(item, &path) else { continue };
        match Cron::new(text) {
            Ok(cron) if found.iter().any(|other| other.as_str() == cron.as_str()) => {
                reading.warn(item.at, format!("{path}: {} is there twice; it runs once", quoted(text)));
            }
            Ok(cron) => found.push(cron),
            Err(error) => reading.wrong(item.at, format!("{path}: {} {error}", quoted(text))),
        }
    }
    found
}

pub(super) fn limits(reading: &mut Reading<'_>, view: &View<'_>) -> Limits {
    let Some(Found { node, path }) = view.given("limits") else { return Limits::default() };
    let Some(section) = reading.section(node, &path) else { return Limits::default() };
    reading.unknown_keys(&section, &["cpu_ms", "subrequests"]);
    let mut number = |key: &str, most| {
        let node = section.get(key)?;
        reading.whole(node, &section.key(key), 1..=most)
    };
    Limits { cpu_ms: number("cpu_ms", MAX_CPU_MS), subrequests: number("subrequests", MAX_SUBREQUESTS) }
}

pub(super) fn observability(reading: &mut Reading<'_>, view: &View<'_>) -> bool {
    let Some(Found { node, path }) = view.given("observability") else { return true };
    let Some(section) = reading.section(node, &path) else { return true };
    reading.unknown_keys(&section, &["enabled", "head_sampling_rate", "logs", "traces"]);
    let enabled = section.get("enabled").and_then(|node| reading.boolean(node, &section.key("enabled")));
    enabled.unwrap_or(true)
}

pub(super) fn dev(reading: &mut Reading<'_>, view: &View<'_>) -> (Option<String>, Option<u16>) {
    let Some(Found { node, path }) = view.given("dev") else { return (None, None) };
    let Some(section) = reading.section(node, &path) else { return (None, None) };
    let ip = section.get("ip").and_then(|node| reading.text(node, &section.key("ip"))).map(str::to_owned);
    let port = section.get("port").and_then(|node| reading.whole(node, &section.key("port"), 0..=65_535));
    (ip, port.and_then(|port| u16::try_from(port).ok()))
}
