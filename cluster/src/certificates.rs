//! The certificates of a cluster: made anew at each start, by a CA that lives as long.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use berth_certs::{Authority, Issued, Role, Validity};

use crate::owner::Owner;

/// How many days the certificates are valid: longer than a cluster is left running.
const DAYS: u32 = 365;

/// An authority of a cluster.
pub struct Certificates {
    authority: Authority,
    owner: Owner,
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates").finish_non_exhaustive()
    }
}

/// The files that one daemon is given.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// The authority's certificate.
    pub ca: PathBuf,
    /// The daemon's own.
    pub own: Issued,
}

impl Certificates {
    /// Makes an authority in a directory, replacing that of an earlier start. Its key stays owned by this process's
    /// user.
    pub fn create(directory: &Path, owner: &Owner) -> Result<Self> {
        match fs::remove_dir_all(directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {}", directory.display()));
            }
            _ => {}
        }
        Ok(Self { authority: Authority::create(directory)?, owner: owner.clone() })
    }

    /// The certificate of an edge.
    pub fn edge(&self, name: &str) -> Result<Credentials> {
        self.issue(Role::Edge, name)
    }

    /// The certificate of a node's agent.
    pub fn agent(&self, node: &str) -> Result<Credentials> {
        self.issue(Role::Agent, node)
    }

    /// Only the daemons' user may read the key.
    fn issue(&self, role: Role, name: &str) -> Result<Credentials> {
        let own = self.authority.issue(role, name, Validity::days(DAYS)?)?;
        self.owner.give(&own.key)?;
        Ok(Credentials { ca: self.authority.certificate_path(), own })
    }
}
