//! What `berth deploy` and `berth apps delete` say and do where nothing would change, nothing could run, or all would go.

use std::fs;
use std::path::PathBuf;
use std::process::Output;

use anyhow::{Context, Result, ensure};
use berth_tests::app::App;
use berth_tests::cluster::{Cluster, Setup};
use berth_tests::scenario::{Outcome, scenario};
use berth_tests::wait;
use serde_json::Value;

use super::PATIENCE;

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// Writes the `berth.toml` of an app, with more at its end.
fn write(cluster: &Cluster, app: &App, more: &str) -> Result<PathBuf> {
    let directory = cluster.make_directory("deploys")?;
    fs::write(directory.join("berth.toml"), app.manifest(&cluster.program(app.program)) + more)?;
    Ok(directory)
}

/// `berth deploy` with options: its exit code, and what it printed.
async fn deploy(cluster: &Cluster, options: &[&str]) -> Result<(i32, String, String)> {
    let directory = cluster.directory().join("deploys").display().to_string();
    let output = cluster.berth(&[&["deploy", &*directory], options].concat()).await?;
    let (stdout, stderr) = texts(&output);
    Ok((output.status.code().context("a signal")?, stdout, stderr))
}

async fn versions(cluster: &Cluster) -> Result<Vec<u64>> {
    let list = cluster.admin().get("/v1/apps/hello/versions").await?;
    Ok(list["versions"].as_array().into_iter().flatten().filter_map(|v| v["version"].as_u64()).collect())
}

#[test]
fn a_deployment_that_changes_nothing_or_cannot_run_makes_no_version() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        write(cluster, &App::default(), "")?;
        let (code, stdout, stderr) = deploy(cluster, &[]).await?;
        ensure!(code == 0 && stdout.contains("version 1") && stdout.contains("http://"), "{stdout}{stderr}");
        let url = stdout.lines().find_map(|line| line.strip_prefix("http://")?.split_whitespace().next());
        let path = url.and_then(|url| url.find('/').map(|at| url[at..].to_owned())).context("no URL")?;
        cluster.client().get(&path).await?.success()?;

        let (code, stdout, _) = deploy(cluster, &[]).await?;
        ensure!(code == 0 && stdout.contains("unchanged") && versions(cluster).await? == [1], "{stdout}");
        let (code, stdout, _) = deploy(cluster, &["--json"]).await?;
        let answer: Value = serde_json::from_str(&stdout).context("no JSON")?;
        ensure!(code == 0 && answer["unchanged"] == true && answer["version"] == 1, "{answer}");
        ensure!(answer["urls"][0].as_str().is_some_and(|url| url.ends_with(&path)), "{answer}");
        let (code, stdout, _) = deploy(cluster, &["--force"]).await?;
        ensure!(code == 0 && stdout.contains("version 2") && versions(cluster).await? == [2, 1], "{stdout}");

        // More than the machine has, and more than its own app is allowed.
        let large = "[[containers]]\nclass_name = \"Large\"\nimage = \"./large\"\ndefault_port = 80\nenable_internet = false\n\
             instance_type = { vcpu = 1, memory = \"900GiB\", disk = \"1GB\" }\n";
        let directory = write(cluster, &App::default(), large)?;
        fs::copy(cluster.program(App::default().program), directory.join("large"))?;
        let (code, _, stderr) = deploy(cluster, &[]).await?;
        ensure!(code == 1 && stderr.contains("classes.Large") && stderr.contains("memory"), "{stderr}");
        ensure!(versions(cluster).await? == [2, 1], "it was deployed");
        let (code, _, stderr) = deploy(cluster, &["--allow-unplaceable"]).await?;
        ensure!(code == 0 && stderr.contains("warning") && stderr.contains("classes.Large"), "{stderr}");
        ensure!(versions(cluster).await? == [3, 2, 1], "it was not deployed");
        write(cluster, &App { limit_memory: "1GiB", ..App::default() }, large)?;
        let (code, _, stderr) = deploy(cluster, &[]).await?;
        ensure!(code == 1 && stderr.contains("[limits]"), "{stderr}");

        cluster.end_agent(0)?;
        wait::until("the node to be away", PATIENCE, async || {
            let nodes = cluster.admin().get("/v1/nodes").await?;
            ensure!(nodes["nodes"][0]["connected"] == false, "{nodes}");
            Ok(())
        })
        .await?;
        write(cluster, &App::default(), "")?;
        let (code, _, stderr) = deploy(cluster, &[]).await?;
        ensure!(code == 1 && stderr.contains("no node is connected"), "{stderr}");
        let (code, ..) = deploy(cluster, &["--allow-unplaceable", "--wait-for", "none"]).await?;
        ensure!(code == 0 && versions(cluster).await?.len() == 4, "it was not deployed");
        Ok(())
    })
}

