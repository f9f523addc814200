//! What an app's program costs beside workerd and beside a container, and what a hostile program costs the other apps: their requests
//! while nothing else happens, and while it spins, takes memory without end, and makes more work than it does.
//! `bench-script [SECONDS]`; `bench-script 0` leaves the hostile one out.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use berth_common::image::Digest;
use berth_tests::app::App;
use berth_tests::attack::requests_of_another;
use berth_tests::bench::beside_workerd;
use berth_tests::bench::latencies::Latencies;
use berth_tests::bench::report::Report;
use berth_tests::client::Client;
use berth_tests::cluster::{Cluster, Setup};
use serde_json::json;
use tokio::task::JoinSet;

/// How long each part is measured, in seconds.
const SECONDS: u64 = 20;
/// Clients of the hostile app at once: several for each thread of its process.
const CLIENTS: usize = 16;
/// Pause of such a client that was refused: nobody else's requests are to wait for its own.
const PAUSE: Duration = Duration::from_millis(5);
/// What the others are asked: one has a container, one a program.
const CONTAINER: &str = "/other/1/status/200";
const PROGRAM: &str = "/calm/x";

/// Answers.
const CALM: &str = "export default { fetch: () => new Response('x') };";
/// Each path is a way to take what there is.
const HOSTILE: &str = "const kept = [];
export default { async fetch(request) {
    const what = new URL(request.url).pathname.split('/').pop();
    if (what === 'spin') for (;;);
    if (what === 'memory') for (;;) kept.push(new Uint8Array(1 << 20).fill(1));
    if (what === 'promises') { const fork = async () => { await null; fork(); fork(); }; await fork(); }
    if (what === 'logs') for (;;) console.log('x'.repeat(10000));
    return new Response('x');
} };";
const WAYS: [&str; 4] = ["spin", "memory", "promises", "logs"];

fn main() -> Result<()> {
    let seconds = std::env::args().nth(1).map_or(Ok(SECONDS), |word| word.parse());
    let lasting = Duration::from_secs(seconds.context("bench-script [SECONDS]")?);
    let mut report = Report::new("script");
    beside_workerd::measure(&mut report)?;
    if !lasting.is_zero() {
        beside_hostile(&mut report, lasting)?;
    }
    report.finish()
}

fn beside_hostile(report: &mut Report, lasting: Duration) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let cluster = runtime.block_on(start())?;
    let measured = runtime.block_on(measure(&cluster, report, lasting));
    drop(runtime);
    // The edge cuts off what the hostile program still does, and says so by its exit status.
    drop(cluster.end());
    measured
}

async fn start() -> Result<Cluster> {
    let cluster = Cluster::start(Setup { log: "error", shards: None, ..Setup::nodes(1) }).await?;
    cluster.deploy(&App { name: "other", prefix: "other", ..App::default() }).await?;
    program(&cluster, "calm", CALM).await?;
    program(&cluster, "hostile", HOSTILE).await?;
    for path in [CONTAINER, PROGRAM] {
        cluster.client().get(path).await?.success()?;
    }
    Ok(cluster)
}

async fn program(cluster: &Cluster, name: &str, source: &str) -> Result<()> {
    let digest = Digest::of(source.as_bytes()).to_string();
    let admin = cluster.admin();
    let (status, answer) = admin.put_bytes(&format!("/v1/files/{digest}"), source.to_owned()).await?;
    ensure!(status.is_success(), "{status}: {answer}");
    let spec = json!({"name": name, "classes": {}, "routes": [], "program": {
        "entry": "index.js", "modules": [{"name": "index.js", "digest": digest}],
        "compatibility_date": "2026-01-31", "routes": [{"path": format!("/{name}/*")}],
    }});
    let (status, answer) = admin.put(&format!("/v1/apps/{name}"), &spec).await?;
    ensure!(status.is_success(), "{status}: {answer}");
    Ok(())
}

async fn measure(cluster: &Cluster, report: &mut Report, lasting: Duration) -> Result<()> {
    let others = async |report: &mut Report, part: &str| {
        let ask = |path| requests_of_another(cluster.client(), path, lasting);
        let (container, program) = tokio::try_join!(ask(CONTAINER), ask(PROGRAM))?;
        let (container, program) = (Latencies::of(container), Latencies::of(program));
        container.add_to(report, &format!("container_{part}"));
        program.add_to(report, &format!("program_{part}"));
        anyhow::Ok((container, program))
    };
    let (container, program) = others(report, "idle").await?;
    report.ratio("p50_program_to_container", program.p50_ms, container.p50_ms);
    for way in WAYS {
        let clients = hostile(cluster, way);
        let (attacked, beside) = others(report, way).await?;
        drop(clients);
        report.ratio(format!("p99_container_{way}"), attacked.p99_ms, container.p99_ms);
        report.ratio(format!("p99_program_{way}"), beside.p99_ms, program.p99_ms);
    }
    report
        .remark("a program's answer beside a container's: both through the same edge, one request at a time");
    report.remark(
        "the other ratios: an app's requests beside the hostile one to the same when nothing else happens",
    );
    Ok(())
}

/// Clients that ask the hostile app for this over and over, until dropped.
fn hostile(cluster: &Cluster, way: &str) -> JoinSet<()> {
    let ask = |client: Client| {
        let path = format!("/hostile/{way}");
        async move {
            loop {
                // It fails in the end, or the app is refused for a while.
                drop(client.get(&path).await);
                tokio::time::sleep(PAUSE).await;
            }
        }
    };
    (0..CLIENTS).map(|_| ask(cluster.client())).collect()
}
