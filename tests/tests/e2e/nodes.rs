//! Terms: who is not heard of is paused, whatever of the node or the edge still runs; and goes on where it was once it is.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use berth_api::containers::ContainerState;
use berth_tests::app::App;
use berth_tests::cluster::{Cluster, Setup};
use berth_tests::host::signal;
use berth_tests::scenario::{Outcome, scenario};
use berth_tests::{cgroup, wait};
use nix::sys::signal::Signal;

/// How long after the last word of an edge everything must be paused: a term, and much for a busy machine.
const PAUSED_WITHIN: Duration = Duration::from_secs(40);
/// A term, and a little.
const LONGER_THAN_A_TERM: Duration = Duration::from_secs(18);
/// How long it may take to go on: to connect, to account, to resume.
const RESUMED_WITHIN: Duration = Duration::from_secs(30);

/// Whether all of a node's instances are paused, and how many they are.
fn paused(cluster: &Cluster, index: usize) -> (bool, usize) {
    let groups = cluster.instance_groups(index);
    let group = |name: &String| cluster.nodes()[index].cgroup().join(name);
    (groups.iter().all(|name| cgroup::is_frozen(&group(name))), groups.len())
}

/// Waits until the one instance of each of these nodes is paused.
async fn until_paused(cluster: &Cluster, nodes: &[usize]) -> Result<()> {
    wait::until("the instances to be paused", PAUSED_WITHIN, async || {
        for node in nodes {
            ensure!(paused(cluster, *node) == (true, 1), "node {node}: {:?}", paused(cluster, *node));
        }
        Ok(())
    })
    .await
}

/// An instance that answers, and its first process.
type Who = (String, String);

async fn who(cluster: &Cluster, object: usize) -> Result<Who> {
    let answer = cluster.client().get(&format!("/container/{object}/instance")).await?.success()?;
    let boot = answer.headers.get("x-boot").and_then(|boot| boot.to_str().ok()).unwrap_or_default();
    Ok((answer.instance()?, boot.to_owned()))
}

/// The same instances answer again, without having been restarted.
async fn until_go_on(cluster: &Cluster, before: &[Who]) -> Result<()> {
    wait::until("the instances to go on", RESUMED_WITHIN, async || {
        for (object, before) in before.iter().enumerate() {
            let now = who(cluster, object).await?;
            ensure!(now == *before, "{now:?} answers, and not {before:?}");
        }
        Ok(())
    })
    .await
}

/// Nodes with one object each, none of which is ever given up; they have served for longer than a term.
fn one_object_a_node(nodes: usize, steps: impl AsyncFnOnce(&mut Cluster, &[Who]) -> Result<()>) -> Outcome {
    let edge_options = vec!["--node-loss".to_owned(), "never".to_owned()];
    one_each(Setup { edge_options, ..Setup::nodes(nodes) }, "prepared = 0", steps)
}

fn one_each(
    setup: Setup,
    more: &'static str,
    steps: impl AsyncFnOnce(&mut Cluster, &[Who]) -> Result<()>,
) -> Outcome {
    let nodes = setup.nodes;
    scenario(setup, async |cluster| {
        // More than half of what each node says that it has.
        let app = App { memory: "40GiB", sleep_after: "never", more, ..App::default() };
        cluster.deploy(&app).await?;
        let mut before = Vec::new();
        for object in 0..nodes {
            before.push(who(cluster, object).await?);
        }
        tokio::time::sleep(LONGER_THAN_A_TERM).await;
        ensure!(
            (0..nodes).all(|node| paused(cluster, node) == (false, 1)),
            "not one a node, or one is paused"
        );
        until_go_on(cluster, &before).await?;
        steps(cluster, &before).await
    })
}

#[test]
fn instances_pause_while_whatever_of_their_node_is_gone_and_go_on_where_they_were() -> Outcome {
    one_object_a_node(4, async |cluster, before| {
        let agents = [cluster.agent(0)?.pid(), cluster.agent(2)?.pid(), cluster.agent(3)?.pid()];
        let supervisor = cluster.supervisor(2)?.pid();
        agents.into_iter().try_for_each(|agent| signal(agent, Signal::SIGSTOP))?;
        cluster.kill_agent(1)?;
        // Its shims pause what the supervisor does not, and the other way round.
        signal(supervisor, Signal::SIGSTOP)?;
        cluster.signal_shims(3, Signal::SIGSTOP)?;
        until_paused(cluster, &[0, 1, 2, 3]).await?;
        cluster.signal_shims(3, Signal::SIGCONT)?;
        signal(supervisor, Signal::SIGCONT)?;
        cluster.start_agent(1)?;
        agents.into_iter().try_for_each(|agent| signal(agent, Signal::SIGCONT))?;
        until_go_on(cluster, before).await
    })
}

