//! Who gets nowhere: containers on the network, and peers with wrong certificates or wrong manners.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use berth_common::ids::{Generation, InstanceId};
use berth_common::wire::call::{Answer, Call, RefusalCode, Stop};
use berth_common::wire::tunnel::{TunnelAnswer, TunnelHeader};
use berth_common::wire::{STREAM_CALL, close};
use berth_tests::app::App;
use berth_tests::cluster::{Cluster, Setup, credentials};
use berth_tests::machine;
use berth_tests::rogue::{Rogue, call_bytes};
use berth_tests::scenario::{Outcome, scenario};

/// How long a refused daemon may take to print the reason and end.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(10);

#[test]
fn inside_an_instance_there_is_only_loopback_and_the_host_is_out_of_reach() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&App::default()).await?;
        let client = cluster.client();
        let interfaces = client.get("/container/alone/net").await?.success()?.text;
        ensure!(interfaces == "lo up\n", "inside there are:\n{interfaces}");
        let own = client.get("/container/alone/connect/127.0.0.1/8080").await?.success()?.text;
        ensure!(own.starts_with("connected"), "loopback does not work inside: {own}");

        let service = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        service.set_nonblocking(true)?;
        let port = service.local_addr()?.port();
        for host in ["127.0.0.1", "::1", &host_address().to_string(), "169.254.169.254"] {
            let path = format!("/container/alone/connect/{host}/{port}");
            let reply = client.get(&path).await?.success()?.text;
            ensure!(reply.starts_with("failed"), "{host} was reached from inside: {reply}");
        }
        ensure!(service.accept().is_err(), "a service of the host was reached from inside");
        Ok(())
    })
}

/// The host's own address on its network, if it has one. Nothing is sent to find it.
fn host_address() -> std::net::IpAddr {
    let found = UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        socket.connect("192.0.2.1:9")?;
        socket.local_addr()
    });
    found.map_or(Ipv4Addr::new(10, 0, 0, 1).into(), |address| address.ip())
}

#[test]
fn an_agent_of_another_authority_gets_no_instances() -> Outcome {
    scenario(Setup { strangers: 1, ..Setup::nodes(2) }, async |cluster| {
        cluster.deploy(&App::default()).await?;
        for number in 0..4 {
            cluster.client().get(&format!("/container/{number}")).await?.success()?;
        }
        let nodes = cluster.admin().nodes().await?;
        let seen: Vec<_> =
            nodes.iter().map(|node| (node.node.as_str(), node.connected, node.instances)).collect();
        ensure!(seen == [("n1", true, 4), ("n2", false, 0)], "name, connected, instances: {seen:?}");
        ensure!(cluster.instance_logs(1)?.is_empty(), "the stranger has run a container");
        cluster.expect_all_alive()
    })
}

#[test]
fn an_edge_with_an_agents_certificate_is_refused() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&App::default()).await?;
        let stderr = refused_edge(cluster)?;
        ensure!(
            stderr.contains("agent") && stderr.contains("edge"),
            "it does not say whose certificate it was given: {stderr}"
        );
        // A peer that does not check itself.
        let node = &cluster.nodes()[0];
        let authority = cluster.authority();
        if let Ok(peer) = Rogue::dial(&authority, "agent", "n1", "n1", node.address).await {
            ensure!(peer.hello("n1").await.is_err(), "the agent has welcomed an agent");
            peer.ended().await?;
        }
        cluster.client().get("/container/1").await?.success()?;
        cluster.expect_all_alive()
    })
}

/// Starts an edge with an agent's certificate and returns its error message.
fn refused_edge(cluster: &Cluster) -> Result<String> {
    let node = &cluster.nodes()[0];
    let mut command = cluster.command("berth-edge");
    command.args(["run", "--name", "n1", "--listen", "127.0.0.1:0"]);
    command.arg("--state").arg(cluster.make_directory("rogue-edge")?);
    command.args(credentials(&cluster.authority(), "agent", "n1"));
    command.arg("--node").arg(format!("n1={}", node.address));
    refusal(&mut command)
}

/// Runs a daemon that must refuse to start, and returns its error message.
fn refusal(command: &mut Command) -> Result<String> {
    let limit = REFUSAL_TIMEOUT.as_secs().to_string();
    let mut bounded = Command::new("timeout");
    bounded.arg(&limit).arg(command.get_program()).args(command.get_args());
    let output = bounded.output().context("run `timeout`")?;
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(!output.status.success(), "it ended as if all were well: {stderr}");
    ensure!(output.status.code() != Some(124), "it did not refuse to start within {limit} s: {stderr}");
    Ok(stderr)
}

#[test]
fn an_agent_and_a_supervisor_refuse_to_run_as_root() -> Outcome {
    if !machine::is_root() {
        println!("not root: nothing to refuse");
        return Ok(());
    }
    scenario(Setup::nodes(1), async |cluster| {
        let state = cluster.make_directory("root")?;
        let mut agent = Command::new(cluster.program("berth-agent"));
        agent.args(["run", "--node", "n1", "--listen", "127.0.0.1:0", "--state"]).arg(&state);
        agent.args(credentials(&cluster.authority(), "agent", "n1"));
        let mut supervisor = Command::new(cluster.program("berth-agent"));
        supervisor.args(["supervisor", "--cgroup", "/berth/root", "--state"]).arg(&state);
        for command in [&mut agent, &mut supervisor] {
            let stderr = refusal(command)?;
            ensure!(stderr.contains("root"), "{stderr}");
        }
        Ok(())
    })
}

