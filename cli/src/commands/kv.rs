//! `berth kv`: the stored values of objects.

use std::io::{self, Read};

use anyhow::{Context, Result};
use berth_api::client::encode;
use berth_api::kv::{KeyView, MAX_VALUE_BYTES};
use berth_api::lists::{KeyListing, Paged};
use serde_json::json;

use super::containers::object_id;
use crate::args::{Kv, KvKey, Show};
use crate::output;

const HEADINGS: [&str; 2] = ["KEY", "BYTES"];

pub(crate) async fn run(command: Kv) -> Result<()> {
    match command {
        Kv::Get(key) => {
            let value = key.admin.edge()?.bytes(&path(&key)?).await?;
            Ok(output::bytes(&value)?)
        }
        Kv::Put { key, value } => {
            let value = value.map_or_else(from_stdin, |value| Ok(value.into_bytes()))?;
            key.admin.edge()?.put(&path(&key)?, value).await.map_err(Into::into)
        }
        Kv::Delete(key) => key.admin.edge()?.delete(&path(&key)?).await.map_err(Into::into),
        Kv::List { object, prefix, show } => list(&object, &prefix, &show).await,
    }
}

fn path(key: &KvKey) -> Result<String> {
    Ok(format!("/v1/containers/{}/kv/{}", object_id(&key.object)?, encode(&key.key)))
}

fn from_stdin() -> Result<Vec<u8>> {
    let mut value = Vec::new();
    // One byte more than the limit, so that the edge reports that it is too much.
    io::stdin().lock().take(MAX_VALUE_BYTES as u64 + 1).read_to_end(&mut value).context("standard input")?;
    Ok(value)
}

async fn list(object: &str, prefix: &str, show: &Show) -> Result<()> {
    let admin = show.admin.edge()?;
    let path = format!(
        "/v1/containers/{}/kv?limit={}&prefix={}",
        object_id(object)?,
        KeyListing::MAX_PAGE,
        encode(prefix)
    );
    let keys = admin.pages(&path, "keys").await?;
    if show.json {
        return output::json(&json!({ "keys": keys }));
    }
    let keys: Vec<KeyView> = serde_json::from_value(keys.into())?;
    let row = |key: &KeyView| vec![key.key.clone(), key.bytes.to_string()];
    Ok(output::table(&HEADINGS, keys.iter().map(row).collect())?)
}
