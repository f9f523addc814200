//! Secrets: in the containers that they are for, and nowhere else; across kills, wrong key files and rotations.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use berth_tests::app::App;
use berth_tests::cluster::{Cluster, Setup};
use berth_tests::scenario::{Outcome, count, scenario};
use berth_tests::wait;
use serde_json::{Value, json};

use super::{order, start, until_ended};
use berth_common::outcome::ExitReason;

/// How long containers may take to be made ahead of need, or replaced.
const FILL_TIMEOUT: Duration = Duration::from_secs(15);
/// What nothing else on the machine holds.
const VALUE: &str = "marmalade-sandwich-7d1f03";
const OTHER: &str = "cucumber-sandwich-55aa90";

fn app() -> App {
    App { more: "prepared = 0\nsecrets = [\"API_KEY\"]", ..App::default() }
}

fn state(cluster: &Cluster) -> PathBuf {
    cluster.directory().join("edge")
}

fn key_file(cluster: &Cluster) -> PathBuf {
    state(cluster).join("secret.key")
}

fn output_text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

async fn berth(cluster: &Cluster, args: &[&str]) -> Result<String> {
    let output = cluster.berth(args).await?;
    ensure!(output.status.success(), "berth {}: {}", args.join(" "), output_text(&output));
    Ok(output_text(&output))
}

async fn init(cluster: &Cluster) -> Result<String> {
    berth(cluster, &["secret", "init", "--state", &state(cluster).to_string_lossy()]).await
}

/// `berth secret put` with the value on its standard input.
async fn put(cluster: &Cluster, name: &str, value: &str) -> Result<String> {
    let mut command = cluster.command("berth");
    command
        .args(["secret", "put", name, "--app", "hello"])
        .env("BERTH_ADMIN_SOCKET", cluster.admin().socket());
    let value = value.to_owned();
    let output = tokio::task::spawn_blocking(move || with_input(&mut command, &value)).await??;
    ensure!(output.status.success(), "berth secret put: {}", output_text(&output));
    Ok(output_text(&output))
}

fn with_input(command: &mut Command, input: &str) -> Result<Output> {
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().context("start berth")?;
    child.stdin.take().context("no standard input")?.write_all(input.as_bytes())?;
    Ok(child.wait_with_output()?)
}

async fn variable(cluster: &Cluster, object: &str, name: &str) -> Result<String> {
    Ok(cluster.client().get(&format!("/container/{object}/env/{name}")).await?.success()?.text)
}

async fn restart_edge(cluster: &mut Cluster) -> Result<()> {
    cluster.kill_edge()?;
    cluster.start_edge()?;
    cluster.until_connected().await
}

/// The files below a directory that hold these bytes.
fn files_with(directory: &Path, bytes: &[u8], found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let kind = entry.file_type()?;
        if kind.is_dir() {
            files_with(&entry.path(), bytes, found)?;
        } else if kind.is_file() && !kind.is_fifo() {
            // One that is removed while this runs contributes nothing.
            let content = fs::read(entry.path()).unwrap_or_default();
            if content.windows(bytes.len()).any(|window| window == bytes) {
                found.push(entry.path());
            }
        }
    }
    Ok(())
}

/// The processes of this machine in whose file of this name these bytes are.
fn processes_with(file: &str, bytes: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let content = fs::read(entry.path().join(file)).unwrap_or_default();
        if content.windows(bytes.len()).any(|window| window == bytes) {
            let program = fs::read_link(entry.path().join("exe")).unwrap_or_default();
            found.push(format!("{} {}", entry.path().display(), program.display()));
        }
    }
    found
}

