//! `wrangler secret`: the secrets of the project's app. `wrangler secrets-store`: those of stores.

use std::fs::File;
use std::io::{self, Read};
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
use crate::{output, worker};

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
        None => worker::name_of(&project.directory, project.environment.as_deref()),
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
    let text = match file {
        Some(file) => {
            let opened = File::open(file).with_context(|| format!("cannot open {}", file.display()));
            read(opened.map_err(bad_input)?)
        }
        None => read(io::stdin().lock()),
    };
    let all = parse(&text.context("the secrets cannot be read").map_err(bad_input)?).map_err(bad_input)?;
    let admin = of.admin.edge()?;
    let (mut put, mut deleted) = (0, 0);
    for (name, value) in all {
        let change = change(&admin, &app, &name, value.as_ref()).await;
        let done = format!("{put} were put and {deleted} deleted before it");
        change.with_context(|| format!("the secret {name}; {done}"))?;
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

/// The secrets by name; none for one that is to be deleted. Errors hold no values.
fn parse(text: &str) -> Result<Vec<(SecretName, Option<Secret>)>> {
    let pairs: Vec<(String, Option<String>)> = if text.trim_start().starts_with('{') {
        let object: serde_json::Map<String, Value> = serde_json::from_str(text).map_err(|error| {
            anyhow!("line {}, column {}: expected a JSON object of texts", error.line(), error.column())
        })?;
        let pair = |(name, value)| match value {
            Value::String(text) => Ok((name, Some(text))),
            Value::Null => Ok((name, None)),
            _ => Err(anyhow!("{name}: expected a text, or null to delete it")),
        };
        object.into_iter().map(pair).collect::<Result<_>>()?
    } else {
        worker::pairs(text).map(|(name, value)| (name, Some(value))).collect()
    };
    ensure!(!pairs.is_empty(), "expected a JSON object of texts, or lines as of .env: there is nothing");
    let named = |(name, value): (String, Option<String>)| {
        let name = name.parse().map_err(|error| anyhow!("{name}: {error}"))?;
        Ok((name, value.map(Secret::new)))
    };
    pairs.into_iter().map(named).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_secrets_come_as_json_or_as_lines() {
        let read = |text: &str| {
            let all = parse(text).map_err(|error| error.to_string())?;
            let shown = |(name, value): &(SecretName, Option<Secret>)| {
                format!("{name}={}", value.as_ref().map_or("-", Secret::expose))
            };
            Ok::<_, String>(all.iter().map(shown).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(read(r#"{"A": "1", "B": null}"#).unwrap(), "A=1 B=-");
        assert_eq!(read("A=1\nB='2'\n").unwrap(), "A=1 B=2");
        for bad in ["", "{", r#"{"A": 1}"#, r#"{"a-b": "hidden"}"#, "nothing"] {
            let error = read(bad).unwrap_err();
            assert!(!error.contains("hidden"), "{error}");
        }
    }
}
