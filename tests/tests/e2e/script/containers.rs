//! Containers of Durable Objects: what an object's code orders, what it is told, and what outlives whom.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use berth_common::image::Digest;
use berth_tests::app::App;
use berth_tests::client::{Answer, Client};
use berth_tests::cluster::{Cluster, Setup};
use berth_tests::scenario::{Outcome, scenario};
use berth_tests::wait::until;
use berth_tests::websocket::Socket;
use http_body_util::{BodyExt, Empty};
use hyper::Method;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::PATIENCE;

/// An object for each name in the second part of the path; the third says what it does with its container.
const SOURCE: &str = r#"import { DurableObject } from 'cloudflare:workers';
export class Room extends DurableObject {
    ends = [];
    constructor(ctx, env) {
        super(ctx, env);
        if (ctx.container.running) this.watch();
    }
    watch() {
        const end = (error) => { this.ends.push(error ? `${error.exitCode} ${error.message}` : 'well'); };
        this.ctx.container.monitor().then(() => end(), end);
    }
    async fetch(request) {
        const { container } = this.ctx;
        const url = new URL(request.url);
        const [, , , what, port, ...rest] = url.pathname.split('/');
        switch (what) {
            case 'start':
                container.start({ env: { MESSAGE: `of ${this.ctx.id}`, ...Object.fromEntries(url.searchParams) } });
                this.watch();
                break;
            case 'port':
                try {
                    return await container.getTcpPort(+port).fetch(new Request(`http://inside/${rest.join('/')}`, request));
                } catch (error) {
                    return new Response(error.message, { status: 502 });
                }
            case 'relay': {
                const headers = { upgrade: 'websocket' };
                const answer = await container.getTcpPort(8080).fetch('http://inside/ws', { headers });
                const inner = answer.webSocket;
                const [outer, own] = Object.values(new WebSocketPair());
                for (const [from, to] of [[own, inner], [inner, own]]) {
                    from.accept();
                    from.addEventListener('message', async ({ data }) => to.send(data instanceof Blob ? await data.arrayBuffer() : data));
                    from.addEventListener('close', ({ code, reason }) => to.close(code, reason));
                }
                return new Response(null, { status: 101, webSocket: outer, headers: answer.headers });
            }
            case 'length': {
                const answer = await container.getTcpPort(8080).fetch(`http://inside/bytes/${port}`);
                return Response.json((await answer.arrayBuffer()).byteLength);
            }
            case 'signal': container.signal(+port); break;
            case 'signals': port.split('.').forEach((signal) => container.signal(+signal)); break;
            case 'destroy': await container.destroy(); break;
            case 'keep': await container.setInactivityTimeout(+port); break;
            case 'restart': {
                const again = () => { container.start(); container.monitor().then(again, again); };
                again();
                break;
            }
            case 'abort': this.ctx.abort('as asked');
        }
        return Response.json({ id: `${this.ctx.id}`, running: container.running, ends: this.ends });
    }
}
export default { fetch(request, env) {
    const [, , name] = new URL(request.url).pathname.split('/');
    return env.ROOMS.get(env.ROOMS.idFromName(name)).fetch(request);
} };"#;

/// A value that goes into containers and nowhere else.
const SECRET: &str = "a-value-that-nobody-writes-down";

async fn deploy(cluster: &Cluster) -> Result<()> {
    deploy_rooms(cluster, SOURCE).await
}

/// Deploys this code as an app of rooms whose containers have the image of `hello`.
pub(super) async fn deploy_rooms(cluster: &Cluster, source: &str) -> Result<()> {
    cluster.deploy(&App::default()).await?;
    let admin = cluster.admin();
    let hello = admin.get("/v1/apps/hello").await?;
    let image = hello.pointer("/spec/classes/Hello/image").context("no image")?;
    let digest = Digest::of(source.as_bytes()).to_string();
    let (status, answer) = admin.put_bytes(&format!("/v1/files/{digest}"), source.to_owned()).await?;
    ensure!(status.is_success(), "{status}: {answer}");
    let class = json!({
        "image": image, "enable_internet": false, "sleep_after": 600_000, "start_timeout": 10_000,
        "port_timeout": 10_000, "stop_grace": 10_000,
        "resources": {"cpu_sixteenths": 4, "memory_bytes": 64 << 20, "disk_bytes": 64 << 20},
    });
    let spec = json!({"name": "rooms", "classes": {"Room": class}, "routes": [], "program": {
        "entry": "index.js", "modules": [{"name": "index.js", "digest": digest,
            "imports": {"cloudflare:workers": {"builtin": "cloudflare:workers"}}}],
        "compatibility_date": "2026-01-31", "classes": ["Room"], "object_classes": {"Room": "Room"},
        "durable_objects": {"ROOMS": "Room"}, "routes": [{"path": "/rooms/*"}],
    }});
    let (status, answer) = admin.put("/v1/apps/rooms", &spec).await?;
    ensure!(status.is_success(), "{status}: {answer}");
    Ok(())
}