#[test]
fn b5_a_secret_reaches_the_container_that_it_is_for_and_is_nowhere_else() -> Outcome {
    scenario(Setup { log: "trace", ..Setup::nodes(1) }, async |cluster| {
        init(cluster).await?;
        let answer = put(cluster, "API_KEY", &format!("{VALUE}\n")).await?;
        ensure!(!answer.contains(VALUE), "{answer}");
        cluster.deploy(&app()).await?;
        ensure!(variable(cluster, "a", "API_KEY").await? == VALUE);
        restart_edge(cluster).await?;
        ensure!(variable(cluster, "b", "API_KEY").await? == VALUE);

        let bytes = VALUE.as_bytes();
        let mut found = Vec::new();
        files_with(cluster.directory(), bytes, &mut found)?;
        ensure!(found.is_empty(), "the value is in {found:?}");
        ensure!(
            fs::metadata(cluster.directory().join("logs/edge.log"))?.len() > 10_000,
            "nothing was traced"
        );
        let shown = processes_with("cmdline", bytes);
        ensure!(shown.is_empty(), "the value is in command lines: {shown:?}");
        let having = processes_with("environ", bytes);
        // The container's own: the app, and the init above it.
        let own = |process: &String| process.ends_with("hello") || process.ends_with("/memfd:init (deleted)");
        ensure!(having.iter().any(|process| process.ends_with("hello")), "{having:?}");
        ensure!(having.iter().all(own), "{having:?}");

        let mut answers = String::new();
        for path in [
            "/v1/apps",
            "/v1/apps/hello",
            "/v1/apps/hello/versions",
            "/v1/apps/hello/secrets",
            "/v1/containers",
        ] {
            answers += &cluster.admin().get(path).await?.to_string();
        }
        answers += &berth(cluster, &["containers", "info", "hello/Hello/a", "--json"]).await?;
        answers += &berth(cluster, &["secret", "list", "--app", "hello", "--json"]).await?;
        ensure!(answers.contains("API_KEY") && !answers.contains(VALUE), "{answers}");
        for path in [key_file(cluster), state(cluster).join("store/db")] {
            let metadata = path.metadata()?;
            let reachable = metadata.mode() & 0o077 != 0
                && path.parent().is_some_and(|parent| {
                    parent.metadata().is_ok_and(|metadata| metadata.mode() & 0o077 != 0)
                });
            ensure!(!reachable, "others can read {}", path.display());
        }

        cluster.kill_edge()?;
        let export =
            berth(cluster, &["store", "export", "--state", &state(cluster).to_string_lossy()]).await?;
        ensure!(export.contains("ciphertext") && !export.contains(VALUE), "{export}");
        cluster.start_edge()?;
        cluster.until_connected().await
    })
}

#[test]
fn b5_secrets_are_listed_replaced_and_deleted_by_the_command() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        let early = cluster.berth(&["secret", "list", "--app", "hello"]).await?;
        ensure!(early.status.success(), "{}", output_text(&early));
        let refused = put(cluster, "API_KEY", "x").await.unwrap_err().to_string();
        ensure!(refused.contains("berth secret init"), "{refused}");
        let path = init(cluster).await?;
        ensure!(
            path.contains("secret.key") && key_file(cluster).metadata()?.mode() & 0o777 == 0o600,
            "{path}"
        );
        let state_dir = state(cluster);
        let again = cluster.berth(&["secret", "init", "--state", &state_dir.to_string_lossy()]).await?;
        ensure!(
            !again.status.success() && output_text(&again).contains("never overwritten"),
            "{}",
            output_text(&again)
        );

        put(cluster, "API_KEY", VALUE).await?;
        put(cluster, "API_KEY", OTHER).await?;
        cluster.deploy(&app()).await?;
        let list = berth(cluster, &["secret", "list", "--app", "hello"]).await?;
        let row: Vec<&str> = list.lines().nth(1).context("no row")?.split_whitespace().collect();
        ensure!(row.first() == Some(&"API_KEY") && row.ends_with(&["2", "Hello", "readable"]), "{list}");
        ensure!(variable(cluster, "a", "API_KEY").await? == OTHER);

        let delete = ["secret", "delete", "API_KEY", "--app", "hello"];
        let dry = berth(cluster, &[&delete[..], &["--dry-run"]].concat()).await?;
        ensure!(dry.contains("would be deleted") && dry.contains("Hello"), "{dry}");
        berth(cluster, &delete).await?;
        let gone = cluster.berth(&delete).await?;
        ensure!(
            !gone.status.success() && output_text(&gone).contains("no such secret"),
            "{}",
            output_text(&gone)
        );
        // A container that runs keeps what it was started with.
        ensure!(variable(cluster, "a", "API_KEY").await? == OTHER);
        Ok(())
    })
}

