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
    Init(PlaceArgs),
    /// Adds a key, which becomes current, and prints its id.
    Add(PlaceArgs),
    /// Drops all keys but the current one and those named.
    Keep {
        #[command(flatten)]
        place: PlaceArgs,
        /// The current key, as the edge has it.
        #[arg(long, value_name = "ID")]
        current: KeyId,
        /// The id of a key that is in use.
        keys: Vec<KeyId>,
    },
}

/// The location of a key file.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub(crate) struct PlaceArgs {
    /// The edge's state directory, whose owner's the file becomes when root makes it.
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// The file, if it is not `secret.key` in the state directory.
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
}

impl PlaceArgs {
    fn file(&self) -> Result<KeyFile> {
        let default = || self.state.as_ref().map(|state| state.join(DEFAULT_NAME));
        let path = self.key_file.clone().or_else(default).context("no --state and no --key-file")?;
        Ok(KeyFile::at(std::path::absolute(path)?))
    }
}

/// Runs one of the commands.
pub(crate) fn run(command: &SecretKeyCommand) -> Result<()> {
    match command {
        SecretKeyCommand::Init(place) => {
            let file = place.file()?;
            let beside = file.path().parent().context("the key file has no directory")?;
            file.init(place.state.as_deref().unwrap_or(beside))?;
            writeln!(io::stdout(), "{}", file.path().display())?;
        }
        SecretKeyCommand::Add(place) => writeln!(io::stdout(), "{}", place.file()?.add()?)?,
        SecretKeyCommand::Keep { place, current, keys } => {
            writeln!(io::stdout(), "{}", place.file()?.keep(*current, keys)?)?;
        }
    }
    Ok(())
}
