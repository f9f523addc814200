//! The output of containers, for people and programs: live, later, across kills, and in floods.

use std::fs::{self, File};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use berth_tests::app::App;
use berth_tests::cluster::{Cluster, Setup};
use berth_tests::scenario::{Outcome, count, scenario};
use berth_tests::{host, wait};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};

use super::{berth, object_id, order};

/// How soon a line that is written must be shown: usually within some ten milliseconds, and later where all cores are busy.
const SHOWN_WITHIN: Duration = Duration::from_secs(3);
/// How long everything else may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A `berth logs --follow` process.
struct Follower {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Follower {
    fn start(cluster: &Cluster, args: &[&str]) -> Result<Self> {
        let mut child = follow(cluster, args)?;
        let stdout = child.stdout.take().context("no output")?;
        let lines = Arc::new(Mutex::new(Vec::new()));
        let taken = Arc::clone(&lines);
        tokio::spawn(async move {
            let mut reader = BufReader::new(stdout).lines();
            while let Ok(Some(line)) = reader.next_line().await {
                taken.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        });
        Ok(Self { child, lines })
    }

    fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn until(&self, wanted: &str, within: Duration) -> Result<String> {
        wait::until(&format!("{wanted:?} to be shown"), within, async || {
            let lines = self.lines();
            let found = lines.iter().find(|line| line.contains(wanted)).cloned();
            found.with_context(|| format!("the last of {}: {:?}", lines.len(), lines.last()))
        })
        .await
    }

    /// Waits for its end; returns its exit code and its standard error.
    async fn end(mut self) -> Result<(Option<i32>, String)> {
        let mut stderr_text = String::new();
        let mut stderr = self.child.stderr.take().context("no errors")?;
        let ended = tokio::time::timeout(PATIENCE, async {
            stderr.read_to_string(&mut stderr_text).await?;
            self.child.wait().await
        });
        Ok((ended.await.context("it does not end")??.code(), stderr_text))
    }
}

fn follow(cluster: &Cluster, args: &[&str]) -> Result<Child> {
    let mut command = cluster.command("berth");
    command.arg("logs").args(args).arg("-f").env("BERTH_ADMIN_SOCKET", cluster.admin().socket());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Command::from(command).kill_on_drop(true).spawn().context("start `berth logs`")
}

async fn say(cluster: &Cluster, name: &str, how: &str, text: &str) -> Result<()> {
    cluster.client().put(&format!("/container/{name}/{how}"), text.to_owned()).await?.success().map(drop)
}

async fn logs(cluster: &Cluster, args: &[&str]) -> Result<Vec<String>> {
    let args: Vec<&str> = ["logs"].iter().chain(args).copied().collect();
    Ok(berth(cluster, &args).await?.lines().map(str::to_owned).collect())
}

/// What `berth logs` of the object `a` writes to a terminal.
async fn on_a_terminal(cluster: &Cluster, option: &str) -> Result<String> {
    let program = cluster.program("berth");
    let line = format!("{} logs hello/Hello/a {option}", program.display());
    let mut command = Command::new("script");
    command.args(["-qec", &line, "/dev/null"]).env("BERTH_ADMIN_SOCKET", cluster.admin().socket());
    let output = tokio::time::timeout(PATIENCE, command.kill_on_drop(true).output()).await??;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

async fn until_gone(cluster: &Cluster, name: &str) -> Result<()> {
    wait::until("the container to be gone", PATIENCE, async || {
        let object = cluster.admin().object(name).await?;
        ensure!(object.instance.is_none(), "{object:?}");
        ensure!(cluster.instance_directories(0)?.is_empty(), "its record is still there");
        Ok(())
    })
    .await
}

#[test]
fn f1_output_is_shown_within_three_seconds_and_cannot_steer_a_terminal() -> Outcome {
    scenario(Setup::nodes(2), async |cluster| {
        cluster.deploy(&App::default()).await?;
        cluster.client().get("/container/a").await?.success()?;
        let one = Follower::start(cluster, &["hello/Hello/a"])?;
        let app = Follower::start(cluster, &["--app", "hello", "--json"])?;
        one.until("hello: listening", PATIENCE).await?;
        app.until("hello: listening", PATIENCE).await?;
        for round in 0..5 {
            say(cluster, "a", "say", &format!("out {round}\n")).await?;
            say(cluster, "a", "complain", &format!("err {round}\n")).await?;
            let out = one.until(&format!(" Hello/a stdout out {round}"), SHOWN_WITHIN).await?;
            ensure!(out.as_bytes()[10] == b'T' && !out.contains('\x1b'), "{out}");
            one.until(&format!(" Hello/a stderr err {round}"), SHOWN_WITHIN).await?;
            app.until(&format!("err {round}"), SHOWN_WITHIN).await?;
        }
        say(cluster, "a", "say", "\x1b[2Jhidden\x07\n").await?;
        // To a pipe as it is, to a terminal only if that is asked for.
        one.until("\x1b[2Jhidden\x07", SHOWN_WITHIN).await?;
        let shown = on_a_terminal(cluster, "").await?;
        ensure!(shown.contains(r"\u{1b}[2Jhidden\u{7}") && !shown.contains("\x1b[2J"), "{shown:?}");
        let shown = on_a_terminal(cluster, "--raw").await?;
        ensure!(shown.contains("\x1b[2Jhidden\x07"), "{shown:?}");
        let raw: Value = serde_json::from_str(&app.until("hidden", SHOWN_WITHIN).await?)?;
        ensure!(raw["text"] == "\x1b[2Jhidden\x07" && raw["stream"] == "stdout", "{raw}");
        ensure!(raw["app"] == "hello" && raw["class"] == "Hello" && raw["name"] == "a", "{raw}");
        ensure!(raw["id"] == object_id("a")?.as_str() && raw["node"].is_string(), "{raw}");

        // The object's next container, and one of another object.
        order(cluster, "a", "destroy", &Value::Null).await?;
        wait::until("the container to be gone", PATIENCE, async || {
            ensure!(cluster.admin().object("a").await?.instance.is_none());
            Ok(())
        })
        .await?;
        say(cluster, "a", "say", "the next one\n").await?;
        say(cluster, "b", "say", "another object\n").await?;
        one.until("the next one", SHOWN_WITHIN).await?;
        app.until("the next one", SHOWN_WITHIN).await?;
        app.until("another object", SHOWN_WITHIN).await?;
        ensure!(!one.lines().iter().any(|line| line.contains("another object")), "shown to the wrong one");
        Ok(())
    })
}

#[test]
fn f1_a_killed_agent_costs_a_follower_no_line_and_doubles_none() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&App::default()).await?;
        cluster.client().get("/container/a").await?.success()?;
        let follower = Follower::start(cluster, &["hello/Hello/a"])?;
        follower.until("hello: listening", PATIENCE).await?;
        let rounds = count(3, 20);
        let lines = 400 * rounds;
        cluster.client().get(&format!("/container/a/count/{lines}")).await?.success()?;
        for round in 0..rounds {
            follower.until(&format!("counting {}", round * 400 + 100), PATIENCE).await?;
            cluster.kill_agent(0)?;
            // Restarted at once most times; the last time so late that the follower gets a notice: the edge misses an
            // agent after ten seconds.
            tokio::time::sleep(Duration::from_millis(if round + 1 == rounds { 15_000 } else { 200 })).await;
            cluster.start_agent(0)?;
            cluster.until_connected().await?;
        }
        // A busy machine counts more slowly than it could.
        follower.until(&format!("counting {lines}"), PATIENCE * u32::try_from(rounds)?).await?;
        let shown = follower.lines();
        let numbers: Vec<usize> =
            shown.iter().filter_map(|line| line.split_once("counting ")?.1.parse().ok()).collect();
        ensure!(numbers == (1..=lines).collect::<Vec<_>>(), "lost, doubled or out of order: {numbers:?}");
        ensure!(
            shown.iter().any(|line| line.contains("n1 berth [n1 is not connected")),
            "{:?}",
            shown.last()
        );
        Ok(())
    })
}

