//! Arguments of `berth secret`, and of what else names secrets.

use std::path::PathBuf;

use berth_common::ids::{AppName, SecretName, StoreName, VariableName};
use clap::{Args as ClapArgs, Subcommand};

use super::{AdminArgs, AnyApp, EXIT_CODES, Show};

#[derive(Debug, Subcommand)]
pub(crate) enum Secret {
    /// Put a secret, in place of the one that is there; durable when this returns
    ///
    /// The value is what is on standard input, or in a file; on a terminal it is asked for and not shown. One newline at its end
    /// is left out. It is UTF-8 of 1 byte to 64 KiB without zero bytes. It is never an argument, which other users could see.
    ///
    /// Classes name the secrets that their containers get (`secrets` in berth.toml). Containers that run keep what they were
    /// started with; the next ones get the new value. Secrets of a store (`--store`) are for the programs of all apps whose
    /// `secrets_store_secrets` name them.
    #[command(after_help = EXIT_CODES)]
    Put {
        #[command(flatten)]
        secret: OneSecret,
        /// The file that holds the value
        #[arg(long, value_name = "FILE")]
        from_file: Option<PathBuf>,
        /// Put an empty value too; otherwise it is refused, as that of a variable that is not set
        #[arg(long)]
        allow_empty: bool,
    },
    /// List the secrets of an app or a store, without what they are
    #[command(after_help = EXIT_CODES)]
    List {
        #[command(flatten)]
        app: AnyApp,
        /// Those of this store
        #[arg(long, conflicts_with_all = ["app", "named_app"])]
        store: Option<StoreName>,
        #[command(flatten)]
        show: Show,
    },
    /// List the stores of secrets that apps share: those that have some
    #[command(after_help = EXIT_CODES)]
    Stores(Show),
    /// Delete a secret; containers that need it are not started any more
    #[command(after_help = EXIT_CODES)]
    Delete {
        #[command(flatten)]
        secret: OneSecret,
        /// Only shows what would be done
        #[arg(long)]
        dry_run: bool,
    },
    /// Make the file of the keys that an edge encrypts secrets with; never in place of one
    ///
    /// Without its key file an edge keeps no secrets. Whoever can read the file and the edge's store can read the secrets; without
    /// the file nobody can, so keep a copy of it in a safe place. A running edge finds it by itself.
    #[command(after_help = EXIT_CODES)]
    Init(KeyFileArgs),
    /// Encrypt all secrets of a running edge with a new key, and drop the old ones from the key file
    ///
    /// Broken off anywhere it leaves everything readable, and is done by doing it again. Exports of the store from before need
    /// the key file from before.
    #[command(after_help = EXIT_CODES)]
    Rotate {
        #[command(flatten)]
        place: KeyFileArgs,
        /// Only shows what would be done
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        admin: AdminArgs,
    },
}

/// Which app, or which store.
#[derive(Debug, ClapArgs)]
pub(crate) struct HeldBy {
    /// The app [default: the one of ./berth.toml, or of the wrangler configuration here]
    #[arg(long)]
    pub(crate) app: Option<AppName>,
    /// A store of secrets that apps share. It is there as long as it has one
    #[arg(long, conflicts_with = "app")]
    pub(crate) store: Option<StoreName>,
}

/// Which secret.
#[derive(Debug, ClapArgs)]
pub(crate) struct OneSecret {
    /// Its name: ASCII letters, digits and `_`, as of an environment variable
    pub(crate) name: SecretName,
    #[command(flatten)]
    pub(crate) of: HeldBy,
    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

/// Where a key file is.
#[derive(Debug, ClapArgs)]
#[group(required = true, multiple = true)]
pub(crate) struct KeyFileArgs {
    /// The edge's state directory. Made by root, the file is its owner's
    #[arg(long, value_name = "DIR")]
    pub(crate) state: Option<PathBuf>,
    /// The file, as the edge's --secret-key says [default: secret.key in the state directory]
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
}

/// A secret and the variable that it becomes, which has its name unless another is given.
pub(super) fn binding(text: &str) -> Result<(VariableName, SecretName), String> {
    let (variable, name) = text.split_once('=').unwrap_or((text, text));
    let wrong = |what: &str, error| format!("{what} {error}");
    Ok((
        variable.parse().map_err(|error| wrong("the variable's name", error))?,
        name.parse().map_err(|error| wrong("the secret's name", error))?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_becomes_a_variable_of_its_name_or_of_another() {
        let names = |text| binding(text).map(|(variable, name)| format!("{variable} {name}"));
        assert_eq!(names("A"), Ok("A A".to_owned()));
        assert_eq!(names("KEY=A"), Ok("KEY A".to_owned()));
        for bad in ["", "=A", "KEY=", "A-B", "KEY=A=B"] {
            assert!(binding(bad).is_err(), "{bad}");
        }
    }
}
