//! What an instance reaches: the internet and nothing else, or nothing at all.

use std::net::{IpAddr, TcpListener};
use std::time::Duration;

use anyhow::{Result, ensure};
use berth_api::containers::ContainerState;
use berth_common::outcome::ExitReason;
use berth_tests::app::App;
use berth_tests::client::Client;
use berth_tests::cluster::{Cluster, Setup};
use berth_tests::machine;
use berth_tests::scenario::{Outcome, scenario};
use berth_tests::wait;
use berth_tests::world::{self, World};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A port that servers of the test listen at.
const PORT: u16 = 8000;
/// How long a new address of the node may take to be closed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

fn in_world(steps: impl AsyncFnOnce(&mut Cluster) -> Result<()>) -> Outcome {
    if !machine::is_root() {
        println!("not root: cannot make a test world");
        return Ok(());
    }
    scenario(Setup { world: true, ..Setup::nodes(1) }, steps)
}

fn online() -> App {
    App { internet: true, ..App::default() }
}

async fn connect(client: &Client, host: &str, port: u16) -> Result<String> {
    Ok(client.get(&format!("/container/net/connect/{host}/{port}")).await?.success()?.text)
}

async fn expect_reached(client: &Client, host: &str, port: u16) -> Result<()> {
    let reply = connect(client, host, port).await?;
    ensure!(reply.starts_with("connected"), "{host} was not reached: {reply}");
    Ok(())
}

async fn expect_closed(client: &Client, host: &str, port: u16) -> Result<()> {
    let reply = connect(client, host, port).await?;
    ensure!(reply.starts_with("failed"), "{host} was reached: {reply}");
    Ok(())
}

#[test]
fn the_internet_is_reached_by_address_and_by_name() -> Outcome {
    in_world(async |cluster| {
        let world = cluster.world()?;
        world.serve_outside(PORT)?;
        world.serve_names()?;
        cluster.deploy(&online()).await?;
        let client = cluster.client();
        for host in world::PUBLIC.into_iter().chain([world::NAME]) {
            expect_reached(&client, host, PORT).await?;
        }
        Ok(())
    })
}

#[test]
fn the_node_and_all_private_ranges_are_out_of_reach() -> Outcome {
    in_world(async |cluster| {
        let world = cluster.world()?;
        world.serve_outside(PORT)?;
        let listeners = listen_everywhere(world)?;
        let control = world.control_address().to_string();
        cluster.deploy(&online()).await?;
        let client = cluster.client();
        expect_reached(&client, world::PUBLIC[0], PORT).await?;
        let gateways = ["10.0.2.2", "fe80::2%eth0", "169.254.1.53"];
        let loopback = ["127.0.0.1", "::1", "0.0.0.0", "::ffff:127.0.0.1"];
        let others = [control.as_str()].into_iter().chain(gateways).chain(loopback);
        for host in world::OWN.into_iter().chain(world::PRIVATE).chain(others) {
            expect_closed(&client, host, PORT).await?;
        }
        expect_nobody_came(&listeners)
    })
}

/// Checks the test itself: without the rules these addresses would be reached.
#[test]
fn without_the_rules_private_ranges_would_be_reached() -> Outcome {
    if !machine::is_root() {
        println!("not root: cannot make a test world");
        return Ok(());
    }
    let open = Setup { world: true, agent_options: vec!["--without", "firewall"], ..Setup::nodes(1) };
    scenario(open, async |cluster| {
        let world = cluster.world()?;
        world.serve_outside(PORT)?;
        let listeners = listen_everywhere(world)?;
        let control = world.control_address().to_string();
        cluster.deploy(&online()).await?;
        for host in [world::PRIVATE[0], world::PRIVATE[3], &control] {
            expect_reached(&cluster.client(), host, PORT).await?;
        }
        ensure!(listeners.iter().any(|listener| listener.accept().is_ok()), "the node was not reached");
        Ok(())
    })
}

/// At every address of the node, its loopback included.
fn listen_everywhere(world: &World) -> Result<Vec<TcpListener>> {
    let addresses = ["0.0.0.0", "::"].map(|address| Ok((address.parse::<IpAddr>()?, PORT).into()));
    addresses.into_iter().map(|address: Result<_>| world.listen_on_host(address?)).collect()
}

fn expect_nobody_came(listeners: &[TcpListener]) -> Result<()> {
    ensure!(listeners.iter().all(|listener| listener.accept().is_err()), "a service of the node was reached");
    Ok(())
}

