//! What a proxy must get right between a client and an app that both speak HTTP, well or badly: the probe answers byte for
//! byte what it is told to.

use std::io::{Read, Write};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use berth_tests::app::App;
use berth_tests::cluster::{Cluster, Setup};
use berth_tests::programs::PROBE;
use berth_tests::scenario::{Outcome, scenario};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long an answer may take, with the start of a container.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often something is tried that depends on which of two things comes first.
const TRIES: usize = 10;

fn probe() -> App {
    App { program: PROBE, memory: "256MiB", ..App::default() }
}

/// A path at which the probe sends these bytes.
fn script(id: &str, then: &str, bytes: &str) -> String {
    let hex: String = bytes.bytes().map(|byte| format!("{byte:02x}")).collect();
    format!("/container/{id}/script/{then}/{hex}")
}

/// Sends bytes, ends its own direction if told to, and reads to the end of the connection, however it comes.
async fn exchange(
    cluster: &Cluster,
    bytes: &str,
    half_close: bool,
) -> Result<(String, Result<(), std::io::Error>)> {
    let mut stream = TcpStream::connect(cluster.address()).await?;
    stream.write_all(bytes.as_bytes()).await?;
    if half_close {
        stream.shutdown().await?;
    }
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let read = read.with_context(|| format!("the connection stayed open after {answer:?}"))?;
    Ok((answer, read.map(drop)))
}

/// The whole answer to one request, after which the connection ends in order.
async fn answer(cluster: &Cluster, request: &str, headers_and_body: &str) -> Result<String> {
    let request = format!("{request} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{headers_and_body}");
    let (answer, end) = exchange(cluster, &request, false).await?;
    end.with_context(|| format!("after {answer:?}"))?;
    Ok(answer)
}

async fn get(cluster: &Cluster, path: &str) -> Result<String> {
    answer(cluster, &format!("GET {path}"), "\r\n").await
}

#[test]
fn an_app_that_speaks_an_old_version_loses_no_body_and_its_answers_end_as_they_do() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&probe()).await?;
        let old = "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nok";
        for request in ["POST", "PUT", "GET"] {
            let kept = get(cluster, &script("1", "keep", old)).await?;
            ensure!(kept.starts_with("HTTP/1.1 200 ") && kept.ends_with("\r\n\r\nok"), "{kept:?}");
            let chunks = "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
            let received =
                answer(cluster, &format!("{request} /container/1/script/received"), chunks).await?;
            ensure!(received.contains("\r\n\r\n1 5\n"), "{request} with 5 bytes in chunks: {received:?}");
        }
        // Without a length, in either version: the end of the connection is the end, and a reset is none.
        for version in ["1.0", "1.1"] {
            let endless = format!("HTTP/{version} 200 OK\r\n\r\nsome");
            let whole = get(cluster, &script("1", "close", &endless)).await?.to_lowercase();
            let chunked = whole.starts_with("http/1.1 200 ") && whole.contains("transfer-encoding: chunked");
            ensure!(chunked && whole.ends_with("some\r\n0\r\n\r\n"), "{whole:?}");
            let cut = format!(
                "{} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
                script("1", "reset", &endless)
            );
            let (cut, _) = exchange(cluster, &format!("GET {cut}"), false).await?;
            ensure!(!cut.ends_with("0\r\n\r\n"), "an answer that was cut looks whole: {cut:?}");
            // A client of the old version sees it by the end of the connection.
            for (then, in_order) in [("close", true), ("reset", false)] {
                let request = format!("GET {} HTTP/1.0\r\n\r\n", script("1", then, &endless));
                let (text, end) = exchange(cluster, &request, false).await?;
                // A reset may come before the head was passed on.
                let told =
                    end.is_err() || text.starts_with("HTTP/1.0 502 ") || text.starts_with("HTTP/1.1 502 ");
                ensure!(told != in_order, "{then} was told as {end:?} after {text:?}");
            }
        }
        Ok(())
    })
}

#[test]
fn a_client_that_has_ended_its_own_direction_gets_its_answer() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&probe()).await?;
        // The first request of each has to wait for a container.
        for id in ["1", "2"] {
            for (method, body) in [("GET", ""), ("POST", "content-length: 5\r\n\r\nhello")] {
                let end = if body.is_empty() { "\r\n" } else { body };
                let request =
                    format!("{method} /container/{id}/script/received HTTP/1.1\r\nhost: a\r\n{end}");
                let (answer, _) = exchange(cluster, &request, true).await?;
                ensure!(answer.starts_with("HTTP/1.1 200 "), "{method} was answered with {answer:?}");
            }
        }
        let mut connect = cluster.command("berth");
        connect.args(["connect", "hello/Hello/2"]).env("BERTH_ADMIN_SOCKET", cluster.admin().socket());
        let mut connect =
            connect.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let request = "GET /script/close/68616c66 HTTP/1.1\r\nhost: a\r\n\r\n";
        connect.stdin.take().context("no standard input")?.write_all(request.as_bytes())?;
        let output = tokio::task::spawn_blocking(move || connect.wait_with_output()).await??;
        ensure!(output.status.success() && output.stdout == b"half", "berth connect: {output:?}");
        Ok(())
    })
}

#[test]
fn a_client_that_is_refused_in_the_middle_of_its_body_gets_the_answer() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        // More than the sockets between them hold; all of it is sent before anything is read.
        let body = "x".repeat(8 << 20);
        let request =
            format!("POST /nowhere HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        for _ in 0..5 {
            let (answer, end) = exchange(cluster, &request, false).await?;
            ensure!(answer.starts_with("HTTP/1.1 404 "), "{answer:?}, {end:?}");
        }
        Ok(())
    })
}