#[test]
fn f1_a_flood_blocks_no_other_and_dropped_lines_are_reported() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&App { more: "[observability]\nlog_size = \"256KiB\"", ..App::default() }).await?;
        let client = cluster.client();
        client.get("/container/a").await?.success()?;
        let follower = Follower::start(cluster, &["hello/Hello/a"])?;
        follower.until("hello: listening", PATIENCE).await?;
        // This one never reads.
        let _stalled = follow(cluster, &["hello/Hello/a"])?;
        let agent = cluster.agent(0)?.pid();
        let before = host::resident_memory(agent)?;
        let seconds = count(5, 60);
        let flood = tokio::spawn(async move { client.get(&format!("/container/a/flood/{seconds}")).await });
        let mut slowest = Duration::ZERO;
        while !flood.is_finished() {
            let asked = Instant::now();
            client.get("/container/a/instance").await?.success()?;
            slowest = slowest.max(asked.elapsed());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let answer = flood.await.map_err(anyhow::Error::from)??.success()?;
        let written: usize = answer.text.trim().parse()?;
        ensure!(written > 20_000 * seconds, "the app was held up: {written} lines in {seconds} s");
        ensure!(slowest < Duration::from_secs(2), "a request took {slowest:?} meanwhile");
        // In the second of the flood there is no room for it.
        tokio::time::sleep(Duration::from_millis(1100)).await;
        say(cluster, "a", "say", "calm again\n").await?;
        follower.until("calm again", PATIENCE).await?;
        let lines = follower.lines();
        let shown = lines.iter().filter(|line| line.contains("stdout hello: flood")).count();
        let dropped =
            lines.iter().filter(|line| line.contains("berth [") && line.contains("lines dropped")).count();
        ensure!(shown > 1000 && dropped > 0, "{shown} lines shown, {dropped} remarks");
        let grown = host::peak_memory(agent)?.saturating_sub(before);
        ensure!(grown < 48 << 20, "the agent has grown by {grown} bytes");
        let kept: u64 = log_sizes(cluster)?;
        ensure!(kept <= 256 << 10, "{kept} bytes are kept");
        Ok(())
    })
}

