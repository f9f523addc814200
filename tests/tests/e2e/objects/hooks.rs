//! Hooks receive the events of objects: signed, in order, at least once, whatever the receiver does.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use berth_common::outcome::ExitReason;
use berth_tests::app::App;
use berth_tests::cluster::{Cluster, Setup};
use berth_tests::receiver::{Manner, Receiver};
use berth_tests::scenario::{Outcome, count, scenario};
use berth_tests::{stored, wait};
use serde_json::{Value, json};

use super::{order, until_ended};

const SECRET: &str = "the hook's own secret";
/// How long the delivery of an event may take on a busy machine, with a few retries.
const PATIENCE: Duration = Duration::from_secs(20);

fn setup() -> Setup {
    Setup { edge_options: vec!["--allow-hooks-to".to_owned(), "127.0.0.0/8".to_owned()], ..Setup::nodes(1) }
}

/// Makes the key file and puts the secret that hooks are signed with.
pub(super) async fn put_secret(cluster: &mut Cluster, name: &str, value: &str) -> Result<()> {
    let state = cluster.directory().join("edge").to_string_lossy().into_owned();
    if !cluster.directory().join("edge/secret.key").exists() {
        let made = cluster.berth(&["secret", "init", "--state", &state]).await?;
        ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        cluster.kill_edge()?;
        cluster.start_edge()?;
        cluster.until_connected().await?;
    }
    let mut command = cluster.command("berth");
    command
        .args(["secret", "put", name, "--app", "hello"])
        .env("BERTH_ADMIN_SOCKET", cluster.admin().socket());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    std::io::Write::write_all(&mut child.stdin.take().context("no input")?, value.as_bytes())?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Lines of `berth.toml` for hooks at this receiver.
pub(super) fn hooks(url: &str, events: &str) -> &'static str {
    Box::leak(
        format!("[containers.hooks]\nurl = \"{url}\"\nsecret = \"HOOK_KEY\"\n{events}\n").into_boxed_str(),
    )
}

async fn deployed(cluster: &mut Cluster, url: &str, events: &str, sleep_after: &'static str) -> Result<()> {
    put_secret(cluster, "HOOK_KEY", SECRET).await?;
    cluster.deploy(&App { more: hooks(url, events), sleep_after, ..App::default() }).await
}

async fn until_received(receiver: &Receiver, name: &str, kinds: &[&str]) -> Result<()> {
    wait::until("the hook to be told", PATIENCE, async || {
        let received = receiver.events_of(name);
        ensure!(received == kinds, "{name}: told {received:?}, expected {kinds:?}");
        Ok(())
    })
    .await
}

async fn pending(cluster: &Cluster) -> Result<Vec<Value>> {
    let answer = cluster.admin().get("/v1/hooks/pending").await?;
    Ok(answer["events"].as_array().cloned().unwrap_or_default())
}

#[test]
fn c5_hooks_receive_start_stop_and_error_signed_and_in_order() -> Outcome {
    scenario(setup(), async |cluster| {
        let receiver = Receiver::start().await?;
        deployed(cluster, &receiver.url(), "", "10m").await?;
        let client = cluster.client();
        client.get("/container/a").await?.success()?;
        until_received(&receiver, "a", &["start"]).await?;
        order(cluster, "a", "stop", &json!({})).await?;
        until_received(&receiver, "a", &["start", "stop"]).await?;
        client.get("/container/b/exit/3").await?.success()?;
        until_received(&receiver, "b", &["start", "error", "stop"]).await?;

        let taken = receiver.taken();
        taken.iter().try_for_each(|received| received.check_signature(SECRET))?;
        ensure!(
            taken.iter().all(|received| received.check_signature("another").is_err()),
            "any secret will do"
        );
        let stop = taken.iter().find(|r| r.about() == ("stop".into(), "a".into())).context("no stop")?;
        ensure!(stop.event["exit"]["reason"] == "stopped" && stop.event["generation"] == 1, "{}", stop.event);
        let error = taken.iter().find(|r| r.about() == ("error".into(), "b".into())).context("no error")?;
        ensure!(error.event["exit"]["code"] == 3 && error.event["app"] == "hello", "{}", error.event);
        // The receiver has an event before the edge has noted that.
        wait::until("all to be told", PATIENCE, async || {
            let left = pending(cluster).await?;
            ensure!(left.is_empty(), "still to be told: {left:?}");
            Ok(())
        })
        .await
    })
}

