//! `berth kv`: what objects keep.

use std::io::{self, Read, Write};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::containers::object_id;
use super::encode;
use crate::admin::Admin;
use crate::args::{Kv, KvKey, Show};
use crate::output;

const HEADINGS: [&str; 2] = ["KEY", "BYTES"];
/// Longest value, in bytes, as the edge has it: no more is read.
const MAX_VALUE_BYTES: u64 = 128 << 10;

pub(crate) async fn run(command: Kv) -> Result<()> {
    match command {
        Kv::Get(key) => {
            let value = Admin::find(&key.admin)?.bytes(&path(&key)?).await?;
            Ok(io::stdout().write_all(&value)?)
        }
        Kv::Put { key, value } => {
            let value = value.map_or_else(from_stdin, |value| Ok(value.into_bytes()))?;
            Admin::find(&key.admin)?.put(&path(&key)?, value).await
        }
        Kv::Delete(key) => Admin::find(&key.admin)?.delete(&path(&key)?).await,
        Kv::List { object, prefix, show } => list(&object, &prefix, &show).await,
    }
}

fn path(key: &KvKey) -> Result<String> {
    Ok(format!("/v1/containers/{}/kv/{}", object_id(&key.object)?, encode(&key.key)))
}

fn from_stdin() -> Result<Vec<u8>> {
    let mut value = Vec::new();
    // One byte more than there may be, so that the edge says that it is too much.
    io::stdin().lock().take(MAX_VALUE_BYTES + 1).read_to_end(&mut value).context("standard input")?;
    Ok(value)
}

async fn list(object: &str, prefix: &str, show: &Show) -> Result<()> {
    let admin = Admin::find(&show.admin)?;
    let path = format!("/v1/containers/{}/kv?limit=10000&prefix={}", object_id(object)?, encode(prefix));
    let keys = admin.pages(&path, "keys").await?;
    if show.json {
        return output::json(&json!({ "keys": keys }));
    }
    let row =
        |key: &Value| vec![key["key"].as_str().unwrap_or_default().to_owned(), key["bytes"].to_string()];
    Ok(output::table(&HEADINGS, keys.iter().map(row).collect())?)
}
