//! Programs beside workerd: the same program in front of the same server, each route by turns; memory with many objects; and the first
//! answer.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::runtime::Runtime;

use crate::bench::report::Report;
use crate::bench::routes::{self, ROUTES};
use crate::bench::samples::Samples;
use crate::bench::server::Server;
use crate::bench::workerd::{self, Workerd};
use crate::bench::wrk::Wrk;
use crate::client::{Answer, Client};
use crate::cluster::{Cluster, Setup};
use crate::programs::HELLO;
use crate::wait::until;
use crate::{host, ports};

/// Connections that are kept busy.
const CONNECTIONS: usize = 32;
/// Rounds: in each, both sides have each route once.
const ROUNDS: usize = 3;
/// How long a side is under load in a round, in seconds.
const SECONDS: u32 = 4;
/// How long before the first round.
const WARM_UP_SECONDS: u32 = 1;
/// Objects that each side has in memory when that is measured.
const OBJECTS: usize = 1000;
/// First answers of each side.
const FIRST_ANSWERS: usize = 5;
/// How long the process of a version that is replaced may take to end.
const RETIRE_LIMIT: Duration = Duration::from_secs(60);
const MIB: f64 = (1 << 20) as f64;

/// Both sides, ready.
struct Peers<'a> {
    cluster: &'a Cluster,
    runtime: &'a Runtime,
    program: &'a Path,
    project: &'a Path,
    server: SocketAddr,
    workerd: Workerd,
}

/// One side's samples of one route.
#[derive(Debug, Default)]
struct Side {
    per_second: Samples,
    p99_us: Samples,
    cpu_us: Samples,
}

/// Measures all of it.
pub fn measure(report: &mut Report) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let cluster = runtime.block_on(Cluster::start(Setup { log: "warn", shards: None, ..Setup::nodes(1) }))?;
    let measured = beside(&cluster, &runtime, report);
    drop(runtime);
    if measured.is_err() {
        cluster.show_logs();
    }
    cluster.end()?;
    measured
}

fn beside(cluster: &Cluster, runtime: &Runtime, report: &mut Report) -> Result<()> {
    let project = cluster.make_directory("routes")?;
    routes::write(&project, &cluster.program(HELLO))?;
    deploy(cluster, runtime, &project)?;
    let server = ports::free_address()?;
    let mut hello = Command::new(cluster.program(HELLO));
    hello.env("PORT", server.port().to_string());
    let _server = Server::start(&hello, &project.join("server.log"), server)?;
    let program = runtime.block_on(crate::workerd::program())?;
    let workerd = Workerd::start(&program, &project, routes::DATE, server)?;
    let mut peers = Peers { cluster, runtime, program: &program, project: &project, server, workerd };
    peers.loads(report)?;
    peers.memory(report)?;
    peers.first_answers(report)?;
    report.remark(workerd::described());
    report.remark(format!(
        "medians of {ROUNDS} rounds of {SECONDS} s at {CONNECTIONS} connections, by turns; Berth's CPU is that of edge, program and agent"
    ));
    Ok(())
}

fn deploy(cluster: &Cluster, runtime: &Runtime, project: &Path) -> Result<()> {
    let deployed = runtime.block_on(cluster.berth(&["deploy", &project.to_string_lossy()]))?;
    ensure!(deployed.status.success(), "{}", String::from_utf8_lossy(&deployed.stderr));
    Ok(())
}

