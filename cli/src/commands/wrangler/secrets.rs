//! `wrangler secret`: the secrets of the project's app. `wrangler secrets-store`: those of stores.

use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use berth_common::ids::{AppName, SecretName};
use berth_common::secret::Secret;
use berth_common::spec::{MAX_SECRET_BYTES, MAX_SECRETS};
use serde_json::{Value, json};

use super::{Project, not_there};
use crate::admin::Admin;
use crate::args::{
    HeldBy, OfWorker, OneSecret, StoreRest, WranglerSecret, WranglerSecretsStore, WranglerStored,
    WranglerStores,
};
use crate::commands::secret::{self, Holder};
use crate::failure::bad_input;
use crate::output;
use crate::worker::{self, FileVariable, NAME_RULE};

/// Most bytes of all secrets that are put at once: as many as an app may have, each as long as it may be.
const MAX_BULK_BYTES: u64 = (MAX_SECRETS * MAX_SECRET_BYTES) as u64;

pub(super) async fn run(project: &Project, command: WranglerSecret) -> Result<()> {
    match command {
        WranglerSecret::Put { name, of } => secret::put(&one(project, name, of)?, None, false).await,
        WranglerSecret::Delete { name, of } => secret::delete(&one(project, name, of)?, false).await,
        WranglerSecret::List { format, of } => list(project, &of, &format).await,
        WranglerSecret::Bulk { file, of } => bulk(project, &of, file.as_deref()).await,
    }
}

/// The secrets of stores. They are the edge's, whatever is said of where they are to be.
pub(super) async fn run_stores(command: WranglerSecretsStore) -> Result<()> {
    match command {
        WranglerSecretsStore::Store(WranglerStores::List { rest, show }) => {
            refuse_value(&rest)?;
            secret::stores(&show).await
        }
        WranglerSecretsStore::Store(WranglerStores::Other(words)) => {
            Err(not_there("secrets-store store ", &words))
        }
        WranglerSecretsStore::Secret(command) => stored(command).await,
        WranglerSecretsStore::Other(words) => Err(not_there("secrets-store ", &words)),
    }
}

async fn stored(command: WranglerStored) -> Result<()> {
    let of_store = |store, name, admin| {
        let of = HeldBy { app: None, store: Some(store) };
        OneSecret { name, of, admin }
    };
    match command {
        WranglerStored::Create { store, name, rest, admin } => {
            refuse_value(&rest)?;
            secret::put(&of_store(store, name, admin), None, false).await
        }
        WranglerStored::List { store, rest, show } => {
            refuse_value(&rest)?;
            secret::list(&Holder::Store(store), &show).await
        }
        WranglerStored::Delete { store, secret_id, rest, admin } => {
            refuse_value(&rest)?;
            secret::delete(&of_store(store, secret_id, admin), false).await
        }
        WranglerStored::Other(words) => Err(not_there("secrets-store secret ", &words)),
    }
}

fn refuse_value(rest: &StoreRest) -> Result<()> {
    if !rest.has_value {
        return Ok(());
    }
    Err(bad_input(anyhow!(
        "--value: not supported by this version of Berth: other users could see it, and a value is read from standard input"
    )))
}

fn app(project: &Project, of: &OfWorker) -> Result<AppName> {
    match &of.app {
        Some(app) => Ok(app.clone()),
        None => worker::name_of(&project.at, project.environment.as_deref()),
    }
}

fn one(project: &Project, name: SecretName, of: OfWorker) -> Result<OneSecret> {
    let app = app(project, &of)?;
    Ok(OneSecret { name, of: HeldBy { app: Some(app), store: None }, admin: of.admin })
}

/// As wrangler shows them.
async fn list(project: &Project, of: &OfWorker, format: &str) -> Result<()> {
    let (app, admin) = (app(project, of)?, of.admin.edge()?);
    let (_, secrets) = secret::entries(&admin, &Holder::App(app)).await?;
    if format == "json" {
        let entry = |name: &SecretName| json!({"name": name, "type": "secret_text"});
        return output::json(&secrets.iter().map(|secret| entry(&secret.name)).collect::<Vec<_>>());
    }
    for secret in secrets {
        output::line(format_args!("Secret Name: {}", secret.name))?;
    }
    Ok(())
}

async fn bulk(project: &Project, of: &OfWorker, file: Option<&Path>) -> Result<()> {
    let app = app(project, of)?;
    let text =
        secret::opened(file).and_then(read).context("the secrets cannot be read").map_err(bad_input)?;
    let all = parse(&text).map_err(bad_input)?;
    let admin = of.admin.edge()?;
    let (mut put, mut deleted) = (0, 0);
    for Change { from, name, value } in all {
        let done = format!("{put} were put and {deleted} deleted before it");
        let changed = change(&admin, &app, &name, value.as_ref()).await;
        changed.with_context(|| format!("the secret of {from}; {done}"))?;
        *if value.is_some() { &mut put } else { &mut deleted } += 1;
    }
    Ok(output::line(format_args!("secrets of {app}: put {put}, deleted {deleted}"))?)
}

