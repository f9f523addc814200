//! `berth-agent drain` and `undrain`: the commands before and after maintenance of a node's machine.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::bail;
use tokio::time::Instant;

use crate::control::{Contents, ControlCall, ask};

/// How often the agent is asked for its state.
const POLL: Duration = Duration::from_millis(200);
/// How long after the end of the grace the last instance may take to end.
const SLACK: Duration = Duration::from_secs(15);

/// The options of `berth-agent drain`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Directory of the node's state
    #[arg(long, value_name = "DIR")]
    pub state: PathBuf,
    /// How long instances may take to end after SIGTERM; then they are killed
    #[arg(long, value_name = "DURATION", default_value = "15m", value_parser = humantime::parse_duration)]
    pub grace: Duration,
    /// Return at once, not when the node is empty
    #[arg(long)]
    pub no_wait: bool,
    /// Only say how many instances would be ended
    #[arg(long)]
    pub dry_run: bool,
}

/// Empties a node, and prints its progress.
pub fn main(options: &Options) -> anyhow::Result<()> {
    run(async {
        let grace_ms = u64::try_from(options.grace.as_millis()).unwrap_or(u64::MAX);
        let call = if options.dry_run { ControlCall::Status } else { ControlCall::Drain { grace_ms } };
        let Contents { instances, .. } = ask(&options.state, &call).await?;
        match (options.dry_run, options.no_wait) {
            (true, _) => println!("{} would be ended with SIGTERM", count(instances)),
            (false, true) => println!("the node takes no new instances; {} end", count(instances)),
            (false, false) => until_empty(options).await?,
        }
        Ok(())
    })
}

async fn until_empty(options: &Options) -> anyhow::Result<()> {
    let deadline = Instant::now().checked_add(options.grace.saturating_add(SLACK));
    println!("the node takes no new instances");
    let mut printed = None;
    loop {
        let Contents { instances, held } = ask(&options.state, &ControlCall::Status).await?;
        if instances + held == 0 {
            break;
        }
        if printed.replace(instances) != Some(instances) {
            println!("{} left", count(instances));
        }
        if deadline.is_some_and(|at| Instant::now() > at) {
            bail!("{} did not end, although killed; the node stays out of service", count(instances));
        }
        tokio::time::sleep(POLL).await;
    }
    println!("the node is empty, until `berth-agent undrain --state {}`", options.state.display());
    Ok(())
}

/// Takes a node into service again.
pub fn undo(state: &Path) -> anyhow::Result<()> {
    run(async {
        ask(state, &ControlCall::Undrain).await?;
        println!("the node takes new instances");
        Ok(())
    })
}

fn count(instances: usize) -> String {
    format!("{instances} instance{}", if instances == 1 { "" } else { "s" })
}

fn run(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}