impl Peers<'_> {
    fn loads(&self, report: &mut Report) -> Result<()> {
        let wrk = Wrk::prepare(self.project)?;
        let mut sides = BTreeMap::<(&str, &str), Side>::new();
        for (route, path) in ROUTES {
            for address in [self.cluster.address(), self.workerd.address()] {
                self.ask(address, path)?;
                wrk.run(address, path, CONNECTIONS, WARM_UP_SECONDS)?;
            }
            for _ in 0..ROUNDS {
                let ours = sides.entry((route, "berth")).or_default();
                ours.add(&wrk, path, self.cluster.address(), || self.berth_cpu())?;
                let theirs = sides.entry((route, "workerd")).or_default();
                theirs.add(&wrk, path, self.workerd.address(), || self.workerd.cpu_time())?;
            }
        }
        tell(&sides, report);
        Ok(())
    }

    /// Memory after that load, with many objects more.
    fn memory(&self, report: &mut Report) -> Result<()> {
        for address in [self.cluster.address(), self.workerd.address()] {
            (0..OBJECTS).try_for_each(|object| self.ask(address, &format!("/object/{object}")))?;
        }
        let edge = host::resident_memory(self.cluster.edge()?.pid())? as f64 / MIB;
        let program = host::resident_memory(self.cluster.script_process()?)? as f64 / MIB;
        let theirs = self.workerd.memory()? as f64 / MIB;
        report.value("berth_edge_memory_mib", edge);
        report.value("berth_program_memory_mib", program);
        report.value("workerd_memory_mib", theirs);
        report.ratio("memory", edge + program, theirs);
        Ok(())
    }

    /// The first answer of a program whose process does not run, beside that of workerd from its start.
    fn first_answers(&mut self, report: &mut Report) -> Result<()> {
        let (mut ours, mut theirs) = (Samples::default(), Samples::default());
        self.ask(self.cluster.address(), routes::END)?;
        for number in 1..=FIRST_ANSWERS {
            self.deploy_anew(number)?;
            let begun = Instant::now();
            self.ask(self.cluster.address(), ROUTES[0].1)?;
            ours.add_ms(begun.elapsed());
            let begun = Instant::now();
            self.workerd = Workerd::start(self.program, self.project, routes::DATE, self.server)?;
            self.ask(self.workerd.address(), ROUTES[0].1)?;
            theirs.add_ms(begun.elapsed());
        }
        report.value("berth_first_event_ms", ours.median());
        report.value("workerd_first_event_ms", theirs.median());
        report.ratio("first_event", ours.median(), theirs.median());
        Ok(())
    }

    /// Deploys another version, and waits until no process runs a version.
    fn deploy_anew(&self, number: usize) -> Result<()> {
        routes::configure(self.project, number)?;
        deploy(self.cluster, self.runtime, self.project)?;
        let gone = async || {
            let left = self.cluster.script_process().ok();
            ensure!(left.is_none(), "process {left:?} goes on");
            Ok(())
        };
        self.runtime.block_on(until("the end of the version before", RETIRE_LIMIT, gone))
    }

    fn ask(&self, address: SocketAddr, path: &str) -> Result<()> {
        let answer = self.runtime.block_on(Client::of(address).get(path));
        answer.and_then(Answer::success).with_context(|| format!("{address}{path}")).map(drop)
    }

    /// CPU time of edge, program and agent. That of the server is the same on both sides and left out.
    fn berth_cpu(&self) -> Result<Duration> {
        let pids = [self.cluster.edge()?.pid(), self.cluster.agent(0)?.pid(), self.cluster.script_process()?];
        pids.into_iter().map(host::cpu_time).sum()
    }
}

impl Side {
    fn add(
        &mut self,
        wrk: &Wrk,
        path: &str,
        address: SocketAddr,
        cpu: impl Fn() -> Result<Duration>,
    ) -> Result<()> {
        let before = cpu()?;
        let measured = wrk.run(address, path, CONNECTIONS, SECONDS)?;
        let used = cpu()? - before;
        self.per_second.add(measured.per_second());
        self.p99_us.add(measured.p99_us as f64);
        self.cpu_us.add(used.as_secs_f64() * 1e6 / measured.requests as f64);
        Ok(())
    }
}

fn tell(sides: &BTreeMap<(&str, &str), Side>, report: &mut Report) {
    for ((route, name), side) in sides {
        report.value(format!("{name}_{route}_rps"), side.per_second.median());
        report.value(format!("{name}_{route}_p99_us"), side.p99_us.median());
        report.value(format!("{name}_{route}_cpu_us"), side.cpu_us.median());
    }
    for (route, _) in ROUTES {
        let (ours, theirs) = (&sides[&(route, "berth")], &sides[&(route, "workerd")]);
        report.ratio(format!("{route}_rps"), ours.per_second.median(), theirs.per_second.median());
        report.ratio(format!("{route}_cpu"), ours.cpu_us.median(), theirs.cpu_us.median());
    }
}
