//! What a way out to the internet is made with.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Name of the interface that leads out.
pub(super) const INTERFACE: &str = "eth0";

/// A network with a way out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Internet {
    /// The host's name server that names are resolved with, if it has one.
    pub resolver: Option<IpAddr>,
    /// The program that carries packets between the namespace and the host's sockets.
    pub pasta: PathBuf,
    /// The program that sets firewall rules.
    pub nft: PathBuf,
}
