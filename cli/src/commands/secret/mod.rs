//! `berth secret`: values that apps receive and that are never shown.

mod key;

use std::fs::{self, File};
use std::io::{self, IsTerminal, Read};
use std::path::Path;
use std::time::SystemTime;

use anyhow::{Context, Result, anyhow};
use berth_api::secrets::{SecretEntry, SecretList};
use berth_common::ids::{AppName, ClassName, SecretName};
use berth_common::manifest::Manifest;
use berth_common::spec::MAX_SECRET_BYTES;
use serde_json::Value;

use crate::admin::Admin;
use crate::app::MANIFEST;
use crate::args::{AnyApp, OfApp, OneSecret, Secret, Show};
use crate::failure::bad_input;
use crate::prompt;
use crate::{ids, output, worker};

pub(crate) use self::key::make_if_missing;

const HEADINGS: [&str; 5] = ["NAME", "PUT", "VERSION", "USED BY", "STATE"];

pub(crate) async fn run(command: Secret) -> Result<()> {
    match command {
        Secret::Put { secret, from_file, allow_empty } => {
            put(&secret, from_file.as_deref(), allow_empty).await
        }
        Secret::List { app, show } => list(&app, &show).await,
        Secret::Delete { secret, dry_run } => delete(&secret, dry_run).await,
        Secret::Init(place) => key::init(&place).await,
        Secret::Rotate { place, dry_run: false, admin } => key::rotate(&place, &admin).await,
        Secret::Rotate { place, dry_run: true, admin } => key::try_rotation(&place, &admin).await,
    }
}

impl OfApp {
    /// The app that is named, or the one of the current directory.
    fn name(&self) -> Result<AppName> {
        name_or_here(self.app.as_ref())
    }
}

fn name_or_here(app: Option<&AppName>) -> Result<AppName> {
    if let Some(app) = app {
        return Ok(app.clone());
    }
    if worker::is_there(Path::new(".")) {
        return worker::name_of(Path::new("."), None);
    }
    let text = fs::read_to_string(MANIFEST).map_err(|_| {
        bad_input(anyhow!(
            "which app? Name it with --app, or run this where its {MANIFEST} or wrangler configuration is"
        ))
    })?;
    Ok(Manifest::parse(Path::new(MANIFEST), &text).map_err(bad_input)?.name)
}

/// Where a secret is in the API.
pub(crate) fn path(app: &AppName, name: &SecretName) -> String {
    format!("/v1/apps/{app}/secrets/{name}")
}

/// Puts a secret: the content of a file, or what is on standard input.
pub(crate) async fn put(secret: &OneSecret, file: Option<&Path>, allow_empty: bool) -> Result<()> {
    let app = secret.app.name()?;
    let value = match file {
        Some(file) => {
            let opened = File::open(file).with_context(|| format!("cannot open {}", file.display()));
            read(opened.map_err(bad_input)?)?
        }
        None if io::stdin().is_terminal() => {
            let question = format!("value of {} for the app {app}: ", secret.name);
            prompt::ask(&question, "nothing was put").await?
        }
        None => read(io::stdin().lock())?,
    };
    if value.is_empty() && !allow_empty {
        return Err(bad_input(anyhow!(
            "the value of {} is empty, and nothing was put: is a variable not set? --allow-empty puts it all the same",
            secret.name
        )));
    }
    let admin = secret.admin.edge()?;
    admin.put(&path(&app, &secret.name), value).await?;
    Ok(output::line(format_args!("put {} of {app}", secret.name))?)
}

/// A value without the newline that editors and shells end texts with.
fn read(from: impl Read) -> Result<Vec<u8>> {
    // Some bytes more than the limit, so that the edge reports that it is too much.
    let most = MAX_SECRET_BYTES as u64 + 3;
    let mut value = Vec::with_capacity(MAX_SECRET_BYTES);
    from.take(most).read_to_end(&mut value).context("the value cannot be read")?;
    prompt::strip_newline(&mut value);
    Ok(value)
}

/// An app's secrets, as the edge says it and read.
pub(crate) async fn entries(admin: &Admin, app: &AppName) -> Result<(Value, Vec<SecretEntry>)> {
    let answer: Value = admin.get(&format!("/v1/apps/{app}/secrets")).await?;
    let list: SecretList = serde_json::from_value(answer.clone())?;
    Ok((answer, list.secrets))
}

async fn list(app: &AnyApp, show: &Show) -> Result<()> {
    let (app, admin) = (name_or_here(app.name())?, show.admin.edge()?);
    let (answer, secrets) = entries(&admin, &app).await?;
    if secrets.is_empty()
        && let Err(unknown) = ids::expect_app(&admin, &app).await
    {
        // Secrets may come before their app: that is no failure, but may be a slip.
        output::note!("note: {unknown:#}");
    }
    if show.json {
        return output::json(&answer);
    }
    let now = SystemTime::now();
    let row = |secret: &SecretEntry| {
        let state = if secret.readable { "readable" } else { "unreadable" };
        vec![
            secret.name.to_string(),
            output::ago(secret.updated_ms, now),
            secret.version.to_string(),
            users(secret),
            state.to_owned(),
        ]
    };
    Ok(output::table(&HEADINGS, secrets.iter().map(row).collect())?)
}

fn users(secret: &SecretEntry) -> String {
    let users: Vec<&str> = secret.used_by.iter().map(ClassName::as_str).collect();
    if users.is_empty() { "-".to_owned() } else { users.join(", ") }
}

/// Deletes a secret, or shows what that would do.
pub(crate) async fn delete(secret: &OneSecret, dry_run: bool) -> Result<()> {
    let (app, admin) = (secret.app.name()?, secret.admin.edge()?);
    if !dry_run {
        admin.delete(&path(&app, &secret.name)).await?;
        return Ok(output::line(format_args!("deleted {} of {app}", secret.name))?);
    }
    let (_, secrets) = entries(&admin, &app).await?;
    let found = secrets.iter().find(|entry| entry.name == secret.name);
    let found = found.with_context(|| format!("the app {app} has no secret {}", secret.name))?;
    let users = users(found);
    Ok(output::line(format_args!("{} of {app} would be deleted; classes that use it: {users}", found.name))?)
}

/// Prints which of an app's secrets stay when it is deleted. For an edge without secrets there are none.
pub(crate) async fn tell_what_stays(admin: &Admin, app: &AppName) {
    if let Ok((_, secrets)) = entries(admin, app).await
        && !secrets.is_empty()
    {
        let names: Vec<&str> = secrets.iter().map(|secret| secret.name.as_str()).collect();
        let names = names.join(", ");
        output::note!("its secrets stay: {names}; `berth secret delete NAME --app {app}` deletes one");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_newline_at_the_end_is_left_out() {
        for (given, taken) in
            [("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), ("\na", "\na"), ("", ""), ("a\r", "a\r")]
        {
            assert_eq!(read(given.as_bytes()).unwrap(), taken.as_bytes(), "{given:?}");
        }
        assert!(read(&vec![b'x'; 2 * MAX_SECRET_BYTES][..]).unwrap().len() > MAX_SECRET_BYTES);
    }
}
