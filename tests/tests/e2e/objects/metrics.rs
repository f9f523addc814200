//! Metrics, health and readiness of both daemons, read as collectors and load balancers read them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use berth_tests::app::App;
use berth_tests::client::Client;
use berth_tests::cluster::{Cluster, Setup};
use berth_tests::metrics::Page;
use berth_tests::scenario::{Outcome, scenario};
use berth_tests::websocket::Socket;
use berth_tests::{ports, wait};
use http_body_util::{BodyExt, Empty};
use hyper::Method;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio_tungstenite::tungstenite::Message;

/// How long a change may take to appear.
const SEEN_WITHIN: Duration = Duration::from_secs(10);
/// How many connections a daemon's metrics server serves at once, and a little more than its timeout for a silent one.
const MAX_CONNECTIONS: usize = 64;
const ROOM_WITHIN: Duration = Duration::from_secs(8);
/// What every request for one of the app's objects is counted under.
const HELLO: [(&str, &str); 2] = [("app", "hello"), ("class", "Hello")];

/// The daemons of a cluster with one node, as they are watched.
#[derive(Debug, Clone, Copy)]
struct Watched {
    edge: Client,
    agent: Client,
}

/// A cluster with one node whose daemons are watched.
fn watched(steps: impl AsyncFnOnce(&mut Cluster, Watched) -> Result<()>) -> Outcome {
    let (edge, agent) = (ports::free_address()?, ports::free_address()?);
    // A test's options are literals; this one lives as long as the test's process, too.
    let agent_address: &'static str = Box::leak(agent.to_string().into_boxed_str());
    let setup = Setup {
        edge_options: vec!["--monitor-listen".to_owned(), edge.to_string()],
        agent_options: vec!["--monitor-listen", agent_address],
        ..Setup::nodes(1)
    };
    let watched = Watched { edge: Client::of(edge), agent: Client::of(agent) };
    scenario(setup, async |cluster| steps(cluster, watched).await)
}

async fn scrape(daemon: Client) -> Result<Page> {
    let answer = daemon.get("/metrics").await?.success()?;
    let kind = answer.headers.get("content-type").context("no content type")?;
    ensure!(kind == "text/plain; version=0.0.4; charset=utf-8", "{kind:?}");
    Page::read(&answer.text)
}

/// Fails with the actual value.
fn expect(page: &Page, name: &str, labels: &[(&str, &str)], expected: f64) -> Result<()> {
    let found = page.sum(name, labels)?;
    ensure!(found == expected, "{name}{labels:?} is {found} instead of {expected}");
    Ok(())
}

/// With the labels of the app's class.
fn of_hello<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    [&HELLO, more].concat()
}

async fn get(client: Client, path: &str, status: u16, times: usize) -> Result<()> {
    for _ in 0..times {
        let answer = client.get(path).await?;
        ensure!(answer.status.as_u16() == status, "{path}: {} {}", answer.status, answer.text);
    }
    Ok(())
}

