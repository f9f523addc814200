//! Orders to nodes through the edge, and what it tells of them: drained and in use again, forgotten for good, lost.

use std::process::Output;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use berth_api::containers::ContainerState;
use berth_api::edge::NodeView;
use berth_common::outcome::ExitReason;
use berth_tests::app::App;
use berth_tests::cluster::{Cluster, Setup};
use berth_tests::scenario::{Outcome, scenario};
use berth_tests::wait;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

/// How long the edge may take to hear of something, and an order to be carried out.
const SEEN_WITHIN: Duration = Duration::from_secs(15);
/// How long after its last word a node may be given up at the latest: a term with its margin, and much for a busy machine.
const OVER_WITHIN: Duration = Duration::from_secs(60);
/// The objects of each scenario: two on each of two nodes.
const NAMES: [&str; 4] = ["1", "2", "3", "4"];

/// What a command has printed that must work.
async fn berth(cluster: &Cluster, words: &[&str]) -> Result<String> {
    let output = cluster.berth(words).await?;
    ensure!(output.status.success(), "{words:?}: {}", shown(&output));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn shown(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Two nodes with two objects each, none of which sleeps.
async fn two_on_each(cluster: &Cluster) -> Result<()> {
    cluster.deploy(&App { more: "prepared = 0\nspread = \"node\"", ..App::default() }).await?;
    for name in NAMES {
        cluster.client().get(&format!("/container/{name}")).await?.success()?;
    }
    let there = on(cluster, "n1").await?.len();
    ensure!(there == NAMES.len() / 2, "they are not spread: {there} on n1");
    Ok(())
}

/// The names of the objects that have a container on a node.
async fn on(cluster: &Cluster, node: &str) -> Result<Vec<String>> {
    let objects = cluster.admin().objects().await?;
    let there = objects.into_iter().filter(|view| view.node.as_ref().is_some_and(|own| own.as_str() == node));
    Ok(there.map(|view| view.name.to_string()).collect())
}

async fn node(cluster: &Cluster, name: &str) -> Result<NodeView> {
    let nodes = cluster.admin().nodes().await?;
    nodes.into_iter().find(|view| view.node.as_str() == name).with_context(|| format!("no node {name}"))
}

/// What has happened, each as its kind and the object's name, or else the node's.
async fn happened(cluster: &Cluster) -> Result<Vec<(String, String)>> {
    let lines = berth(cluster, &["events", "--json"]).await?;
    let of = |line: &str| {
        let happening: Value = serde_json::from_str(line)?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let object = text(&happening["object"]["name"]);
        let who = if object.is_empty() { text(&happening["node"]) } else { object };
        Ok((text(&happening["kind"]), who))
    };
    lines.lines().map(of).collect()
}

async fn until_happened(cluster: &Cluster, expected: &[(&str, &str)]) -> Result<()> {
    wait::until("what has happened to be told", SEEN_WITHIN, async || {
        let told = happened(cluster).await?;
        for (kind, who) in expected {
            let known = told.iter().any(|(own, of)| own == kind && of == who);
            ensure!(known, "{kind} of {who} is not among {told:?}");
        }
        Ok(())
    })
    .await
}

/// All objects answer, and from this node.
async fn all_answer_on(cluster: &Cluster, node: &str) -> Result<()> {
    wait::until("all to answer elsewhere", OVER_WITHIN, async || {
        for name in NAMES {
            cluster.client().get(&format!("/container/{name}")).await?.success()?;
        }
        let there = on(cluster, node).await?.len();
        ensure!(there == NAMES.len(), "{there} are on {node}");
        Ok(())
    })
    .await
}

#[test]
fn a_node_is_drained_and_used_again_through_the_edge_and_a_restart_of_it_changes_nothing() -> Outcome {
    scenario(Setup::nodes(2), async |cluster| {
        two_on_each(cluster).await?;
        let promised = berth(cluster, &["nodes", "drain", "n1", "--dry-run"]).await?;
        ensure!(promised.contains("2 containers"), "{promised}");
        ensure!(on(cluster, "n1").await?.len() == 2, "a dry run has ended some");
        let lost = on(cluster, "n1").await?;
        let told = berth(cluster, &["nodes", "drain", "n1"]).await?;
        ensure!(told.contains("n1 is empty"), "{told}");
        for name in &lost {
            let exit = cluster.admin().object(name).await?.exit.context("it does not say how it ended")?;
            ensure!((exit.reason, exit.code) == (ExitReason::Drained, Some(0)), "{exit:?}");
        }
        ensure!(cluster.instance_groups(0).is_empty(), "something is left");
        let table = berth(cluster, &["nodes"]).await?;
        ensure!(table.lines().any(|line| line.starts_with("n1 ") && line.contains(" drained ")), "{table}");
        all_answer_on(cluster, "n2").await?;
        cluster.restart_edge().await?;
        ensure!(node(cluster, "n1").await?.drained_since_ms.is_some(), "the edge has forgotten it");
        cluster.client().get("/container/5").await?.success()?;
        ensure!(on(cluster, "n1").await?.is_empty(), "something new was put there");
        berth(cluster, &["nodes", "undrain", "n1"]).await?;
        cluster.client().get("/container/6").await?.success()?;
        cluster.client().get("/container/7").await?.success()?;
        wait::until("the node to be used again", SEEN_WITHIN, async || {
            let there = on(cluster, "n1").await?;
            ensure!(!there.is_empty(), "nothing is on it");
            Ok(())
        })
        .await?;
        until_happened(cluster, &[("node_drained", "n1"), ("node_undrained", "n1")]).await
    })
}

#[test]
fn a_container_that_a_request_holds_is_drained_once_that_has_ended() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&App { more: "prepared = 0", ..App::default() }).await?;
        let client = cluster.client();
        let held = tokio::spawn(async move { client.get("/container/1/slow/8").await });
        let state = async || anyhow::Ok(cluster.admin().object("1").await?.state);
        wait::until("the container to serve", SEEN_WITHIN, async || {
            ensure!(state().await? == ContainerState::Healthy, "it does not");
            Ok(())
        })
        .await?;
        berth(cluster, &["nodes", "drain", "n1", "--no-wait"]).await?;
        tokio::time::sleep(Duration::from_secs(3)).await;
        ensure!(state().await? == ContainerState::Healthy, "it was told to end while it was held");
        let answer = held.await??.success()?;
        ensure!(answer.text == "........", "the answer was cut to {:?}", answer.text);
        wait::until("the node to be empty", SEEN_WITHIN, async || {
            ensure!(cluster.instance_groups(0).is_empty(), "something is left");
            Ok(())
        })
        .await
    })
}

