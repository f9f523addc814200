//! The commands, one file each.

mod apps;
mod build;
mod certs;
mod check;
mod completions;
mod connect;
mod containers;
mod deploy;
mod dev;
mod events;
mod hooks;
mod images;
mod init;
mod kv;
mod logs;
mod man;
mod nodes;
mod pack;
mod registries;
mod schedules;
mod schema;
mod secret;
mod store;
mod token;
mod usage;
mod wrangler;

use anyhow::Result;

use crate::args::{Args, Command};

/// Carries out a command line.
pub(crate) async fn run(args: Args) -> Result<()> {
    match args.command {
        Command::Dev(args) => dev::run(&args).await,
        Command::Init(args) => init::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Deploy(args) => deploy::run(&args).await,
        Command::Build(args) => build::run(&args).await,
        Command::Images(command) => images::run(command).await,
        Command::Registries(command) => registries::run(command).await,
        Command::Versions(args) => apps::versions(&args).await,
        Command::Rollback(args) => apps::roll_back(&args).await,
        Command::Apps(command) => apps::run(command).await,
        Command::Containers(command) => containers::run(command).await,
        Command::Logs(args) => logs::run(&args).await,
        Command::Connect(args) => connect::connect(&args).await,
        Command::PortForward(args) => connect::forward(&args).await,
        Command::Kv(command) => kv::run(command).await,
        Command::Secret(command) => secret::run(command).await,
        Command::Alarm(command) => schedules::alarm(command).await,
        Command::Schedules(command) => schedules::schedules(command).await,
        Command::Crons(args) => schedules::crons(&args).await,
        Command::Hooks(command) => hooks::run(command).await,
        Command::Nodes(args) => nodes::run(args).await,
        Command::Events(args) => events::run(&args).await,
        Command::Usage(args) => usage::run(&args).await,
        Command::Pack(args) => pack::run(&args),
        Command::Token(command) => token::run(command).await,
        Command::Store(command) => store::run(&command).await,
        Command::Wrangler(args) => wrangler::run(args).await,
        Command::Schema => schema::run(),
        Command::Certs(args) => certs::run(args),
        Command::Completions(args) => completions::run(&args),
        Command::Man { dir } => man::run(&dir),
    }
}
