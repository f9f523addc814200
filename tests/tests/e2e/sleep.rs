//! Sleep: an instance without activity ends, one with activity never does.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use berth_api::containers::ContainerState;
use berth_common::outcome::ExitReason;
use berth_tests::app::App;
use berth_tests::cluster::{Cluster, Setup};
use berth_tests::scenario::{Outcome, scenario};
use berth_tests::wait;
use http_body_util::{BodyExt, Empty};
use hyper::Method;

/// `sleep_after` of the apps here.
const SLEEP_AFTER: Duration = Duration::from_secs(2);
/// How long after `sleep_after` an instance must have ended, on a busy machine.
const SLACK: Duration = Duration::from_secs(8);
/// More than any client here reads.
const ENDLESS: &str = "/container/aborted/bytes/10000000000";

fn app() -> App {
    App { sleep_after: "2s", ..App::default() }
}

/// Waits until an object's instance has been put to sleep.
async fn until_asleep(cluster: &Cluster, name: &str) -> Result<()> {
    let admin = cluster.admin();
    wait::until("the instance to be put to sleep", SLEEP_AFTER + SLACK, async || {
        let object = admin.object(name).await?;
        ensure!(object.state == ContainerState::Stopped, "{object:?}");
        let reason = object.exit.context("it is stopped without telling how it ended")?.reason;
        ensure!(reason == ExitReason::Idle, "it ended for another reason: {reason:?}");
        Ok(())
    })
    .await
}

#[test]
fn an_idle_instance_gets_sigterm_and_the_next_request_starts_a_fresh_one() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&app()).await?;
        let client = cluster.client();
        let first = client.put("/container/idle/file", "left here").await?.success()?;
        ensure!(
            client.get("/container/idle/file").await?.success()?.text == "left here",
            "the file was lost"
        );
        let idle = Instant::now();
        until_asleep(cluster, "idle").await?;
        ensure!(idle.elapsed() >= Duration::from_secs(1), "it slept {:?} after activity", idle.elapsed());
        let logs = cluster.instance_logs(0)?.concat();
        ensure!(logs.contains("ended in good order"), "the app was not asked to end by SIGTERM:\n{logs}");

        let second = client.get("/container/idle/file").await?;
        ensure!(second.status == 404, "the new instance has the old one's disk: {}", second.text);
        ensure!(second.instance()? != first.instance()?, "the instance id was used twice");
        ensure!(second.headers["x-boot"] != first.headers["x-boot"], "it is still the same process");
        Ok(())
    })
}

#[test]
fn a_client_that_aborts_a_download_lets_the_instance_sleep_on_time() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&app()).await?;
        let mut response = cluster.client().send(Method::GET, ENDLESS, Empty::new().boxed()).await?;
        for _ in 0..20 {
            response.body_mut().frame().await.context("the download ended early")??;
        }
        // Longer than sleep_after: a response in flight keeps the instance, also while the client reads slowly.
        tokio::time::sleep(SLEEP_AFTER + Duration::from_secs(1)).await;
        let object = cluster.admin().object("aborted").await?;
        ensure!(object.state == ContainerState::Healthy, "{object:?}");
        drop(response);
        until_asleep(cluster, "aborted").await
    })
}

#[test]
fn a_slow_response_is_never_cut_by_a_short_sleep_after() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&app()).await?;
        let client = cluster.client();
        let slow = client.get("/container/patient/slow/20").await?.success()?;
        ensure!(slow.text == ".".repeat(20), "the response was cut to {:?}", slow.text);
        let after = client.get("/container/patient/instance").await?.success()?;
        ensure!(after.instance()? == slow.instance()?, "the instance was replaced under the response");
        until_asleep(cluster, "patient").await
    })
}

#[test]
fn requests_now_and_then_keep_an_instance() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&app()).await?;
        let client = cluster.client();
        let first = client.get("/container/busy").await?.success()?.instance()?;
        for _ in 0..8 {
            tokio::time::sleep(SLEEP_AFTER / 4).await;
            let again = client.get("/container/busy").await?.success()?.instance()?;
            ensure!(again == first, "it was replaced while it was in use");
        }
        Ok(())
    })
}

/// `node`, `python -m http.server` and `sh -c` do nothing on SIGTERM either.
#[test]
fn a_request_does_not_wait_for_the_grace_of_an_app_that_ignores_its_end() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        let env = BTreeMap::from([("IGNORE_TERM", "1")]);
        let more = "wake_grace = \"2s\"";
        cluster.deploy(&App { sleep_after: "1s", env, more, ..App::default() }).await?;
        let first = cluster.client().get("/container/deaf").await?.success()?.instance()?;
        let admin = cluster.admin();
        wait::until("the instance to be told to end", SLEEP_AFTER + SLACK, async || {
            let object = admin.object("deaf").await?;
            ensure!(object.state == ContainerState::Stopping, "{object:?}");
            Ok(())
        })
        .await?;
        let asked = Instant::now();
        let second = cluster.client().get("/container/deaf").await?.success()?.instance()?;
        ensure!(second != first, "an instance that ends has answered");
        ensure!(asked.elapsed() >= Duration::from_secs(1), "it was killed after {:?}", asked.elapsed());
        Ok(())
    })
}
