//! Nodes that are added to an edge and removed from it while it runs, and such whose keys count no more.

use std::collections::BTreeSet;
use std::process::Output;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use berth_api::edge::{NodeOrigin, NodeView};
use berth_tests::app::App;
use berth_tests::cluster::{Cluster, Setup};
use berth_tests::scenario::{Outcome, scenario};
use berth_tests::wait;
use serde_json::{Value, json};

/// How long the edge may take to connect to a node that is there.
const CONNECTED_WITHIN: Duration = Duration::from_secs(30);
/// How long after its last word a node may be forgotten at the latest: a term with its margin, and much for a busy machine.
const OVER_WITHIN: Duration = Duration::from_secs(60);
/// How long it may take until a node is cut off whose key is revoked.
const CUT_OFF_WITHIN: Duration = Duration::from_secs(5);
/// How long is watched that a node stays cut off: each shard dials it twice a second.
const STAYS_CUT_OFF: Duration = Duration::from_secs(4);
/// An address where nobody listens.
const NOBODY: &str = "127.0.0.1:9";
/// As many nodes as an edge takes.
const MOST: usize = 256;

fn shown(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// What a command has printed that must work.
async fn berth(cluster: &Cluster, words: &[&str]) -> Result<String> {
    let output = cluster.berth(words).await?;
    ensure!(output.status.success(), "{words:?}: {}", shown(&output));
    Ok(shown(&output))
}

/// What a command has printed that must fail.
async fn refused(cluster: &Cluster, words: &[&str]) -> Result<String> {
    let output = cluster.berth(words).await?;
    ensure!(!output.status.success(), "{words:?} worked: {}", shown(&output));
    Ok(shown(&output))
}

async fn node(cluster: &Cluster, name: &str) -> Result<NodeView> {
    let nodes = cluster.admin().nodes().await?;
    nodes.into_iter().find(|view| view.node.as_str() == name).with_context(|| format!("no node {name}"))
}

async fn names(cluster: &Cluster) -> Result<BTreeSet<String>> {
    Ok(cluster.admin().nodes().await?.into_iter().map(|view| view.node.to_string()).collect())
}

async fn until_connected(cluster: &Cluster, name: &str) -> Result<()> {
    wait::until("the node to be connected", CONNECTED_WITHIN, async || {
        let view = node(cluster, name).await?;
        ensure!(view.connected, "{view:?}");
        Ok(())
    })
    .await
}

async fn answers(cluster: &Cluster) -> Result<String> {
    wait::until("the container to answer", CONNECTED_WITHIN, async || {
        cluster.client().get("/container/1/instance").await?.success()?.instance()
    })
    .await
}

/// Starts the edge again, without a node on its command line.
async fn without_flags(cluster: &mut Cluster) -> Result<()> {
    (0..cluster.nodes().len()).for_each(|index| cluster.leave_out(index));
    killed_and_back(cluster).await
}

/// Kills the edge, and starts it again.
async fn killed_and_back(cluster: &mut Cluster) -> Result<()> {
    cluster.kill_edge()?;
    cluster.start_edge()?;
    cluster.until_connected().await
}

async fn forgotten(cluster: &Cluster, name: &str) -> Result<()> {
    wait::until("the node to be forgotten", OVER_WITHIN, async || {
        berth(cluster, &["nodes", "forget", name, "--yes"]).await.map(drop)
    })
    .await
}

#[test]
fn an_edge_without_a_node_gets_one_loses_it_and_gets_it_again() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        without_flags(cluster).await?;
        ensure!(names(cluster).await?.is_empty(), "{:?}", names(cluster).await?);
        let at = cluster.nodes()[0].address.to_string();
        let added = berth(cluster, &["nodes", "add", "n1", &at, "--label", "rack=7"]).await?;
        ensure!(added.contains(&format!("added: n1, at {at}")), "{added}");
        until_connected(cluster, "n1").await?;
        ensure!(node(cluster, "n1").await?.origin == Some(NodeOrigin::Hand));
        let app = App { more: "prepared = 0\nlabels = { rack = \"7\" }", ..App::default() };
        cluster.deploy(&app).await?;
        let before = answers(cluster).await?;

        let twice = refused(cluster, &["nodes", "add", "n1", NOBODY]).await?;
        ensure!(twice.contains("there already") && twice.contains(&at), "{twice}");
        let connected = refused(cluster, &["nodes", "forget", "n1", "--yes"]).await?;
        ensure!(connected.contains("it is connected"), "{connected}");

        killed_and_back(cluster).await?;
        until_connected(cluster, "n1").await?;
        ensure!(answers(cluster).await? == before, "its container was given up");

        cluster.kill_agent(0)?;
        cluster.kill_supervisor(0)?;
        forgotten(cluster, "n1").await?;
        ensure!(names(cluster).await?.is_empty(), "{:?}", names(cluster).await?);
        killed_and_back(cluster).await?;
        ensure!(names(cluster).await?.is_empty(), "it is back after a restart");

        cluster.restart_supervisor(0)?;
        cluster.until_supervised(0).await?;
        cluster.start_agent(0)?;
        berth(cluster, &["nodes", "add", "n1", &at, "--label", "rack=7"]).await?;
        until_connected(cluster, "n1").await?;
        ensure!(answers(cluster).await? != before, "it ended with its machine");
        let events = berth(cluster, &["events"]).await?;
        ensure!(events.contains("node added") && events.contains("node forgotten"), "{events}");
        Ok(())
    })
}

