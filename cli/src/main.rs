//! `berth`: runs apps on this machine, deploys them to an edge, shows what runs, makes images and certificates.
//!
//! A client of the edge's admin API and a starter of the daemons; it holds no state of its own and makes no decision
//! that a daemon could make.

// What is written for people goes through `output`, which escapes what would steer their terminal.
#![warn(clippy::print_stdout, clippy::print_stderr)]

mod admin;
mod app;
mod args;
mod assets;
mod commands;
mod content;
mod deployable;
mod docker_config;
mod failure;
mod ids;
mod image;
mod output;
mod prefetch;
mod progress;
mod prompt;
mod pull;
mod push;
mod signals;
mod stop;
mod supply;
mod urls;
mod worker;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args = args::Args::read(&words(std::env::args_os()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome =
        runtime.map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(commands::run(args)));
    failure::exit_code(outcome)
}

/// The words of the command line. Started by a link that is called `wrangler`, it is that.
fn words(given: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut words: Vec<OsString> = given.collect();
    let called = words.first().and_then(|program| Path::new(program).file_name());
    if called.is_some_and(|name| name == "wrangler") {
        words.insert(1, "wrangler".into());
    }
    words
}
