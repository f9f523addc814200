//! The configuration of internet access.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Name of the interface with internet access.
pub(super) const INTERFACE: &str = "eth0";

/// A network with internet access.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Internet {
    /// The host's name server, if it has one.
    pub resolver: Option<IpAddr>,
    /// The program pasta, which carries packets between the namespace and the host's sockets.
    pub pasta: PathBuf,
    /// The program nft, which sets firewall rules.
    pub nft: PathBuf,
}
