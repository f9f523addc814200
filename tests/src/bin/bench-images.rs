//! Pulls: from the order to hold an image until a node can start it, beside `skopeo copy` with `umoci unpack` and
//! beside `podman pull` of the same image, by turns; then of a second image that has most layers of the first.
//! `bench-images [TURNS]`.

use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use berth_tests::app::App;
use berth_tests::bench::pull::Peers;
use berth_tests::bench::report::Report;
use berth_tests::bench::sample_image::{NAMES, SampleImages};
use berth_tests::bench::samples::Samples;
use berth_tests::cluster::{Cluster, Setup};
use berth_tests::isolated::Isolated;
use berth_tests::registry::Registry;
use berth_tests::{host, machine, wait};

/// Turns of each, without the first.
const TURNS: usize = 5;
/// How long a node may take to know that an image is wanted no more.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Memory that neither daemon may exceed while images go through it, in bytes.
const MEMORY_LIMIT: u64 = 64 << 20;
/// Pause between two samples of the processes that unpack.
const LOOK: Duration = Duration::from_millis(10);

/// Times of the pulls of both images, the second one with the first one there.
#[derive(Default)]
struct Times {
    first: Samples,
    second: Samples,
}

#[derive(Default)]
struct Measured {
    berth: Times,
    skopeo: Times,
    podman: Times,
    memory: Memory,
}

/// Most resident memory, in bytes.
#[derive(Default)]
struct Memory {
    edge: u64,
    agent: u64,
    unpackers: u64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let turns =
        std::env::args().nth(1).map_or(Ok(TURNS), |word| word.parse()).context("bench-images [TURNS]")?;
    ensure!(turns > 0, "bench-images [TURNS]: at least one");
    ensure!(
        machine::is_root(),
        "podman and umoci unpack as root here, and nodes are emptied by root: run this as root"
    );
    let (address, edge_options) = Registry::free_address()?;
    let setup = Setup { log: "warn", shards: None, edge_options, ..Setup::nodes(1) };
    let mut cluster = Cluster::start(setup).await?;
    let measured = measure(&mut cluster, address, turns).await;
    if measured.is_err() {
        cluster.show_logs();
    }
    let ended = cluster.end();
    let report = measured?;
    ended?;
    report.finish()
}

async fn measure(cluster: &mut Cluster, address: std::net::SocketAddr, turns: usize) -> Result<Report> {
    let directory = cluster.make_directory("bench")?;
    let images = SampleImages::make(&directory)?;
    let peers = Peers::start(&directory).await?;
    let registry = Registry::of(cluster, address).await?;
    let tools = Isolated::prepare(&directory.join("push"))?;
    registry.log_in(&tools).await?;
    for (layout, name) in images.layouts.iter().zip(NAMES) {
        peers.push(layout, name).await?;
        registry.push(&tools, &format!("oci:{}", layout.display()), &format!("bench/{name}:latest")).await?;
    }
    let mut measured = Measured::default();
    for turn in 0..=turns {
        let took = one_turn(cluster, &peers, turn, &mut measured.memory).await?;
        println!(
            "{turn:>4}  berth {:>9.1?} {:>9.1?}  skopeo and umoci {:>9.1?} {:>9.1?}  podman {:>9.1?} {:>9.1?}",
            took[0].0, took[0].1, took[1].0, took[1].1, took[2].0, took[2].1
        );
        // The first turn finds nothing in the caches.
        if turn > 0 {
            for (times, (first, second)) in
                [&mut measured.berth, &mut measured.skopeo, &mut measured.podman].into_iter().zip(took)
            {
                times.first.add_ms(first);
                times.second.add_ms(second);
            }
        }
    }
    let mut report = report(&measured, &images);
    report.remark(peers.versions().await?);
    Ok(report)
}

async fn one_turn(
    cluster: &mut Cluster,
    peers: &Peers,
    turn: usize,
    memory: &mut Memory,
) -> Result<[(Duration, Duration); 3]> {
    let [first, second] = NAMES;
    let berth = berth_turn(cluster, turn, memory).await?;
    let fresh = peers.fresh(turn)?;
    let skopeo = (fresh.skopeo_and_umoci(first).await?, fresh.skopeo_and_umoci(second).await?);
    let podman = (fresh.podman(first).await?, fresh.podman(second).await?);
    Ok([berth, skopeo, podman])
}

/// From the command that deploys an app until it returns, which it does when the node can start the image.
async fn berth_turn(cluster: &mut Cluster, turn: usize, memory: &mut Memory) -> Result<(Duration, Duration)> {
    empty_node(cluster, turn).await?;
    let watch = Unpackers::watch(cluster.agent(0)?.pid());
    let mut took = [Duration::ZERO; 2];
    for (took, name) in took.iter_mut().zip(NAMES) {
        sync()?;
        let image = Some(format!("berth:bench/{name}:latest"));
        let began = Instant::now();
        cluster.deploy(&App { image, name, prefix: name, ..App::default() }).await?;
        *took = began.elapsed();
    }
    memory.unpackers = memory.unpackers.max(watch.end());
    memory.edge = memory.edge.max(host::peak_memory(cluster.edge()?.pid())?);
    memory.agent = memory.agent.max(host::peak_memory(cluster.agent(0)?.pid())?);
    for name in NAMES {
        let (status, answer) = cluster.admin().delete(&format!("/v1/apps/{name}")).await?;
        ensure!(status.is_success(), "{status}: {answer}");
    }
    Ok((took[0], took[1]))
}

