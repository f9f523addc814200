//! Cold start: from the request to a new ID until the first byte of the answer, beside `podman run` of the same image
//! as an ordinary user, by turns; and how many starts a node can take all the time. `bench-cold [SAMPLES]`.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use berth_tests::app::App;
use berth_tests::bench::podman::Podman;
use berth_tests::bench::report::Report;
use berth_tests::bench::samples::Samples;
use berth_tests::client::Client;
use berth_tests::cluster::{Cluster, Setup};
use berth_tests::programs::HELLO;
use berth_tests::{machine, ports, wait};
use http_body_util::{BodyExt, Empty};
use hyper::Method;
use tokio::task::JoinSet;

/// Starts that are measured, on each side.
const SAMPLES: usize = 50;
/// Starts before them, which find nothing in the caches.
const WARM_UP: usize = 2;
/// How long an instance may take to end between two measurements, and the prepared containers to be made again.
const QUIET_TIMEOUT: Duration = Duration::from_secs(15);
/// How long starts are counted.
const RATE_TIME: Duration = Duration::from_secs(30);
/// Clients that start instances at the same time, one after the other each.
const RATE_CLIENTS: usize = 6;
/// Disks of a node, where root can make them.
const SLOTS: &str = "24x64MiB";

/// The kinds of starts that are measured. An app for each, with a prefix of its own.
const KINDS: [StartKind; 3] = [
    StartKind { name: "prepared", prepared: 2, internet: false },
    StartKind { name: "prepared_internet", prepared: 2, internet: true },
    StartKind { name: "unprepared", prepared: 0, internet: false },
];

struct StartKind {
    name: &'static str,
    prepared: usize,
    internet: bool,
}