/// One room, from outside.
struct Room<'a> {
    client: Client,
    name: &'a str,
}

impl Room<'_> {
    async fn ask(&self, what: &str) -> Result<Answer> {
        self.client.get(&format!("/rooms/{}/{what}", self.name)).await
    }

    async fn does(&self, what: &str) -> Result<Value> {
        let answer = self.ask(what).await?.success()?;
        serde_json::from_str(&answer.text).with_context(|| answer.text)
    }

    /// What its container answers, once that listens.
    async fn inside(&self, path: &str) -> Result<String> {
        let text = async || anyhow::Ok(self.ask(&format!("port/8080/{path}")).await?.success()?.text);
        until("an answer of the container", PATIENCE, text).await
    }

    /// Waits until it was told of these ends, and knows that nothing runs.
    async fn ends(&self, expected: &[&str]) -> Result<()> {
        let told = async || {
            let state = self.does("look").await?;
            ensure!(state["ends"] == json!(expected) && state["running"] == json!(false), "{state}");
            Ok(())
        };
        until("the end of the container", PATIENCE, told).await
    }
}

/// Whether a text is in a file below a directory.
fn is_written(directory: &Path, text: &str) -> Result<bool> {
    for entry in std::fs::read_dir(directory)? {
        let (entry, kind) = entry.and_then(|entry| Ok((entry.path(), entry.file_type()?)))?;
        let found = if kind.is_dir() {
            is_written(&entry, text)?
        } else {
            kind.is_file() && std::fs::read(&entry)?.windows(text.len()).any(|part| part == text.as_bytes())
        };
        if found {
            return Ok(true);
        }
    }
    Ok(false)
}

#[test]
fn an_objects_code_runs_its_container() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        deploy(cluster).await?;
        let room = Room { client: cluster.client(), name: "a" };
        // Nothing runs: that is told at once.
        let nothing = room.ask("port/8080/").await?;
        ensure!(
            nothing.status == 502 && nothing.text.contains("The container is not running"),
            "{nothing:?}"
        );
        let started = room.does(&format!("start?SECRET={SECRET}")).await?;
        ensure!(started["running"] == json!(true), "{started}");
        let id = started["id"].as_str().context("no id")?.to_owned();
        ensure!(room.inside("env/MESSAGE").await? == format!("of {id}"));
        ensure!(room.inside("env/CLOUDFLARE_DURABLE_OBJECT_ID").await? == id);
        ensure!(room.inside("env/SECRET").await? == SECRET);
        let closed = room.ask("port/8081/").await?;
        let text = "Container is not listening to port 8081";
        ensure!(closed.status == 502 && closed.text.contains(text), "{closed:?}");
        let again = room.ask("start").await?;
        ensure!(again.status.is_server_error(), "{again:?}");
        // Bodies in both directions.
        ensure!(room.does("length/3000000").await? == json!(3_000_000));

        let sent = room.client.put("/rooms/a/port/8080/sink", vec![b'x'; 1_000_000]).await?;
        ensure!(sent.success()?.text.contains("1000000"));
        // WebSockets: passed on as they are, and copied by the code.
        for path in ["port/8080/ws", "relay"] {
            let mut socket = Socket::open(&room.client, &format!("/rooms/a/{path}")).await?;
            for length in [1, 65_536] {
                socket.echo(Message::text("x".repeat(length))).await?;
                socket.echo(Message::binary(vec![1; length])).await?;
            }
            ensure!(socket.close(4001).await? == 4001);
        }
        // As the edge has it: one instance, and what only the container is to know is not in the store.
        let object = cluster.admin().object(&id).await?;
        ensure!(object.class.as_str() == "Room" && object.node.is_some(), "{object:?}");
        ensure!(!is_written(&cluster.directory().join("edge"), SECRET)?, "the edge wrote a value down");
        // Its ends, however they come.
        room.ask("port/8080/exit/7").await?;
        let first = "7 Container exited with unexpected exit code: 7";
        room.ends(&[first]).await?;
        room.does("start").await?;
        room.inside("boot").await?;
        room.does("signal/15").await?;
        room.ends(&[first, "well"]).await?;
        room.does("start").await?;
        room.does("destroy").await?;
        let killed = "137 Container exited with unexpected exit code: 137";
        room.ends(&[first, "well", killed]).await?;
        // What is killed before it runs has run.
        room.does("start").await?;
        room.does("signal/9").await?;
        room.ends(&[first, "well", killed, killed]).await
    })
}