/// A node whose machine is gone: its daemons are, and with them its containers.
fn end_machine(cluster: &mut Cluster, index: usize) -> Result<()> {
    cluster.kill_agent(index)?;
    cluster.kill_supervisor(index)
}

#[test]
fn a_node_that_is_gone_for_good_is_forgotten_and_its_objects_start_elsewhere() -> Outcome {
    let setup = Setup { edge_options: vec!["--node-loss".to_owned(), "never".to_owned()], ..Setup::nodes(2) };
    scenario(setup, async |cluster| {
        two_on_each(cluster).await?;
        let lost = on(cluster, "n1").await?;
        let refused = cluster.berth(&["nodes", "forget", "n1", "--yes"]).await?;
        ensure!(
            !refused.status.success() && shown(&refused).contains("it is connected"),
            "{}",
            shown(&refused)
        );
        end_machine(cluster, 0)?;
        wait::until("the edge to notice", OVER_WITHIN, async || {
            ensure!(!node(cluster, "n1").await?.connected, "it is connected");
            Ok(())
        })
        .await?;
        let unknown = cluster.berth(&["nodes", "forget", "n9", "--yes"]).await?;
        ensure!(!unknown.status.success() && shown(&unknown).contains("no node `n9`"), "{}", shown(&unknown));
        wait::until("its term to be over", OVER_WITHIN, async || {
            let promised = berth(cluster, &["nodes", "forget", "n1", "--dry-run"]).await?;
            ensure!(lost.iter().all(|name| promised.contains(&format!("/{name}"))), "{promised}");
            Ok(())
        })
        .await?;
        ensure!(on(cluster, "n1").await? == lost, "a dry run has given up some");
        let unasked = cluster.berth(&["nodes", "forget", "n1"]).await?;
        ensure!(!unasked.status.success() && shown(&unasked).contains("--yes"), "{}", shown(&unasked));
        berth(cluster, &["nodes", "forget", "n1", "--yes"]).await?;
        all_answer_on(cluster, "n2").await?;
        let mut expected = vec![("node_silent", "n1"), ("node_forgotten", "n1")];
        for name in &lost {
            expected.extend([("object_given_up", name.as_str()), ("object_restarted", name.as_str())]);
        }
        until_happened(cluster, &expected).await
    })
}