#[test]
fn datagrams_leave_from_high_ports_only() -> Outcome {
    in_world(async |cluster| {
        let program = berth_tests::programs::PROBE;
        cluster.deploy(&App { program, ..online() }).await?;
        let client = cluster.client();
        let send = async |from: u16| {
            let path = format!("/container/net/look/udp-from?{from},{}:{PORT}", world::PUBLIC[0]);
            Ok::<_, anyhow::Error>(client.get(&path).await?.success()?.text)
        };
        for low in [53, 4400, 32_767] {
            let sent = send(low).await?;
            ensure!(sent == "EPERM", "from port {low}: {sent}");
        }
        let sent = send(40_000).await?;
        ensure!(sent == "ok", "from port 40000: {sent}");
        // Nor is the table of connections, which is one for the machine, filled with them.
        let path = "/container/net/look/read?/proc/sys/net/netfilter/nf_conntrack_count";
        let tracked = client.get(path).await?.success()?.text;
        ensure!(tracked == "ok 0", "tracked connections: {tracked}");
        Ok(())
    })
}

#[test]
fn an_address_that_the_node_gets_later_is_closed_too() -> Outcome {
    in_world(async |cluster| {
        let world = cluster.world()?;
        cluster.deploy(&online()).await?;
        let client = cluster.client();
        client.get("/container/net").await?.success()?;
        for (address, length) in [("8.8.7.7", 24), ("2620:fe:7::7", 64)] {
            world.add_to_host(&format!("{address}/{length}"))?;
            let listener = world.listen_on_host((address.parse::<IpAddr>()?, PORT).into())?;
            wait::until("the new address to be closed", CLOSE_TIMEOUT, async || {
                expect_closed(&client, address, PORT).await
            })
            .await?;
            while listener.accept().is_ok() {}
            expect_closed(&client, address, PORT).await?;
            expect_nobody_came(&[listener])?;
        }
        Ok(())
    })
}

#[test]
fn without_internet_there_is_nothing_but_loopback_even_where_there_is_a_world() -> Outcome {
    in_world(async |cluster| {
        cluster.world()?.serve_outside(PORT)?;
        cluster.deploy(&App::default()).await?;
        let client = cluster.client();
        let interfaces = client.get("/container/net/net").await?.success()?.text;
        ensure!(interfaces == "lo up\n", "inside there are:\n{interfaces}");
        for host in world::PUBLIC.into_iter().chain(world::OWN).chain(world::PRIVATE) {
            expect_closed(&client, host, PORT).await?;
        }
        Ok(())
    })
}

#[test]
fn without_its_rules_an_instance_does_not_start() -> Outcome {
    let without_rules = Setup { agent_options: vec!["--nft", "/bin/false"], ..Setup::nodes(1) };
    scenario(without_rules, async |cluster| {
        cluster.deploy(&online()).await?;
        let answer = cluster.client().get("/container/net").await?;
        ensure!(answer.status.as_u16() == 500, "answered {}: {}", answer.status, answer.text);
        ensure!(answer.text.contains("firewall"), "it does not say why: {}", answer.text);
        let object = cluster.admin().object("net").await?;
        ensure!(!matches!(object.state, ContainerState::Healthy | ContainerState::Running), "{object:?}");
        // An instance without internet needs no rules, and starts.
        cluster.deploy(&App { name: "alone", prefix: "alone", ..App::default() }).await?;
        cluster.client().get("/alone/net").await?.success().map(drop)
    })
}

#[test]
fn an_instance_ends_with_its_network_process() -> Outcome {
    in_world(async |cluster| {
        cluster.deploy(&online()).await?;
        let client = cluster.client();
        let first = client.get("/container/net").await?.success()?.instance()?;
        let carriers = cluster.network_processes(0);
        ensure!(!carriers.is_empty(), "no process carries a network");
        for pid in carriers {
            kill(Pid::from_raw(pid), Signal::SIGKILL)?;
        }
        wait::until("the instance to end", Duration::from_secs(5), async || {
            let object = cluster.admin().object("net").await?;
            let reason = object.exit.as_ref().map(|exit| exit.reason);
            ensure!(reason == Some(ExitReason::RuntimeLost), "{object:?}");
            Ok(())
        })
        .await?;
        // The prepared networks have lost theirs too: a start that has just taken one fails.
        wait::until("a new instance", Duration::from_secs(5), async || {
            let second = client.get("/container/net").await?.success()?.instance()?;
            ensure!(first != second, "the instance without a network goes on");
            Ok(())
        })
        .await
    })
}
