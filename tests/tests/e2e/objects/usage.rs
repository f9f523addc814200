//! What containers take is written down: exactly, once each, whatever is killed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use berth_common::outcome::ExitReason;
use berth_tests::app::App;
use berth_tests::client::Client;
use berth_tests::cluster::{Cluster, Setup};
use berth_tests::host;
use berth_tests::scenario::{Outcome, count, scenario};
use berth_tests::wait;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::{order, until_ended};

/// A moment after all others.
const FOREVER_MS: u64 = 9_999_999_999_999;
/// How long everything may take to come to rest.
const REST_WITHIN: Duration = Duration::from_secs(40);
/// How much later than it happens the shim may see a start or an end, on a machine whose processors are all busy: it
/// waits for its turn then.
const TURN_MS: i64 = 500;
/// The container's own clock has ticks of 10 ms, at start and end; that of the meter at one of them.
const TICKS_MS: i64 = 15;

/// All records, in pages.
async fn records(cluster: &Cluster) -> Result<Vec<Value>> {
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let path = format!("/v1/usage/records?from=0&to={FOREVER_MS}&limit=7{cursor}");
        let page = cluster.admin().get(&path).await?;
        all.extend(page["records"].as_array().context("no records")?.iter().cloned());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return Ok(all),
        }
    }
}

/// The record of an instance, of which there must be one; that it has ended is shown a moment before that is durable.
async fn record_of(cluster: &Cluster, instance: &str) -> Result<Value> {
    let mut found = Vec::new();
    wait::until("the instance's record", REST_WITHIN, async || {
        found = records(cluster).await?;
        found.retain(|record| record["instance"] == instance);
        ensure!(!found.is_empty(), "there is none of {instance}");
        Ok(())
    })
    .await?;
    ensure!(found.len() == 1, "{} records of {instance}", found.len());
    found.pop().context("none")
}

fn number(value: &Value, name: &str) -> Result<i64> {
    value[name].as_i64().with_context(|| format!("no {name} in {value}"))
}

/// When an instance started and ended according to its own log, in milliseconds since the machine's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Own {
    started_ms: i64,
    ended_ms: Option<i64>,
}

fn logged_ms(log: &str, what: &str) -> Option<i64> {
    let rest = log.split(&format!("{what} at ")).nth(1)?;
    ms_of(rest.split(' ').next()?)
}

/// Milliseconds of an uptime, which has two digits behind the point.
fn ms_of(uptime: &str) -> Option<i64> {
    let (seconds, hundredths) = uptime.split_once('.').filter(|(_, rest)| rest.len() == 2)?;
    Some(seconds.parse::<i64>().ok()? * 1_000 + hundredths.parse::<i64>().ok()? * 10)
}

/// What the instances on all nodes have logged about themselves; nothing for those whose app never ran.
fn own_accounts(cluster: &Cluster) -> Result<BTreeMap<String, Own>> {
    let mut all = BTreeMap::new();
    for node in cluster.nodes() {
        for entry in fs::read_dir(node.state.join("logs"))? {
            let path = entry?.path();
            if path.extension().is_none_or(|kind| kind != "log") {
                continue;
            }
            let log = fs::read_to_string(&path)?;
            let instance = path.file_stem().context("a log without a name")?.to_string_lossy().into_owned();
            if let Some(started_ms) = logged_ms(&log, "started") {
                all.insert(instance, Own { started_ms, ended_ms: logged_ms(&log, "ended in good order") });
            }
        }
    }
    Ok(all)
}

async fn until_at_rest(cluster: &Cluster) -> Result<()> {
    let admin = cluster.admin();
    wait::until("all instances to end", REST_WITHIN, async || {
        let objects = admin.objects().await?;
        let living: Vec<_> = objects.iter().filter(|object| object.instance.is_some()).collect();
        ensure!(living.is_empty(), "{living:?}");
        Ok(())
    })
    .await
}