#[test]
fn c5_a_receiver_that_fails_hangs_and_recovers_gets_all_events_in_order_and_delays_no_other() -> Outcome {
    scenario(setup(), async |cluster| {
        let (bad, good) = (Receiver::start().await?, Receiver::start().await?);
        bad.set(Manner::Fails);
        deployed(cluster, &bad.url(), "", "10m").await?;
        let client = cluster.client();
        client.get("/container/a").await?.success()?;
        wait::until("a second try", PATIENCE, async || {
            ensure!(bad.received().len() >= 2, "tried {} times", bad.received().len());
            Ok(())
        })
        .await?;
        let waiting = pending(cluster).await?;
        ensure!(waiting.len() == 1 && waiting[0]["attempts"].as_u64() >= Some(1), "{waiting:?}");
        ensure!(waiting[0]["last_error"].as_str().is_some_and(|e| e.contains("500")), "{waiting:?}");
        bad.set(Manner::Hangs);
        order(cluster, "a", "stop", &json!({})).await?;

        // Another class of objects has its own receiver, which is not held up.
        cluster.deploy(&App { more: hooks(&good.url(), ""), ..App::default() }).await?;
        client.get("/container/other").await?.success()?;
        until_received(&good, "other", &["start"]).await?;

        bad.set(Manner::Takes);
        until_received(&bad, "a", &["start", "stop"]).await?;
        let ids: Vec<_> = bad.received().iter().map(|received| received.event["id"].clone()).collect();
        ensure!(ids.iter().filter(|id| **id == ids[0]).count() >= 3, "each try has another id: {ids:?}");
        Ok(())
    })
}

#[test]
fn c5_activity_expired_keeps_renewed_instances_and_lets_the_rest_sleep() -> Outcome {
    scenario(setup(), async |cluster| {
        let receiver = Receiver::start().await?;
        receiver.set(Manner::Renews);
        deployed(cluster, &receiver.url(), "events = [\"activity_expired\"]", "1s").await?;
        let first = cluster.client().get("/container/a").await?.success()?.instance()?;
        wait::until("three questions", PATIENCE, async || {
            ensure!(receiver.taken().len() >= 3, "asked {} times", receiver.taken().len());
            Ok(())
        })
        .await?;
        let object = cluster.admin().object("a").await?;
        ensure!(
            object.instance.map(|id| id.to_string()).as_ref() == Some(&first) && object.generation.0 == 1,
            "{object:?}"
        );
        receiver.set(Manner::Takes);
        until_ended(cluster, "a", ExitReason::Idle).await?;
        Ok(())
    })
}

#[test]
fn c5_no_hook_reaches_the_edges_own_network_nor_follows_a_redirect() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        let receiver = Receiver::start().await?;
        deployed(cluster, &receiver.url(), "", "10m").await?;
        let client = cluster.client();
        client.get("/container/plain").await?.success()?;
        let by_name = receiver.url().replace("127.0.0.1", "localhost");
        cluster.deploy(&App { more: hooks(&by_name, ""), ..App::default() }).await?;
        client.get("/container/name").await?.success()?;
        wait::until("both to be refused", PATIENCE, async || {
            let waiting = pending(cluster).await?;
            let refused = waiting.iter().filter(|event| {
                event["last_error"].as_str().is_some_and(|error| error.contains("no public address"))
            });
            ensure!(refused.count() == 2, "{waiting:?}");
            Ok(())
        })
        .await?;
        ensure!(receiver.received().is_empty(), "it was reached");
        Ok(())
    })?;
    scenario(setup(), async |cluster| {
        let (points, target) = (Receiver::start().await?, Receiver::start().await?);
        points.set(Manner::Redirects(target.url()));
        deployed(cluster, &points.url(), "", "10m").await?;
        cluster.client().get("/container/a").await?.success()?;
        wait::until("the redirect to be refused", PATIENCE, async || {
            let waiting = pending(cluster).await?;
            let error = waiting.first().and_then(|event| event["last_error"].as_str()).unwrap_or_default();
            ensure!(error.contains("redirects are not followed"), "{waiting:?}");
            Ok(())
        })
        .await?;
        ensure!(target.received().is_empty(), "it was followed");
        Ok(())
    })
}