#[test]
fn f2_requests_are_counted_exactly() -> Outcome {
    watched(async |cluster, Watched { edge, .. }| {
        cluster.deploy(&App::default()).await?;
        let client = cluster.client();
        get(client, "/container/a", 200, 7).await?;
        get(client, "/container/b/status/404", 404, 3).await?;
        get(client, "/container/b/status/500", 500, 2).await?;
        get(client, "/nowhere", 404, 4).await?;
        let mut socket = Socket::open(&client, "/container/a/ws").await?;
        socket.echo(Message::text("x")).await?;
        let page = scrape(edge).await?;
        for (status, count) in [("1xx", 1.0), ("2xx", 7.0), ("3xx", 0.0), ("4xx", 3.0), ("5xx", 2.0)] {
            expect(&page, "berth_edge_requests_total", &of_hello(&[("status", status)]), count)?;
        }
        expect(&page, "berth_edge_requests_total", &[("app", ""), ("status", "4xx")], 4.0)?;
        expect(&page, "berth_edge_requests_total", &[("app", "")], 4.0)?;
        expect(&page, "berth_edge_refusals_total", &[("reason", "no_route")], 4.0)?;
        expect(&page, "berth_edge_refusals_total", &[], 4.0)?;
        expect(&page, "berth_edge_request_duration_seconds_count", &HELLO, 13.0)?;
        expect(&page, "berth_edge_websockets_open", &HELLO, 1.0)?;
        expect(&page, "berth_edge_requests_in_flight", &HELLO, 0.0)?;
        let sum = page.sum("berth_edge_request_duration_seconds_sum", &HELLO)?;
        ensure!(sum > 0.0 && sum < 60.0, "13 requests took {sum} s");
        let (received, sent) = (
            page.sum("berth_edge_client_received_bytes_total", &[])?,
            page.sum("berth_edge_client_sent_bytes_total", &[])?,
        );
        ensure!(received > 17.0 * 40.0 && sent > 17.0 * 40.0, "{received} and {sent} bytes");

        let response = client.send(Method::GET, "/container/a/slow/60", Empty::new().boxed()).await?;
        expect(&scrape(edge).await?, "berth_edge_requests_in_flight", &HELLO, 1.0)?;
        drop((response, socket));
        wait::until("nothing to be in flight", SEEN_WITHIN, async || {
            let page = scrape(edge).await?;
            expect(&page, "berth_edge_requests_in_flight", &HELLO, 0.0)?;
            expect(&page, "berth_edge_websockets_open", &HELLO, 0.0)
        })
        .await
    })
}