#[test]
fn a_raw_connection_that_is_cut_does_not_look_like_one_that_has_ended() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&probe()).await?;
        get(cluster, "/container/1/script/received").await?;
        let mut connect = cluster.command("berth");
        connect.args(["connect", "hello/Hello/1"]).env("BERTH_ADMIN_SOCKET", cluster.admin().socket());
        let mut connect =
            connect.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let mut input = connect.stdin.take().context("no standard input")?;
        input.write_all(b"GET /script/received HTTP/1.1\r\nhost: a\r\n\r\n")?;
        // It is up once something comes; the container ends nothing.
        let mut output = connect.stdout.take().context("no standard output")?;
        let (output, first) = tokio::task::spawn_blocking(move || {
            let mut first = [0; 12];
            output.read_exact(&mut first).map(|()| (output, first))
        })
        .await??;
        ensure!(first.starts_with(b"HTTP/1.1 200"), "{first:?}");
        cluster.kill_edge()?;
        let ended = tokio::task::spawn_blocking(move || connect.wait_with_output()).await??;
        let text = String::from_utf8_lossy(&ended.stderr);
        ensure!(ended.status.code() == Some(1) && text.contains("broke"), "berth connect: {ended:?}");
        drop((input, output));
        cluster.start_edge()?;
        cluster.until_connected().await
    })
}

#[test]
fn hints_many_fields_and_slips_of_form_pass() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&probe()).await?;
        let hinted = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\nconnection: x\r\nx: 1\r\n\r\n\
                      HTTP/1.1 103 Early Hints\r\nlink: </b.css>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        // Some of these objects are of the other shard.
        for id in ["1", "2", "3", "4"] {
            let got = get(cluster, &script(id, "keep", hinted)).await?;
            let hints = "HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </b.css>\r\n\r\n";
            let rest = got.strip_prefix(hints).with_context(|| format!("no hints: {got:?}"))?;
            ensure!(rest.starts_with("HTTP/1.1 200 ") && rest.ends_with("\r\n\r\nok"), "{got:?}");
        }
        let old = format!("GET {} HTTP/1.0\r\n\r\n", script("1", "keep", hinted));
        let (old, _) = exchange(cluster, &old, false).await?;
        ensure!(!old.contains("103") && old.ends_with("\r\n\r\nok"), "a client of HTTP/1.0 got {old:?}");

        let fields: String = (0..900).map(|n| format!("x-field-{n}: some value\r\n")).collect();
        let received = answer(cluster, "GET /container/1/script/received", &format!("{fields}\r\n")).await?;
        ensure!(received.contains("x-field-899: some value"), "900 fields: {:.200}", received);
        let fields: String = (0..300).map(|n| format!("f{n}: some value\r\n")).collect();
        let many = format!("HTTP/1.1 200 OK\r\n{fields}content-length: 2\r\n\r\nok");
        let got = get(cluster, &script("1", "keep", &many)).await?;
        ensure!(got.contains("f200: some value") && got.ends_with("ok"), "{:.200}", got);

        for (slip, passed) in [("x-a : b", "x-a: b"), ("x-a: b\r\n  c", "x-a: b c")] {
            let answered = format!("HTTP/1.1 200 OK\r\n{slip}\r\ncontent-length: 2\r\n\r\nok");
            let got = get(cluster, &script("1", "keep", &answered)).await?;
            ensure!(got.contains(&format!("\r\n{passed}\r\n")), "{slip:?} was passed on as {got:?}");
        }
        for coding in ["gzip, chunked", "gzip", "chunked, chunked"] {
            let coded = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: {coding}\r\n\r\n2\r\nok\r\n0\r\n\r\n");
            let got = get(cluster, &script("1", "close", &coded)).await?;
            ensure!(got.starts_with("HTTP/1.1 502 "), "{coding} was passed on as {got:?}");
        }
        Ok(())
    })
}

#[test]
fn a_request_that_may_be_repeated_is_and_an_instance_that_has_just_ended_is_replaced() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&probe()).await?;
        let vanish = script("1", "vanish", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        for count in 1..=TRIES {
            get(cluster, &vanish).await?;
            let again = get(cluster, "/container/1/script/times/get").await?;
            ensure!(again.ends_with(&format!("\r\n\r\n{count}")), "instead of {count}: {again:?}");
        }
        let (mut broken, mut counted) = (0, 0);
        for _ in 0..TRIES {
            get(cluster, &vanish).await?;
            let once =
                answer(cluster, "POST /container/1/script/times/post", "content-length: 0\r\n\r\n").await?;
            if once.starts_with("HTTP/1.1 502 ") {
                broken += 1;
            } else {
                // The connection that would have vanished was idle for too long, or was closed.
                counted += 1;
                ensure!(once.ends_with(&format!("\r\n\r\n{counted}")), "instead of {counted}: {once:?}");
            }
        }
        ensure!(broken > 0, "no request was sent over a connection that its app was closing");

        for _ in 0..3 {
            answer(cluster, "POST /container/2/script/end", "content-length: 0\r\n\r\n").await?;
            let next = get(cluster, "/container/2/script/received").await?;
            ensure!(next.starts_with("HTTP/1.1 200 "), "right after the end of its container: {next:?}");
        }
        Ok(())
    })
}