/// Bytes that a node keeps of what containers have written.
fn log_sizes(cluster: &Cluster) -> Result<u64> {
    let files = fs::read_dir(cluster.nodes()[0].state.join("logs"))?;
    let logs = files.flatten().filter(|file| !file.file_name().to_string_lossy().ends_with(".json"));
    Ok(logs.filter_map(|file| file.metadata().ok()).map(|found| found.len()).sum())
}

#[test]
fn f1_an_ended_containers_output_is_there_until_it_is_too_old() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&App::default()).await?;
        for (name, text) in [("a", "first of a\nsecond of a\n"), ("b", "only of b\n")] {
            say(cluster, name, "say", text).await?;
        }
        order(cluster, "a", "destroy", &Value::Null).await?;
        order(cluster, "b", "destroy", &Value::Null).await?;
        until_gone(cluster, "a").await?;
        let texts = |lines: &[String]| -> Vec<String> {
            lines.iter().filter_map(|line| Some(line.split_once(" stdout ")?.1.to_owned())).collect()
        };
        let of_a = logs(cluster, &["hello/Hello/a"]).await?;
        ensure!(texts(&of_a)[1..] == ["first of a", "second of a"], "{of_a:?}");
        ensure!(of_a.first().is_some_and(|line| line.ends_with(" berth [container starts]")), "{of_a:?}");
        let last = logs(cluster, &["hello/Hello/a", "--tail", "2"]).await?;
        ensure!(texts(&last) == ["second of a"], "{last:?}");
        ensure!(last[1].contains(" berth [container ended: killed (signal 9)]"), "{last:?}");
        let all = logs(cluster, &["--app", "hello"]).await?;
        ensure!(all.len() == 9 && all.is_sorted_by_key(|line| &line[..24]), "{all:?}");
        let none = logs(cluster, &["--app", "hello", "--tail", "0"]).await?;
        ensure!(none.is_empty(), "{none:?}");

        tokio::time::sleep(Duration::from_millis(1100)).await;
        say(cluster, "a", "say", "later\n").await?;
        let late = logs(cluster, &["hello/Hello/a", "--since", "1s"]).await?;
        ensure!(texts(&late).last().is_some_and(|text| text == "later") && late.len() == 3, "{late:?}");
        let raw = logs(cluster, &["hello/Hello/a", "--tail", "2", "--json"]).await?;
        let moment: Value = serde_json::from_str(&raw[1])?;
        let since = moment["time_ms"].to_string();
        let exact = logs(cluster, &["hello/Hello/a", "--since", &since]).await?;
        ensure!(texts(&exact).contains(&"later".to_owned()) && exact.len() <= 2, "{exact:?}");

        // A restarted agent finds them again, except for those that are too old.
        let directory = cluster.nodes()[0].state.join("logs");
        let old = SystemTime::now() - Duration::from_secs(8 * 24 * 60 * 60);
        cluster.kill_agent(0)?;
        for file in fs::read_dir(&directory)? {
            let path = file?.path();
            let name = path.with_extension("json");
            if fs::read_to_string(&name).is_ok_and(|entry| entry.contains(r#""name":"b""#)) {
                File::options().append(true).open(&path)?.set_modified(old)?;
            }
        }
        cluster.start_agent(0)?;
        cluster.until_connected().await?;
        let of_a = logs(cluster, &["hello/Hello/a"]).await?;
        let found = texts(&of_a);
        for wanted in ["second of a", "later"] {
            ensure!(found.iter().any(|text| text == wanted), "{wanted} is missing: {of_a:?}");
        }
        wait::until("the old log to be gone", PATIENCE, async || {
            let of_b = logs(cluster, &["hello/Hello/b"]).await?;
            ensure!(of_b.is_empty(), "{of_b:?}");
            Ok(())
        })
        .await
    })
}

