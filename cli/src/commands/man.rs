//! `berth man`: manual pages, generated from the same text as `--help`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use clap::CommandFactory;

use crate::args::Args;
use crate::output;

pub(crate) fn run(directory: &Path) -> Result<()> {
    let failed = || format!("cannot write manual pages to {}", directory.display());
    fs::create_dir_all(directory).with_context(failed)?;
    clap_mangen::generate_to(Args::command(), directory).with_context(failed)?;
    let count = fs::read_dir(directory).with_context(failed)?.count();
    Ok(output::line(format_args!(
        "{}: {count} pages; man -l {0}/berth.1 shows the first",
        directory.display()
    ))?)
}
