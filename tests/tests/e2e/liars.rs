//! A node with a valid certificate that lies to the edge: it takes none of the edge's memory, and nothing of other nodes'
//! tenants.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use anyhow::{Result, ensure};
use berth_tests::app::App;
use berth_tests::attack::requests_of_another;
use berth_tests::cluster::{Cluster, Setup};
use berth_tests::host;
use berth_tests::liar::{Liar, Lie};
use berth_tests::scenario::{Outcome, count, scenario};
use berth_tests::wait;

/// How much the edge's memory may grow.
const GROWTH_BYTES: u64 = 64 << 20;
/// The longest that a request to another node may take.
const SOON: Duration = Duration::from_secs(1);

/// One node, and the address of another one that the edge knows too.
fn with_a_liar(steps: impl AsyncFnOnce(&mut Cluster, std::net::SocketAddr) -> Result<()>) -> Outcome {
    let free = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|socket| socket.local_addr());
    let address = free.map_err(anyhow::Error::from)?;
    let options = vec!["--node".to_owned(), format!("liar={address}")];
    scenario(Setup { log: "info", edge_options: options, ..Setup::nodes(1) }, async |cluster| {
        cluster.deploy(&App::default()).await?;
        cluster.client().get("/container/1/status/200").await?.success()?;
        cluster.issue("agent", "liar")?;
        steps(cluster, address).await
    })
}

#[test]
fn a_lying_agent_takes_no_memory_of_the_edge_and_others_are_served() -> Outcome {
    with_a_liar(async |cluster, address| {
        let lasting = Duration::from_secs(count(6, 30) as u64);
        for lie in [Lie::HugeReports, Lie::EndlessReports, Lie::Strangers, Lie::Images, Lie::HugeAnswers] {
            let before = host::resident_memory(cluster.edge()?.pid())?;
            let liar = Liar::listen(&cluster.authority(), "liar", address, lie).await?;
            let took = requests_of_another(cluster.client(), "/container/1/status/200", lasting).await?;
            let grown = host::resident_memory(cluster.edge()?.pid())?.saturating_sub(before);
            let worst = took.iter().max().copied().unwrap_or_default();
            println!("{lie:?}: {} lies; {} KiB more; others waited {worst:?}", liar.told(), grown >> 10);
            ensure!(liar.told() > 0, "{lie:?}: the edge has not listened");
            ensure!(grown < GROWTH_BYTES, "{lie:?}: the edge's memory grew by {} MiB", grown >> 20);
            ensure!(worst < SOON, "{lie:?}: a request to another node took {worst:?}");
            drop(liar);
            cluster.expect_all_alive()?;
        }
        let log = cluster.edge()?.log();
        ensure!(log.contains("reports more than 4096 instances"), "no word of endless reports");
        ensure!(log.contains("instances that nobody has started"), "no word of strangers");
        ensure!(log.contains("is it compromised?"), "no advice");
        Ok(())
    })
}

#[test]
fn an_edge_that_left_a_lying_node_alone_finds_it_again_when_it_is_mended() -> Outcome {
    with_a_liar(async |cluster, address| {
        let liar = Liar::listen(&cluster.authority(), "liar", address, Lie::EndlessReports).await?;
        wait::until("lies", Duration::from_secs(10), async || {
            ensure!(liar.told() > 4096, "{} so far", liar.told());
            Ok(())
        })
        .await?;
        drop(liar);
        let honest = Liar::listen(&cluster.authority(), "liar", address, Lie::Images).await?;
        wait::until("the node to be connected", Duration::from_secs(30), async || {
            let nodes = cluster.admin().nodes().await?;
            ensure!(nodes.iter().any(|node| node.node.as_str() == "liar" && node.connected), "it is not");
            Ok(())
        })
        .await?;
        drop(honest);
        Ok(())
    })
}