#[test]
fn b5_a_missing_secret_is_reported_at_deploy_and_at_start_and_putting_it_is_enough() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        init(cluster).await?;
        let directory = cluster.make_directory("app-hello")?;
        fs::write(directory.join("berth.toml"), app().manifest(&cluster.program(app().program)))?;
        let deployed = berth(cluster, &["deploy", &directory.to_string_lossy()]).await?;
        ensure!(
            deployed.contains("warning") && deployed.contains("berth secret put API_KEY --app hello"),
            "{deployed}"
        );
        for _ in 0..3 {
            let refused = cluster.client().get("/container/a").await?;
            ensure!(
                refused.status == 500 && refused.text.contains("berth secret put API_KEY --app hello"),
                "{} {}",
                refused.status,
                refused.text
            );
        }
        put(cluster, "API_KEY", VALUE).await?;
        ensure!(variable(cluster, "a", "API_KEY").await? == VALUE);
        let again = berth(cluster, &["deploy", &directory.to_string_lossy()]).await?;
        ensure!(!again.contains("warning"), "{again}");
        Ok(())
    })
}

#[test]
fn b5_a_start_may_have_secrets_of_its_own_and_a_changed_one_holds_from_the_next_start() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        init(cluster).await?;
        put(cluster, "API_KEY", VALUE).await?;
        put(cluster, "OWN", OTHER).await?;
        let more = "prepared = 0\nsecrets = { KEY = \"API_KEY\" }";
        cluster.deploy(&App { more, ..App::default() }).await?;
        let object = "hello/Hello/a";
        berth(cluster, &["containers", "start", object, "--secret", "OWN", "--secret", "KEY=OWN"]).await?;
        ensure!(
            variable(cluster, "a", "OWN").await? == OTHER && variable(cluster, "a", "KEY").await? == OTHER
        );
        order(cluster, "a", "stop", &json!({})).await?;
        until_ended(cluster, "a", ExitReason::Stopped).await?;
        ensure!(variable(cluster, "a", "KEY").await? == VALUE);
        ensure!(
            cluster.client().get("/container/a/env/OWN").await?.status == 404,
            "it has the last one's secret"
        );
        put(cluster, "API_KEY", OTHER).await?;
        ensure!(variable(cluster, "a", "KEY").await? == VALUE, "it changed under a running container");
        order(cluster, "a", "stop", &json!({})).await?;
        until_ended(cluster, "a", ExitReason::Stopped).await?;
        ensure!(variable(cluster, "a", "KEY").await? == OTHER);
        // Values for one container override those of the class.
        let body = json!({ "app": "hello", "class": "Hello", "name": "b", "env": { "KEY": "plain" } });
        ensure!(start(cluster, &body).await?.0 == 200 && variable(cluster, "b", "KEY").await? == "plain");
        let body = json!({ "app": "hello", "class": "Hello", "name": "c", "secrets": { "A": "NONE" } });
        let (status, problem) = start(cluster, &body).await?;
        ensure!(status == 500 && problem.to_string().contains("berth secret put NONE"), "{status} {problem}");
        Ok(())
    })
}

#[test]
fn b5_with_a_wrong_key_file_the_edge_serves_what_needs_no_secret_and_says_what_is_wrong() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        init(cluster).await?;
        put(cluster, "API_KEY", VALUE).await?;
        cluster.deploy(&app()).await?;
        cluster.deploy(&App { name: "plain", prefix: "plain", ..App::default() }).await?;
        let (file, aside) = (key_file(cluster), state(cluster).join("kept.key"));
        cluster.kill_edge()?;
        fs::rename(&file, &aside)?;
        let log = || fs::read_to_string(cluster.directory().join("logs/edge.log"));
        let lost = log()?.len();
        cluster.start_edge()?;
        cluster.until_connected().await?;
        let log = |cluster: &Cluster| fs::read_to_string(cluster.directory().join("logs/edge.log"));
        ensure!(log(cluster)?[lost..].contains("there is no key file"), "the log does not say so");
        init(cluster).await?;
        restart_edge(cluster).await?;
        ensure!(log(cluster)?.contains("keys that the key file does not hold"), "the log does not say so");
        cluster.client().get("/plain/a").await?.success()?;
        let refused = cluster.client().get("/container/a").await?;
        ensure!(refused.status == 500 && refused.text.contains("does not hold"), "{}", refused.text);
        let list = berth(cluster, &["secret", "list", "--app", "hello"]).await?;
        ensure!(list.contains("unreadable"), "{list}");

        // Brought back, it mends everything without a restart; readable by others, it does not.
        fs::rename(&aside, &file)?;
        ensure!(variable(cluster, "a", "API_KEY").await? == VALUE);
        fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
        restart_edge(cluster).await?;
        let refused = cluster.client().get("/container/b").await?;
        ensure!(refused.status == 500 && refused.text.contains("chmod 600"), "{}", refused.text);
        fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        ensure!(variable(cluster, "b", "API_KEY").await? == VALUE);
        Ok(())
    })
}

