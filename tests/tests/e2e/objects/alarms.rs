//! Alarms, schedules and crons run when due: at least once, in order, also if processes are killed in between.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use berth_api::containers::ContainerState;
use berth_common::outcome::ExitReason;
use berth_tests::app::App;
use berth_tests::cluster::{Cluster, Setup};
use berth_tests::receiver::Receiver;
use berth_tests::scenario::{Outcome, count, scenario};
use berth_tests::{stored, wait};
use serde_json::{Value, json};

use super::hooks::{hooks, put_secret};
use super::object_id;

/// How long due work may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
const MINUTE_MS: u64 = 60_000;
const CALLBACKS: &str = "
[containers.callbacks.alarm]
path = \"/container/x/note\"
[containers.callbacks.note]
path = \"/container/x/note\"
[containers.callbacks.fail]
path = \"/container/x/status/500\"
[containers.callbacks.go]
env = { FROM = \"callback\", AT = \"{scheduled_ms}\" }
";

fn now_ms() -> Result<u64> {
    Ok(u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?)
}

fn named(name: &str) -> Value {
    json!({ "app": "hello", "class": "Hello", "name": name })
}

/// Sets an alarm or schedule of an object. Returns the response's status and body.
async fn set(cluster: &Cluster, name: &str, what: &str, order: Value) -> Result<(u16, Value)> {
    let path = format!("/v1/containers/{}/{what}", object_id(name)?);
    let mut order = order;
    order["object"] = named(name);
    let admin = cluster.admin();
    let (status, answer) = match what {
        "alarm" => admin.put(&path, &order).await?,
        _ => admin.post(&path, &order).await?,
    };
    Ok((status.as_u16(), answer))
}

async fn set_well(cluster: &Cluster, name: &str, what: &str, order: Value) -> Result<Value> {
    let (status, answer) = set(cluster, name, what, order).await?;
    ensure!(status == 200, "{status}: {answer}");
    Ok(answer)
}

/// The callbacks that the object's container has recorded: name, moment, attempt, body.
async fn notes(cluster: &Cluster, name: &str) -> Result<Vec<Vec<String>>> {
    let text = cluster.client().get(&format!("/container/{name}/notes")).await?.success()?.text;
    Ok(text.lines().map(|line| line.splitn(4, ' ').map(str::to_owned).collect()).collect())
}

/// Reads them without starting a container: an object that sleeps has recorded nothing yet.
async fn until_running(cluster: &Cluster, name: &str) -> Result<()> {
    let admin = cluster.admin();
    wait::until("the container to run", PATIENCE, async || {
        let object = admin.object(name).await?;
        ensure!(object.state == ContainerState::Healthy, "{object:?}");
        Ok(())
    })
    .await
}

#[test]
fn c6_an_alarm_starts_the_container_and_asks_it_with_the_payload() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&App { more: CALLBACKS, ..App::default() }).await?;
        let args = ["alarm", "set", "hello/Hello/x", "--after", "500ms", "--payload", "{\"n\":1}"];
        let output = cluster.berth(&args).await?;
        let shown = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.success() && shown.contains("(alarm)"), "{shown}{output:?}");
        until_running(cluster, "x").await?;
        wait::until("the note", PATIENCE, async || {
            let notes = notes(cluster, "x").await?;
            ensure!(notes.len() == 1 && notes[0][0] == "alarm" && notes[0][2] == "1", "{notes:?}");
            ensure!(notes[0][3] == "{\"n\":1}", "{notes:?}");
            Ok(())
        })
        .await?;
        wait::until("the alarm to be gone", PATIENCE, async || {
            let gone = cluster.berth(&["alarm", "get", "hello/Hello/x"]).await?;
            ensure!(!gone.status.success(), "it is still set");
            Ok(())
        })
        .await?;
        // The later one replaces the earlier.
        for n in 2..4 {
            set_well(cluster, "x", "alarm", json!({ "after_ms": 600, "payload": n })).await?;
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        let notes = notes(cluster, "x").await?;
        ensure!(notes.len() == 2 && notes[1][3] == "3", "{notes:?}");
        set_well(cluster, "x", "alarm", json!({ "after_ms": 500 })).await?;
        ensure!(cluster.berth(&["alarm", "delete", "hello/Hello/x"]).await?.status.success(), "not deleted");
        tokio::time::sleep(Duration::from_secs(1)).await;
        ensure!(self::notes(cluster, "x").await?.len() == 2, "a deleted alarm went off");
        Ok(())
    })
}

