//! The main function of Berth: each ID has an instance of its own, on some node, for all its requests.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use berth_api::containers::ContainerState;
use berth_tests::app::App;
use berth_tests::cluster::{Cluster, Setup};
use berth_tests::scenario::{Outcome, scenario};
use serde_json::Value;

/// Requests that come at the same time for an object that has no instance yet.
const BURST: usize = 50;
/// Objects that are spread: three for each node.
const SPREAD: usize = 9;

#[test]
fn two_ids_have_two_instances_and_an_id_keeps_its_own() -> Outcome {
    scenario(Setup::default(), async |cluster| {
        cluster.deploy(&App::default()).await?;
        let client = cluster.client();
        let one = client.get("/container/1").await?.success()?.instance()?;
        let two = client.get("/container/2").await?.success()?.instance()?;
        ensure!(one != two, "both IDs were answered by {one}");
        for _ in 0..10 {
            let again = client.get("/container/1/instance").await?.success()?;
            ensure!(again.instance()? == one, "ID 1 was answered by {} after {one}", again.instance()?);
            ensure!(again.text.trim() == one, "the container calls itself {}", again.text.trim());
        }
        Ok(())
    })
}

#[test]
fn a_request_arrives_as_it_was_sent() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&App::default()).await?;
        let client = cluster.client();
        let page = client.get("/container/a%20b/x/../headers?q=1&r=%2F").await?.success()?;
        let first = page.text.lines().next().unwrap_or_default();
        ensure!(first == "GET /container/a%20b/x/../headers?q=1&r=%2F HTTP/1.1", "{first}");
        let object = cluster.admin().object("a b").await?;
        ensure!(object.state == ContainerState::Healthy, "{object:?}");
        let status = client.get("/container/a%20b/status/418").await?.status;
        ensure!(status.as_u16() == 418, "{status}");
        Ok(())
    })
}

#[test]
fn fifty_concurrent_first_requests_start_one_container() -> Outcome {
    scenario(Setup::default(), async |cluster| {
        cluster.deploy(&App::default()).await?;
        let client = cluster.client();
        let requests = (0..BURST).map(|_| tokio::spawn(async move { client.get("/container/burst").await }));
        let mut instances = BTreeSet::new();
        for request in requests.collect::<Vec<_>>() {
            instances.insert(request.await??.success()?.instance()?);
        }
        ensure!(instances.len() == 1, "answered by {instances:?}");
        let object = cluster.admin().object("burst").await?;
        ensure!(object.generation.0 == 1, "{object:?}");
        let containers = containers(cluster)?;
        ensure!(containers == 1, "{containers} containers were started");
        Ok(())
    })
}

#[test]
fn objects_spread_over_the_nodes_and_the_list_shows_them() -> Outcome {
    scenario(Setup::default(), async |cluster| {
        cluster.deploy(&App { more: "spread = \"node\"", ..App::default() }).await?;
        let before = now_ms()?;
        let mut answered = BTreeMap::new();
        for number in 0..SPREAD {
            let answer = cluster.client().get(&format!("/container/object-{number}")).await?.success()?;
            answered.insert(format!("object-{number}"), answer.instance()?);
        }
        let output = cluster.berth(&["containers", "list", "--json"]).await?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let list: Value = serde_json::from_slice(&output.stdout)?;
        let listed = list["containers"].as_array().context("no list of containers")?;
        let mut by_node = BTreeMap::<String, usize>::new();
        for object in listed {
            *by_node.entry(object["node"].as_str().unwrap_or("none").to_owned()).or_default() += 1;
            expect_listed(object, &answered, before)?;
        }
        ensure!(listed.len() == SPREAD, "{} objects are listed, not {SPREAD}", listed.len());
        let even = BTreeMap::from(["n1", "n2", "n3"].map(|node| (node.to_owned(), SPREAD / 3)));
        ensure!(by_node == even, "the objects are spread like this: {by_node:?}");
        Ok(())
    })
}

fn expect_listed(object: &Value, answered: &BTreeMap<String, String>, before_ms: u64) -> Result<()> {
    let name = object["name"].as_str().context("an object without a name")?;
    ensure!(object["state"] == "healthy", "{object}");
    ensure!(
        object["instance"].as_str() == answered.get(name).map(String::as_str),
        "{object}, not {answered:?}"
    );
    let since = object["last_change_ms"].as_u64().context("no last_change_ms")?;
    ensure!(
        (before_ms..=now_ms()?).contains(&since),
        "{name} changed at {since}, before {before_ms} or later than now"
    );
    Ok(())
}

/// How many containers all nodes have had: each has a log.
fn containers(cluster: &Cluster) -> Result<usize> {
    let nodes = 0..cluster.nodes().len();
    nodes.map(|index| Ok(cluster.instance_logs(index)?.len())).sum()
}

fn now_ms() -> Result<u64> {
    Ok(u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?)
}
