//! Arguments of `berth alarm`, `berth schedules` and `berth hooks`.

use std::time::{Duration, SystemTime};

use clap::{Args as ClapArgs, Subcommand};
use serde_json::Value;

use super::{AdminArgs, EXIT_CODES, OneApp, Show};

#[derive(Debug, Subcommand)]
pub(crate) enum Alarm {
    /// Show the alarm of an object
    #[command(after_help = EXIT_CODES)]
    Get(OneObject),
    /// Set the alarm of an object, in place of the one that it has
    #[command(after_help = EXIT_CODES)]
    Set {
        #[command(flatten)]
        object: OneObject,
        #[command(flatten)]
        when: When,
        /// The callback of its class
        #[arg(long, value_name = "NAME", default_value = "alarm")]
        callback: String,
    },
    /// Take the alarm of an object away
    #[command(after_help = EXIT_CODES)]
    Delete {
        /// The object: APP/CLASS/NAME, or its ID or the first digits of it
        object: String,
        /// Only shows what would be done
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        admin: AdminArgs,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Schedules {
    /// List what an object is to do
    #[command(after_help = EXIT_CODES)]
    List(OneObject),
    /// Have an object do something at a time; its ID is printed
    #[command(after_help = EXIT_CODES)]
    Add {
        #[command(flatten)]
        object: OneObject,
        /// The callback of its class
        callback: String,
        #[command(flatten)]
        when: When,
    },
    /// Have something not done after all
    #[command(after_help = EXIT_CODES)]
    Delete {
        /// The object: APP/CLASS/NAME, or its ID or the first digits of it
        object: String,
        /// Its ID or the first digits of it, as `berth schedules list` shows it
        id: String,
        /// Only shows what would be done
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        admin: AdminArgs,
    },
}

#[derive(Debug, ClapArgs)]
pub(crate) struct OneObject {
    /// The object: APP/CLASS/NAME, or its ID or the first digits of it
    pub(crate) object: String,
    #[command(flatten)]
    pub(crate) show: Show,
}

/// When something is to be done, and with what.
#[derive(Debug, ClapArgs)]
pub(crate) struct When {
    /// In how long, such as 90s, 5m or 2h
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, required_unless_present = "at")]
    pub(crate) after: Option<Duration>,
    /// When, such as 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_rfc3339_weak, conflicts_with = "after")]
    pub(crate) at: Option<SystemTime>,
    /// Any JSON, which the callback gets
    #[arg(long, value_name = "JSON", value_parser = payload)]
    pub(crate) payload: Option<Value>,
}

fn payload(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| format!("expected JSON, such as '{{\"a\": 1}}': {error}"))
}

/// Arguments of `berth crons`.
#[derive(Debug, ClapArgs)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Crons {
    #[command(flatten)]
    pub(crate) app: OneApp,
    #[command(flatten)]
    pub(crate) show: Show,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Hooks {
    /// List the events that are still to be told
    #[command(after_help = EXIT_CODES)]
    Pending(Show),
    /// List the events that were tried often enough and set aside
    #[command(after_help = EXIT_CODES)]
    Failed(Show),
    /// Have events that were set aside told after all
    #[command(after_help = EXIT_CODES)]
    Retry {
        #[command(flatten)]
        which: ChosenEvents,
    },
    /// Forget events that were set aside
    #[command(after_help = EXIT_CODES)]
    Discard {
        #[command(flatten)]
        which: ChosenEvents,
        /// Only shows which
        #[arg(long)]
        dry_run: bool,
    },
}

/// Which events.
#[derive(Debug, ClapArgs)]
pub(crate) struct ChosenEvents {
    /// Their IDs as `berth hooks failed` shows them: the object's, of which the first digits are enough, `-`, and the event's number
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    pub(crate) ids: Vec<String>,
    /// All of them
    #[arg(long)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}