/// How many keys the file holds.
fn keys(cluster: &Cluster) -> Result<usize> {
    let text = fs::read_to_string(key_file(cluster))?;
    Ok(text.lines().skip(1).filter(|line| !line.starts_with('#')).count())
}

async fn ensure_readable(cluster: &Cluster, many: usize) -> Result<()> {
    let list = cluster.admin().get("/v1/apps/hello/secrets").await?;
    let secrets = list["secrets"].as_array().context("no list")?;
    ensure!(secrets.len() == many, "{} of {many} are there", secrets.len());
    ensure!(secrets.iter().all(|secret| secret["readable"] == Value::Bool(true)), "{list}");
    Ok(())
}

#[test]
fn b5_a_rotation_that_is_killed_in_the_middle_loses_nothing_and_is_done_again() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        init(cluster).await?;
        put(cluster, "API_KEY", VALUE).await?;
        cluster.deploy(&app()).await?;
        let many = 129;
        for index in 1..many {
            let path = format!("/v1/apps/hello/secrets/S{index}");
            let (status, answer) = cluster.admin().put_bytes(&path, format!("{index}").repeat(999)).await?;
            ensure!(status.as_u16() == 204, "{status} {answer}");
        }
        let state_dir = state(cluster).to_string_lossy().into_owned();
        let rotate = ["secret", "rotate", "--state", &state_dir];
        let old = fs::read_to_string(key_file(cluster))?;
        let done = berth(cluster, &rotate).await?;
        ensure!(done.contains(&format!("again: {many}")) && done.contains("dropped: 1"), "{done}");
        ensure!(keys(cluster)? == 1 && fs::read_to_string(key_file(cluster))? != old);
        ensure_readable(cluster, many).await?;

        for round in 0..count(8, 80) as u64 {
            let mut command = cluster.command("berth");
            command.args(rotate).env("BERTH_ADMIN_SOCKET", cluster.admin().socket());
            let mut rotating =
                command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().context("rotate")?;
            tokio::time::sleep(Duration::from_millis(5 + 17 * (round % 8))).await;
            if round % 2 == 0 {
                cluster.kill_edge()?;
                rotating.wait()?;
                cluster.start_edge()?;
                cluster.until_connected().await?;
            } else {
                rotating.kill()?;
                rotating.wait()?;
            }
            ensure_readable(cluster, many).await?;
            let object = format!("r{round}");
            ensure!(variable(cluster, &object, "API_KEY").await? == VALUE);
            // The node has no room for a container of each round.
            berth(cluster, &["containers", "destroy", &format!("hello/Hello/{object}")]).await?;
        }
        berth(cluster, &rotate).await?;
        ensure!(keys(cluster)? == 1, "old keys stay");
        restart_edge(cluster).await?;
        ensure_readable(cluster, many).await?;
        ensure!(variable(cluster, "last", "API_KEY").await? == VALUE);
        // Other files in the directory do not disturb, and hold no keys that others can read.
        for entry in fs::read_dir(state(cluster))?.flatten().filter(|entry| entry.path().is_file()) {
            let (path, mode) = (entry.path(), entry.metadata()?.mode());
            let is_key = fs::read(&path)?.starts_with(b"berth-secret-keys");
            ensure!(
                !is_key || (mode & 0o077 == 0 && path == key_file(cluster)),
                "{} {mode:o}",
                path.display()
            );
        }
        Ok(())
    })
}