#[test]
fn c6_schedules_start_with_an_environment_and_send_events_to_hooks() -> Outcome {
    let mut edge = Setup::nodes(1);
    edge.edge_options = vec!["--allow-hooks-to".to_owned(), "127.0.0.1/32".to_owned()];
    scenario(edge, async |cluster| {
        let receiver = Receiver::start().await?;
        put_secret(cluster, "HOOK_KEY", "s").await?;
        let more = format!(
            "{CALLBACKS}[containers.callbacks.tell]\nhook = true\n{}",
            hooks(&receiver.url(), "events = [\"stop\"]")
        );
        cluster.deploy(&App { more: Box::leak(more.into_boxed_str()), ..App::default() }).await?;
        let made =
            set_well(cluster, "s", "schedules", json!({ "after_ms": 300, "callback": "go", "payload": [1] }));
        let due = made.await?["scheduled_ms"].clone();
        until_running(cluster, "s").await?;
        let client = cluster.client();
        for (name, value) in [
            ("FROM", "callback".to_owned()),
            ("AT", due.to_string()),
            ("BERTH_CALLBACK", "go".to_owned()),
            ("BERTH_PAYLOAD", "[1]".to_owned()),
        ] {
            let text = client.get(&format!("/container/s/env/{name}")).await?.success()?.text;
            ensure!(text == value, "{name}: {text}");
        }
        set_well(cluster, "t", "schedules", json!({ "after_ms": 100, "callback": "tell", "payload": "p" }))
            .await?;
        wait::until("the hook to be told", PATIENCE, async || {
            let taken = receiver.taken();
            let event = &taken.first().context("nothing was told")?.event;
            ensure!(
                event["type"] == "callback" && event["callback"] == "tell" && event["payload"] == "p",
                "{event}"
            );
            Ok(())
        })
        .await?;
        Ok(())
    })
}

#[test]
fn c6_what_fails_is_tried_again_later_and_shown_with_its_reason() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&App { more: CALLBACKS, ..App::default() }).await?;
        let made = set_well(cluster, "f", "schedules", json!({ "after_ms": 0, "callback": "fail" })).await?;
        let id = made["id"].as_str().context("no id")?.to_owned();
        let path = format!("/v1/containers/{}/schedules/{id}", object_id("f")?);
        let admin = cluster.admin();
        wait::until("a second try", PATIENCE, async || {
            let schedule = admin.get(&path).await?;
            ensure!(schedule["attempts"].as_u64() >= Some(2), "{schedule}");
            ensure!(schedule["last_error"].as_str().is_some_and(|error| error.contains("500")), "{schedule}");
            ensure!(schedule["due_ms"].as_u64() > schedule["scheduled_ms"].as_u64(), "{schedule}");
            Ok(())
        })
        .await?;
        // Six further tries take two minutes.
        let changed = stored::change(cluster, |line| {
            let Some(schedule) = line.get_mut("schedule") else { return false };
            schedule["attempts"] = json!(6);
            schedule["due_ms"] = json!(1);
            true
        });
        ensure!(changed.await? == 1, "not changed");
        wait::until("it to be given up", PATIENCE, async || {
            let schedule = admin.get(&path).await?;
            ensure!(schedule["due_ms"].is_null() && schedule["attempts"] == 7, "{schedule}");
            Ok(())
        })
        .await?;
        let list = cluster.berth(&["schedules", "list", "hello/Hello/f"]).await?;
        ensure!(String::from_utf8_lossy(&list.stdout).contains("failed"), "{list:?}");
        ensure!(
            cluster.berth(&["schedules", "delete", "hello/Hello/f", &id]).await?.status.success(),
            "kept"
        );
        let list = admin.get(&format!("/v1/containers/{}/schedules", object_id("f")?)).await?;
        ensure!(list["schedules"] == json!([]), "{list}");
        Ok(())
    })
}