#[test]
fn f4_intervals_are_those_of_the_containers_own_lives() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&App { vcpu: 0.5, ..App::default() }).await?;
        let client = cluster.client();
        for n in 0..count(6, 60) {
            let name = format!("l{n}");
            client.get(&format!("/container/{name}")).await?.success()?;
            tokio::time::sleep(Duration::from_millis(37 * (n as u64 % 10))).await;
            order(cluster, &name, "stop", &json!({})).await?;
            until_ended(cluster, &name, ExitReason::Stopped).await?;
        }
        let own = own_accounts(cluster)?;
        let records = records(cluster).await?;
        ensure!(records.len() == own.len(), "{} records of {} lives", records.len(), own.len());
        let mut over = Vec::new();
        for record in &records {
            let instance = record["instance"].as_str().context("no instance")?;
            let Own { started_ms, ended_ms } = own[instance];
            let own_ms = ended_ms.context("it did not say when it ended")? - started_ms;
            over.push(number(record, "lived_cs")? * 10 - own_ms);
            ensure!(record["estimated"] == false && record["reason"] == "stopped", "{record}");
            ensure!(record["region"] == "local" && record["object"].as_str().is_some(), "{record}");
        }
        over.sort_unstable();
        println!("metered, less what the containers say of themselves: {over:?} ms");
        // Before the first and behind the last thing that it does itself, the kernel starts and ends it.
        let usual = -TICKS_MS..=10 + TICKS_MS;
        ensure!(usual.contains(&over[over.len() / 2]), "{over:?}");
        ensure!(over.iter().all(|over| (-TURN_MS..=TURN_MS).contains(over)), "{over:?}");

        let lived: i64 = records.iter().map(|record| number(record, "lived_cs")).sum::<Result<_>>()?;
        let table = cluster.admin().get("/v1/usage?from=0&by=class").await?;
        let seconds = table["rows"][0]["instance_seconds"].as_f64().context("no row")?;
        ensure!((seconds - lived as f64 / 100.0).abs() < 1e-9, "{lived} steps, and {table}");
        let memory = table["total"]["memory_gib_seconds"].as_f64().context("no total")?;
        ensure!((memory - seconds / 8.0).abs() < 1e-6, "128 MiB: {table}");
        Ok(())
    })
}

/// Makes instances run and end in several ways, as far as the cluster answers.
async fn traffic(client: Client, round: usize) {
    let one = async |name: String| {
        let path = format!("/container/{name}");
        let _ = client.get(&path).await;
        match name.as_bytes().last() {
            Some(b'1') => drop(client.get(&format!("{path}/exit/0")).await),
            Some(b'2') => drop(client.get(&format!("{path}/exit/3")).await),
            _ => {}
        }
    };
    let names = |n: usize| format!("k{round}-{n}");
    tokio::join!(one(names(0)), one(names(1)), one(names(2)), one(names(3)));
}

#[test]
fn f4_killed_agents_and_edges_lose_no_life_and_count_none_twice() -> Outcome {
    scenario(Setup::nodes(2), async |cluster| {
        cluster.deploy(&App { vcpu: 0.25, sleep_after: "1s", ..App::default() }).await?;
        let mut own = BTreeMap::new();
        for round in 0..count(10, 100) {
            let load = tokio::spawn(traffic(cluster.client(), round));
            tokio::time::sleep(Duration::from_millis((round as u64 * 7919) % 700)).await;
            if round % 3 != 1 {
                cluster.kill_agent(round % 2)?;
            }
            if round % 3 != 0 {
                cluster.kill_edge()?;
                cluster.start_edge()?;
            }
            if round % 3 != 1 {
                cluster.start_agent(round % 2)?;
            }
            cluster.until_connected().await?;
            load.await.map_err(anyhow::Error::from)?;
            // Logs are kept for a while only.
            own.extend(own_accounts(cluster)?);
        }
        until_at_rest(cluster).await?;
        own.extend(own_accounts(cluster)?);
        compare(&own, &records(cluster).await?)?;

        let lived: i64 =
            records(cluster).await?.iter().map(|record| number(record, "lived_cs")).sum::<Result<_>>()?;
        let table = cluster.admin().get("/v1/usage?from=0").await?;
        let seconds = table["total"]["instance_seconds"].as_f64().context("no total")?;
        ensure!((seconds - lived as f64 / 100.0).abs() < 1e-9, "{lived} steps, and {table}");
        ensure!(table["total"]["live"] == 0 && table["untold"] == 0, "{table}");
        Ok(())
    })
}

