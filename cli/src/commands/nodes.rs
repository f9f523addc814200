//! `berth nodes`: the machines that an edge runs containers on. `orders` has what is ordered of one.

mod orders;
mod revoke;

use std::time::{Duration, SystemTime};

use anyhow::Result;
use berth_api::edge::{NodeOrigin, NodeView};
use berth_common::wire::call::{DiskCapacity, SlotRoom};
use bytesize::ByteSize;

use crate::args::{Nodes, Show};
use crate::output;

const HEADINGS: [&str; 7] = ["NODE", "STATE", "TERM", "INSTANCES", "VCPUS", "MEMORY", "DISK SLOTS"];

const WIDE_HEADINGS: [&str; 7] =
    ["HEARD", "UNSTEADY", "PREPARED", "ADDRESS", "FROM", "VERSION", "DISK LIMIT"];

pub(crate) async fn run(args: Nodes) -> Result<()> {
    match args.command {
        Some(command) => orders::run(command).await,
        None => show(&args.show).await,
    }
}

async fn show(args: &Show) -> Result<()> {
    let admin = args.admin.edge()?;
    if args.json {
        return output::json(&admin.get::<serde_json::Value>("/v1/nodes").await?);
    }
    let nodes = admin.nodes().await?.nodes;
    if args.wide {
        let headings: Vec<_> = HEADINGS.into_iter().chain(WIDE_HEADINGS).collect();
        let now = SystemTime::now();
        let rows = nodes.iter().map(|node| [row(node), wide(node, now)].concat());
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

/// How it stands with a node, the worst first.
fn state(view: &NodeView) -> String {
    let silent = view.silent_ms.map(|ms| output::about(Duration::from_millis(ms)));
    match (view.connected, silent) {
        _ if !view.configured => "not configured".to_owned(),
        (false, _) if view.revoked_ms.is_some() => "revoked".to_owned(),
        (false, Some(silent)) if view.lost => format!("lost {silent}"),
        (_, _) if view.lost => "lost".to_owned(),
        (false, Some(silent)) => format!("silent {silent}"),
        (false, None) => "disconnected".to_owned(),
        (true, _) if view.draining && view.instances > 0 => "draining".to_owned(),
        (true, _) if view.draining => "drained".to_owned(),
        (true, _) if view.unsteady_until_ms.is_some() => "unsteady".to_owned(),
        (true, _) => "connected".to_owned(),
    }
}

/// What is left of its term.
fn term(view: &NodeView) -> String {
    match view.term_left_ms {
        Some(0) => "over".to_owned(),
        Some(ms) => output::about(Duration::from_millis(ms)),
        None if view.connected => "none kept".to_owned(),
        None => "-".to_owned(),
    }
}

fn row(view: &NodeView) -> Vec<String> {
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
        state(view),
        term(view),
        of(Some(instances.to_string()), capacity.map(|all| all.instances.to_string())),
        of(used.map(|used| vcpus(used.cpu_sixteenths)), capacity.map(|all| vcpus(all.cpu_sixteenths))),
        of(used.map(|used| gib(used.memory_bytes)), capacity.map(|all| gib(all.memory_bytes) + " GiB")),
        view.room.as_ref().filter(|room| !room.slots.is_empty()).map_or_else(
            || known(view.disk.as_ref().map(disk)),
            |room| room.slots.iter().map(slots).collect::<Vec<_>>().join(" ") + &broken(view.disk.as_ref()),
        ),
    ]
}

fn wide(view: &NodeView, now: SystemTime) -> Vec<String> {
    let known = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let limit = view.disk.as_ref().map(|disk| disk.limit.to_string());
    let ended = view.unsteady_until_ms.map(|until_ms| output::until(until_ms, now));
    vec![
        known(view.silent_ms.map(|ms| format!("{} ago", output::about(Duration::from_millis(ms))))),
        known(ended.map(|until| format!("ends {until}"))),
        known(view.room.as_ref().map(|room| room.prepared.to_string())),
        view.address.to_string(),
        known(view.origin.map(origin)),
        known(view.version.clone()),
        known(limit),
    ]
}

/// Whence the edge has a node.
fn origin(origin: NodeOrigin) -> String {
    let text = match origin {
        NodeOrigin::Flag => "--node",
        NodeOrigin::Hand => "added",
        NodeOrigin::Join => "joined",
        NodeOrigin::Unknown => "-",
    };
    text.to_owned()
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

    fn read(text: &str) -> NodeView {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn an_edges_answer_becomes_a_row() {
        let node = |text: &str| row(&read(text));
        let up = node(
            r#"{"node":"n1","address":"127.0.0.1:1","connected":true,"version":"0.1.0","instances":2,"draining":false,
                "capacity":{"memory_bytes":1073741824,"cpu_sixteenths":24,"instances":64},"term_left_ms":13400,
                "room":{"used":{"memory_bytes":536870912,"cpu_sixteenths":8,"instances":3},"prepared":2,
                    "slots":[{"bytes":2000000000,"count":16,"used":3,"prepared":2}]},
                "disk":{"limit":"loop","in_memory":true,"slots":[{"bytes":2000000000,"count":17}],"broken":1}}"#,
        );
        let shown = ["n1", "connected", "13s", "3/64", "0.5/1.5", "0.5/1.0 GiB", "3/16x2.0 GB 1 broken"];
        assert_eq!(up, shown);
        let at = r#"{"node":"n1","address":"127.0.0.1:1","connected":true,"version":"0.1.0","instances":2,"draining":false,
            "capacity":null,"disk":{"limit":"loop","in_memory":true},"silent_ms":1100,"unsteady_until_ms":120000,"origin":"hand"}"#;
        let more = ["1s ago", "ends in 2m", "-", "127.0.0.1:1", "added", "0.1.0", "loop"];
        assert_eq!(wide(&read(at), SystemTime::UNIX_EPOCH), more);
        let columns = HEADINGS.iter().zip(&shown).map(|(heading, cell)| heading.len().max(cell.len()) + 2);
        assert!(columns.sum::<usize>() - 2 <= 80, "they fit a terminal");
        let older = node(
            r#"{"node":"n1","address":"127.0.0.1:1","connected":true,"version":"0.1.0","instances":2,"draining":false,
                "capacity":{"memory_bytes":1073741824,"cpu_sixteenths":24,"instances":64},
                "disk":{"limit":"loop","in_memory":true,"slots":[{"bytes":2000000000,"count":16}]}}"#,
        );
        assert_eq!(older, ["n1", "connected", "none kept", "2/64", "1.5", "1.0 GiB", "loop 16x2.0 GB"]);
        let broken = DiskCapacity { broken: 1, ..DiskCapacity::default() };
        assert_eq!(disk(&broken), "unenforced 1 broken");
        let down = node(
            r#"{"node":"n2","address":"127.0.0.1:2","connected":false,"version":null,"capacity":null,
                "instances":0,"draining":false}"#,
        );
        assert_eq!(down, ["n2", "disconnected", "-", "0", "-", "-", "-"]);
    }

    #[test]
    fn the_worst_of_a_node_is_shown() {
        let node = |more: &str| {
            let text =
                format!(r#"{{"node":"n1","address":"","version":null,"capacity":null,"instances":1{more}}}"#);
            (state(&read(&text)), term(&read(&text)))
        };
        let up = r#","connected":true,"draining":false"#;
        let shown = |state: &str, term: &str| (state.to_owned(), term.to_owned());
        assert_eq!(
            node(&format!(r#"{up},"unsteady_until_ms":5,"term_left_ms":900"#)),
            shown("unsteady", "0s")
        );
        let silent = r#","connected":false,"draining":true,"silent_ms":185000"#;
        assert_eq!(node(&format!(r#"{silent},"term_left_ms":4000"#)), shown("silent 3m 5s", "4s"));
        assert_eq!(node(&format!(r#"{silent},"lost":true,"term_left_ms":0"#)), shown("lost 3m 5s", "over"));
        assert_eq!(node(&format!(r#"{silent},"revoked_ms":1,"term_left_ms":0"#)), shown("revoked", "over"));
        let draining = r#","connected":true,"draining":true"#;
        assert_eq!(node(draining), shown("draining", "none kept"));
        let gone = r#","configured":false,"connected":false,"draining":false"#;
        assert_eq!(node(gone), shown("not configured", "-"));
    }
}
