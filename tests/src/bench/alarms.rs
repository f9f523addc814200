//! How late alarms go off, among however many others that are not due: the container is asked, and then the alarm is
//! gone.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail, ensure};
use berth_common::ids::ObjectKey;
use serde_json::json;

use super::samples::Samples;
use crate::app::App;
use crate::cluster::Cluster;

/// How far ahead each alarm is set.
const AHEAD_MS: u64 = 30;
/// How long one may be late before this gives up.
const PATIENCE: Duration = Duration::from_secs(10);
/// Pause between two polls.
const PAUSE: Duration = Duration::from_millis(1);

/// Sets so many alarms of one object, one after the other. Gives how long setting takes, and how late each is done, in
/// milliseconds.
pub async fn measure(cluster: &Cluster, count: usize) -> Result<(Samples, Samples)> {
    let more = "[containers.callbacks.alarm]\npath = \"/container/clock/instance\"\nmethod = \"GET\"\n";
    cluster.deploy(&App { more, ..App::default() }).await?;
    cluster.client().get("/container/clock").await?.success()?;
    let key = ObjectKey { app: "hello".parse()?, class: "Hello".parse()?, name: "clock".parse()? };
    let (admin, path) = (cluster.admin(), format!("/v1/containers/{}/alarm", key.id()));
    let (mut set, mut late) = (Samples::default(), Samples::default());
    for _ in 0..count {
        let began = tokio::time::Instant::now();
        let (status, answer) = admin.put(&path, &json!({ "after_ms": AHEAD_MS })).await?;
        ensure!(status.is_success(), "{status}: {answer}");
        set.add_ms(began.elapsed());
        while admin.get(&path).await.is_ok() {
            if began.elapsed() > PATIENCE {
                bail!("an alarm did not go off within {PATIENCE:?}");
            }
            tokio::time::sleep(PAUSE).await;
        }
        let due_ms = answer["due_ms"].as_u64().unwrap_or_default();
        late.add_ms(
            SystemTime::now().duration_since(UNIX_EPOCH + Duration::from_millis(due_ms)).unwrap_or_default(),
        );
    }
    Ok((set, late))
}