async fn change(admin: &Admin, app: &AppName, name: &SecretName, value: Option<&Secret>) -> Result<()> {
    let path = Holder::App(app.clone()).path(name);
    let Some(value) = value else {
        // One that is not there is as wanted.
        return match admin.delete(&path).await {
            Err(error) if !error.is_missing() => Err(error.into()),
            _ => Ok(()),
        };
    };
    Ok(admin.put(&path, value.expose().as_bytes().to_vec()).await?)
}

fn read(from: impl Read) -> Result<String> {
    let mut text = String::new();
    from.take(MAX_BULK_BYTES + 1).read_to_string(&mut text)?;
    ensure!(text.len() as u64 <= MAX_BULK_BYTES, "expected at most {MAX_BULK_BYTES} bytes");
    Ok(text)
}

/// What becomes of one secret.
#[derive(Debug)]
struct Change {
    /// Where it was found, for messages. A name of a line is not in them, as it may be a piece of a value of several lines that was not
    /// put into quotes.
    from: String,
    name: SecretName,
    /// None for one that is to be deleted.
    value: Option<Secret>,
}

impl Change {
    fn of(from: String, name: &str, value: Option<Secret>) -> Result<Self> {
        let name = name.parse().map_err(|_| anyhow!("{from}: {NAME_RULE}"))?;
        Ok(Self { from, name, value })
    }
}

/// The secrets of a text: a JSON object, or lines. Errors hold no values.
fn parse(text: &str) -> Result<Vec<Change>> {
    // Whatever is JSON is no list of lines, so that a slip does not put pieces of it.
    let json = text.trim_start_matches('\u{feff}').trim_start();
    let all = if json.starts_with(['{', '[', '"']) { of_object(json)? } else { of_lines(text)? };
    ensure!(!all.is_empty(), "expected a JSON object of texts, or lines as of .env: there is nothing");
    Ok(all)
}

fn of_object(text: &str) -> Result<Vec<Change>> {
    // The parser's own message would show what it found.
    let object: serde_json::Map<String, Value> = serde_json::from_str(text).map_err(|error| {
        anyhow!("line {}, column {}: expected a JSON object of texts", error.line(), error.column())
    })?;
    let change = |(name, value): (String, Value)| {
        let change = Change::of("a name of the object".to_owned(), &name, None)?;
        let value = match value {
            Value::String(text) => Some(Secret::new(text)),
            Value::Null => None,
            _ => return Err(anyhow!("{name}: expected a text, or null to delete it")),
        };
        Ok(Change { from: name, value, ..change })
    };
    object.into_iter().map(change).collect()
}

fn of_lines(text: &str) -> Result<Vec<Change>> {
    let change =
        |found: FileVariable| Change::of(format!("line {}", found.line), &found.name, Some(found.value));
    worker::variables(text).into_iter().map(change).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_secrets_come_as_json_or_as_lines() {
        let read = |text: &str| {
            let shown = |change: &Change| {
                format!("{}={}", change.name, change.value.as_ref().map_or("-", Secret::expose))
            };
            parse(text).unwrap().iter().map(shown).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(read(r#"{"A": "1", "B": null}"#), "A=1 B=-");
        assert_eq!(read("\u{feff} {\"A\": \"1\"}"), "A=1");
        assert_eq!(read("A=1\nB='2'\n"), "A=1 B=2");
    }

    #[test]
    fn no_value_is_told() {
        for bad in [
            "",
            "{",
            "hidden",
            "'hidden",
            r#"{"A": hidden}"#,
            r#"{"A": "hidden"#,
            r#"{"A": "1"} hidden"#,
            r#"{"A": ["hidden"]}"#,
            r#"{"A": {"B": "hidden"}}"#,
            r#"{"a-b": "hidden"}"#,
            r#"{"hidden-": "A"}"#,
            r#"["A=hidden"]"#,
            r#""A=hidden""#,
            "KEY=-----BEGIN\nhidden+/x==\nhidden.x=\n",
        ] {
            let error = parse(bad).unwrap_err();
            let shown = format!("{error:#} {error:?}");
            assert!(!shown.contains("hidden"), "{shown}");
        }
        let shown = format!("{:?}", parse("A='hidden'").unwrap());
        assert!(!shown.contains("hidden"), "{shown}");
        let several = parse("A=1\n\nhidden==").unwrap();
        assert_eq!(several[1].from, "line 3", "its name may be a piece of a value");
    }
}
