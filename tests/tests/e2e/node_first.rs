//! The first process of a container: with an init above the app or without, a signal does what it does anywhere, and what
//! is told of the end is the app's own.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use berth_common::outcome::{self, ExitReason};
use berth_tests::app::App;
use berth_tests::cluster::{Cluster, Setup};
use berth_tests::image::{self, Layer, architecture};
use berth_tests::programs::PROBE;
use berth_tests::scenario::{Outcome, scenario};
use berth_tests::wait;
use serde_json::json;

/// How long an instance may take to end: its grace is a quarter of an hour.
const END_TIMEOUT: Duration = Duration::from_secs(10);
const WITHOUT: &str = "init = false";

fn app(name: &'static str, more: &'static str, variable: Option<&'static str>) -> App {
    let env = variable.map_or_else(BTreeMap::new, |name| BTreeMap::from([(name, "1")]));
    App { program: PROBE, name, prefix: name, memory: "64MiB", more, env, ..App::default() }
}

/// What is told of the end of the object of this name, which is the app's too.
async fn end_of(cluster: &Cluster, name: &str) -> Result<outcome::Outcome> {
    let admin = cluster.admin();
    wait::until("the instance to have ended", END_TIMEOUT, async || {
        let object = admin.object(name).await?;
        ensure!(object.instance.is_none(), "{object:?}");
        object.exit.clone().context("it tells no end")
    })
    .await
}

/// Stops it as an operator does.
async fn stop(cluster: &Cluster, name: &str) -> Result<outcome::Outcome> {
    let stopped = cluster.berth(&["containers", "stop", &format!("{name}/Hello/{name}")]).await?;
    ensure!(stopped.status.success(), "{}", String::from_utf8_lossy(&stopped.stderr));
    end_of(cluster, name).await
}

async fn look(cluster: &Cluster, name: &str, what: &str) -> Result<String> {
    Ok(cluster.client().get(&format!("/{name}/{name}/look/{what}")).await?.success()?.text)
}

#[test]
fn an_app_that_handles_no_signal_ends_by_the_one_that_it_is_sent() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        for (name, more) in [("with", ""), ("without", WITHOUT)] {
            cluster.deploy(&app(name, more, Some("NO_HANDLER"))).await?;
            look(cluster, name, "pid?").await?;
            let end = stop(cluster, name).await?;
            ensure!(end.signal == Some(15) && end.reason == ExitReason::Stopped, "{name}: {end:?}");
        }
        // What waits for a signal without a handler is let have it.
        cluster.deploy(&app("waits", WITHOUT, Some("WAIT_FOR_SIGNALS"))).await?;
        look(cluster, "waits", "pid?").await?;
        let end = stop(cluster, "waits").await?;
        ensure!(end.code == Some(0), "waits: {end:?}");
        Ok(())
    })
}

#[test]
fn the_end_that_is_told_is_the_apps_with_an_init_and_without() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        for (name, more, pid) in [("with", "", "ok 2 leads"), ("without", WITHOUT, "ok 1 leads")] {
            cluster.deploy(&app(name, more, None)).await?;
            let told = look(cluster, name, "pid?").await?;
            ensure!(told == pid, "{name} runs as {told}");
            let names = ["variable?BERTH_APP", "variable?BERTH_OBJECT_NAME"];
            for variable in names {
                let told = look(cluster, name, variable).await?;
                ensure!(told == format!("ok {name}"), "{variable}: {told}");
            }
            let reaped = look(cluster, name, "orphan?").await?;
            ensure!((reaped == "ok") == more.is_empty(), "{name}: what has lost its parent: {reaped}");
            let _ = look(cluster, name, "exit?7").await;
            let end = end_of(cluster, name).await?;
            ensure!(end.code == Some(7) && end.reason == ExitReason::Exit, "{name}: {end:?}");
            look(cluster, name, "pid?").await?;
        }
        // A first process itself does not get this one.
        let _ = look(cluster, "with", "raise?10").await;
        let end = end_of(cluster, "with").await?;
        ensure!(end.signal == Some(10) && end.reason == ExitReason::Signal, "{end:?}");
        Ok(())
    })
}

#[test]
fn the_signal_that_stops_is_the_one_that_the_image_names() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        let program = std::fs::read(cluster.program(PROBE))?;
        for (name, more) in [("with", ""), ("without", WITHOUT)] {
            let layer = Layer::default().directory("app").file("app/probe", 0o755, &program);
            let config = json!({"Entrypoint": ["/app/probe"], "StopSignal": "SIGQUIT"});
            let directory = cluster.make_directory(&format!("image-{name}"))?;
            let image = image::write(&directory, vec![layer], config, architecture())?;
            let app = App { image: Some(image), ..app(name, more, Some("WAIT_FOR_SIGNALS")) };
            cluster.deploy(&app).await?;
            look(cluster, name, "pid?").await?;
            let end = stop(cluster, name).await?;
            ensure!(end.code == Some(0), "{name}: {end:?}");
            let logs = cluster.berth(&["logs", &format!("{name}/Hello/{name}")]).await?;
            let logs = String::from_utf8_lossy(&logs.stdout).into_owned();
            ensure!(logs.contains("got signal 3"), "{name}: {logs}");
        }
        Ok(())
    })
}
