//! Killed daemons: what ran goes on, what was answered is remembered.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use berth_common::outcome::ExitReason;
use berth_tests::app::App;
use berth_tests::client::Client;
use berth_tests::cluster::{Cluster, Setup};
use berth_tests::scenario::{Outcome, count, scenario};
use berth_tests::wait;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

/// Objects that are asked all the time.
const OLD_OBJECTS: usize = 6;
/// Requests that must have been answered before something is killed.
const WARM_UP_ANSWERS: usize = 100;
/// How long objects may take to answer again.
const BACK_WITHIN: Duration = Duration::from_secs(20);
/// How long they may take after the start of an agent.
const AGENT_BACK_WITHIN: Duration = Duration::from_secs(2);
/// Pause of one client between two requests while nothing answers.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// What was answered for each object: its instance. An answer is a promise.
type Answered = Arc<Mutex<BTreeMap<String, String>>>;

/// Clients that go on asking, whatever happens.
struct Load {
    stop: Arc<AtomicBool>,
    answers: Arc<AtomicUsize>,
    answered: Answered,
    clients: JoinSet<Result<()>>,
}

impl Load {
    /// One client for each old object, and one that asks for a new object with every request.
    fn start(client: Client, round: usize) -> Self {
        let (stop, answers, answered) = Default::default();
        let mut load = Self { stop, answers, answered, clients: JoinSet::new() };
        for number in 0..OLD_OBJECTS {
            load.spawn(client, move |_| format!("old-{number}"));
        }
        load.spawn(client, move |asked| format!("new-{round}-{}", asked / 10));
        load
    }

    fn spawn(&mut self, client: Client, name: impl Fn(usize) -> String + Send + 'static) {
        let (stop, answers, answered) = (self.stop.clone(), self.answers.clone(), self.answered.clone());
        self.clients.spawn(async move {
            for asked in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let name = name(asked);
                match client
                    .get(&format!("/container/{name}"))
                    .await
                    .and_then(|answer| answer.success()?.instance())
                {
                    Ok(instance) => note(&answered, name, instance, &answers).await?,
                    // Something was killed: that is what this is for.
                    Err(_) => tokio::time::sleep(RETRY_PAUSE).await,
                }
            }
            Ok(())
        });
    }

    async fn until_warm(&self) -> Result<()> {
        let enough = self.answers.load(Ordering::Relaxed) + WARM_UP_ANSWERS;
        wait::until("answers under load", BACK_WITHIN, async || {
            let answers = self.answers.load(Ordering::Relaxed);
            ensure!(answers >= enough, "{answers} of {enough} answers");
            Ok(())
        })
        .await
    }

    /// Ends the clients and returns what they were answered.
    async fn stop(mut self) -> Result<BTreeMap<String, String>> {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(client) = self.clients.join_next().await {
            client??;
        }
        Ok(self.answered.lock().await.clone())
    }
}

async fn note(answered: &Answered, name: String, instance: String, answers: &AtomicUsize) -> Result<()> {
    answers.fetch_add(1, Ordering::Relaxed);
    let before = answered.lock().await.insert(name.clone(), instance.clone());
    ensure!(before.is_none_or(|before| before == instance), "{name} has got another instance under load");
    Ok(())
}

/// Waits until each of these objects is answered by the instance that it had.
async fn until_answered(client: Client, expected: &BTreeMap<String, String>, within: Duration) -> Result<()> {
    let deadline = Instant::now() + within;
    for (name, instance) in expected {
        let left = deadline.saturating_duration_since(Instant::now());
        let what = format!("an answer of {name}");
        let answer = wait::until(&what, left, async || {
            client.get(&format!("/container/{name}")).await?.success()?.instance()
        });
        let answer = answer.await?;
        ensure!(answer == *instance, "{name} had the instance {instance} and now has {answer}");
    }
    Ok(())
}

#[test]
fn an_edge_killed_under_load_finds_its_instances_again_and_forgets_no_object() -> Outcome {
    scenario(Setup::default(), async |cluster| {
        cluster.deploy(&App { vcpu: 0.25, ..App::default() }).await?;
        let mut answered = BTreeMap::new();
        for round in 0..count(2, 20) {
            let load = Load::start(cluster.client(), round);
            load.until_warm().await?;
            cluster.kill_edge()?;
            answered.extend(load.stop().await?);
            cluster.start_edge()?;
            cluster.until_connected().await?;
            expect_known(cluster, &answered).await.with_context(|| format!("round {round}"))?;
            until_answered(cluster.client(), &answered, BACK_WITHIN).await?;
        }
        Ok(())
    })
}

