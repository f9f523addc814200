//! Requests a second, latency and CPU a request through edge and agent, beside nginx, mutual TLS and nginx, to the same
//! server, by turns. `bench-proxy [ROUNDS]`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use berth_tests::app::App;
use berth_tests::bench::nginx::{Chain, ChainSetup};
use berth_tests::bench::report::Report;
use berth_tests::bench::samples::Samples;
use berth_tests::bench::wrk::{Measured, Wrk};
use berth_tests::cluster::{Cluster, EDGE, Setup};
use berth_tests::host;
use berth_tests::programs::HELLO;

/// Connections that are kept busy at the same time.
const CONNECTIONS: [usize; 3] = [1, 32, 256];
/// Rounds: in each, both sides have each number of connections once.
const ROUNDS: usize = 3;
/// How long each side is under load in a round.
const SECONDS: u32 = 4;
/// How long before the first round, so that connections and caches are there.
const WARM_UP_SECONDS: u32 = 1;
/// A small answer.
const PATH: &str = "/container/bench/status/200";

/// One side's samples at one number of connections.
#[derive(Debug, Default)]
struct Side {
    per_second: Samples,
    p50_us: Samples,
    p99_us: Samples,
    cpu_us: Samples,
}

fn main() -> Result<()> {
    let rounds =
        std::env::args().nth(1).map_or(Ok(ROUNDS), |word| word.parse()).context("bench-proxy [ROUNDS]")?;
    ensure!(rounds > 0, "bench-proxy [ROUNDS]: at least one");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let cluster = runtime.block_on(start())?;
    let measured = measure(&cluster, rounds);
    cluster.end()?;
    measured?.finish()
}

/// A cluster with one running instance, whose CPU is no limit.
async fn start() -> Result<Cluster> {
    let cluster = Cluster::start(Setup { log: "warn", shards: None, ..Setup::nodes(1) }).await?;
    cluster.deploy(&App { vcpu: 2.0, ..App::default() }).await?;
    cluster.client().get(PATH).await?.success()?;
    Ok(cluster)
}

fn measure(cluster: &Cluster, rounds: usize) -> Result<Report> {
    let directory = cluster.make_directory("bench")?;
    let wrk = Wrk::prepare(&directory)?;
    let app = Command::new(cluster.program(HELLO));
    let certificates = cluster.authority();
    let nginx = Chain::start(ChainSetup { directory, certificates, edge: EDGE, node: "n1", app })?;
    let mut sides = BTreeMap::<(usize, &str), Side>::new();
    for connections in CONNECTIONS {
        wrk.run(cluster.client().address(), PATH, connections, WARM_UP_SECONDS)?;
        wrk.run(nginx.address(), PATH, connections, WARM_UP_SECONDS)?;
        for _ in 0..rounds {
            let load = |address: SocketAddr| wrk.run(address, PATH, connections, SECONDS);
            let ours = with_cpu(|| load(cluster.client().address()), || berth_cpu(cluster))?;
            sides.entry((connections, "berth")).or_default().add(ours);
            let theirs = with_cpu(|| load(nginx.address()), || nginx.cpu_time())?;
            sides.entry((connections, "nginx")).or_default().add(theirs);
            print(connections, &ours.0, &theirs.0);
        }
    }
    Ok(report(&sides, rounds))
}

/// CPU time of edge and agent. That of the app's server is the same on both sides and left out.
fn berth_cpu(cluster: &Cluster) -> Result<Duration> {
    Ok(host::cpu_time(cluster.edge()?.pid())? + host::cpu_time(cluster.agent(0)?.pid())?)
}

/// Measures, with the CPU time that was used.
fn with_cpu(
    load: impl Fn() -> Result<Measured>,
    cpu: impl Fn() -> Result<Duration>,
) -> Result<(Measured, Duration)> {
    let before = cpu()?;
    let measured = load()?;
    Ok((measured, cpu()? - before))
}

impl Side {
    fn add(&mut self, (measured, cpu): (Measured, Duration)) {
        self.per_second.add(measured.per_second());
        self.p50_us.add(measured.p50_us as f64);
        self.p99_us.add(measured.p99_us as f64);
        self.cpu_us.add(cpu.as_secs_f64() * 1e6 / measured.requests as f64);
    }
}

fn print(connections: usize, ours: &Measured, theirs: &Measured) {
    println!(
        "{connections:>4} connections  Berth {:>8.0}/s p99 {:>6} us  nginx {:>8.0}/s p99 {:>6} us",
        ours.per_second(),
        ours.p99_us,
        theirs.per_second(),
        theirs.p99_us
    );
}

fn report(sides: &BTreeMap<(usize, &str), Side>, rounds: usize) -> Report {
    let mut report = Report::new("proxy");
    for ((connections, name), side) in sides {
        report.value(format!("{name}_c{connections}_rps"), side.per_second.median());
        report.value(format!("{name}_c{connections}_p50_us"), side.p50_us.median());
        report.value(format!("{name}_c{connections}_p99_us"), side.p99_us.median());
        report.value(format!("{name}_c{connections}_cpu_us"), side.cpu_us.median());
    }
    for connections in CONNECTIONS {
        let (ours, theirs) = (&sides[&(connections, "berth")], &sides[&(connections, "nginx")]);
        report.ratio(format!("rps_c{connections}"), ours.per_second.median(), theirs.per_second.median());
        report.ratio(format!("p99_c{connections}"), ours.p99_us.median(), theirs.p99_us.median());
        report.ratio(format!("cpu_c{connections}"), ours.cpu_us.median(), theirs.cpu_us.median());
    }
    report.remark(format!(
        "medians of {rounds} rounds of {SECONDS} s on each side, by turns; cpu is that of a request"
    ));
    report.remark(
        "nginx: 2 workers in each role, keepalive pools, TLS 1.3 with mutual verification and session reuse",
    );
    report
}
