//! What nodes cost an edge while nothing happens: connections that are kept up, terms that are renewed, and looks at who is silent.
//! `bench-nodes [NODES]`.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use berth_tests::bench::report::Report;
use berth_tests::cluster::{Cluster, Setup};
use berth_tests::host;

/// Nodes of the larger cluster.
const NODES: usize = 200;
/// How long the cluster is left alone before it is idle.
const SETTLE: Duration = Duration::from_secs(10);
/// How long it is looked at: ten renewals of each term.
const LOOKED_AT: Duration = Duration::from_secs(30);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let nodes =
        std::env::args().nth(1).map_or(Ok(NODES), |word| word.parse()).context("bench-nodes [NODES]")?;
    ensure!(nodes > 1, "bench-nodes [NODES]: at least two");
    let mut report = Report::new("nodes");
    for nodes in [1, nodes] {
        let percent = idle_percent(nodes).await?;
        report.value(format!("edge_cpu_percent_{nodes}"), percent);
    }
    report.remark("CPU of the edge while nothing happens, in percent of a core");
    report.finish()
}

async fn idle_percent(nodes: usize) -> Result<f64> {
    let cluster = Cluster::start(Setup { log: "warn", shards: None, ..Setup::nodes(nodes) }).await?;
    let measured = async {
        tokio::time::sleep(SETTLE).await;
        let edge = cluster.edge()?.pid();
        let before = host::cpu_time(edge)?;
        tokio::time::sleep(LOOKED_AT).await;
        let took = host::cpu_time(edge)?.saturating_sub(before);
        Ok(took.as_secs_f64() / LOOKED_AT.as_secs_f64() * 100.0)
    }
    .await;
    cluster.end()?;
    measured
}
