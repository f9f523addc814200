//! Orders to single objects, over the API and the command line; what objects store and report; the examples.

mod alarms;
mod api;
mod cli;
mod commands;
mod deploys;
mod examples;
mod hooks;
mod kv;
mod life;
mod logs;
mod metrics;
mod power;
mod secrets;
mod usage;
mod versions;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use berth_common::outcome::ExitReason;
use berth_tests::app::App;
use berth_tests::cluster::{Cluster, Setup};
use berth_tests::scenario::{Outcome, scenario};
use berth_tests::wait;
use serde_json::{Value, json};

/// How long an end may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(8);

async fn order(cluster: &Cluster, name: &str, verb: &str, body: &Value) -> Result<Value> {
    let id = object_id(name)?;
    let (status, answer) = cluster.admin().post(&format!("/v1/containers/{id}/{verb}"), body).await?;
    ensure!(status.is_success(), "{verb}: {status}: {answer}");
    Ok(answer)
}

fn object_id(name: &str) -> Result<String> {
    let key =
        berth_common::ids::ObjectKey { app: "hello".parse()?, class: "Hello".parse()?, name: name.parse()? };
    Ok(key.id().to_string())
}

async fn start(cluster: &Cluster, body: &Value) -> Result<(u16, Value)> {
    let (status, answer) = cluster.admin().post("/v1/containers", body).await?;
    Ok((status.as_u16(), answer))
}

async fn until_ended(cluster: &Cluster, name: &str, reason: ExitReason) -> Result<()> {
    let admin = cluster.admin();
    wait::until("the instance to end", PATIENCE, async || {
        let object = admin.object(name).await?;
        ensure!(object.instance.is_none(), "{object:?}");
        let end = object.exit.context("it has no end")?.reason;
        ensure!(end == reason, "it ended for another reason: {end:?}");
        Ok(())
    })
    .await
}

#[test]
fn c1_a_start_gives_one_instance_an_environment_and_an_entrypoint_of_its_own() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        let env = BTreeMap::from([("MESSAGE", "of the class"), ("KEPT", "kept")]);
        cluster.deploy(&App { env, ..App::default() }).await?;
        let client = cluster.client();
        let body = json!({ "app": "hello", "class": "Hello", "name": "own", "env": { "MESSAGE": "mine" } });
        let (status, view) = start(cluster, &body).await?;
        ensure!(status == 200 && view["state"] == "healthy", "{status}: {view}");
        ensure!(client.get("/container/own/env/MESSAGE").await?.success()?.text.trim() == "mine");
        ensure!(client.get("/container/own/env/KEPT").await?.success()?.text.trim() == "kept");

        let (status, problem) = start(cluster, &body).await?;
        ensure!(status == 409, "it was started with something else under a running one: {status} {problem}");
        order(cluster, "own", "stop", &json!({})).await?;
        until_ended(cluster, "own", ExitReason::Stopped).await?;
        let text = client.get("/container/own/env/MESSAGE").await?.success()?.text;
        ensure!(text.trim() == "of the class", "the next instance has the last one's environment: {text}");
        Ok(())
    })
}

#[test]
fn c3_a_stop_asks_the_app_and_destroy_does_not() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&App::default()).await?;
        let client = cluster.client();
        let first = client.get("/container/a").await?.success()?.instance()?;
        order(cluster, "a", "stop", &json!({ "signal": 15, "grace_ms": 5000 })).await?;
        until_ended(cluster, "a", ExitReason::Stopped).await?;
        let logs = cluster.instance_logs(0)?.concat();
        ensure!(logs.contains("ended in good order"), "the app was not asked:\n{logs}");
        let second = client.get("/container/a").await?.success()?.instance()?;
        ensure!(first != second, "a stopped instance answers");

        client.get("/container/b").await?.success()?;
        order(cluster, "b", "destroy", &Value::Null).await?;
        until_ended(cluster, "b", ExitReason::Destroyed).await?;
        // Once more for an instance that has ended: nothing to do.
        order(cluster, "b", "destroy", &Value::Null).await?;
        Ok(())
    })
}

#[test]
fn b1_manual_start_refuses_requests_until_somebody_starts_the_object() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&App { more: "manual_start = true", ..App::default() }).await?;
        let client = cluster.client();
        let refused = client.get("/container/m").await?;
        ensure!(refused.status == 503 && refused.text.contains("manual_start"), "{}", refused.text);
        let (status, view) =
            start(cluster, &json!({ "app": "hello", "class": "Hello", "name": "m" })).await?;
        ensure!(status == 200, "{status}: {view}");
        client.get("/container/m").await?.success()?;
        order(cluster, "m", "destroy", &Value::Null).await?;
        until_ended(cluster, "m", ExitReason::Destroyed).await?;
        ensure!(client.get("/container/m").await?.status == 503, "a request started it");
        Ok(())
    })
}

