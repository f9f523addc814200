//! `berth kv`: the stored values of objects.

use std::io::{self, Read};

use anyhow::{Context, Result};
use berth_api::client::encode;
use berth_api::kv::{KeyView, MAX_VALUE_BYTES};
use berth_api::lists::{KeyListing, Paged};
use serde_json::json;

use crate::admin::Admin;
use crate::args::{Kv, KvKey, Show};
use crate::{ids, output};

const HEADINGS: [&str; 2] = ["KEY", "BYTES"];

pub(crate) async fn run(command: Kv) -> Result<()> {
    match command {
        Kv::Get(key) => {
            let (admin, path) = at(&key).await?;
            Ok(output::bytes(&admin.bytes(&path).await?)?)
        }
        Kv::Put { key, value } => {
            let value = value.map_or_else(from_stdin, |value| Ok(value.into_bytes()))?;
            let (admin, path) = at(&key).await?;
            Ok(admin.put(&path, value).await?)
        }
        Kv::Delete { key, dry_run } => delete(&key, dry_run).await,
        Kv::List { object, prefix, show } => list(&object, &prefix, &show).await,
    }
}

/// The edge, and where the value is there.
async fn at(key: &KvKey) -> Result<(Admin, String)> {
    let admin = key.admin.edge()?;
    let object = ids::object(&admin, &key.object).await?;
    let path = format!("/v1/containers/{object}/kv/{}", encode(&key.key));
    Ok((admin, path))
}

async fn delete(key: &KvKey, dry_run: bool) -> Result<()> {
    let (admin, path) = at(key).await?;
    if !dry_run {
        return Ok(admin.delete(&path).await?);
    }
    let bytes = admin.bytes(&path).await?.len();
    Ok(output::line(format_args!("{} of {} would be deleted: {bytes} bytes", key.key, key.object))?)
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
        ids::object(&admin, object).await?,
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