#[test]
fn f2_starts_instances_nodes_and_the_store_are_counted() -> Outcome {
    watched(async |cluster, Watched { edge, agent }| {
        cluster.deploy(&App { more: "prepared = 1\n", ..App::default() }).await?;
        let client = cluster.client();
        get(client, "/container/a", 200, 3).await?;
        get(client, "/container/b", 200, 1).await?;
        let page = scrape(edge).await?;
        for (name, labels, value) in [
            ("berth_edge_starts_total", &HELLO[..], 2.0),
            ("berth_edge_starts_failed_total", &HELLO, 0.0),
            ("berth_edge_start_duration_seconds_count", &HELLO, 2.0),
            ("berth_edge_objects", &[("state", "healthy")], 2.0),
            ("berth_edge_objects", &[], 2.0),
            ("berth_edge_node_instances", &[("node", "n1")], 2.0),
            ("berth_edge_node_connected", &[("node", "n1")], 1.0),
            ("berth_edge_node_draining", &[("node", "n1")], 0.0),
            ("berth_edge_store_failures_total", &[], 0.0),
            ("berth_edge_store_writable", &[], 1.0),
            ("berth_edge_store_queue", &[], 0.0),
        ] {
            expect(&page, name, labels, value)?;
        }
        let trip = page.sum("berth_edge_node_round_trip_seconds", &[("node", "n1")])?;
        ensure!(trip > 0.0 && trip < 1.0, "a round trip of {trip} s");
        let (writes, batches) = (
            page.sum("berth_edge_store_writes_total", &[])?,
            page.sum("berth_edge_store_batch_duration_seconds_count", &[])?,
        );
        ensure!(writes >= batches && batches >= 3.0, "{writes} writes in {batches} batches");

        let page = wait::until("a container to be held", SEEN_WITHIN, async || {
            let page = scrape(agent).await?;
            expect(&page, "berth_agent_held_containers", &[], 1.0).map(|()| page)
        })
        .await?;
        for (name, labels, value) in [
            ("berth_agent_starts_total", &[("result", "ready")][..], 2.0),
            ("berth_agent_starts_total", &[], 2.0),
            ("berth_agent_start_duration_seconds_count", &[], 2.0),
            ("berth_agent_instances", &[("phase", "ready")], 2.0),
            ("berth_agent_instances", &[], 2.0),
            ("berth_agent_ends_total", &[], 0.0),
            ("berth_agent_memory_bytes", &[], f64::from(64 << 20) * 1024.0),
            ("berth_agent_memory_reserved_bytes", &[], f64::from(256 << 20)),
            ("berth_agent_vcpus", &[], 64.0),
            ("berth_agent_vcpus_reserved", &[], 2.0),
            ("berth_agent_disk_slots", &[], 0.0),
            ("berth_agent_edges_connected", &[], 1.0),
            ("berth_agent_edge_connections", &[], 4.0),
            ("berth_agent_draining", &[], 0.0),
        ] {
            expect(&page, name, labels, value)?;
        }
        let tunnels = page.sum("berth_agent_tunnels_total", &[])?;
        ensure!((2.0..=4.0).contains(&tunnels), "{tunnels} tunnels for four requests");
        let sent = page.sum("berth_agent_tunnel_sent_bytes_total", &[])?;
        ensure!(sent > 4.0 * 40.0, "{sent} bytes from instances");

        for object in ["hello/Hello/a", "hello/Hello/b"] {
            let output = cluster.berth(&["containers", "destroy", object]).await?;
            ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        wait::until("the ends to be seen", SEEN_WITHIN, async || {
            let page = scrape(agent).await?;
            expect(&page, "berth_agent_ends_total", &[("reason", "signal")], 2.0)?;
            expect(&page, "berth_agent_memory_reserved_bytes", &[], 0.0)?;
            expect(&scrape(edge).await?, "berth_edge_node_instances", &[("node", "n1")], 0.0)
        })
        .await
    })
}

#[test]
fn f2_starts_that_fail_are_counted_as_such() -> Outcome {
    watched(async |cluster, Watched { edge, agent }| {
        let entrypoint = Some(vec!["/no/such/program"]);
        cluster.deploy(&App { entrypoint, more: "prepared = 0\n", ..App::default() }).await?;
        get(cluster.client(), "/container/a", 500, 1).await?;
        let page = scrape(edge).await?;
        expect(
            &page,
            "berth_edge_starts_failed_total",
            &HELLO,
            page.sum("berth_edge_starts_total", &HELLO)?,
        )?;
        expect(&page, "berth_edge_start_duration_seconds_count", &HELLO, 0.0)?;
        expect(&page, "berth_edge_refusals_total", &[("reason", "start_failed")], 1.0)?;
        expect(&page, "berth_edge_requests_total", &of_hello(&[("status", "5xx")]), 1.0)?;
        let page = scrape(agent).await?;
        expect(&page, "berth_agent_starts_total", &[("result", "ready")], 0.0)?;
        ensure!(page.sum("berth_agent_starts_total", &[("result", "failed")])? >= 1.0);
        Ok(())
    })
}

#[test]
fn f2_series_do_not_grow_with_what_clients_send() -> Outcome {
    watched(async |cluster, Watched { edge, agent }| {
        cluster.deploy(&App { more: "manual_start = true\n", ..App::default() }).await?;
        let client = cluster.client();
        let one_of_each = async |number: usize| -> Result<()> {
            get(client, &format!("/container/name-{number}"), 503, 1).await?;
            if !number.is_multiple_of(10) {
                return Ok(());
            }
            get(client, &format!("/path-{number}"), 404, 1).await?;
            let other =
                format!("M{number} / HTTP/1.1\r\nhost: h{number}.example\r\nconnection: close\r\n\r\n");
            let answer = client.raw(other.as_bytes()).await?;
            ensure!(answer.starts_with("HTTP/1.1 404"), "{answer}");
            Ok(())
        };
        one_of_each(0).await?;
        let before = (scrape(edge).await?.series(), scrape(agent).await?.series());
        for number in 1..1000 {
            one_of_each(number).await?;
        }
        let after = scrape(edge).await?;
        let grown: Vec<_> = after.series().difference(&before.0).cloned().collect();
        ensure!(grown.is_empty(), "new series at the edge: {grown:?}");
        ensure!(scrape(agent).await?.series() == before.1, "the agent's series have changed");
        expect(&after, "berth_edge_refusals_total", &[("reason", "manual_start")], 1000.0)?;
        expect(&after, "berth_edge_requests_total", &of_hello(&[("status", "5xx")]), 1000.0)?;
        expect(&after, "berth_edge_requests_total", &[("app", ""), ("status", "4xx")], 200.0)
    })
}

/// Fails unless a daemon is not ready, for this reason.
async fn not_ready(daemon: Client, why: &str) -> Result<()> {
    let answer = daemon.get("/readyz").await?;
    ensure!(answer.status.as_u16() == 503 && answer.text.contains(why), "{} {}", answer.status, answer.text);
    Ok(())
}

#[test]
fn f2_an_edge_that_stops_is_healthy_but_not_ready() -> Outcome {
    watched(async |cluster, Watched { edge, .. }| {
        cluster.deploy(&App::default()).await?;
        get(edge, "/readyz", 200, 1).await?;
        get(edge, "/healthz", 200, 1).await?;
        // A request in flight keeps the edge for a while.
        let client = cluster.client();
        let slow = client.send(Method::GET, "/container/a/slow/60", Empty::new().boxed()).await?;
        kill(Pid::from_raw(i32::try_from(cluster.edge()?.pid())?), Signal::SIGTERM)?;
        wait::until("the edge not to be ready", SEEN_WITHIN, async || not_ready(edge, "stopping").await)
            .await?;
        get(edge, "/healthz", 200, 1).await?;
        expect(&scrape(edge).await?, "berth_edge_draining", &[], 1.0)?;
        drop(slow);
        wait::until("the edge to end", SEEN_WITHIN, async || {
            ensure!(edge.get("/healthz").await.is_err(), "it still answers");
            Ok(())
        })
        .await?;
        // The harness checks that it ends in good order.
        cluster.start_edge_again().await
    })
}

#[test]
fn f2_an_agent_is_ready_while_it_can_start_containers() -> Outcome {
    watched(async |cluster, Watched { agent, .. }| {
        get(agent, "/readyz", 200, 1).await?;
        let on_node = async |cluster: &Cluster, word: &str| -> Result<()> {
            let mut command = cluster.command("berth-agent");
            command.arg(word).arg("--state").arg(&cluster.nodes()[0].state);
            let output = tokio::task::spawn_blocking(move || command.output()).await??;
            ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            Ok(())
        };
        on_node(cluster, "drain").await?;
        not_ready(agent, "drained").await?;
        get(agent, "/healthz", 200, 1).await?;
        expect(&scrape(agent).await?, "berth_agent_draining", &[], 1.0)?;
        on_node(cluster, "undrain").await?;
        get(agent, "/readyz", 200, 1).await?;
        cluster.kill_supervisor(0)?;
        not_ready(agent, "no supervisor").await?;
        cluster.restart_supervisor(0)?;
        wait::until("the agent to be ready", SEEN_WITHIN, async || get(agent, "/readyz", 200, 1).await).await
    })
}

#[test]
fn f2_slow_silent_and_wrong_clients_do_not_hurt() -> Outcome {
    watched(async |cluster, Watched { edge, agent }| {
        cluster.deploy(&App::default()).await?;
        get(cluster.client(), "/container/a", 200, 1).await?;
        for daemon in [edge, agent] {
            let mut slow = slow_clients(daemon.address()).await?;
            // With slow clients connected, requests and other scrapes are served.
            get(cluster.client(), "/container/a", 200, 5).await?;
            let began = Instant::now();
            scrape(daemon).await?;
            ensure!(began.elapsed() < ROOM_WITHIN, "a scrape took {:?}", began.elapsed());
            for stream in &mut slow {
                let closed = tokio::time::timeout(SEEN_WITHIN, stream.read_to_end(&mut Vec::new())).await;
                ensure!(closed.is_ok(), "a connection that says nothing stays open");
            }
            wrong_requests(daemon).await?;
        }
        Ok(())
    })
}

/// Twice the maximum number of connections: half of them silent, the others with a request head that does not end.
async fn slow_clients(address: SocketAddr) -> Result<Vec<TcpStream>> {
    let mut slow = Vec::new();
    for number in 0..MAX_CONNECTIONS * 2 {
        let mut stream = TcpStream::connect(address).await?;
        if !number.is_multiple_of(2) {
            stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: ").await?;
        }
        slow.push(stream);
    }
    Ok(slow)
}

async fn wrong_requests(daemon: Client) -> Result<()> {
    let long = "x".repeat(16 << 10);
    let cases = [
        (format!("GET /metrics HTTP/1.1\r\nhost: x\r\nx: {long}\r\n\r\n"), 431),
        ("GET /metrics HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello".to_owned(), 413),
        ("POST /metrics HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n".to_owned(), 405),
        ("GET /admin HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(), 404),
        ("nonsense\r\n\r\n".to_owned(), 400),
    ];
    for (request, status) in cases {
        let mut stream = TcpStream::connect(daemon.address()).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = vec![0; 12];
        stream.read_exact(&mut answer).await.with_context(|| format!("no answer {status}"))?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        ensure!(answer == format!("HTTP/1.1 {status}"), "{answer} instead of {status}");
    }
    Ok(())
}

#[test]
fn f2_the_admin_api_shows_the_same_page_and_is_counted() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&App::default()).await?;
        let socket = cluster.admin().socket().to_owned();
        let first = admin_page(&socket).await?;
        let (status, _) = cluster.admin().post("/v1/nowhere", &serde_json::Value::Null).await?;
        ensure!(status.as_u16() == 404, "{status}");
        let second = admin_page(&socket).await?;
        let grown = |status| -> Result<f64> {
            let of = [("status", status)];
            let name = "berth_edge_admin_requests_total";
            Ok(second.sum(name, &of)? - first.sum(name, &of)?)
        };
        // The response with the first page itself, and the series that did not exist then.
        ensure!((grown("2xx")?, grown("4xx")?) == (1.0, 1.0), "{:?} {:?}", grown("2xx"), grown("4xx"));
        Ok(())
    })
}

