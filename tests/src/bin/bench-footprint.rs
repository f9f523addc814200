//! What Berth itself takes: the daemons while nothing happens, each running container besides what its app takes, and what a
//! hostile one costs the node besides its own limits: a flood of output, and a disk that is hard to wipe.
//! `bench-footprint [CONTAINERS]`. Of the programs that are handed out, where `./dev dist` has made them.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use berth_tests::app::App;
use berth_tests::bench::report::Report;
use berth_tests::cluster::{Cluster, Setup};
use berth_tests::programs::PROBE;
use berth_tests::{cgroup, host, machine, wait};

/// Containers over which the rest is shared out: what they share counts once.
const CONTAINERS: usize = 24;
/// How long a daemon is left alone before it is idle, and containers before they are only there.
const SETTLE: Duration = Duration::from_secs(3);
/// How long the node's prepared containers may take to be removed or made.
const QUIET_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a disk may take to be wiped on a busy machine.
const WIPE_TIMEOUT: Duration = Duration::from_secs(60);
/// Depth of the directories that are removed, and seconds of the flood of output.
const LEVELS: usize = 100_000;
const FLOOD_SECONDS: u32 = 5;
const MIB: f64 = (1 << 20) as f64;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let count = std::env::args()
        .nth(1)
        .map_or(Ok(CONTAINERS), |word| word.parse())
        .context("bench-footprint [CONTAINERS]")?;
    ensure!(count > 0, "bench-footprint [CONTAINERS]: at least one");
    // Without a shim pool: idle shims would share memory with those of containers.
    let setup = Setup { log: "warn", shards: None, agent_options: vec!["--spares", "0"], ..Setup::nodes(1) };
    let cluster = Cluster::start(setup).await?;
    let measured = measure(&cluster, count).await;
    cluster.end()?;
    let mut report = measured?;
    hostile(&mut report).await?;
    report.finish()
}

/// What a hostile container costs the node. Its disk is a slot, as on a node.
async fn hostile(report: &mut Report) -> Result<()> {
    if !machine::is_root() {
        report.remark("not root: without slots, hostile containers are not measured");
        return Ok(());
    }
    let agent_options = vec!["--spares", "0"];
    let setup =
        Setup { log: "warn", shards: None, agent_options, disk_slots: Some("2x2GB"), ..Setup::nodes(1) };
    let cluster = Cluster::start(setup).await?;
    let measured = measure_hostile(&cluster).await;
    cluster.end()?;
    let (flood, wipe) = measured?;
    report.value("log_flood_cpu_ratio", flood);
    report.value("wipe_100k_levels_cpu_s", wipe);
    Ok(())
}

async fn measure_hostile(cluster: &Cluster) -> Result<(f64, f64)> {
    let app = App {
        name: "hostile",
        prefix: "hostile",
        program: PROBE,
        memory: "1GiB",
        disk: "2GB",
        more: "prepared = 0",
        ..App::default()
    };
    cluster.deploy(&app).await?;
    Ok((flood(cluster).await?, wipe(cluster).await?))
}

async fn measure(cluster: &Cluster, count: usize) -> Result<Report> {
    let mut report = Report::new("footprint");
    tokio::time::sleep(SETTLE).await;
    let daemons =
        [("agent", cluster.agent(0)?), ("supervisor", cluster.supervisor(0)?), ("edge", cluster.edge()?)];
    for (name, daemon) in daemons {
        report.value(format!("{name}_idle_mib"), host::proportional_memory(daemon.pid())? as f64 / MIB);
    }
    for (name, internet) in [("per_container_kib", false), ("per_container_internet_kib", true)] {
        report.value(name, per_container(cluster, count, internet).await? / 1024.0);
    }
    let program = cluster.program("berth-agent");
    report.value("agent_binary_mb", std::fs::metadata(&program)?.len() as f64 / 1e6);
    report
        .remark(format!("proportional set sizes; over {count} containers, with their groups' kernel memory"));
    report.remark(format!("without what the app itself takes; programs: {}", made_by(&program)));
    Ok(report)
}

