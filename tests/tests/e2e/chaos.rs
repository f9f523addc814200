//! Chaos: daemons are killed and stopped, machines vanish and wires are cut, in an order that a seed says, while every object is
//! asked all the time. Whatever happens: no object runs twice at once, none goes back to an instance that was replaced, nothing that
//! was acknowledged is lost, and everything answers again.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use berth_tests::admin::Admin;
use berth_tests::app::App;
use berth_tests::client::Client;
use berth_tests::cluster::{Cluster, Setup};
use berth_tests::host::signal;
use berth_tests::programs::PROBE;
use berth_tests::scenario::{Outcome, count, scenario};
use berth_tests::wait;
use berth_tests::witness::Watch;
use fastrand::Rng;
use nix::sys::signal::Signal;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Another seed than a new one, to see a round again.
const SEED: &str = "BERTH_CHAOS_SEED";
/// Machines, and objects on them.
const NODES: usize = 4;
const OBJECTS: usize = 6;
/// How long after a machine is gone all of its objects must be answered elsewhere.
const LOST_WITHIN: Duration = Duration::from_secs(30);
/// How long everything may take to answer once all is well again.
const HEALED_WITHIN: Duration = Duration::from_secs(40);
/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(4);
/// Pause between two requests to one object.
const PAUSE: Duration = Duration::from_millis(150);
/// How long daemons that were stopped are awake before their containers are: as long as a machine that wakes up may take.
const WAKING: Duration = Duration::from_millis(700);

/// What happens to a node, or to the edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    AgentStopped,
    AgentKilled,
    SupervisorStopped,
    SupervisorKilled,
    ShimsStopped,
    ShimsKilled,
    MachineStopped,
    MachineKilled,
    Cut,
    CutThere,
    CutBack,
    EdgeStopped,
    EdgeKilled,
}

impl Fault {
    const ALL: [Self; 13] = [
        Self::AgentStopped,
        Self::AgentKilled,
        Self::SupervisorStopped,
        Self::SupervisorKilled,
        Self::ShimsStopped,
        Self::ShimsKilled,
        Self::MachineStopped,
        Self::MachineKilled,
        Self::Cut,
        Self::CutThere,
        Self::CutBack,
        Self::EdgeStopped,
        Self::EdgeKilled,
    ];

    /// Whether the objects of the node answer elsewhere while it lasts: the edge is there, and hears nothing of the node.
    fn is_survived(self) -> bool {
        !matches!(self, Self::EdgeStopped | Self::EdgeKilled | Self::ShimsStopped)
    }

    async fn begin(self, cluster: &mut Cluster, node: usize) -> Result<()> {
        match self {
            Self::AgentStopped => signal(cluster.agent(node)?.pid(), Signal::SIGSTOP),
            Self::AgentKilled => cluster.kill_agent(node),
            Self::SupervisorStopped => signal(cluster.supervisor(node)?.pid(), Signal::SIGSTOP),
            Self::SupervisorKilled => cluster.kill_supervisor(node),
            Self::ShimsStopped => cluster.signal_shims(node, Signal::SIGSTOP),
            Self::ShimsKilled => cluster.kill_shims(node).map(drop),
            Self::MachineStopped => stop_machine(cluster, node),
            Self::MachineKilled => cluster.kill_supervisor(node).and_then(|()| cluster.kill_agent(node)),
            Self::Cut => cut(cluster, node, true, true),
            Self::CutThere => cut(cluster, node, true, false),
            Self::CutBack => cut(cluster, node, false, true),
            Self::EdgeStopped => signal(cluster.edge()?.pid(), Signal::SIGSTOP),
            Self::EdgeKilled => cluster.kill_edge(),
        }
    }

    async fn end(self, cluster: &mut Cluster, node: usize) -> Result<()> {
        match self {
            Self::AgentStopped => signal(cluster.agent(node)?.pid(), Signal::SIGCONT),
            Self::AgentKilled => cluster.start_agent(node),
            Self::SupervisorStopped => signal(cluster.supervisor(node)?.pid(), Signal::SIGCONT),
            Self::SupervisorKilled => cluster.restart_supervisor(node),
            Self::ShimsStopped => cluster.signal_shims(node, Signal::SIGCONT),
            Self::ShimsKilled => Ok(()),
            Self::MachineStopped => wake_machine(cluster, node).await,
            Self::MachineKilled => {
                cluster.restart_supervisor(node)?;
                // An agent ends where there is no supervisor, and a service manager would start it again.
                cluster.until_supervised(node).await?;
                cluster.start_agent(node)
            }
            Self::Cut | Self::CutThere | Self::CutBack => cut(cluster, node, false, false),
            Self::EdgeStopped => signal(cluster.edge()?.pid(), Signal::SIGCONT),
            Self::EdgeKilled => cluster.start_edge(),
        }
    }
}