async fn admin_page(socket: &Path) -> Result<Page> {
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(b"GET /v1/metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no head")?;
    ensure!(head.starts_with("HTTP/1.1 200") && head.contains("text/plain; version=0.0.4"), "{head}");
    Page::read(body)
}

#[test]
fn f2_every_metric_is_documented_as_it_is() -> Outcome {
    watched(async |cluster, Watched { edge, agent }| {
        cluster.deploy(&App::default()).await?;
        get(cluster.client(), "/container/a", 200, 1).await?;
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
        let documented = documented(&std::fs::read_to_string(path)?)?;
        let mut exported = BTreeMap::new();
        for page in [scrape(edge).await?, scrape(agent).await?] {
            for (name, family) in page.families {
                let labels = family.labels()?.with_context(|| format!("{name} has no series"))?;
                exported.insert(name, (family.kind, labels, family.help));
            }
        }
        for (name, is) in &exported {
            let listed = documented.get(name).with_context(|| format!("{name} is not documented"))?;
            ensure!(listed == is, "{name} is documented as {listed:?} and is {is:?}");
        }
        let gone: Vec<_> = documented.keys().filter(|name| !exported.contains_key(*name)).collect();
        ensure!(gone.is_empty(), "documented and not there: {gone:?}");
        Ok(())
    })
}

type Documented = BTreeMap<String, (String, Vec<String>, String)>;

/// Type, labels and meaning of each metric in the document's tables.
fn documented(text: &str) -> Result<Documented> {
    let mut metrics = Documented::new();
    let is_metric = |line: &&str| line.starts_with("| `berth_") || line.starts_with("| `process_");
    for row in text.lines().filter(is_metric) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [name, kind, labels, meaning] = cells[..] else {
            anyhow::bail!("{row}: four cells are expected")
        };
        let mut labels: Vec<String> = labels
            .split(',')
            .map(|l| l.trim().trim_matches('`').to_owned())
            .filter(|l| !l.is_empty())
            .collect();
        labels.sort();
        let known =
            metrics.insert(name.trim_matches('`').to_owned(), (kind.to_owned(), labels, meaning.to_owned()));
        ensure!(known.is_none(), "{name} is documented twice");
    }
    Ok(metrics)
}
