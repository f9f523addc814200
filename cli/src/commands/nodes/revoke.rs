//! Has a node's key count no more.

use std::path::PathBuf;

use anyhow::Result;
use berth_api::edge::{Revocation, RevokedNode};
use berth_certs::KeyHash;
use berth_common::ids::NodeId;

use super::orders::{confirm, containers};
use crate::admin::Admin;
use crate::failure::bad_input;
use crate::output;

/// What is asked for.
pub(super) struct Asked {
    pub(super) node: NodeId,
    pub(super) cert: Option<PathBuf>,
    pub(super) yes: bool,
    pub(super) dry_run: bool,
}

pub(super) async fn run(admin: &Admin, asked: Asked) -> Result<()> {
    let Asked { node, cert, yes, dry_run } = asked;
    let key = cert.as_deref().map(KeyHash::of_file).transpose().map_err(bad_input)?;
    let key = key.map(|key| key.to_string());
    let planned = order(admin, &node, key, true).await?;
    let plan = plan(&planned);
    if dry_run {
        return Ok(output::line(plan)?);
    }
    if !yes {
        confirm(&plan, &node).await?;
    }
    // The key that was shown, and no other that the node has come with meanwhile.
    let RevokedNode { key, .. } = order(admin, &node, Some(planned.key), false).await?;
    output::line(format_args!("revoked: the key {key} of {node}"))?;
    output::note!(
        "Used again once its agent has a certificate with a new key: `berth certs issue agent {node}`."
    );
    Ok(())
}

async fn order(admin: &Admin, node: &NodeId, key: Option<String>, dry_run: bool) -> Result<RevokedNode> {
    Ok(admin.post(&format!("/v1/nodes/{node}/revoke"), &Revocation { key, dry_run }).await?)
}

fn plan(RevokedNode { node, key, count }: &RevokedNode) -> String {
    let there = containers(*count);
    format!("of {node} the key {key} would count no more; it has {there}, given up once its term is over")
}
