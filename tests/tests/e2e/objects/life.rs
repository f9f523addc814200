//! Containers that fail, that have several required ports, and apps that ask for too much.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use berth_common::outcome::ExitReason;
use berth_tests::app::App;
use berth_tests::cluster::Setup;
use berth_tests::scenario::{Outcome, scenario};
use berth_tests::wait;
use serde_json::{Value, json};

use super::{PATIENCE, object_id, order, raw, until_ended};

#[test]
fn c1_requests_wait_for_all_required_ports_and_for_the_ping_endpoint() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        // Nothing ever listens on the second port.
        let more = "required_ports = [9999]";
        cluster.deploy(&App { name: "hello", more, port_timeout: "2s", ..App::default() }).await?;
        let answer = cluster.client().get("/container/ports").await?;
        ensure!(
            answer.status == 500 && answer.text.contains("in time"),
            "{}: {}",
            answer.status,
            answer.text
        );
        until_ended(cluster, "ports", ExitReason::StartFailed).await?;

        let pinged = |path| App { more: path, port_timeout: "3s", ..App::default() };
        cluster.deploy(&pinged("ping_endpoint = \"/x/status/503\"")).await?;
        let answer = cluster.client().get("/container/sick").await?;
        ensure!(answer.status == 500, "it counts as ready although it says that it is not: {}", answer.text);
        cluster.deploy(&pinged("ping_endpoint = \"/x/status/404\"\nrequired_ports = [8080]")).await?;
        cluster.client().get("/container/well").await?.success()?;
        Ok(())
    })
}

#[test]
fn c3_a_signal_is_sent_and_no_more() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&App::default()).await?;
        let client = cluster.client();
        let first = client.get("/container/s").await?.success()?.instance()?;
        // It ignores SIGWINCH.
        let view = order(cluster, "s", "signal", &json!({ "signal": 28 })).await?;
        ensure!(view["state"] == "healthy", "{view}");
        ensure!(client.get("/container/s").await?.success()?.instance()? == first);
        let output = cluster.berth(&["containers", "signal", "hello/Hello/s", "SIGKILL"]).await?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        until_ended(cluster, "s", ExitReason::Signal).await?;
        let path = format!("/v1/containers/{}/signal", object_id("s")?);
        let (status, problem) = cluster.admin().post(&path, &json!({ "signal": 15 })).await?;
        ensure!(status.as_u16() == 409, "a signal to nothing: {status} {problem}");
        Ok(())
    })
}

#[test]
fn c7_an_object_that_fails_again_and_again_is_started_later_and_says_when() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&App::default()).await?;
        let (client, admin) = (cluster.client(), cluster.admin());
        let path = format!("/v1/containers/{}", object_id("loop")?);
        let mut view = Value::Null;
        for round in 1..=3 {
            client.get("/container/loop").await?.success()?;
            client.get("/container/loop/exit/3").await?;
            view = wait::until("the failure to be counted", PATIENCE, async || {
                let view = admin.get(&path).await?;
                ensure!(view["instance"].is_null() && view["exit"]["code"] == 3, "{view}");
                let failures = view["crash_loop"]["failures"].as_u64().unwrap_or(1);
                ensure!(failures == round, "{view}");
                Ok(view)
            })
            .await?;
        }
        ensure!(view["state"] == "stopped_with_code" && view["crash_loop"]["next_try_ms"].is_u64(), "{view}");
        let list = cluster.berth(&["containers", "list"]).await?;
        let text = String::from_utf8_lossy(&list.stdout);
        ensure!(text.contains("3 failures, next try"), "{text}");
        let codes = view["failures"].as_array().context("no failures")?.iter();
        let codes: Vec<_> = codes.map(|failure| failure["exit"]["code"].clone()).collect();
        ensure!(codes == [3, 3, 3], "{view}");
        let info = cluster.berth(&["containers", "info", "hello/Hello/loop"]).await?;
        let text = String::from_utf8_lossy(&info.stdout);
        ensure!(text.matches("s ago  exited (code 3)  -").count() == 3, "{text}");
        // The third failure in a row costs two seconds; the request waits for them, and is then answered.
        let asked = Instant::now();
        client.get("/container/loop").await?.success()?;
        ensure!(asked.elapsed() >= Duration::from_millis(1_000), "it was started at once");
        // A new version is not to blame for the old one's failures.
        client.get("/container/loop/exit/3").await?;
        until_ended(cluster, "loop", ExitReason::Exit).await?;
        cluster.deploy(&App { env: BTreeMap::from([("NEW", "1")]), ..App::default() }).await?;
        let asked = Instant::now();
        client.get("/container/loop").await?.success()?;
        ensure!(asked.elapsed() < Duration::from_secs(3), "a new version had to wait");
        Ok(())
    })
}

#[test]
fn b3_an_app_takes_no_more_than_its_limits() -> Outcome {
    scenario(Setup::nodes(2), async |cluster| {
        let app = App { limit_memory: "300MB", ..App::default() };
        cluster.deploy(&app).await?;
        let client = cluster.client();
        for name in ["a", "b"] {
            client.get(&format!("/container/{name}")).await?.success()?;
        }
        let refused = client.get("/container/c").await?;
        ensure!(refused.status == 503 && refused.headers.contains_key("retry-after"), "{}", refused.status);
        ensure!(refused.text.contains("300000000 bytes of memory"), "{}", refused.text);
        // Another app has limits of its own.
        cluster.deploy(&App { name: "other", prefix: "other", ..App::default() }).await?;
        client.get("/other/c").await?.success()?;
        order(cluster, "a", "destroy", &Value::Null).await?;
        until_ended(cluster, "a", ExitReason::Destroyed).await?;
        client.get("/container/c").await?.success()?;
        Ok(())
    })
}

