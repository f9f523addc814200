//! Values of objects: by the command, by the API, across kills.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use berth_tests::cluster::{Cluster, Setup};
use berth_tests::scenario::{Outcome, count, scenario};
use serde_json::{Value, json};

use super::object_id;

async fn berth(cluster: &Cluster, args: &[&str]) -> Result<(bool, String)> {
    let output = cluster.berth(args).await?;
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    Ok((output.status.success(), text))
}

#[test]
fn c11_values_are_put_read_listed_and_deleted() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        let object = "hello/Hello/keeper";
        for (key, value) in [("user/1", "ann"), ("user/größe ?", "42"), ("other", "")] {
            let (fine, text) = berth(cluster, &["kv", "put", object, key, value]).await?;
            ensure!(fine, "{text}");
        }
        ensure!(berth(cluster, &["kv", "get", object, "user/größe ?"]).await? == (true, "42".to_owned()));
        let (_, list) = berth(cluster, &["kv", "list", object, "--prefix", "user/"]).await?;
        ensure!(
            list.contains("user/1") && list.contains("user/größe ?") && !list.contains("other"),
            "{list}"
        );
        ensure!(berth(cluster, &["kv", "delete", object, "user/1"]).await?.0);
        let (fine, text) = berth(cluster, &["kv", "get", object, "user/1"]).await?;
        ensure!(!fine && text.contains("no such key"), "{text}");

        let (admin, path) = (cluster.admin(), format!("/v1/containers/{}/kv", object_id("keeper")?));
        let batch = json!({ "put": [{ "key": "a", "value": "1" }, { "key": "b", "value_base64": "AP8=" }], "delete": ["other"] });
        let (status, answer) = admin.post(&path, &batch).await?;
        ensure!(status.as_u16() == 204, "{status} {answer}");
        let page = admin.get(&format!("{path}?limit=2")).await?;
        ensure!(page["keys"] == json!([{ "key": "a", "bytes": 1 }, { "key": "b", "bytes": 2 }]), "{page}");
        ensure!(page["next_cursor"] == "b", "{page}");
        let none = admin.get(&format!("/v1/containers/{}/kv", object_id("another")?)).await?;
        ensure!(none["keys"] == json!([]) && none["next_cursor"] == Value::Null, "{none}");
        let long = "x".repeat(2049);
        for (wrong, word) in [
            (json!({ "put": [{ "key": "", "value": "1" }] }), "put[0].key"),
            (json!({ "put": [{ "key": "a" }] }), "put[0]"),
            (json!({ "put": [{ "key": "a", "value_base64": "?" }] }), "value_base64"),
            (json!({ "delete": ["a", "a"] }), "twice"),
            (json!({ "delete": [long] }), "delete[0]"),
            (json!({ "delete": vec!["a"; 129] }), "128"),
        ] {
            let (status, problem) = admin.post(&path, &wrong).await?;
            ensure!(status.as_u16() == 422 && problem.to_string().contains(word), "{status} {problem}");
        }
        Ok(())
    })
}

#[test]
fn c11_a_killed_edge_keeps_every_value_that_it_acknowledged_and_no_half_of_a_batch() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        let path = format!("/v1/containers/{}/kv", object_id("keeper")?);
        let number = Arc::new(AtomicU64::new(0));
        for round in 0..count(10, 100) {
            let (admin, path_of_writer, acknowledged) = (cluster.admin(), path.clone(), Arc::clone(&number));
            let writing = tokio::spawn(async move {
                loop {
                    let next = acknowledged.load(Ordering::Relaxed) + 1;
                    let put = |key: &str| json!({ "key": key, "value": next.to_string() });
                    let batch = json!({ "put": [put("left"), put("right")] });
                    match admin.post(&path_of_writer, &batch).await {
                        Ok((status, _)) if status.is_success() => acknowledged.store(next, Ordering::Relaxed),
                        _ => return,
                    }
                }
            });
            tokio::time::sleep(Duration::from_millis(60 + 23 * (round as u64 % 10))).await;
            cluster.kill_edge()?;
            writing.await.map_err(anyhow::Error::from)?;
            cluster.start_edge()?;
            cluster.until_connected().await?;
            let (_, left) = berth(cluster, &["kv", "get", "hello/Hello/keeper", "left"]).await?;
            let (_, right) = berth(cluster, &["kv", "get", "hello/Hello/keeper", "right"]).await?;
            ensure!(left == right, "half a batch: {left} and {right}");
            let (found, acknowledged) = (left.parse::<u64>().context(left)?, number.load(Ordering::Relaxed));
            ensure!(
                found == acknowledged || found == acknowledged + 1,
                "{acknowledged} was acknowledged, {found} is there"
            );
            number.store(found, Ordering::Relaxed);
        }
        ensure!(number.load(Ordering::Relaxed) > 50, "too little was written");
        Ok(())
    })
}
