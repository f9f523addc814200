//! Arguments of `berth certs`.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand, ValueEnum};

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
    Issue(NewCertificate),
    /// Make a key on the machine that uses it, and a request for its certificate: ROLE-NAME.key and ROLE-NAME.csr
    ///
    /// The key stays there; `berth certs sign` makes the certificate of the request where the CA is. A key that is there already is used again.
    #[command(after_help = EXIT_CODES)]
    Request {
        /// What it is for
        role: RoleArg,
        /// The edge's or the node's name
        name: String,
        /// The directory for both
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
    },
    /// Issue a certificate for the key of a request: ROLE-NAME.pem
    #[command(after_help = EXIT_CODES)]
    Sign {
        /// The file of the request
        request: PathBuf,
        /// The directory of the certificate authority
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
        /// How many days it holds
        #[arg(long, value_name = "N", default_value_t = 365)]
        days: u32,
        /// Also if the name has a certificate for another key, which is replaced
        #[arg(long)]
        replace: bool,
    },
    /// Replace a certificate by one for the same key that holds from now on. Copy it to its daemon, then send that SIGHUP
    Renew(NewCertificate),
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

/// A certificate that is issued.
#[derive(Debug, ClapArgs)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct NewCertificate {
    /// What it is for
    pub(crate) role: RoleArg,
    /// The edge's or the node's name
    pub(crate) name: String,
    /// The directory of the certificate authority
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// How many days it holds
    #[arg(long, value_name = "N", default_value_t = 365)]
    pub(crate) days: u32,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum RoleArg {
    /// Takes requests and owns objects
    Edge,
    /// Runs containers on a node
    Agent,
}