#[test]
fn f1_no_output_is_kept_if_that_is_disabled() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&App { more: "[observability]\nenabled = false", ..App::default() }).await?;
        say(cluster, "a", "say", "in vain\n").await?;
        // Far more than a pipe holds: it is read although it is not kept.
        let flood = cluster.client().get("/container/a/flood/1").await?.success()?;
        ensure!(flood.text.trim().parse::<u64>()? > 10_000, "{}", flood.text);
        ensure!(logs(cluster, &["hello/Hello/a"]).await?.is_empty());
        let kept = fs::read_dir(cluster.nodes()[0].state.join("logs"))?.count();
        ensure!(kept == 0, "{kept} files are kept");
        // It is kept from the next container on.
        cluster.deploy(&App::default()).await?;
        say(cluster, "b", "say", "kept\n").await?;
        let lines = logs(cluster, &["--app", "hello"]).await?;
        ensure!(lines.iter().any(|line| line.ends_with(" Hello/b stdout kept")), "{lines:?}");
        Ok(())
    })
}

#[test]
fn f1_bad_requests_are_refused_and_a_lost_edge_is_reported() -> Outcome {
    scenario(Setup::nodes(2), async |cluster| {
        cluster.deploy(&App::default()).await?;
        cluster.client().get("/container/a").await?.success()?;
        let admin = cluster.admin();
        let (known, unknown) = (object_id("a")?, object_id("nobody")?);
        let wrong = [
            (404, format!("/v1/containers/{unknown}/logs"), "no such object"),
            (404, "/v1/apps/other/logs".to_owned(), "no such app"),
            (400, "/v1/containers/short/logs".to_owned(), "id"),
            (400, "/v1/apps/a%20b/logs".to_owned(), "app"),
            (400, format!("/v1/containers/{known}/logs?since=yesterday"), "since"),
            (400, format!("/v1/containers/{known}/logs?tail=-1"), "query"),
            (400, format!("/v1/containers/{known}/logs?colour=red"), "colour"),
            (422, format!("/v1/containers/{known}/logs?tail=10001"), "tail"),
        ];
        for (expected, path, word) in wrong {
            // The body of this response is not read; the error has status and problem.
            let error = admin.get(&path).await.err().map(|error| error.to_string()).unwrap_or_default();
            ensure!(error.contains(&format!("{expected} ")) && error.contains(word), "{path}: {error}");
        }
        let wrong = cluster.berth(&["logs"]).await?;
        ensure!(wrong.status.code() == Some(2), "{wrong:?}");
        let wrong = cluster.berth(&["logs", "hello/Hello/nobody"]).await?;
        ensure!(wrong.status.code() == Some(1), "{wrong:?}");
        let (status, problem) = admin
            .put(
                "/v1/apps/hello",
                &json!({ "name": "hello", "classes": {}, "routes": [], "logs": { "retention": 1 } }),
            )
            .await?;
        ensure!(status == 422 && problem.to_string().contains("retention"), "{status} {problem}");

        // A node that cannot be asked is reported, and the other one's output is shown.
        let node = admin.object("a").await?.node.context("no node")?;
        let other = usize::from(node.as_str() == "n1");
        cluster.kill_agent(other)?;
        wait::until("the node to be missed", PATIENCE, async || {
            let nodes = cluster.admin().nodes().await?;
            ensure!(nodes.iter().filter(|node| node.connected).count() == 1);
            Ok(())
        })
        .await?;
        let lines = logs(cluster, &["hello/Hello/a"]).await?;
        ensure!(lines.iter().any(|line| line.contains("hello: listening")), "{lines:?}");
        let remark = format!("berth [n{} is not connected: its output is missing]", other + 1);
        ensure!(lines.iter().any(|line| line.contains(&remark)), "{lines:?}");

        let follower = Follower::start(cluster, &["hello/Hello/a"])?;
        follower.until("hello: listening", PATIENCE).await?;
        cluster.kill_edge()?;
        let (code, stderr_text) = follower.end().await?;
        ensure!(code == Some(1) && stderr_text.contains("is gone"), "{code:?}: {stderr_text}");
        cluster.start_edge()?;
        cluster.start_agent(other)?;
        cluster.until_connected().await
    })
}

#[test]
fn a_follower_waits_for_an_object_that_has_not_started() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&App::default()).await?;
        let mut follower = Follower::start(cluster, &["hello/Hello/later"])?;
        let mut stderr = BufReader::new(follower.child.stderr.take().context("no errors")?).lines();
        let told = tokio::time::timeout(PATIENCE, stderr.next_line())
            .await
            .context("it does not say that it waits")??;
        ensure!(told.as_ref().is_some_and(|line| line.contains("waiting for hello/Hello/later")), "{told:?}");
        cluster.client().get("/container/later").await?.success()?;
        say(cluster, "later", "say", "here it is\n").await?;
        follower.until("here it is", PATIENCE).await?;
        follower.child.kill().await?;
        Ok(())
    })
}
