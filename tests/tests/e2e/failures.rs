//! What goes wrong with an app is reported in the HTTP response, in the object's state and in the log, and mended by
//! the next request where it can be.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use berth_api::containers::{ContainerState, ContainerView};
use berth_common::outcome::ExitReason;
use berth_tests::app::App;
use berth_tests::client::Answer;
use berth_tests::cluster::{Cluster, Setup};
use berth_tests::scenario::{Outcome, scenario};
use berth_tests::wait;
use serde_json::json;

/// How long a change of state may take to be seen.
const SEEN_WITHIN: Duration = Duration::from_secs(10);

async fn until_state(cluster: &Cluster, name: &str, state: ContainerState) -> Result<ContainerView> {
    let admin = cluster.admin();
    wait::until(&format!("{name} to be {state}"), SEEN_WITHIN, async || {
        let object = admin.object(name).await?;
        ensure!(object.state == state, "{object:?}");
        Ok(object)
    })
    .await
}

fn expect_failure(answer: &Answer, words: &str) -> Result<()> {
    ensure!(answer.status == 500, "{}: {}", answer.status, answer.text);
    ensure!(answer.text.contains(words), "the answer does not say {words:?}: {}", answer.text);
    Ok(())
}

/// Fails unless one of the daemons has logged this text.
fn expect_logged(cluster: &Cluster, words: &str) -> Result<()> {
    let logs = [cluster.agent(0)?.log(), cluster.supervisor(0)?.log(), cluster.edge()?.log()];
    ensure!(logs.iter().any(|log| log.contains(words)), "no daemon has logged {words:?}");
    Ok(())
}

#[test]
fn an_app_that_exits_is_shown_with_its_code_and_started_again() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&App::default()).await?;
        let client = cluster.client();
        let first = client.get("/container/fickle/exit/3").await?.success()?.instance()?;
        let object = until_state(cluster, "fickle", ContainerState::StoppedWithCode).await?;
        let exit = object.exit.context("it does not tell how it ended")?;
        ensure!((exit.reason, exit.code) == (ExitReason::Exit, Some(3)), "{exit:?}");
        let second = client.get("/container/fickle").await?.success()?.instance()?;
        ensure!(second != first, "the instance id was used twice");
        ensure!(cluster.admin().object("fickle").await?.generation.0 == 2, "it was not started anew");

        client.get("/container/fickle/exit/0").await?.success()?;
        let exit = until_state(cluster, "fickle", ContainerState::Stopped).await?.exit.context("no exit")?;
        ensure!((exit.reason, exit.code) == (ExitReason::Exit, Some(0)), "{exit:?}");
        Ok(())
    })
}

#[test]
fn an_app_that_never_opens_its_port_is_reported_after_the_port_timeout() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        let env = BTreeMap::from([("NEVER_LISTEN", "1")]);
        cluster.deploy(&App { port_timeout: "2s", env, ..App::default() }).await?;
        let asked = Instant::now();
        let answer = cluster.client().get("/container/mute").await?;
        let waited = asked.elapsed();
        expect_failure(&answer, "8080")?;
        ensure!((2..20).contains(&waited.as_secs()), "the answer came after {waited:?}");
        let object = until_state(cluster, "mute", ContainerState::Stopped).await?;
        let reason = object.exit.context("it does not tell how it ended")?.reason;
        ensure!(reason == ExitReason::StartFailed, "{reason:?}");
        Ok(())
    })
}

#[test]
fn an_image_that_was_not_pushed_is_not_deployed_and_running_containers_stay() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&App::default()).await?;
        let admin = cluster.admin();
        let mut app = admin.get("/v1/apps").await?["apps"][0]["spec"].take();
        let digest = format!("sha256:{}", "0".repeat(64));
        app["classes"]["Hello"]["image"]["digest"] = json!(digest);
        let (status, answer) = admin.put("/v1/apps/hello", &app).await?;
        ensure!(status.as_u16() == 422, "{status}: {answer}");
        let answer = answer.to_string();
        ensure!(answer.contains(&digest) && answer.contains("image.digest"), "{answer}");
        cluster.client().get("/container/one").await?.success().map(drop)
    })
}

#[test]
fn an_entrypoint_that_is_not_in_the_image_is_reported_in_the_response_and_in_the_log() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&App { entrypoint: Some(vec!["/no/such/program"]), ..App::default() }).await?;
        expect_failure(&cluster.client().get("/container/lost").await?, "/no/such/program")?;
        expect_logged(cluster, "/no/such/program")?;
        // The next version is right, and the same object starts.
        cluster.deploy(&App::default()).await?;
        cluster.client().get("/container/lost").await?.success()?;
        Ok(())
    })
}

#[test]
fn more_instances_than_a_class_may_have_are_refused_for_now() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&App { max_instances: Some(1), sleep_after: "1s", ..App::default() }).await?;
        let client = cluster.client();
        client.get("/container/first").await?.success()?;
        let refused = client.get("/container/second").await?;
        ensure!(refused.status == 503, "{}: {}", refused.status, refused.text);
        ensure!(refused.headers.contains_key("retry-after"), "{:?}", refused.headers);
        wait::until("room for the second", SEEN_WITHIN, async || {
            client.get("/container/second").await?.success().map(drop)
        })
        .await
    })
}
