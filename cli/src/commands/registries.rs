//! `berth registries`: the user names and passwords that the edge has for other registries.

use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::time::SystemTime;

use anyhow::{Context, Result, anyhow, ensure};
use berth_api::client::encode;
use berth_api::registries::{Credentials, Password, RegistryEntry, RegistryList};
use berth_common::image::Registry;
use serde_json::Value;

use crate::args::{AdminArgs, Registries, Show};
use crate::failure::bad_input;
use crate::{output, prompt};

const HEADINGS: [&str; 4] = ["REGISTRY", "USER", "GIVEN", "STATE"];
/// Longest password, in bytes; some registries' tokens are long.
const MAX_PASSWORD_BYTES: usize = 16 << 10;

pub(crate) async fn run(command: Registries) -> Result<()> {
    match command {
        Registries::Login { host, username, password_stdin, no_verify, admin } => {
            let admin = admin.edge()?;
            let username = username.map_or_else(ask_user, Ok)?;
            let password =
                if password_stdin { read_password()? } else { ask_password(&host, &username).await? };
            let body = Credentials { username, password: Password::new(password) };
            let path = format!("{}?verify={}", path(&host), !no_verify);
            admin.put(&path, serde_json::to_vec(&body)?).await?;
            Ok(output::line(format_args!("the edge logs in to {host} as {}", body.username))?)
        }
        Registries::List(show) => list(&show).await,
        Registries::Logout { host, dry_run, admin } => logout(&host, dry_run, &admin).await,
    }
}

fn path(host: &Registry) -> String {
    format!("/v1/registries/{}", encode(host.as_str()))
}

fn ask_user() -> Result<String> {
    if !io::stdin().is_terminal() {
        return Err(bad_input(anyhow!(
            "which user? Name it with --username, and give the password by --password-stdin"
        )));
    }
    output::question("user: ");
    io::stderr().flush()?;
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    ensure!(!line.trim().is_empty(), "nothing was typed, and nothing was changed");
    Ok(line.trim().to_owned())
}

async fn ask_password(host: &Registry, username: &str) -> Result<String> {
    if !io::stdin().is_terminal() {
        return Err(bad_input(anyhow!(
            "there is no terminal to ask for the password: give it by --password-stdin"
        )));
    }
    let question = format!("password of {username} at {host}: ");
    text(prompt::ask(&question, "nothing was changed").await?)
}

fn read_password() -> Result<String> {
    let mut value = Vec::with_capacity(MAX_PASSWORD_BYTES);
    let most = u64::try_from(MAX_PASSWORD_BYTES + 3)?;
    io::stdin().lock().take(most).read_to_end(&mut value).context("the password cannot be read")?;
    prompt::strip_newline(&mut value);
    ensure!(!value.is_empty(), "the password on standard input is empty, and nothing was changed");
    text(value)
}

fn text(password: Vec<u8>) -> Result<String> {
    ensure!(password.len() <= MAX_PASSWORD_BYTES, "the password has more than {MAX_PASSWORD_BYTES} bytes");
    // The conversion's own error would show the password.
    String::from_utf8(password).map_err(|_| anyhow!("the password is not UTF-8"))
}

async fn list(show: &Show) -> Result<()> {
    let answer: Value = show.admin.edge()?.get("/v1/registries").await?;
    if show.json {
        return output::json(&answer);
    }
    let now = SystemTime::now();
    let list: RegistryList = serde_json::from_value(answer)?;
    let row = |entry: &RegistryEntry| {
        let state = if entry.readable { "readable" } else { "unreadable" };
        vec![
            entry.host.to_string(),
            entry.username.clone(),
            output::ago(entry.updated_ms, now),
            state.to_owned(),
        ]
    };
    Ok(output::table(&HEADINGS, list.registries.iter().map(row).collect())?)
}

async fn logout(host: &Registry, dry_run: bool, admin: &AdminArgs) -> Result<()> {
    let admin = admin.edge()?;
    if dry_run {
        let list: RegistryList = admin.get("/v1/registries").await?;
        let found = list.registries.iter().find(|entry| entry.host == *host);
        let user = &found.with_context(|| format!("the edge knows no user of {host}"))?.username;
        return Ok(output::line(format_args!("the edge would forget the user {user} of {host}"))?);
    }
    admin.delete(&path(host)).await?;
    Ok(output::line(format_args!("the edge has forgotten the user of {host}"))?)
}
