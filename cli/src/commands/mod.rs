//! The commands, one file each.

mod certs;
mod check;
mod completions;
mod containers;
mod deploy;
mod dev;
mod nodes;
mod pack;

use anyhow::Result;

use crate::args::{Args, Command};

/// Carries out a command line.
pub(crate) async fn run(args: Args) -> Result<()> {
    match args.command {
        Command::Dev(args) => dev::run(&args).await,
        Command::Check(args) => check::run(&args),
        Command::Deploy(args) => deploy::run(&args).await,
        Command::Containers(command) => containers::run(command).await,
        Command::Nodes(args) => nodes::run(&args).await,
        Command::Pack(args) => pack::run(&args),
        Command::Certs(args) => certs::run(args),
        Command::Completions(args) => completions::run(&args),
    }
}