#[test]
fn a_node_of_the_command_line_counts_more_and_stays_until_its_flag_is_taken_away() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        let flag = refused(cluster, &["nodes", "add", "n1", NOBODY]).await?;
        ensure!(flag.contains("--node"), "{flag}");
        let at = cluster.nodes()[0].address.to_string();
        without_flags(cluster).await?;
        berth(cluster, &["nodes", "add", "n1", NOBODY]).await?;
        let silent = node(cluster, "n1").await?;
        ensure!(!silent.connected && silent.silent_ms.is_some() && silent.address == NOBODY, "{silent:?}");
        ensure!(berth(cluster, &["nodes"]).await?.contains("silent"), "it is not told");
        cluster.keep_in(0);
        killed_and_back(cluster).await?;
        until_connected(cluster, "n1").await?;
        let view = node(cluster, "n1").await?;
        ensure!(view.address == at && view.origin == Some(NodeOrigin::Flag), "{view:?}");
        cluster.kill_agent(0)?;
        wait::until("the node to be forgotten", OVER_WITHIN, async || {
            let told = berth(cluster, &["nodes", "forget", "n1", "--yes"]).await?;
            ensure!(told.contains("take its --node away"), "{told}");
            Ok(())
        })
        .await?;
        ensure!(names(cluster).await?.contains("n1"), "its flag is still there");
        without_flags(cluster).await?;
        ensure!(names(cluster).await?.is_empty(), "what was added is still in the store");
        Ok(())
    })
}

#[test]
fn bad_names_and_addresses_are_refused_and_nothing_is_kept_of_them() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        let before = names(cluster).await?;
        let long = "a".repeat(64);
        let labels_64 = vec!["a"; 64].join(".");
        let host = format!("{}.example:7443", vec!["a"; 64].join("."));
        let bad: [(&str, &str); 8] = [
            ("", NOBODY),
            ("a/b", NOBODY),
            (&long, NOBODY),
            (&labels_64, NOBODY),
            ("n2", "nowhere"),
            ("n2", "127.0.0.1:0"),
            ("n2", ":7443"),
            ("n2", "a b:7443"),
        ];
        for (name, address) in bad {
            let (status, answer) = post(cluster, name, address).await?;
            ensure!(status == 422 || status == 400, "{name} at {address}: {status}: {answer}");
        }
        let (status, answer) = post(cluster, "n2", &format!("{}:1", "a".repeat(300))).await?;
        ensure!(status == 422, "{status}: {answer}");
        let labels: serde_json::Map<_, _> = (0..33).map(|n| (format!("l{n}"), json!("x"))).collect();
        for labels in [json!(labels), json!({"a b": "x"}), json!({"a": ""})] {
            let body = json!({"node": "n2", "address": NOBODY, "labels": labels});
            let (status, answer) = cluster.admin().post("/v1/nodes", &body).await?;
            ensure!(status == 422, "{status}: {answer}");
        }
        ensure!(names(cluster).await? == before, "{:?}", names(cluster).await?);
        // A host's name of 64 labels is one; that nobody answers there is told of the node.
        let (status, answer) = post(cluster, "n2", &host).await?;
        ensure!(status == 201, "{status}: {answer}");
        ensure!(!node(cluster, "n2").await?.connected);
        forgotten(cluster, "n2").await
    })
}

async fn post(cluster: &Cluster, name: &str, address: &str) -> Result<(u16, Value)> {
    let body = json!({"node": name, "address": address});
    let (status, answer) = cluster.admin().post("/v1/nodes", &body).await?;
    Ok((status.as_u16(), answer))
}