/// Others count as lost after such a time.
#[test]
fn what_its_class_has_wait_is_not_given_up_with_its_node_and_goes_on() -> Outcome {
    one_each(Setup::nodes(2), "prepared = 0\nnode_loss = \"never\"", async |cluster, before| {
        stop_machine(cluster, 0)?;
        wait::until("the node to count as lost", LOST_WITHIN, async || {
            let told = cluster.berth(&["events", "--json"]).await?.stdout;
            ensure!(String::from_utf8_lossy(&told).contains("node_lost"), "not yet");
            Ok(())
        })
        .await?;
        // It is asked again and again whether it waits.
        tokio::time::sleep(Duration::from_secs(12)).await;
        let objects = cluster.admin().objects().await?;
        let started: Vec<u64> = objects.iter().map(|object| object.generation.0).collect();
        ensure!(started == [1, 1], "they were started so often: {started:?}");
        wake_machine(cluster, 0)?;
        until_go_on(cluster, before).await
    })
}

#[test]
fn instances_pause_while_their_edge_is_gone_and_an_agent_that_is_restarted_wakes_none() -> Outcome {
    one_object_a_node(2, async |cluster, before| {
        cluster.kill_edge()?;
        until_paused(cluster, &[0, 1]).await?;
        cluster.kill_agent(0)?;
        cluster.start_agent(0)?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        ensure!(paused(cluster, 0) == (true, 1), "nobody has asked for it");
        cluster.start_edge()?;
        until_go_on(cluster, before).await
    })
}

#[test]
fn instances_go_on_while_their_edge_is_away_after_it_was_told_to_end() -> Outcome {
    one_object_a_node(2, async |cluster, before| {
        cluster.end_edge().await?;
        tokio::time::sleep(LONGER_THAN_A_TERM).await;
        ensure!((0..2).all(|node| paused(cluster, node) == (false, 1)), "one is paused");
        cluster.start_edge()?;
        until_go_on(cluster, before).await
    })
}

/// The objects that answer, and where: each by its instance.
const OBJECTS: usize = 4;
/// How long after a node is gone its objects must be answered elsewhere.
const LOST_WITHIN: Duration = Duration::from_secs(30);

/// The processes of a node's supervisor, agent and shims.
fn daemons(cluster: &Cluster, index: usize) -> Result<Vec<u32>> {
    let mut all = cluster.shims(index)?;
    all.extend([cluster.supervisor(index)?.pid(), cluster.agent(index)?.pid()]);
    Ok(all)
}

/// Its containers first: nothing of a machine that is gone runs.
fn stop_machine(cluster: &Cluster, index: usize) -> Result<()> {
    let all = cluster.instance_processes(index).into_iter().chain(daemons(cluster, index)?);
    all.into_iter().try_for_each(|pid| signal(pid, Signal::SIGSTOP))
}

fn wake_machine(cluster: &Cluster, index: usize) -> Result<()> {
    let all = daemons(cluster, index)?.into_iter().chain(cluster.instance_processes(index));
    all.into_iter().try_for_each(|pid| signal(pid, Signal::SIGCONT))
}

/// The generation and node of each object's instance.
async fn placed(cluster: &Cluster) -> Result<Vec<(u64, String)>> {
    let mut placed = Vec::new();
    for number in 0..OBJECTS {
        let view = cluster.admin().object(&number.to_string()).await?;
        placed.push((view.generation.0, view.node.map(|node| node.to_string()).unwrap_or_default()));
    }
    Ok(placed)
}

async fn answer(cluster: &Cluster, number: usize) -> Result<String> {
    cluster.client().get(&format!("/container/{number}/instance")).await?.success()?.instance()
}

async fn all_answer(cluster: &Cluster) -> Result<Vec<String>> {
    let mut instances = Vec::new();
    for number in 0..OBJECTS {
        instances.push(answer(cluster, number).await?);
    }
    Ok(instances)
}

/// How many of a node's containers run: they are neither paused nor, with their machine, stopped.
fn running(cluster: &Cluster, index: usize) -> usize {
    let runs = |name: &String| {
        let group = cluster.nodes()[index].cgroup().join(name);
        !cgroup::is_frozen(&group) && cgroup::processes(&group).into_iter().any(is_awake)
    };
    cluster.instance_groups(index).iter().filter(|name| runs(name)).count()
}

/// Whether a process is there, and not stopped.
fn is_awake(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    state.is_some_and(|state| !matches!(state, 'T' | 'Z' | 'X'))
}