/// Fails unless each instance that has logged its start has one record, with the logged duration, and no other has one.
fn compare(own: &BTreeMap<String, Own>, records: &[Value]) -> Result<()> {
    let mut seen = BTreeSet::new();
    for record in records {
        let instance = record["instance"].as_str().context("no instance")?;
        ensure!(seen.insert(instance.to_owned()), "two records of {instance}");
        ensure!(record["estimated"] == false, "nothing that measures was killed: {record}");
        let lived_ms = number(record, "lived_cs")? * 10;
        let Some(own) = own.get(instance) else {
            // Killed before it logged anything.
            ensure!(lived_ms <= 500, "it never said that it ran: {record}");
            continue;
        };
        if let Some(ended_ms) = own.ended_ms {
            let over = lived_ms - (ended_ms - own.started_ms);
            ensure!((-TURN_MS..=TURN_MS).contains(&over), "{over} ms more than it lived: {record}");
        }
    }
    let missing: Vec<_> = own.keys().filter(|instance| !seen.contains(*instance)).collect();
    ensure!(missing.is_empty(), "no record of {missing:?} among {}", records.len());
    ensure!(own.len() >= 15, "only {} instances ran", own.len());
    Ok(())
}

/// Has all shims of a node and its supervisor end in the same moment, so that neither records anything of the other. The
/// supervisor is stopped first, and not the shims: those would be continued by its death (orphaned process groups).
fn kill_shims_and_supervisor(cluster: &mut Cluster) -> Result<()> {
    let supervisor = cluster.supervisor(0)?.pid();
    kill(Pid::from_raw(i32::try_from(supervisor)?), Signal::SIGSTOP)?;
    for pid in host::children(supervisor) {
        // One without a container may be gone already.
        let _ = kill(Pid::from_raw(i32::try_from(pid)?), Signal::SIGKILL);
    }
    cluster.kill_supervisor(0)
}

#[test]
fn f4_what_loses_its_shim_has_an_estimated_record() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&App::default()).await?;
        let client = cluster.client();
        for both in [false, true] {
            let name = if both { "both" } else { "shim" };
            let path = format!("/container/{name}");
            let instance = client.get(&path).await?.success()?.instance()?;
            client.get(&format!("{path}/burn/300")).await?.success()?;
            client.get(&format!("{path}/bytes/100000")).await?.success()?;
            tokio::time::sleep(Duration::from_secs(1)).await;
            let before_ms = uptime_ms()?;
            if both {
                kill_shims_and_supervisor(cluster)?;
            } else {
                cluster.kill_shims(0)?;
            }
            until_ended(cluster, name, ExitReason::RuntimeLost).await?;
            let after_ms = uptime_ms()?;
            let record = record_of(cluster, &instance).await?;
            let own = own_accounts(cluster)?[&instance];
            let lived_ms = number(&record, "lived_cs")? * 10;
            ensure!(record["estimated"] == true && record["reason"] == "runtime_lost", "{record}");
            let (least, most) = (before_ms - own.started_ms - TICKS_MS, after_ms - own.started_ms + 50);
            ensure!((least..=most).contains(&lived_ms), "not within {least} and {most} ms: {record}");
            ensure!(number(&record, "cpu_us")? >= 290_000, "the group's CPU time was there: {record}");
            ensure!(number(&record, "sent_bytes")? >= 100_000, "{record}");
        }
        cluster.restart_supervisor(0)
    })
}

fn uptime_ms() -> Result<i64> {
    let text = fs::read_to_string("/proc/uptime")?;
    text.split(' ').next().and_then(ms_of).context("no uptime")
}

#[test]
fn f4_cpu_and_bytes_are_metered_as_used() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&App::default()).await?;
        let client = cluster.client();
        let instance = client.get("/container/c").await?.success()?.instance()?;
        client.get("/container/c/burn/1500").await?.success()?;
        client.get("/container/c/bytes/1000000").await?.success()?;

        let table = cluster.admin().get("/v1/usage?by=object").await?;
        let row = &table["rows"][0];
        ensure!(row["live"] == 1 && row["name"] == "c" && table["untold"] == 0, "{table}");
        ensure!(row["vcpu_seconds"].as_f64().is_some_and(|cpu| (1.45..1.8).contains(&cpu)), "{table}");
        ensure!(number(row, "sent_bytes")? >= 1_000_000, "{table}");

        // Noted within two seconds, for the agent after this one.
        tokio::time::sleep(Duration::from_millis(4_500)).await;
        cluster.kill_agent(0)?;
        cluster.start_agent(0)?;
        cluster.until_connected().await?;
        client.get("/container/c/bytes/1000000").await?.success()?;
        order(cluster, "c", "stop", &json!({})).await?;
        until_ended(cluster, "c", ExitReason::Stopped).await?;
        let record = record_of(cluster, &instance).await?;
        let (cpu_us, sent) = (number(&record, "cpu_us")?, number(&record, "sent_bytes")?);
        ensure!((1_450_000..1_800_000).contains(&cpu_us), "1.5 s of CPU time were used: {record}");
        ensure!((2_000_000..2_100_000).contains(&sent), "2 MB were sent: {record}");
        ensure!(number(&record, "received_bytes")? > 100, "{record}");
        ensure!(record["memory_bytes"] == 128 << 20 && record["cpu_sixteenths"] == 16, "{record}");
        Ok(())
    })
}

