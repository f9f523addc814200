//! Where instances go, and in which order: labels and regions, the reasons that are told, and many starts at once.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use berth_tests::app::App;
use berth_tests::cluster::{Cluster, Setup};
use berth_tests::host::signal;
use berth_tests::scenario::{Outcome, count, scenario};
use berth_tests::wait;
use futures_util::future::try_join_all;
use nix::sys::signal::Signal;

/// How long after a node is gone those that are asked for all must answer, however many they were.
const ALL_WITHIN: Duration = Duration::from_secs(60);
/// How long one request may take: its client is patient.
const PATIENCE: Duration = Duration::from_secs(90);

async fn berth(cluster: &Cluster, words: &[&str]) -> Result<String> {
    let output = cluster.berth(words).await?;
    let (told, wrong) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{words:?}: {told}{wrong}");
    Ok(told.into_owned())
}

#[test]
fn a_class_goes_where_its_labels_and_regions_are_and_is_refused_where_nobody_has_them() -> Outcome {
    let agent_options = vec!["--label", "gpu=a100", "--region", "eu"];
    scenario(Setup { agent_options, ..Setup::nodes(2) }, async |cluster| {
        let lacking =
            [("labels = { gpu = \"h100\" }", "the label gpu=h100"), ("regions = [\"us\"]", "the region us")];
        for (more, lack) in lacking {
            let allowed = cluster.try_deploy(&App { more, ..App::default() }, &[]).await?;
            let warned = String::from_utf8_lossy(&allowed.stderr).into_owned();
            ensure!(allowed.status.success() && warned.contains(lack), "{more}: {warned}");
            let directory = cluster.directory().join("app-hello").display().to_string();
            let refused = cluster.berth(&["deploy", &directory, "--force"]).await?;
            let told = String::from_utf8_lossy(&refused.stderr).into_owned();
            ensure!(!refused.status.success() && told.contains(lack), "{more}: {told}");
        }
        let more = "labels = { gpu = \"a100\" }\nregions = [\"eu\", \"us\"]\nspread = \"node\"\nprepared = 0";
        cluster.deploy(&App { more, ..App::default() }).await?;
        for object in 0..4 {
            cluster.client().get(&format!("/container/{object}")).await?.success()?;
        }
        let objects = cluster.admin().objects().await?;
        let nodes: Vec<_> = objects.iter().filter_map(|object| object.node.clone()).collect();
        let distinct: BTreeSet<_> = nodes.iter().collect();
        let on_first = nodes.iter().filter(|node| **node == nodes[0]).count();
        ensure!((distinct.len(), on_first) == (2, 2), "they are not spread: {nodes:?}");
        let why = berth(cluster, &["containers", "why", "hello/Hello/1"]).await?;
        ensure!(why.starts_with("on n") && why.matches("can take it").count() == 2, "{why}");
        ensure!(why.lines().all(|line| line.chars().count() <= 80), "wider than a terminal: {why}");
        Ok(())
    })
}

/// Stops all of a node's processes at once, as if its machine were gone.
fn stop_machine(cluster: &Cluster, node: usize) -> Result<Vec<u32>> {
    let mut all = cluster.instance_processes(node);
    all.extend(cluster.shims(node)?);
    all.extend([cluster.supervisor(node)?.pid(), cluster.agent(node)?.pid()]);
    for pid in &all {
        signal(*pid, Signal::SIGSTOP)?;
    }
    Ok(all)
}

/// Asks for all of them at once, and waits for each answer.
async fn all_at_once(cluster: &Cluster, objects: usize) -> Result<()> {
    let client = cluster.client();
    let ask = |object: usize| async move {
        wait::until("an answer", PATIENCE, async || {
            client.get(&format!("/container/{object}")).await?.success()?;
            Ok(())
        })
        .await
    };
    try_join_all((0..objects).map(ask)).await?;
    Ok(())
}

/// All objects are on the first node, which is gone. Those of a whole machine start on three others at once.
#[test]
fn all_objects_of_a_machine_that_is_gone_answer_in_time_and_none_is_ended_by_a_timeout() -> Outcome {
    let objects = count(40, 300);
    let agent_options = vec!["--max-instances", "400", "--starts-at-once", "2"];
    scenario(Setup { agent_options, ..Setup::nodes(4) }, async |cluster| {
        cluster
            .deploy(&App { memory: "16MiB", disk: "10MB", more: "prepared = 0", ..App::default() })
            .await?;
        for node in ["n2", "n3", "n4"] {
            berth(cluster, &["nodes", "drain", node]).await?;
        }
        all_at_once(cluster, objects).await?;
        for node in ["n2", "n3", "n4"] {
            berth(cluster, &["nodes", "undrain", node]).await?;
        }
        let stopped = stop_machine(cluster, 0)?;
        let gone = tokio::time::Instant::now();
        all_at_once(cluster, objects).await?;
        let took = gone.elapsed();
        eprintln!("{objects} objects answer elsewhere after {took:?}");
        ensure!(took <= ALL_WITHIN, "it took {took:?}");
        for view in cluster.admin().objects().await? {
            let node = view.node.context("it has no container")?;
            let (generation, name) = (view.generation.0, &view.name);
            ensure!(generation == 2 && node.as_str() != "n1", "{name}: start {generation}, on {node}");
        }
        for pid in stopped.into_iter().rev() {
            // A shim may have ended its container meanwhile.
            let _ = signal(pid, Signal::SIGCONT);
        }
        Ok(())
    })
}
