//! The arguments of `berth logs`.

use berth_common::ids::AppName;
use clap::Args;

use super::{EXIT_CODES, Show};

/// Arguments of `berth logs`.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Logs {
    /// The object: APP/CLASS/NAME, or its ID or the first digits of it, as `berth containers list` shows it
    #[arg(required_unless_present = "app", conflicts_with = "app")]
    pub(crate) object: Option<String>,
    /// All containers of this app, in place of one object's
    #[arg(long)]
    pub(crate) app: Option<AppName>,
    /// Go on with what is written later, until Ctrl-C. An object that had no container yet is waited for
    #[arg(long, short)]
    pub(crate) follow: bool,
    /// Only from this moment on: how long ago, such as 10m, or milliseconds since 1970
    #[arg(long, value_name = "WHEN")]
    pub(crate) since: Option<String>,
    /// Only the last lines, so many in all: up to 10000
    #[arg(long, value_name = "N")]
    pub(crate) tail: Option<u32>,
    /// On a terminal too, pass on what containers write as it is, colours and control characters included
    #[arg(long, conflicts_with = "json")]
    pub(crate) raw: bool,
    #[command(flatten)]
    pub(crate) show: Show,
}
