//! The identity in a certificate, and its strict parsing.

use std::fmt;
use std::str::FromStr;

use berth_common::ids::{IdError, NodeId};
use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

const SCHEME: &str = "berth://";

/// The role of a daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Serves requests and owns objects; dials agents, so its certificate is a client's.
    Edge,
    /// Runs containers on a node; is dialled, so its certificate is a server's.
    Agent,
}

impl Role {
    /// The role as written in certificates, file names and commands.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Edge => "edge",
            Self::Agent => "agent",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = IdentityError;
    fn from_str(text: &str) -> Result<Self, IdentityError> {
        match text {
            "edge" => Ok(Self::Edge),
            "agent" => Ok(Self::Agent),
            _ => Err(IdentityError::Role(text.to_owned())),
        }
    }
}

/// The identity of a certificate's holder.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Its role.
    pub role: Role,
    /// Its name: an edge's or a node's.
    pub name: String,
}

impl Identity {
    /// An identity with a checked name.
    pub fn new(role: Role, name: &str) -> Result<Self, IdentityError> {
        // Edge ids and node ids have the same rules.
        let name = NodeId::new(name)
            .map_err(|reason| IdentityError::Name { name: name.to_owned(), reason })?
            .to_string();
        Ok(Self { role, name })
    }

    /// The identity as the URI that certificates carry, such as `berth://agent/n1`.
    pub fn uri(&self) -> String {
        format!("{SCHEME}{}/{}", self.role, self.name)
    }

    pub(crate) fn from_uri(uri: &str) -> Result<Self, IdentityError> {
        let rest = uri.strip_prefix(SCHEME).ok_or_else(|| IdentityError::Uri(uri.to_owned()))?;
        let (role, name) = rest.split_once('/').ok_or_else(|| IdentityError::Uri(uri.to_owned()))?;
        Self::new(role.parse()?, name)
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.role, self.name)
    }
}

/// Why a certificate has no valid identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Not a certificate at all.
    #[error("the certificate cannot be parsed")]
    Malformed,
    /// A CA's certificate where a daemon's is expected.
    #[error("the certificate is a CA's: a daemon needs one issued by it")]
    Authority,
    /// Not exactly one subject alternative name, or one that is not a URI.
    #[error(
        "the certificate must carry exactly one subject alternative name, a URI such as berth://agent/n1"
    )]
    Names,
    /// A URI of another form.
    #[error("the certificate's URI {0:?} does not have the form berth://ROLE/NAME")]
    Uri(String),
    /// A role that does not exist.
    #[error("{0:?} is not a role: expected edge or agent")]
    Role(String),
    /// A name that no edge or node may have.
    #[error("the name {name:?} {reason}: letters, digits, `-`, `_` and `.` make a name")]
    Name {
        /// The name.
        name: String,
        /// The violated rule.
        reason: IdError,
    },
    /// The certificate is not for the use that its role needs.
    #[error("the certificate's extended key usage is not that of an {0}")]
    Usage(Role),
}

/// Parses the identity in a certificate. Does not verify its signature, which the TLS handshake has done.
pub fn peer_identity(certificate: &CertificateDer<'_>) -> Result<Identity, IdentityError> {
    let parsed = parse(certificate)?;
    refuse_authority(&parsed)?;
    let identity = Identity::from_uri(only_uri(&parsed)?)?;
    check_usage(&parsed, identity.role)?;
    Ok(identity)
}

/// When a certificate was issued, as its CA has written into it (`notBefore`), in seconds since 1970. Its holder cannot
/// change that, so it tells an old certificate from a newer one.
pub fn issued_at_s(certificate: &CertificateDer<'_>) -> Result<i64, IdentityError> {
    Ok(parse(certificate)?.validity().not_before.timestamp())
}

/// Whether a certificate is a CA's.
pub(crate) fn is_authority(certificate: &CertificateDer<'_>) -> bool {
    parse(certificate).is_ok_and(|parsed| parsed.is_ca())
}

pub(crate) fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, IdentityError> {
    let (rest, parsed) = X509Certificate::from_der(certificate).map_err(|_| IdentityError::Malformed)?;
    if rest.is_empty() { Ok(parsed) } else { Err(IdentityError::Malformed) }
}

/// An unreadable constraint counts as a CA's, so that only a plain leaf certificate passes.
fn refuse_authority(parsed: &X509Certificate<'_>) -> Result<(), IdentityError> {
    match parsed.basic_constraints() {
        Ok(None) => Ok(()),
        Ok(Some(constraints)) if !constraints.value.ca => Ok(()),
        Ok(Some(_)) | Err(_) => Err(IdentityError::Authority),
    }
}

fn only_uri<'a>(parsed: &'a X509Certificate<'_>) -> Result<&'a str, IdentityError> {
    let names = parsed.subject_alternative_name().ok().flatten().ok_or(IdentityError::Names)?;
    match names.value.general_names.as_slice() {
        [GeneralName::URI(uri)] => Ok(uri),
        _ => Err(IdentityError::Names),
    }
}

/// The extended key usage must be exactly the role's: a certificate for both would let an agent act as an edge.
fn check_usage(parsed: &X509Certificate<'_>, role: Role) -> Result<(), IdentityError> {
    let usage = parsed.extended_key_usage().ok().flatten().ok_or(IdentityError::Usage(role))?.value;
    let (client, server) = (usage.client_auth && !usage.any, usage.server_auth && !usage.any);
    match role {
        Role::Edge if client && !server => Ok(()),
        Role::Agent if server && !client => Ok(()),
        Role::Edge | Role::Agent => Err(IdentityError::Usage(role)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_are_read_back() {
        let identity = Identity::new(Role::Agent, "n-1.eu").unwrap();
        assert_eq!(identity.uri(), "berth://agent/n-1.eu");
        assert_eq!(Identity::from_uri(&identity.uri()), Ok(identity));
    }

    #[test]
    fn other_uris_are_refused() {
        for uri in ["https://agent/n1", "berth://agent", "BERTH://agent/n1", "berth:///n1"] {
            assert!(Identity::from_uri(uri).is_err(), "{uri}");
        }
        assert_eq!(Identity::from_uri("berth://root/n1"), Err(IdentityError::Role("root".to_owned())));
        assert!(matches!(Identity::from_uri("berth://edge/a/b"), Err(IdentityError::Name { .. })));
        assert!(matches!(Identity::from_uri("berth://edge/"), Err(IdentityError::Name { .. })));
    }

    #[test]
    fn bytes_that_are_no_certificate_are_refused() {
        assert_eq!(peer_identity(&CertificateDer::from(vec![0x30, 0x00])), Err(IdentityError::Malformed));
    }
}
