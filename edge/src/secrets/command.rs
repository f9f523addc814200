//! `berth-edge secret-key`: creates and changes the key file on behalf of its owner, whether or not the edge runs.
//! `berth secret init` and `berth secret rotate` call it.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::{Context, Result};
use berth_store::KeyId;
use clap::{Args, Subcommand};

use super::file::{DEFAULT_NAME, KeyFile};

/// What to do with a key file.
#[derive(Debug, Subcommand)]
pub(crate) enum SecretKeyCommand {
    /// Makes a key file; never in place of one.
    Init(KeyFileArgs),
    /// Adds a key, which becomes current, and prints its id.
    Add(KeyFileArgs),
    /// Drops all keys but the current one and those named.
    Keep {
        #[command(flatten)]
        location: KeyFileArgs,
        /// The current key, as the edge has it.
        #[arg(long, value_name = "ID")]
        current: KeyId,
        /// The id of a key that is in use.
        keys: Vec<KeyId>,
        /// Drops none, and only prints how many it would.
        #[arg(long)]
        dry_run: bool,
    },
}

/// The location of a key file.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub(crate) struct KeyFileArgs {
    /// The edge's state directory, whose owner's the file becomes when root makes it.
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// The file, if it is not `secret.key` in the state directory.
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
}

impl KeyFileArgs {
    fn file(&self) -> Result<KeyFile> {
        let default = || self.state.as_ref().map(|state| state.join(DEFAULT_NAME));
        let path = self.key_file.clone().or_else(default).context("no --state and no --key-file")?;
        Ok(KeyFile::at(std::path::absolute(path)?))
    }
}

/// Runs one of the commands.
pub(crate) fn run(command: &SecretKeyCommand) -> Result<()> {
    match command {
        SecretKeyCommand::Init(location) => {
            let file = location.file()?;
            let directory = file.path().parent().context("the key file has no directory")?;
            file.init(location.state.as_deref().unwrap_or(directory))?;
            writeln!(io::stdout(), "{}", file.path().display())?;
        }
        SecretKeyCommand::Add(location) => writeln!(io::stdout(), "{}", location.file()?.add()?)?,
        SecretKeyCommand::Keep { location, current, keys, dry_run } => {
            let file = location.file()?;
            let dropped = if *dry_run { file.surplus(*current, keys) } else { file.keep(*current, keys) };
            writeln!(io::stdout(), "{}", dropped?)?;
        }
    }
    Ok(())
}
