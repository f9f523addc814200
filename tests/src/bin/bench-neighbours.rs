//! How long requests to one app take while the clients of another leave uploads and downloads unread and open thousands of
//! WebSockets, beside how long they take without. `bench-neighbours [SECONDS]`.

use std::time::Duration;

use anyhow::{Context, Result};
use berth_tests::app::App;
use berth_tests::attack::{Uploads, requests_of_another, unread_downloads, websockets};
use berth_tests::bench::latencies::Latencies;
use berth_tests::bench::report::Report;
use berth_tests::cluster::{Cluster, Setup};

/// How long each part is measured, in seconds.
const SECONDS: u64 = 20;
/// Uploads that the app never reads: as many as once stopped a whole link.
const UPLOADS: usize = 70;
/// Downloads that nobody reads: more than an instance's share.
const DOWNLOADS: usize = 200;
/// WebSockets, and the containers of the app that have them.
const WEBSOCKETS: usize = 5000;
const OBJECTS: usize = 6;
/// What the other app is asked.
const PATH: &str = "/other/1/status/200";

fn main() -> Result<()> {
    let seconds = std::env::args().nth(1).map_or(Ok(SECONDS), |word| word.parse());
    let lasting = Duration::from_secs(seconds.context("bench-neighbours [SECONDS]")?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let cluster = runtime.block_on(start())?;
    let measured = runtime.block_on(measure(&cluster, lasting));
    drop(runtime);
    cluster.end()?;
    measured?.finish()
}

async fn start() -> Result<Cluster> {
    let cluster = Cluster::start(Setup { log: "warn", shards: None, ..Setup::nodes(1) }).await?;
    for (name, prefix, memory) in [("greedy", "greedy", "1GiB"), ("other", "other", "128MiB")] {
        cluster.deploy(&App { name, prefix, memory, ..App::default() }).await?;
        cluster.client().get(&format!("/{prefix}/1/status/200")).await?.success()?;
    }
    Ok(cluster)
}

async fn measure(cluster: &Cluster, lasting: Duration) -> Result<Report> {
    let mut report = Report::new("neighbours");
    let edge = cluster.address();
    let other = async || requests_of_another(cluster.client(), PATH, lasting).await;
    let idle = Latencies::of(other().await?);
    idle.add_to(&mut report, "idle");

    let uploads = Uploads::begin(edge, "/greedy/1/slow/3600", UPLOADS).await?;
    let (open, refused) = websockets(edge, "greedy", OBJECTS, WEBSOCKETS).await?;
    report.value("websockets_open", open.len() as f64);
    report.value("websockets_refused", refused as f64);
    let attacked = Latencies::of(other().await?);
    attacked.add_to(&mut report, "uploads_and_websockets");
    report.ratio("p99_uploads_and_websockets", attacked.p99_ms, idle.p99_ms);
    drop((uploads, open));

    let unread = unread_downloads(edge, "/greedy/1/bytes/10737418240", DOWNLOADS).await?;
    let attacked = Latencies::of(other().await?);
    attacked.add_to(&mut report, "downloads");
    report.ratio("p99_downloads", attacked.p99_ms, idle.p99_ms);
    drop(unread);
    report.remark(
        "ratios are those of the other app's requests under attack to the same when nothing else happens",
    );
    Ok(report)
}
