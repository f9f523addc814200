//! Arguments of `berth deploy`.

use std::path::PathBuf;

use clap::Args as ClapArgs;

use super::{EXIT_CODES, Show, TermArgs};
use crate::prefetch::WaitFor;

/// Arguments of `berth deploy`.
#[derive(Debug, ClapArgs)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Deploy {
    /// The directory that holds berth.toml or a wrangler configuration
    #[arg(default_value = ".")]
    pub(crate) dir: PathBuf,
    /// The environment of a wrangler configuration, rather than its top level
    #[arg(long, short = 'e', value_name = "NAME")]
    pub(crate) env: Option<String>,
    /// Only check the app, as `berth check` does: asks no edge, changes nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) terms: TermArgs,
    /// How many nodes must have the images before the version becomes current: all that are connected and can run them, none,
    /// or a number
    #[arg(long, value_name = "all|none|N", default_value_t)]
    pub(crate) wait_for: WaitFor,
    /// How long that may take, such as 90s; then nothing is changed
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = humantime::parse_duration)]
    pub(crate) wait_timeout: std::time::Duration,
    /// Make a version even if nothing has changed since the current one
    #[arg(long)]
    pub(crate) force: bool,
    /// Only warn if no node is connected, or none could ever hold a container of a class; otherwise nothing is changed then
    #[arg(long)]
    pub(crate) allow_unplaceable: bool,
    #[command(flatten)]
    pub(crate) show: Show,
}
