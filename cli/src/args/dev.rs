//! The arguments of `berth dev`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::EXIT_CODES;

/// Most nodes of one `berth dev`: each is two processes.
const MAX_NODES: i64 = 32;

/// Arguments of `berth dev`.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES, args_conflicts_with_subcommands = true)]
pub(crate) struct Dev {
    #[command(subcommand)]
    pub(crate) command: Option<DevCommand>,
    #[command(flatten)]
    pub(crate) at: DevDirs,
    /// The environment of a wrangler configuration, rather than its top level
    #[arg(long, short = 'e', value_name = "NAME")]
    pub(crate) env: Option<String>,
    /// Where to take requests. Port 0 takes any that is free
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8080")]
    pub(crate) listen: SocketAddr,
    /// How many nodes to run
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=MAX_NODES))]
    pub(crate) nodes: u16,
    /// Do not show what containers write. What a program writes with `console` is shown all the same
    #[arg(long)]
    pub(crate) quiet_containers: bool,
    /// Return once the app can be reached, and run on until `berth dev down`. Files are not watched then
    #[arg(long)]
    pub(crate) detach: bool,
    /// Hold each node's containers to the sizes of their disks, with so many disks, such as 6x2GB. They take room only as they
    /// are written. Root makes them; an ordinary user's are made before, with `berth-agent prepare`
    #[arg(long, value_name = "NxSIZE")]
    pub(crate) disk_slots: Option<String>,
    /// The process that `--detach` leaves
    #[arg(long, hide = true)]
    pub(crate) background: bool,
    /// Set by `berth wrangler dev`.
    #[arg(skip)]
    pub(crate) as_wrangler: Option<AsWrangler>,
}

/// What `berth wrangler dev` does in another way.
#[derive(Debug, Clone, Default)]
pub(crate) struct AsWrangler {
    /// The directory of the project, or its configuration.
    pub(crate) project: PathBuf,
    /// Variables of the program, before all others of the same names.
    pub(crate) vars: BTreeMap<String, String>,
}

/// What an app's directory is, and where its cluster keeps state.
#[derive(Debug, Args)]
pub(crate) struct DevDirs {
    /// The directory that holds berth.toml or a wrangler configuration
    #[arg(default_value = ".")]
    pub(crate) dir: PathBuf,
    /// Where to keep state and logs, instead of in DIR/.berth/dev, or for root in /var/lib/berth/dev
    #[arg(long, value_name = "DIR")]
    pub(crate) state: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DevCommand {
    /// End what `berth dev` has started, and every container
    ///
    /// What a killed `berth dev` has left is ended too. (For an app in a directory called `down`: `berth dev ./down`.)
    Down(DevDown),
}

/// Arguments of `berth dev down`.
#[derive(Debug, Args)]
pub(crate) struct DevDown {
    #[command(flatten)]
    pub(crate) at: DevDirs,
    /// Remove state, logs and disks too
    #[arg(long)]
    pub(crate) purge: bool,
    /// Only shows what would be done
    #[arg(long)]
    pub(crate) dry_run: bool,
}
