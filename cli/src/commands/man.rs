//! `berth man`: manual pages, made from the same words as the help.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use clap::CommandFactory;

use crate::args::Args;
use crate::output;

pub(crate) fn run(directory: &Path) -> Result<()> {
    let place = || format!("cannot write manual pages to {}", directory.display());
    fs::create_dir_all(directory).with_context(place)?;
    clap_mangen::generate_to(Args::command(), directory).with_context(place)?;
    let count = fs::read_dir(directory).with_context(place)?.count();
    Ok(output::line(format_args!(
        "{}: {count} pages; man -l {0}/berth.1 shows the first",
        directory.display()
    ))?)
}
