//! How many objects that have never run the requests of a client may start, and that those which are refused leave
//! nothing behind.

use anyhow::{Context, Result, ensure};
use berth_tests::app::App;
use berth_tests::client::{Answer, Client};
use berth_tests::cluster::{Cluster, Setup};
use berth_tests::metrics::Page;
use berth_tests::scenario::{Outcome, scenario};
use serde_json::Value;

/// Three new objects at once, and one more each minute: none within a test.
const THREE: &str = "[start_rate]\nper_address = { per_minute = 1, burst = 3 }";

/// A request by one client of the crowd.
async fn ask(cluster: &Cluster, client: u8, name: &str, headers: &[(&'static str, &str)]) -> Result<Answer> {
    let stream = cluster.crowd()?.connect(client, cluster.address().port(), 1)?.remove(0);
    Client::over(stream, &format!("/container/{name}"), headers).await
}

fn expect_refused(answer: &Answer) -> Result<()> {
    ensure!(answer.status == 429, "{answer:?}");
    let wait: u64 = answer.headers.get("retry-after").context("no Retry-After")?.to_str()?.parse()?;
    ensure!((1..=60).contains(&wait), "{answer:?}");
    ensure!(answer.text.contains("start_rate"), "{answer:?}");
    Ok(())
}

/// Objects that the edge has in memory, and writes that it has made.
async fn figures(cluster: &Cluster) -> Result<(f64, f64)> {
    let page = Page::read(&cluster.admin().text("/v1/metrics").await?)?;
    Ok((page.sum("berth_edge_objects", &[])?, page.sum("berth_edge_store_writes_total", &[])?))
}

#[test]
fn an_address_starts_so_many_new_objects_and_what_is_refused_leaves_nothing() -> Outcome {
    scenario(Setup { crowd: Some(2), ..Setup::nodes(1) }, async |cluster| {
        cluster.deploy(&App { first: THREE, ..App::default() }).await?;
        for name in ["a", "b", "c"] {
            ask(cluster, 0, name, &[]).await?.success()?;
        }
        let before = figures(cluster).await?;
        for number in 0..200 {
            expect_refused(&ask(cluster, 0, &format!("new-{number}"), &[]).await?)?;
        }
        ensure!(figures(cluster).await? == before, "{:?} has become {:?}", before, figures(cluster).await?);
        let listed = cluster.admin().get("/v1/containers").await?;
        ensure!(listed["containers"].as_array().map(Vec::len) == Some(3), "{listed}");
        // What has run is new no more, others have their own count, and orders are not limited.
        ask(cluster, 0, "b", &[]).await?.success()?;
        ask(cluster, 1, "d", &[]).await?.success()?;
        cluster.client().get("/container/e").await?.success()?;
        let output = cluster.berth(&["containers", "start", "hello/Hello/f"]).await?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        ask(cluster, 0, "f", &[]).await?.success()?;
        // Nobody's word on its address counts.
        expect_refused(&ask(cluster, 0, "g", &[("x-forwarded-for", "198.51.100.1")]).await?)?;
        // After a restart what has run is still known.
        cluster.kill_edge()?;
        cluster.start_edge()?;
        cluster.until_connected().await?;
        for name in ["a", "b", "c", "d", "h", "i", "j"] {
            ask(cluster, 0, name, &[]).await?.success()?;
        }
        expect_refused(&ask(cluster, 0, "k", &[]).await?)
    })
}

#[test]
fn behind_a_trusted_proxy_each_of_its_clients_has_its_own_count() -> Outcome {
    let edge_options = vec!["--trust-proxy=127.0.0.0/8".to_owned()];
    scenario(Setup { edge_options, ..Setup::nodes(1) }, async |cluster| {
        let more = "[start_rate]\nper_address = { per_minute = 1, burst = 2 }\nper_app = { per_minute = 1, burst = 5 }";
        cluster.deploy(&App { first: more, ..App::default() }).await?;
        let ask = async |name: &str, from: &str| {
            let stream = std::net::TcpStream::connect(cluster.address())?;
            Client::over(stream, &format!("/container/{name}"), &[("x-forwarded-for", from)]).await
        };
        for (name, from) in [("a", "198.51.100.1"), ("b", "6.6.6.6, 198.51.100.1"), ("c", "2001:db8::1")] {
            ask(name, from).await?.success()?;
        }
        expect_refused(&ask("d", "1.2.3.4, 198.51.100.1").await?)?;
        ask("d", "2001:db8::2").await?.success()?;
        expect_refused(&ask("e", "2001:db8::3").await?)?;
        ask("e", "2001:db8:0:1::1").await?.success()?;
        let refused = ask("f", "203.0.113.1").await?;
        expect_refused(&refused)?;
        ensure!(refused.text.contains("the app"), "{refused:?}");
        let refusals = Page::read(&cluster.admin().text("/v1/metrics").await?)?;
        let counted = refusals.sum("berth_edge_refusals_total", &[("reason", "start_rate")])?;
        ensure!(counted == 3.0, "{counted}");
        Ok(())
    })
}

#[test]
fn starts_that_fail_or_find_no_room_count_and_requests_together_count_once() -> Outcome {
    scenario(Setup { crowd: Some(2), ..Setup::nodes(1) }, async |cluster| {
        let limits = "[start_rate]\nper_address = { per_minute = 1, burst = 4 }";
        cluster.deploy(&App { first: limits, max_instances: Some(1), ..App::default() }).await?;
        let together = (0..20).map(|_| ask(cluster, 0, "a", &[]));
        for answer in futures_util::future::join_all(together).await {
            answer?.success()?;
        }
        let before = figures(cluster).await?;
        for name in ["b", "c", "d"] {
            let answer = ask(cluster, 0, name, &[]).await?;
            ensure!(answer.status == 503 && answer.text.contains("max_instances"), "{answer:?}");
        }
        expect_refused(&ask(cluster, 0, "e", &[]).await?)?;
        ensure!(figures(cluster).await? == before, "{:?} has become {:?}", before, figures(cluster).await?);
        let listed: Value = cluster.admin().get("/v1/containers").await?;
        ensure!(listed["containers"].as_array().map(Vec::len) == Some(1), "{listed}");
        Ok(())
    })
}
