//! Certificates of the development edge and nodes: made anew at each start, by a CA that lives as long.

use std::fs;
use std::io;
use std::os::unix::fs::chown;
use std::path::PathBuf;

use anyhow::{Context, Result};
use berth_certs::{Authority, Issued, Role, Validity};

use super::place::Place;

/// The name of the development edge.
pub(crate) const EDGE_NAME: &str = "dev";
/// How many days the certificates hold: longer than anybody leaves `berth dev` running.
const DAYS: u32 = 365;

/// The files that the daemons are given.
pub(crate) struct Credentials {
    pub(crate) ca: PathBuf,
    pub(crate) edge: Issued,
    /// In the order of the place's nodes.
    pub(crate) agents: Vec<Issued>,
}

impl Credentials {
    /// Makes them, in place of those of the last start.
    pub(crate) fn issue(place: &Place) -> Result<Self> {
        let directory = place.certificates();
        match fs::remove_dir_all(&directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {}", directory.display()));
            }
            _ => {}
        }
        let authority = Authority::create(&directory)?;
        let validity = Validity::days(DAYS)?;
        let edge = authority.issue(Role::Edge, EDGE_NAME, validity)?;
        let issue = |node: &String| -> Result<Issued> {
            let issued = authority.issue(Role::Agent, node, validity)?;
            give_to_agents(&issued, place)?;
            Ok(issued)
        };
        let agents = place.nodes().iter().map(issue).collect::<Result<_>>()?;
        Ok(Self { ca: authority.certificate_path(), edge, agents })
    }
}

/// The agents' user must be able to read its key, and nobody else.
fn give_to_agents(issued: &Issued, place: &Place) -> Result<()> {
    let Some(user) = place.agent_user() else { return Ok(()) };
    chown(&issued.key, Some(user.uid.as_raw()), Some(user.gid.as_raw()))
        .with_context(|| format!("cannot give {} to {}", issued.key.display(), user.name))
}
