//! `berth-agent check` on a node that is prepared, and on one that is not.

use anyhow::{Context, Result, ensure};
use berth_tests::cluster::{Cluster, Setup};
use berth_tests::scenario::{Outcome, scenario};
use serde_json::Value;

/// Runs `check` as the daemons' user; returns whether instances can run, and the rows.
fn check(cluster: &Cluster, words: &[&str]) -> Result<(bool, Vec<Value>)> {
    let output = cluster.command("berth-agent").args(["check", "--json"]).args(words).output()?;
    let rows = serde_json::from_slice(&output.stdout).context("its answer is no JSON")?;
    Ok((output.status.success(), rows))
}

fn row<'a>(rows: &'a [Value], what: &str) -> Result<&'a Value> {
    rows.iter().find(|row| row["what"] == what).with_context(|| format!("no row {what}"))
}

#[test]
fn a_prepared_node_can_run_instances() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        let node = &cluster.nodes()[0];
        let (state, cgroup) = (node.state.display().to_string(), node.cgroup().display().to_string());
        let (runs, rows) = check(cluster, &["--state", &state, "--cgroup", &cgroup])?;
        ensure!(runs, "{rows:#?}");
        for what in ["namespaces", "overlay", "cgroup", "internet", "disks in memory"] {
            let row = row(&rows, what)?;
            ensure!(row["state"] == "ok", "{row:#}");
        }
        let disks = row(&rows, "disks")?;
        ensure!(
            disks["state"] == "degraded" && disks["fix"].to_string().contains("--disk-slots"),
            "{disks:#}"
        );
        let left = std::fs::read_dir(&node.state)?
            .flatten()
            .any(|entry| entry.file_name().to_string_lossy().starts_with("trial"));
        ensure!(!left, "a trial left something behind");
        Ok(())
    })
}

#[test]
fn missing_requirements_are_reported_with_their_fix() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        let (runs, rows) = check(cluster, &["--state", "/nowhere", "--cgroup", "/not-delegated"])?;
        ensure!(!runs, "instances could run: {rows:#?}");
        for what in ["overlay", "cgroup"] {
            let row = row(&rows, what)?;
            ensure!(
                row["state"] == "missing" && row["fix"].to_string().contains("berth-agent prepare"),
                "{row:#}"
            );
        }
        let output = cluster.command("berth-agent").args(["check", "--state", "/nowhere"]).output()?;
        let table = String::from_utf8_lossy(&output.stdout);
        ensure!(table.contains("MISSING") && table.contains("berth-agent prepare"), "{table}");
        Ok(())
    })
}
