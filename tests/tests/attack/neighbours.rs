//! Attacks on neighbours: some containers of one app take all that they get of one thing and keep it, and meanwhile
//! containers of another app, one that runs already and one that is only started then, must get of everything what they
//! get without an attack.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use berth_tests::app::App;
use berth_tests::cluster::{Cluster, Setup};
use berth_tests::programs::PROBE;
use berth_tests::scenario::Outcome;
use berth_tests::{machine, wait};

use crate::{scenario, scenario_alone};

/// How long a neighbour's request, its start, and an order to its container may take during an attack.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an attack may take to get all that it can.
const SEIZE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a line of output may take to be in its log.
const LINE_TIMEOUT: Duration = Duration::from_secs(10);

/// What stops an attack, where a test can leave it out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bound {
    /// Something that is always there.
    Fixed,
    /// Host ids of its own for each container: without disk slots and ranges, all have the same.
    OwnIds,
    /// A layer of protection.
    Layer(&'static str),
}

/// One thing that is taken.
struct Attack {
    name: &'static str,
    /// How many containers take it at once.
    attackers: usize,
    bound: Bound,
    /// What neighbours lose without the bound.
    then: &'static str,
}

const fn attack(name: &'static str, attackers: usize) -> Attack {
    Attack { name, attackers, bound: Bound::Fixed, then: "" }
}

const fn bound(name: &'static str, attackers: usize, bound: Bound, then: &'static str) -> Attack {
    Attack { name, attackers, bound, then }
}

/// What is taken. Several attackers where each has a bound of its own: the bounds together must leave something.
const ATTACKS: &[Attack] = &[
    bound("epoll-watches", 1, Bound::OwnIds, "epoll-watch"),
    bound("files-in-flight", 1, Bound::OwnIds, "pass-file"),
    bound("pipe-pages", 1, Bound::OwnIds, "pipe"),
    bound("aio-contexts", 1, Bound::Layer("seccomp"), "aio-context"),
    attack("terminals", 1),
    bound("inotify-instances", 4, Bound::Layer("user-counters"), "inotify-instance"),
    // Without its bound it would take minutes: a prepared node allows sixteen million.
    attack("inotify-watches", 4),
    attack("timers", 26),
    attack("locked-memory", 4),
    attack("message-queues", 14),
    attack("open-files", 1),
    attack("processes", 4),
    attack("datagrams", 2),
    attack("disk", 2),
    attack("files", 2),
    attack("log", 2),
    attack("cpu", 2),
    attack("sync", 2),
];

/// What a container gets of each thing: `ok`, or an error's name.
type Vitals = BTreeMap<String, String>;

fn attacker() -> App {
    App {
        program: PROBE,
        name: "attacker",
        prefix: "attacker",
        memory: "2GiB",
        disk: "96MiB",
        ..App::default()
    }
}

fn neighbour() -> App {
    App { program: PROBE, name: "neighbour", prefix: "neighbour", disk: "96MiB", ..App::default() }
}

/// A node on which the neighbours of an attack have the bound, or not.
fn setup(without: Option<Bound>) -> Setup {
    let slots = machine::is_root().then_some("32x96MiB");
    match without {
        None | Some(Bound::Fixed) => Setup { disk_slots: slots, ..Setup::nodes(1) },
        Some(Bound::OwnIds) => Setup::nodes(1),
        Some(Bound::Layer(layer)) => {
            Setup { disk_slots: slots, agent_options: vec!["--without", layer], ..Setup::nodes(1) }
        }
    }
}

/// Runs attacks one after another; returns what neighbours lost by each.
async fn run_all<'a>(
    cluster: &Cluster,
    attacks: impl Iterator<Item = &'a Attack>,
) -> Result<Vec<(&'a Attack, Vec<String>)>> {
    cluster.deploy(&attacker()).await?;
    cluster.deploy(&neighbour()).await?;
    let baseline = vitals(cluster, "old").await?;
    println!("alone: {baseline:?}\n{:<20} {:<40} NEIGHBOURS LOST", "ATTACK", "GOT");
    let mut found = Vec::new();
    for attack in attacks {
        let (got, lost) = run(cluster, attack, &baseline).await?;
        println!("{:<20} {got:<40} {}", attack.name, lost.join(", "));
        found.push((attack, lost));
    }
    Ok(found)
}

#[test]
fn no_attack_takes_anything_from_a_neighbour() -> Outcome {
    scenario(setup(None), async |cluster| {
        let found = run_all(cluster, ATTACKS.iter()).await?;
        let lost: Vec<_> = found.iter().filter(|(_, lost)| !lost.is_empty()).collect();
        let lines = lost.iter().map(|(attack, lost)| format!("{}: {}", attack.name, lost.join(", ")));
        ensure!(lost.is_empty(), "neighbours lost:\n{}", lines.collect::<Vec<_>>().join("\n"));
        Ok(())
    })
}