impl StartKind {
    fn app(&self) -> App {
        let more = if self.prepared > 0 { "prepared = 2" } else { "prepared = 0" };
        let (name, prefix) = (self.name, self.name);
        App { name, prefix, more, internet: self.internet, memory: "256MiB", disk: "64MiB", ..App::default() }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let count =
        std::env::args().nth(1).map_or(Ok(SAMPLES), |word| word.parse()).context("bench-cold [SAMPLES]")?;
    ensure!(count > 0, "bench-cold [SAMPLES]: at least one");
    let slots = machine::is_root().then_some(SLOTS);
    let setup = Setup { log: "warn", shards: None, disk_slots: slots, ..Setup::nodes(1) };
    // Where nothing is prepared, nothing is: no namespaces either.
    let bare = Cluster::start(Setup { agent_options: vec!["--spares", "0"], ..setup.clone() }).await?;
    let with_prepared = Cluster::start(setup).await?;
    let measured = measure(&bare, &with_prepared, count).await;
    let ended = bare.end().and(with_prepared.end());
    let report = measured?;
    ended?;
    report.finish()
}

async fn measure(bare: &Cluster, with_prepared: &Cluster, count: usize) -> Result<Report> {
    let cluster = |kind: &StartKind| if kind.prepared > 0 { with_prepared } else { bare };
    for kind in &KINDS {
        cluster(kind).deploy(&kind.app()).await?;
    }
    let mut podman = Podman::prepare(&pack(with_prepared).await?)?;
    let mut samples: [Samples; KINDS.len()] = Default::default();
    let mut theirs = Samples::default();
    for round in 0..WARM_UP + count {
        for (kind, samples) in KINDS.iter().zip(&mut samples) {
            let took = berth_start(cluster(kind), kind, round).await?;
            if round >= WARM_UP {
                samples.add_ms(took);
            }
        }
        let other = podman_start(&mut podman, round).await?;
        if round >= WARM_UP {
            theirs.add_ms(other);
            println!("{:>4}  podman {other:>8.1?}", round + 1 - WARM_UP);
        }
    }
    let mut report = report(&samples, &theirs, &podman)?;
    report.value("starts_per_s", starts_per_s(with_prepared).await?);
    Ok(report)
}

/// Starts that answer a request, are stopped and cleaned up, in a second, over half a minute: what is left to be
/// cleaned up at its end counts as time.
async fn starts_per_s(cluster: &Cluster) -> Result<f64> {
    let app = App { name: "rate", prefix: "rate", disk: "64MiB", more: "prepared = 4", ..App::default() };
    cluster.deploy(&app).await?;
    let (client, began) = (cluster.client(), Instant::now());
    let mut clients = JoinSet::new();
    for number in 0..RATE_CLIENTS {
        clients.spawn(start_and_stop(client, number, began + RATE_TIME));
    }
    let mut starts = 0;
    while let Some(done) = clients.join_next().await {
        starts += done??;
    }
    wait::until("everything to be cleaned up", QUIET_TIMEOUT, async || {
        let left = cluster.instance_directories(0)?;
        ensure!(left.is_empty() && cluster.instance_groups(0).is_empty(), "{} are left", left.len());
        Ok(())
    })
    .await?;
    Ok(f64::from(starts) / began.elapsed().as_secs_f64())
}

async fn start_and_stop(client: Client, number: usize, until: Instant) -> Result<u32> {
    let mut starts = 0;
    while Instant::now() < until {
        let answer = client.get(&format!("/rate/{number}-{starts}/exit/0")).await?;
        answer.success().with_context(|| format!("start {starts} of client {number}"))?;
        starts += 1;
    }
    Ok(starts)
}

/// The image that `berth deploy` makes of the same program.
async fn pack(cluster: &Cluster) -> Result<std::path::PathBuf> {
    let layout = cluster.directory().join("image");
    let program = cluster.program(HELLO);
    let output =
        cluster.berth(&["pack", &program.to_string_lossy(), "--output", &layout.to_string_lossy()]).await?;
    ensure!(output.status.success(), "berth pack: {}", String::from_utf8_lossy(&output.stderr));
    Ok(layout)
}

async fn berth_start(cluster: &Cluster, kind: &StartKind, round: usize) -> Result<Duration> {
    until_quiet(cluster, kind).await?;
    let (client, name) = (cluster.client(), format!("{}-{round}", kind.name));
    let started = Instant::now();
    let response = client.send(Method::GET, &format!("/{}/{name}", kind.name), Empty::new().boxed()).await?;
    let took = started.elapsed();
    ensure!(response.status().is_success(), "a new ID was answered with {}", response.status());
    client.get(&format!("/{}/{name}/exit/0", kind.name)).await?;
    Ok(took)
}

/// Waits until the last instance is gone and containers are prepared: only the start is measured.
async fn until_quiet(cluster: &Cluster, kind: &StartKind) -> Result<()> {
    let held = if kind.prepared > 0 { 2 * kind.prepared } else { 0 };
    wait::until("the node to be quiet", QUIET_TIMEOUT, async || {
        let (groups, prepared) = (cluster.instance_groups(0), cluster.held(0).len());
        ensure!(
            groups.is_empty() && prepared == held,
            "{} instances, {prepared} containers held",
            groups.len()
        );
        Ok(())
    })
    .await?;
    // The last of the prepared containers may still be in the making.
    tokio::time::sleep(Duration::from_millis(300)).await;
    Ok(())
}

async fn podman_start(podman: &mut Podman, round: usize) -> Result<Duration> {
    let name = format!("cold-{round}");
    let took = podman.cold_start(&name, ports::free_address()?).await?;
    podman.remove(&name)?;
    Ok(took)
}

fn report(samples: &[Samples; KINDS.len()], theirs: &Samples, podman: &Podman) -> Result<Report> {
    let mut report = Report::new("cold");
    let ours = KINDS.iter().map(|kind| kind.name).zip(samples);
    for (name, samples) in ours.chain([("podman", theirs)]) {
        report.value(format!("{name}_ms"), samples.median());
        report.value(format!("{name}_p95_ms"), samples.at(95));
        report.value(format!("{name}_min_ms"), samples.at(0));
        if name != "podman" {
            report.ratio(format!("{name}_to_podman"), samples.median(), theirs.median());
        }
    }
    let disks = if machine::is_root() { "loop slots" } else { "unenforced" };
    report.remark(format!(
        "medians and 95th percentiles of {} starts each, by turns; disks: {disks}",
        theirs.count()
    ));
    report.remark(format!(
        "{}, rootless, runc, overlay, -p; 1 vCPU and 256 MiB on both sides",
        podman.version()?
    ));
    if !podman.limits {
        report.remark(
            "this podman cannot limit CPU and memory here (rootless on cgroup v1), so only Berth's side is limited",
        );
    }
    Ok(report)
}
