//! `berth-agent check`: tries what containers need on this machine, and prints what is missing with the command that
//! fixes it.

mod rows;

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::Context;
use nix::unistd::{Uid, User};
use serde::Serialize;

use berth_shim::process::OWN_PROGRAM;

/// The options of `berth-agent check`.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// State directory of the node
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// Delegated cgroup
    #[arg(long, value_name = "PATH")]
    pub cgroup: Option<PathBuf>,
    /// The user that agents run as, for whom root checks
    #[arg(long, default_value = "berth")]
    pub user: String,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// How well something works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    /// It works.
    Ok,
    /// Containers run, but something is weaker or missing.
    Degraded,
    /// No container can run.
    Missing,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Degraded => "degraded",
            Self::Missing => "MISSING",
        }
    }
}

/// The result of one check.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    pub(crate) what: &'static str,
    pub(crate) state: State,
    /// What was found.
    pub(crate) found: String,
    /// What it is needed for.
    pub(crate) why: &'static str,
    /// The command that fixes it, if something is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) fix: Option<String>,
}

/// Prints all rows. Fails if containers cannot run.
pub fn main(options: &Options) -> anyhow::Result<ExitCode> {
    if Uid::effective().is_root() {
        return as_user(options);
    }
    let rows = rows::all(options);
    if options.json {
        println!("{}", serde_json::to_string_pretty(&rows)?);
    } else {
        print(&rows);
    }
    let runs = rows.iter().all(|row| row.state != State::Missing);
    Ok(if runs { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs the check as the agents' user: root can do what agents cannot.
fn as_user(options: &Options) -> anyhow::Result<ExitCode> {
    let user = User::from_name(&options.user)?.with_context(|| {
        format!("there is no user `{}`: `berth-agent prepare` makes one, --user names another", options.user)
    })?;
    let mut command = Command::new(OWN_PROGRAM);
    command.args(std::env::args_os().skip(1)).uid(user.uid.as_raw()).gid(user.gid.as_raw()).current_dir("/");
    let status = command.status().with_context(|| format!("check as the user `{}`", user.name))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(rows: &[Row]) {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_header(["WHAT", "STATE", "FOUND"]);
    table.add_rows(rows.iter().map(|row| [row.what, row.state.name(), &row.found]));
    table.lines().for_each(|line| println!("{}", line.trim_end()));
    for row in rows.iter().filter(|row| row.state != State::Ok) {
        println!("\n{}: {}", row.what, row.why);
        if let Some(fix) = &row.fix {
            println!("  {fix}");
        }
    }
}
