//! The daemon that takes requests and owns objects. `ARCHITECTURE.md` describes its parts; a request enters at
//! `proxy::listener` and continues in `proxy`.

mod admin;
mod apps;
mod config;
mod delivery;
mod edge;
mod guarded;
mod happenings;
mod hooks;
mod http;
mod logs;
mod maintenance;
mod metrics;
mod nodes;
mod page;
mod prepared;
mod programs;
mod proxy;
mod scheduler;
mod script;
mod secrets;
mod shard;
mod start_rate;
mod terms;
mod tokens;
mod usage;
mod window;

use std::io::Read;
use std::process::ExitCode;

use anyhow::Context;
use berth_common::lifecycle::{Ending, Lifecycle};
use berth_common::telemetry;
use clap::Parser;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::config::{Cli, Command, RunArgs};
use crate::edge::sockets::Sockets;

fn main() -> ExitCode {
    let args = match Cli::parse().command {
        Command::Run(args) => *args,
        Command::Store(command) => return exit_code(maintenance::run(&command)),
        Command::SecretKey(command) => return exit_code(secrets::command::run(&command)),
        Command::Script => return exit_code(run_scripts()),
        Command::Man { dir } => return exit_code(config::write_manual(&dir)),
    };
    telemetry::init(args.log_format());
    telemetry::tell_fault();
    match run(args) {
        Ok(Ending::Clean) => ExitCode::SUCCESS,
        Ok(Ending::Forced) => ExitCode::FAILURE,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the scripts that an edge sends, in a process of their own.
fn run_scripts() -> anyhow::Result<()> {
    Ok(berth_script::process::run(berth_script::web::load)?)
}

/// The exit code of a command other than `run`. Prints the error on standard error.
fn exit_code(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", berth_common::shown::shown_lines(&format!("{error:#}")));
            ExitCode::FAILURE
        }
    }
}

fn run(args: RunArgs) -> anyhow::Result<Ending> {
    raise_file_limit();
    let sockets = Sockets::take(args.listen()).context("the sockets of the service manager")?;
    let lifecycle = Lifecycle::new();
    if args.watch_stdin {
        drain_at_end_of_stdin(lifecycle.clone())?;
    }
    let config = args.check()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(edge::run(config, sockets, lifecycle))
}

/// Raises the limit of open files to the most that the system permits. Best effort: at the limit, further connections
/// wait.
fn raise_file_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}

/// Drains the edge when its standard input ends, that is, with the process at the other end. On a thread of its own,
/// because a blocking read cannot be cancelled; the thread ends with the process.
fn drain_at_end_of_stdin(lifecycle: Lifecycle) -> anyhow::Result<()> {
    let watch = move || {
        let mut buffer = [0; 256];
        while std::io::stdin().read(&mut buffer).is_ok_and(|read| read > 0) {}
        tracing::info!("standard input ended");
        lifecycle.drain().cancel();
    };
    std::thread::Builder::new()
        .name("stdin".to_owned())
        .spawn(watch)
        .map(drop)
        .context("the watch of standard input")
}
