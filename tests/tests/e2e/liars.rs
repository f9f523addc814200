//! A node with a valid certificate that lies to the edge: it takes none of the edge's memory, and nothing of other nodes'
//! tenants.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use berth_tests::app::App;
use berth_tests::attack::requests_of_another;
use berth_tests::cluster::{Cluster, Setup};
use berth_tests::host;
use berth_tests::liar::{Liar, Lie};
use berth_tests::scenario::{Outcome, count, scenario};
use berth_tests::wait;

/// How much the edge's memory may grow.
const GROWTH_BYTES: u64 = 64 << 20;
/// How long a node may be left alone, and a little.
const LEFT_ALONE: Duration = Duration::from_secs(40);
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

/// Waits for more than so many lies. After breaches, the edge leaves the node alone for a while.
async fn until_told(liar: &Liar, lies: u64) -> Result<()> {
    wait::until("lies", LEFT_ALONE, async || {
        ensure!(liar.told() > lies, "{} so far", liar.told());
        Ok(())
    })
    .await
}

#[test]
fn a_lying_agent_takes_no_memory_of_the_edge_and_others_are_served() -> Outcome {
    with_a_liar(async |cluster, address| {
        let lasting = Duration::from_secs(count(4, 30) as u64);
        let liar = Liar::listen(&cluster.authority(), "liar", address, Lie::Images)?;
        for lie in [Lie::Images, Lie::Strangers, Lie::HugeAnswers, Lie::EndlessReports, Lie::HugeReports] {
            let before = host::resident_memory(cluster.edge()?.pid())?;
            liar.tell(lie);
            until_told(&liar, 0).await.with_context(|| format!("{lie:?}"))?;
            let took = requests_of_another(cluster.client(), "/container/1/status/200", lasting).await?;
            let grown = host::resident_memory(cluster.edge()?.pid())?.saturating_sub(before);
            let worst = took.iter().max().copied().unwrap_or_default();
            println!("{lie:?}: {} lies; {} KiB more; others waited {worst:?}", liar.told(), grown >> 10);
            ensure!(grown < GROWTH_BYTES, "{lie:?}: the edge's memory grew by {} MiB", grown >> 20);
            ensure!(worst < SOON, "{lie:?}: a request to another node took {worst:?}");
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
        let liar = Liar::listen(&cluster.authority(), "liar", address, Lie::EndlessReports)?;
        until_told(&liar, 4096).await?;
        liar.tell(Lie::Images);
        wait::until("the node to be connected", Duration::from_secs(30), async || {
            let nodes = cluster.admin().nodes().await?;
            ensure!(nodes.iter().any(|node| node.node.as_str() == "liar" && node.connected), "it is not");
            Ok(())
        })
        .await?;
        Ok(())
    })
}