#[test]
fn c2_renew_counts_as_activity() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&App { sleep_after: "3s", ..App::default() }).await?;
        let first = cluster.client().get("/container/r").await?.success()?.instance()?;
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            order(cluster, "r", "renew", &Value::Null).await?;
        }
        let object = cluster.admin().object("r").await?;
        ensure!(
            object.instance.map(|id| id.to_string()).as_ref() == Some(&first),
            "it slept in spite of renewals: {object:?}"
        );
        until_ended(cluster, "r", ExitReason::Idle).await
    })
}

#[test]
fn wrong_orders_are_refused_with_the_reason() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&App::default()).await?;
        let wrong = [
            (404, json!({ "app": "hello", "class": "Other", "name": "x" }), "Other"),
            (400, json!({ "app": "hello", "class": "Hello", "name": "x", "colour": 1 }), "colour"),
            (400, json!({ "app": "hello", "class": "Hello", "name": "a\u{7}" }), "not allowed"),
            (422, json!({ "app": "hello", "class": "Hello", "name": "x", "env": { "": "v" } }), "env"),
            (422, json!({ "app": "hello", "class": "Hello", "name": "x", "entrypoint": [] }), "entrypoint"),
        ];
        for (expected, body, word) in wrong {
            let (status, problem) = start(cluster, &body).await?;
            ensure!(status == expected && problem.to_string().contains(word), "{body}: {status} {problem}");
        }
        let admin = cluster.admin();
        let nobody = format!("/v1/containers/{}/stop", object_id("nobody")?);
        for (expected, path, body) in [
            (404, nobody.as_str(), json!({})),
            (400, "/v1/containers/short/stop", json!({})),
            (422, nobody.as_str(), json!({ "signal": 99 })),
        ] {
            let (status, problem) = admin.post(path, &body).await?;
            ensure!(status.as_u16() == expected, "{path} {body}: {status} {problem}");
        }
        Ok(())
    })
}

/// Routes that come before the app's own, one for each property of a request that can select a route.
const ROUTES: &str = r#"
[[routes]]
hosts = ["{room}.example.com"]
path = "/*"
class = "Hello"
object = "{room}"

[[routes]]
methods = ["GET"]
path = "/me/*"
class = "Hello"
object = { header = "x-user" }

[[routes]]
path = "/session/*"
class = "Hello"
object = { cookie = "session" }

[[routes]]
path = "/asked/*"
class = "Hello"
object = { query = "for" }

[[routes]]
path = "/any/*"
class = "Hello"
object = { random = 2 }
"#;

/// Sends a request with these head lines and returns the response's status and all of its text.
async fn raw(cluster: &Cluster, line: &str, headers: &str) -> Result<(u16, String)> {
    let request = format!("{line} HTTP/1.1\r\nconnection: close\r\n{headers}\r\n");
    let answer = cluster.client().raw(request.as_bytes()).await?;
    let status = answer.split(' ').nth(1).context("no status")?.parse()?;
    Ok((status, answer))
}

#[test]
fn d1_objects_are_named_by_host_header_cookie_and_query() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&App { more: ROUTES, ..App::default() }).await?;
        let cases = [
            ("GET /instance", "host: Blue.example.com\r\n", "blue"),
            ("GET /me/instance", "host: x\r\nx-user: ann\r\n", "ann"),
            ("GET /session/instance", "host: x\r\ncookie: a=b; session=s1\r\n", "s1"),
            ("GET /asked/instance?for=some%20one", "host: x\r\n", "some one"),
        ];
        for (line, headers, name) in cases {
            let (status, answer) = raw(cluster, line, headers).await?;
            ensure!(status == 200, "{line}: {answer}");
            let instance = cluster.admin().object(name).await?.instance.context("no instance")?.to_string();
            ensure!(answer.contains(&instance), "{line} went elsewhere than to {name}: {answer}");
        }
        for (line, headers, expected) in [
            ("GET /me/x", "host: x\r\n", 400),
            ("GET /me/x", "host: x\r\nx-user: ann\r\nx-user: bob\r\n", 400),
            ("POST /me/x", "host: x\r\nx-user: ann\r\ncontent-length: 0\r\n", 405),
            ("GET /instance", "host: example.com\r\n", 404),
        ] {
            let (status, answer) = raw(cluster, line, headers).await?;
            ensure!(status == expected, "{line}: {answer}");
        }
        Ok(())
    })
}

