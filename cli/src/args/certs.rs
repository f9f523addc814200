//! Arguments of `berth certs`.

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};

use super::EXIT_CODES;

#[derive(Debug, Subcommand)]
pub(crate) enum Certs {
    /// Make a new certificate authority: ca.pem and ca.key. Never overwrites one
    #[command(after_help = EXIT_CODES)]
    Init {
        /// The directory to keep it in
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
    },
    /// Issue a certificate to an edge or a node's agent: ROLE-NAME.pem and ROLE-NAME.key. Never overwrites one
    #[command(after_help = EXIT_CODES)]
    Issue {
        /// What it is for
        role: RoleArg,
        /// The edge's or the node's name
        name: String,
        /// The directory of the certificate authority
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
        /// How many days it holds
        #[arg(long, value_name = "N", default_value_t = 365)]
        days: u32,
    },
    /// Replace a certificate by one for the same key that holds from now on. Copy it to its daemon, then send that SIGHUP
    #[command(after_help = EXIT_CODES)]
    Renew {
        /// What it is for
        role: RoleArg,
        /// The edge's or the node's name
        name: String,
        /// The directory of the certificate authority
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
        /// How many days it holds
        #[arg(long, value_name = "N", default_value_t = 365)]
        days: u32,
    },
    /// Show whose certificates are in a directory and until when they hold
    #[command(after_help = EXIT_CODES)]
    Show {
        /// The directory of the certificate authority, or /etc/berth of a daemon
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum RoleArg {
    /// Takes requests and owns objects
    Edge,
    /// Runs containers on a node
    Agent,
}