/// What no edge sends, and what it is.
fn garbage() -> Result<Vec<(&'static str, Vec<u8>)>> {
    let framed = |body: &[u8]| -> Result<Vec<u8>> {
        let length = u32::try_from(body.len())?;
        Ok([&[STREAM_CALL][..], &length.to_be_bytes(), body].concat())
    };
    Ok(vec![
        ("an unknown kind of stream", vec![0x7f; 64]),
        ("a frame of four gigabytes", [&[STREAM_CALL][..], &[0xff; 64]].concat()),
        ("a frame that is no JSON", framed(&[0x00, 0x9f, 0x92, 0x96])?),
        ("a call that does not exist", framed(br#"{"dance":{}}"#)?),
        ("a call before the introduction", call_bytes(&Call::Watch)?),
        ("a tunnel header with port 0", {
            let header = TunnelHeader { instance: InstanceId::random(), generation: Generation(1), port: 1 };
            let mut bytes = header.encode().to_vec();
            bytes[2..4].fill(0);
            bytes
        }),
    ])
}

#[test]
fn a_peer_that_sends_garbage_is_closed_with_a_code_and_nothing_else_happens() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&App::default()).await?;
        let before = cluster.client().get("/container/1").await?.success()?.instance()?;
        cluster.issue("edge", "rogue")?;
        for (what, bytes) in garbage()? {
            let peer = dial_as_rogue(cluster).await?;
            let _stream = peer.send(&bytes).await?;
            let code = peer.closed().await.with_context(|| what.to_owned())?;
            ensure!(code == u64::from(close::PROTOCOL), "{what}: closed with code {code}");
        }
        let peer = dial_as_rogue(cluster).await?;
        peer.hello("rogue").await?;
        let _stream = peer.send(&[&[STREAM_CALL][..], &[0xff; 8]].concat()).await?;
        ensure!(peer.closed().await? == u64::from(close::PROTOCOL), "garbage after the introduction");

        cluster.expect_all_alive()?;
        let after = cluster.client().get("/container/1").await?.success()?.instance()?;
        ensure!(after == before, "the instance was lost");
        Ok(())
    })
}

#[test]
fn an_edge_cannot_touch_the_instances_of_another() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&App::default()).await?;
        cluster.client().get("/container/mine").await?.success()?;
        let object = cluster.admin().object("mine").await?;
        let instance = object.instance.context("it has no instance")?;
        cluster.issue("edge", "rogue")?;

        let peer = dial_as_rogue(cluster).await?;
        let welcome = peer.hello("rogue").await?;
        ensure!(matches!(welcome, Answer::Welcome(_)), "{welcome:?}");
        let stop = Call::Stop(Stop { instance, signal: 9, grace_ms: 0 });
        let answer = peer.call(&stop).await?;
        let refused = matches!(&answer, Answer::Refused(refusal) if refusal.code == RefusalCode::NotOwner);
        ensure!(refused, "asked to stop another's instance, the agent answered {answer:?}");
        let header = TunnelHeader { instance, generation: object.generation, port: 8080 };
        let (_send, mut receive) = peer.send(&header.encode()).await?;
        let mut code = [0];
        receive.read_exact(&mut code).await?;
        let answer = TunnelAnswer::from_code(code[0]);
        ensure!(answer == Some(TunnelAnswer::NotOwner), "a tunnel to another's instance: {answer:?}");
        Ok(())
    })
}

#[test]
fn an_edge_cannot_call_itself_by_another_name() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.issue("edge", "rogue")?;
        let peer = dial_as_rogue(cluster).await?;
        let answer = peer.hello("e1").await;
        ensure!(!matches!(answer, Ok(Answer::Welcome(_))), "`rogue` was welcomed as `e1`");
        peer.ended().await?;
        cluster.expect_all_alive()
    })
}

async fn dial_as_rogue(cluster: &Cluster) -> Result<Rogue> {
    let address: SocketAddr = cluster.nodes()[0].address;
    // A valid certificate: only its manners are wrong.
    Rogue::dial(&cluster.authority(), "edge", "rogue", "n1", address).await
}

/// Headers that only the edge sets, in spellings that servers take for the same.
const FORGED: [(&str, &str); 8] = [
    ("berth-callback", "clean"),
    ("berth_callback", "clean"),
    ("x_forwarded_for", "6.6.6.6"),
    ("X_FORWARDED-PROTO", "gopher"),
    ("cf_container_target_port", "22"),
    ("cf-connecting-ip", "6.6.6.6"),
    ("true-client-ip", "6.6.6.6"),
    ("x.forwarded.for", "6.6.6.6"),
];

#[test]
fn a_client_sets_no_header_of_the_edges_in_any_spelling_nor_as_a_trailer() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&App::default()).await?;
        let lines: String = FORGED.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let request = format!(
            "GET /container/1/headers HTTP/1.1\r\nhost: h\r\nx-kept: 1\r\nconnection: close\r\n{lines}\r\n"
        );
        let seen = cluster.client().raw(request.as_bytes()).await?.to_lowercase();
        ensure!(seen.contains("x-kept: 1") && seen.contains("x-forwarded-for: 127.0.0.1"), "{seen}");
        for (name, value) in FORGED {
            ensure!(
                !seen.contains(&format!("{}: {value}", name.to_lowercase())),
                "{name} was passed: {seen}"
            );
        }
        Ok(())
    })
}
