//! `berth secret`: values that apps receive and that are never shown.

mod held;
mod key;

use std::fs::{self, File};
use std::io::{self, IsTerminal, Read};
use std::path::Path;
use std::time::SystemTime;

use anyhow::{Context, Result, anyhow};
use berth_api::secrets::SecretStoreList;
use berth_common::ids::{AppName, StoreName};
use berth_common::manifest::Manifest;
use berth_common::spec::MAX_SECRET_BYTES;
use serde_json::Value;

use crate::admin::Admin;
use crate::app::MANIFEST;
use crate::args::{AnyApp, HeldBy, OneSecret, Secret, Show};
use crate::failure::bad_input;
use crate::prompt;
use crate::{ids, output, worker};

use self::held::Entry;
pub(crate) use self::held::Holder;
pub(crate) use self::key::make_if_missing;

const HEADINGS: [&str; 5] = ["NAME", "PUT", "VERSION", "USED BY", "STATE"];

pub(crate) async fn run(command: Secret) -> Result<()> {
    match command {
        Secret::Put { secret, from_file, allow_empty } => {
            put(&secret, from_file.as_deref(), allow_empty).await
        }
        Secret::List { app, store, show } => list_of(&app, store, &show).await,
        Secret::Stores(show) => stores(&show).await,
        Secret::Delete { secret, dry_run } => delete(&secret, dry_run).await,
        Secret::Init(place) => key::init(&place).await,
        Secret::Rotate { place, dry_run: false, admin } => key::rotate(&place, &admin).await,
        Secret::Rotate { place, dry_run: true, admin } => key::try_rotation(&place, &admin).await,
    }
}

impl HeldBy {
    /// The store or the app that is named, or the app of the current directory.
    fn holder(&self) -> Result<Holder> {
        match &self.store {
            Some(store) => Ok(Holder::Store(store.clone())),
            None => name_or_here(self.app.as_ref()).map(Holder::App),
        }
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

/// Puts a secret: the content of a file, or what is on standard input.
pub(crate) async fn put(secret: &OneSecret, file: Option<&Path>, allow_empty: bool) -> Result<()> {
    let holder = secret.of.holder()?;
    let value = match file {
        None if io::stdin().is_terminal() => {
            let question = format!("value of {} for {}: ", secret.name, holder.in_full());
            prompt::ask(&question, "nothing was put").await?
        }
        file => read(opened(file)?)?,
    };
    if value.is_empty() && !allow_empty {
        return Err(bad_input(anyhow!(
            "the value of {} is empty, and nothing was put: is a variable not set? --allow-empty puts it all the same",
            secret.name
        )));
    }
    let admin = secret.admin.edge()?;
    admin.put(&holder.path(&secret.name), value).await?;
    Ok(output::line(format_args!("put {} of {holder}", secret.name))?)
}

/// What a file holds, or what is on standard input.
pub(crate) fn opened(file: Option<&Path>) -> Result<Box<dyn Read>> {
    let Some(file) = file else { return Ok(Box::new(io::stdin().lock())) };
    let opened = File::open(file).with_context(|| format!("cannot open {}", file.display()));
    Ok(Box::new(opened.map_err(bad_input)?))
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

/// The secrets of an app or a store, as the edge says it and read.
pub(crate) async fn entries(admin: &Admin, holder: &Holder) -> Result<(Value, Vec<Entry>)> {
    let answer: Value = admin.get(&holder.list()).await?;
    let entries = holder.read(answer.clone())?;
    Ok((answer, entries))
}

async fn list_of(app: &AnyApp, store: Option<StoreName>, show: &Show) -> Result<()> {
    match store {
        Some(store) => list(&Holder::Store(store), show).await,
        None => list(&Holder::App(name_or_here(app.name())?), show).await,
    }
}

/// Lists the secrets of an app or a store.
pub(crate) async fn list(holder: &Holder, show: &Show) -> Result<()> {
    let admin = show.admin.edge()?;
    let (answer, secrets) = entries(&admin, holder).await?;
    if secrets.is_empty()
        && let Holder::App(app) = holder
        && let Err(unknown) = ids::expect_app(&admin, app).await
    {
        // Secrets may come before their app: that is no failure, but may be a slip.
        output::note!("note: {unknown:#}");
    }
    if show.json {
        return output::json(&answer);
    }
    let now = SystemTime::now();
    let row = |secret: &Entry| {
        let state = if secret.readable { "readable" } else { "unreadable" };
        vec![
            secret.name.to_string(),
            output::ago(secret.updated_ms, now),
            secret.version.to_string(),
            secret.users(),
            state.to_owned(),
        ]
    };
    Ok(output::table(&HEADINGS, secrets.iter().map(row).collect())?)
}

/// Lists the stores.
pub(crate) async fn stores(show: &Show) -> Result<()> {
    let answer: Value = show.admin.edge()?.get("/v1/secret-stores").await?;
    if show.json {
        return output::json(&answer);
    }
    let list: SecretStoreList = serde_json::from_value(answer)?;
    let rows = list.stores.iter().map(|store| vec![store.name.to_string(), store.secrets.to_string()]);
    Ok(output::table(&["STORE", "SECRETS"], rows.collect())?)
}

/// Deletes a secret, or shows what that would do.
pub(crate) async fn delete(secret: &OneSecret, dry_run: bool) -> Result<()> {
    let (holder, admin) = (secret.of.holder()?, secret.admin.edge()?);
    if !dry_run {
        admin.delete(&holder.path(&secret.name)).await?;
        return Ok(output::line(format_args!("deleted {} of {holder}", secret.name))?);
    }
    let (_, secrets) = entries(&admin, &holder).await?;
    let found = secrets.iter().find(|entry| entry.name == secret.name);
    let found = found.with_context(|| format!("{} has no secret {}", holder.in_full(), secret.name))?;
    let (name, users, kind) = (&found.name, found.users(), holder.users());
    Ok(output::line(format_args!("{name} of {holder} would be deleted; {kind} that use it: {users}"))?)
}

/// Prints which of an app's secrets stay when it is deleted. For an edge without secrets there are none.
pub(crate) async fn tell_what_stays(admin: &Admin, app: &AppName) {
    if let Ok((_, secrets)) = entries(admin, &Holder::App(app.clone())).await
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
