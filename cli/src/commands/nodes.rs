//! `berth nodes`: the machines that an edge runs containers on.

use std::time::{Duration, SystemTime};

use anyhow::Result;
use berth_api::edge::NodeView;
use berth_common::wire::call::{DiskCapacity, SlotRoom};
use bytesize::ByteSize;

use crate::args::Show;
use crate::output;

const HEADINGS: [&str; 7] = ["NODE", "STATE", "INSTANCES", "PREPARED", "VCPUS", "MEMORY", "DISK SLOTS"];

const WIDE_HEADINGS: [&str; 3] = ["ADDRESS", "VERSION", "DISK LIMIT"];

pub(crate) async fn run(args: &Show) -> Result<()> {
    let admin = args.admin.edge()?;
    if args.json {
        return output::json(&admin.get::<serde_json::Value>("/v1/nodes").await?);
    }
    let nodes = admin.nodes().await?.nodes;
    if args.wide {
        let headings: Vec<_> = HEADINGS.into_iter().chain(WIDE_HEADINGS).collect();
        let rows = nodes.iter().map(|node| [row(node), wide(node)].concat());
        output::table(&headings, rows.collect())?;
    } else {
        output::table(&HEADINGS, nodes.iter().map(row).collect())?;
    }
    nodes.iter().filter_map(ending).for_each(|note| output::note!("{note}"));
    Ok(())
}

/// Says that a node's certificate ends, if that is soon.
fn ending(view: &NodeView) -> Option<String> {
    let until = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(view.certificate_until_ms?))?;
    let (node, time) = (&view.node, humantime::format_rfc3339_seconds(until).to_string());
    let day = time.split('T').next().unwrap_or(&time);
    view.certificate_ends_soon.then(|| {
        format!("The certificate of {node} ends on {day}: renew it with `berth certs renew agent {node} --dir DIR`.")
    })
}

fn row(view: &NodeView) -> Vec<String> {
    let state = match (view.connected, view.draining) {
        (false, _) => "disconnected",
        (true, true) => "draining",
        (true, false) => "connected",
    };
    let (capacity, used) = (view.capacity, view.room.as_ref().map(|room| room.used));
    let known = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let of = |used: Option<String>, all: Option<String>| match (used, all) {
        (Some(used), Some(all)) => format!("{used}/{all}"),
        (None, Some(all)) => all,
        (used, None) => known(used),
    };
    let vcpus = |sixteenths: u32| (f64::from(sixteenths) / 16.0).to_string();
    let gib = |bytes: u64| format!("{:.1}", ByteSize(bytes).as_gib());
    let instances = used.map_or(view.instances, |used| used.instances);
    vec![
        view.node.to_string(),
        state.to_owned(),
        of(Some(instances.to_string()), capacity.map(|all| all.instances.to_string())),
        known(view.room.as_ref().map(|room| room.prepared.to_string())),
        of(used.map(|used| vcpus(used.cpu_sixteenths)), capacity.map(|all| vcpus(all.cpu_sixteenths))),
        of(used.map(|used| gib(used.memory_bytes)), capacity.map(|all| gib(all.memory_bytes) + " GiB")),
        view.room.as_ref().filter(|room| !room.slots.is_empty()).map_or_else(
            || known(view.disk.as_ref().map(disk)),
            |room| room.slots.iter().map(slots).collect::<Vec<_>>().join(" ") + &broken(view.disk.as_ref()),
        ),
    ]
}

fn wide(view: &NodeView) -> Vec<String> {
    let known = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let limit = view.disk.as_ref().map(|disk| disk.limit.to_string());
    vec![view.address.to_string(), known(view.version.clone()), known(limit)]
}

/// The slots of one size: those that instances have, of all: `2/16x2 GB`. Those of prepared containers count as free.
fn slots(slots: &SlotRoom) -> String {
    format!("{}/{}x{}", slots.used, slots.count, ByteSize(slots.bytes).display().si())
}

fn broken(disk: Option<&DiskCapacity>) -> String {
    disk.filter(|disk| disk.broken > 0).map(|disk| format!(" {} broken", disk.broken)).unwrap_or_default()
}

/// How disk sizes are enforced, and the disks: `loop 16x2 GB 4x4 GB`.
fn disk(disk: &DiskCapacity) -> String {
    let slots =
        disk.slots.iter().map(|slots| format!(" {}x{}", slots.count, ByteSize(slots.bytes).display().si()));
    format!("{}{}{}", disk.limit, slots.collect::<String>(), broken(Some(disk)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_that_ends_soon_is_told_with_what_renews_it() {
        let node = |more: &str| {
            let text = format!(
                r#"{{"node":"n1","address":"127.0.0.1:1","connected":true,"version":null,"capacity":null,
                    "instances":0,"draining":false{more}}}"#
            );
            ending(&serde_json::from_str(&text).unwrap())
        };
        let until = r#","certificate_until_ms":1769860800123"#;
        let told = node(&format!(r#"{until},"certificate_ends_soon":true"#)).unwrap();
        assert!(told.contains("of n1 ends on 2026-01-31:"), "{told}");
        assert!(told.contains("`berth certs renew agent n1 --dir DIR`"), "{told}");
        assert_eq!(node(until), None);
        // An edge of the version before says nothing of it.
        assert_eq!(node(""), None);
    }

    #[test]
    fn an_edges_answer_becomes_a_row() {
        let node = |text: &str| row(&serde_json::from_str(text).unwrap());
        let up = node(
            r#"{"node":"n1","address":"127.0.0.1:1","connected":true,"version":"0.1.0","instances":2,"draining":false,
                "capacity":{"memory_bytes":1073741824,"cpu_sixteenths":24,"instances":64},
                "room":{"used":{"memory_bytes":536870912,"cpu_sixteenths":8,"instances":3},"prepared":2,
                    "slots":[{"bytes":2000000000,"count":16,"used":3,"prepared":2}]},
                "disk":{"limit":"loop","in_memory":true,"slots":[{"bytes":2000000000,"count":17}],"broken":1}}"#,
        );
        let shown = ["n1", "connected", "3/64", "2", "0.5/1.5", "0.5/1.0 GiB", "3/16x2.0 GB 1 broken"];
        assert_eq!(up, shown);
        let at = r#"{"node":"n1","address":"127.0.0.1:1","connected":true,"version":"0.1.0","instances":2,"draining":false,
            "capacity":null,"disk":{"limit":"loop","in_memory":true}}"#;
        assert_eq!(wide(&serde_json::from_str(at).unwrap()), ["127.0.0.1:1", "0.1.0", "loop"]);
        assert!(shown.iter().map(|cell| cell.len() + 2).sum::<usize>() <= 80);
        let older = node(
            r#"{"node":"n1","address":"127.0.0.1:1","connected":true,"version":"0.1.0","instances":2,"draining":false,
                "capacity":{"memory_bytes":1073741824,"cpu_sixteenths":24,"instances":64},
                "disk":{"limit":"loop","in_memory":true,"slots":[{"bytes":2000000000,"count":16}]}}"#,
        );
        assert_eq!(older, ["n1", "connected", "2/64", "-", "1.5", "1.0 GiB", "loop 16x2.0 GB"]);
        let broken = DiskCapacity { broken: 1, ..DiskCapacity::default() };
        assert_eq!(disk(&broken), "unenforced 1 broken");
        let down = node(
            r#"{"node":"n2","address":"127.0.0.1:2","connected":false,"version":null,"capacity":null,
                "instances":0,"draining":false}"#,
        );
        assert_eq!(down, ["n2", "disconnected", "0", "-", "-", "-", "-"]);
    }
}
