//! The architecture as absences: what a crate must not know cannot be in its dependency tree.

use std::process::Command;

use super::page::Page;
use super::workspace;

/// Depths of a tree: what a package names itself, and all that those need.
const ITS_OWN: &str = "1";
const EVERYTHING: &str = "1000";

/// Names of the packages that a package is built from.
fn tree(package: &str, depth: &str) -> Vec<String> {
    let form = ["-e", "normal", "--prefix", "none", "--format", "{p}"];
    let args = ["tree", "--offline", "-p", package, "--depth", depth].into_iter().chain(form);
    let output = Command::new(env!("CARGO")).args(args).current_dir(workspace()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

fn lacks(package: &str, absent: &[&str]) {
    lacks_within(package, EVERYTHING, absent);
}

fn lacks_within(package: &str, depth: &str, absent: &[&str]) {
    let tree = tree(package, depth);
    assert!(tree.iter().any(|name| name == package));
    for name in absent {
        assert!(!tree.iter().any(|found| found == name), "{package} depends on {name}");
    }
}

#[test]
fn the_engine_is_pure() {
    lacks("berth-engine", &["tokio", "quinn", "rustls", "hyper", "sled", "rand_chacha", "berth-certs"]);
}

#[test]
fn the_state_machines_of_the_protocol_are_pure() {
    lacks("berth-protocol", &["tokio", "quinn", "rustls", "hyper", "nix", "libc", "berth-engine"]);
}

#[test]
fn common_knows_no_network_library() {
    lacks("berth-common", &["quinn", "rustls", "hyper", "sled", "libcontainer"]);
}

#[test]
fn the_monitor_knows_nothing_of_what_it_shows() {
    lacks("berth-monitor", &["berth-engine", "berth-certs", "quinn", "rustls", "sled", "axum"]);
}

#[test]
fn libcontainer_is_never_in_a_process_with_threads() {
    // A fork that continues without exec is sound only with one thread, and an async runtime may start more.
    lacks("berth-shim", &["tokio", "tokio-util", "quinn", "quinn-proto", "futures-util", "berth-agent"]);
    lacks_within("berth-agent", ITS_OWN, &["libcontainer", "oci-spec"]);
}

#[test]
fn the_agent_knows_http_only_through_the_monitor() {
    lacks_within(
        "berth-agent",
        ITS_OWN,
        &["hyper", "hyper-util", "http", "http-body-util", "prometheus-client"],
    );
    lacks_within("berth-edge", ITS_OWN, &["prometheus-client"]);
}

#[test]
fn edge_and_agent_only_meet_on_the_wire() {
    lacks("berth-edge", &["berth-agent", "berth-cli", "libcontainer", "cgroups-rs"]);
    lacks("berth-agent", &["berth-edge", "berth-engine", "berth-cli", "sled", "axum"]);
    lacks("berth-cli", &["berth-edge", "berth-agent", "berth-engine", "quinn", "sled", "libcontainer"]);
}

#[test]
fn crates_depend_only_on_what_is_below_them() {
    let page = Page::read();
    let layers = &page.layers["crates"];
    let height = |name: &str| layers.iter().position(|layer| layer.iter().any(|one| one == name));
    for name in layers.iter().flatten() {
        let package = format!("berth-{name}");
        for other in tree(&package, ITS_OWN).iter().filter(|other| **other != package) {
            let Some(other) = other.strip_prefix("berth-") else { continue };
            assert!(height(name) < height(other), "{name} may not depend on {other}");
        }
    }
}