#[test]
fn c6_due_work_waits_until_a_node_is_connected() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&App { more: CALLBACKS, ..App::default() }).await?;
        cluster.end_agent(0)?;
        let admin = cluster.admin();
        wait::until("the node to be gone", PATIENCE, async || {
            let nodes = admin.nodes().await?;
            ensure!(!nodes[0].connected, "{nodes:?}");
            Ok(())
        })
        .await?;
        let made = set_well(cluster, "w", "schedules", json!({ "after_ms": 0, "callback": "note" })).await?;
        let id = made["id"].as_str().context("no id")?.to_owned();
        let path = format!("/v1/containers/{}/schedules/{id}", object_id("w")?);
        // A start waits for a node first, as long as it may take.
        wait::until("it to be put off", 3 * PATIENCE, async || {
            let schedule = admin.get(&path).await?;
            ensure!(schedule["attempts"] == 0 && schedule["last_error"].is_string(), "{schedule}");
            Ok(())
        })
        .await?;
        cluster.start_agent(0)?;
        cluster.until_connected().await?;
        until_running(cluster, "w").await?;
        wait::until("the note", PATIENCE, async || {
            let notes = notes(cluster, "w").await?;
            ensure!(notes.len() == 1 && notes[0][2] == "1", "{notes:?}");
            Ok(())
        })
        .await?;
        Ok(())
    })
}

#[test]
fn c6_a_killed_edge_runs_all_that_it_acknowledged_at_least_once_and_in_order() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&App { more: CALLBACKS, ..App::default() }).await?;
        cluster.client().get("/container/k").await?.success()?;
        let (mut acknowledged, mut next) = (Vec::new(), 0_u64);
        for round in 0..count(10, 100) {
            for _ in 0..5 {
                let order = json!({ "after_ms": 20 * (next % 5), "callback": "note", "payload": next });
                if let Ok((200, answer)) = set(cluster, "k", "schedules", order).await {
                    let scheduled_ms = answer["scheduled_ms"].as_u64().context("no time")?;
                    acknowledged.push((scheduled_ms, next));
                }
                next += 1;
            }
            tokio::time::sleep(Duration::from_millis(13 * (round as u64 % 9))).await;
            cluster.kill_edge()?;
            cluster.start_edge()?;
            cluster.until_connected().await?;
        }
        let done = wait::until("all of it to be done", PATIENCE, async || {
            let notes = notes(cluster, "k").await?;
            let missing: Vec<_> = acknowledged
                .iter()
                .filter(|(ms, n)| {
                    !notes.iter().any(|note| note[1] == ms.to_string() && note[3] == n.to_string())
                })
                .collect();
            ensure!(missing.is_empty(), "missing {missing:?} of {}", acknowledged.len());
            Ok(notes)
        })
        .await?;
        // In the order of time, except for those that ran again because their success was not stored yet.
        let mut first = Vec::new();
        for note in &done {
            if !first.contains(&&note[3]) {
                first.push(&note[3]);
            }
        }
        let moments: Vec<u64> = first
            .iter()
            .map(|n| done.iter().find(|note| note[3] == ***n).context("gone")?[1].parse().context("no time"))
            .collect::<Result<_>>()?;
        ensure!(moments.is_sorted(), "out of order: {moments:?}");
        ensure!(acknowledged.len() >= 40, "too little was acknowledged: {}", acknowledged.len());
        Ok(())
    })
}

#[test]
fn c6_a_cron_that_was_missed_runs_once() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        let more = "[[routes]]\npath = \"/none\"\nclass = \"Hello\"\nobject = \"none\"\n[triggers]\n\
                    crons = [{ cron = \"* * * * *\", object = \"tick\", path = \"/container/tick/note\", body = \"{scheduled_ms}\" }]\n";
        cluster.deploy(&App { more, ..App::default() }).await?;
        let admin = cluster.admin();
        let crons = wait::until("the cron to be known", PATIENCE, async || {
            let crons = admin.get("/v1/apps/hello/crons").await?;
            ensure!(crons["crons"][0]["next_ms"].is_u64(), "{crons}");
            Ok(crons)
        });
        let next_ms = crons.await?["crons"][0]["next_ms"].as_u64().context("no next")?;
        ensure!(next_ms > now_ms()? && next_ms <= now_ms()? + MINUTE_MS, "{next_ms}");
        tokio::time::sleep(Duration::from_millis(300)).await;
        // Ten minutes of downtime.
        let changed = stored::change(cluster, |line| {
            let Some(last) = line.get_mut("cron").and_then(|cron| cron.get_mut("last_ms")) else {
                return false;
            };
            *last = json!(last.as_u64().unwrap_or_default() - 10 * MINUTE_MS);
            true
        });
        ensure!(changed.await? == 1, "no mark of the cron is stored");
        until_running(cluster, "tick").await?;
        let noted = wait::until("the note", PATIENCE, async || {
            let notes = notes(cluster, "tick").await?;
            ensure!(!notes.is_empty(), "nothing yet");
            Ok(notes)
        })
        .await?;
        let scheduled: u64 = noted[0][1].parse().context("no time")?;
        ensure!(scheduled.is_multiple_of(MINUTE_MS) && scheduled <= now_ms()?, "{noted:?}");
        ensure!(noted[0][3] == noted[0][1], "the moment is not in the body: {noted:?}");
        tokio::time::sleep(Duration::from_secs(2)).await;
        let minutes: Vec<_> = notes(cluster, "tick").await?.into_iter().map(|note| note[1].clone()).collect();
        // A minute may have begun by now; the nine others that were missed are not made up for.
        ensure!(minutes.len() <= 2, "{minutes:?}");
        let shown = cluster.berth(&["crons", "hello"]).await?;
        ensure!(String::from_utf8_lossy(&shown.stdout).contains("* * * * *"), "{shown:?}");
        Ok(())
    })
}

