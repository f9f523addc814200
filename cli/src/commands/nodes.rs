//! `berth nodes`: the machines that an edge runs containers on.

use std::time::{Duration, SystemTime};

use anyhow::Result;
use berth_api::edge::NodeView;
use berth_common::wire::call::DiskCapacity;
use bytesize::ByteSize;

use crate::args::Show;
use crate::output;

const HEADINGS: [&str; 8] = ["NODE", "ADDRESS", "STATE", "INSTANCES", "CPUS", "MEMORY", "DISK", "VERSION"];

pub(crate) async fn run(args: &Show) -> Result<()> {
    let admin = args.admin.edge()?;
    if args.json {
        return output::json(&admin.get::<serde_json::Value>("/v1/nodes").await?);
    }
    let nodes = admin.nodes().await?.nodes;
    output::table(&HEADINGS, nodes.iter().map(row).collect())?;
    for (node, until) in nodes.iter().filter_map(|node| Some((&node.node, ending(node)?))) {
        output::note!(
            "The certificate of {node} ends on {until}: renew it with `berth certs renew agent {node}`."
        );
    }
    Ok(())
}

/// The day on which a node's certificate ends, if that is soon.
fn ending(node: &NodeView) -> Option<String> {
    let until = SystemTime::UNIX_EPOCH + Duration::from_millis(node.certificate_until_ms?);
    let day = humantime::format_rfc3339_seconds(until).to_string()[..10].to_owned();
    node.certificate_ends_soon.then_some(day)
}

fn row(view: &NodeView) -> Vec<String> {
    let state = match (view.connected, view.draining) {
        (false, _) => "disconnected",
        (true, true) => "draining",
        (true, false) => "connected",
    };
    let capacity = view.capacity;
    let known = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let limit = capacity.map_or_else(String::new, |capacity| format!(" of {}", capacity.instances));
    vec![
        view.node.to_string(),
        view.address.clone(),
        state.to_owned(),
        format!("{}{limit}", view.instances),
        known(capacity.map(|capacity| (f64::from(capacity.cpu_sixteenths) / 16.0).to_string())),
        known(capacity.map(|capacity| ByteSize(capacity.memory_bytes).display().iec().to_string())),
        known(view.disk.as_ref().map(disk)),
        known(view.version.clone()),
    ]
}

/// How disk sizes are enforced, and the disks: `loop 16x2 GB 4x4 GB`.
fn disk(disk: &DiskCapacity) -> String {
    let slots =
        disk.slots.iter().map(|slots| format!(" {}x{}", slots.count, ByteSize(slots.bytes).display().si()));
    let broken = if disk.broken > 0 { format!(" {} broken", disk.broken) } else { String::new() };
    format!("{}{}{broken}", disk.limit, slots.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edges_answer_becomes_a_row() {
        let node = |text: &str| row(&serde_json::from_str(text).unwrap());
        let up = node(
            r#"{"node":"n1","address":"127.0.0.1:1","connected":true,"version":"0.1.0","instances":2,"draining":false,
                "capacity":{"memory_bytes":1073741824,"cpu_sixteenths":24,"instances":64},
                "disk":{"limit":"loop","in_memory":true,"slots":[{"bytes":2000000000,"count":16}]}}"#,
        );
        assert_eq!(
            up,
            ["n1", "127.0.0.1:1", "connected", "2 of 64", "1.5", "1.0 GiB", "loop 16x2.0 GB", "0.1.0"]
        );
        let broken = DiskCapacity { broken: 1, ..DiskCapacity::default() };
        assert_eq!(disk(&broken), "unenforced 1 broken");
        let down = node(
            r#"{"node":"n2","address":"127.0.0.1:2","connected":false,"version":null,"capacity":null,
                "instances":0,"draining":false}"#,
        );
        assert_eq!(down, ["n2", "127.0.0.1:2", "disconnected", "0", "-", "-", "-", "-"]);
    }
}