/// So the attacks are known to be some, and the bounds to be what stops them.
#[test]
fn without_its_bound_an_attack_takes_something_from_neighbours() -> Outcome {
    for without in [Bound::OwnIds, Bound::Layer("seccomp"), Bound::Layer("user-counters")] {
        scenario_alone(setup(Some(without)), async |cluster| {
            let attacks = ATTACKS.iter().filter(|attack| attack.bound == without);
            for (attack, lost) in run_all(cluster, attacks).await? {
                let name = attack.name;
                ensure!(
                    lost.iter().any(|loss| loss.contains(attack.then)),
                    "{name} without {without:?}: {lost:?}"
                );
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// What the first attacker got, and what neighbours lost.
async fn run(cluster: &Cluster, attack: &Attack, baseline: &Vitals) -> Result<(String, Vec<String>)> {
    let names: Vec<String> =
        (0..attack.attackers).map(|number| format!("{}-{number}", attack.name)).collect();
    let mut got = Vec::new();
    for name in &names {
        let path = format!("/attacker/{name}/seize/{}", attack.name);
        let answer = tokio::time::timeout(SEIZE_TIMEOUT, cluster.client().get(&path)).await;
        got.push(answer.with_context(|| format!("{} takes too long", attack.name))??.text);
    }
    let mut lost = Vec::new();
    for (neighbour, name) in [("old", "old".to_owned()), ("new", format!("during-{}", attack.name))] {
        lost.extend(
            losses(cluster, &name, baseline).await.into_iter().map(|loss| format!("{neighbour} {loss}")),
        );
    }
    for name in names.iter().map(|name| format!("attacker/Hello/{name}")) {
        destroy(cluster, &name).await?;
    }
    destroy(cluster, &format!("neighbour/Hello/during-{}", attack.name)).await?;
    Ok((got.swap_remove(0), lost))
}

/// What a neighbour does not get as it does alone.
async fn losses(cluster: &Cluster, name: &str, baseline: &Vitals) -> Vec<String> {
    let vitals = match vitals(cluster, name).await {
        Ok(vitals) => vitals,
        Err(error) => return vec![format!("all: {error:#}")],
    };
    let differs = |(name, result): (&String, &String)| {
        let now = vitals.get(name).map_or("nothing", String::as_str);
        (now != result).then(|| format!("{name}: {now}"))
    };
    baseline.iter().filter_map(differs).collect()
}

/// What this container gets of each thing, a line in its log and an order included.
async fn vitals(cluster: &Cluster, name: &str) -> Result<Vitals> {
    let path = format!("/neighbour/{name}/vitals");
    let answer = tokio::time::timeout(ANSWER_TIMEOUT, cluster.client().get(&path)).await;
    let text = answer.with_context(|| format!("no answer within {ANSWER_TIMEOUT:?}"))??.success()?.text;
    let pair = |line: &str| line.split_once(' ').map(|(name, result)| (name.to_owned(), result.to_owned()));
    let mut vitals: Vitals = text.lines().filter_map(pair).collect();
    vitals.insert("log line".to_owned(), word(line(cluster, name).await));
    vitals.insert("order".to_owned(), word(order(cluster, name).await));
    Ok(vitals)
}

fn word(result: Result<()>) -> String {
    result.map_or_else(|error| format!("{error:#}"), |()| "ok".to_owned())
}

/// Has the container print a line, and finds it in a log of the node.
async fn line(cluster: &Cluster, name: &str) -> Result<()> {
    static LINES: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let text = format!("line-{}-of-{name}", LINES.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
    cluster.client().get(&format!("/neighbour/{name}/look/say?{text}")).await?.success()?;
    wait::until("the line to be in a log", LINE_TIMEOUT, async || {
        ensure!(cluster.instance_logs(0)?.iter().any(|log| log.contains(&text)), "it is in none");
        Ok(())
    })
    .await
}

/// Sends the container a signal that it does not mind.
async fn order(cluster: &Cluster, name: &str) -> Result<()> {
    let began = Instant::now();
    let object = format!("neighbour/Hello/{name}");
    let output = cluster.berth(&["containers", "signal", &object, "SIGURG"]).await?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
    ensure!(began.elapsed() < ANSWER_TIMEOUT, "took {:?}", began.elapsed());
    Ok(())
}

async fn destroy(cluster: &Cluster, object: &str) -> Result<()> {
    let output = cluster.berth(&["containers", "destroy", object]).await?;
    ensure!(output.status.success(), "destroy {object}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}