#[test]
fn a_full_edge_takes_no_more_until_one_is_removed() -> Outcome {
    scenario(Setup::nodes(0), async |cluster| {
        for number in 0..MOST {
            let (status, answer) = post(cluster, &format!("m{number}"), NOBODY).await?;
            ensure!(status == 201, "{number}: {status}: {answer}");
        }
        let (status, answer) = post(cluster, "more", NOBODY).await?;
        ensure!(
            status == 409 && answer["detail"].as_str().is_some_and(|why| why.contains("256")),
            "{answer}"
        );
        killed_and_back(cluster).await?;
        ensure!(names(cluster).await?.len() == MOST, "{:?}", names(cluster).await?);
        ensure!(post(cluster, "more", NOBODY).await?.0 == 409);
        forgotten(cluster, "m7").await?;
        let (status, answer) = post(cluster, "more", NOBODY).await?;
        ensure!(status == 201, "{status}: {answer}");
        Ok(())
    })
}

#[test]
fn an_edge_that_is_killed_while_nodes_are_added_has_all_that_it_has_acknowledged() -> Outcome {
    scenario(Setup::nodes(0), async |cluster| {
        let mut acknowledged = BTreeSet::new();
        for round in 0..5_u64 {
            let admin = cluster.admin();
            let adding = tokio::spawn(async move {
                let mut added = Vec::new();
                for number in 0..40 {
                    let name = format!("r{round}-{number}");
                    let body = json!({"node": name, "address": NOBODY});
                    match admin.post("/v1/nodes", &body).await {
                        Ok((status, _)) if status == 201 => added.push(name),
                        _ => break,
                    }
                }
                added
            });
            tokio::time::sleep(Duration::from_millis(5 + 17 * round)).await;
            cluster.kill_edge()?;
            acknowledged.extend(adding.await?);
            cluster.start_edge()?;
            cluster.until_connected().await?;
            let there = names(cluster).await?;
            ensure!(
                acknowledged.is_subset(&there),
                "{acknowledged:?} were acknowledged, and {there:?} are there"
            );
            // At most one was under way each time, and is there whole or not at all.
            ensure!(there.len() <= acknowledged.len() + 1 + usize::try_from(round)?, "{there:?}");
        }
        // Two at once of one name: one of them.
        let (one, other) =
            tokio::join!(post(cluster, "twice", NOBODY), post(cluster, "twice", "127.0.0.1:10"));
        let mut statuses = [one?.0, other?.0];
        statuses.sort_unstable();
        ensure!(statuses == [201, 409], "{statuses:?}");
        Ok(())
    })
}

/// A container on each of two nodes, and the node of the object `1` with its index.
async fn one_on_each(cluster: &Cluster) -> Result<(String, usize)> {
    cluster.deploy(&App { more: "prepared = 0\nspread = \"node\"", ..App::default() }).await?;
    for object in 1..=2 {
        cluster.client().get(&format!("/container/{object}")).await?.success()?;
    }
    let node = cluster.admin().object("1").await?.node.context("it has a node")?.to_string();
    let index = cluster.nodes().iter().position(|known| known.name == node).context("a known one")?;
    Ok((node, index))
}

