//! `berth certs`: the certificate authority and what it issues, as files.

use anyhow::Result;
use berth_certs::{Authority, AuthorityError, Role, Validity};

use crate::args::{Certs, RoleArg};
use crate::failure::bad_input;
use crate::output;

pub(crate) fn run(args: Certs) -> Result<()> {
    match args {
        Certs::Init { dir } => {
            let authority = Authority::create(&dir).map_err(classify)?;
            let certificate = authority.certificate_path();
            let key = certificate.with_extension("key");
            output::line(certificate.display())?;
            output::line(key.display())?;
            output::note!(
                "Keep {} secret and backed up: whoever has it can let nodes and edges in.",
                key.display()
            );
        }
        Certs::Issue { role, name, dir, days } => {
            let validity = Validity::days(days).map_err(classify)?;
            let authority = Authority::open(&dir).map_err(classify)?;
            let issued = authority.issue(role.into(), &name, validity).map_err(classify)?;
            output::line(issued.certificate.display())?;
            output::line(issued.key.display())?;
        }
    }
    Ok(())
}

impl From<RoleArg> for Role {
    fn from(role: RoleArg) -> Self {
        match role {
            RoleArg::Edge => Self::Edge,
            RoleArg::Agent => Self::Agent,
        }
    }
}

/// A bad name or number of days is a usage error; a file that exists already is not.
fn classify(error: AuthorityError) -> anyhow::Error {
    match error {
        AuthorityError::Identity(_) | AuthorityError::Days(_) | AuthorityError::OutlivesAuthority { .. } => {
            bad_input(error)
        }
        AuthorityError::File(_)
        | AuthorityError::NotAuthority(_)
        | AuthorityError::KeyMismatch { .. }
        | AuthorityError::Signing(_) => error.into(),
    }
}