/// Fails unless the edge knows every object that was ever answered, with its instance.
async fn expect_known(cluster: &Cluster, answered: &BTreeMap<String, String>) -> Result<()> {
    let objects = cluster.admin().objects().await?;
    let known: BTreeMap<_, _> = objects.into_iter().map(|object| (object.name.to_string(), object)).collect();
    for (name, instance) in answered {
        let object = known.get(name).with_context(|| format!("{name} was answered and is forgotten"))?;
        ensure!(
            object.instance.map(|id| id.to_string()).as_ref() == Some(instance),
            "{name} had the instance {instance}: {object:?}"
        );
    }
    Ok(())
}

#[test]
fn an_agent_killed_under_load_keeps_its_containers_and_is_back_within_two_seconds() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&App { vcpu: 0.25, ..App::default() }).await?;
        for round in 0..count(2, 20) {
            let load = Load::start(cluster.client(), round);
            load.until_warm().await?;
            cluster.kill_agent(0)?;
            let answered = load.stop().await?;
            cluster.start_agent(0)?;
            let started = Instant::now();
            until_answered(cluster.client(), &answered, AGENT_BACK_WITHIN).await?;
            println!("round {round}: {} objects were back after {:?}", answered.len(), started.elapsed());
        }
        Ok(())
    })
}

#[test]
fn an_agent_that_is_stopped_leaves_its_containers_running() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&App { more: "start_timeout = \"30s\"", ..App::default() }).await?;
        let client = cluster.client();
        let before = client.get("/container/1").await?.success()?.instance()?;
        cluster.end_agent(0)?;
        wait::until("the edge to notice", BACK_WITHIN, async || {
            let nodes = cluster.admin().nodes().await?;
            ensure!(nodes.iter().all(|node| !node.connected), "{nodes:?}");
            Ok(())
        })
        .await?;
        // A first request waits for a node, as it waits for a start.
        let early = tokio::spawn(async move { client.get("/container/early").await });
        cluster.start_agent(0)?;
        until_answered(client, &BTreeMap::from([("1".to_owned(), before)]), BACK_WITHIN).await?;
        early.await??.success().map(drop)
    })
}

/// Orders that were answered while the node was away, of which its agent knows nothing.
#[test]
fn an_edge_killed_after_it_has_answered_orders_carries_them_out_once_the_node_is_back() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&App::default()).await?;
        let orders = [
            ("destroyed", "destroy", Value::Null, ExitReason::Destroyed),
            ("stopped", "stop", json!({ "signal": 15, "grace_ms": 5000 }), ExitReason::Stopped),
        ];
        for name in ["destroyed", "stopped", "spared"] {
            cluster.client().get(&format!("/container/{name}")).await?.success()?;
        }
        cluster.kill_agent(0)?;
        for (name, verb, body, _) in &orders {
            let id = cluster.admin().object(name).await?.id;
            let (status, answer) = cluster.admin().post(&format!("/v1/containers/{id}/{verb}"), body).await?;
            ensure!(status.is_success(), "{verb}: {status}: {answer}");
        }
        cluster.kill_edge()?;
        cluster.start_agent(0)?;
        cluster.start_edge()?;
        cluster.until_connected().await?;
        for (name, _, _, reason) in &orders {
            wait::until(&format!("{name} to end"), BACK_WITHIN, async || {
                let object = cluster.admin().object(name).await?;
                let end = object.exit.as_ref().filter(|_| object.instance.is_none());
                ensure!(end.is_some_and(|end| end.reason == *reason), "{object:?}");
                Ok(())
            })
            .await?;
        }
        let spared = cluster.admin().object("spared").await?;
        ensure!(spared.instance.is_some(), "nobody ordered its end: {spared:?}");
        let logs = cluster.instance_logs(0)?.concat();
        ensure!(logs.contains("ended in good order"), "what was stopped did not get its signal:\n{logs}");
        Ok(())
    })
}