#[test]
fn f4_an_instance_that_never_ran_has_no_record() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&App { entrypoint: Some(vec!["/no/such/program"]), ..App::default() }).await?;
        ensure!(cluster.client().get("/container/n").await?.status == 500);
        let found = records(cluster).await?;
        ensure!(found.is_empty(), "{found:?}");
        Ok(())
    })
}

#[test]
fn f4_the_command_shows_usage_and_its_price_and_refuses_nonsense() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&App::default()).await?;
        cluster.client().get("/container/u").await?.success()?;
        order(cluster, "u", "stop", &json!({})).await?;
        until_ended(cluster, "u", ExitReason::Stopped).await?;
        cluster.client().get("/container/v").await?.success()?;

        let table = super::berth(cluster, &["usage", "--by", "object"]).await?;
        for word in ["APP", "OBJECT", "VCPU-S", "hello", "1 (1 live)", "(all)", "2 (1 live)"] {
            ensure!(table.contains(word), "no {word} in\n{table}");
        }
        let args = ["usage", "--from", "2020-01-01", "--app", "hello", "--json"];
        let json: Value = serde_json::from_str(&super::berth(cluster, &args).await?)?;
        ensure!(json["rows"][0]["instances"] == 2 && json["by"] == "app", "{json}");
        let none = super::berth(cluster, &["usage", "--from", "0", "--to", "2020-01-01"]).await?;
        ensure!(!none.contains("hello"), "{none}");

        let priced = super::berth(cluster, &["usage", "--price"]).await?;
        ensure!(priced.contains("INCLUDED") && priced.contains("in all, USD"), "{priced}");
        let rates = cluster.directory().join("rates.toml");
        fs::write(
            &rates,
            "currency = \"EUR\"\n[memory]\nprice = 1\n[cpu]\nprice = 0\n[disk]\nprice = 0\n[[egress]]\nname = \"all\"\nprice = 0\n",
        )?;
        let file = rates.to_string_lossy().into_owned();
        let args = ["usage", "--price", "--rates", file.as_str(), "--to", "2100-01-01T00:00:00Z", "--json"];
        let wrong = cluster.berth(&args).await?;
        ensure!(wrong.status.code() == Some(2), "a bill for so many months: {wrong:?}");
        let json: Value = serde_json::from_str(
            &super::berth(cluster, &["usage", "--price", "--rates", file.as_str(), "--json"]).await?,
        )?;
        let (bill, memory) =
            (&json["bill"], json["total"]["memory_gib_seconds"].as_f64().context("no total")?);
        let total = bill["total"].as_f64().context("no bill")?;
        ensure!(bill["currency"] == "EUR" && (total - memory).abs() < 1e-9 && memory > 0.0, "{json}");

        for (args, reason) in [
            (vec!["usage", "--by", "moon"], "moon"),
            (vec!["usage", "--from", "2026-02-02", "--to", "2026-02-01"], "is after"),
            (vec!["usage", "--from", "yesterday"], "yesterday"),
            (vec!["usage", "--rates", "x"], "--price"),
            (vec!["usage", "--price", "--rates", "/no/such/file"], "/no/such/file"),
        ] {
            let output = cluster.berth(&args).await?;
            let text = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.code() == Some(2) && text.contains(reason), "{args:?}: {output:?}");
        }
        for (path, status) in [
            ("/v1/usage?from=9&to=8", "422"),
            ("/v1/usage?by=moon", "400"),
            ("/v1/usage?from=soon", "400"),
            ("/v1/usage?colour=red", "400"),
            ("/v1/usage/records?limit=0", "422"),
            ("/v1/usage/records?cursor=x", "400"),
        ] {
            let refused = cluster.admin().get(path).await;
            let text = refused.err().context(format!("{path} was answered"))?.to_string();
            ensure!(text.contains(status), "{path}: {text}");
        }
        Ok(())
    })
}
