//! `berth dev --detach`: the processes that keep running after the command returns, and their end.

use std::fs;
use std::net::SocketAddr;
use std::process::Output;

use anyhow::{Context, Result, ensure};
use berth_tests::client::Client;
use berth_tests::run::Run;
use berth_tests::scenario::Outcome;
use berth_tests::{ports, wait};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{AppDir, DOWN_WITHIN, expect_nothing_left, groups_of};

#[test]
fn berth_dev_in_the_background_keeps_its_state_and_leaves_nothing_when_it_is_down() -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("a runtime")?;
    Ok(runtime.block_on(lives_and_ends())?)
}

async fn lives_and_ends() -> Result<()> {
    let run = Run::current()?;
    let mut app = AppDir::make(&run, "background")?;
    let address = ports::free_address()?;
    let outcome = through_its_life(&mut app, address).await;
    let groups = groups_of(&run, &app.state);
    // Whatever went wrong, it does not stay.
    let down = succeed(run_berth(&app, &["dev", "down", "--purge"])?);
    let log = fs::read_to_string(app.state.join("logs/dev.log")).unwrap_or_default();
    outcome.and(down.map(drop)).with_context(|| format!("`berth dev` said:\n{log}"))?;
    ensure!(!app.state.exists(), "{} is still there", app.state.display());
    expect_nothing_left(&app, &groups, address.port())
}

async fn through_its_life(app: &mut AppDir, address: SocketAddr) -> Result<()> {
    up(app, address)?;
    app.find_state();
    let first = instance(address).await?;
    refuses_a_second_one(app)?;
    ensure!(instance(address).await? == first, "a second `berth dev` has disturbed the first");
    app.put_secret()?;
    let text = succeed(run_berth(app, &["dev", "down"])?)?;
    ensure!(text.contains("nothing runs"), "`berth dev down` said: {text}");
    ensure!(app.running().is_empty(), "still running:\n{}", app.running().join("\n"));
    up(app, address)?;
    let secrets = succeed(run_berth(app, &["secret", "list"])?)?;
    ensure!(secrets.contains("API_KEY"), "the state was not kept: {secrets}");
    ensure!(instance(address).await? != first, "the container has outlived `berth dev down`");
    kill_it(app)?;
    // Its remaining processes end by themselves, and the next start waits for them.
    up(app, address)?;
    instance(address).await?;
    kill_it(app)?;
    wait::until("daemons and containers to end by themselves", DOWN_WITHIN, async || {
        ensure!(app.running().is_empty(), "still running:\n{}", app.running().join("\n"));
        Ok(())
    })
    .await
}

/// Returns once the app answers.
fn up(app: &AppDir, address: SocketAddr) -> Result<()> {
    let text =
        succeed(run_berth(app, &["dev", "--nodes", "2", "--detach", "--listen", &address.to_string()])?)?;
    let container = format!("http://{address}/container/1");
    ensure!(text.contains(&container), "it does not say where to reach the app: {text}");
    Ok(())
}

fn refuses_a_second_one(app: &AppDir) -> Result<()> {
    let second = run_berth(app, &["dev", "--detach", "--listen", "127.0.0.1:0"])?;
    let text = String::from_utf8_lossy(&second.stderr);
    ensure!(second.status.code() == Some(1), "a second one ended with {}: {text}", second.status);
    ensure!(text.contains("another `berth dev` runs for this directory"), "a second one said: {text}");
    Ok(())
}

/// SIGKILL to the process that stayed, whose number is in the lock that it holds.
fn kill_it(app: &AppDir) -> Result<()> {
    let lock = fs::read_to_string(app.state.join("lock")).context("read the lock")?;
    Ok(kill(Pid::from_raw(lock.trim().parse()?), Signal::SIGKILL)?)
}

async fn instance(address: SocketAddr) -> Result<String> {
    Ok(Client::of(address).get("/container/1").await?.success()?.instance()?.to_string())
}

fn run_berth(app: &AppDir, words: &[&str]) -> Result<Output> {
    app.berth(words).output().with_context(|| format!("run `berth {}`", words.join(" ")))
}

/// Its standard output; fails if the command has failed.
fn succeed(output: Output) -> Result<String> {
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {text}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
