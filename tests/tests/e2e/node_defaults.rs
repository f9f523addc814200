//! What images take for granted, because every runtime has it.

use std::fs;

use anyhow::{Context, Result, ensure};
use berth_tests::app::App;
use berth_tests::cgroup;
use berth_tests::cluster::{Cluster, Setup};
use berth_tests::image::{self, Layer, architecture};
use berth_tests::programs::PROBE;
use berth_tests::scenario::{Outcome, scenario};
use serde_json::{Value, json};

const PASSWD: &[u8] = b"root:x:0:0::/root:/bin/sh\nweb:x:33:44::/srv/web:/bin/false\n";
/// The names of the streams of output.
const STREAMS: [&str; 4] = ["/dev/stdout", "/dev/stderr", "/proc/self/fd/1", "/dev/fd/2"];

/// Deploys an image of the probe with this layer and configuration.
async fn deploy(
    cluster: &Cluster,
    name: &'static str,
    layer: Layer,
    config: Value,
    more: &'static str,
) -> Result<()> {
    let program = fs::read(cluster.program(PROBE)).context("read the probe")?;
    let layer = layer.directory("app").file("app/probe", 0o755, &program);
    let mut whole = json!({"Entrypoint": ["/app/probe"]});
    if let (Some(whole), Value::Object(config)) = (whole.as_object_mut(), config) {
        whole.extend(config);
    }
    let directory = cluster.make_directory(&format!("image-{name}"))?;
    let image = image::write(&directory, vec![layer], whole, architecture())?;
    let app = App {
        program: PROBE,
        image: Some(image),
        name,
        prefix: name,
        memory: "64MiB",
        more,
        ..App::default()
    };
    cluster.deploy(&app).await
}

async fn expect(cluster: &Cluster, name: &str, what: &str, told: &str) -> Result<()> {
    let found = cluster.client().get(&format!("/{name}/1/look/{what}")).await?.success()?.text;
    ensure!(found == told, "in {name}, {what}: {found:?}, not {told:?}");
    Ok(())
}

#[test]
fn output_is_opened_by_its_names() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        deploy(cluster, "root", Layer::default(), json!({}), "").await?;
        deploy(cluster, "user", Layer::default(), json!({"User": "1000:1000"}), "init = false\nprepared = 0")
            .await?;
        for name in ["root", "user"] {
            for stream in STREAMS {
                expect(cluster, name, &format!("append?{stream}"), "ok").await?;
            }
            let logs = cluster.berth(&["logs", &format!("{name}/Hello/1")]).await?;
            let logs = String::from_utf8_lossy(&logs.stdout).into_owned();
            ensure!(
                STREAMS.iter().all(|stream| logs.contains(&format!("written to {stream}"))),
                "{name}: {logs}"
            );
            // What others write is not read away.
            expect(cluster, name, "read?/dev/stdout", "EACCES").await?;
        }
        Ok(())
    })
}

#[test]
fn what_no_layer_has_is_made_and_what_leads_nowhere_is_in_nobodys_way() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        let etc = || Layer::default().directory("etc").file("etc/passwd", 0o644, PASSWD);
        let links = etc()
            .symlink("etc/resolv.conf", "/run/systemd/resolve/stub-resolv.conf")
            .symlink("etc/hosts", "hosts")
            .symlink("etc/hostname", "../../../proc/nothing");
        let config = json!({
            "User": "web:", "WorkingDir": "/srv/deep/er", "Volumes": {"/data": {}, "/etc": {}, "relative/x": {}},
        });
        deploy(cluster, "web", links, config, "").await?;
        for (what, told) in [
            ("working-directory?", "ok /srv/deep/er"),
            ("owner?/srv/deep/er", "ok 0 0"),
            ("owner?/data", "ok 33 44"),
            ("owner?/relative/x", "ok 33 44"),
            ("put?/data/file", "ok"),
            ("owner?/etc", "ok 0 0"),
            ("read?/etc/resolv.conf", "ok # There is no name server that could be reached from here."),
            ("variable?HOME", "ok /srv/web"),
            ("status?Gid", "ok 44 44 44 44"),
        ] {
            expect(cluster, "web", what, told).await?;
        }
        let hosts = cluster.client().get("/web/1/look/read?/etc/hosts").await?.success()?.text;
        ensure!(hosts.contains("localhost"), "{hosts}");
        // Neither a user with an entry, nor an entrypoint that is one.
        let config = json!({"User": "4711", "Entrypoint": [""], "Cmd": ["/app/probe"]});
        deploy(cluster, "bare", etc(), config, "init = false").await?;
        expect(cluster, "bare", "variable?HOME", "ok /").await
    })
}

/// Where the limits are on this machine, inside: files with what they must say.
fn limits() -> [(&'static str, String); 2] {
    let memory = (64_u64 << 20).to_string();
    if cgroup::is_unified() {
        return [("memory.max", memory), ("cpu.max", "100000 100000".to_owned())];
    }
    [("memory/memory.limit_in_bytes", memory), ("cpu/cpu.cfs_quota_us", "100000".to_owned())]
}

#[test]
fn the_limits_of_memory_and_cpu_are_seen_inside_and_nothing_else_of_the_machine() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        for (name, user) in [("root", ""), ("user", "1000")] {
            deploy(cluster, name, Layer::default(), json!({"User": user}), "start_boost = false").await?;
            for (file, says) in limits() {
                expect(cluster, name, &format!("read?/sys/fs/cgroup/{file}"), &format!("ok {says}")).await?;
                expect(cluster, name, &format!("chown?/sys/fs/cgroup/{file}"), "EROFS").await?;
            }
            let own = cluster
                .client()
                .get(&format!("/{name}/1/look/read?/proc/self/cgroup"))
                .await?
                .success()?
                .text;
            let listed = own.trim_start_matches("ok ").lines();
            // Where the group is on the machine is not told: the root of what is seen is the group.
            ensure!(listed.clone().all(|line| line.ends_with(":/")), "{name}: {own}");
            let mounts = cluster
                .client()
                .get(&format!("/{name}/1/look/read?/proc/self/mountinfo"))
                .await?
                .success()?
                .text;
            let groups: Vec<_> = mounts.lines().filter(|line| line.contains(" - cgroup")).collect();
            ensure!(
                !groups.is_empty() && groups.iter().all(|line| line.split(' ').nth(3) == Some("/")),
                "{groups:?}"
            );
        }
        Ok(())
    })
}