fn made_by(program: &Path) -> &'static str {
    let is_large = std::fs::metadata(program).is_ok_and(|file| file.len() > 20_000_000);
    if is_large { "of the tests, with debug information" } else { "as handed out" }
}

/// Bytes that each container takes of Berth's: its shim, what carries its network, and the kernel's memory for both.
async fn per_container(cluster: &Cluster, count: usize, internet: bool) -> Result<f64> {
    let name = if internet { "internet" } else { "alone" };
    let app = App {
        name,
        prefix: name,
        more: "prepared = 0",
        internet,
        memory: "64MiB",
        vcpu: 0.0625,
        ..App::default()
    };
    cluster.deploy(&app).await?;
    for number in 0..count {
        cluster.client().get(&format!("/{name}/{number}")).await?.success()?;
    }
    tokio::time::sleep(SETTLE).await;
    let shims = host::children(cluster.supervisor(0)?.pid());
    ensure!(shims.len() == count, "{} shims for {count} containers", shims.len());
    let networks = cluster.network_processes(0).into_iter().filter_map(|pid| u32::try_from(pid).ok());
    let processes = shims.into_iter().chain(networks);
    let own: u64 = processes.map(host::proportional_memory).sum::<Result<u64>>()?;
    let groups =
        ["container-", "net-"].map(|start| cgroup::beginning_with(cluster.nodes()[0].cgroup(), start));
    let kernel: u64 = groups.iter().flatten().map(|group| cgroup::kernel_memory(group)).sum();
    end_all(cluster, name, count).await?;
    Ok((own + kernel) as f64 / count as f64)
}

/// CPU that the shim takes for each second of CPU of an app that writes far more than it may log, in small writes.
async fn flood(cluster: &Cluster) -> Result<f64> {
    let client = cluster.client();
    client.get("/hostile/flood").await?.success()?;
    let shims = host::children(cluster.supervisor(0)?.pid());
    let of_shims = || shims.iter().map(|pid| host::cpu_time(*pid)).sum::<Result<Duration>>();
    let before = (cluster.cpu_of_instances(0)?, of_shims()?);
    client.get(&format!("/hostile/flood/bomb/drip/{FLOOD_SECONDS}")).await?.success()?;
    let app = cluster.cpu_of_instances(0)?.saturating_sub(before.0).as_secs_f64();
    let shim = of_shims()?.saturating_sub(before.1).as_secs_f64();
    Ok(shim / app.max(f64::EPSILON))
}

/// CPU that it takes to remove as many directories as fit on a disk, each in the one before.
async fn wipe(cluster: &Cluster) -> Result<f64> {
    let made = cluster.client().get(&format!("/hostile/deep/bomb/levels/{LEVELS}")).await?.success()?.text;
    ensure!(made == format!("{LEVELS} ok"), "{made}");
    let helpers = cluster.nodes()[0].cgroup().join("helpers");
    let before = cgroup::cpu_time(&helpers)?;
    for name in ["deep", "flood"] {
        let id = cluster.admin().object(name).await?.id;
        cluster.admin().post(&format!("/v1/containers/{id}/destroy"), &serde_json::Value::Null).await?;
    }
    wait::until("the disk to be wiped", WIPE_TIMEOUT, async || {
        ensure!(cluster.instance_groups(0).is_empty(), "a container is left");
        ensure!(host::children(cluster.supervisor(0)?.pid()).is_empty(), "a shim is left");
        Ok(())
    })
    .await?;
    Ok(cgroup::cpu_time(&helpers)?.saturating_sub(before).as_secs_f64())
}

async fn end_all(cluster: &Cluster, name: &str, count: usize) -> Result<()> {
    for number in 0..count {
        cluster.client().get(&format!("/{name}/{number}/exit/0")).await?.success()?;
    }
    wait::until("all containers to be gone", QUIET_TIMEOUT, async || {
        ensure!(cluster.instance_groups(0).is_empty(), "some are left");
        Ok(())
    })
    .await
}
