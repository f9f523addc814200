//! The admin API as programs use it: pages, conditions, events, tokens over TLS, raw connections.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use berth_tests::app::App;
use berth_tests::cluster::{Cluster, Setup};
use berth_tests::metrics::Page;
use berth_tests::ports;
use berth_tests::scenario::{Outcome, scenario};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::{PATIENCE, object_id, order};

/// Sends raw bytes to the admin socket and reads until a text appears.
async fn speak(cluster: &Cluster, request: &str, until: &str) -> Result<(UnixStream, String)> {
    let mut stream = UnixStream::connect(cluster.admin().socket()).await?;
    stream.write_all(request.as_bytes()).await?;
    let text = read_until(&mut stream, until).await?;
    Ok((stream, text))
}

async fn read_until(stream: &mut UnixStream, wanted: &str) -> Result<String> {
    let mut text = Vec::new();
    let reading = async {
        let mut buffer = [0; 4096];
        while !String::from_utf8_lossy(&text).contains(wanted) {
            let read = stream.read(&mut buffer).await?;
            ensure!(read > 0, "the connection ended before {wanted:?}");
            text.extend_from_slice(&buffer[..read]);
        }
        anyhow::Ok(())
    };
    let read = tokio::time::timeout(PATIENCE, reading).await;
    let text = String::from_utf8_lossy(&text).into_owned();
    read.with_context(|| format!("no {wanted:?} in {text}"))??;
    Ok(text)
}

#[test]
fn lists_come_in_pages_and_changes_on_conditions() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&App::default()).await?;
        for name in ["a", "b", "c", "d", "e"] {
            cluster.client().get(&format!("/container/{name}")).await?.success()?;
        }
        let admin = cluster.admin();
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = admin.get(&format!("/v1/containers?limit=2{cursor}")).await?;
            let found = page["containers"].as_array().context("no list")?;
            ensure!(found.len() <= 2, "{page}");
            seen.extend(found.iter().filter_map(|view| view["name"].as_str().map(str::to_owned)));
            let Some(next) = page["next_cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        seen.sort();
        ensure!(seen == ["a", "b", "c", "d", "e"], "{seen:?}");
        let none = admin.get("/v1/containers?state=stopped&app=hello").await?;
        ensure!(none["containers"] == json!([]), "{none}");

        let text = "GET /v1/apps/hello HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        let (_, answer) = speak(cluster, text, "\"spec\"").await?;
        ensure!(answer.contains("etag: \"1\""), "{answer}");
        let wrong = [
            ("GET /v1/containers?limit=0", "", 422, "limit"),
            ("GET /v1/containers?cursor=xyz", "", 400, "cursor"),
            ("GET /v1/containers?colour=red", "", 400, "colour"),
            ("GET /v1/containers/xyz", "", 400, "\"id\""),
            ("PUT /v1/apps/hello", "{\"name\":\"hello\"}", 400, "classes"),
            ("PUT /v1/apps/hello", "[1,", 400, "EOF"),
            ("DELETE /v1/apps/hello", "", 412, "current version is 1"),
            ("PATCH /v1/apps/hello", "", 405, "no such method"),
            ("GET /v9", "", 404, "no such resource"),
        ];
        for (line, body, status, word) in wrong {
            let condition = if status == 412 { "if-match: \"7\"\r\n" } else { "" };
            let length = body.len();
            let request = format!(
                "{line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{condition}content-length: {length}\r\n\r\n{body}"
            );
            let (_, answer) = speak(cluster, &request, word).await.context(line)?;
            ensure!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{line}: {answer}");
            ensure!(answer.contains("application/problem+json"), "{line}: {answer}");
        }
        let mut spec = admin.get("/v1/apps/hello").await?["spec"].clone();
        spec["classes"]["Hello"]["default_port"] = 0.into();
        spec["routes"][0]["class"] = "Other".into();
        let (status, problem) = admin.put("/v1/apps/hello", &spec).await?;
        let fields: Vec<_> =
            problem["errors"].as_array().into_iter().flatten().map(|e| e["field"].clone()).collect();
        ensure!(
            status.as_u16() == 422 && fields == ["classes.Hello.default_port", "routes[0].class"],
            "{problem}"
        );
        spec["classes"]["Hello"]["colour"] = 1.into();
        let (status, problem) = admin.put("/v1/apps/hello", &spec).await?;
        ensure!(status.as_u16() == 400 && problem.to_string().contains("classes.Hello.colour"), "{problem}");
        Ok(())
    })
}

#[test]
fn c4_every_change_of_state_is_sent_to_watchers() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&App::default()).await?;
        let request = format!("GET /v1/events?object={} HTTP/1.1\r\nhost: x\r\n\r\n", object_id("w")?);
        let (mut stream, _) = speak(cluster, &request, "event: ready").await?;
        cluster.client().get("/container/w").await?.success()?;
        let text = read_until(&mut stream, "\"healthy\"").await?;
        ensure!(text.contains("\"running\""), "{text}");
        order(cluster, "w", "stop", &json!({})).await?;
        let text = read_until(&mut stream, "\"reason\":\"stopped\"").await?;
        ensure!(text.contains("\"stopping\""), "{text}");
        cluster.client().get("/container/other").await?.success()?;
        let quiet = tokio::time::timeout(Duration::from_secs(1), stream.read(&mut [0; 64])).await;
        ensure!(quiet.is_err(), "another object's change was told");
        Ok(())
    })
}