#[test]
fn a_container_outlives_its_script_and_its_edge_but_not_its_object() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        deploy(cluster).await?;
        let room = Room { client: cluster.client(), name: "a" };
        room.does("start").await?;
        let boot = room.inside("boot").await?;
        kill(Pid::from_raw(cluster.script_process()?.try_into()?), Signal::SIGKILL)?;
        let found = async || {
            let state = room.does("look").await?;
            ensure!(state["running"] == json!(true), "{state}");
            Ok(())
        };
        until("the object with its container", PATIENCE, found).await?;
        ensure!(room.inside("boot").await? == boot);
        cluster.kill_edge()?;
        cluster.start_edge()?;
        cluster.until_connected().await?;
        let room = Room { client: cluster.client(), name: "a" };
        let state = room.does("look").await?;
        ensure!(state["running"] == json!(true), "{state}");
        ensure!(room.inside("boot").await? == boot);
        // An object that fails takes its container with it, and nobody has the object before that.
        let aborted = room.ask("abort").await?;
        ensure!(aborted.status.is_server_error(), "{aborted:?}");
        let state = room.does("look").await?;
        ensure!(state["running"] == json!(false) && state["ends"] == json!([]), "{state}");
        // Unless it was to go on.
        room.does("start").await?;
        let boot = room.inside("boot").await?;
        room.does("keep/60000").await?;
        room.ask("abort").await?;
        let state = room.does("look").await?;
        ensure!(state["running"] == json!(true), "{state}");
        ensure!(room.inside("boot").await? == boot);
        // What it has ordered last is carried out all the same.
        room.does(&format!("signals/{}.15", ["18"; 40].join("."))).await?;
        room.ask("abort").await?;
        let ended = async || {
            let state = room.does("look").await?;
            ensure!(state["running"] == json!(false), "{state}");
            Ok(())
        };
        until("the end that was ordered", PATIENCE, ended).await
    })
}

#[test]
fn signals_come_in_the_order_in_which_they_were_given() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        deploy(cluster).await?;
        let room = Room { client: cluster.client(), name: "a" };
        room.does("start").await?;
        let boot = room.inside("boot").await?;
        // It is stopped and goes on, and goes on at last.
        room.does(&format!("signals/{}", ["19.18"; 20].join("."))).await?;
        ensure!(room.inside("boot").await? == boot);
        // An end comes before those that wait.
        room.does(&format!("signals/{}", ["18"; 60].join("."))).await?;
        room.does("destroy").await?;
        room.ends(&["137 Container exited with unexpected exit code: 137"]).await
    })
}

/// How long the program of a deleted app may go on with what it does, and what a busy machine adds.
const RETIRE_LIMIT: Duration = Duration::from_secs(60);

#[test]
fn a_deleted_app_starts_no_container_and_leaves_none() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        deploy(cluster).await?;
        let room = Room { client: cluster.client(), name: "a" };
        room.does("keep/600000").await?;
        room.does("restart").await?;
        room.inside("boot").await?;
        // A request that takes its time keeps the program for a while: it hears of the end of its container.
        let waiting =
            room.client.send(Method::GET, "/rooms/a/port/8080/slow/60", Empty::new().boxed()).await?;
        let (status, answer) = cluster.admin().delete("/v1/apps/rooms").await?;
        ensure!(status.is_success(), "{status}: {answer}");
        let nothing = async || {
            let left = cluster.instance_processes(0);
            ensure!(left.is_empty() && cluster.script_process().is_err(), "{left:?}");
            Ok(())
        };
        until("the end of the program and its container", RETIRE_LIMIT, nothing).await?;
        drop(waiting);
        tokio::time::sleep(Duration::from_secs(2)).await;
        nothing().await
    })
}

/// How long a start waits for a node: the class's `start_timeout`, and what a busy machine adds.
const START_LIMIT: Duration = Duration::from_secs(25);

#[test]
fn a_start_that_finds_no_node_is_told_so() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        deploy(cluster).await?;
        cluster.kill_agent(0)?;
        cluster.kill_supervisor(0)?;
        let room = Room { client: cluster.client(), name: "a" };
        room.does("start").await?;
        let told = async || {
            let state = room.does("look").await?;
            let end = state["ends"][0].as_str().unwrap_or_default();
            let text = "there is no container instance that can be provided to this durable object";
            ensure!(end.contains(text) && state["running"] == json!(false), "{state}");
            Ok(())
        };
        until("the end of the start", START_LIMIT, told).await
    })
}
