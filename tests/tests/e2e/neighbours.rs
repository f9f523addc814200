//! What one tenant's clients do to a line that all share, and that nobody else notices.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use berth_api::containers::ContainerView;
use berth_tests::app::App;
use berth_tests::attack::{Uploads, requests_of_another, unread_downloads, websockets};
use berth_tests::cluster::{Cluster, Setup};
use berth_tests::scenario::{Outcome, count, scenario};
use berth_tests::wait;
use serde_json::json;

/// The longest that anybody else's request, or an order, may take.
const SOON: Duration = Duration::from_secs(1);
/// Containers of the attacked app that have WebSockets: each may have some thousand files open.
const OBJECTS: usize = 6;
/// How long the first uploads and downloads may take to be cut once the shares are used up: the edge's patience, and the
/// time to notice.
const CUT_TIMEOUT: Duration = Duration::from_secs(25);

/// An app whose clients attack, and another.
async fn deploy(cluster: &Cluster) -> Result<()> {
    let greedy = App { name: "greedy", prefix: "greedy", memory: "1GiB", vcpu: 2.0, ..App::default() };
    let other = App { name: "other", prefix: "other", ..App::default() };
    for app in [greedy, other] {
        cluster.deploy(&app).await?;
        cluster.client().get(&format!("/{}/1/status/200", app.prefix)).await?.success()?;
    }
    Ok(())
}

/// Nobody else's request takes long for a while, nor does an order to the attacked container.
async fn expect_others_served(cluster: &mut Cluster) -> Result<()> {
    let lasting = Duration::from_secs(count(8, 60) as u64);
    let took = requests_of_another(cluster.client(), "/other/1/status/200", lasting).await?;
    let worst = took.iter().max().copied().unwrap_or_default();
    println!("{} requests of another app, at most {worst:?}", took.len());
    ensure!(worst < SOON, "a request of another app took {worst:?}");
    let id = object_id(cluster).await?;
    let ordered = Instant::now();
    let (status, told) =
        cluster.admin().post(&format!("/v1/containers/{id}/signal"), &json!({ "signal": 28 })).await?;
    ensure!(status.is_success(), "{status}: {told}");
    ensure!(ordered.elapsed() < SOON, "an order took {:?}", ordered.elapsed());
    let ordered = Instant::now();
    cluster.admin().post(&format!("/v1/containers/{id}/destroy"), &json!({})).await?;
    wait::until("the end of the container", SOON, async || {
        let there = cluster.admin().objects().await?;
        let running = there.iter().any(|view| view.id.to_string() == id && view.instance.is_some());
        ensure!(!running, "it runs");
        Ok(())
    })
    .await?;
    println!("the order to end it took {:?}", ordered.elapsed());
    let log = cluster.edge()?.log();
    ensure!(!log.contains("connection to node lost"), "a link was lost");
    cluster.expect_all_alive()
}

/// The id of the attacked object.
async fn object_id(cluster: &Cluster) -> Result<String> {
    let there = cluster.admin().objects().await?;
    let is_attacked = |view: &&ContainerView| view.app.as_str() == "greedy" && view.name.as_str() == "1";
    let greedy = there.iter().find(is_attacked).context("it has no object")?;
    Ok(greedy.id.to_string())
}

#[test]
fn uploads_that_an_app_never_reads_and_thousands_of_websockets_hurt_nobody_else() -> Outcome {
    scenario(Setup { log: "info", ..Setup::nodes(1) }, async |cluster| {
        deploy(cluster).await?;
        let uploads = Uploads::begin(cluster.address(), "/greedy/1/slow/600", 70).await?;
        let (open, refused) = websockets(cluster.address(), "greedy", OBJECTS, 5000).await?;
        println!("{} WebSockets opened, {refused} were refused", open.len());
        ensure!(open.len() > 4000, "{} opened, {refused} were refused", open.len());
        expect_others_served(cluster).await?;
        drop((uploads, open));
        Ok(())
    })
}

#[test]
fn downloads_that_clients_do_not_read_hurt_nobody_else() -> Outcome {
    scenario(Setup { log: "info", ..Setup::nodes(1) }, async |cluster| {
        deploy(cluster).await?;
        let path = "/greedy/1/bytes/10737418240";
        let unread = unread_downloads(cluster.address(), path, 200).await?;
        expect_others_served(cluster).await?;
        drop(unread);
        Ok(())
    })
}

/// The first answer to an upload that the app had taken: of more connections than fit its backlog, some are answered 502 sooner.
async fn first_cut(uploads: &mut Uploads) -> Result<String> {
    loop {
        let answer = uploads.next_answer().await?;
        if !answer.starts_with("HTTP/1.1 502") {
            return Ok(answer);
        }
    }
}

#[test]
fn uploads_beyond_the_share_of_unread_bytes_are_answered_503() -> Outcome {
    scenario(Setup { log: "info", ..Setup::nodes(1) }, async |cluster| {
        deploy(cluster).await?;
        // While it burns, the app neither reads nor answers.
        let client = cluster.client();
        let burning = tokio::spawn(async move { client.get("/greedy/1/burn/60000").await });
        let mut uploads = Uploads::begin(cluster.address(), "/greedy/1/sink", 150).await?;
        let answer = tokio::time::timeout(CUT_TIMEOUT, first_cut(&mut uploads)).await??;
        ensure!(answer.starts_with("HTTP/1.1 503") && answer.contains("retry-after: 1"), "answered {answer}");
        ensure!(answer.contains("does not read"), "answered {answer}");
        requests_of_another(cluster.client(), "/other/1/status/200", SOON).await?;
        burning.abort();
        cluster.expect_all_alive()
    })
}
