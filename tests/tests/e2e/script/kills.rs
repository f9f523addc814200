//! The edge and its script process are killed again and again while objects write, ring and run containers. What was acknowledged
//! is there, alarms ring at least once, and each object has one instance at most.

use std::collections::BTreeSet;
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use berth_tests::client::Client;
use berth_tests::cluster::{Cluster, Setup};
use berth_tests::scenario::{Outcome, count, scenario};
use berth_tests::wait::until;
use futures_util::future::{join_all, try_join_all};
use serde_json::Value;

use super::containers::deploy_rooms;
use super::{PATIENCE, kill_by_turns};

/// Objects that work at once.
const OBJECTS: usize = 4;
/// The program of their containers, and the variable that holds the id of a container's object.
const PROGRAM: &str = "hello";
const OWNER: &str = "CLOUDFLARE_DURABLE_OBJECT_ID=";
/// How often the containers are looked at: short against the life of one that is ended as soon as it is found.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// Each call of `add` writes, sets an alarm that must ring after it, and sees to the container.
const SOURCE: &str = r#"import { DurableObject } from 'cloudflare:workers';
export class Room extends DurableObject {
    constructor(ctx, env) {
        super(ctx, env);
        ctx.blockConcurrencyWhile(async () => { this.count = await ctx.storage.get('count') ?? 0; });
    }
    async fetch(request) {
        const { container, storage } = this.ctx;
        const [, , , what] = new URL(request.url).pathname.split('/');
        if (what === 'add') {
            this.count += 1;
            storage.put('count', this.count);
            await storage.setAlarm(Date.now() + 1);
            if (!container.running) container.start();
        }
        if (what === 'end') await container.destroy();
        const rung = await storage.get('rung') ?? 0;
        return Response.json({ count: this.count, stored: await storage.get('count') ?? 0, rung, running: container.running });
    }
    async alarm() {
        await this.ctx.storage.put('rung', this.count);
    }
}
export default { fetch(request, env) {
    const [, , name] = new URL(request.url).pathname.split('/');
    return env.ROOMS.get(env.ROOMS.idFromName(name)).fetch(request);
} };"#;

async fn ask(client: Client, object: usize, what: &str) -> Result<Value> {
    let answer = client.get(&format!("/rooms/{object}/{what}")).await?.success()?;
    Ok(serde_json::from_str(&answer.text)?)
}

fn number(state: &Value, field: &str) -> u64 {
    state[field].as_u64().unwrap_or_default()
}

/// Has an object count until it is over, and notes what it has acknowledged. Calls fail while something is down.
async fn work(client: Client, object: usize, acknowledged: &AtomicU64, over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        match ask(client, object, "add").await {
            Ok(state) => drop(acknowledged.fetch_max(number(&state, "count"), Ordering::Relaxed)),
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// Waits until each object has all that it acknowledged, and has rung after that.
async fn all_is_there(client: Client, acknowledged: &[AtomicU64]) -> Result<()> {
    let look = async |object: usize| {
        let least = acknowledged[object].load(Ordering::Relaxed);
        let found = async || {
            let state = ask(client, object, "look").await?;
            ensure!(number(&state, "rung") >= least, "{state}: {least} were acknowledged");
            Ok(state)
        };
        let state = until("an object's alarm", PATIENCE, found).await?;
        ensure!(number(&state, "stored") >= least, "{state}: {least} were acknowledged");
        anyhow::Ok(())
    };
    try_join_all((0..OBJECTS).map(look)).await.map(drop)
}

/// The ids of the objects that the node's containers are of, one for each container: its program has it in its environment.
fn owners(cluster: &Cluster) -> Vec<String> {
    let owner = |pid: u32| {
        // The init above it has the same environment.
        fs::read_link(format!("/proc/{pid}/exe")).ok().filter(|program| program.ends_with(PROGRAM))?;
        let environment = String::from_utf8(fs::read(format!("/proc/{pid}/environ")).ok()?).ok()?;
        environment.split('\0').find_map(|variable| variable.strip_prefix(OWNER)).map(str::to_owned)
    };
    cluster.instance_processes(0).into_iter().filter_map(owner).collect()
}

/// There are containers, and no two of one object.
fn one_each(cluster: &Cluster) -> Result<()> {
    let owners = owners(cluster);
    let distinct: BTreeSet<&String> = owners.iter().collect();
    ensure!(distinct.len() == owners.len(), "an object has two instances: {owners:?}");
    ensure!(!owners.is_empty(), "no container has an object");
    Ok(())
}

/// Looks again and again, as a second instance may be ended soon. What is not there yet after a start is no fault.
async fn until_one_has_two(cluster: &Cluster) -> Result<()> {
    loop {
        if !owners(cluster).is_empty() {
            one_each(cluster)?;
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

#[test]
fn nothing_acknowledged_is_lost_whatever_is_killed() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        deploy_rooms(cluster, SOURCE).await?;
        let acknowledged: Vec<AtomicU64> = (0..OBJECTS).map(|_| AtomicU64::default()).collect();
        for round in 0..count(10, 100) {
            let (client, over) = (cluster.client(), AtomicBool::new(false));
            let works = (0..OBJECTS).map(|object| work(client, object, &acknowledged[object], &over));
            let before: u64 = acknowledged.iter().map(|count| count.load(Ordering::Relaxed)).sum();
            let kills = async {
                let busy = async || {
                    let now: u64 = acknowledged.iter().map(|count| count.load(Ordering::Relaxed)).sum();
                    ensure!(now > before + 10 + u64::try_from(round % 7)?, "they have not begun");
                    Ok(())
                };
                let begun = until("work", PATIENCE, busy).await;
                let killed = match begun {
                    Ok(()) => kill_by_turns(cluster, round).await,
                    Err(error) => Err(error),
                };
                over.store(true, Ordering::Relaxed);
                killed
            };
            let (_, killed) = tokio::join!(join_all(works), kills);
            killed?;
            tokio::select! {
                there = all_is_there(cluster.client(), &acknowledged) => there?,
                twice = until_one_has_two(cluster) => twice?,
            }
            one_each(cluster)?;
        }
        try_join_all((0..OBJECTS).map(|object| ask(cluster.client(), object, "end"))).await.map(drop)
    })
}