#[test]
fn c10_any_port_is_reached_in_raw_bytes() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&App::default()).await?;
        let path = format!("/v1/containers/{}/connect", object_id("raw")?);
        let ask = |query: &str| {
            format!(
                "GET {path}{query} HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: berth-tcp\r\n\r\n"
            )
        };
        let (_, answer) = speak(cluster, &ask(""), "no such object").await?;
        ensure!(answer.starts_with("HTTP/1.1 404"), "{answer}");
        cluster.client().get("/container/raw").await?.success()?;
        order(cluster, "raw", "destroy", &Value::Null).await?;
        // It is asleep: the connection wakes it.
        let (mut stream, _) = speak(cluster, &ask("?port=8080"), "\r\n\r\n").await?;
        stream.write_all(b"GET /x/instance HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await?;
        let answer = read_until(&mut stream, "200 OK").await?;
        ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let (_, answer) = speak(cluster, &ask("?port=81"), "not reached").await?;
        ensure!(answer.starts_with("HTTP/1.1 502"), "{answer}");
        let (_, answer) =
            speak(cluster, &format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n"), "berth-tcp").await?;
        ensure!(answer.starts_with("HTTP/1.1 426"), "{answer}");
        Ok(())
    })
}

/// A certificate for localhost that is its own authority, in a directory that the edge reads.
fn certificate(directory: &std::path::Path) -> Result<()> {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
    fs::write(directory.join("admin.pem"), made.cert.pem())?;
    fs::write(directory.join("admin.key"), made.signing_key.serialize_pem())?;
    Ok(())
}

#[test]
fn tokens_open_the_api_over_tls_as_far_as_their_scope_goes() -> Outcome {
    let directory = tempfile::tempdir().context("a directory")?;
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).context("its mode")?;
    certificate(directory.path())?;
    let port = ports::free_address()?.port();
    let file = |name: &str| directory.path().join(name).display().to_string();
    let edge_options = vec![
        format!("--admin-listen=127.0.0.1:{port}"),
        format!("--admin-cert={}", file("admin.pem")),
        format!("--admin-key={}", file("admin.key")),
    ];
    scenario(Setup { edge_options, ..Setup::nodes(1) }, async |cluster| {
        cluster.deploy(&App::default()).await?;
        let (url, ca) = (format!("https://localhost:{port}"), file("admin.pem"));
        let with = async |token: &str, words: &[&str]| -> Result<(bool, String)> {
            let mut command = cluster.command("berth");
            command.args(words).env("BERTH_ADMIN_URL", &url).env("BERTH_ADMIN_CA", &ca);
            command.env("BERTH_ADMIN_TOKEN", token);
            let output = tokio::task::spawn_blocking(move || command.output()).await??;
            let text = format!(
                "{}{}",
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            );
            Ok((output.status.success(), text))
        };
        let create = async |scope: &str| -> Result<String> {
            let output = cluster.berth(&["token", "create", "test", "--scope", scope]).await?;
            ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        };
        let (read, deploy) = (create("read").await?, create("deploy").await?);
        let (fine, text) = with(&read, &["nodes"]).await?;
        ensure!(fine && text.contains("n1"), "{text}");
        let start = ["containers", "start", "hello/Hello/x"];
        let (fine, text) = with(&read, &start).await?;
        ensure!(!fine && text.contains("not allowed"), "{text}");
        let (fine, text) = with(&deploy, &start).await?;
        ensure!(fine, "{text}");
        let (fine, text) = with(&deploy, &["token", "list"]).await?;
        ensure!(!fine && text.contains("not allowed"), "{text}");
        let failed = async || -> Result<f64> {
            let page = Page::read(&cluster.admin().text("/v1/metrics").await?)?;
            page.sum("berth_edge_admin_logins_failed_total", &[])
        };
        ensure!(failed().await? == 0.0, "good tokens are counted");
        for nobody in ["", "berth_0", &read[..40]] {
            let (fine, text) = with(nobody, &["nodes"]).await?;
            ensure!(!fine && text.contains("not authenticated"), "{text}");
        }
        // Each command asked once.
        ensure!(failed().await? == 3.0, "{} failed logins are counted", failed().await?);
        let listed = cluster.admin().get("/v1/tokens").await?;
        let of_read =
            listed["tokens"].as_array().into_iter().flatten().find(|token| token["scope"] == "read");
        let of_read = of_read.context("it is not listed")?;
        ensure!(of_read["last_used_ms"].is_u64() && !listed.to_string().contains(&read), "{listed}");
        let id = of_read["id"].as_str().context("no id")?;
        let output = cluster.berth(&["token", "revoke", id]).await?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        ensure!(!with(&read, &["nodes"]).await?.0, "a revoked token is good");
        // Both are as they were after a kill.
        cluster.kill_edge()?;
        cluster.start_edge()?;
        cluster.until_connected().await?;
        Ok(())
    })
}
