//! Changes an edge's stored data by export, edit and import. For times that no test can wait for.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::cluster::Cluster;

/// Kills the edge, changes each line of its export, and starts it with what has become of it. Gives how many lines were
/// changed.
pub async fn change(cluster: &mut Cluster, mut change: impl FnMut(&mut Value) -> bool) -> Result<usize> {
    cluster.kill_edge()?;
    let state = cluster.directory().join("edge").to_string_lossy().into_owned();
    let file = cluster.make_directory("exports")?.join("export.jsonl").to_string_lossy().into_owned();
    // What an earlier change has left.
    let _ = fs::remove_file(&file);
    berth(cluster, &["store", "export", "--state", &state, "--output", &file]).await?;
    let text = fs::read_to_string(&file)?;
    let mut lines = text.lines();
    let head = lines.next().context("the export is empty")?;
    let mut values: Vec<Value> = lines.map(serde_json::from_str).collect::<Result<_, _>>()?;
    values.pop().context("the export has no end")?;
    let mut changed = 0;
    let mut body = String::new();
    for value in &mut values {
        changed += usize::from(change(value));
        body.push_str(&format!("{value}\n"));
    }
    let digest = hex::encode(Sha256::digest(&body));
    let end = json!({ "lines": values.len(), "sha256": digest });
    fs::write(&file, format!("{head}\n{body}{end}\n"))?;
    berth(cluster, &["store", "import", "--state", &state, "--input", &file, "--replace"]).await?;
    cluster.start_edge()?;
    cluster.until_connected().await?;
    Ok(changed)
}

async fn berth(cluster: &Cluster, args: &[&str]) -> Result<()> {
    let output = cluster.berth(args).await?;
    ensure!(output.status.success(), "berth {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