/// Two nodes with two objects each. The first becomes silent: its objects are answered by the second within the bound, and nothing of
/// them runs on the first by then; it comes back, and what it still has is ended.
fn lost_and_found(
    becomes_silent: impl AsyncFnOnce(&mut Cluster) -> Result<()>,
    comes_back: impl AsyncFnOnce(&mut Cluster) -> Result<()>,
) -> Outcome {
    scenario(Setup::nodes(2), async |cluster| {
        cluster.deploy(&App { more: "prepared = 0\nspread = \"node\"", ..App::default() }).await?;
        let before = all_answer(cluster).await?;
        let first = placed(cluster).await?;
        let on = |name: &str| first.iter().filter(|(_, node)| node == name).count();
        ensure!((on("n1"), on("n2")) == (OBJECTS / 2, OBJECTS / 2), "they are not spread: {first:?}");
        becomes_silent(cluster).await?;
        let silent = tokio::time::Instant::now();
        let lost: Vec<usize> = (0..OBJECTS).filter(|number| first[*number].1 == "n1").collect();
        wait::until("the lost objects to answer", LOST_WITHIN, async || {
            for number in &lost {
                let instance = answer(cluster, *number).await?;
                ensure!(instance != before[*number], "the lost instance has answered");
                ensure!(running(cluster, 0) == 0, "two run at once");
            }
            Ok(())
        })
        .await?;
        eprintln!("answered elsewhere after {:?}", silent.elapsed());
        let second = placed(cluster).await?;
        for (number, placed) in second.iter().enumerate() {
            let expected = if lost.contains(&number) { 2 } else { 1 };
            ensure!(*placed == (expected, "n2".to_owned()), "object {number}: {placed:?}");
        }
        comes_back(cluster).await?;
        wait::until("what the node still has to be ended", RESUMED_WITHIN, async || {
            ensure!(running(cluster, 0) == 0, "a lost instance goes on");
            ensure!(cluster.instance_groups(0).is_empty(), "it is there yet");
            Ok(())
        })
        .await?;
        ensure!(placed(cluster).await? == second, "nothing moves back");
        let usage = cluster.admin().get("/v1/usage").await?;
        wait::until("what was estimated to be measured", RESUMED_WITHIN, async || {
            let usage = cluster.admin().get("/v1/usage").await?;
            let total = &usage["total"];
            ensure!(total["estimated"] == 0 && total["instances"] == OBJECTS + lost.len(), "{total}");
            Ok(())
        })
        .await
        .with_context(|| format!("at first {usage}"))
    })
}

/// A node is lost, and then another drained: what was there is started elsewhere though nobody asks for it.
#[test]
fn what_its_class_wants_back_is_started_elsewhere_though_nobody_asks_for_it() -> Outcome {
    scenario(Setup::nodes(3), async |cluster| {
        let more = "prepared = 0\non_node_gone = \"restart\"";
        cluster.deploy(&App { more, ..App::default() }).await?;
        answer(cluster, 0).await?;
        for generation in 1..=2 {
            let view = cluster.admin().object("0").await?;
            let (node, started) = (view.node.context("it has no container")?.to_string(), view.generation.0);
            ensure!(started == generation, "it was started {started} times, not {generation}");
            match generation {
                1 => cluster.kill_agent(node.trim_start_matches('n').parse::<usize>()? - 1)?,
                _ => ensure!(cluster.berth(&["nodes", "drain", &node, "--no-wait"]).await?.status.success()),
            }
            wait::until("it to be back on another node", PAUSED_WITHIN, async || {
                let view = cluster.admin().object("0").await?;
                let now = view.node.as_ref().map(ToString::to_string);
                let is_back =
                    view.generation.0 == generation + 1 && now.as_ref().is_some_and(|now| *now != node);
                ensure!(is_back && view.state == ContainerState::Healthy, "{view:?}");
                Ok(())
            })
            .await?;
        }
        answer(cluster, 0).await.map(drop)
    })
}

#[test]
fn the_objects_of_a_node_whose_agent_is_stopped_are_answered_elsewhere() -> Outcome {
    lost_and_found(
        async |cluster| signal(cluster.agent(0)?.pid(), Signal::SIGSTOP),
        async |cluster| signal(cluster.agent(0)?.pid(), Signal::SIGCONT),
    )
}

#[test]
fn the_objects_of_a_machine_that_is_gone_are_answered_elsewhere() -> Outcome {
    lost_and_found(async |cluster| stop_machine(cluster, 0), async |cluster| wake_machine(cluster, 0))
}