/// Routes of the rows D1 and D2 that the others do not try.
const ROUTES: &str = r#"
[[routes]]
path = "/api/{tenant}/*"
class = "Hello"
object = "{tenant}"
rewrite = "/v1"

[[routes]]
path = "/spread/*"
class = "Hello"
object = { least_loaded = 2 }
"#;

#[test]
fn d1_paths_are_rewritten_and_d2_requests_go_to_the_less_busy() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&App { more: ROUTES, ..App::default() }).await?;
        let client = cluster.client();
        let seen = client.get("/api/ann/headers?a=1").await?.success()?.text;
        ensure!(seen.contains("/v1/headers?a=1") && !seen.contains("/api/ann"), "{seen}");

        // One of the two is busy for a while; the other gets the requests in that time.
        let mut busy = tokio::task::JoinSet::new();
        for _ in 0..6 {
            busy.spawn(async move { client.get("/spread/slow/4").await });
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        let mut instances = BTreeMap::new();
        for _ in 0..20 {
            *instances.entry(client.get("/spread/instance").await?.success()?.instance()?).or_insert(0) += 1;
        }
        ensure!(instances.len() == 2, "all go to one: {instances:?}");
        while let Some(answer) = busy.join_next().await {
            answer.map_err(anyhow::Error::from)??.success()?;
        }
        Ok(())
    })
}

#[test]
fn c7_memory_that_runs_out_is_a_reason_of_its_own_and_the_next_request_starts_anew() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        // Its disk is in memory, and larger than the memory that it has.
        let more = "disk_in_memory = true";
        cluster.deploy(&App { memory: "64MiB", disk: "1GB", more, ..App::default() }).await?;
        let client = cluster.client();
        let first = client.get("/container/big").await?.success()?.instance()?;
        // The answer is cut off, or never comes.
        let filled: Result<_> = client.get("/container/big/fill/200000000").await;
        drop(filled);
        until_ended(cluster, "big", ExitReason::Oom).await?;
        ensure!(client.get("/container/big").await?.success()?.instance()? != first);
        Ok(())
    })
}

#[test]
fn d3_static_files_are_served_alongside_the_routes() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        let public = cluster.make_directory("public")?;
        std::fs::create_dir(public.join("docs"))?;
        let script = "let x = 1;\n".repeat(500);
        for (name, content) in [
            ("index.html", "<h1>home</h1>"),
            ("404.html", "<h1>lost</h1>"),
            ("app.js", script.as_str()),
            ("docs/index.html", "docs"),
            ("notes.txt.br", "as it lies there"),
            ("notes.txt", "in plain words"),
            (".secret", "never"),
        ] {
            std::fs::write(public.join(name), content)?;
        }
        let section =
            |more: &str| format!("[assets]\ndirectory = {:?}\n{more}\n", public.display().to_string());
        let page: &str = section("not_found_handling = \"404-page\"").leak();
        cluster.deploy(&App { more: page, ..App::default() }).await?;
        let client = cluster.client();
        let home = client.get("/").await?.success()?;
        ensure!(home.text == "<h1>home</h1>" && home.headers["content-type"] == "text/html", "{home:?}");
        ensure!(client.get("/docs/").await?.success()?.text == "docs");
        let redirect = client.get("/docs").await?;
        ensure!(redirect.status == 307 && redirect.headers["location"] == "/docs/", "{redirect:?}");
        client.get("/container/1").await?.success()?;
        for path in [
            "/none",
            "/.secret",
            "/..%2f..%2fberth.toml",
            "/%2e%2e/app-hello/berth.toml",
            "/docs/..%2f.secret",
        ] {
            let answer = client.get(path).await?;
            ensure!(answer.status == 404 && answer.text == "<h1>lost</h1>", "{path}: {answer:?}");
        }

        let etag = home.headers.get("etag").context("no ETag")?.to_str()?.to_owned();
        let (status, _) = raw(cluster, "GET /", &format!("host: x\r\nif-none-match: {etag}\r\n")).await?;
        ensure!(status == 304, "{status}");
        let (status, text) = raw(cluster, "GET /app.js", "host: x\r\nrange: bytes=0-4\r\n").await?;
        ensure!(status == 206 && text.ends_with("let x"), "{text}");
        let (status, text) = raw(cluster, "HEAD /app.js", "host: x\r\n").await?;
        ensure!(
            status == 200 && text.contains("content-length: 5500") && text.ends_with("\r\n\r\n"),
            "{text}"
        );
        let (_, text) = raw(cluster, "GET /app.js", "host: x\r\naccept-encoding: gzip\r\n").await?;
        ensure!(text.contains("content-encoding: gzip"), "{text}");
        let (_, text) = raw(cluster, "GET /notes.txt", "host: x\r\naccept-encoding: br\r\n").await?;
        ensure!(text.contains("content-encoding: br") && text.ends_with("as it lies there"), "{text}");

        // A new version has its own files; the old ones are not touched.
        std::fs::write(public.join("index.html"), "<h1>new</h1>")?;
        ensure!(client.get("/").await?.success()?.text == "<h1>home</h1>", "a deployed file was changed");
        let single: &str = section("not_found_handling = \"single-page-application\"").leak();
        cluster.deploy(&App { more: single, ..App::default() }).await?;
        ensure!(client.get("/any/where").await?.success()?.text == "<h1>new</h1>");
        Ok(())
    })
}
