//! Arguments of `berth usage`.

use std::path::PathBuf;

use clap::{Args as ClapArgs, ValueEnum};

use super::{AnyApp, EXIT_CODES, Show};

/// What has a row of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum By {
    /// Each object
    Object,
    /// Each class
    Class,
    /// Each app
    App,
}

/// Arguments of `berth usage`.
#[derive(Debug, ClapArgs)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Usage {
    /// From when on: 2026-03-01, 2026-03-01T12:00:00Z, or milliseconds since 1970 [default: the beginning of this month, UTC]
    #[arg(long, value_name = "TIME")]
    pub(crate) from: Option<String>,
    /// Until when, which is not part of it [default: now]
    #[arg(long, value_name = "TIME")]
    pub(crate) to: Option<String>,
    /// What has a row of its own
    #[arg(long, value_enum, default_value = "app")]
    pub(crate) by: By,
    #[command(flatten)]
    pub(crate) app: AnyApp,
    /// Also what it costs in all, with what is included each month
    #[arg(long)]
    pub(crate) price: bool,
    /// A file with other rates (TOML), as docs/usage.md describes it
    #[arg(long, value_name = "FILE", requires = "price")]
    pub(crate) rates: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) show: Show,
}