#[test]
fn c5_an_event_tried_ten_times_is_set_aside_shown_and_delivered_on_demand() -> Outcome {
    scenario(setup(), async |cluster| {
        let receiver = Receiver::start().await?;
        receiver.set(Manner::Fails);
        deployed(cluster, &receiver.url(), "", "10m").await?;
        for name in ["a", "b"] {
            cluster.client().get(&format!("/container/{name}")).await?.success()?;
            order(cluster, name, "stop", &json!({})).await?;
        }
        wait::until("both to be tried", PATIENCE, async || {
            let waiting = pending(cluster).await?;
            let tried = waiting.iter().filter(|event| event["attempts"].as_u64() >= Some(1));
            ensure!(waiting.len() == 4 && tried.count() == 2, "{waiting:?}");
            Ok(())
        })
        .await?;
        // Nine tries take most of a day.
        let changed = stored::change(cluster, |line| {
            let Some(event) = line.get_mut("event").filter(|event| event["attempts"].as_u64() >= Some(1))
            else {
                return false;
            };
            event["attempts"] = json!(9);
            event["next_ms"] = json!(0);
            true
        });
        ensure!(changed.await? == 2, "the tries were not changed");
        wait::until("both to be set aside", PATIENCE, async || {
            let failed = cluster.admin().get("/v1/hooks/failed").await?;
            ensure!(failed["events"].as_array().map(Vec::len) == Some(2), "{failed}");
            Ok(())
        })
        .await?;
        let shown = cluster.berth(&["hooks", "failed"]).await?;
        let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
        ensure!(shown.contains("hello/Hello/a") && shown.contains("set aside"), "{shown}");

        receiver.set(Manner::Takes);
        until_received(&receiver, "a", &["stop"]).await?;
        let failed = cluster.admin().get("/v1/hooks/failed").await?;
        let id = |name: &str| {
            let events = failed["events"].as_array().into_iter().flatten();
            let mut of =
                events.filter(|event| event["name"] == name).filter_map(|event| event["id"].as_str());
            of.next().map(str::to_owned).with_context(|| format!("{name} was not set aside: {failed}"))
        };
        let retried = cluster.berth(&["hooks", "retry", &id("a")?]).await?;
        ensure!(retried.status.success(), "{}", String::from_utf8_lossy(&retried.stderr));
        until_received(&receiver, "a", &["stop", "start"]).await?;
        let dry = cluster.berth(&["hooks", "discard", "--all", "--dry-run"]).await?;
        ensure!(String::from_utf8_lossy(&dry.stdout).contains("would be forgotten"), "{dry:?}");
        ensure!(cluster.berth(&["hooks", "discard", &id("b")?]).await?.status.success(), "not discarded");
        let again = cluster.berth(&["hooks", "discard", &id("b")?]).await?;
        ensure!(!again.status.success(), "something was discarded twice");
        let left = cluster.admin().get("/v1/hooks/failed").await?;
        ensure!(left["events"] == json!([]), "{left}");
        Ok(())
    })
}

#[test]
fn c5_a_killed_edge_delivers_every_event_at_least_once_and_in_order() -> Outcome {
    scenario(setup(), async |cluster| {
        let receiver = Receiver::start().await?;
        deployed(cluster, &receiver.url(), "", "10m").await?;
        let rounds = count(10, 100);
        for round in 0..rounds {
            let name = format!("r{round}");
            cluster.client().get(&format!("/container/{name}")).await?.success()?;
            // At different moments: while the event is written, sent, or acknowledged.
            tokio::time::sleep(Duration::from_millis(7 * (round as u64 % 7))).await;
            let stopped = cluster.admin();
            let id = super::object_id(&name)?;
            let stop = tokio::spawn(async move {
                stopped.post(&format!("/v1/containers/{id}/stop"), &json!({})).await.map(|(status, _)| status)
            });
            tokio::time::sleep(Duration::from_millis(11 * (round as u64 % 5))).await;
            cluster.kill_edge()?;
            let acknowledged = stop.await.is_ok_and(|answer| answer.is_ok_and(|status| status.is_success()));
            cluster.start_edge()?;
            cluster.until_connected().await?;
            if !acknowledged {
                order(cluster, &name, "stop", &json!({})).await?;
            }
            until_received(&receiver, &name, &["start", "stop"]).await?;
        }
        Ok(())
    })
}