#[test]
fn an_app_is_deleted_when_that_is_meant_and_purged_of_all_and_its_numbers_go_on() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        write(cluster, &App::default(), "")?;
        let (code, stdout, stderr) = deploy(cluster, &[]).await?;
        ensure!(code == 0, "{stdout}{stderr}");
        let berth = async |words: &[&str]| -> Result<(i32, String, String)> {
            let output = cluster.berth(words).await?;
            let (stdout, stderr) = texts(&output);
            Ok((output.status.code().context("a signal")?, stdout, stderr))
        };
        let secret = cluster.make_directory("secret")?.join("value");
        fs::write(&secret, "\n")?;
        let secret = secret.display().to_string();
        let put = ["secret", "put", "EMPTY", "--app", "hello", "--from-file", &secret];
        let (code, _, stderr) = berth(&put).await?;
        ensure!(code == 2 && stderr.contains("--allow-empty"), "an empty secret was put: {stderr}");
        ensure!(
            berth(&["secret", "init", "--state", &cluster.directory().join("edge").display().to_string()])
                .await?
                .0
                < 2
        );
        wait::until("the edge to know its keys", PATIENCE, async || {
            let (code, _, stderr) = berth(&[&put[..], &["--allow-empty"]].concat()).await?;
            ensure!(code == 0, "{stderr}");
            Ok(())
        })
        .await?;
        cluster.client().get("/container/1").await?.success()?;
        ensure!(berth(&["kv", "put", "hello/Hello/1", "key", "value"]).await?.0 == 0);

        // Nobody is there to be asked.
        let (code, _, stderr) = berth(&["apps", "delete", "hello"]).await?;
        ensure!(code == 2 && stderr.contains("--yes") && stderr.contains("versions lost: 1"), "{stderr}");
        let (code, stdout, _) = berth(&["apps", "delete", "hello", "--purge", "--dry-run"]).await?;
        ensure!(code == 0 && stdout.contains("secrets: 1, objects: 1, values: 1"), "{stdout}");
        ensure!(versions(cluster).await? == [1], "it was deleted");

        ensure!(berth(&["apps", "delete", "hello", "--yes"]).await?.0 == 0);
        ensure!(berth(&["apps", "delete", "hello", "--yes"]).await?.0 == 1, "it was deleted twice");
        ensure!(
            berth(&["kv", "get", "hello/Hello/1", "key"]).await?.1 == "value",
            "a value went without --purge"
        );
        let (code, stdout, stderr) = berth(&["apps", "delete", "hello", "--purge", "--yes"]).await?;
        ensure!(code == 0 && stdout.contains("objects: 1, values: 1"), "{stdout}{stderr}");
        ensure!(berth(&["kv", "get", "hello/Hello/1", "key"]).await?.0 == 1, "a value is left");
        ensure!(cluster.admin().objects().await?.is_empty(), "an object is left");
        let secrets = cluster.admin().get("/v1/apps/hello/secrets").await?;
        ensure!(secrets["secrets"].as_array().is_some_and(Vec::is_empty), "{secrets}");

        cluster.kill_edge()?;
        cluster.start_edge()?;
        cluster.until_connected().await?;
        let (code, stdout, stderr) = deploy(cluster, &[]).await?;
        ensure!(code == 0 && stdout.contains("version 2"), "a number was used again: {stdout}{stderr}");
        cluster.client().get("/container/1").await?.success().map(drop)
    })
}
