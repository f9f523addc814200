//! Which edge a command speaks with.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Result, anyhow};
use clap::Args as ClapArgs;

use crate::admin::{self, Admin};
use crate::failure::bad_input;

/// The environment variables that name an edge where the command line does not.
const SOCKET: &str = "BERTH_ADMIN_SOCKET";
const URL: &str = "BERTH_ADMIN_URL";
const AUTHORITY: &str = "BERTH_ADMIN_CA";

/// Which edge to talk to.
#[derive(Debug, Clone, Default, ClapArgs)]
pub(crate) struct AdminArgs {
    /// The edge's admin socket [env: BERTH_ADMIN_SOCKET] [default: the first that exists of ./.berth/dev/edge/admin.sock and
    /// /var/lib/berth/edge/admin.sock]
    #[arg(long, value_name = "PATH")]
    pub(crate) admin_socket: Option<PathBuf>,
    /// The edge's admin API over the network, such as https://edge.example:8443, in place of a socket [env: BERTH_ADMIN_URL]
    #[arg(long, value_name = "URL", conflicts_with = "admin_socket")]
    pub(crate) admin_url: Option<String>,
    /// The authority that the certificate of --admin-url is of [env: BERTH_ADMIN_CA]
    #[arg(long, value_name = "FILE")]
    pub(crate) admin_ca: Option<PathBuf>,
    /// A file with the token for --admin-url [default: the variable BERTH_ADMIN_TOKEN]
    #[arg(long, value_name = "FILE")]
    pub(crate) admin_token_file: Option<PathBuf>,
    /// A directory whose own edge comes before that of the current one.
    #[arg(skip)]
    pub(crate) beside: Option<PathBuf>,
}

/// Where an edge is.
#[derive(Debug, PartialEq, Eq)]
enum EdgeAddress {
    Socket(PathBuf),
    Url(String),
    Usual,
}

impl AdminArgs {
    /// The edge that the command line names, or else the environment, or the first one found at the default sockets.
    pub(crate) fn edge(&self) -> Result<Admin> {
        // An empty variable is one that is not set.
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        match self.address(variable)? {
            EdgeAddress::Socket(socket) => Ok(Admin::at(socket)),
            EdgeAddress::Url(url) => {
                let authority = self.admin_ca.clone().or_else(|| variable(AUTHORITY).map(PathBuf::from));
                admin::at_url(&url, authority.as_deref(), self.admin_token_file.as_deref())
            }
            EdgeAddress::Usual => admin::at_usual_place(self.beside.as_deref()),
        }
    }

    /// An option wins over every variable, also over those of the other kind.
    fn address(&self, variable: impl Fn(&str) -> Option<OsString>) -> Result<EdgeAddress> {
        if let Some(socket) = &self.admin_socket {
            return Ok(EdgeAddress::Socket(socket.clone()));
        }
        if let Some(url) = &self.admin_url {
            return Ok(EdgeAddress::Url(url.clone()));
        }
        match (variable(SOCKET), variable(URL)) {
            (Some(_), Some(_)) => Err(bad_input(anyhow!(
                "{SOCKET} and {URL} are both set and name two edges: unset one, or give --admin-socket or --admin-url"
            ))),
            (Some(socket), None) => Ok(EdgeAddress::Socket(socket.into())),
            (None, Some(url)) => url
                .into_string()
                .map(EdgeAddress::Url)
                .map_err(|url| bad_input(anyhow!("{URL}={url:?} is not UTF-8"))),
            (None, None) => Ok(EdgeAddress::Usual),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(options: [Option<&str>; 2], variables: [Option<&str>; 2]) -> Option<EdgeAddress> {
        let [socket, url] = options.map(|option| option.map(str::to_owned));
        let args =
            AdminArgs { admin_socket: socket.map(PathBuf::from), admin_url: url, ..AdminArgs::default() };
        let variable = |name: &str| variables[usize::from(name == URL)].map(OsString::from);
        args.address(variable).ok()
    }

    #[test]
    fn options_win_over_every_variable() {
        let socket = |path: &str| Some(EdgeAddress::Socket(path.into()));
        let url = |url: &str| Some(EdgeAddress::Url(url.to_owned()));
        assert_eq!(address([None, Some("https://a")], [Some("/s"), None]), url("https://a"));
        assert_eq!(address([None, Some("https://a")], [Some("/s"), Some("https://b")]), url("https://a"));
        assert_eq!(address([Some("/a"), None], [None, Some("https://b")]), socket("/a"));
        assert_eq!(address([Some("/a"), None], [Some("/b"), Some("https://b")]), socket("/a"));
        assert_eq!(address([None, None], [Some("/s"), None]), socket("/s"));
        assert_eq!(address([None, None], [None, Some("https://b")]), url("https://b"));
        assert_eq!(address([None, None], [None, None]), Some(EdgeAddress::Usual));
        assert_eq!(address([None, None], [Some("/s"), Some("https://b")]), None);
    }
}
