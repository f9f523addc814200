//! Which edge a command speaks with.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args as ClapArgs;

use crate::admin::{self, Admin};

/// Which edge to talk to.
#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct AdminArgs {
    /// The edge's admin socket [default: the first that exists of ./.berth/dev/edge/admin.sock and
    /// /var/lib/berth/edge/admin.sock]
    #[arg(long, value_name = "PATH", env = "BERTH_ADMIN_SOCKET", hide_env_values = true)]
    pub(crate) admin_socket: Option<PathBuf>,
    /// The edge's admin API over the network, such as https://edge.example:8443, in place of a socket
    #[arg(
        long,
        value_name = "URL",
        env = "BERTH_ADMIN_URL",
        hide_env_values = true,
        conflicts_with = "admin_socket"
    )]
    pub(crate) admin_url: Option<String>,
    /// The authority that the certificate of --admin-url is of
    #[arg(long, value_name = "FILE", env = "BERTH_ADMIN_CA", hide_env_values = true)]
    pub(crate) admin_ca: Option<PathBuf>,
    /// A file with the token for --admin-url [default: the variable BERTH_ADMIN_TOKEN]
    #[arg(long, value_name = "FILE")]
    pub(crate) admin_token_file: Option<PathBuf>,
}

impl AdminArgs {
    /// The edge that the command line names, or the first one found at the default sockets.
    pub(crate) fn edge(&self) -> Result<Admin> {
        if let Some(url) = &self.admin_url {
            return admin::at_url(url, self.admin_ca.as_deref(), self.admin_token_file.as_deref());
        }
        self.admin_socket.as_ref().map_or_else(admin::at_usual_place, |socket| Ok(Admin::at(socket)))
    }
}