#[test]
fn a_node_that_the_edge_is_not_configured_with_any_more_is_forgotten_too() -> Outcome {
    scenario(Setup::nodes(2), async |cluster| {
        two_on_each(cluster).await?;
        cluster.kill_edge()?;
        end_machine(cluster, 0)?;
        cluster.leave_out(0);
        cluster.start_edge()?;
        cluster.until_connected().await?;
        let left = node(cluster, "n1").await?;
        ensure!(!left.configured && left.instances == 2, "{left:?}");
        let (status, early) = cluster.admin().post("/v1/nodes/n1/forget", &json!({"dry_run": true})).await?;
        ensure!(
            status == 409 && early["detail"].as_str().is_some_and(|why| why.contains("until")),
            "{status}: {early}"
        );
        wait::until("no term to be left", OVER_WITHIN, async || {
            let promised = berth(cluster, &["nodes", "forget", "n1", "--dry-run"]).await?;
            ensure!(promised.contains("be sure that its machine is off"), "{promised}");
            Ok(())
        })
        .await?;
        berth(cluster, &["nodes", "forget", "n1", "--yes"]).await?;
        all_answer_on(cluster, "n2").await?;
        wait::until("it to be gone from the list", SEEN_WITHIN, async || {
            ensure!(node(cluster, "n1").await.is_err(), "it is still there");
            Ok(())
        })
        .await
    })
}

#[test]
fn a_loss_is_told_of_as_it_happens_and_afterwards() -> Outcome {
    scenario(Setup::nodes(2), async |cluster| {
        two_on_each(cluster).await?;
        let lost = on(cluster, "n1").await?;
        let mut stream =
            berth_api::Client::at(cluster.admin().socket()).watch("happenings=true&node=n1").await?;
        let agent = Pid::from_raw(i32::try_from(cluster.agent(0)?.pid())?);
        kill(agent, Signal::SIGSTOP)?;
        let seen = tokio::time::timeout(OVER_WITHIN, async {
            let mut kinds = Vec::new();
            while let Some(event) = stream.next().await? {
                if let berth_api::events::ObjectEvent::Happening(happening) = event {
                    kinds.push(happening.kind.to_string());
                }
                if kinds.last().is_some_and(|kind| kind == "node lost") {
                    break;
                }
            }
            anyhow::Ok(kinds)
        });
        let seen = seen.await.context("the loss was not told")??;
        ensure!(seen.contains(&"node silent".to_owned()), "{seen:?}");
        all_answer_on(cluster, "n2").await?;
        kill(agent, Signal::SIGCONT)?;
        let mut expected = vec![("node_connected", "n1"), ("node_lost", "n1"), ("node_back", "n1")];
        for name in &lost {
            expected.extend([("object_given_up", name.as_str()), ("object_restarted", name.as_str())]);
        }
        until_happened(cluster, &expected).await?;
        let before = happened(cluster).await?;
        cluster.restart_edge().await?;
        let after = happened(cluster).await?;
        ensure!(after.starts_with(&before), "before the restart {before:?}, then {after:?}");
        let page = cluster.admin().get("/v1/events/past?limit=2&node=n1").await?;
        ensure!(page["happenings"].as_array().is_some_and(|found| found.len() == 2), "{page}");
        let cursor = page["next_cursor"].as_str().context("there is no further page")?.to_owned();
        let next = cluster.admin().get(&format!("/v1/events/past?limit=1&node=n1&cursor={cursor}")).await?;
        ensure!(next["happenings"][0]["number"].as_u64() > cursor.parse().ok(), "{next}");
        Ok(())
    })
}
