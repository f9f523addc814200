//! `berth apps info`: one app, with what its program is made of.

use std::time::SystemTime;

use anyhow::Result;
use berth_api::apps::AppView;
use berth_api::specs::ProgramView;
use serde_json::Value;

use super::deployed;
use crate::args::AppInfo;
use crate::output;

pub(crate) async fn show(args: &AppInfo) -> Result<()> {
    let admin = args.show.admin.edge()?;
    let answer: Value = admin.get(&format!("/v1/apps/{}", args.app.name()?)).await?;
    if args.show.json {
        return output::json(&answer);
    }
    let app: AppView = serde_json::from_value(answer)?;
    for (name, value) in lines(&app, SystemTime::now()) {
        output::line(format_args!("{name:<12}{value}"))?;
    }
    Ok(())
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

fn of_program(program: &ProgramView) -> [(&'static str, String); 6] {
    let objects = program.object_classes.keys();
    let compatibility =
        [program.compatibility_date.clone()].into_iter().chain(program.compatibility_flags.clone());
    [
        ("program", format!("{} ({} modules)", program.entry, program.modules.len())),
        ("handlers", listed(&program.handlers)),
        ("objects", listed(objects)),
        ("crons", listed(&program.crons)),
        ("compatible", listed(compatibility)),
        ("env", listed(program.vars.keys().cloned().chain(program.secrets.keys().map(ToString::to_string)))),
    ]
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
                "vars": {"X": {"text": ""}},
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
            "env: X",
            "memory: 9 MiB",
        ];
        assert_eq!(shown, expected);
    }
}
