//! Orders to one node: to add it, to empty it, to use it again, to give up what it has.

use std::time::Duration;

use anyhow::{Result, anyhow};
use berth_api::edge::{AddedNode, NewNode, NodeOrder, NodeOrdered, ObjectOnNode};
use berth_common::ids::NodeId;

use super::revoke::{self, Asked};
use crate::admin::Admin;
use crate::args::NodeCommand;
use crate::failure::bad_input;
use crate::{output, prompt};

/// How often a node that is being emptied is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(300);
/// How many objects are named before they are given up; the others are counted.
const NAMED: usize = 20;

pub(super) async fn run(command: NodeCommand) -> Result<()> {
    match command {
        NodeCommand::Add { node, address, labels, admin } => {
            let labels = labels.into_iter().collect();
            add(&admin.edge()?, NewNode { node, address, labels }).await
        }
        NodeCommand::Revoke { node, cert, yes, dry_run, admin } => {
            let asked = Asked { node, cert, yes, dry_run };
            revoke::run(&admin.edge()?, asked).await
        }
        NodeCommand::Drain { node, no_wait, dry_run, admin } => {
            drain(&admin.edge()?, &node, no_wait, dry_run).await
        }
        NodeCommand::Undrain { node, admin } => {
            order(&admin.edge()?, &node, "undrain", false).await?;
            Ok(output::line(format_args!("{node} takes new containers"))?)
        }
        NodeCommand::Forget { node, yes, dry_run, admin } => {
            forget(&admin.edge()?, &node, yes, dry_run).await
        }
    }
}

async fn order(admin: &Admin, node: &NodeId, verb: &str, dry_run: bool) -> Result<NodeOrdered> {
    Ok(admin.post(&format!("/v1/nodes/{node}/{verb}"), &NodeOrder { dry_run }).await?)
}

async fn add(admin: &Admin, new: NewNode) -> Result<()> {
    let AddedNode { node, address } = admin.post("/v1/nodes", &new).await?;
    output::line(format_args!("added: {node}, at {address}"))?;
    output::note!("The edge connects to it by itself: `berth nodes` shows whether it has.");
    Ok(())
}

async fn drain(admin: &Admin, node: &NodeId, no_wait: bool, dry_run: bool) -> Result<()> {
    let NodeOrdered { count, .. } = order(admin, node, "drain", dry_run).await?;
    let ending = containers(count);
    match (dry_run, no_wait) {
        (true, _) => Ok(output::line(format_args!("of {node} would be ended: {ending}"))?),
        (false, true) => Ok(output::line(format_args!("{node} takes no new containers; {ending} end"))?),
        (false, false) => until_empty(admin, node).await,
    }
}

async fn until_empty(admin: &Admin, node: &NodeId) -> Result<()> {
    output::line(format_args!("{node} takes no new containers"))?;
    let mut told = None;
    loop {
        let nodes = admin.nodes().await?.nodes;
        let view = nodes.into_iter().find(|view| view.node == *node);
        let view = view.ok_or_else(|| anyhow!("the edge has no node {node} any more"))?;
        match usize::try_from(view.instances)? {
            0 => break,
            left if told.replace(left) != Some(left) => {
                output::line(format_args!("{} left", containers(left)))?;
                if !view.connected {
                    output::note!("{node} is not connected: it is emptied once it is");
                }
            }
            _ => {}
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(output::line(format_args!("{node} is empty, until `berth nodes undrain {node}`"))?)
}

async fn forget(admin: &Admin, node: &NodeId, yes: bool, dry_run: bool) -> Result<()> {
    let plan = plan(&order(admin, node, "forget", true).await?);
    if dry_run {
        return Ok(output::line(plan)?);
    }
    if !yes {
        confirm(&plan, node).await?;
    }
    let NodeOrdered { count, configured, .. } = order(admin, node, "forget", false).await?;
    output::line(format_args!("forgotten: {node}; given up: {}", containers(count)))?;
    if configured {
        output::note!(
            "The edge's command line still names {node}: take its --node away and restart the edge."
        );
    }
    Ok(())
}

/// What would be done, and which objects it concerns.
fn plan(ordered: &NodeOrdered) -> String {
    let NodeOrdered { node, may_run, count, objects, .. } = ordered;
    let mut lines = vec![format!("of {node} would be given up: {}", containers(*count))];
    let named = |ObjectOnNode { app, class, name, .. }: &ObjectOnNode| format!("  {app}/{class}/{name}");
    lines.extend(objects.iter().take(NAMED).map(named));
    let more = count.saturating_sub(objects.len().min(NAMED));
    if more > 0 {
        lines.push(format!("  and {more} more"));
    }
    if *may_run {
        lines.push(format!(
            "Nothing is known of when {node} stops by itself: be sure that its machine is off, or its objects may run twice."
        ));
    }
    lines.join("\n")
}

/// Asks for the name of the node, which nobody types by accident.
pub(super) async fn confirm(plan: &str, node: &NodeId) -> Result<()> {
    output::remark(plan);
    let answer = prompt::line("type the node's name to go on: ").await;
    let answer = answer.ok_or_else(|| {
        bad_input(anyhow!(
            "nothing was changed: there is no terminal to ask at; --yes does it without asking"
        ))
    })??;
    if answer.trim() == node.as_str() { Ok(()) } else { Err(anyhow!("nothing was changed")) }
}

pub(super) fn containers(count: usize) -> String {
    format!("{count} container{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_names_what_is_given_up_and_what_is_not_known() {
        let object = |n: usize| ObjectOnNode {
            app: "a".parse().unwrap(),
            class: "C".parse().unwrap(),
            name: n.to_string().parse().unwrap(),
            id: "000102030405060708090a0b0c0d0e0f".parse().unwrap(),
        };
        let ordered = |count: usize, may_run| NodeOrdered {
            node: "n1".parse().unwrap(),
            configured: true,
            may_run,
            count,
            objects: (0..count.min(30)).map(object).collect(),
        };
        assert_eq!(plan(&ordered(1, false)), "of n1 would be given up: 1 container\n  a/C/0");
        let many = plan(&ordered(40, true));
        assert!(many.contains("  a/C/19\n  and 20 more\n") && many.contains("may run twice"), "{many}");
    }
}