#[test]
fn c6_bad_orders_are_refused_with_the_reason() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&App { more: CALLBACKS, ..App::default() }).await?;
        let large = "x".repeat(65 << 10);
        for (order, status, word) in [
            (json!({ "at_ms": 5 }), 422, "in the past"),
            (json!({ "at_ms": 1, "after_ms": 1 }), 422, "not both"),
            (json!({}), 422, "at_ms"),
            (json!({ "after_ms": u64::MAX }), 422, "10 years"),
            (json!({ "after_ms": 1, "callback": "dance" }), 422, "no callback `dance`"),
            (json!({ "after_ms": 1, "payload": large }), 422, "65536"),
            (json!({ "after_ms": 1, "colour": 1 }), 400, "colour"),
            (json!({ "after_ms": -1 }), 400, "after_ms"),
            (json!({ "after_ms": 1, "callback": "-" }), 400, "callback"),
        ] {
            let (found, problem) = set(cluster, "b", "alarm", order.clone()).await?;
            ensure!(found == status && problem.to_string().contains(word), "{order}: {found} {problem}");
        }
        let path = format!("/v1/containers/{}/alarm", object_id("b")?);
        let (found, problem) = cluster.admin().put(&path, &json!({ "after_ms": 1 })).await?;
        ensure!(found == 422 && problem.to_string().contains("never had a container"), "{found} {problem}");
        let wrong = json!({ "after_ms": 1, "object": named("c") });
        let (found, problem) = cluster.admin().put(&path, &wrong).await?;
        ensure!(found == 422 && problem.to_string().contains("another id"), "{found} {problem}");
        let args = ["alarm", "set", "hello/Hello/b", "--at", "yesterday"];
        ensure!(cluster.berth(&args).await?.status.code() == Some(2), "a time that is none was taken");
        Ok(())
    })
}

#[test]
fn c6_a_class_without_a_port_is_ready_as_soon_as_it_runs_and_ends_when_asked() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        // The example's server does not listen: nothing may wait for a port.
        let directory = cluster.make_directory("app-job")?;
        let image = cluster.program(berth_tests::programs::HELLO);
        let text = format!(
            "name = \"job\"\n[[containers]]\nclass_name = \"Job\"\nimage = {image:?}\nenable_internet = false\n\
             instance_type = {{ vcpu = 1, memory = \"128MiB\", disk = \"1GB\" }}\n\
             [containers.env]\nPORT = \"1\"\nNEVER_LISTEN = \"1\"\n",
        );
        std::fs::write(directory.join("berth.toml"), text)?;
        let output = cluster.berth(&["deploy", &directory.to_string_lossy()]).await?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let started = cluster.berth(&["containers", "start", "job/Job/one", "--json"]).await?;
        let shown = String::from_utf8_lossy(&started.stdout).into_owned();
        ensure!(started.status.success() && shown.contains("healthy"), "{shown}{started:?}");
        ensure!(cluster.berth(&["containers", "stop", "job/Job/one"]).await?.status.success(), "not stopped");
        super::until_ended(cluster, "one", ExitReason::Stopped).await?;
        Ok(())
    })
}
