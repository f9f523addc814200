//! The hooks of the npm package `@cloudflare/containers` while the script process and the edge are killed: each start and each end of
//! a container is told once, also an end that came while nobody was there to hear of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use berth_tests::client::Client;
use berth_tests::cluster::{Cluster, Setup};
use berth_tests::scenario::{Outcome, count, scenario};
use berth_tests::wait::until;
use serde_json::{Value, json};

use super::{PATIENCE, kill_by_turns};

/// The top of the repository.
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// How much later a process is killed in each round, after an end was asked for: before it, in it, and after it.
const LATER: Duration = Duration::from_millis(3);

/// How long is waited for an end that is told twice: some times as long as the package's alarm takes.
const TWICE: Duration = Duration::from_secs(3);

/// Counts what it is told in what is kept.
const SOURCE: &str = r#"import { Container, getContainer } from "@cloudflare/containers";
export class Room extends Container {
    defaultPort = 8080;
    enableInternet = false;
    async count(what) { await this.ctx.storage.put(what, (await this.ctx.storage.get(what) ?? 0) + 1); }
    async onStart() { await this.count("starts"); }
    async onStop() { await this.count("stops"); }
    async end() { if (this.ctx.container.running) await this.stop(); }
    async told() {
        const [starts, stops] = [await this.ctx.storage.get("starts"), await this.ctx.storage.get("stops")];
        return { starts: starts ?? 0, stops: stops ?? 0, running: this.ctx.container.running };
    }
}
export default { async fetch(request, env) {
    const room = getContainer(env.ROOM, "a");
    switch (new URL(request.url).pathname) {
        case "/end": await room.end();
        case "/told": return Response.json(await room.told());
        default: return room.fetch(request);
    }
} };"#;

/// A project with that program, and the package installed.
fn project(directory: PathBuf) -> Result<PathBuf> {
    fs::create_dir_all(&directory)?;
    let example = Path::new(ROOT).join("examples/worker-containers");
    for name in ["package.json", "package-lock.json"] {
        fs::copy(example.join(name), directory.join(name))?;
    }
    fs::copy(Path::new(ROOT).join("target/examples/hello"), directory.join("hello"))?;
    let configuration = json!({
        "name": "hooks", "main": "index.js", "compatibility_date": "2026-01-31",
        "containers": [{"class_name": "Room", "image": "./hello", "max_instances": 2}],
        "durable_objects": {"bindings": [{"name": "ROOM", "class_name": "Room"}]},
        "migrations": [{"tag": "v1", "new_sqlite_classes": ["Room"]}],
    });
    fs::write(directory.join("wrangler.json"), configuration.to_string())?;
    fs::write(directory.join("index.js"), SOURCE)?;
    let mut npm = Command::new("npm");
    npm.args(["ci", "--no-audit", "--no-fund", "--no-update-notifier"]).current_dir(&directory);
    let installed = npm.output().context("run npm")?;
    ensure!(installed.status.success(), "{}", String::from_utf8_lossy(&installed.stderr));
    Ok(directory)
}

async fn told(client: &Client) -> Result<Value> {
    Ok(serde_json::from_str(&client.get("/told").await?.success()?.text)?)
}

/// Kills the script process or the edge a moment after the end was asked for.
async fn kill_later(cluster: &mut Cluster, round: usize) -> Result<()> {
    tokio::time::sleep(LATER * u32::try_from(round)?).await;
    kill_by_turns(cluster, round).await
}

#[test]
fn each_start_and_end_is_told_once_whatever_is_killed() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        let directory = project(cluster.directory().join("hooks"))?;
        let deployed = cluster.berth(&["deploy", &directory.to_string_lossy()]).await?;
        ensure!(deployed.status.success(), "{}", String::from_utf8_lossy(&deployed.stderr));
        for round in 0..count(6, 60) {
            let client = cluster.client();
            let answers = async || client.get("/boot").await?.success();
            until("an answer of the container", PATIENCE, answers).await?;
            let (_, killed) = tokio::join!(client.get("/end"), kill_later(cluster, round));
            killed?;
            let client = cluster.client();
            let ended = async || {
                let told = told(&client).await?;
                if told["running"] == json!(true) {
                    // Who asked was lost with what was killed.
                    client.get("/end").await?.success()?;
                }
                let ended = told["running"] == json!(false) && told["stops"] != json!(round);
                ensure!(ended, "{told}");
                Ok(())
            };
            until("the end of the container", PATIENCE, ended).await?;
            let told = told(&client).await?;
            let once = told["starts"] == json!(round + 1) && told["stops"] == json!(round + 1);
            ensure!(once, "round {round}: {told}");
        }
        let before = told(&cluster.client()).await?;
        tokio::time::sleep(TWICE).await;
        let after = told(&cluster.client()).await?;
        ensure!(before == after, "{before} and {after}");
        Ok(())
    })
}