/// A node that has no image, and is not to hold one. What it had goes with all the rest at the end, as that of the
/// peers does.
async fn empty_node(cluster: &mut Cluster, turn: usize) -> Result<()> {
    cluster.end_agent(0)?;
    let state = cluster.nodes()[0].state.clone();
    for part in ["images", "layers"] {
        fs::rename(state.join(part), state.join(format!("{part}-before-{turn}")))?;
    }
    cluster.start_agent(0)?;
    cluster.until_connected().await?;
    until_all_take_images(cluster).await
}

/// Waits until the node is connected, also for images: a deployment that waits for images returns at once then.
async fn until_all_take_images(cluster: &Cluster) -> Result<()> {
    let admin = cluster.admin();
    let none = format!("sha256:{}", "0".repeat(64));
    wait::until("the node to take images", TIMEOUT, async || {
        let nodes = admin.get(&format!("/v1/images/{none}/nodes")).await?;
        ensure!(!nodes.to_string().contains("away"), "{nodes}");
        Ok(())
    })
    .await
}

fn sync() -> Result<()> {
    ensure!(Command::new("sync").status()?.success(), "sync failed");
    Ok(())
}

/// Samples what the children of an agent use together: those that unpack are gone too soon to be measured once.
struct Unpackers {
    done: Arc<AtomicBool>,
    peak: Arc<AtomicU64>,
}

impl Unpackers {
    fn watch(agent: u32) -> Self {
        let (done, peak) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let own = (Arc::clone(&done), Arc::clone(&peak));
        std::thread::spawn(move || {
            while !own.0.load(Ordering::Relaxed) {
                let all = host::children(agent).into_iter().filter_map(|pid| host::resident_memory(pid).ok());
                own.1.fetch_max(all.sum(), Ordering::Relaxed);
                std::thread::sleep(LOOK);
            }
        });
        Self { done, peak }
    }

    fn end(self) -> u64 {
        self.done.store(true, Ordering::Relaxed);
        self.peak.load(Ordering::Relaxed)
    }
}

fn report(measured: &Measured, images: &SampleImages) -> Report {
    let mut report = Report::new("images");
    let sides =
        [("berth", &measured.berth), ("skopeo_umoci", &measured.skopeo), ("podman", &measured.podman)];
    for (name, times) in sides {
        for (what, samples) in [("pull", &times.first), ("shared_pull", &times.second)] {
            report.value(format!("{name}_{what}_ms"), samples.median());
            report.value(format!("{name}_{what}_min_ms"), samples.at(0));
            report.value(format!("{name}_{what}_max_ms"), samples.at(100));
        }
    }
    let fastest = measured.skopeo.first.median().min(measured.podman.first.median());
    report.ratio("ready_to_fastest_peer", measured.berth.first.median(), fastest);
    report.ratio("shared_layers", measured.berth.second.median(), measured.berth.first.median());
    report.value("image_compressed_mb", images.compressed_bytes as f64 / 1e6);
    report.value("image_archives_mb", images.archive_bytes as f64 / 1e6);
    report.value("image_entries", images.entries as f64);
    for (name, bytes) in [
        ("edge", measured.memory.edge),
        ("agent", measured.memory.agent),
        ("unpackers", measured.memory.unpackers),
    ] {
        report.value(format!("{name}_peak_memory_mib"), bytes as f64 / f64::from(1 << 20));
    }
    remarks(measured, &mut report);
    report
}

fn remarks(measured: &Measured, report: &mut Report) {
    report.remark(format!(
        "medians of {} pulls each, by turns, of an image of four gzip layers from registries on loopback; `shared_pull` is of \
         a second image that has three of them, and `shared_layers` is Berth's time for it to Berth's for the first",
        measured.berth.first.count()
    ));
    report.remark("Berth: `berth deploy` until it returns, which it does when the node can start the image; TLS on the way");
    report.remark(
        "nobody waits for unpacked files to be on the disk: Berth syncs a layer once it is in use, and fetches it again after a \
         crash before that; podman and umoci never do. skopeo syncs the compressed layers that it writes, podman its records",
    );
    for (name, bytes) in [("edge", measured.memory.edge), ("agent", measured.memory.agent)] {
        if bytes > MEMORY_LIMIT {
            report.remark(format!("the {name} took more than {} MiB", MEMORY_LIMIT >> 20));
        }
    }
}