async fn stays_cut_off(cluster: &Cluster, name: &str) -> Result<()> {
    let until = tokio::time::Instant::now() + STAYS_CUT_OFF;
    while tokio::time::Instant::now() < until {
        let view = node(cluster, name).await?;
        ensure!(!view.connected && view.revoked_ms.is_some(), "{view:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// How often the edge has connected to a node so far, by its log: for calls by each shard, and for images.
fn connections(cluster: &Cluster, name: &str) -> Result<usize> {
    let log = std::fs::read_to_string(cluster.log_of("edge"))?;
    let of = format!("node={name}");
    let is_one = |line: &&str| line.contains("node connected") && line.split(' ').any(|word| word == of);
    Ok(log.lines().filter(is_one).count())
}

#[test]
fn a_revoked_node_is_cut_off_for_good_and_what_it_had_is_given_up_after_its_term() -> Outcome {
    scenario(Setup::nodes(2), async |cluster| {
        let (name, index) = one_on_each(cluster).await?;
        let before = cluster.admin().object("1").await?.generation;
        let planned = berth(cluster, &["nodes", "revoke", &name, "--dry-run"]).await?;
        ensure!(planned.contains("it has 1 container,"), "{planned}");
        ensure!(node(cluster, &name).await?.connected, "a dry run has cut it off");
        let unasked = refused(cluster, &["nodes", "revoke", &name]).await?;
        ensure!(unasked.contains("--yes"), "{unasked}");
        berth(cluster, &["nodes", "revoke", &name, "--yes"]).await?;
        wait::until("the node to be cut off", CUT_OFF_WITHIN, async || {
            let view = node(cluster, &name).await?;
            ensure!(!view.connected && view.term_left_ms.is_some_and(|left_ms| left_ms > 0), "{view:?}");
            Ok(())
        })
        .await?;
        ensure!(cluster.admin().object("1").await?.generation == before, "it may still run there");
        let connected = connections(cluster, &name)?;
        stays_cut_off(cluster, &name).await?;
        ensure!(berth(cluster, &["nodes"]).await?.contains("revoked"), "it is not told");
        wait::until("its object to be answered elsewhere", OVER_WITHIN, async || {
            cluster.client().get("/container/1").await?.success()?;
            let view = cluster.admin().object("1").await?;
            ensure!(view.node.as_ref().is_some_and(|now| now.as_str() != name), "{view:?}");
            Ok(())
        })
        .await?;
        ensure!(berth(cluster, &["events"]).await?.contains("node revoked"));

        cluster.kill_edge()?;
        cluster.start_edge()?;
        wait::until("the other node to be connected", CONNECTED_WITHIN, async || {
            let connected = cluster.admin().nodes().await?.iter().filter(|view| view.connected).count();
            ensure!(connected == 1, "{connected}");
            Ok(())
        })
        .await?;
        stays_cut_off(cluster, &name).await?;
        ensure!(connections(cluster, &name)? == connected, "it was connected again");

        // Another key of the same name, as an operator makes it.
        cluster.give_new_key(index)?;
        cluster.kill_agent(index)?;
        cluster.start_agent(index)?;
        until_connected(cluster, &name).await?;
        ensure!(node(cluster, &name).await?.revoked_ms.is_none(), "it has another key");
        Ok(())
    })
}

#[test]
fn a_key_that_the_edge_has_not_seen_is_revoked_by_its_certificate() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        let unknown = refused(cluster, &["nodes", "revoke", "n9", "--yes"]).await?;
        ensure!(unknown.contains("--cert"), "{unknown}");
        let other = cluster.authority().join("agent-n1.key");
        let no_certificate =
            refused(cluster, &["nodes", "revoke", "n1", "--yes", "--cert", &other.to_string_lossy()]).await?;
        ensure!(no_certificate.contains("agent-n1.key"), "{no_certificate}");
        ensure!(node(cluster, "n1").await?.connected, "a bad order has cut it off");
        let body = json!({"key": "zz"});
        ensure!(cluster.admin().post("/v1/nodes/n1/revoke", &body).await?.0 == 422);
        let at = cluster.nodes()[0].address.to_string();
        without_flags(cluster).await?;
        let own = cluster.authority().join("agent-n1.pem");
        berth(cluster, &["nodes", "revoke", "n1", "--yes", "--cert", &own.to_string_lossy()]).await?;
        berth(cluster, &["nodes", "add", "n1", &at]).await?;
        tokio::time::sleep(STAYS_CUT_OFF).await;
        ensure!(!node(cluster, "n1").await?.connected, "its key was revoked before it was added");
        Ok(())
    })
}

/// What a command has printed that works with files of root.
fn as_operator(cluster: &Cluster, words: &[&str]) -> Result<String> {
    let output = std::process::Command::new(cluster.program("berth")).args(words).output()?;
    ensure!(output.status.success(), "{words:?}: {}", shown(&output));
    Ok(shown(&output))
}

/// How often the first node's agent has told of a connection.
fn told_connections(cluster: &Cluster) -> Result<usize> {
    Ok(std::fs::read_to_string(cluster.log_of("agent-n1"))?.matches("edge connected edge").count())
}

#[test]
fn a_node_whose_key_was_made_on_its_machine_is_used() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        let machine = cluster.make_directory("machine")?;
        let on_machine = machine.to_string_lossy().into_owned();
        let authority = cluster.authority().to_string_lossy().into_owned();
        let made = as_operator(cluster, &["certs", "request", "agent", "n1", "--dir", &on_machine])?;
        let request = machine.join("agent-n1.csr").to_string_lossy().into_owned();
        let other = as_operator(cluster, &["certs", "sign", &request, "--dir", &authority]);
        let other = other.map_or_else(|error| error.to_string(), |_| "it worked".to_owned());
        ensure!(other.contains("--replace"), "{other}");
        let signed = as_operator(cluster, &["certs", "sign", &request, "--dir", &authority, "--replace"])?;
        let key = made
            .split_whitespace()
            .map(|word| word.trim_end_matches('.'))
            .find(|word| word.len() == 64)
            .context("no key")?;
        ensure!(signed.contains("agent \"n1\"") && signed.contains(key), "{made}{signed}");
        let before = told_connections(cluster)?;
        cluster.kill_agent(0)?;
        cluster.use_key(0, &machine.join("agent-n1.key"))?;
        cluster.start_agent(0)?;
        wait::until("the edge to connect to the agent with its new key", CONNECTED_WITHIN, async || {
            ensure!(told_connections(cluster)? > before, "not yet");
            Ok(())
        })
        .await
    })
}