#[test]
fn b5_containers_that_are_held_have_the_secret_and_are_replaced_when_it_changes() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        init(cluster).await?;
        put(cluster, "API_KEY", VALUE).await?;
        let more = "prepared = 2\nsecrets = [\"API_KEY\"]";
        cluster.deploy(&App { more, ..App::default() }).await?;
        let held = async |cluster: &Cluster, not: &[String]| -> Result<Vec<String>> {
            wait::until("two other containers to be held", FILL_TIMEOUT, async || {
                let held = cluster.held(0);
                ensure!(held.len() == 2 && !held.iter().any(|group| not.contains(group)), "held: {held:?}");
                Ok(held)
            })
            .await
        };
        let waiting = held(cluster, &[]).await?;
        ensure!(variable(cluster, "1", "API_KEY").await? == VALUE);
        let groups = cluster.instance_groups(0);
        ensure!(groups.iter().all(|group| waiting.contains(group)), "{groups:?} was not among {waiting:?}");
        let old = held(cluster, &groups).await?;

        put(cluster, "API_KEY", OTHER).await?;
        ensure!(variable(cluster, "2", "API_KEY").await? == OTHER, "a held container had the old value");
        let new = held(cluster, &old).await?;
        ensure!(variable(cluster, "3", "API_KEY").await? == OTHER);
        let groups = cluster.instance_groups(0);
        ensure!(groups.iter().any(|group| new.contains(group)), "none of {new:?} was taken: {groups:?}");
        // Once nothing is being made: until its shim has read it, what a container is made from is in a file.
        held(cluster, &groups).await?;
        let mut found = Vec::new();
        files_with(cluster.directory(), OTHER.as_bytes(), &mut found)?;
        ensure!(found.is_empty(), "the value is in {found:?}");
        // Without the secret nothing is held that no start would take.
        berth(cluster, &["secret", "delete", "API_KEY", "--app", "hello"]).await?;
        wait::until("nothing to be held", FILL_TIMEOUT, async || {
            ensure!(cluster.held(0).is_empty(), "held: {:?}", cluster.held(0));
            Ok(())
        })
        .await
    })
}

#[test]
fn b5_wrong_secrets_are_refused_with_the_reason() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        init(cluster).await?;
        cluster.deploy(&App::default()).await?;
        let admin = cluster.admin();
        let long = vec![b'x'; (64 << 10) + 1];
        for (path, body, expected, word) in [
            ("hello/secrets/A-B", vec![b'x'], 400, "not allowed"),
            ("hello/secrets/1A", vec![b'x'], 400, "not allowed"),
            ("he%20llo/secrets/A", vec![b'x'], 400, "not allowed"),
            ("hello/secrets/A", b"a\0b".to_vec(), 422, "zero byte"),
            ("hello/secrets/A", vec![0xff, 0xfe], 422, "UTF-8"),
            ("hello/secrets/A", long, 422, "65536"),
            ("hello/secrets/A", vec![b'x'; (128 << 10) + 1], 413, "limit"),
        ] {
            let (status, problem) = admin.put_bytes(&format!("/v1/apps/{path}"), body).await?;
            ensure!(status == expected && problem.to_string().contains(word), "{path}: {status} {problem}");
        }
        let (status, problem) = admin.delete("/v1/apps/hello/secrets/A").await?;
        ensure!(status == 404, "{status} {problem}");
        let order = |more: Value| {
            let mut body = json!({ "app": "hello", "class": "Hello", "name": "x" });
            body["secrets"] = more;
            body
        };
        let both = json!({ "app": "hello", "class": "Hello", "name": "x", "env": { "A": "1" }, "secrets": { "A": "B" } });
        for (body, expected, word) in [
            (order(json!({ "A-B": "A" })), 400, "secrets"),
            (order(json!({ "A": "" })), 400, "secrets"),
            (order(json!(["A"])), 400, "secrets"),
            (both, 422, "env too"),
        ] {
            let (status, problem) = start(cluster, &body).await?;
            ensure!(status == expected && problem.to_string().contains(word), "{body}: {status} {problem}");
        }
        let directory = cluster.make_directory("app-bad")?;
        let env = std::collections::BTreeMap::from([("API_KEY", "x")]);
        let bad = App { env, ..app() };
        fs::write(directory.join("berth.toml"), bad.manifest(&cluster.program(bad.program)))?;
        let refused = cluster.berth(&["deploy", &directory.to_string_lossy()]).await?;
        ensure!(
            refused.status.code() == Some(2) && output_text(&refused).contains("in env too"),
            "{}",
            output_text(&refused)
        );
        Ok(())
    })
}
