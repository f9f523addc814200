//! `berth completions`: scripts for shells.

use std::io::Write;

use anyhow::Result;
use clap::CommandFactory;

use crate::args::{Args, Completions};

pub(crate) fn run(args: &Completions) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Args::command(), "berth", &mut script);
    std::io::stdout().write_all(&script)?;
    Ok(())
}
