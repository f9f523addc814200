//! The arguments of `berth events`.

use berth_common::ids::{AppName, NodeId};
use clap::Args;

use super::{AdminArgs, EXIT_CODES};

/// Arguments of `berth events`.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Events {
    /// Go on with what happens later, until Ctrl-C
    #[arg(long, short)]
    pub(crate) follow: bool,
    /// Only what happened to objects of this app
    #[arg(long)]
    pub(crate) app: Option<AppName>,
    /// Only what happened to or on this node
    #[arg(long)]
    pub(crate) node: Option<NodeId>,
    /// Only the last of those that are kept
    #[arg(long, value_name = "N")]
    pub(crate) tail: Option<usize>,
    /// Print each as a line of JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}
