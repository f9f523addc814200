//! `berth apps info`: one app, with what its program is made of.

use std::collections::BTreeSet;
use std::time::SystemTime;

use anyhow::Result;
use berth_api::apps::AppView;
use berth_api::specs::ProgramView;
use berth_common::spec::StoredSecret;
use serde_json::Value;

use super::deployed;
use crate::args::AppInfo;
use crate::output;

/// Columns of a line's name, with the blanks behind it.
const NAME_COLUMNS: usize = 12;
/// Columns of what is behind it: a line has 80.
const VALUE_COLUMNS: usize = 80 - NAME_COLUMNS;

pub(crate) async fn show(args: &AppInfo) -> Result<()> {
    let admin = args.show.admin.edge()?;
    let answer: Value = admin.get(&format!("/v1/apps/{}", args.app.name()?)).await?;
    if args.show.json {
        return output::json(&answer);
    }
    let app: AppView = serde_json::from_value(answer)?;
    for line in lines(&app, SystemTime::now()).iter().flat_map(|(name, value)| folded(name, value)) {
        output::line(line)?;
    }
    Ok(())
}

/// A name and its value, on as many lines as that takes.
fn folded(name: &str, value: &str) -> Vec<String> {
    let mut rows = vec![String::new()];
    for word in value.split(' ').flat_map(pieces) {
        let row = rows.last().map_or(0, |row| row.chars().count());
        if row > 0 && row + 1 + word.chars().count() > VALUE_COLUMNS {
            rows.push(String::new());
        }
        let Some(row) = rows.last_mut() else { continue };
        if !row.is_empty() {
            row.push(' ');
        }
        row.push_str(&word);
    }
    let names = std::iter::once(name).chain(std::iter::repeat(""));
    names.zip(rows).map(|(name, row)| format!("{name:<NAME_COLUMNS$}{row}")).collect()
}

/// A word that may be longer than a line.
fn pieces(word: &str) -> Vec<String> {
    let letters: Vec<char> = word.chars().collect();
    letters.chunks(VALUE_COLUMNS).map(|piece| piece.iter().collect()).collect()
}

/// What is worth a line, with its name.
fn lines(app: &AppView, now: SystemTime) -> Vec<(&'static str, String)> {
    let mut lines = vec![
        ("app", app.name.to_string()),
        ("version", format!("{} ({})", app.version, deployed(app.created_ms, now))),
        ("containers", listed(app.spec.classes.keys())),
    ];
    if let Some(program) = &app.spec.program {
        lines.extend(of_program(program));
        lines.push((
            "memory",
            app.program_memory_bytes.map_or("-".to_owned(), |bytes| format!("{} MiB", bytes >> 20)),
        ));
    }
    lines
}

fn of_program(program: &ProgramView) -> [(&'static str, String); 7] {
    let objects = program.object_classes.keys();
    let compatibility =
        [program.compatibility_date.clone()].into_iter().chain(program.compatibility_flags.clone());
    [
        ("program", format!("{} ({} modules)", program.entry, program.modules.len())),
        ("handlers", listed(&program.handlers)),
        ("objects", listed(objects)),
        ("crons", listed(&program.crons)),
        ("compatible", listed(compatibility)),
        ("env", listed(in_env(program))),
        ("secrets", listed(secrets(program))),
    ]
}

/// The names in `env` but for those of secrets: variables, namespaces of objects, and the static files.
fn in_env(program: &ProgramView) -> BTreeSet<&String> {
    let named = program.vars.keys().chain(program.durable_objects.keys()).chain(&program.assets_binding);
    let secret = |name: &String| program.secrets.keys().any(|variable| variable.as_str() == name);
    named.filter(|name| !secret(name)).collect()
}

/// The names of secrets in `env`, each with its own where that is another, and with its store.
fn secrets(program: &ProgramView) -> BTreeSet<String> {
    let own = program.secrets.iter().map(|(variable, secret)| {
        if variable.as_str() == secret.as_str() { secret.to_string() } else { format!("{variable}={secret}") }
    });
    let stored = program.store_secrets.iter();
    own.chain(stored.map(|(binding, StoredSecret { store, name })| format!("{binding}={store}/{name}")))
        .collect()
}

/// Names on one line.
fn listed(names: impl IntoIterator<Item = impl ToString>) -> String {
    let names: Vec<String> = names.into_iter().map(|name| name.to_string()).collect();
    if names.is_empty() { "-".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_app_is_shown_with_its_program() {
        let app = json!({"name": "a", "version": 2, "created_ms": 0, "program_memory_bytes": 9 << 20, "spec": {
            "name": "a", "classes": {}, "routes": [], "program": {
                "entry": "index.js", "modules": [{"name": "index.js", "digest": format!("sha256:{}", "0".repeat(64))}],
                "compatibility_date": "2026-01-31", "handlers": ["fetch", "scheduled"], "object_classes": {"Room": "Room"},
                "vars": {"X": {"text": ""}, "KEY": {"text": ""}}, "secrets": {"KEY": "KEY", "OTHER": "KEY"},
                "store_secrets": {"SHARED": {"store": "shop", "name": "API_KEY"}},
                "durable_objects": {"ROOMS": "Room"}, "assets_binding": "ASSETS",
        }}});
        let app: AppView = serde_json::from_value(app).unwrap();
        let shown: Vec<String> =
            lines(&app, SystemTime::now()).iter().map(|(name, value)| format!("{name}: {value}")).collect();
        let expected = [
            "app: a",
            "version: 2 (-)",
            "containers: -",
            "program: index.js (1 modules)",
            "handlers: fetch, scheduled",
            "objects: Room",
            "crons: -",
            "compatible: 2026-01-31",
            "env: ASSETS, ROOMS, X",
            "secrets: KEY, OTHER=KEY, SHARED=shop/API_KEY",
            "memory: 9 MiB",
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn long_lines_are_folded_and_lose_nothing() {
        let names: Vec<String> = (0..30).map(|number| format!("A_VARIABLE_{number}")).collect();
        for value in [listed(&names), "x".repeat(300), format!("short, {}", "y".repeat(69)), String::new()] {
            let lines = folded("env", &value);
            assert!(lines.iter().all(|line| line.chars().count() <= 80), "{lines:?}");
            assert!(lines[0].starts_with("env  ") && lines[1..].iter().all(|line| line.starts_with("     ")));
            let told: String = lines.iter().map(|line| &line[NAME_COLUMNS..]).collect();
            assert_eq!(told.replace(' ', ""), value.replace(' ', ""));
        }
        assert_eq!(folded("env", "X, Y"), ["env         X, Y"]);
    }
}
