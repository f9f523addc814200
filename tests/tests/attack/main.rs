//! Attacks from inside a container. Each is tried twice: with all layers of protection, where it must fail with exactly
//! the error that is expected, and without the layers that stop it, where it must get through: so the probe is known to
//! be one, and the layer to be what stops it.
//!
//! * `table` is what is expected of each.
//! * `neighbours` is what one container takes from others.
//! * `reach` is what of the machine, and of other containers, is seen and reached from inside.

mod neighbours;
mod reach;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{PoisonError, RwLock};

use anyhow::{Context, Result, ensure};
use berth_tests::app::App;
use berth_tests::cluster::{Cluster, Setup};
use berth_tests::programs::PROBE;
use berth_tests::scenario::{self, Outcome};

use self::table::{ROWS, Row};

/// Held for writing by a scenario in which an attacker has no bound: all clusters here have the same user, and what the
/// kernel counts for that user is then used up for scenarios beside it too.
static UNBOUNDED: RwLock<()> = RwLock::new(());

/// Runs a scenario, beside others of its kind.
fn scenario(setup: Setup, steps: impl AsyncFnOnce(&mut Cluster) -> Result<()>) -> Outcome {
    let _bounded = UNBOUNDED.read().unwrap_or_else(PoisonError::into_inner);
    scenario::scenario(setup, steps)
}

/// Runs a scenario while no other one runs: in it, an attacker has no bound.
fn scenario_alone(setup: Setup, steps: impl AsyncFnOnce(&mut Cluster) -> Result<()>) -> Outcome {
    let _unbounded = UNBOUNDED.write().unwrap_or_else(PoisonError::into_inner);
    scenario::scenario(setup, steps)
}

/// The results of probes, by their names.
type Answers = BTreeMap<&'static str, String>;

fn app() -> App {
    App { program: PROBE, memory: "256MiB", ..App::default() }
}

/// Runs the probes of these rows in one container.
async fn run(cluster: &mut Cluster, rows: &[&Row]) -> Result<Answers> {
    cluster.deploy(&app()).await?;
    let mut answers = Answers::new();
    for row in rows {
        let answer = cluster.client().get(&format!("/container/attack/probe/{}", row.name)).await?;
        answers.insert(row.name, answer.success()?.text);
    }
    Ok(answers)
}

/// The same on a node without some layers.
fn run_without(layers: &'static [&'static str], rows: &[&Row]) -> Result<Answers> {
    let options = layers.iter().flat_map(|layer| ["--without", layer]).collect();
    let mut answers = Answers::new();
    let setup = Setup { agent_options: options, ..Setup::nodes(1) };
    let outcome = scenario(setup, async |cluster| {
        answers = run(cluster, rows).await?;
        Ok(())
    });
    outcome.map_err(|failure| anyhow::anyhow!("without {layers:?}: {failure:?}"))?;
    Ok(answers)
}

#[test]
fn every_attack_fails_because_of_the_layers_that_are_meant_to_stop_it() -> Outcome {
    let all: Vec<&Row> = ROWS.iter().collect();
    let protected = run_without(&[], &all)?;
    let mut unprotected = Answers::new();
    let sets: BTreeSet<&'static [&'static str]> = ROWS.iter().map(|row| row.layers).collect();
    for layers in sets.into_iter().filter(|layers| !layers.is_empty()) {
        let rows: Vec<&Row> = ROWS.iter().filter(|row| row.layers == layers).collect();
        unprotected.extend(run_without(layers, &rows)?);
    }
    let mut wrong = Vec::new();
    println!("{:<22} {:<18} {:<18} without", "PROBE", "PROTECTED", "UNPROTECTED");
    for row in ROWS {
        let (with, without) = (&protected[row.name], unprotected.get(row.name));
        let shown = without.map_or("-", String::as_str);
        println!("{:<22} {with:<18} {shown:<18} {}", row.name, row.layers.join(", "));
        if with != row.expected || without.is_some_and(|without| without != row.then) {
            wrong.push(format!(
                "{}: expected {} and {}, got {with} and {shown}",
                row.name, row.expected, row.then
            ));
        }
    }
    table::NOT_TESTABLE.iter().for_each(|why| println!("not testable here: {why}"));
    Ok(check(&wrong)?)
}

fn check(wrong: &[String]) -> Result<()> {
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[test]
fn every_probe_has_its_row() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&app()).await?;
        let list = cluster.client().get("/container/attack/probes").await?.success()?.text;
        let known: BTreeSet<&str> = ROWS.iter().map(|row| row.name).collect();
        let probes: BTreeSet<&str> = list.lines().collect();
        ensure!(known == probes, "without a row or a probe: {:?}", known.symmetric_difference(&probes));
        list.lines().next().context("no probes").map(drop)
    })
}