fn cut(cluster: &Cluster, node: usize, there: bool, back: bool) -> Result<()> {
    cluster.nodes()[node].relay()?.cut_ways(there, back);
    Ok(())
}

/// The daemons of a node.
fn daemons(cluster: &Cluster, node: usize) -> Result<Vec<u32>> {
    let mut all = cluster.shims(node)?;
    all.extend([cluster.supervisor(node)?.pid(), cluster.agent(node)?.pid()]);
    Ok(all)
}

/// Stops all of a node's processes, its containers' first: nothing of a machine that is gone runs.
fn stop_machine(cluster: &Cluster, node: usize) -> Result<()> {
    let containers = cluster.instance_processes(node);
    containers.into_iter().chain(daemons(cluster, node)?).try_for_each(|pid| signal(pid, Signal::SIGSTOP))
}

/// Its daemons first: they find out that the terms of their containers are over.
async fn wake_machine(cluster: &Cluster, node: usize) -> Result<()> {
    daemons(cluster, node)?.into_iter().try_for_each(|pid| signal(pid, Signal::SIGCONT))?;
    tokio::time::sleep(WAKING).await;
    for pid in cluster.instance_processes(node) {
        // It may have been ended meanwhile.
        let _ = signal(pid, Signal::SIGCONT);
    }
    Ok(())
}

/// What was seen of one object, in order.
#[derive(Debug, Default)]
struct Seen {
    /// The instances that have answered.
    instances: Vec<String>,
    /// When the last answer came whose request was sent after.
    answered: Option<(Instant, Instant)>,
    /// The last number whose write was acknowledged.
    kept: u64,
    /// What must not be.
    fault: Option<String>,
}

impl Seen {
    fn answer(&mut self, sent: Instant, instance: &str) {
        self.answered = Some((sent, Instant::now()));
        if self.instances.last().is_some_and(|last| last == instance) {
            return;
        }
        if self.instances.iter().any(|known| known == instance) {
            self.fault = Some(format!("{instance} has answered after it was replaced: {:?}", self.instances));
        }
        self.instances.push(instance.to_owned());
    }
}

