//! The README of every example is true: its commands run as they stand, with the output that it shows.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use berth_tests::cluster::{Cluster, Setup};
use berth_tests::guide::Guide;
use berth_tests::scenario::{Outcome, scenario};
use berth_tests::{stored, wait};
use serde_json::json;

/// The top of the repository.
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
/// How long a deployed cron may take to be stored on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
/// A cron that last ran so long ago is due.
const TWO_MINUTES_MS: u64 = 2 * 60_000;

/// One scenario an example, which follows all of its README.
macro_rules! follow {
    ($($scenario:ident: $example:literal,)*) => {
        $(
            #[test]
            fn $scenario() -> Outcome {
                example($example, async |_, guide| guide.rest().await)
            }
        )*
        const FOLLOWED: &[&str] = &[CRON, WORKER_CRON, $($example),*];
    };
}

follow! {
    examples_hello_answers_streams_fails_and_is_started_again: "hello",
    examples_stateless_spreads_requests_over_three_containers: "stateless",
    examples_static_frontend_serves_a_page_and_asks_its_backend: "static-frontend",
    examples_worker_answers_beside_its_static_files: "worker",
    examples_worker_containers_are_started_by_their_worker: "worker-containers",
    examples_worker_hono_routes_requests_to_containers: "worker-hono",
    examples_worker_env_and_secrets_reach_all_containers_or_one: "worker-env-and-secrets",
    examples_worker_websocket_echoes_in_a_room: "worker-websocket",
    examples_worker_static_frontend_serves_a_page_and_asks_its_backend: "worker-static-frontend",
    examples_env_and_secrets_reach_all_containers_or_one: "env-and-secrets",
    examples_status_hooks_are_received_and_verified: "status-hooks",
    examples_websocket_echoes_in_a_room: "websocket",
    examples_multiple_ports_are_reached_by_routes_and_by_the_command: "multiple-ports",
    examples_short_lived_job_tells_its_result_and_ends: "short-lived-job",
}

const CRON: &str = "cron";
const WORKER_CRON: &str = "worker-cron";

/// A cluster as `./dev up` makes it, with an example's README open.
fn example(name: &str, steps: impl AsyncFnOnce(&mut Cluster, &mut Guide) -> Result<()>) -> Outcome {
    let edge_options = vec!["--allow-hooks-to".to_owned(), "127.0.0.0/8".to_owned()];
    scenario(Setup { edge_options, ..Setup::nodes(2) }, async |cluster| {
        let state = cluster.directory().join("edge").to_string_lossy().into_owned();
        let made = cluster.berth(&["secret", "init", "--state", &state]).await?;
        ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let mut guide = Guide::open(cluster, name)?;
        steps(cluster, &mut guide).await
    })
}

#[test]
fn examples_cron_starts_its_container_with_the_moment() -> Outcome {
    example(CRON, async |cluster, guide| {
        guide.step().await?;
        pass_two_minutes(cluster, CRON).await?;
        guide.rest().await
    })
}

#[test]
fn examples_worker_cron_starts_a_container_that_ends() -> Outcome {
    example(WORKER_CRON, async |cluster, guide| {
        // The first looks at it, the second deploys it.
        guide.step().await?;
        guide.step().await?;
        pass_two_minutes(cluster, WORKER_CRON).await?;
        guide.rest().await
    })
}

/// The reader of a cron's README waits two minutes; here they have passed while the edge was down.
async fn pass_two_minutes(cluster: &mut Cluster, app: &str) -> Result<()> {
    let admin = cluster.admin();
    wait::until("the cron to be stored", PATIENCE, async || {
        let crons = admin.get(&format!("/v1/apps/{app}/crons")).await?;
        ensure!(crons["crons"][0]["next_ms"].is_u64(), "{crons}");
        Ok(())
    })
    .await?;
    wait::until("its mark to be set back", PATIENCE, async || {
        let changed = stored::change(cluster, |line| {
            let Some(last) = line.get_mut("cron").and_then(|cron| cron.get_mut("last_ms")) else {
                return false;
            };
            *last = json!(last.as_u64().unwrap_or_default() - TWO_MINUTES_MS);
            true
        });
        ensure!(changed.await? == 1, "no mark of the cron is stored");
        Ok(())
    })
    .await
}

#[test]
fn examples_are_all_followed_and_in_the_list_of_the_readme() -> Outcome {
    Ok(check_list()?)
}

fn check_list() -> Result<()> {
    let entries = fs::read_dir(format!("{ROOT}/examples"))?.collect::<Result<Vec<_>, _>>()?;
    let folders = entries.iter().filter(|entry| entry.path().is_dir());
    let found: BTreeSet<_> = folders.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    let followed: BTreeSet<_> = FOLLOWED.iter().map(|name| (*name).to_owned()).collect();
    ensure!(found == followed, "there are {found:?}, and followed are {followed:?}");
    let readme = fs::read_to_string(format!("{ROOT}/README.md")).context("read README.md")?;
    for name in found {
        ensure!(readme.contains(&format!("| [{name}](examples/{name}) |")), "README.md does not list {name}");
    }
    Ok(())
}
