//! The architecture as absences: what a crate must not know cannot be in its dependency tree.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::process::Command;

/// Names of the packages that a package is built from.
fn tree(package: &str) -> Vec<String> {
    let args = ["tree", "--offline", "-p", package, "-e", "normal", "--prefix", "none", "--format", "{p}"];
    let output =
        Command::new(env!("CARGO")).args(args).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

fn lacks(package: &str, absent: &[&str]) {
    let tree = tree(package);
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
fn common_knows_no_network_library() {
    lacks("berth-common", &["quinn", "rustls", "hyper", "sled", "libcontainer"]);
}

#[test]
fn edge_and_agent_only_meet_on_the_wire() {
    lacks("berth-edge", &["berth-agent", "berth-cli", "libcontainer", "cgroups-rs"]);
    lacks("berth-agent", &["berth-edge", "berth-engine", "berth-cli", "sled", "hyper"]);
    lacks("berth-cli", &["berth-edge", "berth-agent", "berth-engine", "quinn", "sled", "libcontainer"]);
}