/// Asks one object all the time, and writes a number that grows.
struct Asker {
    seen: Arc<Mutex<Seen>>,
    over: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Asker {
    fn begin(client: Client, admin: Admin, object: usize, id: String) -> Self {
        let (seen, over) = (Arc::new(Mutex::new(Seen::default())), Arc::new(AtomicBool::new(false)));
        let task = tokio::spawn({
            let (seen, over) = (Arc::clone(&seen), Arc::clone(&over));
            async move {
                let mut number = 0;
                while !over.load(Ordering::Relaxed) {
                    ask(&client, object, &seen).await;
                    number += 1;
                    write(&admin, &id, number, &seen).await;
                    tokio::time::sleep(PAUSE).await;
                }
            }
        });
        Self { seen, over, task }
    }

    fn seen<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn end(self) -> Result<Arc<Mutex<Seen>>> {
        self.over.store(true, Ordering::Relaxed);
        self.task.await?;
        Ok(self.seen)
    }
}

async fn ask(client: &Client, object: usize, seen: &Mutex<Seen>) {
    let (sent, path) = (Instant::now(), format!("/container/{object}/witness"));
    let Ok(Ok(answer)) = tokio::time::timeout(PATIENCE, client.get(&path)).await else { return };
    let Ok(answer) = answer.success() else { return };
    let instance = answer.text.split(' ').next().unwrap_or_default();
    seen.lock().unwrap_or_else(PoisonError::into_inner).answer(sent, instance);
}

async fn write(admin: &Admin, id: &str, number: u64, seen: &Mutex<Seen>) {
    let path = format!("/v1/containers/{id}/kv/number");
    let put = admin.put_bytes(&path, number.to_string());
    if let Ok(Ok((status, _))) = tokio::time::timeout(PATIENCE, put).await
        && status.is_success()
    {
        seen.lock().unwrap_or_else(PoisonError::into_inner).kept = number;
    }
}

/// Waits until every object has answered a request that was sent after this moment; how long that took.
async fn all_answer(askers: &[Asker], since: Instant, within: Duration) -> Result<Duration> {
    wait::until("all objects to answer", within, async || {
        for (object, asker) in askers.iter().enumerate() {
            let answered = asker.seen(|seen| seen.answered);
            ensure!(answered.is_some_and(|(sent, _)| sent >= since), "object {object} does not answer");
        }
        Ok(())
    })
    .await?;
    Ok(since.elapsed())
}

/// One round: something happens, lasts, and is over.
async fn round(cluster: &mut Cluster, askers: &[Asker], rng: &mut Rng) -> Result<()> {
    let (fault, node) = (Fault::ALL[rng.usize(..Fault::ALL.len())], rng.usize(..NODES));
    let lasts = Duration::from_secs(rng.u64(1..=20));
    let began = Instant::now();
    fault.begin(cluster, node).await.with_context(|| format!("{fault:?} of node {node}"))?;
    let waited = if fault.is_survived() && rng.bool() {
        Some(
            all_answer(askers, began, LOST_WITHIN)
                .await
                .with_context(|| format!("{fault:?} of node {node}"))?,
        )
    } else {
        tokio::time::sleep(lasts).await;
        None
    };
    fault.end(cluster, node).await?;
    let healed = all_answer(askers, Instant::now(), HEALED_WITHIN)
        .await
        .with_context(|| format!("after {fault:?} of node {node} for {lasts:?}"))?;
    eprintln!(
        "{fault:?} of node {node}: answered elsewhere after {waited:?}, else lasted {lasts:?}; then {healed:?}"
    );
    cluster.until_connected().await
}

/// The id of each object, by its name.
async fn ids(cluster: &Cluster) -> Result<BTreeMap<String, String>> {
    for object in 0..OBJECTS {
        cluster.client().get(&format!("/container/{object}/witness")).await?.success()?;
    }
    let views = cluster.admin().objects().await?;
    Ok(views.into_iter().map(|view| (view.name.to_string(), view.id.to_string())).collect())
}

async fn settle(cluster: &Cluster, ids: &BTreeMap<String, String>, seen: &[Arc<Mutex<Seen>>]) -> Result<()> {
    for (object, seen) in seen.iter().enumerate() {
        let (kept, fault) = {
            let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            (seen.kept, seen.fault.clone())
        };
        ensure!(fault.is_none(), "object {object}: {}", fault.unwrap_or_default());
        let id = ids.get(&object.to_string()).context("it has an id")?;
        let number = cluster.admin().text(&format!("/v1/containers/{id}/kv/number")).await?;
        ensure!(
            number.parse::<u64>()? >= kept,
            "object {object}: {kept} was acknowledged, and {number} is kept"
        );
    }
    Ok(())
}

/// Each instance that has run is counted once.
async fn usage_is_whole(cluster: &Cluster, ran: usize) -> Result<()> {
    let generations: u64 = cluster.admin().objects().await?.iter().map(|object| object.generation.0).sum();
    let usage = cluster.admin().get("/v1/usage").await?;
    let counted = usage["total"]["instances"].as_u64().context("a number of instances")?;
    ensure!(counted <= generations, "{counted} are counted of {generations}");
    ensure!(counted >= u64::try_from(ran)?, "{counted} are counted, and {ran} have run");
    Ok(())
}

fn rounds(place: u64) -> Outcome {
    let seed = std::env::var(SEED).ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..) >> 1);
    eprintln!("{SEED}={seed}");
    let mut rng = Rng::with_seed(seed.wrapping_add(place));
    let setup = Setup { relays: true, ..Setup::nodes(NODES) };
    scenario(setup, async |cluster| {
        let env = [("WITNESS", "1")].into();
        let app = App { program: PROBE, more: "prepared = 0", env, ..App::default() };
        cluster.deploy(&app).await?;
        let watch = Watch::begin(cluster);
        let ids = ids(cluster).await?;
        let asker = |object: usize| {
            let id = ids.get(&object.to_string()).context("it has an id")?;
            Ok(Asker::begin(cluster.client(), cluster.admin(), object, id.clone()))
        };
        let askers = (0..OBJECTS).map(asker).collect::<Result<Vec<_>>>()?;
        for _ in 0..count(2, 17) {
            round(cluster, &askers, &mut rng).await.with_context(|| format!("{SEED}={seed}"))?;
        }
        let mut seen = Vec::new();
        for asker in askers {
            seen.push(asker.end().await?);
        }
        settle(cluster, &ids, &seen).await?;
        let verdict = watch.end().with_context(|| format!("{SEED}={seed}"))?;
        usage_is_whole(cluster, verdict.instances.values().sum()).await
    })
}

#[test]
fn two_rounds() -> Outcome {
    rounds(0)
}

#[test]
fn two_more_rounds() -> Outcome {
    rounds(1)
}

#[test]
fn and_another_two() -> Outcome {
    rounds(2)
}
