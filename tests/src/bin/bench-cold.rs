//! Cold start: from the request to a new ID until the first byte of the answer, beside `podman run` of the same image as
//! an ordinary user, by turns. `bench-cold [SAMPLES]`.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use berth_tests::app::App;
use berth_tests::bench::podman::Podman;
use berth_tests::bench::report::Report;
use berth_tests::bench::samples::Samples;
use berth_tests::cluster::{Cluster, Setup};
use berth_tests::programs::HELLO;
use berth_tests::{ports, wait};
use http_body_util::{BodyExt, Empty};
use hyper::Method;

/// Starts that are measured, on each side.
const SAMPLES: usize = 50;
/// Starts before them, which find nothing in the caches.
const WARM_UP: usize = 2;
/// How long an instance may take to end between two measurements.
const END_TIMEOUT: Duration = Duration::from_secs(10);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let count =
        std::env::args().nth(1).map_or(Ok(SAMPLES), |word| word.parse()).context("bench-cold [SAMPLES]")?;
    ensure!(count > 0, "bench-cold [SAMPLES]: at least one");
    let cluster = Cluster::start(Setup { log: "warn", shards: None, ..Setup::nodes(1) }).await?;
    let measured = measure(&cluster, count).await;
    cluster.end()?;
    measured?.finish()
}

async fn measure(cluster: &Cluster, count: usize) -> Result<Report> {
    cluster.deploy(&App { vcpu: 1.0, memory: "256MiB", ..App::default() }).await?;
    let mut podman = Podman::prepare(&pack(cluster).await?)?;
    let (mut ours, mut theirs) = (Samples::default(), Samples::default());
    for round in 0..WARM_UP + count {
        let (berth, other) = (berth_start(cluster, round).await?, podman_start(&mut podman, round).await?);
        if round >= WARM_UP {
            println!("{:>4}  Berth {berth:>8.1?}  podman {other:>8.1?}", round + 1 - WARM_UP);
            ours.add_ms(berth);
            theirs.add_ms(other);
        }
    }
    report(&ours, &theirs, &podman)
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

async fn berth_start(cluster: &Cluster, round: usize) -> Result<Duration> {
    let (client, name) = (cluster.client(), format!("cold-{round}"));
    let started = Instant::now();
    let response = client.send(Method::GET, &format!("/container/{name}"), Empty::new().boxed()).await?;
    let took = started.elapsed();
    ensure!(response.status().is_success(), "a new ID was answered with {}", response.status());
    client.get(&format!("/container/{name}/exit/0")).await?;
    let admin = cluster.admin();
    wait::until("the instance to end", END_TIMEOUT, async || {
        let object = admin.object(&name).await?;
        ensure!(object.state == "stopped", "{object:?}");
        Ok(())
    })
    .await?;
    Ok(took)
}

async fn podman_start(podman: &mut Podman, round: usize) -> Result<Duration> {
    let name = format!("cold-{round}");
    let took = podman.cold_start(&name, ports::free_address()?).await?;
    podman.remove(&name)?;
    Ok(took)
}

fn report(ours: &Samples, theirs: &Samples, podman: &Podman) -> Result<Report> {
    let mut report = Report::new("cold");
    for (name, samples) in [("unprepared", ours), ("podman", theirs)] {
        report.value(format!("{name}_ms"), samples.median());
        report.value(format!("{name}_p95_ms"), samples.at(95));
        report.value(format!("{name}_min_ms"), samples.at(0));
    }
    report.ratio("unprepared_to_podman", ours.median(), theirs.median());
    report.ratio("unprepared_to_podman_p95", ours.at(95), theirs.at(95));
    report.remark(format!("medians and 95th percentiles of {} starts each, by turns", ours.count()));
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