#[test]
fn d2_random_spreads_over_interchangeable_objects() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&App { more: ROUTES, ..App::default() }).await?;
        let client = cluster.client();
        let mut instances = std::collections::BTreeSet::new();
        for _ in 0..40 {
            instances.insert(client.get("/any/instance").await?.success()?.instance()?);
        }
        let objects = cluster.admin().objects().await?;
        let names: std::collections::BTreeSet<_> =
            objects.iter().map(|object| object.name.as_str()).collect();
        ensure!(instances.len() == 2 && names == ["0", "1"].into(), "{instances:?} {names:?}");
        Ok(())
    })
}

#[test]
fn d1_new_routes_take_effect_without_a_failed_request() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&App::default()).await?;
        let client = cluster.client();
        let first = client.get("/container/a").await?.success()?.instance()?;
        ensure!(client.get("/any/instance").await?.status == 404);
        let load = async {
            let mut requests = 0;
            for _ in 0..300 {
                let answer = client.get("/container/a").await?.success()?.instance()?;
                ensure!(answer == first, "another instance answers");
                requests += 1;
            }
            Ok(requests)
        };
        let deploys = async {
            for more in [ROUTES, "", ROUTES] {
                cluster.deploy(&App { more, ..App::default() }).await?;
            }
            anyhow::Ok(())
        };
        let (requests, deployed) = tokio::join!(load, deploys);
        deployed?;
        ensure!(requests? == 300);
        client.get("/any/instance").await?.success()?;
        Ok(())
    })
}

/// The output of a command that must succeed.
async fn berth(cluster: &Cluster, args: &[&str]) -> Result<String> {
    let output = cluster.berth(args).await?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "berth {}: {stderr}", args.join(" "));
    Ok(String::from_utf8(output.stdout)?)
}

#[test]
fn the_command_controls_objects_by_name_and_by_id() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&App::default()).await?;
        let object = "hello/Hello/a/b";
        let start = ["containers", "start", object, "--env", "MESSAGE=by hand", "--json"];
        let view: Value = serde_json::from_str(&berth(cluster, &start).await?)?;
        ensure!(view["state"] == "healthy" && view["name"] == "a/b", "{view}");
        let message = cluster.client().get("/container/a%2Fb/env/MESSAGE").await?.success()?.text;
        ensure!(message.trim() == "by hand", "{message}");

        let id = object_id("a/b")?;
        ensure!(berth(cluster, &["containers", "info", &id]).await?.contains("healthy"));
        berth(cluster, &["containers", "renew", object]).await?;
        berth(cluster, &["containers", "stop", object, "--signal", "term", "--grace", "5s"]).await?;
        until_ended(cluster, "a/b", ExitReason::Stopped).await?;
        let table = berth(cluster, &["containers", "info", object]).await?;
        ensure!(table.contains("stopped (code 0)"), "{table}");

        let failed = cluster.berth(&["containers", "renew", object]).await?;
        ensure!(failed.status.code() == Some(1), "{failed:?}");
        let wrong = cluster.berth(&["containers", "destroy", "hello/Hello"]).await?;
        ensure!(wrong.status.code() == Some(2), "{wrong:?}");
        Ok(())
    })
}

#[test]
fn b4_containers_know_where_they_run() -> Outcome {
    let agent_options = vec!["--country", "CH", "--region", "weur", "--location", "Zürich 1"];
    let setup = Setup { agent_options, ..Setup::nodes(1) };
    scenario(setup, async |cluster| {
        let env = BTreeMap::from([("CLOUDFLARE_REGION", "mine")]);
        cluster.deploy(&App { env, ..App::default() }).await?;
        let client = cluster.client();
        let env = async |name: &str| -> Result<String> {
            Ok(client.get(&format!("/container/t/env/{name}")).await?.success()?.text.trim().to_owned())
        };
        let instance = client.get("/container/t/instance").await?.success()?.instance()?;
        let placement = format!("{}-1", object_id("t")?);
        for (name, value) in [
            ("COUNTRY_A2", "CH"),
            ("LOCATION", "Zürich 1"),
            ("NODE_ID", "n1"),
            ("DEPLOYMENT_ID", instance.as_str()),
            ("PLACEMENT_ID", placement.as_str()),
        ] {
            for prefix in ["BERTH_", "CLOUDFLARE_"] {
                let found = env(&format!("{prefix}{name}")).await?;
                ensure!(found == value, "{prefix}{name} is {found:?} instead of {value:?}");
            }
        }
        ensure!(env("BERTH_REGION").await? == "weur" && env("CLOUDFLARE_REGION").await? == "mine");
        Ok(())
    })
}
